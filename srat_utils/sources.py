"""Where images come from: scikit-learn's digits, CIFAR-10 and SVHN through torchvision, your own as `.npz` or class folders.

Every set is uint8 arrays in memory, and every problem a reader can meet is a DataError of one line.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from .arrays import read_npz
from .images import DataError, ImageDataset, Split, nearest, to_uint8
from .imbalance import hold_out
from .pictures import (
    must_fit,
    pictures_in,
    printable,
    read_folder,
    read_pictures,
    resize,
    resized_to,
    sorted_out,
    stamp,
    unreadable,
)
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
    again = ": what is there is damaged" if all((folder / file).is_file() for file in files) else ""
    print(f"Downloading {title} ({cost}){again}. To spare yourself the wait, {by_hand}.", flush=True)
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
    if not isinstance(dataset, (str, os.PathLike)):
        raise DataError(
            f"a dataset is {', '.join(KNOWN)}, or the path of an .npz or a folder, not {type(dataset).__name__}; "
            "numpy.savez makes an .npz of arrays"
        )
    try:
        path = absolute(dataset)
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError) as error:  # a name that no disk takes
        raise DataError(
            f"{str(dataset)[:80]!r} is no path ({getattr(error, 'strerror', None) or error}); check it"
        ) from None
    if is_folder:
        for split in ("train", "test"):
            if not (path / split).is_dir():
                there = ", ".join(f"{entry.name}/" for entry in sorted(path.iterdir())[:3] if entry.is_dir())
                raise DataError(
                    f"{path} has no folder {split}/{f' (but {there})' if there else ''}; put the pictures into train/<class>/ "
                    f"and test/<class>/, as srat_utils.pictures.split_folder deals class folders"
                )
        return path
    if is_file:
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
    if is_known(dataset):
        return str(dataset)
    path = own_path(dataset)
    return content_hash(path, stamp(path))


@lru_cache(maxsize=16)
def content_hash(path: Path, stamped: tuple) -> str:
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted_out(path, stamped)[0]:
        said = f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n"
        digest.update(said.encode("utf-8", "backslashreplace"))
        try:
            with file.open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
        except OSError as error:
            unreadable(error)
    return digest.hexdigest()[:12]


def slug(dataset: str | Path) -> str:
    """A path's last part as a piece of a file name."""
    return in_file_name(Path(os.path.expanduser(dataset)).stem)


def in_file_name(text: str) -> str:
    """A text as a piece of a file name, on Windows too."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", text)[:60].strip("-")
    return f"images-{name}".strip("-") if name.lower() in ("", *RESERVED) else name


@lru_cache(maxsize=2)
def own_images(path: Path, stamped: tuple, size: tuple[int, int] | None) -> Split:
    split = read_folder(path, stamped, size) if path.is_dir() else resized(read_npz(path, path.name), size)
    split.checked()
    for line in repeated(split):
        print(printable(f"{path.name}: {line}"), flush=True)
    return split


def repeated(split: Split) -> Iterator[str]:
    """What to say of pictures that are there more than once, pixel for pixel."""
    first: dict[bytes, int] = {}  # a training picture → the label that it has first
    twice = otherwise = 0
    for picture, label in zip(map(pixels, split.train.images), split.train.labels.tolist(), strict=True):
        twice += picture in first
        otherwise += first.setdefault(picture, label) != label
    if twice:
        yield (
            f"{twice:,} of {len(split.train):,} training pictures repeat another"
            + (f", {otherwise:,} of them as another class" if otherwise else "")
            + "; leave them out, or some may be trained on and held out for validation, too"
        )
    test, validation = ([] if part is None else [*map(pixels, part.images)] for part in split[1:])
    chosen_on = set(validation) - set(first)
    for where, others, parts in (
        ("training", first, {"test": test, "validation": validation}),
        ("validation", chosen_on, {"test": test}),
    ):
        counts = [
            f"{count:,} of {len(own):,} {name} pictures"
            for name, own in parts.items()
            if (count := sum(picture in others for picture in own))
        ]
        if counts:
            yield (
                f"{' and '.join(counts)} are in the {where} set too, pixel for pixel; accuracy on them says nothing of new "
                "pictures"
            )


def pixels(picture: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(picture), digest_size=16).digest()


@lru_cache(maxsize=2)
def resized(split: Split, size: tuple[int, int] | None) -> Split:
    if size is None:
        return split
    for part in filter(None, split):
        must_fit(len(part), (*size, part.images.shape[3]))
    return split.map(
        lambda part: replace(
            part,
            images=np.stack([resize(picture, size) for picture in part.images]),
            name=f"{part.name} ({resized_to(size)})",
        )
    )


def load_source(dataset: str | Path, size: tuple[int, int] | None = None) -> Split:
    """All that a set has, its pictures at `size` (height, width) if one is given.  Read from disk once a process."""
    if is_known(dataset):
        name = str(dataset)
        return resized(digits() if name == "digits" else hosted(name, data_folders()), size)
    path = own_path(dataset)
    return own_images(path, stamp(path), size)


def is_known(dataset: str | os.PathLike) -> bool:
    """Whether a name is that of a known set.  A Path to something that is there is not, whatever it is called."""
    return str(dataset) in KNOWN and (isinstance(dataset, str) or not absolute(dataset).exists())


def as_images(images: np.ndarray | str | Path | Sequence, size: tuple[int, int], channels: int) -> np.ndarray:
    """uint8 [N,H,W,C] of arrays [N,H,W] or [N,H,W,C], of one picture's [H,W] or [H,W,C], or of a path or paths.

    A path is that of a picture or of a folder, all of whose pictures count, in the order of `pictures_in`; files are resized to
    (height, width), arrays are not.  DataError where an array has another size, type or number of channels.
    """
    if isinstance(images, (str, os.PathLike)):
        place = absolute(images)
        images = pictures_in(place) if place.is_dir() else [place]
    if not isinstance(images, np.ndarray):
        images = from_files(images, size, channels)
    if images.shape == size or (images.shape == (*size, channels) and images.shape[1:] != size):
        images = images[None]
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8:
        raise DataError(f"pixels are {images.dtype}; this network takes uint8, 0…255: {to_uint8(images)}")
    if images.shape[1:] != (*size, channels):
        remedy = "resize them, or convert their colours, to that"
        if images.shape[1:] == (channels, *size):
            remedy = "images.transpose(0, 2, 3, 1) is that"
        raise DataError(
            f"pictures are uint8 {images.shape[1:]}; this network was trained on uint8 {(*size, channels)}: {remedy}"
        )
    return images


def from_files(paths: Iterable[str | Path], size: tuple[int, int], channels: int) -> np.ndarray:
    paths = list(paths) if isinstance(paths, Iterable) else [paths]
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):
            raise DataError(
                "pictures are one uint8 array [N,H,W] or [N,H,W,C] (numpy.stack makes it of several), or paths, not "
                f"{type(path).__name__}"
            )
    if not paths:
        return np.empty((0, *size, channels), np.uint8)
    images, _ = read_pictures([absolute(path) for path in paths], size)
    return np.repeat(images, channels, axis=3) if (images.shape[3], channels) == (1, 3) else images
