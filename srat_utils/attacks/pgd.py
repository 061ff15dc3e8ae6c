"""Projected gradient descent in the ℓ∞ ball: the inner maximum of Eq. 5."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from ..losses import Loss
from ..models import folded, in_mode


def budget_name(eps: float) -> str:
    """ε as people write it: "0.2", "8/255", else four significant digits."""
    short = f"{eps:.4g}"
    if not math.isclose(float(short), eps, rel_tol=1e-6):
        levels = round(eps * 255)
        if levels and math.isclose(levels, eps * 255, rel_tol=1e-6):
            return f"{levels}/255"
    return short


def bounds(images: torch.Tensor, eps: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowest and highest pixel values allowed: the ε-ball around the images, cut to [0,1]."""
    return (images - eps).clamp(min=0), (images + eps).clamp(max=1)


def uniform(images: torch.Tensor, eps: float | torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """A point of the ε-ball around each image, not yet cut to [0,1]."""
    noise = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return images + eps * (2 * noise - 1)


@dataclass(frozen=True)
class PGD:
    """An ℓ∞ budget and how to spend it; eps (ε) and step in pixel units of [0,1].

    start: "uniform" in the ε-ball (Madry et al., 2018) or "zero" (at the image itself).
    Called as `attack(model, images, labels, generator=…)` it is `pgd` on cross-entropy.
    """

    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10
    start: str = "uniform"

    def __post_init__(self):
        if not (self.eps >= 0 and self.step >= 0 and self.steps >= 0):
            raise ValueError(f"an attack needs eps, step and steps of 0 or more; got {self}")
        if self.start not in ("uniform", "zero"):
            raise ValueError(f"start must be 'uniform' or 'zero', not {self.start!r}")

    @property
    def name(self) -> str:
        return f"pgd-{self.steps}@{budget_name(self.eps)}"

    @property
    def passes(self) -> int:
        """How often it looks at an image."""
        return self.steps

    def scaled(self, factor: float) -> PGD:
        """The same attack with ε and step multiplied: a warm-up of the budget."""
        return replace(self, eps=self.eps * factor, step=self.step * factor)

    def __call__(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        return pgd(model, images, labels, self, generator=generator)


@contextmanager
def frozen(model: nn.Module, *, training: bool = False) -> Iterator[nn.Module]:
    """The model in eval mode, batch norms folded, its parameters without gradients; everything is put back afterwards.

    For one thread at a time: two on one model would put back each other's state.
    training=True attacks in train mode instead, as some libraries do: batch norm then uses and updates batch statistics.
    """
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.requires_grad_(False)
        with in_mode(model, training=training), nullcontext() if training else folded(model):
            yield model
    finally:
        for parameter, flag in wanted.items():
            parameter.requires_grad = flag


def ascend(loss: Loss, model: nn.Module, images: torch.Tensor, target: torch.Tensor, step: float) -> torch.Tensor:
    """One step of size `step` along the sign of the gradient of `loss` with respect to the images, and to nothing else."""
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(model(images), target).sum(), images)
    return images.detach() + step * gradient.sign()


@torch.enable_grad()
def pgd(
    model: nn.Module,
    images: torch.Tensor,
    target: torch.Tensor,
    attack: PGD,
    *,
    loss: Loss = F.cross_entropy,
    eps: float | torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    training: bool = False,
) -> torch.Tensor:
    """Projected gradient ascent on `loss` inside the ℓ∞ ball (Madry et al., 2018).

    images: float [N,C,H,W] in [0,1].  target: what `loss` compares the logits with; class labels int64 [N] unless the loss says
    otherwise.  Returns a tensor like `images`, at most ε from it and in [0,1].
    eps: another ε than the attack's, a number or one per image, [N]; the step changes in proportion.  ValueError for an ε of
    another shape, or a number below 0 (the values of a tensor are not looked at: that would wait for the device).
    The model is attacked in eval mode (see `frozen` for `training`), and each module's mode is restored.
    Only gradients of the images are computed: no parameter ever holds one of the attack's.
    """
    images = images.detach()
    eps, step = (attack.eps, attack.step) if eps is None else budgets(images, attack, eps)
    with frozen(model, training=training):
        low, high = bounds(images, eps)
        adversarial = images.clone() if attack.start == "zero" else uniform(images, eps, generator)
        adversarial = adversarial.clamp(low, high)
        for _ in range(attack.steps):
            adversarial = ascend(loss, model, adversarial, target, step).clamp(low, high)
        return adversarial


def budgets(
    images: torch.Tensor, attack: PGD, eps: float | torch.Tensor
) -> tuple[float | torch.Tensor, float | torch.Tensor]:
    """A given ε, a number or one per image, and the attack's step in proportion, ready to be added to the images.

    An attack of ε = 0 has no proportion: its step is taken as it is.
    """
    if isinstance(eps, torch.Tensor) and eps.dim():
        if eps.shape != images.shape[:1]:
            raise ValueError(f"eps must be a number or one per image, [{len(images)}], not of shape {list(eps.shape)}")
        eps = eps.to(images).view(-1, *[1] * (images.dim() - 1))
    elif not eps >= 0:
        raise ValueError(f"eps must be 0 or more, not {eps}")
    return eps, attack.step * (eps / attack.eps) if attack.eps else attack.step
