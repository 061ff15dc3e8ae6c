"""The course's training sets, and the door to the rooms behind it: images, imbalance, sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .images import DataError, ImageDataset, Split, nearest
from .imbalance import class_counts, make_imbalanced, parse_imbalance, restrict, under_represented
from .sources import TEST_SEED, load_source

__all__ = [
    "DataError",
    "ImageDataset",
    "Split",
    "class_counts",
    "load_dataset",
    "make_imbalanced",
    "nearest",
    "parse_imbalance",
    "restrict",
    "under_represented",
]


def load_dataset(
    dataset: str | Path,
    *,
    imbalance: str = "none",
    classes: Sequence[str] | None = None,
    seed: int = 0,
    max_per_class: int | None = None,
    test_per_class: int | None = None,
) -> Split:
    """Training and test images of "digits", "cifar10", "svhn", or the path of your own `.npz` or folder of class folders.

    imbalance and max_per_class (images a class at most) apply to the training set, drawn with the seed.  classes: two or more
    names, well-represented ones first; both sets are restricted to them and relabelled 0, 1, ….  test_per_class: a sample of
    the test set, the same for every seed.  A set is read from disk once a process.  Raises DataError.
    """
    train, test, _ = load_source(str(dataset))
    if classes is not None:
        train, test = restrict(train, classes), restrict(test, classes)
    train = make_imbalanced(train, imbalance, seed, max_per_class)
    if test_per_class:
        test = make_imbalanced(test, "none", TEST_SEED, test_per_class)
    return Split(train, test)
