"""The prediction losses, one value an example, and the feature separation loss of Eq. 6."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from .weights import Counts

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (logits [N,C], labels [N]) → [N]

cross_entropy = partial(F.cross_entropy, reduction="none")


def focal(logits: torch.Tensor, labels: torch.Tensor, gamma: float = 1.0) -> torch.Tensor:
    """(1 − p_y)^γ · CE (Lin et al., 2017).  logits [N,C], labels int64 [N].  Returns [N].

    A class weight multiplies this value from outside; inside p it would suppress frequent classes twice.
    """
    ce = cross_entropy(logits, labels)
    wrong = -torch.expm1(-ce)  # 1 − p
    # At p = 1 a power below 1 has an infinite slope; the clamp's zero slope must come first, or their product is NaN.
    return wrong.clamp(min=torch.finfo(ce.dtype).tiny) ** gamma * ce


def ldam_margins(counts: Counts, max_margin: float = 0.5) -> torch.Tensor:
    """Margins Δ_j ∝ n_j^(−1/4), the largest being `max_margin` (Cao et al., 2019).  counts [C].  Returns float32 [C]."""
    margins = np.asarray(counts, dtype=np.float64) ** -0.25
    return torch.tensor(max_margin * margins / margins.max(), dtype=torch.float32)


def ldam(logits: torch.Tensor, labels: torch.Tensor, margins: torch.Tensor, scale: float = 30.0) -> torch.Tensor:
    """Cross-entropy after taking s·Δ_y off the true class's logit (Cao et al., 2019).  Returns [N].

    logits [N,C] = s·cos already carry the scale s of the model's cosine head.  margins [C] are in units of cosine.
    """
    true_class = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)
    margin = scale * margins.to(logits)[labels]
    return cross_entropy(logits - margin[:, None] * true_class, labels)


def feature_separation(
    features: torch.Tensor,
    labels: torch.Tensor,
    temperature: float = 0.1,
    *,
    lonely: str = "zero",
    others: torch.Tensor | None = None,
    other_labels: torch.Tensor | None = None,
) -> torch.Tensor:
    """L_sep of Eq. 6 on L2-normalised features, its mean over all anchors.  features [N,D], labels int64 [N].  Scalar.

    others [M,D], other_labels [M]: further features that every anchor is compared with and that are no anchors themselves: a
    queue of earlier ones, or a centre a class.  An anchor alone in its class, P(i) = ∅, adds 0 and still counts in the mean; lonely="drop" leaves it out of the mean.
    Computed in float32 whatever the features are, because exp(1/τ) overflows half precision.
    """
    if lonely not in ("zero", "drop"):
        raise ValueError(f"lonely must be 'zero' or 'drop', not {lonely!r}")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    with torch.autocast(features.device.type, enabled=False):
        z = F.normalize(features.float())
        all_z, all_labels = z, labels
        if others is not None:
            all_z, all_labels = torch.cat([z, F.normalize(others.float())]), torch.cat([labels, other_labels])
        itself = torch.eye(len(z), len(all_z), dtype=torch.bool, device=z.device)
        positives = (labels[:, None] == all_labels[None, :]) & ~itself
        similarity = z @ all_z.T / temperature
        # With one image and no others A(i) is empty; logsumexp over nothing but −inf has a NaN gradient.
        if len(all_z) > 1:
            similarity = similarity.masked_fill(itself, -torch.inf)
            log_probability = similarity - torch.logsumexp(similarity, dim=1, keepdim=True)
        else:
            log_probability = 0 * similarity
        number = positives.sum(1)
        per_anchor = -torch.where(positives, log_probability, 0).sum(1) / number.clamp(min=1)
        return per_anchor.sum() / (len(z) if lonely == "zero" else (number > 0).sum().clamp(min=1))


def class_means(each: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """The mean of a loss [N] over the images of each class that is there, in the order of the classes.  Returns [≤ classes]."""
    sums = torch.zeros(classes, dtype=each.dtype, device=each.device).index_add(0, labels, each)
    number = torch.bincount(labels, minlength=classes)
    return sums[number > 0] / number[number > 0]


def has_positive(labels: torch.Tensor) -> torch.Tensor:
    """Which anchors have a positive in their batch, P(i) ≠ ∅.  labels [N].  Returns bool [N]."""
    return (labels[:, None] == labels[None, :]).sum(1) > 1
