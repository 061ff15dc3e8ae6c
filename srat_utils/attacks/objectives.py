"""What the strong attacks climb: functions of logits [N,C], labels [N] and target classes [N] that give one value per image."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
FLAT = 1e-12  # a model whose logits are equal in float32 has a ratio of 0, not of 0/0


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """−log p_y; the target plays no part."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """z_t − z_y."""
    return (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)


def largest_margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """max_{c≠y} z_c − z_y, [N]."""
    return margin(logits, labels, likely_wrong(logits, labels, 1)[:, 0])


def dlr(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Difference of logits ratio (max_{i≠y} z_i − z_y) / (z_π1 − z_π3), z_π1 ≥ z_π2 ≥ …; the target plays no part."""
    first, _, third = logits.topk(3).values.unbind(1)
    return largest_margin(logits, labels) / (first - third + FLAT)


def targeted_dlr(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(z_t − z_y) / (z_π1 − (z_π3 + z_π4)/2)."""
    first, _, third, fourth = logits.topk(4).values.unbind(1)
    return margin(logits, labels, targets) / (first - (third + fourth) / 2 + FLAT)


def likely_wrong(logits: torch.Tensor, labels: torch.Tensor, number: int) -> torch.Tensor:
    """The most likely wrong classes [N,number], the likeliest first."""
    return logits.scatter(1, labels[:, None], -torch.inf).topk(number).indices


def choose(loss: str, logits: torch.Tensor, labels: torch.Tensor, targets: int) -> tuple[Objective, list[torch.Tensor]]:
    """The objective of "ce", "dlr" or "targeted", and the target classes [N] of each run; clean logits decide."""
    classes = logits.shape[1]
    if loss == "targeted":
        wrong = likely_wrong(logits, labels, min(targets, classes - 1))
        return targeted_dlr if classes >= 4 else margin, list(wrong.T)
    if loss == "dlr" and classes < 3:
        raise ValueError(f"the DLR loss needs three classes and the model has {classes}: take loss='targeted' or 'ce'")
    return {"ce": cross_entropy, "dlr": dlr}[loss], [labels]
