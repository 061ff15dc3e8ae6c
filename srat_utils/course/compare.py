"""Methods against each other: differences with their words, as a notebook's tables show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from .. import effects
from ..evaluation import STRONG, Protocol
from ..runs import Run
from .tables import Table, in_full


def of_methods(runs: Iterable[Run] | Mapping[str, list[Run]]) -> dict[str, list[Run]]:
    """Method → its runs; what has names already keeps them."""
    if isinstance(runs, Mapping):
        return dict(runs)
    by_method: dict[str, list[Run]] = {}
    for run in runs:
        by_method.setdefault(run.config.method, []).append(run)
    return by_method


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


def above_every(runs: Iterable[Run] | Mapping[str, list[Run]], name: str) -> effects.Effect:
    """How many points a method keeps more of the rare classes under STRONG than the best of all others, that choice counted."""
    by_method = of_methods(runs)
    ours = by_method.pop(name)
    return effects.above_best([effects.difference(ours, theirs) for theirs in by_method.values()])


def in_words(row: pd.Series) -> str:
    """A row of `effects.judge`'s frame: "+5.20 [+3.26, +7.14] up"."""
    if row["verdict"] == "not measured":
        return "not measured"
    if not np.isfinite(row["low"]):
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
