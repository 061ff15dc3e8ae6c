"""Notebook 09: the later methods in one table, and pictures of what they choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy import stats

from ..budgets import Rarity
from ..config import Config
from ..devices import cpu_threads, resolve_device
from ..images import ImageDataset, under_represented
from ..methods import METHODS, Method
from ..models import Classifier
from ..terms import Consistency, Separation
from ..training import Job, State, step
from ..updates import Plain
from .plots import COLOURS, GROUP_NAMES, KIND_NAMES, MARKERS, STYLES, Picture, class_bars, dress, grid

CLIMBS = {"cross-entropy": "CE", "method": "its own loss", "clean output": "KL from p(x)"}


def choices(methods: Mapping[str, Method] = METHODS) -> pd.DataFrame:
    """One row per method, one column per choice; a dash where it takes what plain adversarial training takes."""

    def row(method: Method) -> dict[str, str]:
        first, *rest = method.terms
        separation = [str(term) for term in rest if isinstance(term, Separation)]
        consistency = [f"{term.kl_weight:g}·KL" for term in rest if isinstance(term, Consistency)]
        others = [str(term) for term in rest if not isinstance(term, (Separation, Consistency))]
        return {
            "loss": type(first).__name__ + (" of x" if first.view == "clean" else ""),
            "prior τ": f"{first.tau:g}" if hasattr(first, "tau") else "–",
            "beside it": " + ".join(consistency + separation + others) or "–",
            "attack climbs": "–" if method.inner == "cross-entropy" else CLIMBS[method.inner],
            "class weights": "–" if method.weighting is None else type(method.weighting).__name__.lower(),
            "batches": "–" if method.sampler == "shuffled" else method.sampler,
            "ε": "–"
            if method.budget is None
            else "by rarity"
            if isinstance(method.budget, Rarity)
            else "by difficulty",
            "step": "–" if isinstance(method.update, Plain) else str(method.update),
        }

    return pd.DataFrame.from_dict({name: row(method) for name, method in methods.items()}, orient="index")


def in_double(config: Config, dataset: ImageDataset, bias: torch.Tensor | float, batches: int = 4) -> Classifier:
    """The network after a few steps of a method in float64, where rounding hides nothing, from a bias of its head moved by `bias`.

    Weight decay is left out: it pulls the bias back.
    """
    config = config.replace(weight_decay=0.0, attack_steps=3)
    state = State.fresh(config, dataset, resolve_device(config.device))
    state.model.double()
    with torch.no_grad():
        state.model.head.bias += bias
    x, y = dataset.tensors(state.model.device)
    job = Job.of(config, state)
    with cpu_threads(config.model, config.threads):
        for _ in range(batches):
            some = torch.randperm(len(y), generator=state.order)[:32].to(y.device)
            step(
                job, state, x[some].double() / 255, y[some], torch.ones(len(dataset.classes), device=y.device).double()
            )
    return state.model.eval()


def passes(config: Config, dataset: ImageDataset) -> int:
    """How often the network looks at a training image in one step of a config's training, the attack's looks included.

    Counted, not timed: it does not depend on the machine, nor on what else it is doing.
    """
    state = State.fresh(config, dataset, torch.device("cpu"))
    job = Job.of(config, state).in_epoch(config, config.epochs - 1)
    x, y = (part[:8] for part in dataset.tensors(torch.device("cpu")))
    looks = []
    state.model.body.register_forward_hook(lambda body, images, features: looks.append(len(features)))
    with cpu_threads(config.model, config.threads):
        step(job, state, x.float() / 255, y, torch.ones(len(dataset.classes)))
    return sum(looks) // len(x)


def along_tau(accuracy: pd.DataFrame, mark: float, title: str) -> Picture:
    """Accuracies against τ, one value marked.  accuracy: index τ, columns (group "well" or "under", kind), percent."""
    figure, axes = grid(1, 1, 8, 3.4)
    axis, said = axes[0, 0], []
    for (group, kind), values in accuracy.items():
        name = f"{GROUP_NAMES[group]}, {KIND_NAMES[kind]}"
        axis.plot(values.index, values, STYLES[kind], color=COLOURS[group], marker=MARKERS[group], label=name)
        said.append(f"{name} {values[mark]:.0f} %")
    axis.axvline(mark, color="#444444", linestyle=":", linewidth=1)
    dress(axis, title=f"{title}, τ = {mark:g}", x="τ of the prior that is taken off", y="accuracy (%)")
    axis.set_ylim(-3, 103)
    figure.legend(loc="outside right center", frameon=False)
    return Picture(figure, f"{title}, τ = {mark:g}: {'; '.join(said)}.")


def chance_of_positive(counts: Sequence[int], others: int) -> np.ndarray:
    """The chance that an anchor of each class finds another image of its class among `others` drawn from the rest, [C]."""
    counts = np.asarray(counts)
    drawn = min(others, counts.sum() - 1)
    return stats.hypergeom.sf(0, counts.sum() - 1, counts - 1, drawn)


def positives(sets: Mapping[str, tuple[Sequence[int], int]], queue: int) -> Picture:
    """Share of anchors with a positive in their batch and a queue.  sets: title of a panel → (counts [C], batch size)."""
    shares = {name: 100 * chance_of_positive(n, batch - 1 + queue) for name, (n, batch) in sets.items()}
    under = {name: under_represented(list(n)) for name, (n, _) in sets.items()}
    return class_bars(shares, under, y="anchors with a positive (%)", title=f"queue of {queue}", top=100)


def budgets(
    size: Mapping[str, Sequence[float]], counts: Mapping[str, Sequence[int]], test: float, unit: str, title: str
) -> Picture:
    """ε of each class, a panel for each training set.  size: name → ε_c/ε.  test: ε of the test, in `unit`, which the axis names."""
    own = {name: test * np.asarray(s) for name, s in size.items()}
    under = {name: under_represented(list(counts[name])) for name in size}
    highest = max(map(max, own.values()))
    return class_bars(own, under, y=f"ε in training ({unit})", title=title, line=(test, "ε of the test"), top=highest)
