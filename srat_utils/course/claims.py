"""The ledger: what the paper claims, what our runs say of it, with an interval and a word.

python -m srat_utils.course.claims          writes results/claims.csv from what results/ holds; trains nothing

The claims are those of `paper_claims`.  Verdicts are those of `effects.judge`: Holm's correction runs over all that a notebook's
table shows of one stage: clean, under PGD-20 and STRONG.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from .. import effects
from ..config import Config
from ..effects import Effect
from ..evaluation import PAPER, STRONG, Protocol
from ..runs import Run
from ..store import write
from . import exhibits, results, stages
from .compare import in_words
from .evidence import Claim, Stage
from .paper_claims import every_claim
from .tables import Table, in_full

ATTACKS = {"PGD-20": PAPER, "STRONG": STRONG}


def judged(claims: Iterable[Claim], stage: Stage, attacks: Mapping[str, Protocol] = ATTACKS) -> pd.DataFrame:
    """One row per claim and attack: the claim's columns, stage, attack ("none" where all is clean), then those of `effects.judge`.

    Holm's correction runs over the rows of one notebook.
    """
    rows: dict[str, list[tuple[Claim, str, Effect | None]]] = {}
    for claim in claims:
        for attack, protocol in {"none": PAPER}.items() if claim.clean else attacks.items():
            rows.setdefault(claim.notebook, []).append((claim, attack, claim.found(stage, protocol)))
    parts = []
    for table in rows.values():
        about = pd.DataFrame(
            [(c.section, c.words, c.shown, c.notebook, stage.name, attack, c.paper) for c, attack, _ in table],
            columns=["section", "claim", "shown", "notebook", "stage", "attack", "paper"],
        )
        found = effects.judge(dict(enumerate(effect for _, _, effect in table))).reset_index(drop=True)
        parts.append(pd.concat([about, found], axis=1))
    ledger = pd.concat(parts, ignore_index=True)
    order = {claim.shown: number for number, claim in enumerate(claims)}
    return ledger.sort_values("shown", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def table(
    notebook: str, base: Config, runs: Iterable[Run], seeds: Sequence[int], features: pd.DataFrame | None = None,
    sections: str = "",
) -> Table:  # fmt: skip
    """What a notebook shows of its claims: the paper's words, the difference, and for each attack interval and verdict.

    base: the settings that all runs share.  features: measures of separability, as `exhibits.separability` has them.
    sections: the beginning of the sections to show; verdicts are corrected for all of the notebook's claims.
    """
    own = {} if features is None else {"features": features}
    stage = Stage(base.dataset, base, {run.config.fingerprint: run for run in runs}, seeds, **own)
    rows = judged([claim for claim in every_claim() if claim.notebook == notebook], stage)
    return shown(rows[rows["section"].str.startswith(sections)])


def ledger() -> pd.DataFrame:
    """results/claims.csv, as `main` wrote it."""
    return pd.read_csv(results.FOLDER / "claims.csv", dtype={"notebook": str, "images": "Int64"}, keep_default_na=False,
                       na_values={name: "" for name in ("difference", "low", "high", "p", "images")})  # fmt: skip


def summary(rows: pd.DataFrame) -> Table:
    """A ledger in short: one line per claim of the paper; for each stage and attack how many of its differences got which word."""
    attack = rows["attack"].replace("none", "clean")
    order = {word: place for place, word in enumerate(("up", "down", "undecided", "not measured"))}

    def count(words: pd.Series) -> str:
        numbers = words.value_counts()
        return ", ".join(f"{numbers[word]} {word}" for word in sorted(numbers.index, key=order.get))

    keys = ["section", "claim", "paper", "notebook"]
    cells = rows.assign(attack=attack).groupby([*keys, "stage", "attack"], sort=False)["verdict"].agg(count)
    return in_full(
        cells.unstack(["stage", "attack"])
        .fillna("")
        .reindex(rows[keys].drop_duplicates().itertuples(index=False, name=None))
    )


def shown(ledger: pd.DataFrame) -> Table:
    """Rows of `judged`, one per claim: difference, its 95 % interval and the verdict side by side for stages and attacks.

    What is the same under any attack stands in the first of a stage's columns, whose head says so.
    """
    stages = list(ledger["stage"].unique())
    attacks = [name for name in ledger["attack"].unique() if name != "none"] or ["none"]
    rows = {}
    for (words, said), own in ledger.groupby(["claim", "shown"], sort=False):
        cells = [own["paper"].iloc[0]]
        for stage in stages:
            by_attack = own[own["stage"] == stage].set_index("attack")
            if "none" in by_attack.index:
                cells += [in_words(by_attack.loc["none"]), *[""] * (len(attacks) - 1)]
            else:
                cells += [in_words(by_attack.loc[name]) for name in attacks]
        rows[words, said] = cells
    names = ["difference [95 %]" if name == "none" else name for name in attacks]
    if "none" in set(ledger["attack"]) and attacks != ["none"]:
        names[0] = f"clean, or {names[0]}"
    columns = names if len(stages) == 1 else [f"{stage}: {name}" for stage in stages for name in names]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["the paper says", *columns])
    frame.index = pd.MultiIndex.from_tuples(rows, names=["claim", "the difference"])
    return in_full(frame)


def beside(notebook: str, sections: str = "") -> Table:
    """A notebook's claims on digits and on photographs, as results/claims.csv has them: `table` side by side, nothing is trained."""
    rows = ledger()
    both = rows["stage"].isin(("digits", "CIFAR-10 on a laptop"))
    chosen = (rows["notebook"] == notebook) & both & rows["section"].str.startswith(sections)
    return shown(rows[chosen])


def all_stages() -> list[Stage]:
    """The three stages as results/ has them; of photographs the sets at ratio 100 and the paper's own pair, cat and horse."""
    digits, photographs = (stages.for_mode("laptop", name)[0] for name in ("digits", "cifar10"))
    own_pair, larger = stages.pairs("cifar10")[:1], stages.imbalances("cifar10")[1::2]
    return [
        Stage("digits", digits, results.read("digits"), features=exhibits.separability("digits")),
        Stage(
            "CIFAR-10 on a laptop",
            photographs,
            results.read("cifar10-laptop"),
            features=exhibits.separability("cifar10-laptop"),
            sets=larger,
            pairs=own_pair,
        ),
        Stage(
            "the paper's own",
            Config("cifar10"),
            results.read("cifar10"),
            features=exhibits.separability("cifar10"),
            sets=larger,
            pairs=own_pair,
        ),
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m srat_utils.course.claims", description=__doc__.splitlines()[0])
    parser.parse_args(arguments)
    claims = every_claim()
    ledger = pd.concat([judged(claims, stage) for stage in all_stages()], ignore_index=True)
    target = results.FOLDER / "claims.csv"
    write(target, lambda path: ledger.to_csv(path, index=False, float_format="%.6g"))
    print(ledger.groupby(["stage", "attack", "verdict"]).size().unstack(fill_value=0))
    print(f"{len(ledger)} rows are written to {target}")


if __name__ == "__main__":
    main()
