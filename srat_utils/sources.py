"""Where images come from: scikit-learn's digits, CIFAR-10 and SVHN through torchvision, your own as `.npz` or class folders.

Every set is uint8 arrays in memory, and every problem a reader can meet is a DataError of one line.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from .arrays import read_npz
from .images import DataError, ImageDataset, Split, nearest
from .imbalance import hold_out
from .pictures import read_folder, read_pictures, resize, resized_to, sorted_out, stamp, unreadable
from .places import absolute, kept_in

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Hosted(NamedTuple):
    """A set that torchvision can fetch."""

    title: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    page: str
    cost: str


HOSTED = {
    "cifar10": Hosted(
        "CIFAR-10",
        CIFAR10_CLASSES,
        ("cifar-10-python.tar.gz",),
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "170 MB; its host has been serving about 60 kB/s, some 40 minutes",
    ),
    "svhn": Hosted(
        "SVHN",
        tuple("0123456789"),
        ("train_32x32.mat", "test_32x32.mat"),
        "http://ufldl.stanford.edu/housenumbers",
        "182 + 64 MB; its host can be slow",
    ),
}
# What Windows takes for a device, whatever follows the dot.
RESERVED = ("con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)))
KNOWN = ("digits", *HOSTED)
TEST_SEED = 0  # the same for every run, so that all seeds share a test set
DIGITS_TEST_PER_CLASS = 70


# --- digits, CIFAR-10 and SVHN


@lru_cache(maxsize=1)
def digits() -> Split:
    """scikit-learn's 1,797 handwritten digits, 8×8, grey; 70 a class are held out as the test set."""
    stored = load_digits()
    images = np.round(stored.images * (255 / 16)).astype(np.uint8)[..., None]
    everything = ImageDataset(images, stored.target, tuple("0123456789"), "digits test")
    train, test = hold_out(everything, [DIGITS_TEST_PER_CLASS] * 10, TEST_SEED)
    return Split(replace(train, name="digits train"), test)


def data_folders() -> tuple[Path, ...]:
    """Where CIFAR-10 and SVHN are looked for; the first is where a download goes."""
    first = kept_in("SRAT_DATA", "data")
    if os.environ.get("SRAT_DATA"):
        return (first,)
    return tuple(dict.fromkeys((first, Path.cwd() / "data", Path.home() / ".cache")))


@lru_cache(maxsize=2)
def hosted(name: str, folders: tuple[Path, ...]) -> Split:
    """An `.npz` first, then torchvision's own files, and only then a download."""
    return kept(name, folders) or download(name, folders)


def kept(name: str, folders: tuple[Path, ...]) -> Split | None:
    """What is on this machine of a set that torchvision can fetch."""
    for folder in folders:
        if (folder / f"{name}.npz").is_file():
            return read_npz(folder / f"{name}.npz", name, HOSTED[name].classes).checked()
    for folder in folders:
        try:
            return from_torchvision(name, folder, download=False)
        except RuntimeError:  # torchvision's word for "not there, or not whole"
            continue
    return None


def at_hand(dataset: str) -> bool:
    """Whether a data set can be read without a download."""
    return dataset not in HOSTED or kept(dataset, data_folders()) is not None


def download(name: str, folders: tuple[Path, ...]) -> Split:
    title, _, files, page, cost = HOSTED[name]
    folder = next((folder for folder in folders if all((folder / file).is_file() for file in files)), folders[0])
    by_hand = f"put {' and '.join(files)} (from {page}) or {name}.npz into {folder}, or set SRAT_DATA to the folder that has it"
    if not all((folder / file).is_file() for file in files):
        print(f"Downloading {title} ({cost}). To spare yourself the wait, {by_hand}.", flush=True)
    try:
        return from_torchvision(name, folder, download=True)
    except Exception as error:  # sockets, HTTP, archives, disks and torchvision's checksum all have types of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{title} could not be downloaded ({reason}); {by_hand}") from error


def from_torchvision(name: str, folder: Path, *, download: bool) -> Split:
    """torchvision checks the sums before it opens anything; RuntimeError where they do not fit."""
    from torchvision import datasets  # a second or two to import, and most sessions read only digits

    classes = HOSTED[name].classes
    if name == "cifar10":
        parts = [datasets.CIFAR10(folder, train=train, download=download) for train in (True, False)]
        arrays = [(part.data, np.array(part.targets)) for part in parts]
    else:
        parts = [datasets.SVHN(folder, split=split, download=download) for split in ("train", "test")]
        arrays = [(part.data.transpose(0, 2, 3, 1), part.labels) for part in parts]
    train, test = (
        ImageDataset(*pair, classes, f"{name} {split}") for pair, split in zip(arrays, ("train", "test"), strict=True)
    )
    return Split(train, test)


# --- your own images


def own_path(dataset: str | Path) -> Path:
    path = absolute(dataset)
    if path.is_dir():
        for split in ("train", "test"):
            if not (path / split).is_dir():
                raise DataError(
                    f"{path} has no folder {split}/; put the pictures into train/<class>/ and test/<class>/"
                )
        return path
    if path.is_file():
        if path.suffix.lower() != ".npz":
            raise DataError(
                f"{path} is neither an .npz nor a folder train/<class>/*, test/<class>/*; save your images as one of them"
            )
        return path
    if re.fullmatch(r"[\w-]*", str(dataset)):
        raise DataError(
            f"unknown dataset {str(dataset)!r}; {nearest(dataset, KNOWN)} (or the path of an .npz or a folder)"
        )
    raise DataError(f"{dataset} does not exist; check the path, or choose from {', '.join(KNOWN)}")


def source_hash(dataset: str | Path) -> str:
    """What a run's identity says of its images: the name of a known set, a content hash (12 hex digits) of your own.

    The content of a folder is its pictures and their paths inside it; what the folder or the `.npz` is called is none.
    """
    if str(dataset) in KNOWN:
        return str(dataset)
    path = own_path(dataset)
    return content_hash(path, stamp(path))


@lru_cache(maxsize=16)
def content_hash(path: Path, stamped: tuple) -> str:
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted_out(path, stamped)[0]:
        digest.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n".encode())
        try:
            with file.open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
        except OSError as error:
            unreadable(error)
    return digest.hexdigest()[:12]


def slug(dataset: str | Path) -> str:
    """A path's last part as a piece of a file name, on Windows too."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(os.path.expanduser(dataset)).stem)[:60].strip("-")
    return f"images-{name}".strip("-") if name.lower() in ("", *RESERVED) else name


@lru_cache(maxsize=2)
def own_images(path: Path, stamped: tuple, size: tuple[int, int] | None) -> Split:
    split = read_folder(path, stamped, size) if path.is_dir() else resized(read_npz(path, path.name), size)
    split.checked()
    trained = {pixels(picture) for picture in split.train.images}
    repeated = [
        f"{count:,} of {len(part):,} {name} pictures"
        for name, part in zip(split._fields[1:], split[1:], strict=True)
        if part is not None and (count := sum(pixels(picture) in trained for picture in part.images))
    ]
    if repeated:
        print(
            f"{path.name}: {' and '.join(repeated)} are in the training set too, pixel for pixel; "
            "accuracy on them says nothing of new pictures",
            flush=True,
        )
    return split


def pixels(picture: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(picture), digest_size=16).digest()


@lru_cache(maxsize=2)
def resized(split: Split, size: tuple[int, int] | None) -> Split:
    if size is None:
        return split
    return split.map(
        lambda part: replace(
            part,
            images=np.stack([resize(picture, size) for picture in part.images]),
            name=f"{part.name} ({resized_to(size)})",
        )
    )


def load_source(dataset: str | Path, size: tuple[int, int] | None = None) -> Split:
    """All that a set has, its pictures at `size` (height, width) if one is given.  Read from disk once a process."""
    if str(dataset) == "digits":
        return resized(digits(), size)
    if str(dataset) in HOSTED:
        return resized(hosted(str(dataset), data_folders()), size)
    path = own_path(dataset)
    return own_images(path, stamp(path), size)


def check(dataset: str | Path) -> None:
    """DataError for a data set that is neither known nor the path of own images that are there."""
    if str(dataset) not in KNOWN:
        own_path(dataset)


def as_images(images: np.ndarray | Sequence[str | Path], size: tuple[int, int], channels: int) -> np.ndarray:
    """uint8 [N,H,W,C] of arrays [N,H,W] or [N,H,W,C], or of paths of pictures, which are resized to (height, width).

    DataError where an array has another size, type or number of channels.
    """
    if not isinstance(images, np.ndarray):
        images, _ = read_pictures([absolute(path) for path in images], size)
        if images.shape[3] < channels:
            images = np.repeat(images, channels, axis=3)
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or images.shape[1:] != (*size, channels):
        raise DataError(
            f"pictures are {images.dtype} {images.shape[1:]}; this network was trained on uint8 {(*size, channels)}: "
            "resize them, or convert their colours, to that"
        )
    return images
