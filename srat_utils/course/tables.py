"""Benchmark tables in the layout of the paper's Tables 1–4, best and best-of-its-loss marked."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pandas as pd

from ..config import Config
from ..evaluation import of_kind
from ..imbalance import parse_imbalance
from ..methods import METHODS
from ..runs import Run
from ..sweeps import tidy
from . import paper

COLUMNS = ["imbalance ratio", "accuracy", "classes"]
DECIMALS = 1


def in_layout(summaries: pd.DataFrame, kind: str, statistic: str = "mean") -> pd.DataFrame:
    """One row per method; columns (imbalance ratio, accuracy, classes), percent, as `paper.table` gives the paper's.

    Robust is under PGD-20; Strong, where the summaries have that kind, under STRONG.

    summaries: `sweeps.tidy(…, "imbalance", "method", "seed")`.  kind: "step" or "exp".  statistic: over seeds, "mean" or "std".
    """
    rows = summaries[summaries["imbalance"].str.startswith(kind)]
    parts = {}
    if rows.empty:
        raise ValueError(f"there is no {kind} set among the runs")
    for imbalance in rows["imbalance"].unique():
        ratio = parse_imbalance(imbalance).ratio
        for accuracy, shown in (("Standard", "clean"), ("Robust", "robust"), ("Strong", "strong")):
            chosen = of_kind(rows[rows["imbalance"] == imbalance], shown)
            if chosen.empty:
                continue
            for classes in ("Overall", "Under"):
                by_method = chosen.groupby("method")[classes.lower()].agg(statistic)
                parts[int(ratio) if ratio.is_integer() else ratio, accuracy, classes] = by_method
    order = [name for name in METHODS if name in set(rows["method"])]
    return pd.concat(parts, axis=1, names=COLUMNS).loc[order]


def seeds_in(summaries: pd.DataFrame) -> str:
    """How many seeds the methods of `sweeps.tidy(…, "method", "seed")` have: "3", or "1 to 3" where some have fewer."""
    few, most = summaries.groupby("method")["seed"].nunique().agg(["min", "max"])
    return f"{most}" if few == most else f"{few} to {most}"


def marked(mean: pd.DataFrame, std: pd.DataFrame | None = None, collapsed: Collection[tuple] = ()) -> pd.DataFrame:
    """The numbers as HTML text: the best of a column bold, the best of each prediction loss underlined.

    mean, std: as from `in_layout`; std is left out where it is None or unknown.  collapsed: (imbalance ratio, method) pairs
    of which at least one run predicts almost always one class; they get a †.
    """
    losses = pd.Series({name: METHODS[name].loss for name in mean.index})
    text = pd.DataFrame(index=mean.index, columns=mean.columns, dtype=object)
    for column in mean:
        values = mean[column].round(DECIMALS)
        best_of_loss = values.groupby(losses).transform("max")
        for method, value in values.items():
            if pd.isna(value):
                text.loc[method, column] = "–"
                continue
            cell = f"{value:.{DECIMALS}f}"
            if std is not None and pd.notna(std.loc[method, column]):
                cell += f" ± {std.loc[method, column]:.{DECIMALS}f}"
            if (column[0], method) in collapsed:
                cell += " †"
            if value == best_of_loss[method]:
                cell = f"<ins>{cell}</ins>"
            if value == values.max():
                cell = f"<b>{cell}</b>"
            text.loc[method, column] = cell
    return text


@dataclass(frozen=True)
class Table:
    """What a notebook shows as a table; displayed as the last value of a cell."""

    html: str
    text: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}


def in_full(rows: pd.DataFrame, *, words: bool = False) -> Table:
    """The frame with its long words in full; pandas would cut them off.  words: set to the left, as words are read."""
    with pd.option_context("display.max_colwidth", None, "display.width", 200):
        html = rows.to_html()
        return Table(html.replace("<td>", '<td style="text-align: left">') if words else html, rows.to_string())


def titled(title: str, mean: pd.DataFrame, std: pd.DataFrame | None = None, collapsed: Collection[tuple] = ()) -> Table:
    """`marked` under a title; as plain text the numbers alone."""
    table = marked(mean, std, collapsed)
    table.columns.names = mean.columns.names
    with pd.option_context("display.max_colwidth", None, "display.width", 200):
        html = f"<p><b>{title}</b></p>" + table.to_html(escape=False)
        # JupyterLab sets all cells to the right and breaks them in a narrow window.
        html = html.replace('<th colspan="', '<th style="text-align: center" colspan="')
        html = html.replace("<td>", '<td style="white-space: nowrap">')
        return Table(html, f"{title}\n{mean.round(DECIMALS).to_string()}")


def against_paper(runs: Iterable[Run]) -> pd.DataFrame:
    """The rows of Tables 1–4 that were run in the paper's setting: its numbers, ours (means over seeds), the differences.

    Index (dataset, imbalance, method, epochs, precision, compile, seeds); columns (accuracy and classes, "paper" | "ours" |
    "difference"), in percent and points.  Only length of the schedule, seed, precision and compilation may differ from
    `Config.paper`.
    """
    own = [run for run in runs if in_papers_setting(run.config)]
    if not own:
        return pd.DataFrame()
    cell = ["dataset", "imbalance", "method", "epochs", "precision", "compile"]
    rows = tidy(own, *cell, "seed")
    rows["accuracy"] = rows["kind"].map({"clean": "standard", "robust": "robust"})
    means = rows.groupby([*cell, "accuracy"])[["overall", "under"]].mean().unstack()
    means.columns = [f"{accuracy}_{classes}" for classes, accuracy in means.columns]
    means = means.assign(seeds=rows.groupby(cell)["seed"].nunique()).reset_index()
    both = paper.tables().merge(means, on=cell[:3], suffixes=("", " ours")).set_index([*cell, "seeds"])
    parts = {}
    for metric in paper.METRICS:
        parts[metric, "paper"], parts[metric, "ours"] = both[metric], both[f"{metric} ours"]
        parts[metric, "difference"] = both[f"{metric} ours"] - both[metric]
    return pd.concat(parts, axis=1).round(2)  # the paper's decimals


def in_papers_setting(config: Config) -> bool:
    if config.dataset not in ("cifar10", "svhn"):
        return False
    free = {name: getattr(config, name) for name in ("seed", "epochs", "precision", "compile")}
    asked = Config.paper(config.dataset, config.imbalance, config.method, **free)
    return (config.fingerprint, config.evaluation) == (asked.fingerprint, asked.evaluation)
