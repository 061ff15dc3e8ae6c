"""Notebook 09: the later methods in one table, and pictures of what they choose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from .. import effects
from ..budgets import Rarity
from ..config import Config
from ..evaluation import PAPER, STRONG, Protocol
from ..images import ImageDataset, under_represented
from ..methods import METHODS, Method
from ..models import Classifier, cpu_threads
from ..runs import Run
from ..terms import Consistency, Separation
from ..training import Job, State, resolve_device, step, training_facts
from ..updates import Plain
from . import results
from .plots import COLOURS, GROUP_HATCHES, GROUP_NAMES, KIND_NAMES, MARKERS, STYLES, Picture, dress, grid, group_legend

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
    x, y = dataset.tensors(state.model.head.weight.device)
    job = Job.of(config, state, training_facts(config, dataset, state.model))
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
    job = Job.of(config, state, training_facts(config, dataset, state.model)).in_epoch(config, config.epochs - 1)
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
    counts = {name: n for name, (n, _) in sets.items()}
    return bars(shares, counts, f"queue of {queue}", "anchors with a positive (%)", 100)


def budgets(
    size: Mapping[str, Sequence[float]], counts: Mapping[str, Sequence[int]], unit: float, title: str
) -> Picture:
    """ε of each class, a panel for each training set.  size: name → ε_c/ε.  unit: what ε is, in the unit of the axis."""
    return bars({name: unit * np.asarray(s) for name, s in size.items()}, counts, title, "ε in training", None, unit)


def bars(
    values: Mapping[str, np.ndarray], counts: Mapping[str, Sequence[int]], title: str, y: str, top: float | None,
    line: float | None = None,
) -> Picture:  # fmt: skip
    figure, axes = grid(1, len(values), 1 + 3.2 * len(values), 3.2)
    said = []
    for axis, (name, heights) in zip(axes.flat, values.items(), strict=True):
        groups = ["under" if rare else "well" for rare in under_represented(list(counts[name]))]
        drawn = axis.bar(
            range(len(heights)), heights, color=[COLOURS[g] for g in groups], edgecolor="white",
            hatch=[GROUP_HATCHES[g] for g in groups],
        )  # fmt: skip
        axis.bar_label(drawn, fmt="%.3g", fontsize=7, padding=2)
        if line is not None:
            axis.axhline(line, color="#444444", linestyle=":", linewidth=1)
        dress(axis, title=name, x="class", y=y)
        axis.set_xticks(range(len(heights)))
        axis.set_ylim(0, 1.12 * (top or heights.max()))
        said.append(f"{name}: {', '.join(f'{v:.3g}' for v in heights)}")
    figure.suptitle(title)
    group_legend(figure)
    return Picture(figure, f"{y}, {title}. {'; '.join(said)}.")


def at_hand(configs: Iterable[Config], few: Sequence[str], folder: Path | None = None) -> list[Config]:
    """Those of the seeds that are stored for every config; where none is, the first seed of a few methods, to be trained here."""
    configs = list(configs)
    kept = results.read(results.stage_of(configs[0]), folder)
    missing = {config.seed for config in configs if config.fingerprint not in kept}
    stored = [config for config in configs if config.seed not in missing]
    return stored or [c for c in configs if c.seed == configs[0].seed and c.method in few]


def prior_off(configs: Iterable[Config], tau: float = 1.0) -> list[Run]:
    """Stored runs of the configs as they are with a post-hoc prior: their outcomes under PAPER and STRONG are those of `adjusted(tau)`."""
    protocols = {each.name: each.adjusted(tau) for each in (PAPER, STRONG)}
    return [
        replace(run, said={name: run.outcomes(own) for name, own in protocols.items()})
        for run in results.stored(configs, protocols=tuple(protocols.values()))
    ]


def against(
    runs: Iterable[Run] | Mapping[str, list[Run]],
    rivals: Sequence[str],
    measure: str = "under",
    kind: str = "robust",
    protocol: Protocol = STRONG,
) -> pd.DataFrame:
    """How many points each method is above each of some rivals, with verdicts: `effects.judge`'s frame.  runs: or name → runs."""
    by_method = of_methods(runs)
    compared = {
        f"{name} − {rival}": effects.difference(own, by_method[rival], measure, kind, protocol)
        for rival in rivals
        for name, own in by_method.items()
        if name != rival and rival in by_method
    }
    return effects.judge(compared)


def above_every(
    runs: Iterable[Run] | Mapping[str, list[Run]],
    name: str,
    measure: str = "under",
    kind: str = "robust",
    protocol: Protocol = STRONG,
) -> effects.Effect:
    """How many points a method is above the best of all others, corrected for the choice of that one."""
    by_method = of_methods(runs)
    ours = by_method.pop(name)
    return effects.above_best(
        [effects.difference(ours, theirs, measure, kind, protocol) for theirs in by_method.values()]
    )


def of_methods(runs: Iterable[Run] | Mapping[str, list[Run]]) -> dict[str, list[Run]]:
    """Method → its runs; what has names already keeps them."""
    if isinstance(runs, Mapping):
        return dict(runs)
    by_method: dict[str, list[Run]] = {}
    for run in runs:
        by_method.setdefault(run.config.method, []).append(run)
    return by_method
