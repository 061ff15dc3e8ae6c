"""Methods against each other: differences with their words, as a notebook's tables show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from .. import effects
from ..evaluation import STRONG, of_kind
from ..runs import Run
from ..sweeps import tidy
from .tables import Table, in_full


def of_methods(runs: Iterable[Run] | Mapping[str, list[Run]]) -> dict[str, list[Run]]:
    """Method → its runs, those with their prior off by themselves ("CE, prior off"); what has names already keeps them."""
    if isinstance(runs, Mapping):
        return dict(runs)
    by_method: dict[str, list[Run]] = {}
    for run in runs:
        strength = f" × {run.tau:g}" if run.tau not in (0, 1) else ""
        name = f"{run.config.method}, prior off{strength}" if run.tau else run.config.method
        by_method.setdefault(name, []).append(run)
    return by_method


def tidied(named: Mapping[str, list[Run]], *settings: str, **options) -> pd.DataFrame:
    """`sweeps.tidy(…, *settings, **options)` of named runs; the name stands as "method"."""
    return pd.concat([tidy(own, *settings, **options).assign(method=name) for name, own in named.items() if own])


def by_set(named: Mapping[str, list[Run]]) -> pd.DataFrame:
    """Under STRONG, means over seeds, best first: rare classes on each imbalanced set († a collapsed network among them), and the
    mean over sets of rare classes, of frequent ones and of all images."""
    rows = of_kind(tidied(named, "imbalance", "seed", beside=STRONG), STRONG.name)
    under = rows.pivot_table("under", "method", "imbalance")
    means = rows.groupby(["method", "imbalance"])[["under", "well", "overall"]].mean().groupby("method").mean()
    order = means["under"].sort_values(ascending=False).index
    fell = rows.pivot_table("collapsed", "method", "imbalance", aggfunc="any")
    marks = fell.replace({True: " †", False: ""})
    shown = (under.round(1).astype(str) + marks).join(
        means.round(1).rename(columns={"under": "rare", "well": "frequent"})
    )
    return shown.loc[order]


def above_every(runs: Iterable[Run] | Mapping[str, list[Run]], name: str) -> effects.Effect:
    """How many points a method keeps more of the rare classes under STRONG than the best of all others, that choice counted."""
    by_method = of_methods(runs)
    ours = by_method.pop(name)
    return effects.above_best([effects.difference(ours, theirs) for theirs in by_method.values()])


def in_words(row: pd.Series) -> str:
    """A row of `effects.judge`'s frame: "+5.20 [+3.26, +7.14] up"."""
    if row["verdict"] == "not measured":
        return "not measured"
    if not np.isfinite([row["low"], row["high"]]).any():
        return f"{row['difference']:+.2f}, {row['seeds']} seed{'' if row['seeds'] == 1 else 's'}: undecided"
    return f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] {row['verdict']}"


def board(found: Mapping[tuple[str, str], effects.Effect | None], rows: str, columns: str) -> Table:
    """Differences (row, column) → effect as a table of words, corrected for all of them; rows, columns: what each is called.

    A pair that is not among them is a dash.
    """
    judged = effects.judge(found)
    judged.index = pd.MultiIndex.from_tuples(judged.index, names=[rows, columns])
    down, across = (list(dict.fromkeys(judged.index.get_level_values(level))) for level in (0, 1))
    return in_full(judged.apply(in_words, axis=1).unstack().loc[down, across].fillna("–"))
