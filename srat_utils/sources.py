"""Where images come from: CIFAR-10 and SVHN through torchvision, your own as an `.npz` or as class folders.

Every set is two uint8 arrays in memory, and every problem a reader can meet is a DataError of one line.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
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


class DataError(ValueError):
    """A problem with data that a reader can meet: one line that says what is wrong and what to do."""


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images and their labels, read-only.

    images: uint8 [N,H,W,C].  labels: int64 [N], 0…C−1.  classes: a name a label.  name: for messages, "digits train".
    indices: int64 [N], positions in the original training or test set; 0…N−1 unless given.
    Raises DataError where shapes, types or labels do not fit.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    name: str
    indices: np.ndarray | None = None

    def __post_init__(self):
        self._check_images()
        self._check_labels()
        indices = np.arange(len(self.images)) if self.indices is None else np.asarray(self.indices)
        if indices.shape != (len(self.images),):
            raise DataError(f"{self.name}: {len(self.images)} images but {len(indices)} indices; give one an image")
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        for field, array in (
            ("images", self.images),
            ("labels", self.labels.astype(np.int64)),
            ("indices", indices.astype(np.int64)),
        ):
            view = array.view()
            view.flags.writeable = False  # runs share a loaded set, and the fingerprint is computed once
            object.__setattr__(self, field, view)

    def _check_images(self):
        if self.images.dtype != np.uint8:
            nan = ", some of them NaN" if self.images.dtype.kind == "f" and np.isnan(self.images).any() else ""
            raise DataError(f"{self.name}: pixels are {self.images.dtype}{nan}; save them as uint8, 0…255")
        if self.images.ndim != 4 or 0 in self.images.shape:
            raise DataError(
                f"{self.name}: images have shape {self.images.shape}; [N,H,W] or [N,H,W,C] is needed, none of them 0"
            )

    def _check_labels(self):
        if self.labels.dtype.kind not in "iu" or self.labels.ndim != 1:
            raise DataError(
                f"{self.name}: labels are {self.labels.dtype} {self.labels.shape}; save them as integers, one an image"
            )
        if len(self.labels) != len(self.images):
            raise DataError(f"{self.name}: {len(self.images)} images but {len(self.labels)} labels; give one an image")
        low, high = self.labels.min(), self.labels.max()
        if low < 0 or high >= len(self.classes):
            wrong = low if low < 0 else high
            raise DataError(
                f"{self.name}: label {wrong} is out of range; {len(self.classes)} classes have labels 0…{len(self.classes) - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def counts(self) -> list[int]:
        """Images a class."""
        return np.bincount(self.labels, minlength=len(self.classes)).tolist()

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits of a hash over classes, indices, labels and pixels: equal for two people with the same images."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for array in (self.indices, self.labels, self.images):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:12]

    def subset(self, indices: Sequence[int] | np.ndarray) -> ImageDataset:
        """The images at these positions of this set, in this order.  indices: int [M]."""
        indices = np.asarray(indices, dtype=np.int64)
        return replace(self, images=self.images[indices], labels=self.labels[indices], indices=self.indices[indices])

    def tensors(self, device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """Images uint8 [N,C,H,W], contiguous, and labels int64 [N] on the device."""
        images = torch.from_numpy(self.images.transpose(0, 3, 1, 2).copy())
        return images.to(device), torch.from_numpy(self.labels.copy()).to(device)


class Split(NamedTuple):
    train: ImageDataset
    test: ImageDataset


def nearest(word: str, known: Iterable[str]) -> str:
    """ "did you mean …?", or the whole list when nothing is near."""
    known = list(known)
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(word).lower(), by_lower, n=3, cutoff=0.5)
    return (
        f"did you mean {' or '.join(by_lower[name] for name in close)}?" if close else f"choose from {', '.join(known)}"
    )


# --- CIFAR-10 and SVHN


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
    return Split(
        *(ImageDataset(*pair, classes, f"{name} {split}") for pair, split in zip(arrays, Split._fields, strict=True))
    )


# --- your own images


def own_path(dataset: str) -> Path:
    path = Path(dataset).expanduser().resolve()
    if path.is_dir():
        for split in Split._fields:
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
    files = [file for split in Split._fields for file in path.glob(f"{split}/*/*") if file.suffix.lower() in PICTURES]
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
    return check_split(*(npz_part(arrays, split, classes, f"{name} {split}") for split in Split._fields))


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
    for split in Split._fields:
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
