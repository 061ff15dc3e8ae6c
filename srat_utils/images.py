"""Images with their labels, which classes are rare among them, and what can be wrong with them."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple
from unicodedata import normalize

import numpy as np
import torch

DARK = 32  # of 255: a training set whose brightest pixel is below was scaled wrongly


class DataError(ValueError):
    """A problem with data that a reader can meet: one line that says what is wrong and what to do."""


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images and their labels, read-only.

    images: uint8 [N,H,W,C].  labels: int64 [N], 0…C−1.  classes: a name a label.  name: for messages, "digits train".
    indices: int64 [N], positions in the original training or test set; 0…N−1 unless given.  rare: names of the classes that
    count as rare, which `load_dataset` sets; None: by the rule of `under_represented`.
    Raises DataError where shapes, types, labels or names do not fit.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    name: str
    indices: np.ndarray | None = None
    rare: tuple[str, ...] | None = None

    def __post_init__(self):
        for field in ("classes", "rare"):
            if getattr(self, field) is not None:
                object.__setattr__(self, field, tuple(str(name) for name in getattr(self, field)))
        self._check_images()
        self._check_labels()
        indices = np.arange(len(self.images)) if self.indices is None else np.asarray(self.indices)
        if indices.shape != (len(self.images),):
            raise DataError(f"{self.name}: {len(self.images)} images but {len(indices)} indices; give one per image")
        for field, array in (
            ("images", self.images),
            ("labels", self.labels.astype(np.int64)),
            ("indices", indices.astype(np.int64)),
        ):
            view = array.view()
            view.flags.writeable = False  # runs share a loaded set, and the fingerprint is computed once
            object.__setattr__(self, field, view)

    def _check_images(self):
        if self.images.ndim != 4 or 0 in self.images.shape:
            raise DataError(
                f"{self.name}: images have shape {self.images.shape}; [N,H,W] or [N,H,W,C] is needed, none of them 0"
            )
        if self.images.dtype != np.uint8:
            raise DataError(
                f"{self.name}: pixels are {self.images.dtype}; save them as uint8, 0…255: {to_uint8(self.images)}"
            )

    def _check_labels(self):
        if self.labels.dtype.kind not in "iu" or self.labels.ndim != 1:
            raise DataError(
                f"{self.name}: labels are {self.labels.dtype} {self.labels.shape}; save them as integers, one per image"
            )
        if len(self.labels) != len(self.images):
            raise DataError(f"{self.name}: {len(self.images)} images but {len(self.labels)} labels; give one per image")
        low, high, total = self.labels.min(), self.labels.max(), len(self.classes)
        if low < 0 or high >= total:
            raise DataError(
                f"{self.name}: label {low if low < 0 else high} is out of range; {total} classes have labels 0…{total - 1}"
                + (": yours count from 1, so save labels - 1" if (low, high) == (1, total) else "")
            )
        twice = [name for i, name in enumerate(self.classes) if name in self.classes[:i]]
        if twice:
            raise DataError(f"{self.name}: two classes are called {twice[0]!r}; give each a name of its own")
        for name in self.classes:
            if name != name.encode("utf-8", "replace").decode():
                raise DataError(f"{self.name}: the name of class {name!r} is no valid text; give it one in UTF-8")
        for name in self.rare or ():
            if place_of(name, self.classes) is None:
                raise DataError(f"{self.name}: rare class {name!r} is unknown; {nearest(name, self.classes)}")

    def __repr__(self) -> str:
        """A line, not the pixels."""
        counts = ", ".join(f"{name}: {n:,}" for name, n in zip(self.classes[:12], self.counts[:12], strict=True))
        size = "×".join(map(str, self.images.shape[1:]))
        return f"<{self.name}: {len(self):,} images of {size}; {counts}{', …' * (len(self.classes) > 12)}>"

    def __len__(self) -> int:
        return len(self.images)

    @property
    def counts(self) -> list[int]:
        """Images a class."""
        return np.bincount(self.labels, minlength=len(self.classes)).tolist()

    @property
    def under(self) -> np.ndarray:
        """bool [C]: which classes are rare, the paper's "Under"."""
        if self.rare is None:
            return under_represented(self.counts)
        return which(self.rare, self.classes)

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
    """Training, test and, where there are any, validation images of one set."""

    train: ImageDataset
    test: ImageDataset
    validation: ImageDataset | None = None

    def map(self, change: Callable[[ImageDataset], ImageDataset]) -> Split:
        """`change` of each part that is there."""
        return Split(*(None if part is None else change(part) for part in self))

    def checked(self) -> Split:
        """Itself.  DataError unless two classes or more have images in every part, of one size, and not all but black."""
        train = self.train
        if len(train.classes) < 2:
            raise DataError(f"{train.name}: only class {train.classes[0]!r} is there; at least two are needed")
        if train.images.max() < DARK:
            raise DataError(
                f"{train.name}: no pixel is above {train.images.max()} of 255, so something scaled them down (0…1 cast to "
                "uint8, 12 bits stored as 16?); save them over 0…255"
            )
        for part in filter(None, self):
            if part.images.shape[1:] != train.images.shape[1:]:
                raise DataError(
                    f"{part.name}: images are {part.images.shape[1:]}, in training {train.images.shape[1:]}; make them one "
                    f"size (load_dataset(…, size={train.images.shape[1:3]}) does) with equal channels"
                )
            if 0 in part.counts:
                raise DataError(
                    f"{part.name}: class {part.classes[part.counts.index(0)]!r} has no image; every class needs one or more"
                )
        return self


def under_represented(counts: Sequence[int]) -> np.ndarray:
    """bool [C]: which of classes with `counts` images are rare, the paper's "Under".

    Rare is a class with fewer images than √(n_max·n_min), the geometric mean of the largest and the smallest class, and with
    at most n_max/2: the paper's five of ten in Step-K and Exp-K sets, none in a balanced one.
    """
    counts = np.asarray(counts, dtype=np.int64)
    return (counts**2 < counts.max() * counts.min()) & (2 * counts <= counts.max())


def place_of(name: str, classes: Sequence[str]) -> int | None:
    """Where a name stands among the classes; macOS writes an accent as a character of its own, which is the same name."""
    if name in classes:
        return classes.index(name)
    same = [i for i, other in enumerate(classes) if normalize("NFC", other) == normalize("NFC", name)]
    return same[0] if same else None


def which(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """bool [C]: which of the classes are named."""
    places = {place_of(name, classes) for name in names}
    return np.array([place in places for place in range(len(classes))])


def to_uint8(images: np.ndarray) -> str:
    """What turns these pixels into uint8, as code; words where their range tells nothing."""
    if images.dtype.kind not in "fiub":
        return "numbers are needed"
    if not images.size:
        return "there are none"
    if np.isnan(images).any():
        return "some of them are NaN, replace those first"
    low, high = images.min(), images.max()
    if low >= 0 and high <= 1:
        return "(255.0 * images).round().astype('uint8')"
    if low < 0 or high < DARK or high > (65535 if images.dtype.kind in "iu" else 255):
        return f"they go from {low:g} to {high:g}, bring them to 0…255 first"
    return ("(images / 257)" if high > 255 else "images") + ".round().astype('uint8')"


def nearest(word: str, known: Iterable[str]) -> str:
    """ "did you mean …?", or the whole list when nothing is near."""
    known = list(known)
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(word).lower(), by_lower, n=3, cutoff=0.5)
    return (
        f"did you mean {' or '.join(by_lower[name] for name in close)}?" if close else f"choose from {', '.join(known)}"
    )
