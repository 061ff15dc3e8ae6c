"""Where images come from: scikit-learn's digits, CIFAR-10 and SVHN through torchvision, your own as `.npz` or class folders.

Every set is two uint8 arrays in memory, and every problem a reader can meet is a DataError of one line.
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
from PIL import Image
from sklearn.datasets import load_digits

from .images import DataError, ImageDataset, Split, nearest
from .imbalance import make_imbalanced

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
SPLITS = ("train", "test")
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


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
    test = make_imbalanced(everything, "balanced", TEST_SEED, DIGITS_TEST_PER_CLASS)
    rest = np.setdiff1d(everything.indices, test.indices)
    return Split(replace(everything.subset(rest), name="digits train"), test)


def data_folders() -> tuple[Path, ...]:
    """Where CIFAR-10 and SVHN are looked for; the first is where a download goes."""
    if os.environ.get("SRAT_DATA"):
        return (Path(os.environ["SRAT_DATA"]).expanduser(),)
    return tuple(dict.fromkeys((Path(__file__).parent.parent / "data", Path.cwd() / "data", Path.home() / ".cache")))


@lru_cache(maxsize=2)
def hosted(name: str, folders: tuple[Path, ...]) -> Split:
    """An `.npz` first, then torchvision's own files, and only then a download."""
    for folder in folders:
        if (folder / f"{name}.npz").is_file():
            return read_npz(folder / f"{name}.npz", name, HOSTED[name].classes)
    for folder in folders:
        try:
            return from_torchvision(name, folder, download=False)
        except RuntimeError:  # torchvision's word for "not there, or not whole"
            continue
    return download(name, folders)


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
    return Split(*(ImageDataset(*pair, classes, f"{name} {split}") for pair, split in zip(arrays, SPLITS, strict=True)))


# --- your own images


def own_path(dataset: str) -> Path:
    path = Path(dataset).expanduser().resolve()
    if path.is_dir():
        for split in SPLITS:
            if not (path / split).is_dir():
                raise DataError(
                    f"{path} has no folder {split}/; put the pictures into train/<class>/ and test/<class>/"
                )
        return path
    if path.is_file():
        if path.suffix != ".npz":
            raise DataError(
                f"{path} is neither an .npz nor a folder train/<class>/*, test/<class>/*; save your images as one of them"
            )
        return path
    if re.fullmatch(r"[\w-]*", dataset):
        raise DataError(f"unknown dataset {dataset!r}; {nearest(dataset, KNOWN)} (or the path of an .npz or a folder)")
    raise DataError(f"{dataset} does not exist; check the path, or choose from {', '.join(KNOWN)}")


def picture_files(path: Path) -> list[Path]:
    """train/<class>/* and test/<class>/*, pictures only: what an operating system drops beside them does not count."""
    files = [file for split in SPLITS for file in path.glob(f"{split}/*/*") if file.suffix.lower() in PICTURES]
    visible = [file for file in files if not any(part.startswith(".") for part in file.parts[-2:])]
    return sorted(visible, key=lambda file: file.relative_to(path).as_posix())


def stamp(path: Path) -> tuple:
    """Changes when a file of the set does: what makes a cached reading stale."""
    files = [path] if path.is_file() else picture_files(path)
    return tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def source_hash(dataset: str) -> str:
    """What a run's identity says of its images: the name of a known set, a content hash (12 hex digits) of your own."""
    if dataset in KNOWN:
        return dataset
    path = own_path(dataset)
    return content_hash(path, stamp(path))


@lru_cache(maxsize=16)
def content_hash(path: Path, stamped: tuple) -> str:
    digest = hashlib.sha256()
    for file, size, _ in stamped:
        digest.update(f"{file.relative_to(path).as_posix()} {size}\n".encode())
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()[:12]


def slug(dataset: str) -> str:
    """A path's last part as a piece of a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", Path(dataset).stem).strip("-") or "images"


@lru_cache(maxsize=2)
def own_images(path: Path, stamped: tuple) -> Split:
    return read_npz(path, path.name) if path.is_file() else read_folder(path)


def read_npz(path: Path, name: str, classes: tuple[str, ...] | None = None) -> Split:
    """train_images, train_labels, test_images, test_labels; optionally classes, and train_exact / test_exact to leave images out."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except Exception as error:  # zip, zlib and numpy each have types of their own for a damaged file
        raise DataError(
            f"{path} is damaged or not an .npz ({' '.join(str(error).split())}); save it again with numpy.savez"
        ) from error
    missing = [key for key in ARRAYS if key not in arrays]
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)}; an .npz of images holds {', '.join(ARRAYS)}")
    if "classes" in arrays:
        classes = tuple(str(name) for name in arrays["classes"])
    elif classes is None:
        labels = arrays["train_labels"]
        classes = (
            tuple(str(label) for label in range(int(labels.max()) + 1))
            if labels.size and labels.dtype.kind in "iu"
            else ()
        )
    return check_split(*(npz_part(arrays, split, classes, f"{name} {split}") for split in SPLITS))


def npz_part(arrays: dict[str, np.ndarray], split: str, classes: tuple[str, ...], name: str) -> ImageDataset:
    images = arrays[f"{split}_images"]
    dataset = ImageDataset(images[..., None] if images.ndim == 3 else images, arrays[f"{split}_labels"], classes, name)
    exact = arrays.get(f"{split}_exact")
    if exact is None:
        return dataset
    if exact.dtype != bool or exact.shape != (len(dataset),):
        raise DataError(f"{name}: {split}_exact is {exact.dtype} {exact.shape}; it needs one bool an image")
    return dataset.subset(np.flatnonzero(exact))


def read_folder(path: Path) -> Split:
    """Classes are train/'s folders in alphabetical order.  Pictures keep one channel if all of them are grey."""
    classes = tuple(
        sorted(folder.name for folder in (path / "train").iterdir() if folder.is_dir() and folder.name[0] != ".")
    )
    files = picture_files(path)
    for file in files:
        if file.parent.name not in classes:
            hint = nearest(file.parent.name, classes)
            raise DataError(f"{file.parent}: class {file.parent.name!r} is not in {path / 'train'}; {hint}")
    pictures = [read_picture(file) for file in files]
    for file, picture in zip(files, pictures, strict=True):
        if picture.shape[:2] != pictures[0].shape[:2]:
            (height, width), (h, w) = picture.shape[:2], pictures[0].shape[:2]
            raise DataError(
                f"{file} has {width}×{height} pixels, {files[0]} has {w}×{h}; resize all pictures to one size"
            )
    channels = max((picture.shape[2] for picture in pictures), default=1)
    parts = []
    for split in SPLITS:
        own = [i for i, file in enumerate(files) if file.parts[-3] == split]
        if not own:
            raise DataError(f"{path / split} has no pictures; put some into {split}/<class>/ ({', '.join(PICTURES)})")
        images = np.stack([np.broadcast_to(pictures[i], (*pictures[i].shape[:2], channels)) for i in own])
        labels = np.array([classes.index(files[i].parent.name) for i in own])
        parts.append(ImageDataset(images, labels, classes, f"{path.name} {split}"))
    return check_split(*parts)


def read_picture(path: Path) -> np.ndarray:
    """uint8 [H,W,1] of a grey picture, [H,W,3] of any other."""
    try:
        with Image.open(path) as picture:
            if picture.mode[0] in "IF":
                raise ValueError("more than 8 bits a channel")
            array = np.array(picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB"))
    except Exception as error:  # each of Pillow's readers has types of its own for a damaged file
        raise DataError(
            f"{path} cannot be read ({' '.join(str(error).split())}); save it again as an 8-bit PNG, or remove it"
        ) from error
    return array if array.ndim == 3 else array[..., None]


def check_split(train: ImageDataset, test: ImageDataset) -> Split:
    if len(train.classes) < 2:
        raise DataError(f"{train.name}: only class {train.classes[0]!r} is there; at least two are needed")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"{test.name}: images are {test.images.shape[1:]}, in training {train.images.shape[1:]}; make them one size"
        )
    for dataset in (train, test):
        if 0 in dataset.counts:
            raise DataError(
                f"{dataset.name}: class {dataset.classes[dataset.counts.index(0)]!r} has no image; every class needs one or more"
            )
    return Split(train, test)


def load_source(dataset: str) -> Split:
    if dataset == "digits":
        return digits()
    if dataset in HOSTED:
        return hosted(dataset, data_folders())
    path = own_path(dataset)
    return own_images(path, stamp(path))


def check(dataset: str) -> None:
    """DataError for a data set that is neither known nor the path of own images that are there."""
    if dataset not in KNOWN:
        own_path(dataset)


def as_images(images: np.ndarray | Sequence[str | Path], size: tuple[int, int], channels: int) -> np.ndarray:
    """uint8 [N,H,W,C] of arrays [N,H,W] or [N,H,W,C], or of paths of pictures; DataError where they are not of this form."""
    if not isinstance(images, np.ndarray):
        pictures = [read_picture(Path(path).expanduser()) for path in images]
        if len({picture.shape for picture in pictures}) > 1 and channels > 1:
            pictures = [np.broadcast_to(p, (*p.shape[:2], channels)) for p in pictures]
        images = np.stack(pictures)
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or images.shape[1:] != (*size, channels):
        raise DataError(
            f"pictures are {images.dtype} {images.shape[1:]}; this network was trained on uint8 {(*size, channels)}: "
            "resize them, or convert their colours, to that"
        )
    return images
