"""What the adversary climbs in training: a loss, and the target that it compares the logits with.

With sign steps, every loss that decreases in p_y alone gives the same adversarial images; a prior in the softmax, another logit
scale or another target gives others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .attacks import frozen
from .losses import Loss, cross_entropy
from .models import Classifier
from .records import ConfigError
from .terms import Facts, Prediction

# (model, x, y) → (loss(logits, target) → [n], target [n, …])
Inner = Callable[[Classifier, torch.Tensor, torch.Tensor], tuple[Loss, torch.Tensor]]


def on_labels(first: Prediction, facts: Facts) -> Inner:
    """Cross-entropy of the logits with the labels (Madry et al., 2018)."""
    return lambda model, x, y: (cross_entropy, y)


def on_own_loss(first: Prediction, facts: Facts) -> Inner:
    """The method's own prediction loss, Eq. 5 to the letter."""
    loss = first.each(facts)
    return lambda model, x, y: (loss, y)


def on_clean_output(first: Prediction, facts: Facts) -> Inner:
    """KL(p(x) ‖ p(x′)): away from what the network says of the clean image (TRADES)."""

    def inner(model: Classifier, x: torch.Tensor, y: torch.Tensor) -> tuple[Loss, torch.Tensor]:
        with torch.no_grad(), frozen(model):
            clean = model(x).softmax(1)
        return lambda logits, clean: F.kl_div(logits.log_softmax(1), clean, reduction="none").sum(1), clean

    return inner


INNER = {"cross-entropy": on_labels, "method": on_own_loss, "clean output": on_clean_output}


def inner_named(name: str) -> Callable[[Prediction, Facts], Inner]:
    """ConfigError for one of one's own that this process, a worker of `sweep`, was never told of."""
    if name not in INNER:
        raise ConfigError(
            f"this process knows no inner loss {name!r}; put it into INNER in a module that your method imports, or call sweep with jobs=1"
        )
    return INNER[name]
