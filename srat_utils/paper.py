"""What the paper reports, as data frames: Tables 1–4 of "Imbalanced Adversarial Training with Reweighting".

One number each, without a spread: the paper does not say how many runs stand behind it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pandas as pd

METRICS = ("standard_overall", "standard_under", "robust_overall", "robust_under")
TABLES = {1: "CIFAR-10, Step", 2: "CIFAR-10, Exp", 3: "SVHN, Step", 4: "SVHN, Exp"}


@lru_cache(maxsize=1)
def _read() -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_name("paper_tables.csv"))


def tables() -> pd.DataFrame:
    """All 88 rows, tidy: table, dataset, imbalance ("step-10"), method, and METRICS in percent.

    Standard accuracy is on clean test images, robust accuracy under PGD-20 with ε = 8/255; "under" averages the five
    under-represented classes.
    """
    return _read().copy()


def table(number: int) -> pd.DataFrame:
    """Table 1, 2, 3 or 4 in the paper's layout: a row a method; columns (imbalance ratio, accuracy, classes), percent.

    Raises ValueError for any other number.
    """
    if number not in TABLES:
        raise ValueError(
            f"the paper has tables 1 to 4, not {number!r}; {'; '.join(f'{n}: {what}' for n, what in TABLES.items())}"
        )
    rows = _read().query("table == @number")
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
