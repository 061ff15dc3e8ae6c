"""Choosing settings on validation images: the test images are read once, when the choice is made."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from . import effects, evaluation
from .config import Config
from .evaluation import PAPER, Protocol
from .records import ConfigError
from .runs import load_data
from .store import RunError
from .sweeps import sweep

MEASURES = ("overall", "balanced", "well", "under", "worst")
NOT_SETTINGS = {"seed", "device", "threads", "source"}
OFF = "prior off"


def select(
    configs: Iterable[Config],
    by: str = "robust under",
    protocol: Protocol = PAPER,
    *,
    over: Sequence[str] = (),
    taus: Sequence[float] = (0.0,),
    **options,
) -> pd.DataFrame:
    """Train the configs and compare their settings on validation images, best first; the test images stay unseen.

    configs: of every setting the same seeds, with validation=0.2, say, or a set that brings validation images.
    by: "clean" or "robust", then overall, balanced (mean over classes), well, under (means over the group) or worst.
    over: settings that are averaged over, not compared ("method", where a schedule is to suit all of them).
    taus: each network is tried with these post-hoc priors (`Run.prior_off`), 0 for none; several are compared as "prior off".
    options: of `sweep`.

    Index: the settings that differ.  Columns: value in percent with low and high, its 95 % interval over seeds; below best
    with its own low and high, paired by seed; p, whether that could be luck, after Holm's correction over all pairs of rows;
    seconds of training.  With one seed, or where all differ equally, there are no intervals.  Raises ConfigError where there is
    nothing to choose, or nothing to choose by.
    """
    rows = on_validation(configs, by, protocol, over=over, taus=taus, **options)
    by_seed = rows["value"].unstack("seed")
    by_seed = by_seed.loc[by_seed.mean(axis=1).sort_values(ascending=False, kind="stable").index]
    found = [effects.from_seeds(values) for values in by_seed.to_numpy()]
    lost = [effects.from_seeds(values) for values in by_seed.to_numpy()[0] - by_seed.to_numpy()]
    # The best was found on these numbers, so that every pair counts as asked; the first pairs are best − other.
    pairs = [effects.from_seeds(a - b).p for a, b in itertools.combinations(by_seed.to_numpy(), 2)]
    seconds = rows["seconds"].unstack("seed").mean(axis=1)
    return pd.DataFrame(
        {
            "value": [one.estimate for one in found],
            "low": [one.low for one in found],
            "high": [one.high for one in found],
            "below best": [one.estimate for one in lost],
            "below best, low": [one.low for one in lost],
            "below best, high": [one.high for one in lost],
            "p": [1.0, *effects.holm(pairs)[: len(by_seed) - 1]],
            "seeds": by_seed.shape[1],
            "seconds": seconds[by_seed.index],
        }
    ).replace([np.inf, -np.inf], np.nan)


def on_validation(
    configs: Iterable[Config],
    by: str,
    protocol: Protocol = PAPER,
    *,
    over: Sequence[str] = (),
    taus: Sequence[float] = (0.0,),
    **options,
) -> pd.DataFrame:
    """The configs trained and tried on validation images: value in percent and seconds of training, means over `over`.

    Index: the settings that differ, then seed.  Arguments and errors as of `select`.
    """
    configs = list(configs)
    kind, _, measure = by.partition(" ")
    if kind not in ("clean", "robust") or measure not in MEASURES:
        raise ConfigError(f"by must be 'clean' or 'robust' and one of {', '.join(MEASURES)}, not {by!r}")
    if kind == "robust" and len({protocol.meets(config) for config in configs}) > 1:
        raise ConfigError(
            "the configs would be tested by different attacks, and the one with the weakest would win; give a protocol whose "
            "attacks are the same for all: Protocol('fixed', lambda config: [PGD(8 / 255, 2 / 255, 20)])"
        )
    settings = differing(configs)
    if unknown := set(over) - set(settings):
        raise ConfigError(f"over names {', '.join(sorted(unknown))}, in which the configs do not differ")
    compared = [name for name in settings if name not in over] + [OFF] * (len(set(taus)) > 1)
    if not compared:
        raise ConfigError("the configs differ in nothing but their seeds: there is nothing to choose")
    for config in configs:
        if config.validation is None and load_data(config).validation is None:
            raise ConfigError(
                "there are no validation images, and a choice on test images would make their accuracy worthless; "
                "set validation=0.2, say, or store some as val_images or in a folder val/"
            )
        rare = load_data(config).train.under if measure in ("well", "under") else np.array([True, False])
        if rare.all() or not rare.any():
            raise ConfigError(
                f"{'every' if rare.all() else 'no'} class is rare in {config.dataset} {config.imbalance}; "
                f"choose by='{kind} balanced', or set rare"
            )
    tried = protocol.on_validation()
    priors = {tau: tried.adjusted(tau) if tau else tried for tau in taus}
    runs = sweep(configs, protocols=tuple(priors.values()), **options)
    if len(runs) < len(configs):
        raise RunError(
            f"{len(runs)} of {len(configs)} runs were finished in time; call it again, which goes on from there"
        )
    rows = pd.DataFrame(
        {name: shown(getattr(run.config, name)) for name in (*settings, "seed")}
        | {OFF: tau, "value": of_run(run, own, kind, measure), "seconds": run.provenance["seconds"]}
        for run in runs
        for tau, own in priors.items()
    )
    grouped = rows.groupby([*compared, "seed"], sort=False)
    if len(set(grouped.size().unstack("seed").fillna(0).to_numpy().ravel())) > 1:
        raise ConfigError("every setting must have the same seeds (and the same settings in `over`) to be compared")
    return grouped[["value", "seconds"]].mean()


def differing(configs: Sequence[Config]) -> list[str]:
    """The given settings in which configs differ, seeds aside."""
    if not configs:
        raise ConfigError("there is no config to choose from")
    names = dict.fromkeys(name for config in configs for name in config.given if name not in NOT_SETTINGS)
    return [name for name in names if len({repr(getattr(config, name)) for config in configs}) > 1]


def shown(value):
    """A setting as a table's index shows it: None, truth values and tuples as text, which pandas takes for no mask."""
    if isinstance(value, bool):
        return str(value)
    return value if isinstance(value, (int, float, str)) else "none" if value is None else ", ".join(map(str, value))


def of_run(run, protocol: Protocol, kind: str, measure: str) -> float:
    return float(evaluation.of_kind(run.summary(protocol).reset_index(), kind)[measure].iloc[0])
