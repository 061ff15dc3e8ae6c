"""Notebook 08: networks that only look robust, and pictures of what gives them away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import pandas as pd
import torch
from torch import nn

from ..models import Classifier, ConvNorm
from .plots import UNDER, WELL, Picture, dress, grid


class Twisted(nn.Module):
    """A network, and what is done to its logits."""

    def __init__(self, model: nn.Module, twist: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.model, self.twist = model, twist

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.twist(self.model(images))


def scaled(model: nn.Module, factor: float) -> Twisted:
    """The same answers from logits that are so many times as large."""
    return Twisted(model, lambda logits: factor * logits)


def with_batch_statistics(model: Classifier) -> Classifier:
    """A copy whose batch norms always use the statistics of the batch at hand, as those of a model left in train mode do."""
    copy = deepcopy(model)
    for parent in list(copy.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, ConvNorm):
                conv, norm = layer[0], layer[1]
                loose = nn.BatchNorm2d(norm.num_features, norm.eps, track_running_stats=False)
                loose.load_state_dict({"weight": norm.weight, "bias": norm.bias})
                setattr(parent, name, nn.Sequential(conv, loose.to(norm.weight.device)))
    return copy


def curves(table: pd.DataFrame, title: str, *, x: str, mark: float | None = None, logarithmic: bool = False) -> Picture:
    """Accuracies in percent, a line a column, against the index; one value of the index marked."""
    figure, axes = grid(1, 1, 8, 3.4)
    axis, said = axes[0, 0], []
    for (name, values), style, colour in zip(
        table.items(),
        ("o-", "^--", "s-.", "D:", "v-", "P--"),
        (WELL, UNDER, "#009E73", "#CC79A7", "black", "#999999"),
        strict=False,
    ):
        axis.plot(table.index, values, style, color=colour, label=name, markersize=5)
        said.append(
            f"{name}: " + (f"{values[mark]:.0f} %" if mark is not None else ", ".join(f"{v:.0f}" for v in values))
        )
    if mark is not None:
        axis.axvline(mark, color="#444444", linestyle=":", linewidth=1)
    if logarithmic:
        axis.set_xscale("log")
    dress(axis, title=title if mark is None else f"{title}, at {mark:g}", x=x, y="accuracy (%)")
    axis.set_ylim(-3, 103)
    figure.legend(loc="outside right center", frameon=False)
    return Picture(figure, f"{title}{'' if mark is None else f' at {mark:g}'}. {'; '.join(said)}.")


def ladder(standing: Mapping[str, Mapping[str, float]], title: str) -> Picture:
    """What is left standing as one attack after the other is added.  standing: network → {attack: percent}."""
    table = pd.DataFrame(standing)
    figure, axes = grid(1, 1, 8.5, 3.6)
    axis = axes[0, 0]
    for (name, values), style, colour in zip(
        table.items(), ("o-", "^--", "s-.", "D:"), (WELL, UNDER, "#009E73", "#CC79A7"), strict=False
    ):
        axis.plot(range(len(table)), values, style, color=colour, label=name)
    axis.set_xticks(range(len(table)), table.index, rotation=25, ha="right")
    dress(axis, title=title, y="accuracy still standing (%)")
    axis.set_ylim(0, None)
    figure.legend(loc="outside right center", frameon=False)
    ends = "; ".join(f"{name} from {v.iloc[0]:.0f} to {v.iloc[-1]:.0f} %" for name, v in table.items())
    return Picture(figure, f"{title}: accuracy falls with every attack that is added. {ends}.")


def rank_change(before: pd.Series, after: pd.Series, names: Sequence[str], title: str = "") -> Picture:
    """Accuracy of methods under a weak and a strong attack, a line a method; crossing lines change places."""
    figure, axes = grid(1, 1, 7, 1.4 + 0.34 * len(before))
    axis = axes[0, 0]
    places = [_apart(values.sort_values()) for values in (before, after)]
    for method in before.index:
        axis.plot([0, 1], [before[method], after[method]], "o-", color=UNDER if "LDAM" in method else WELL, alpha=0.8)
        for side, values, place, align in ((0, before, places[0], "right"), (1, after, places[1], "left")):
            axis.text(
                side + (0.03 if side else -0.03), place[method], f"{method} {values[method]:.1f}", ha=align, va="center",
                fontsize=8,
            )  # fmt: skip
    axis.set(xlim=(-0.6, 1.6), xticks=[0, 1], xticklabels=names)
    dress(axis, title=title, y="accuracy (%)")
    moved = (before.rank(ascending=False) != after.rank(ascending=False)).sum()
    said = ", ".join(f"{method} {before[method]:.1f} to {after[method]:.1f}" for method in before.index)
    return Picture(
        figure, f"{title}: {names[0]} to {names[1]}, {moved} of {len(before)} methods change places. {said}."
    )


def _apart(values: pd.Series) -> pd.Series:
    """Where names stand so that neighbours do not cover each other.  values: rising."""
    step = (values.max() - values.min() or 1) / max(1, len(values)) * 0.9
    places = values.copy()
    for one, other in zip(values.index, values.index[1:], strict=False):
        places[other] = max(places[other], places[one] + step)
    return places - (places - values).mean()
