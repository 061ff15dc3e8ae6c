"""Measured runs as small files under version control: what tables and sliders show without training anything.

results/<stage>/runs.csv: one row per run, its settings and provenance.  outcomes/<imbalance>-<protocol>.npz: what each network said
of each test image.  history.csv: losses, of runs that take hours to make again.  A stage is a data set with one network, see
`stage_of`.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from .. import places
from ..config import Config
from ..evaluation import PAPER, STRONG, Outcomes, Protocol
from ..provenance import VERSIONS
from ..runs import Run
from ..sources import HOSTED, KNOWN, in_file_name, slug
from ..store import locked, write
from ..sweeps import sweep
from .stages import on_laptop

FOLDER = places.home() / "results"
STAGES = (*KNOWN, *(f"{name}-laptop" for name in HOSTED))
ORDER = ["imbalance", "method", "adversarial", "seed", "fingerprint"]  # how the rows of runs.csv are ordered
NOT_STORED = ("device", "threads", "source")  # settings that decide no number
FACTS = ("fingerprint", "class_counts", "subset_fingerprint", "seconds", "device", "hardware", "commit", *VERSIONS)


def export(
    runs: Iterable[Run],
    folder: Path | None = None,
    *,
    protocols: Sequence[Protocol] = (PAPER,),
    histories: bool = False,
) -> None:
    """Add finished runs to `folder`/<stage>: settings and provenance, and their outcomes under the protocols.

    Runs that are there already are replaced; rows have a fixed order, so that equal results give equal files.  ValueError for a
    run with its prior off: its outcomes are those of the plain run under `Protocol.adjusted`.
    histories: write history.csv, too (losses, one row per epoch): of runs that take hours to make again.
    """
    runs = sorted({run.config.fingerprint: run for run in runs}.values(), key=lambda run: run.config.name)
    if any(run.tau for run in runs):
        raise ValueError(
            "export the runs as they were trained, with protocols=[PAPER.adjusted(), …] for a prior that is off"
        )
    for stage in sorted({stage_of(run.config) for run in runs}):
        home = home_of(stage, folder)
        (home / "outcomes").mkdir(parents=True, exist_ok=True)
        chosen = [run for run in runs if stage_of(run.config) == stage]
        said = {protocol: [run.outcomes(protocol) for run in chosen] for protocol in protocols}
        with locked(home, "writing"):
            files: dict[Path, dict[str, Outcomes]] = {}
            other = set()  # retrained elsewhere with other predictions: stored features belong to another network
            for protocol, outcomes in said.items():
                for run, own in zip(chosen, outcomes, strict=True):
                    path = home / "outcomes" / f"{task_of(run.config)}-{protocol.name}.npz"
                    if path not in files:
                        files[path] = packed(path)
                    known = files[path].get(run.config.fingerprint, own)
                    if not all(
                        np.array_equal(said, own.predictions.get(name)) for name, said in known.predictions.items()
                    ):
                        other.add(run.config.fingerprint)
                    files[path][run.config.fingerprint] = own
            for path, whole in files.items():
                comparable(path, whole)
            for path, whole in sorted(files.items()):
                write(path, lambda path, whole=whole: pack(path, dict(sorted(whole.items()))))
            # Last: what a row says of its tests must be true of the outcomes, also where the writing is broken off.
            if histories:
                rows = [run.history.map("{:.6g}".format).assign(fingerprint=run.config.fingerprint) for run in chosen]
                write_rows(home / "history.csv", pd.concat(rows))
            write_rows(home / "runs.csv", pd.DataFrame(map(row, chosen), dtype=str))
            forget_features(home, other)
    _read.cache_clear()


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """Rows of runs, in place of those with their fingerprints that are there already."""
    if path.exists():
        old = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = pd.concat([old[~old["fingerprint"].isin(rows["fingerprint"])], rows])
    order = [key for key in ORDER if key in rows]
    columns = sorted(rows, key=lambda column: (column != "fingerprint", column in FACTS))
    rows = rows[columns].sort_values(order, kind="stable")
    write(path, lambda path: rows.to_csv(path, index=False))


def stage_of(config: Config) -> str:
    """What a run's numbers may be compared with: its data set's runs, but CIFAR-10 on another network is no run of the paper's."""
    if config.dataset not in HOSTED or config.model == "resnet18":
        return config.dataset
    return f"{config.dataset}-laptop" if on_laptop(config) else f"{config.dataset}-{config.model}"


def home_of(stage: str, folder: Path | None = None) -> Path:
    """Where the results of a stage lie: own images' name is a path, which must not be followed, and may end like another's."""
    own = f"{slug(stage)}-{hashlib.sha256(stage.encode()).hexdigest()[:8]}"
    return Path(folder or FOLDER) / (stage if stage in STAGES else own)


def task_of(config: Config) -> str:
    """What runs share a file of outcomes: "step-25", or "step-25-cat-horse"."""

    def own(name: str) -> str:
        plain = in_file_name(name)
        return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"

    return "-".join([config.imbalance, *map(own, config.classes or ())])


def comparable(path: Path, outcomes: Mapping[str, Outcomes]) -> None:
    """Raise ValueError where outcomes that a file is to hold come from several test sets, or from other attacks."""
    tests, attacks = (
        {of(each) for each in outcomes.values()} for of in (lambda o: o.test, lambda o: tuple(o.predictions))
    )
    if len(tests) > 1 or len(attacks) > 1:
        differ = f"{len(tests)} test sets" if len(tests) > 1 else f"the attacks {sorted(attacks)}"
        raise ValueError(
            f"{path} holds one test set under one list of attacks, and these runs have {differ}; move its folder aside to keep them"
        )


def pack(path: Path, outcomes: Mapping[str, Outcomes]) -> None:
    """Fingerprint → outcomes under one protocol, as one file: predictions int16 [R,A,N] of R runs under A attacks."""
    comparable(path, outcomes)
    first = next(iter(outcomes.values()))
    said = np.stack([list(each.predictions.values()) for each in outcomes.values()])
    arrays = {
        "keys": list(outcomes),
        "names": list(first.predictions),
        "test": first.test,
        "labels": first.labels,
        "said": said,
    }
    with zipfile.ZipFile(
        path, "w", zipfile.ZIP_LZMA
    ) as archive:  # a third of `np.savez_compressed`; `np.load` reads both
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def packed(path: Path) -> dict[str, Outcomes]:
    """What `pack` wrote; empty where there is no file."""
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        names, test, labels = stored["names"].tolist(), str(stored["test"]), stored["labels"]
        pairs = zip(stored["keys"].tolist(), stored["said"], strict=True)
        return {key: Outcomes(test, labels, dict(zip(names, said, strict=True))) for key, said in pairs}


def forget_features(home: Path, fingerprints: Collection[str]) -> None:
    """Remove what was written of the features of networks that are no longer those of `home`'s rows."""
    for each in fingerprints:
        (home / f"features-{each}.npz").unlink(missing_ok=True)
    path = home / "separability.csv"
    if fingerprints and path.exists():
        rows = pd.read_csv(path, dtype=str)
        kept = rows[~rows["fingerprint"].isin(fingerprints)]
        write(path, lambda path: kept.to_csv(path, index=False))


def row(run: Run) -> dict[str, str]:
    """A run's settings, all of them, and its provenance, as text: what is not text itself stands as JSON."""
    settings = {name: value for name, value in run.config.to_dict().items() if name not in NOT_STORED}
    if run.config.dataset not in KNOWN:
        settings["source"] = run.config.images  # so that it is read back where they are not
    facts = {name: value for name, value in run.provenance.items() if name not in ("versions", "class_counts")}
    own = settings | facts | {"class_counts": run.provenance["class_counts"]} | run.provenance["versions"]
    texts = {name: value if name in FACTS and isinstance(value, str) else as_text(value) for name, value in own.items()}
    if config_of(texts).fingerprint != run.config.fingerprint:  # a setting is None whose default is something
        texts |= {name: "null" for name, value in settings.items() if value is None}
    return texts


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


def read(stage: str, folder: Path | None = None) -> dict[str, Run]:
    """Fingerprint → run, of all that `folder` (results/) holds of a stage; empty if it holds none.

    Raises ValueError where a row's settings no longer give the fingerprint it was stored under.
    """
    return _read(stage, Path(folder or FOLDER))


@cache
def _read(stage: str, folder: Path) -> dict[str, Run]:
    home = home_of(stage, folder)
    if not (home / "runs.csv").exists():
        return {}
    said: dict[str, dict[str, Outcomes]] = {}
    for path in sorted((home / "outcomes").glob("*.npz")):
        for key, outcomes in packed(path).items():
            said.setdefault(key, {})[path.stem.rpartition("-")[2]] = outcomes
    runs = {}
    for row in pd.read_csv(home / "runs.csv", dtype=str, keep_default_na=False).to_dict("records"):
        config, key = config_of(row), row["fingerprint"]
        if config.fingerprint != key:
            raise ValueError(
                f"{home / 'runs.csv'}: the settings of {key} now give {config.fingerprint}; a default has changed its meaning"
            )
        facts = {name: row[name] for name in FACTS} | {
            "class_counts": json.loads(row["class_counts"]),
            "seconds": float(row["seconds"]),
            "versions": {name: row[name] for name in VERSIONS},
        }
        runs[key] = Run(config, None, facts, said.get(key, {}))
    return runs


def measured(
    configs: Iterable[Config], *, folder: Path | None = None, protocols: Sequence[Protocol] = (PAPER,), **options
) -> list[Run]:
    """The runs of many configs, in their order, with their outcomes under the protocols.

    From `folder` what it holds, from `sweep(…, **options)` the rest, and what `folder` holds under other protocols only; with
    minutes=…, those that were finished in time.
    """
    configs = list(configs)
    kept = {config: held(config, protocols, folder) for config in configs}
    missing = [config for config, run in kept.items() if run is None]
    trained = {run.config: run for run in sweep(missing, protocols=protocols, **options)}
    return [run for config in configs if (run := kept[config] or trained.get(config))]


def stored(
    configs: Iterable[Config], *, folder: Path | None = None, protocols: Sequence[Protocol] = (PAPER,)
) -> list[Run]:
    """Those of the configs that `folder` holds under all the protocols; nothing is trained, no image is needed."""
    return [run for config in configs if (run := held(config, protocols, folder))]


def held(config: Config, protocols: Sequence[Protocol], folder: Path | None = None) -> Run | None:
    """What `folder` holds of a config, if it is tested under all the protocols as the config says: attack steps, test images."""
    run = read(stage_of(config), folder).get(config.fingerprint)
    as_asked = run and all(run.evaluated(each) and each.key(run.config) == each.key(config) for each in protocols)
    tested = {(each.part, run.outcomes(each).test) for each in protocols} if as_asked else ()
    return run if as_asked and len(tested) == len({each.part for each in protocols}) else None


def whole_seeds(configs: Iterable[Config], few: Sequence[str] = (), folder: Path | None = None) -> list[Config]:
    """Those of the seeds that are stored for every config; where none is, the first seed of a few methods, to be trained here."""
    configs = list(configs)
    kept = read(stage_of(configs[0]), folder)
    missing = {config.seed for config in configs if config.fingerprint not in kept}
    stored = [config for config in configs if config.seed not in missing]
    return stored or [c for c in configs if c.seed == configs[0].seed and c.method in few]


def prior_off(runs: Iterable[Run]) -> list[Run]:
    """The runs with a post-hoc prior (`Run.prior_off`); of stored ones those that were tested with it under PAPER and STRONG."""
    off = [run.prior_off() for run in runs]
    return [run for run in off if run.folder is not None or all(map(run.evaluated, (PAPER, STRONG)))]


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
