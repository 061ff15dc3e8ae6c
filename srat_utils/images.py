"""Images with their labels, and what can be wrong with them."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch


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
    validation: ImageDataset | None = None


def nearest(word: str, known: Iterable[str]) -> str:
    """ "did you mean …?", or the whole list when nothing is near."""
    known = list(known)
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(word).lower(), by_lower, n=3, cutoff=0.5)
    return (
        f"did you mean {' or '.join(by_lower[name] for name in close)}?" if close else f"choose from {', '.join(known)}"
    )
