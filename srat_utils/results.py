"""Measured runs as small tidy files under version control: what tables and sliders show without training anything."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from . import evaluation, features
from .config import Config
from .data import make_imbalanced
from .runs import PROJECT, VERSIONS, Run, sweep, write

FOLDER = PROJECT / "results"
KEYS = ["imbalance", "method", "adversarial", "seed"]  # how the rows of runs.csv are ordered
CONFIG_COLUMNS = ["dataset", *KEYS]


@dataclass(frozen=True)
class Result:
    """A run of which only the numbers are kept; read like a `Run`, without a model."""

    config: Config
    metrics: pd.DataFrame  # class, group, images, attack, accuracy, predicted
    provenance: dict

    @property
    def collapsed(self) -> bool:
        return bool(self.provenance["collapsed"])

    def summary(self) -> pd.DataFrame:
        """A row an attack: overall, balanced, well, under, worst accuracy in percent."""
        return evaluation.summarise(self.metrics)


def export(runs: Iterable[Run], folder: Path | None = None, *, histories: bool = False) -> None:
    """Add finished runs to `folder`/<dataset>/runs.csv (provenance, a row a run) and metrics.csv (accuracy per class).

    Runs that are there already are replaced; rows have a fixed order, so that equal results give equal files.
    histories: write history.csv, too (losses, a row an epoch): of runs that take hours to make again.
    """
    runs = sorted({run.config.fingerprint: run for run in runs}.values(), key=lambda run: run.config.name)
    for dataset in sorted({run.config.dataset for run in runs}):
        home = Path(folder or FOLDER) / dataset
        home.mkdir(parents=True, exist_ok=True)
        chosen = [run for run in runs if run.config.dataset == dataset]
        rows = pd.DataFrame([row(run) for run in chosen])
        metrics = pd.concat([run.metrics.assign(fingerprint=run.config.fingerprint) for run in chosen])
        files = [("runs.csv", rows, [*KEYS, "changes"]), ("metrics.csv", metrics, ["fingerprint"])]
        if histories:
            history = pd.concat([run.history.assign(fingerprint=run.config.fingerprint) for run in chosen])
            files.append(("history.csv", history, ["fingerprint"]))
        for name, new, order in files:
            if (home / name).exists():
                old = pd.read_csv(home / name, dtype=new.dtypes.to_dict() if name == "metrics.csv" else None)
                new = pd.concat([old[~old["fingerprint"].isin(new["fingerprint"])], new])
            new = new[["fingerprint", *(column for column in new if column != "fingerprint")]]
            new = new.sort_values(order, kind="stable")
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


def row(run: Run) -> dict:
    """A run's config and provenance as one row; `changes` are the settings that are not the data set's defaults."""
    fields, facts = run.config.to_dict(), dict(run.provenance)
    default = Config(dataset=run.config.dataset).to_dict()
    changes = {name: value for name, value in fields.items() if value != default[name] and name not in CONFIG_COLUMNS}
    versions = facts.pop("versions")
    counts = " ".join(str(count) for count in facts.pop("class_counts").values())
    own = {name: fields[name] for name in CONFIG_COLUMNS} | {"changes": json.dumps(changes, sort_keys=True)}
    return own | {"fingerprint": run.config.fingerprint, "class_counts": counts} | facts | versions


def config_of(row: dict) -> Config:
    """The config that a row of runs.csv was run with."""
    changes = json.loads(row["changes"])
    return Config(**{name: row[name] for name in CONFIG_COLUMNS}, **changes)


@cache
def read(dataset: str, folder: Path = FOLDER) -> dict[str, tuple[pd.DataFrame, dict]]:
    """Fingerprint → (metrics, provenance) of all runs of a data set that `folder` holds; empty if it holds none."""
    home = Path(folder) / dataset
    if not (home / "runs.csv").exists():
        return {}
    facts = pd.read_csv(home / "runs.csv").set_index("fingerprint", drop=False).to_dict("index")
    for row in facts.values():
        row["versions"] = {name: row.pop(name) for name in VERSIONS}
    metrics = pd.read_csv(home / "metrics.csv", dtype={"class": str, "accuracy": float})
    parts = dict(list(metrics.groupby("fingerprint", sort=False)))
    return {key: (parts[key].drop(columns="fingerprint").reset_index(drop=True), facts[key]) for key in facts}


def measured(configs: Iterable[Config], *, folder: Path | None = None, **options) -> list[Result | Run]:
    """The results of many configs, in their order: from `folder` what it holds, from `sweep(…, **options)` the rest."""
    configs = list(configs)
    known = {dataset: read(dataset, Path(folder or FOLDER)) for dataset in {config.dataset for config in configs}}
    missing = [config for config in configs if config.fingerprint not in known[config.dataset]]
    trained = dict(zip((config.fingerprint for config in missing), sweep(missing, **options), strict=True))
    return [
        trained.get(config.fingerprint) or Result(config, *known[config.dataset][config.fingerprint])
        for config in configs
    ]


def stored(dataset: str, folder: Path | None = None) -> list[Result]:
    """Every run of a data set that `folder` holds, whatever its settings; empty if it holds none."""
    return [
        Result(config_of(facts), metrics, facts) for metrics, facts in read(dataset, Path(folder or FOLDER)).values()
    ]


def source(results: Iterable[Result | Run]) -> str:
    """One line that says where numbers come from: how many runs, stored or trained here, on what, with which torch."""
    results = list(results)
    stored = sum(isinstance(result, Result) for result in results)
    machines = sorted({str(result.provenance["hardware"]) for result in results})
    torch = sorted({result.provenance["versions"]["torch"] for result in results})
    seconds = sum(result.provenance["seconds"] for result in results)
    collapsed = sum(result.collapsed for result in results)
    return (
        f"{len(results)} runs, {stored} read from results/ and {len(results) - stored} from runs/; "
        f"{seconds / 60:.0f} minutes of training on {', '.join(machines)}, torch {', '.join(torch)}; collapsed: {collapsed}"
    )
