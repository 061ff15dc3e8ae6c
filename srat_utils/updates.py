"""From a batch to new weights: the plain step, and steps that look at the loss around the weights first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import nn

from .records import Record, at_least
from .terms import Batch


@dataclass(frozen=True)
class Plain(Record):
    """The gradient is taken at the weights themselves."""

    @contextmanager
    def __call__(self, objective: Callable, batch: Batch) -> Iterator[Batch]:
        yield batch


@dataclass(frozen=True)
class AWP(Record):
    """Adversarial weight perturbation (Wu et al., 2020): the gradient is taken where the loss is worse.

    Every weight matrix W moves by γ‖W‖/‖g‖·g, g its gradient of the objective; after the step the same is taken off again.
    Norms and biases stay.  The look ahead leaves batch-norm statistics and the memories of terms as they were.
    """

    awp_gamma: float = at_least(0, 0.005)  # γ

    @contextmanager
    def __call__(self, objective: nn.Module, batch: Batch) -> Iterator[Batch]:
        matrices = [p for p in batch.model.parameters() if p.ndim > 1]
        with kept(batch.model, objective):
            loss = sum(objective(replace(batch)).values())
            gradients = torch.autograd.grad(loss, matrices, allow_unused=True)
        shifts = [
            torch.zeros_like(p) if g is None else self.awp_gamma * p.detach().norm() / (g.norm() + 1e-12) * g
            for p, g in zip(matrices, gradients, strict=True)
        ]
        with torch.no_grad():
            torch._foreach_add_(matrices, shifts)
        try:
            yield batch
        finally:
            with torch.no_grad():
                torch._foreach_sub_(matrices, shifts)


@contextmanager
def kept(*modules: nn.Module) -> Iterator[None]:
    """All buffers of the modules are what they were, afterwards."""
    before = [(buffer, deepcopy(buffer)) for module in modules for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, old in before:
            buffer.copy_(old)
