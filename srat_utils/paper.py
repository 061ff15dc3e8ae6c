"""What the paper reports: Tables 1–4, percent, one number each without a spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

TABLES = Path(__file__).with_name("paper_tables.csv")
TITLES = {1: "CIFAR-10, Step", 2: "CIFAR-10, Exp", 3: "SVHN, Step", 4: "SVHN, Exp"}
METRICS = ("standard_overall", "standard_under", "robust_overall", "robust_under")


def tables() -> pd.DataFrame:
    """The 88 rows of Tables 1–4: table, dataset, imbalance, method, standard_/robust_ × overall/under, in percent."""
    return pd.read_csv(TABLES)


def table(number: int) -> pd.DataFrame:
    """Table 1, 2, 3 or 4 in the paper's layout: a row a method; columns (imbalance ratio, accuracy, classes), percent.

    Raises ValueError for any other number.
    """
    if number not in TITLES:
        raise ValueError(
            f"the paper has tables 1 to 4, not {number!r}; {'; '.join(f'{n}: {what}' for n, what in TITLES.items())}"
        )
    rows = tables().query("table == @number")
    ratios = {imbalance: int(imbalance.partition("-")[2]) for imbalance in rows["imbalance"].unique()}
    parts = {
        (ratio, accuracy.capitalize(), classes.capitalize()): rows.query("imbalance == @imbalance").set_index("method")[
            metric
        ]
        for imbalance, ratio in ratios.items()
        for metric in METRICS
        for accuracy, classes in [metric.split("_")]
    }
    return pd.concat(parts, axis=1, names=["imbalance ratio", "accuracy", "classes"])


def summary(dataset: str, imbalance: str) -> pd.DataFrame:
    """One setting in the layout of `runs.frame`: method, attack ("clean", "pgd-20"), overall, under."""
    rows = tables().query("dataset == @dataset and imbalance == @imbalance")
    parts = [
        rows[["method"]].assign(attack=attack, overall=rows[f"{name}_overall"], under=rows[f"{name}_under"])
        for attack, name in (("clean", "standard"), ("pgd-20", "robust"))
    ]
    return pd.concat(parts, ignore_index=True)


def verdict(differences: Sequence[float]) -> str:
    """Whether runs bear out a claim; differences: one a seed, positive where a seed shows what the paper says.

    "reproduced": the mean is positive and more than two standard errors from 0.  "direction only": it is positive.
    "not reproduced": it is not.  "not measured": there is no seed.  One seed has no spread and shows a direction at most.
    """
    values = np.asarray(differences, dtype=float)
    if values.size == 0 or np.isnan(values).any():
        return "not measured"
    if values.mean() <= 0:
        return "not reproduced"
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.inf
    return "reproduced" if values.mean() > 2 * error else "direction only"


def verdicts(claims: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """A row a claim: our mean difference, its standard deviation over seeds, and the verdict."""
    rows = [
        {
            "claim": claim,
            "difference": np.mean(values).round(1),
            "std": np.std(values, ddof=1).round(1) if len(values) > 1 else None,
            "seeds": len(values),
            "verdict": verdict(values),
        }
        for claim, values in claims.items()
    ]
    return pd.DataFrame(rows).set_index("claim")
