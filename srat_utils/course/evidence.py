"""How a claim is measured: the runs of its sides, of one stage, and the difference between them.

Every difference is taken so that it is positive where the paper says that something rises, or is above something else.
Where the paper says that nothing happens, the difference is the change that should not be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import pandas as pd

from .. import effects
from ..config import Config
from ..effects import Effect
from ..evaluation import Protocol
from ..runs import Run
from . import stages

EVERY, EXTREME, PAIRS = "every set", "the larger ratio", "every pair"


@dataclass(frozen=True)
class Stage:
    """One data set with one schedule on which claims are judged.

    base: the settings that all its runs share.  stored: fingerprint → run.  seeds: those to look for; None: all that are stored.
    features: fingerprint → measures of separability, one row (images, measure) each; see `exhibits.separability`.
    sets, pairs: what "every set" and "every pair" mean here; None: all four of the data set.
    """

    name: str
    base: Config
    stored: Mapping[str, Run]
    seeds: Sequence[int] | None = None
    features: pd.DataFrame = field(default_factory=pd.DataFrame)
    sets: tuple[str, ...] | None = None
    pairs: tuple[tuple[str, str], ...] | None = None

    def __post_init__(self):
        if self.seeds is None:
            object.__setattr__(self, "seeds", sorted({run.config.seed for run in self.stored.values()}))

    @property
    def only_extreme(self) -> bool:
        return self.sets is not None and set(self.sets) <= set(stages.imbalances(self.base.dataset)[1::2])

    def configs(self, seed: int, imbalance: str = EVERY, classes=None, times: int = 1, **settings) -> list[Config]:
        """One side of a comparison: its configs of one seed.

        imbalance: EVERY, EXTREME, or "step", "exp" (their larger ratio), "step, smaller", "exp, smaller".  classes: PAIRS, or None
        for all.  times: how often the epochs of the base.
        """
        every = stages.imbalances(self.base.dataset)
        sets = {EVERY: self.sets or every, EXTREME: (every[1], every[3]), "step, smaller": every[:1], "step": every[1:2],
                "exp, smaller": every[2:3], "exp": every[3:]}[imbalance]  # fmt: skip
        pairs = (self.pairs or stages.pairs(self.base.dataset)) if classes == PAIRS else (classes,)
        settings |= {"seed": seed} | ({"epochs": times * self.base.epochs} if times > 1 else {})
        return [stages.of_set(self.base, one, classes=pair, **settings) for one, pair in product(sets, pairs)]

    def runs(self, protocol: Protocol, *sides: dict) -> list[list[Run]]:
        """The runs of each side, of the seeds on which all of them are tested under the protocol."""
        found = [[] for _ in sides]
        for seed in self.seeds:
            of_seed = [[self.stored.get(config.fingerprint) for config in self.configs(seed, **side)] for side in sides]
            if all(run is not None and run.evaluated(protocol) for runs in of_seed for run in runs):
                for all_seeds, runs in zip(found, of_seed, strict=True):
                    all_seeds.extend(runs)
        return found

    def contrast(self, sides: Sequence[tuple[float, dict, str]], measure: str, protocol: Protocol) -> Effect | None:
        runs = self.runs(protocol, *(settings for _, settings, _ in sides))
        return effects.contrast(
            [(sign, own, kind) for (sign, _, kind), own in zip(sides, runs, strict=True)], measure, protocol
        )


@dataclass(frozen=True)
class Claim:
    """section: of the paper.  words: the paper's.  shown: what difference is taken.  notebook: its number.

    found: (stage, protocol) → Effect, or None where it is not measured.  paper: "up", or "no change".
    clean: whether no evaluation attack is in it, so that there is one row, not one per attack.
    """

    section: str
    words: str
    shown: str
    notebook: str
    found: Callable[[Stage, Protocol], Effect | None]
    paper: str = "up"
    clean: bool = False


def between(ours: dict, theirs: dict, measure: str, kind: str) -> Callable[[Stage, Protocol], Effect | None]:
    """ours − theirs, each the settings of runs."""
    sides = [(1, ours, kind), (-1, theirs, kind)]
    return lambda stage, protocol: stage.contrast(sides, measure, protocol)


def more_than(first: tuple[dict, dict, str], second: tuple[dict, dict, str], measure: str):
    """(ours − theirs, of one kind) of the first minus that of the second."""
    (a, b, kind), (c, d, other) = first, second
    sides = [(1, a, kind), (-1, b, kind), (-1, c, other), (1, d, other)]
    return lambda stage, protocol: stage.contrast(sides, measure, protocol)


def above_all(ours: dict, rivals: Iterable[dict], measure: str, kind: str):
    """ours − the best of several rivals, corrected for that choice."""

    def found(stage: Stage, protocol: Protocol) -> Effect | None:
        each = [between(ours, rival, measure, kind)(stage, protocol) for rival in rivals]
        return None if None in each else effects.above_best(each)

    return found


def mean_of(comparisons: Sequence[tuple[float, dict, dict]], measure: str, kind: str):
    """Σ share · (ours − theirs), over several comparisons."""
    sides = [part for share, ours, theirs in comparisons for part in ((share, ours, kind), (-share, theirs, kind))]
    return lambda stage, protocol: stage.contrast(sides, measure, protocol)


def where_smaller_ratios_are(found: Callable[[Stage, Protocol], Effect | None]):
    """Not measured on a stage that has the larger ratio alone."""
    return lambda stage, protocol: None if stage.only_extreme else found(stage, protocol)


def of_level(settings: dict, bound: float, measure: str, kind: str):
    """bound − accuracy, in percent."""

    def found(stage: Stage, protocol: Protocol) -> Effect | None:
        (runs,) = stage.runs(protocol, settings)
        if not runs:
            return None
        level = effects.level(runs, measure, kind, protocol)
        estimate, spread = bound - level.estimate, level.spread.seen()
        half = spread.half_width()
        return replace(
            level, estimate=estimate, low=estimate - half, high=estimate + half, p=spread.p(estimate), spread=spread
        )

    return found


def given_up(settings: dict, kind: str, expected: int):
    """How many rare classes have an accuracy of 0, above the number that is expected."""

    def found(stage: Stage, protocol: Protocol) -> Effect | None:
        (runs,) = stage.runs(protocol, settings)
        counts = []
        for run in runs:
            rows = run.evaluate(protocol)
            rare = rows[(rows["kind"] == kind) & (rows["group"] == "under")]
            counts.append(float((rare["accuracy"] == 0).sum() - expected))
        return effects.from_seeds(counts) if counts else None

    return found


def of_features(ours: dict, theirs: dict, measure: str, images: tuple[str, str]):
    """A measure of separability of ours − theirs.  images: "clean" or "attacked", of ours and of theirs; seeds' error alone."""

    def found(stage: Stage, protocol: Protocol) -> Effect | None:
        if measure not in stage.features:
            return None
        values = stage.features[measure]
        differences = []
        for seed in stage.seeds:
            mine, other = (
                [values.get((config.fingerprint, shown)) for config in stage.configs(seed, **side)]
                for side, shown in zip((ours, theirs), images, strict=True)
            )
            if None not in mine + other:
                differences.append(np.mean(mine) - np.mean(other))
        return effects.from_seeds(differences) if differences else None

    return found
