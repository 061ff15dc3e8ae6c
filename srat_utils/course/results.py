"""Measured runs as small tidy files under version control: what tables and sliders show without training anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from .. import features
from ..config import Config
from ..evaluation import PAPER, Protocol
from ..imbalance import make_imbalanced
from ..provenance import PROJECT, VERSIONS
from ..runs import Run, write
from ..sweeps import sweep

FOLDER = PROJECT / "results"
ORDER = ["imbalance", "method", "adversarial", "seed", "fingerprint"]  # how the rows of runs.csv are ordered
NOT_STORED = ("device", "threads", "source")  # settings that decide no number
FACTS = ("fingerprint", "class_counts", "subset_fingerprint", "seconds", "device", "hardware", "commit", *VERSIONS)
TEXT = dict.fromkeys(("fingerprint", "protocol", "class", "group", "kind", "attack"), str)


def export(
    runs: Iterable[Run],
    folder: Path | None = None,
    *,
    protocols: Sequence[Protocol] = (PAPER,),
    histories: bool = False,
) -> None:
    """Add finished runs to `folder`/<dataset>/runs.csv (settings and provenance) and metrics.csv (accuracy per class).

    Runs that are there already are replaced; rows have a fixed order, so that equal results give equal files.
    histories: write history.csv, too (losses, a row an epoch): of runs that take hours to make again.
    """
    runs = sorted({run.config.fingerprint: run for run in runs}.values(), key=lambda run: run.config.name)
    for dataset in sorted({run.config.dataset for run in runs}):
        home = Path(folder or FOLDER) / dataset
        home.mkdir(parents=True, exist_ok=True)
        chosen = [run for run in runs if run.config.dataset == dataset]
        measured = [
            run.evaluate(protocol).assign(fingerprint=run.config.fingerprint, protocol=protocol.name)
            for run in chosen
            for protocol in protocols
        ]
        files = {"runs.csv": (pd.DataFrame(map(row, chosen), dtype=str), ORDER)}
        files["metrics.csv"] = (pd.concat(measured), ["fingerprint", "protocol"])
        if histories:
            history = pd.concat([run.history.assign(fingerprint=run.config.fingerprint) for run in chosen])
            files["history.csv"] = (history, ["fingerprint"])
        for name, (new, order) in files.items():
            keys = [key for key in ("fingerprint", "protocol") if key in new]
            if (home / name).exists():
                old = pd.read_csv(home / name, dtype=str if name == "runs.csv" else TEXT, keep_default_na=False)
                there = old.set_index(keys).index.isin(new.set_index(keys).index)
                new = pd.concat([old[~there], new])
            columns = sorted(new, key=lambda column: (column not in keys, column in FACTS))
            new = new[columns].sort_values(order, kind="stable")
            write(home / name, lambda path, new=new: new.to_csv(path, index=False, float_format="%.6g"))
    read.cache_clear()


def export_features(run: Run, folder: Path | None = None, *, per_class: int = 100, components: int = 50) -> None:
    """Write what a picture like Figure 4 needs, without its model, to `folder`/<dataset>/features-<fingerprint>.npz.

    features: float16 [N,≤components], the first principal components of attacked training images' penultimate features.
    labels: int64 [N].  At most per_class images a class.  A file that is there already stays as it is.
    """
    home = Path(folder or FOLDER) / run.config.dataset
    target = home / f"features-{run.config.fingerprint}.npz"
    if target.exists():
        return
    home.mkdir(parents=True, exist_ok=True)
    sample = make_imbalanced(run.data.train, "none", max_per_class=per_class)
    z = features.penultimate(run.model, sample, run.config.training_attack)
    z = PCA(min(components, *z.shape), svd_solver="full").fit_transform(z).astype(np.float16)

    def save(path: Path) -> None:
        with path.open("wb") as file:  # given a path, NumPy adds an ending of its own
            np.savez_compressed(file, features=z, labels=sample.labels)

    write(target, save)


def row(run: Run) -> dict[str, str]:
    """A run's settings, all of them, and its provenance, as text: what is not text itself stands as JSON."""
    settings = {name: value for name, value in run.config.to_dict().items() if name not in NOT_STORED}
    facts = {name: value for name, value in run.provenance.items() if name not in ("versions", "class_counts")}
    counts = " ".join(str(count) for count in run.provenance["class_counts"].values())
    own = settings | {"class_counts": counts} | facts | run.provenance["versions"]
    return {name: as_text(value) for name, value in own.items()}


def as_text(value) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) and as_value(value) is value else json.dumps(value)


def as_value(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return text


def config_of(row: Mapping[str, str]) -> Config:
    """The config that a row of runs.csv was run with."""
    return Config(**{name: as_value(text) for name, text in row.items() if text != "" and name not in FACTS})


@cache
def read(dataset: str, folder: Path = FOLDER) -> dict[str, Run]:
    """Fingerprint → run, of all that `folder` holds of a data set; empty if it holds none.

    Raises ValueError where a row's settings no longer give the fingerprint it was stored under.
    """
    home = Path(folder) / dataset
    if not (home / "runs.csv").exists():
        return {}
    metrics = pd.read_csv(
        home / "metrics.csv", dtype=TEXT | {"accuracy": float}, keep_default_na=False, na_values={"accuracy": ""}
    )
    frames: dict[str, dict[str, pd.DataFrame]] = {}
    for (key, protocol), rows in metrics.groupby(["fingerprint", "protocol"], sort=False):
        frames.setdefault(key, {})[protocol] = rows.drop(columns=["fingerprint", "protocol"]).reset_index(drop=True)
    runs = {}
    for row in pd.read_csv(home / "runs.csv", dtype=str, keep_default_na=False).to_dict("records"):
        config, key = config_of(row), row["fingerprint"]
        if config.fingerprint != key:
            raise ValueError(
                f"{home / 'runs.csv'}: the settings of {key} now give {config.fingerprint}; a default has changed its meaning"
            )
        classes = frames[key][PAPER.name].drop_duplicates("class")["class"]
        facts = {name: row[name] for name in FACTS} | {
            "class_counts": dict(zip(classes, map(int, row["class_counts"].split()), strict=True)),
            "seconds": float(row["seconds"]),
            "versions": {name: row[name] for name in VERSIONS},
        }
        runs[key] = Run(config, None, facts, frames[key])
    return runs


def measured(configs: Iterable[Config], *, folder: Path | None = None, **options) -> list[Run]:
    """The runs of many configs, in their order: from `folder` what it holds, from `sweep(…, **options)` the rest."""
    configs = list(configs)
    known = {dataset: read(dataset, Path(folder or FOLDER)) for dataset in {config.dataset for config in configs}}
    kept = {config: known[config.dataset].get(config.fingerprint) for config in configs}
    missing = [config for config, run in kept.items() if run is None]
    trained = dict(zip(missing, sweep(missing, **options), strict=True))
    return [kept[config] or trained[config] for config in configs]


def source(runs: Iterable[Run]) -> str:
    """One line that says where numbers come from: how many runs, stored or trained here, on what, with which torch."""
    runs = list(runs)
    stored = sum(run.folder is None for run in runs)
    machines = sorted({str(run.provenance["hardware"]) for run in runs})
    torch = sorted({run.provenance["versions"]["torch"] for run in runs})
    seconds = sum(run.provenance["seconds"] for run in runs)
    collapsed = sum(run.collapsed for run in runs)
    return (
        f"{len(runs)} runs, {stored} read from results/ and {len(runs) - stored} from runs/; "
        f"{seconds / 60:.0f} minutes of training on {', '.join(machines)}, torch {', '.join(torch)}; collapsed: {collapsed}"
    )
