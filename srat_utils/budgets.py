"""How far the adversary of the training may go, class by class: ε_c = size_c·ε.

A record's `build(facts)` gives a module whose buffers go to the checkpoint.  Evaluations know one ε for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from .attacks import PGD
from .records import Record, above, at_least, fraction
from .terms import Facts
from .weights import Counts


def by_rarity(counts: Counts, share: float = 0.3, cap: float | None = 2.0) -> np.ndarray:
    """ε_c/ε = (1 − α) + α·r_c/Σ_k π_k r_k with r_c = √ln(n_max/n_c) (RobustLT; Zhang et al., 2026).  Returns float64 [C].

    Without a cap the mean over images is 1, which asks for 31 ε in the rare classes of Step-100.  Equal counts: 1 for all.
    """
    n = np.asarray(counts, dtype=np.float64)
    r = np.sqrt(np.log(n.max() / n))
    mean = (n * r).sum() / n.sum()
    size = (1 - share) + share * r / mean if mean > 0 else np.ones_like(n)
    return size if cap is None else size.clip(max=cap)


def by_difficulty(p: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """1 + λ·Σ_{j≠i} ±…: what two classes are confused by goes from the easier one to the harder one (DAFA; Lee et al., 2024).

    p: float [C,C], p[i,j] the mean probability of class j on attacked images of class i.  Of two classes i, j with
    p[i,i] < p[j,j] the harder, i, gains λ·p[i,j]·p[j,j] and j loses as much.  Returns float64 [C], whose mean is 1.
    """
    p = np.asarray(p, dtype=np.float64)
    own = np.diag(p)
    gain = np.where(own[:, None] < own[None, :], p * own[None, :], 0.0)  # [i,j]: what i takes from j
    return 1 + weight * (gain.sum(1) - gain.sum(0))


class Budget(nn.Module):
    """One ε for all classes, and what every budget can be asked."""

    weight: float | torch.Tensor = 1.0  # what class weights are multiplied by, a number or [C]

    def forward(self, attack: PGD, y: torch.Tensor) -> torch.Tensor | None:
        """ε of each image, [n]; None for the attack's own."""
        return None

    def begin(self, epoch: int, epochs: int) -> None:
        """Called before each epoch, counted from 0."""

    def watch(self, logits: torch.Tensor, y: torch.Tensor) -> None:
        """Called after each step with what the network said of the attacked images, [n,C]."""


@dataclass(frozen=True)
class Rarity(Record):
    """Rare classes get the larger ε (see `by_rarity`), and all grow to it linearly in the first epochs (RobustLT)."""

    budget_share: float = fraction(0.3)  # α
    budget_cap: float | None = above(0, 2.0)  # in units of ε; RobustLT has none
    budget_warmup: float = fraction(0.8)  # β: fraction of the epochs in which they grow

    def build(self, facts: Facts) -> Budget:
        return Growing(by_rarity(facts.counts, self.budget_share, self.budget_cap), self.budget_warmup, facts)


class Growing(Budget):
    def __init__(self, size: np.ndarray, warmup: float, facts: Facts):
        super().__init__()
        self.warmup, self.grown = warmup, 1.0
        self.register_buffer("size", torch.tensor(size, dtype=torch.float32, device=facts.device))

    def forward(self, attack: PGD, y: torch.Tensor) -> torch.Tensor:
        return attack.eps * self.grown * self.size[y]

    def begin(self, epoch: int, epochs: int) -> None:
        self.grown = min(1.0, epoch / (self.warmup * epochs)) if self.warmup else 1.0


@dataclass(frozen=True)
class Difficulty(Record):
    """Hard classes get the larger ε and the larger weight (see `by_difficulty`), measured once, in the epoch before it is used (DAFA).

    Floor and cap are not DAFA's: where rare classes are all taken for a frequent one, its ε would fall below 0.
    """

    difficulty_weight: float = at_least(0, 1.0)  # λ
    difficulty_at: float = fraction(0.64)  # fraction of the epochs after which it is used: 70 of 110
    budget_floor: float = above(0, 0.1)  # in units of ε
    budget_cap: float | None = above(0, 2.0)

    def build(self, facts: Facts) -> Budget:
        return Measured(self, facts)


class Measured(Budget):
    def __init__(self, settings: Difficulty, facts: Facts):
        super().__init__()
        classes = len(facts.counts)
        self.settings, self.watching = settings, False
        self.register_buffer("size", torch.ones(classes, device=facts.device))
        self.register_buffer("said", torch.zeros(classes, classes, device=facts.device))  # sums of probabilities
        self.register_buffer("seen", torch.zeros(classes, device=facts.device))

    @property
    def weight(self) -> torch.Tensor:
        return self.size

    def forward(self, attack: PGD, y: torch.Tensor) -> torch.Tensor:
        return attack.eps * self.size[y]

    def begin(self, epoch: int, epochs: int) -> None:
        start = max(1, round(self.settings.difficulty_at * epochs))
        self.watching = epoch == start - 1
        if epoch == start:
            p = (self.said / self.seen.clamp(min=1)[:, None]).cpu().numpy()
            size = by_difficulty(p, self.settings.difficulty_weight)
            self.size.copy_(torch.from_numpy(size.clip(self.settings.budget_floor, self.settings.budget_cap)))

    def watch(self, logits: torch.Tensor, y: torch.Tensor) -> None:
        if self.watching:
            self.said.index_add_(0, y, logits.detach().softmax(1).float())
            self.seen.index_add_(0, y, torch.ones_like(y, dtype=self.seen.dtype))
