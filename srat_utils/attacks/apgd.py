"""Auto-PGD: gradient ascent in the ℓ∞ ball that finds its own step (Croce & Hein, 2020, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from torch import nn

from .objectives import Objective, choose
from .pgd import bounds, budget_name, frozen, uniform

MOMENTUM = 0.75  # α: a move is this much of the new step and the rest of the move before
RISING = 0.75  # ρ: where a smaller share of the steps raises the loss, they are too long


@dataclass(frozen=True)
class APGD:
    """Auto-PGD from one random start; eps (ε) in pixel units of [0,1].

    loss: "ce", cross-entropy; "dlr", the difference of logits ratio, which no scale of the logits flattens; "targeted", the
    same towards each of the `targets` most likely wrong classes in turn (below four classes: the margin z_t − z_y).
    """

    eps: float
    steps: int = 100
    loss: str = "ce"
    targets: int = 9

    def __post_init__(self):
        if not (self.eps >= 0 and self.steps >= 0 and self.targets >= 1):
            raise ValueError(f"an attack needs eps and steps of 0 or more and at least one target; got {self}")
        if self.loss not in ("ce", "dlr", "targeted"):
            raise ValueError(f"loss must be 'ce', 'dlr' or 'targeted', not {self.loss!r}")

    @property
    def name(self) -> str:
        return f"apgd-{self.loss}-{self.steps}@{budget_name(self.eps)}"

    @property
    def passes(self) -> int:
        """How often it looks at an image that stands to the end."""
        return self.steps * (self.targets if self.loss == "targeted" else 1)

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Adversarial images, like `images` (float [N,C,H,W] in [0,1]; labels int64 [N]), at most ε from them and in [0,1].

        A misclassified image comes back as it is, one that falls as what first fooled the model, one that stands as the point
        of highest loss.  The model is left as `frozen` leaves it.  Raises ValueError for "dlr" on fewer than three classes.
        """
        adversarial, highest = images.clone(), images.new_full((len(images), 1, 1, 1), -torch.inf)
        windows = {end: end - begin for begin, end in pairwise([0, *checkpoints(self.steps)])}
        with frozen(model):
            logits = model(images)
            objective, runs = choose(self.loss, logits, labels, self.targets)
            standing = (logits.argmax(1) == labels).nonzero().squeeze(1)
            for targets in runs:
                climb = Climb.start(standing, images, labels, targets, self.eps, generator)
                for step in range(self.steps + 1):
                    if not len(climb.index):
                        return adversarial
                    climb.move(MOMENTUM if step > 1 else 1.0)  # at step 0 the gradient is 0: a look at the start
                    fools = climb.look(model, objective)
                    if fools.any():
                        adversarial[climb.index[fools]] = climb.x[fools]
                        climb = climb.keep(~fools)
                    if step in windows:
                        climb.check(windows[step])
                standing = climb.index
                higher = climb.best_loss > highest[standing]
                highest[standing] = torch.where(higher, climb.best_loss, highest[standing])
                adversarial[standing] = torch.where(higher, climb.best, adversarial[standing])
        return adversarial


@dataclass
class Climb:
    """What Auto-PGD knows of the images that it still moves: [n], [n,C,H,W], or [n,1,1,1] for one number per image."""

    index: torch.Tensor  # their places in the whole batch
    labels: torch.Tensor
    targets: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    x: torch.Tensor
    before: torch.Tensor  # x one step ago
    gradient: torch.Tensor
    best: torch.Tensor  # the point of highest loss so far
    best_gradient: torch.Tensor
    step: torch.Tensor  # η
    loss: torch.Tensor
    best_loss: torch.Tensor
    checked: torch.Tensor  # the best loss at the last checkpoint; infinite where η was halved there
    rises: torch.Tensor  # steps since then that raised the loss

    @classmethod
    def start(cls, index, images, labels, targets, eps: float, generator: torch.Generator | None) -> Climb:
        images = images[index]
        low, high = bounds(images, eps)
        x = uniform(images, eps, generator).clamp(low, high)
        zero, lowest = torch.zeros_like(x), images.new_full((len(x), 1, 1, 1), -torch.inf)
        return cls(
            index=index, labels=labels[index], targets=targets[index], low=low, high=high,
            x=x, before=x, gradient=zero, best=x, best_gradient=zero, step=torch.full_like(lowest, 2 * eps),
            loss=-lowest, best_loss=lowest, checked=lowest, rises=torch.zeros_like(lowest),
        )  # fmt: skip

    def keep(self, chosen: torch.Tensor) -> Climb:
        return Climb(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def move(self, share: float) -> None:
        """x ← Π(x + α(Π(x + η·sign ∇) − x) + (1 − α)(x − x before))."""
        ascended = (self.x + self.step * self.gradient.sign()).clamp(self.low, self.high)
        moved = self.x + share * (ascended - self.x) + (1 - share) * (self.x - self.before)
        self.before, self.x = self.x, moved.clamp(self.low, self.high)

    def look(self, model: nn.Module, objective: Objective) -> torch.Tensor:
        """Loss and gradient at x; returns which images fool the model there."""
        with torch.enable_grad():
            x = self.x.detach().requires_grad_()
            logits = model(x).to(x.dtype)
            losses = objective(logits, self.labels, self.targets)
            (self.gradient,) = torch.autograd.grad(losses.sum(), x)
        loss = losses.detach().view(-1, 1, 1, 1)
        self.rises, self.loss = self.rises + (loss > self.loss), loss
        better = loss > self.best_loss
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.best = torch.where(better, self.x, self.best)
        self.best_gradient = torch.where(better, self.gradient, self.best_gradient)
        return logits.argmax(1) != self.labels

    def check(self, steps: int) -> None:
        """Halve η and go back to the best point where too few steps rose, or where, η unchanged, the best did not improve."""
        stuck = (self.rises < RISING * steps) | (self.best_loss == self.checked)
        self.step = torch.where(stuck, self.step / 2, self.step)
        self.x = torch.where(stuck, self.best, self.x)
        self.gradient = torch.where(stuck, self.best_gradient, self.gradient)
        self.loss = torch.where(stuck, self.best_loss, self.loss)
        self.checked, self.rises = self.best_loss.masked_fill(stuck, torch.inf), torch.zeros_like(self.rises)


def checkpoints(steps: int) -> list[int]:
    """w_j = ⌈p_j·steps⌉, after which the step may be halved: p_1 = 0.22, p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06)."""
    percent, distance, found = 0, 22, []
    while (percent := percent + distance) <= 100:
        found.append(-(-percent * steps // 100))
        distance = max(distance - 3, 6)
    return sorted(set(found))
