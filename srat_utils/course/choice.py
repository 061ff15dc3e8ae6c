"""How the course's settings are chosen: on validation images, by a procedure that can be run again.

python -m srat_utils.course.choice          trains 282 networks, resumable, and writes results/digits/choice.csv
python -m srat_utils.course.choice cifar10  trains four, ten minutes each on one core; results/cifar10-laptop/choice.csv

Of the digits:

1. A fifth of each class is held out before the imbalance; no test image is read.  The seeds are not those of the studies.
2. From the preset, one setting at a time takes other values (FAMILIES).  Each trains all eleven methods on Step-25 (λ: the three
   that have it), so that no method is tuned and the others are not.
3. The value is robust accuracy (PGD-20), the mean over classes, so that five rare classes weigh as much as five frequent ones,
   and the mean over methods.
4. The best value of a setting replaces the preset's only if it is better after Holm's correction (p < 0.05, paired by seed) and
   is not among COSTLY: the course trains live.  Then all is repeated from the new preset.

ε is not in it: another ε is another problem, not a better answer.

For photographs on a laptop's network four schedules of about equal cost were tried, with one method and one seed: enough to pick
one that trains in ten minutes, not to say that it is the best.  `stages.PHOTOGRAPHS` is the last of them in ten epochs: its
rate falls at the sixth and the eighth.
"""

from __future__ import annotations

import argparse

import pandas as pd

from .. import effects
from ..config import Config
from ..methods import ELEVEN
from ..selection import on_validation
from ..store import write
from . import results
from .stages import PHOTOGRAPHS
from .studies import SRAT

SEEDS = (100, 101, 102)
BY = "robust balanced"
FAMILIES: dict[str, tuple] = {
    "epochs": (20, 40, 80),
    "batch_size": (16, 32, 64),
    "learning_rate": (0.03, 0.1),
    "lr_decay": (0.01, 0.1),
    "weight_decay": (2e-4, 1e-3),
    "separation_weight": (0.1, 0.3, 1.0),
}
SCHEDULES: tuple[dict, ...] = (
    {"batch_size": 128},
    {"batch_size": 64},
    {"batch_size": 64, "max_per_class": 2500, "epochs": 24, "warmup_epochs": 2},
    {"batch_size": 64, "decay_at": (0.6, 0.85), "reweight_at": 0.6},
)
COSTLY = {"epochs": (80,), "batch_size": (16,)}  # measured, and too slow for a course that trains live


def candidates(name: str) -> list[Config]:
    """Every value of a setting, for every method that has it and every seed."""
    base = Config("digits", imbalance="step-25", validation=0.2)
    methods = SRAT if name == "separation_weight" else ELEVEN
    return [
        base.replace(method=method, seed=seed, **{name: value})
        for value in FAMILIES[name]
        for method in methods
        for seed in SEEDS
    ]


def table(**options) -> pd.DataFrame:
    """One row per tried value: setting, tried, and robust accuracy on validation images; then how far it is from the preset's.

    eligible: whether rule 4 lets it take the preset's place.  verdict: "up" where it is better.  options: of `sweep`.
    """
    rows, beside = [], {}
    for name, values in FAMILIES.items():
        found = on_validation(candidates(name), BY, over=["method"], **options)
        by_seed, seconds = (found[column].unstack("seed") for column in ("value", "seconds"))
        preset = getattr(Config("digits", method="SRAT-CE"), name)
        for value in values:
            eligible = value not in COSTLY.get(name, ())
            rows.append((name, value, eligible, seconds.loc[value].mean(), by_seed.loc[value].mean()))
            if value != preset:
                beside[name, value] = effects.from_seeds(by_seed.loc[value] - by_seed.loc[preset])
    frame = pd.DataFrame(rows, columns=["setting", "tried", "eligible", "seconds", BY])
    judged = effects.judge(beside).drop(columns="images")
    judged.index = pd.MultiIndex.from_tuples(judged.index, names=["setting", "tried"])
    return frame.join(judged, on=["setting", "tried"]).fillna({"verdict": "preset"})


def schedules(**options) -> pd.DataFrame:
    """One row per tried schedule of photographs: its settings, seconds, and accuracy on validation images, clean and robust, in percent.

    options: of `sweep`.
    """
    kept = {name: PHOTOGRAPHS[name] for name in ("model", "precision", "threads", "lr_decay", "test_per_class")}
    base = Config("cifar10", imbalance="exp-100", method="DRCB-CE", validation=0.1, epochs=12, warmup_epochs=1, **kept)
    configs = [base.replace(**changes) for changes in SCHEDULES]
    robust, clean = (on_validation(configs, by, **options) for by in (BY, "clean balanced"))
    tried = robust.rename(columns={"value": BY}).assign(**{"clean balanced": clean["value"]})
    return tried.reset_index().drop(columns="seed")


def replaced(rows: pd.DataFrame) -> dict[str, float]:
    """Setting → value that takes the preset's place by rule 4; empty where the preset stays.  rows: `table`'s."""
    better = rows[rows["eligible"] & (rows["verdict"] == "up")].sort_values("robust balanced", ascending=False)
    return dict(better.drop_duplicates("setting")[["setting", "tried"]].to_numpy())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m srat_utils.course.choice", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default="digits", choices=("digits", "cifar10"))
    parser.add_argument("--jobs", type=int, help="processes at a time; one per core unless given")
    asked = parser.parse_args(arguments)
    target = results.FOLDER / ("digits" if asked.dataset == "digits" else "cifar10-laptop") / "choice.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = table(jobs=asked.jobs) if asked.dataset == "digits" else schedules(jobs=asked.jobs)
    write(target, lambda path: rows.to_csv(path, index=False, float_format="%.4g"))
    if asked.dataset == "cifar10":
        print(f"written to {target}")
        return
    taken = replaced(rows)
    print(f"written to {target}; " + (f"better than the preset: {taken}" if taken else "the preset stays"))


if __name__ == "__main__":
    main()
