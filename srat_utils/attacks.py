"""Projected gradient descent in the ℓ∞ ball: the inner maximum of Eq. 5."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from .models import folded

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Attack:
    """An ℓ∞ budget and how to spend it; eps (ε) and step in pixel units of [0,1].

    start: "uniform" in the ε-ball (Madry et al., 2018) or "zero" (at the image itself).
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
        return f"pgd-{self.steps}"

    def scaled(self, factor: float) -> Attack:
        """The same attack with ε and step multiplied: a warm-up of the budget."""
        return replace(self, eps=self.eps * factor, step=self.step * factor)

    def bounds(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Lowest and highest pixel values allowed: the ε-ball around the images, cut to [0,1]."""
        return (images - self.eps).clamp(min=0), (images + self.eps).clamp(max=1)

    def starting_point(self, images: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        if self.start == "zero":
            return images.clone()
        noise = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        return images + self.eps * (2 * noise - 1)


@contextmanager
def frozen(model: nn.Module, *, training: bool = False) -> Iterator[nn.Module]:
    """The model in eval mode, batch norms folded, its parameters without gradients; everything is put back afterwards.

    training=True attacks in train mode instead, as some libraries do: batch norm then uses and updates batch statistics.
    """
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.train(training).requires_grad_(False)
        with nullcontext() if training else folded(model):
            yield model
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, flag in wanted.items():
            parameter.requires_grad = flag


def ascend(loss: Loss, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, step: float) -> torch.Tensor:
    """One step of size `step` along the sign of the gradient of `loss` with respect to the images, and to nothing else."""
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(model(images), labels).sum(), images)
    return images.detach() + step * gradient.sign()


@torch.enable_grad()
def pgd(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    attack: Attack,
    *,
    loss: Loss = F.cross_entropy,
    generator: torch.Generator | None = None,
    training: bool = False,
) -> torch.Tensor:
    """Projected gradient ascent on `loss` inside the ℓ∞ ball (Madry et al., 2018).

    images: float [N,C,H,W] in [0,1].  labels: int64 [N].  Returns a tensor like `images`, at most `attack.eps` from it and in [0,1].
    The model is attacked in eval mode (see `frozen` for `training`), and each module's mode is restored.
    Only gradients of the images are computed: no parameter ever holds one of the attack's.
    """
    images = images.detach()
    with frozen(model, training=training):
        low, high = attack.bounds(images)
        adversarial = attack.starting_point(images, generator).clamp(low, high)
        for _ in range(attack.steps):
            adversarial = ascend(loss, model, adversarial, labels, attack.step).clamp(low, high)
        return adversarial
