"""Networks with a planted failure: what notebook 08 exposes, and three whose failure its readers find.

Each is made from a sound network, gets nearly the same clean images right, and seems more robust than it is, or random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import NamedTuple

import pandas as pd
import torch
from torch import nn

from .. import checks
from ..attacks import PGD, frozen
from ..images import nearest
from ..models import ConvNorm


class Twisted(nn.Module):
    """A network, and what is done to its logits.  twist: logits [N,C] → logits [N,C]."""

    def __init__(self, network: nn.Module, twist: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.network, self.twist = network, twist

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.twist(self.network(x))


def scaled(network: nn.Module, factor: float) -> Twisted:
    """The same answers from logits that are so many times as large."""
    return Twisted(network, lambda logits: factor * logits)


class Rounded(nn.Module):
    """Pixels in [0,1] rounded to so many equal steps: a change of the input that has no gradient."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.steps * x).round() / self.steps


class Misled(nn.Module):
    """A network's logits with the gradient of a random linear map."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.network(x)
        generator = torch.Generator().manual_seed(0)
        wrong = x.flatten(1) @ torch.randn(x[0].numel(), logits.shape[1], generator=generator).to(x)
        return logits.detach() + (wrong - wrong.detach())


def with_batch_statistics(network: nn.Module) -> nn.Module:
    """A copy whose batch norms always use the statistics of the batch at hand, as those of a model left in train mode do."""
    copy = deepcopy(network)
    for parent in list(copy.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, ConvNorm):
                conv, norm = layer[0], layer[1]
                loose = nn.BatchNorm2d(norm.num_features, norm.eps, track_running_stats=False)
                loose.load_state_dict({"weight": norm.weight, "bias": norm.bias})
                setattr(parent, name, nn.Sequential(conv, loose.to(norm.weight.device)))
    return copy


def noisy(network: nn.Module) -> nn.Module:
    """A network whose logits get noise, a fiftieth of their spread, anew at each pass."""
    generator = torch.Generator().manual_seed(0)

    def twist(logits: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(logits.shape, generator=generator).to(logits)
        return logits + 0.02 * logits.detach().std() * noise

    return Twisted(network, twist)


def exposed(
    suspects: Mapping[str, tuple[nn.Module, PGD]],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    size: int = checks.SAMPLE,
) -> pd.DataFrame:
    """One row per suspect, a network and the attack it was tried under: accuracy in percent as reported, and the checks that fail.

    images: float [N,C,H,W] in [0,1].  labels: int64 [N].  size: how many of them the checks look at.
    """
    rows = {}
    for name, (network, attack) in suspects.items():
        noise = torch.Generator(images.device).manual_seed(0)
        adversarial = attack(network, images, labels, generator=noise)
        with torch.no_grad(), frozen(network):
            right = network(adversarial).argmax(1) == labels
        failed = [one for one in checks.run(network, images, labels, attack, size=size) if one.ok is False]
        seen = {"fails": ", ".join(one.name for one in failed), "seen": "; ".join(one.seen for one in failed)}
        rows[name] = {"reported (%)": round(100 * float(right.double().mean()), 1)} | seen
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("planted")


class Mystery(NamedTuple):
    """plant: sound network → network.  check: the one of `checks.run` that names the cause; others may fail with it."""

    plant: Callable[[nn.Module], nn.Module]
    check: str
    hint: str


MYSTERIES = {
    "A": Mystery(noisy, "random network", "show it the same images twice"),
    "B": Mystery(
        lambda network: nn.Sequential(Rounded(4), network), "zero gradients", "look at its gradient at an image"
    ),
    "C": Mystery(Misled, "random search", "it has a gradient; ask what is found without one"),
}


def mystery(letter: str, network: nn.Module) -> nn.Module:
    """The network with one of three failures, "A", "B" or "C"."""
    if letter not in MYSTERIES:
        raise ValueError(f"there is no mystery {letter!r}; {nearest(letter, MYSTERIES)}")
    return MYSTERIES[letter].plant(network)
