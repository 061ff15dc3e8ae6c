"""What a method minimises: a record a term, with its settings and their defaults.

`build(facts)` gives a function, or an `nn.Module`, of one `Batch`: a scalar, already weighted.  A module's parameters go to the
optimizer and its buffers, of a fixed size from the start, to the checkpoint.  A term's `name` is its column in the history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from . import losses, weights
from .models import Classifier
from .records import Record, above, at_least, fraction, one_of


class Facts(NamedTuple):
    """What is known once the training set is there.  counts: images per class.  width: of the features that L_sep sees."""

    counts: Sequence[int]
    width: int
    device: torch.device

    @property
    def log_prior(self) -> torch.Tensor:
        """ln π_c, π_c the share of class c in the training set.  Returns float32 [C]."""
        return torch.tensor(self.counts, dtype=torch.float32, device=self.device).div(sum(self.counts)).log()


class Pass(NamedTuple):
    """What the network makes of images: logits [n,C] and penultimate features [n,D]."""

    logits: torch.Tensor
    features: torch.Tensor


@dataclass(eq=False)
class Batch:
    """A mini-batch, clean (x) and attacked (x′), and the passes of the network over it, each when a term first asks.

    x, x_adv: float [n,C,H,W] in [0,1].  y: int64 [n].  w: [n], each image's class weight.
    reduction: how `mean` uses the weights (see `weights.reduce`).  progress: the fraction of the epochs that is over.
    """

    model: Classifier
    x: torch.Tensor
    x_adv: torch.Tensor
    y: torch.Tensor
    w: torch.Tensor
    reduction: str = "weighted"
    progress: float = 0.0

    @cached_property
    def clean(self) -> Pass:
        return Pass(*self.model.logits_and_features(self.x))

    @cached_property
    def attacked(self) -> Pass:
        """In natural training, where x′ is x, the clean pass."""
        return self.clean if self.x_adv is self.x else Pass(*self.model.logits_and_features(self.x_adv))

    @property
    def shown(self) -> Pass:
        """The pass over x′, or over x where no term has asked for x′."""
        return self.attacked if "attacked" in vars(self) else self.clean

    def mean(self, each: torch.Tensor) -> torch.Tensor:
        """The class-weighted mean of one loss an image, [n]."""
        return weights.reduce(each, self.w, self.reduction)


@dataclass(frozen=True)
class Prediction(Record):
    """The class-weighted mean of a loss on the logits.  view: "attacked" or "clean" images."""

    view: str = one_of("attacked", "clean")  # which images it is taken on
    name: ClassVar[str] = "prediction_loss"
    head_scale: ClassVar[float | None] = None  # a linear head; a number: a cosine head with that scale

    def each(self, facts: Facts) -> losses.Loss:
        """The function (logits [n,C], labels [n]) → loss [n]."""
        raise NotImplementedError

    def build(self, facts: Facts) -> Callable[[Batch], torch.Tensor]:
        loss = self.each(facts)
        return lambda batch: batch.mean(loss(getattr(batch, self.view).logits, batch.y))


@dataclass(frozen=True)
class CE(Prediction):
    """−log p_y, the cross-entropy."""

    def each(self, facts: Facts) -> losses.Loss:
        return losses.cross_entropy


@dataclass(frozen=True)
class Focal(Prediction):
    """(1 − p_y)^γ·CE (Lin et al., 2017)."""

    focal_gamma: float = at_least(0, 1.0)  # γ

    def each(self, facts: Facts) -> losses.Loss:
        return partial(losses.focal, gamma=self.focal_gamma)


@dataclass(frozen=True)
class LDAM(Prediction):
    """CE of s·(cos − Δ_y·1[c = y]), Δ_j ∝ n_j^(−1/4) (Cao et al., 2019).

    ldam_scale_in: "model", where every attack meets the scale s, or "loss", as in LDAM-DRW: logits are bare cosines then.
    """

    max_margin: float = at_least(0, 0.5)  # the largest Δ_j, in units of cosine
    ldam_scale: float = above(0, 30.0)  # s
    ldam_scale_in: str = one_of("model", "loss")  # where s sits

    @property
    def head_scale(self) -> float:
        return self.ldam_scale if self.ldam_scale_in == "model" else 1.0

    def each(self, facts: Facts) -> losses.Loss:
        margins = losses.ldam_margins(facts.counts, self.max_margin).to(facts.device)
        ldam = partial(losses.ldam, margins=margins, scale=self.ldam_scale)
        return ldam if self.ldam_scale_in == "model" else lambda logits, y: ldam(self.ldam_scale * logits, y)


@dataclass(frozen=True)
class LogitAdjusted(Prediction):
    """Cross-entropy of z + τ·ln π (Menon et al., 2021); τ = 1 is balanced softmax (Ren et al., 2020).

    What is tested is z.  Class weights beside it would correct the same imbalance twice.
    """

    tau: float = at_least(0, 1.0)  # τ of the prior

    def each(self, facts: Facts) -> losses.Loss:
        shift = self.tau * facts.log_prior
        return lambda logits, y: losses.cross_entropy(logits + shift, y)


@dataclass(frozen=True)
class AdjustedLDAM(LDAM):
    """Cross-entropy of s·(cos − Δ_y·1[c = y]) + τ·ln π_c: LDAM's margins and a prior in one softmax (additive VS loss; Kini et al., 2021)."""

    tau: float = at_least(0, 1.0)  # τ of the prior

    def each(self, facts: Facts) -> losses.Loss:
        ldam, shift = super().each(facts), self.tau * facts.log_prior
        if self.ldam_scale_in == "loss":  # which then multiplies whatever it is given
            shift = shift / self.ldam_scale
        return lambda logits, y: ldam(logits + shift, y)


@dataclass(frozen=True)
class RoBal(LogitAdjusted):
    """Cross-entropy of s·(cos − m_y·1[c = y]) + τ·ln π_c with m_y = m + τ_m·ln(n_y/n_min)/s (Wu et al., 2021).

    The scale s lives in the model's cosine head, as LDAM's does: every attack, in training and after, meets it.
    """

    tau: float = at_least(0, 1.2)  # τ_b
    robal_margin: float = at_least(0, 0.1)  # m, in units of cosine
    robal_slope: float = at_least(0, 0.0)  # τ_m: frequent classes get the larger margin
    robal_scale: float = above(0, 10.0)  # s

    @property
    def head_scale(self) -> float:
        return self.robal_scale

    def each(self, facts: Facts) -> losses.Loss:
        shift, n = self.tau * facts.log_prior, torch.tensor(facts.counts, dtype=torch.float32, device=facts.device)
        margins = self.robal_margin + self.robal_slope * (n / n.min()).log() / self.robal_scale
        return lambda logits, y: losses.ldam(logits + shift, y, margins, self.robal_scale)


@dataclass(frozen=True)
class HARL(CE):
    """α·mean_c L_c + β·mean_c (L_c − L̄)² + γ·Σ_c (L_c/Σ_k L_k)² of the classes in the batch, L_c their mean CE (TAET; Wang et al., 2025).

    Before `harl_from` it is CE of the images of `harl_first`.  A class that is not in the batch counts for nothing.
    """

    harl_mean: float = at_least(0, 0.1)  # α
    harl_variance: float = at_least(0, 0.1)  # β
    harl_share: float = at_least(0, 0.1)  # γ
    harl_from: float = fraction(0.4)  # fraction of the epochs: 40 of 100
    harl_first: str = one_of("clean", "attacked")  # what is seen before that

    def build(self, facts: Facts) -> Callable[[Batch], torch.Tensor]:
        def term(batch: Batch) -> torch.Tensor:
            first = batch.progress < self.harl_from
            each = losses.cross_entropy(getattr(batch, self.harl_first if first else self.view).logits, batch.y)
            if first:
                return batch.mean(each)
            by_class = losses.class_means(each, batch.y, len(facts.counts))
            mean, share = by_class.mean(), by_class / by_class.sum().clamp(min=torch.finfo(each.dtype).tiny)
            spread = (by_class - mean).pow(2).mean()
            return self.harl_mean * mean + self.harl_variance * spread + self.harl_share * share.pow(2).sum()

        return term


@dataclass(frozen=True)
class Consistency(Record):
    """β·KL(p(x) ‖ p(x′)), the mean over the batch: TRADES's second term (Zhang et al., 2019).

    kl_temperature: what both logits are divided by first; RoBal compares bare cosines, so there it is the scale of the head, and
    who changes `robal_scale` changes it, too.
    """

    kl_weight: float = at_least(0, 6.0)  # β
    kl_temperature: float = above(0, 1.0)  # logits are divided by it
    name: ClassVar[str] = "consistency_loss"

    def build(self, facts: Facts) -> Callable[[Batch], torch.Tensor]:
        def term(batch: Batch) -> torch.Tensor:
            attacked, clean = (p.logits / self.kl_temperature for p in (batch.attacked, batch.clean))
            return self.kl_weight * F.kl_div(attacked.log_softmax(1), clean.softmax(1), reduction="batchmean")

        return term


@dataclass(frozen=True)
class Separation(Record):
    """λ·L_sep of Eq. 6 on the attacked images' features.  lonely_anchors: see `losses.feature_separation`."""

    separation_weight: float = at_least(0, 1.0)  # λ
    temperature: float = above(0, 0.1)  # τ of Eq. 6
    lonely_anchors: str = one_of("zero", "drop")  # without a positive: count as 0, or are left out
    name: ClassVar[str] = "separation_loss"

    def build(self, facts: Facts) -> Callable[[Batch], torch.Tensor]:
        return lambda batch: (
            self.separation_weight * self.l_sep(batch.model.projection(batch.attacked.features), batch.y)
        )

    def l_sep(self, z: torch.Tensor, y: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
        return losses.feature_separation(z, y, self.temperature, lonely=self.lonely_anchors, **others)


@dataclass(frozen=True)
class QueuedSeparation(Separation):
    """L_sep whose anchors are also compared with the last features seen, so that rare ones find a positive (He et al., 2020).

    The queue holds features as they were, without gradients; an image may meet its own earlier ones there.
    """

    queue_length: int = above(0, 512)  # features

    def build(self, facts: Facts) -> Queue:
        return Queue(self, facts)


class Queue(nn.Module):
    """The features [K,D] and labels [K] of the last K attacked images; a label of −1 where there has been none yet."""

    def __init__(self, separation: QueuedSeparation, facts: Facts):
        super().__init__()
        self.separation, length = separation, separation.queue_length
        self.register_buffer("features", torch.zeros(length, facts.width, device=facts.device))
        self.register_buffer("labels", torch.full((length,), -1, device=facts.device))
        # Where the next one goes.
        self.register_buffer("place", torch.zeros((), dtype=torch.int64, device=facts.device))

    def forward(self, batch: Batch) -> torch.Tensor:
        z, filled = batch.model.projection(batch.attacked.features), self.labels >= 0
        memory = {"others": self.features[filled], "other_labels": self.labels[filled]}
        value = self.separation.separation_weight * self.separation.l_sep(z, batch.y, **memory)
        self.push(z.detach(), batch.y)
        return value

    def push(self, z: torch.Tensor, y: torch.Tensor) -> None:
        """The newest z [n,D], y [n] take the places of the oldest."""
        z, y = z[-len(self.labels) :].to(self.features), y[-len(self.labels) :]
        index = (self.place + torch.arange(len(y), device=y.device)) % len(self.labels)
        self.features[index], self.labels[index] = z, y
        self.place.copy_((self.place + len(y)) % len(self.labels))


@dataclass(frozen=True)
class CentredSeparation(Separation):
    """L_sep whose anchors are also compared with a learned centre of each class: the head's own vector for it, as in BCL.

    No anchor is alone (Zhu et al., 2022, whose centres go through an MLP and whose denominator averages over classes).
    """

    def build(self, facts: Facts) -> Callable[[Batch], torch.Tensor]:
        classes = torch.arange(len(facts.counts), device=facts.device)

        def term(batch: Batch) -> torch.Tensor:
            z, centres = (batch.model.projection(f) for f in (batch.attacked.features, batch.model.head.weight))
            return self.separation_weight * self.l_sep(z, batch.y, others=centres, other_labels=classes)

        return term


class Objective(nn.Module):
    """The terms of a method on one batch: name → value, already weighted; their sum is what training minimises.

    budget: of `budgets`, within which x′ is sought; its buffers go where those of the terms go.
    """

    def __init__(self, records: Sequence[Record], facts: Facts, budget: nn.Module | None = None):
        super().__init__()
        self.budget = budget
        self.terms = {record.name: record.build(facts) for record in records}
        self.stateful = nn.ModuleDict({name: t for name, t in self.terms.items() if isinstance(t, nn.Module)})

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {name: term(batch) for name, term in self.terms.items()}
