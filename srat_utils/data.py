"""The course's training sets, and your own: read, restricted, imbalanced, divided."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .images import DataError, ImageDataset, Split
from .imbalance import hold_out_share, make_imbalanced, restrict
from .pictures import height_width
from .sources import TEST_SEED, load_source


def load_dataset(
    dataset: str | Path,
    *,
    imbalance: str = "none",
    classes: Sequence[str] | None = None,
    seed: int = 0,
    max_per_class: int | None = None,
    test_per_class: int | None = None,
    size: int | tuple[int, int] | None = None,
    validation: float | None = None,
    rare: Sequence[str] | None = None,
) -> Split:
    """Training and test images of "digits", "cifar10", "svhn", or the path of your own `.npz` or folder of class folders.

    imbalance and max_per_class (images per class at most) apply to the training set, drawn with the seed.  classes: two or more
    names, well-represented ones first; all parts are restricted to them and relabelled 0, 1, ….  test_per_class: at most so
    many a class of the test and validation images, the same test images for every seed.

    size: pixels, or (height, width); pictures are resized to it (bilinear over all pixels covered, aspect ratio not kept).
    validation: this share of each class, at least one image, is taken out of the training images before the imbalance,
    drawn with the seed; a set that brings validation images (val_images, val/) keeps those and loses none.
    rare: names of the classes that count as rare, where the rule of `under_represented` is not what you mean.

    A set is read from disk once a process.  Raises DataError.
    """
    for name, number in {"max_per_class": max_per_class, "test_per_class": test_per_class}.items():
        if number is not None and not (isinstance(number, numbers.Integral) and number > 0):
            raise DataError(f"{name} is a number of images, 1 or more, or None for all of them, not {number!r}")
    if not (isinstance(seed, numbers.Integral) and seed >= 0):
        raise DataError(f"seed is a whole number, 0 or more, not {seed!r}")
    for name, names in {"classes": classes, "rare": rare}.items():
        if isinstance(names, str):
            raise DataError(f"{name} is a list of names, as in [{names!r}], not {names!r}")
    split = load_source(dataset, height_width(size))
    train, test, held = split if classes is None else split.map(lambda part: restrict(part, classes))
    if validation is not None and held is None:
        train, held = hold_out_share(train, validation, (seed, 1), max_per_class)
    train = replace(make_imbalanced(train, imbalance, seed, max_per_class), rare=rare)

    def measured(part: ImageDataset) -> ImageDataset:
        sample = make_imbalanced(part, "none", TEST_SEED, test_per_class)
        return replace(sample, rare=tuple(np.compress(train.under, train.classes)))  # decided by the training images

    return Split(train, measured(test), held and measured(held))
