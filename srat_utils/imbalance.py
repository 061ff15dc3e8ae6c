"""How many images each class keeps: Step-K and Exp-K subsets, pairs of classes, images that are held out."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .images import DataError, ImageDataset, nearest, place_of

ALIASES = {"auto": "automobile"}  # the paper's short name


class Imbalance(NamedTuple):
    form: str  # "step", "exp", "balanced" or "none"
    ratio: float = 1.0  # K
    literal: bool = False  # on each class's own count instead of a common n_max

    def __str__(self) -> str:
        if self.form in ("none", "balanced"):
            return self.form
        return f"{self.form}-{np.format_float_positional(self.ratio, trim='-')}{'-literal' * self.literal}"


def parse_imbalance(text: str) -> Imbalance:
    """ "exp-100-literal" -> Imbalance("exp", 100.0, True).  DataError for an unknown form, or a K that is not a number ≥ 1."""
    if text in ("none", "balanced"):
        return Imbalance(text)
    form, _, rest = str(text).partition("-")
    if form not in ("step", "exp"):
        hint = nearest(form, ("step-K", "exp-K", "balanced", "none"))
        raise DataError(f"unknown imbalance {text!r}; {hint} (K is the imbalance ratio, as in step-10)")
    number = rest.removesuffix("-literal")
    try:
        ratio = float(number)
    except ValueError:
        ratio = math.nan
    if not 1 <= ratio < math.inf:
        raise DataError(f"imbalance {text!r}: K must be a number of 1 or more, as in {form}-10, not {number!r}")
    return Imbalance(form, ratio, literal=number != rest)


def class_counts(imbalance: str, available: Sequence[int], classes: Sequence[str] | None = None) -> list[int]:
    """Training images per class, [C], n_max = min(available).

    step-K: the first C − C//2 classes keep n_max, the others get ⌊n_max/K⌋.  exp-K: ⌊n_max·K^(−i/(C−1))⌋ for class i.
    "-literal" puts class i's own count in place of n_max, as section 5.1 of the paper writes it; K is exact only without it.
    "balanced": n_max each.  "none": available.  classes: names for the error where a class would get no image.
    """
    form, ratio, literal = parse_imbalance(imbalance)
    available = np.asarray(available, dtype=np.int64)
    index, total = np.arange(len(available)), len(available)
    names = list(classes) if classes is not None else [str(i) for i in index]
    if (available < 1).any():
        raise DataError(
            f"class {names[available.argmin()]!r} has no training image; add some, or leave it out with classes=…"
        )
    base = available if literal or form == "none" else np.full(total, available.min())
    step = (index >= total - total // 2).astype(float)
    exponent = {"step": step, "exp": index / max(total - 1, 1)}.get(form, np.zeros(total))
    counts = np.floor(base * ratio**-exponent + 1e-9).astype(int)  # 5000/100 must not become 49
    if (counts < 1).any():
        cut = exponent > 0
        largest = math.floor(np.exp(np.min(np.log(base[cut]) / exponent[cut])) + 1e-9)
        raise DataError(
            f"{imbalance}: class {names[counts.argmin()]!r} would get no image; K can be at most {largest} here"
        )
    return counts.tolist()


def draw(dataset: ImageDataset, counts: Sequence[int], seed: int | Sequence[int]) -> np.ndarray:
    """Positions, ascending, of `counts` random images per class.  At one seed a smaller draw lies inside a larger one.

    The generator is its own: the global ones are left alone.
    """
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(np.flatnonzero(dataset.labels == label)) for label in range(len(counts))]
    return np.sort(np.concatenate([order[:count] for order, count in zip(orders, counts, strict=True)]))


def make_imbalanced(
    dataset: ImageDataset, imbalance: str, seed: int = 0, max_per_class: int | None = None
) -> ImageDataset:
    """A random subset with `class_counts` images per class, in the original order.

    max_per_class caps what each class has available.
    """
    available = np.minimum(dataset.counts, max_per_class or len(dataset))
    counts = class_counts(imbalance, available, dataset.classes)
    return dataset if counts == dataset.counts else dataset.subset(draw(dataset, counts, seed))


def hold_out(
    dataset: ImageDataset, counts: Sequence[int], seed: int | Sequence[int]
) -> tuple[ImageDataset, ImageDataset]:
    """What is left, and `counts` random images per class that were taken out."""
    held = draw(dataset, counts, seed)
    return dataset.subset(np.setdiff1d(np.arange(len(dataset)), held)), dataset.subset(held)


def held_counts(counts: Sequence[int], share: float, max_per_class: int | None = None) -> np.ndarray:
    """Images a class that `hold_out_share` takes out, int64 [C]."""
    available = np.minimum(counts, max_per_class or max(counts))
    return np.maximum(1, np.rint(share * available)).astype(np.int64)


def hold_out_share(
    dataset: ImageDataset, share: float, seed: int | Sequence[int], max_per_class: int | None = None
) -> tuple[ImageDataset, ImageDataset]:
    """What is left, and a random sample taken out: this share of each class (of max_per_class at most), one image or more."""
    if isinstance(share, bool) or not isinstance(share, numbers.Real) or not 0 < share < 1:
        raise DataError(f"validation is the share of each class to hold out, as in 0.1, not {share!r}")
    counts = held_counts(dataset.counts, share, max_per_class)
    if (counts >= dataset.counts).any():
        name = dataset.classes[np.argmax(counts >= dataset.counts)]
        raise DataError(
            f"validation={share} would leave class {name!r}, of {dataset.counts[dataset.classes.index(name)]}, no training image; "
            "add images, give a val/ folder of your own, or do without (validation=None)"
        )
    rest, held = hold_out(dataset, counts, seed)
    return rest, replace(held, name=f"{dataset.name}, held out")


def restrict(dataset: ImageDataset, classes: Sequence[str]) -> ImageDataset:
    """Only these classes, relabelled 0, 1, … in this order.  DataError for fewer than two, an unknown one, or the same twice."""
    names = []
    for name in map(str, classes):
        place = place_of(name, dataset.classes)
        place = place_of(ALIASES.get(name, name), dataset.classes) if place is None else place
        if place is None:
            raise DataError(f"unknown class {name!r}; {nearest(name, dataset.classes)}")
        names.append(dataset.classes[place])
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(
            f"classes must name at least two different classes, not {', '.join(names)}; {nearest('', dataset.classes)}"
        )
    relabelled = np.full(len(dataset.classes), -1)
    relabelled[[dataset.classes.index(name) for name in names]] = np.arange(len(names))
    labels = relabelled[dataset.labels]
    keep = np.flatnonzero(labels >= 0)
    rare = None if dataset.rare is None else [name for name in dataset.rare if place_of(name, names) is not None]
    return replace(dataset.subset(keep), labels=labels[keep], classes=names, rare=rare)
