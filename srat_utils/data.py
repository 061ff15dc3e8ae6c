"""Images and their imbalance: digits, CIFAR-10, SVHN or your own; Step-K and Exp-K subsets; binary pairs."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image, UnidentifiedImageError
from sklearn.datasets import load_digits

DIGITS_TEST_PER_CLASS = 70
DOWNLOADS = {
    "cifar10": "CIFAR-10, 170 MB; its host has served at about 60 kB/s, which makes some 40 minutes",
    "svhn": "SVHN, 246 MB in two files",
}
ALIASES = {"auto": "automobile"}  # the paper's short name


class DataError(ValueError):
    """Something is wrong with the data; the message is one line that says what, and what to do."""


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images in memory.

    images: uint8 [N,H,W,C].  labels: int64 [N], 0 … C−1.  classes: C names.  indices: int64 [N], positions in the set that
    this one was drawn from.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    name: str
    indices: np.ndarray

    def __post_init__(self):
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DataError(
                f"{self.name}: images must be uint8 (0 to 255) of shape [N,H,W,C], not {self.images.dtype} {list(self.images.shape)}; "
                "scale floats by 255, replace NaN, then use .astype('uint8')"
            )
        if not len(self.images) == len(self.labels) == len(self.indices):
            raise DataError(
                f"{self.name}: {len(self.images)} images but {len(self.labels)} labels; each image needs one"
            )
        if len(self.labels) == 0:
            raise DataError(f"{self.name}: there is no image in it")
        if self.labels.min() < 0 or self.labels.max() >= len(self.classes):
            raise DataError(
                f"{self.name}: labels reach from {self.labels.min()} to {self.labels.max()}; {len(self.classes)} classes need 0 to {len(self.classes) - 1}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> list[int]:
        """Images a class."""
        return np.bincount(self.labels, minlength=len(self.classes)).tolist()

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits of a hash over the class names, indices, labels and pixels: equal for equal images in equal order."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for array in (self.indices, self.labels, self.images):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:12]

    def subset(self, positions: np.ndarray) -> ImageDataset:
        picked = {
            "images": self.images[positions],
            "labels": self.labels[positions],
            "indices": self.indices[positions],
        }
        return replace(self, **picked)

    def only(self, classes: Sequence[str]) -> ImageDataset:
        """The named classes alone, relabelled 0, 1, … in the order given."""
        names = [ALIASES.get(name, name) if name not in self.classes else name for name in classes]
        for name in names:
            if name not in self.classes:
                raise DataError(f"{self.name} has no class {name!r}; {nearest(name, self.classes)}")
        if len(set(names)) < max(2, len(names)):
            raise DataError(f"classes must be at least two different ones, not {', '.join(map(repr, names))}")
        relabel = np.full(len(self.classes), -1, dtype=np.int64)
        relabel[[self.classes.index(name) for name in names]] = np.arange(len(names))
        kept = self.subset(np.flatnonzero(relabel[self.labels] >= 0))
        return replace(kept, labels=relabel[kept.labels], classes=tuple(names))

    def tensors(self, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
        """All images, uint8 [N,C,H,W], and labels, int64 [N], on the device that trains."""
        images = torch.from_numpy(np.ascontiguousarray(self.images.transpose(0, 3, 1, 2)))
        return images.to(device), torch.from_numpy(self.labels).to(device)


class Split(NamedTuple):
    train: ImageDataset
    test: ImageDataset


def nearest(word: object, known: Sequence[str]) -> str:
    """'did you mean …?', or the whole list when nothing is near."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(word).lower(), by_lower, n=3, cutoff=0.5)
    return (
        f"did you mean {' or '.join(by_lower[name] for name in close)}?" if close else f"choose from {', '.join(known)}"
    )


# ---------------------------------------------------------------------------------------------- imbalance


class Imbalance(NamedTuple):
    kind: str  # "step", "exp", "balanced" or "none"
    ratio: float = 1.0  # K
    literal: bool = False


def parse_imbalance(text: str) -> Imbalance:
    """ "step-K", "exp-K" (with "-literal" for counts relative to each class's own), "balanced" or "none"."""
    if text in ("balanced", "none"):
        return Imbalance(text)
    match = re.fullmatch(r"(step|exp)-(.+?)(-literal)?", str(text))
    if match is None:
        examples = (
            "step-10",
            "step-25",
            "step-100",
            "exp-10",
            "exp-25",
            "exp-100",
            "exp-100-literal",
            "balanced",
            "none",
        )
        raise DataError(
            f"unknown imbalance {text!r}; {nearest(text, examples)} (step-K and exp-K take any K of 1 or more)"
        )
    try:
        ratio = float(match[2])
    except ValueError:
        raise DataError(f"K must be a number of 1 or more, not {match[2]!r}, in imbalance {text!r}") from None
    if not 1 <= ratio < np.inf:
        raise DataError(f"K must be a number of 1 or more, not {match[2]}, in imbalance {text!r}")
    return Imbalance(match[1], ratio, match[3] is not None)


def class_counts(imbalance: str, available: Sequence[int]) -> list[int]:
    """Training images a class under an imbalance, from the images that each class has.

    step-K: the first C − C//2 classes keep n_max, the last C//2 get ⌊n_max/K⌋.  exp-K: n_i = ⌊n_max · K^(−i/(C−1))⌋.
    n_max is the smallest class's count, so that K is exact; "-literal" puts each class's own count in its place (the
    paper's n_i τ^i).  "balanced": n_max each.  "none": all there is.  Raises DataError if a class would get no image.
    """
    kind, ratio, literal = parse_imbalance(imbalance)
    number = len(available)
    own = np.asarray(available, dtype=np.float64)
    if kind == "none":
        return [int(n) for n in available]
    largest = own if literal else np.full(number, own.min())
    position = np.arange(number)
    if kind == "exp":
        share = ratio ** (-position / max(1, number - 1))
    else:
        share = np.where(position < number - number // 2, 1.0, 1 / ratio)
    counts = np.floor(largest * share + 1e-9).astype(int)  # 5000 · 100^(−1) must give 50
    if counts.min() < 1:
        raise DataError(
            f"{imbalance} leaves class {int(counts.argmin())} without an image; K of at most {int(largest.min())} works here"
        )
    return counts.tolist()


def under_represented(counts: Sequence[int]) -> np.ndarray:
    """bool [C]: the C//2 least frequent classes, the later ones where counts are equal (the paper's "Under" for C = 10)."""
    by_frequency = np.argsort(-np.asarray(counts), kind="stable")
    under = np.zeros(len(counts), dtype=bool)
    under[by_frequency[len(counts) - len(counts) // 2 :]] = True
    return under


def make_imbalanced(
    dataset: ImageDataset, imbalance: str, seed: int = 0, *, max_per_class: int | None = None
) -> ImageDataset:
    """A subset with `class_counts` images a class, drawn by a generator of its own; a larger K draws from a smaller K's images.

    max_per_class: an upper bound on what each class has, for trial runs.
    """
    available = [min(count, max_per_class or count) for count in dataset.counts]
    counts = class_counts(imbalance, available)
    generator = np.random.default_rng(seed)
    shuffled = [generator.permutation(np.flatnonzero(dataset.labels == c)) for c in range(len(counts))]
    kept = np.concatenate([own[:count] for own, count in zip(shuffled, counts, strict=True)])
    return dataset.subset(np.sort(kept))


# ---------------------------------------------------------------------------------------------- loading


def load_dataset(
    dataset: str | Path,
    *,
    imbalance: str = "none",
    classes: Sequence[str] | None = None,
    seed: int = 0,
    max_per_class: int | None = None,
    test_per_class: int | None = None,
) -> Split:
    """Training images, made imbalanced, and test images.

    dataset: "digits", "cifar10", "svhn", an .npz with train_images, train_labels, test_images and test_labels, or a folder
    train/<class>/*, test/<class>/* of pictures.  classes: restrict both sets to these, well-represented first.
    test_per_class: the same seed-independent sample of so many test images a class, for trial runs.
    """
    train, test = _load(str(dataset))
    if classes is not None:
        train, test = train.only(classes), test.only(classes)
    train = make_imbalanced(train, imbalance, seed, max_per_class=max_per_class)
    if test_per_class is not None:
        test = make_imbalanced(test, "none", max_per_class=test_per_class)
    return Split(train, test)


@lru_cache(maxsize=4)
def _load_cached(dataset: str, identity: str) -> Split:
    if dataset == "digits":
        return _digits()
    if dataset in TORCHVISION:
        return _known(dataset)
    path = Path(dataset)
    return _read_folder(path) if path.is_dir() else _read_npz(path)


def _load(dataset: str) -> Split:
    return _load_cached(dataset, source_hash(dataset) + os.environ.get("SRAT_DATA", ""))


def source_hash(dataset: str) -> str:
    """The name of a known set; for a path a hash of its content, so that a run's identity changes when the images do."""
    if dataset == "digits" or dataset in TORCHVISION:
        return dataset
    path = Path(dataset)
    if not path.exists():
        raise DataError(f"no data set or path {dataset!r}; {nearest(dataset, ('digits', *TORCHVISION))}")
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def slug(dataset: str) -> str:
    """A short folder-name form of a path."""
    return re.sub(r"[^A-Za-z0-9]+", "-", Path(dataset).stem).strip("-") or "images"


def _whole(images, labels, classes, name: str) -> ImageDataset:
    return ImageDataset(images, np.asarray(labels, dtype=np.int64), tuple(classes), name, np.arange(len(labels)))


def _digits() -> Split:
    digits = load_digits()
    images = np.round(digits.images * 255 / 16).astype(np.uint8)[..., None]
    everything = _whole(images, digits.target, map(str, range(10)), "digits")
    # The test images are the same for every seed.
    test = make_imbalanced(everything, "none", 0, max_per_class=DIGITS_TEST_PER_CLASS)
    train = everything.subset(np.setdiff1d(everything.indices, test.indices))
    return Split(replace(train, name="digits train"), replace(test, name="digits test"))


def _cifar10(root: Path, download: bool) -> Split:
    sets = [torchvision.datasets.CIFAR10(root, train=train, download=download) for train in (True, False)]
    return Split(
        *(
            _whole(s.data, s.targets, s.classes, f"cifar10 {part}")
            for s, part in zip(sets, ("train", "test"), strict=True)
        )
    )


def _svhn(root: Path, download: bool) -> Split:
    sets = [torchvision.datasets.SVHN(root, split=part, download=download) for part in ("train", "test")]
    names = [str(digit) for digit in range(10)]
    return Split(*(_whole(s.data.transpose(0, 2, 3, 1), s.labels, names, f"svhn {s.split}") for s in sets))


TORCHVISION: dict[str, Callable[[Path, bool], Split]] = {"cifar10": _cifar10, "svhn": _svhn}


def data_folders() -> list[Path]:
    """Where a copy of CIFAR-10 or SVHN is looked for: $SRAT_DATA, the project's data/, data/ in the working directory."""
    named = [Path(os.environ["SRAT_DATA"])] if os.environ.get("SRAT_DATA") else []
    return [*named, Path(__file__).resolve().parent.parent / "data", Path.cwd() / "data"]


def _known(dataset: str) -> Split:
    """CIFAR-10 or SVHN: an .npz, then torchvision's own files in a known folder, and only then a download."""
    for folder in data_folders():
        if (folder / f"{dataset}.npz").exists():
            split = _read_npz(folder / f"{dataset}.npz")
            names = torchvision_classes(dataset)
            return Split(*(replace(part, classes=names) if len(part.classes) == len(names) else part for part in split))
        try:
            return TORCHVISION[dataset](folder, False)
        except RuntimeError:  # torchvision: not found or corrupted
            continue
    folder = data_folders()[0]
    by_hand = f"put {dataset}.npz or torchvision's files for {dataset} into {folder} by hand (or set SRAT_DATA to their folder)"
    print(f"Downloading {DOWNLOADS[dataset]}, to {folder}. To avoid it: {by_hand}.", flush=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return TORCHVISION[dataset](folder, True)
    except (OSError, RuntimeError) as error:  # no network; a checksum that does not fit
        raise DataError(f"{dataset} could not be downloaded ({str(error).splitlines()[0]}); {by_hand}") from None


def torchvision_classes(dataset: str) -> tuple[str, ...]:
    cifar10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    return cifar10 if dataset == "cifar10" else tuple(map(str, range(10)))


def _read_npz(path: Path) -> Split:
    """An .npz with train_images … test_labels; optional classes (names) and train_exact, test_exact (False: left out)."""
    keys = ("train_images", "train_labels", "test_images", "test_labels")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, BadZipFile, EOFError) as error:
        raise DataError(
            f"{path} is not a readable .npz ({str(error).splitlines()[0]}); save it again with numpy.savez"
        ) from None
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it needs {', '.join(keys)}")
    for key in ("train_labels", "test_labels"):
        if arrays[key].ndim != 1 or arrays[key].dtype.kind not in "iu":
            raise DataError(
                f"{path}: {key} must be whole numbers of shape [N], not {arrays[key].dtype} {list(arrays[key].shape)}"
            )
    number = int(arrays["train_labels"].max(initial=0)) + 1
    names = tuple(map(str, arrays["classes"])) if "classes" in arrays else tuple(map(str, range(number)))
    parts = []
    for part in ("train", "test"):
        images = arrays[f"{part}_images"]
        images = images[..., None] if images.ndim == 3 else images
        whole = _whole(images, arrays[f"{part}_labels"], names, f"{path.stem} {part}")
        exact = arrays.get(f"{part}_exact")
        parts.append(whole if exact is None else whole.subset(np.flatnonzero(exact)))
    return _checked(Split(*parts), path)


def _read_folder(path: Path) -> Split:
    """train/<class>/* and test/<class>/*: pictures of one size."""
    for part in ("train", "test"):
        if not (path / part).is_dir():
            raise DataError(f"{path} has no folder {part}/; it needs train/<class>/* and test/<class>/* with pictures")
    names = tuple(sorted(folder.name for folder in (path / "train").iterdir() if folder.is_dir()))
    if len(names) < 2:
        raise DataError(f"{path / 'train'} holds {len(names)} class folders; at least two are needed")
    strange = sorted({folder.name for folder in (path / "test").iterdir() if folder.is_dir()} - set(names))
    if strange:
        raise DataError(f"{path / 'test'} has classes that train/ lacks: {', '.join(strange)}")
    first, parts = None, []
    for part in ("train", "test"):
        images, labels = [], []
        for label, name in enumerate(names):
            for file in sorted(
                file for file in (path / part / name).glob("*") if file.is_file() and not file.name.startswith(".")
            ):
                picture = _read_picture(file)
                first = first or (file, picture.shape)
                if picture.shape != first[1]:
                    raise DataError(
                        f"{file} has shape {picture.shape}, {first[0].name} {first[1]}; resize all pictures to one size"
                    )
                images.append(picture)
                labels.append(label)
        if not images:
            raise DataError(f"{path / part} holds no pictures")
        parts.append(_whole(np.stack(images), labels, names, f"{path.name} {part}"))
    return _checked(Split(*parts), path)


def _read_picture(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as picture:
            array = np.asarray(picture if picture.mode == "L" else picture.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(
            f"{file} is not a readable picture ({str(error).splitlines()[0]}); remove or replace it"
        ) from None
    return array[..., None] if array.ndim == 2 else array


def _checked(split: Split, path: Path) -> Split:
    empty = [name for name, count in zip(split.train.classes, split.train.counts, strict=True) if count == 0]
    if empty:
        raise DataError(f"{path}: no training image for class {', '.join(empty)}; labels must run from 0 without gaps")
    if split.train.images.shape[1:] != split.test.images.shape[1:]:
        raise DataError(
            f"{path}: training images are {split.train.images.shape[1:]}, test images {split.test.images.shape[1:]}; make them equal"
        )
    return split


# ---------------------------------------------------------------------------------------------- augmentation


def augment(images: torch.Tensor, generator: torch.Generator, *, padding: int = 4, flip: bool = True) -> torch.Tensor:
    """Random crop after zero padding and, with `flip`, a random horizontal flip, an own one for each image of [N,C,H,W]."""
    number, _, height, width = images.shape
    device = images.device
    down, right = torch.randint(2 * padding + 1, (2, number, 1), generator=generator, device=device)
    rows = down + torch.arange(height, device=device)  # [N,H]
    columns = right + torch.arange(width, device=device)  # [N,W]
    if flip:
        flipped = torch.rand(number, 1, generator=generator, device=device) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
    padded = F.pad(images, (padding,) * 4)
    each = torch.arange(number, device=device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
