"""Class weights: the effective number of samples (Cui et al., 2019), a plain ratio, and when either is switched on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .images import under_represented
from .records import ConfigError, Record, above, checked, fraction, one_of

Counts = Sequence[int] | np.ndarray


def effective_number(counts: Counts, beta: float = 0.9999) -> np.ndarray:
    """E_n = (1 − βⁿ)/(1 − β), a class of n images each.  counts: [C], all ≥ 1.  Returns float64 [C]."""
    counts = np.asarray(counts, dtype=np.float64)
    if not 0 <= beta < 1:
        raise ValueError(f"beta must lie in [0, 1), not {beta}")
    if counts.size == 0 or counts.min() < 1:
        raise ValueError(f"every class needs at least one image; counts are {counts.astype(int).tolist()}")
    return -np.expm1(counts * np.log(beta)) / (1 - beta) if beta else np.ones_like(counts)


def class_balanced(counts: Counts, beta: float = 0.9999) -> np.ndarray:
    """Weights proportional to 1/E_n, scaled to sum to C (footnote 3 of the paper; normalised as in LDAM-DRW)."""
    weights = 1 / effective_number(counts, beta)
    return weights * len(weights) / weights.sum()


def plain_ratio(under: np.ndarray, ratio: float) -> np.ndarray:
    """Weight `ratio` for under-represented classes, 1 for the others (sections 2.2 and 5.3).  under: bool [C]."""
    if not ratio > 0:
        raise ValueError(f"weight ratio must be above 0, not {ratio}")
    return np.where(under, float(ratio), 1.0)


REDUCTIONS = ("weighted", "mean", "expected")


def reduce(losses: torch.Tensor, weights: torch.Tensor, reduction: str = "weighted") -> torch.Tensor:
    """One number from losses [N] and sample weights [N].

    "weighted": Σ w l / Σ w, so that the size of the weights does not change the size of the loss (LDAM-DRW);
    "mean": Σ w l / N, Eq. 7 to the letter;
    "expected": the same, the weights scaled so that their mean over the training set is 1 (see `Always.of`).

    In a batch without a rare image "weighted" forgets the weights: rare classes then never get more of the loss than the share
    of batches that hold one.  The other two are unbiased, "expected" at the size of an unweighted loss.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}")
    total = (weights * losses).sum()
    return total / weights.sum() if reduction == "weighted" else total / len(losses)


@dataclass(frozen=True)
class Always(Record):
    """Class weights from the first epoch on: class-balanced, or a plain under:well ratio."""

    weight_ratio: float | None = above(0)  # in place of the class-balanced weights
    beta: float = checked(0.9999, "in [0, 1)", lambda value: 0 <= value < 1)  # of the effective number
    reduction: str = one_of(*REDUCTIONS)  # see `reduce`

    def start(self, epochs: int) -> int:
        """The first epoch, counted from 0, that uses the weights: Algorithm 1's T_d."""
        return 0

    def of(self, counts: Counts, under: np.ndarray | None = None) -> np.ndarray:
        """w of each class, float64 [C].  under: bool [C], which classes are rare; None: by the counts."""
        if self.weight_ratio is not None:
            under = under_represented(counts) if under is None else np.asarray(under)
            if not under.any() and self.weight_ratio != 1:
                raise ConfigError(
                    f"weight_ratio={self.weight_ratio:g} weighs rare classes, and none of {len(counts)} classes is rare by the rule; "
                    "name them: rare=(…)"
                )
            weights = plain_ratio(under, self.weight_ratio)
        else:
            weights = class_balanced(counts, self.beta)
        return weights / np.average(weights, weights=counts) if self.reduction == "expected" else weights

    def changed(self) -> dict[str, object]:
        own = super().changed()
        if self.weight_ratio is not None:
            own.pop("beta", None)
        return own


@dataclass(frozen=True)
class Deferred(Always):
    """The same from a later epoch on (Cao et al., 2019)."""

    reweight_at: float = fraction(0.8)  # fraction of the epochs: 160 of 200

    def start(self, epochs: int) -> int:
        return round(self.reweight_at * epochs)
