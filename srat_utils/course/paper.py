"""What the paper reports: Tables 1–4, percent, one number each without a spread."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

TABLES = Path(__file__).with_name("paper_tables.csv")
TITLES = {1: "CIFAR-10, Step", 2: "CIFAR-10, Exp", 3: "SVHN, Step", 4: "SVHN, Exp"}
METRICS = ("standard_overall", "standard_under", "robust_overall", "robust_under")

# What section 2.2 says of Figure 2, adversarial training on cat (well) and horse (under): (accuracy, group) → at ratios 1 and 150.
FIGURE_2 = {
    ("clean", "well"): {1: 100, 150: 60},
    ("clean", "under"): {1: 0, 150: 60},
    ("robust", "well"): {1: 100, 150: 50},
    ("robust", "under"): {1: 0, 150: 50},
}


def tables() -> pd.DataFrame:
    """The 88 rows of Tables 1–4: table, dataset, imbalance, method, standard_/robust_ × overall/under, in percent."""
    return pd.read_csv(TABLES)


def table(number: int) -> pd.DataFrame:
    """Table 1, 2, 3 or 4 in the paper's layout: one row per method; columns (imbalance ratio, accuracy, classes), percent.

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
