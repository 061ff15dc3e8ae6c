"""What the paper reports: Tables 1–4, percent, one number each without a spread."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

TABLES = Path(__file__).with_name("paper_tables.csv")


def tables() -> pd.DataFrame:
    """The 88 rows of Tables 1–4: table, dataset, imbalance, method, standard_/robust_ × overall/under, in percent."""
    return pd.read_csv(TABLES)


def summary(dataset: str, imbalance: str) -> pd.DataFrame:
    """One setting in the layout of `runs.frame`: method, attack ("clean", "pgd-20"), overall, under."""
    rows = tables().query("dataset == @dataset and imbalance == @imbalance")
    parts = [
        rows[["method"]].assign(attack=attack, overall=rows[f"{name}_overall"], under=rows[f"{name}_under"])
        for attack, name in (("clean", "standard"), ("pgd-20", "robust"))
    ]
    return pd.concat(parts, ignore_index=True)
