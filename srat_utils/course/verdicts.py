"""Whether our runs bear out what the paper claims: by a rule, never typed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .tables import Table, in_full


def verdict(differences: Sequence[float]) -> str:
    """Judge one claim.  differences: one a seed, positive where the seed shows what the paper says.

    "reproduced": the mean is positive and more than two standard errors from 0.  "direction only": it is positive.
    "not reproduced": it is not.  "reversed": it is negative and as far from 0.  "not measured": there is no seed.
    One seed has no spread and shows a direction at most.
    """
    values = np.asarray(differences, dtype=float)
    if values.size == 0 or np.isnan(values).any():
        return "not measured"
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.inf
    clear = abs(values.mean()) > 2 * error
    if values.mean() > 0:
        return "reproduced" if clear else "direction only"
    return "reversed" if clear else "not reproduced"


def table(claims: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """A row a claim: our mean difference, its standard deviation over seeds, the number of seeds, and the verdict."""
    rows = {
        claim: {
            "difference": np.round(np.mean(values), 2),
            "std": np.round(np.std(values, ddof=1), 2) if len(values) > 1 else np.nan,
            "seeds": len(values),
            "verdict": verdict(values),
        }
        for claim, values in claims.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("claim")


def judged(claims: Mapping[str, Sequence[float]]) -> Table:
    """`table` with the claims in full."""
    return in_full(table(claims))


def by_seed(rows: pd.DataFrame, measure: str, **chosen) -> np.ndarray:
    """One number a seed, in the seeds' order: the mean of `measure` over the rows where each named column has its value.

    rows: `sweeps.tidy(…, "seed")` or a frame like it.  chosen: kind="robust", method="CE", …; a list stands for any of its values.
    A claim's differences are one such array minus another: seeds are paired.
    """
    for column, value in chosen.items():
        rows = rows[rows[column].isin(value if isinstance(value, (list, tuple)) else [value])]
    return rows.groupby("seed")[measure].mean().to_numpy()
