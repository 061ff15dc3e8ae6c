"""The eleven methods of Tables 1–4, one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from . import losses
from .weights import Counts

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Method:
    """loss: "CE", "Focal" or "LDAM".  weighting: "none", "always", or "deferred".  separation: whether λ·L_sep is added."""

    name: str
    loss: str
    weighting: str = "none"
    separation: bool = False


METHODS = {
    method.name: method
    for method in (
        Method("CE", "CE"),
        Method("Focal", "Focal"),
        Method("LDAM", "LDAM"),
        Method("CB-Reweight", "CE", "always"),
        Method("CB-Focal", "Focal", "always"),
        Method("DRCB-CE", "CE", "deferred"),
        Method("DRCB-Focal", "Focal", "deferred"),
        Method("DRCB-LDAM", "LDAM", "deferred"),
        Method("SRAT-CE", "CE", "deferred", separation=True),
        Method("SRAT-Focal", "Focal", "deferred", separation=True),
        Method("SRAT-LDAM", "LDAM", "deferred", separation=True),
    )
}


def prediction_loss(
    loss: str,
    counts: Counts,
    *,
    gamma: float = 1.0,
    max_margin: float = 0.5,
    scale: float = 30.0,
    cosines: bool = False,
    device: torch.device | None = None,
) -> Loss:
    """The function (logits [N,C], labels [N]) → loss [N] that a method trains on, before any class weight.

    cosines: for LDAM, whether the logits are bare cosines that the loss has to scale.
    """
    if loss == "CE":
        return losses.cross_entropy
    if loss == "Focal":
        return partial(losses.focal, gamma=gamma)
    ldam = partial(losses.ldam, margins=losses.ldam_margins(counts, max_margin).to(device), scale=scale)
    return (lambda logits, labels: ldam(scale * logits, labels)) if cosines else ldam
