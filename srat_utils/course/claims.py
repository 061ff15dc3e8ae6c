"""The ledger: what the paper claims, what our runs say of it, with an interval and a word.

python -m srat_utils.course.claims          writes results/claims.csv from what results/ holds; trains nothing

Every difference is taken so that it is positive where the paper says that something rises, or is above something else.
Where the paper says that nothing happens, the difference is the change that should not be there.  Verdicts are those of
`effects.judge`: Holm's correction runs over all that a notebook's table shows of one stage: clean, under PGD-20 and STRONG.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import pandas as pd

from .. import effects
from ..config import Config
from ..effects import Effect
from ..evaluation import PAPER, STRONG, Protocol
from ..runs import Run
from ..store import write
from . import results, studies
from .studies import SRAT
from .tables import Table, in_full

ATTACKS = {"PGD-20": PAPER, "STRONG": STRONG}
RIVALS = {
    "CE": ("CE", "CB-Reweight", "DRCB-CE"),
    "Focal": ("Focal", "CB-Focal", "DRCB-Focal"),
    "LDAM": ("LDAM", "DRCB-LDAM"),
}
LOSSES = tuple(RIVALS)
EVERY, EXTREME, PAIRS = "every set", "the larger ratio", "every pair"


@dataclass(frozen=True)
class Stage:
    """One data set with one schedule on which claims are judged.

    base: the settings that all its runs share.  stored: fingerprint → run.  seeds: those to look for; None: all that are stored.
    features: fingerprint → measures of separability, one row (images, measure) each; see `results.separability`.
    sets, pairs: what "every set" and "every pair" mean here; None: all four of the data set.
    """

    name: str
    base: Config
    stored: Mapping[str, Run]
    seeds: Sequence[int] | None = None
    features: pd.DataFrame = field(default_factory=pd.DataFrame)
    sets: tuple[str, ...] | None = None
    pairs: tuple[tuple[str, str], ...] | None = None

    def __post_init__(self):
        if self.seeds is None:
            object.__setattr__(self, "seeds", sorted({run.config.seed for run in self.stored.values()}))

    @property
    def only_extreme(self) -> bool:
        return self.sets is not None and set(self.sets) <= set(studies.imbalances(self.base.dataset)[1::2])

    def configs(self, seed: int, imbalance: str = EVERY, classes=None, times: int = 1, **settings) -> list[Config]:
        """One side of a comparison: its configs of one seed.

        imbalance: EVERY, EXTREME, or "step", "exp" (their larger ratio), "step, smaller", "exp, smaller".  classes: PAIRS, or None
        for all.  times: how often the epochs of the base.
        """
        every = studies.imbalances(self.base.dataset)
        sets = {EVERY: self.sets or every, EXTREME: (every[1], every[3]), "step, smaller": every[:1], "step": every[1:2],
                "exp, smaller": every[2:3], "exp": every[3:]}[imbalance]  # fmt: skip
        pairs = (self.pairs or studies.pairs(self.base.dataset)) if classes == PAIRS else (classes,)
        settings |= {"seed": seed} | ({"epochs": times * self.base.epochs} if times > 1 else {})
        return [studies.of_set(self.base, one, classes=pair, **settings) for one, pair in product(sets, pairs)]

    def runs(self, protocol: Protocol, *sides: dict) -> list[list[Run]]:
        """The runs of each side, of the seeds on which all of them are tested under the protocol."""
        found = [[] for _ in sides]
        for seed in self.seeds:
            of_seed = [[self.stored.get(config.fingerprint) for config in self.configs(seed, **side)] for side in sides]
            if all(run is not None and run.evaluated(protocol) for runs in of_seed for run in runs):
                for all_seeds, runs in zip(found, of_seed, strict=True):
                    all_seeds.extend(runs)
        return found

    def contrast(self, sides: Sequence[tuple[float, dict, str]], measure: str, protocol: Protocol) -> Effect | None:
        runs = self.runs(protocol, *(settings for _, settings, _ in sides))
        return effects.contrast(
            [(sign, own, kind) for (sign, _, kind), own in zip(sides, runs, strict=True)], measure, protocol
        )


@dataclass(frozen=True)
class Claim:
    """section: of the paper.  words: the paper's.  shown: what difference is taken.  notebook: its number.

    found: (stage, protocol) → Effect, or None where it is not measured.  paper: "up", or "no change".
    clean: whether no evaluation attack is in it, so that there is one row, not one per attack.
    """

    section: str
    words: str
    shown: str
    notebook: str
    found: Callable[[Stage, Protocol], Effect | None]
    paper: str = "up"
    clean: bool = False


def between(
    ours: dict, theirs: dict, measure: str, kind: str, against: str | None = None
) -> Callable[[Stage, Protocol], Effect | None]:
    """ours − theirs, each the settings of runs."""
    sides = [(1, ours, kind), (-1, theirs, against or kind)]
    return lambda stage, protocol: stage.contrast(sides, measure, protocol)


def more_than(first: tuple[dict, dict, str], second: tuple[dict, dict, str], measure: str):
    """(ours − theirs, of one kind) of the first minus that of the second."""
    (a, b, kind), (c, d, other) = first, second
    sides = [(1, a, kind), (-1, b, kind), (-1, c, other), (1, d, other)]
    return lambda stage, protocol: stage.contrast(sides, measure, protocol)


def above_all(ours: dict, rivals: Iterable[dict], measure: str, kind: str):
    """ours − the best of several rivals, corrected for that choice."""

    def found(stage: Stage, protocol: Protocol) -> Effect | None:
        each = [between(ours, rival, measure, kind)(stage, protocol) for rival in rivals]
        return None if None in each else effects.above_best(each)

    return found


def mean_of(comparisons: Sequence[tuple[float, dict, dict]], measure: str, kind: str):
    """Σ share · (ours − theirs), over several comparisons."""
    sides = [part for share, ours, theirs in comparisons for part in ((share, ours, kind), (-share, theirs, kind))]
    return lambda stage, protocol: stage.contrast(sides, measure, protocol)


def where_smaller_ratios_are(found: Callable[[Stage, Protocol], Effect | None]):
    """Not measured on a stage that has the larger ratio alone."""
    return lambda stage, protocol: None if stage.only_extreme else found(stage, protocol)


def of_level(settings: dict, bound: float, measure: str, kind: str):
    """bound − accuracy, in percent."""

    def found(stage: Stage, protocol: Protocol) -> Effect | None:
        (runs,) = stage.runs(protocol, settings)
        if not runs:
            return None
        level = effects.level(runs, measure, kind, protocol)
        estimate = bound - level.estimate
        return replace(
            level, estimate=estimate, low=bound - level.high, high=bound - level.low, p=level.spread.p(estimate)
        )

    return found


def given_up(settings: dict, kind: str, expected: int):
    """How many rare classes have an accuracy of 0, above the number that is expected."""

    def found(stage: Stage, protocol: Protocol) -> Effect | None:
        (runs,) = stage.runs(protocol, settings)
        counts = []
        for run in runs:
            rows = run.evaluate(protocol)
            rare = rows[(rows["kind"] == kind) & (rows["group"] == "under")]
            counts.append(float((rare["accuracy"] == 0).sum() - expected))
        return effects.from_seeds(counts) if counts else None

    return found


def of_features(ours: dict, theirs: dict, measure: str, images: tuple[str, str]):
    """A measure of separability of ours − theirs.  images: "clean" or "attacked", of ours and of theirs; seeds' error alone."""

    def found(stage: Stage, protocol: Protocol) -> Effect | None:
        if measure not in stage.features:
            return None
        values = stage.features[measure]
        differences = []
        for seed in stage.seeds:
            mine, other = (
                [values.get((config.fingerprint, shown)) for config in stage.configs(seed, **side)]
                for side, shown in zip((ours, theirs), images, strict=True)
            )
            if None not in mine + other:
                differences.append(np.mean(mine) - np.mean(other))
        return effects.from_seeds(differences) if differences else None

    return found


def section_2_1() -> list[Claim]:
    natural, adversarial = {"method": "CE", "adversarial": False}, {"method": "CE"}
    gap = "adversarial training produces larger performance gap than natural training"
    claims = [
        Claim("2.1, A.1", gap, f"clean gap well − rare, adversarial − natural, {name}", "01",
              between(adversarial | {"imbalance": sets}, natural | {"imbalance": sets}, "gap", "clean"), clean=True)
        for name, sets in (("Step, smaller ratio", "step, smaller"), ("Step, larger ratio", "step"),
                           ("Exp, smaller ratio", "exp, smaller"), ("Exp, larger ratio", "exp"))
    ]  # fmt: skip
    claims += [
        Claim("2.1", "[adversarial training] suffers more on under-represented classes",
              "rare classes' clean accuracy, natural − adversarial", "01",
              between(natural, adversarial, "under", "clean"), clean=True),
        Claim("2.1", "3 out of the 5 under-represented classes with 0% standard accuracy",
              "rare classes at 0 % clean, above three, Step, larger ratio", "01",
              given_up(adversarial | {"imbalance": "step"}, "clean", 3), "no change", clean=True),
        Claim("2.1", "3 out of the 5 under-represented classes with 0% robust accuracy",
              "rare classes at 0 % robust, above three, Step, larger ratio", "01",
              given_up(adversarial | {"imbalance": "step"}, "robust", 3), "no change"),
    ]  # fmt: skip
    claims += [
        Claim("A.1", "in all imbalanced scenarios very low robust accuracy on under-represented classes",
              f"10 % (guessing) − rare classes' robust accuracy, {name}", "01",
              of_level(adversarial | {"imbalance": sets}, 10, "under", "robust"))
        for name, sets in (("Step, smaller ratio", "step, smaller"), ("Step, larger ratio", "step"),
                           ("Exp, smaller ratio", "exp, smaller"), ("Exp, larger ratio", "exp"))
    ]  # fmt: skip
    return claims


def section_2_2() -> list[Claim]:
    def pair(ratio, adversarial=True):
        return {"imbalance": "step", "classes": PAIRS, "method": "CB-Reweight", "weight_ratio": ratio,
                "adversarial": adversarial}  # fmt: skip

    low, high = studies.PAIR_RATIOS[0], studies.PAIR_RATIOS[-1]
    rise, drop = (pair(high), pair(low)), (pair(low), pair(high))
    natural = (pair(low, False), pair(high, False))
    claims = []
    for kind in ("clean", "robust"):
        words = "standard" if kind == "clean" else "robust"
        claims += [
            Claim("2.2", f"the under-represented class's {words} accuracy can be improved drastically",
                  f"rare class, {kind}, ρ = {high:g} − ρ = {low:g}", "02",
                  between(*rise, "under", kind), clean=kind == "clean"),
            Claim("2.2", f"… immensely decreasing the performance of the well-represented class ({words})",
                  f"frequent class, {kind}, ρ = {low:g} − ρ = {high:g}", "02",
                  between(*drop, "well", kind), clean=kind == "clean"),
        ]  # fmt: skip
    claims += [
        Claim("2.2", "for naturally trained models, increasing the weights will only slightly decrease the well-represented class",
              f"frequent class, clean, natural training, ρ = {low:g} − ρ = {high:g}", "02",
              between(*natural, "well", "clean"), "no change", clean=True),
        Claim("2.2", "… adversarial training decreases it more: standard accuracy on both sides",
              "loss of the frequent class, clean, adversarial − natural", "02",
              more_than((*drop, "clean"), (*natural, "clean"), "well"), clean=True),
        Claim("2.2", "… adversarial training decreases it more: robust accuracy there, standard accuracy here",
              "loss of the frequent class, robust, adversarial − clean, natural", "02",
              more_than((*drop, "robust"), (*natural, "clean"), "well")),
    ]  # fmt: skip
    claims += [
        Claim("2.2", "reweighting can hardly help improve the overall performance no matter which weight ratio",
              f"mean of both classes, {kind}, ρ = {high:g} − ρ = {low:g}", "02",
              between(*rise, "balanced", kind), "no change", clean=kind == "clean")
        for kind in ("clean", "robust")
    ]  # fmt: skip
    return claims


def section_3() -> list[Claim]:
    natural, adversarial = ({"imbalance": "step", "method": "CE", "adversarial": one} for one in (False, True))
    pair = {"imbalance": "step", "classes": PAIRS, "method": "CB-Reweight", "weight_ratio": studies.PAIR_RATIOS[0]}
    claims = [
        Claim("3, Figure 3", "adversarially trained models present poorer separability on the learned features",
              f"{measure.replace('_', ' ')}, ten classes, {images} test images, natural − adversarial", "03",
              of_features(natural, adversarial, measure, (images, images)), clean=True)
        for images in ("clean", "attacked")
        for measure in ("variance_ratio", "silhouette", "probe_accuracy")
    ]  # fmt: skip
    claims += [
        Claim("3, Figure 3", "adversarially trained models present poorer separability on the learned features",
              f"t, pairs of classes, {images} test images, natural − adversarial", "04",
              of_features(pair | {"adversarial": False}, pair, "t", (images, images)), clean=True)
        for images in ("clean", "attacked")
    ]  # fmt: skip
    return claims


def section_4_3() -> list[Claim]:
    claims = []
    for kind in ("clean", "robust"):
        clean = kind == "clean"
        claims += [
            Claim("4.3", "deferred reweighting: weights that come late help", f"DRCB-CE − CE, rare classes, {kind}", "05",
                  between({"method": "DRCB-CE"}, {"method": "CE"}, "under", kind), clean=clean),
            Claim("4.3", "… and more than weights from the start", f"DRCB-CE − CB-Reweight, rare classes, {kind}", "07",
                  between({"method": "DRCB-CE"}, {"method": "CB-Reweight"}, "under", kind), clean=clean),
            Claim("4.3", "… and more than weights from the start", f"DRCB-CE − CB-Reweight, overall, {kind}", "07",
                  between({"method": "DRCB-CE"}, {"method": "CB-Reweight"}, "overall", kind), clean=clean),
        ]  # fmt: skip
    for times, at in ((1, 0.5), (2, 0.8), (2, 0.5)):
        late = {"imbalance": "step", "method": "DRCB-CE", "times": times, "reweight_at": at}
        early = {"imbalance": "step", "method": "CB-Reweight", "times": times}
        claims += [
            Claim("4.3", "… and more than weights from the start",
                  f"DRCB-CE − CB-Reweight, rare classes, {kind}, Step, larger ratio, {times} × the epochs, T_d = {at}", "07",
                  between(late, early, "under", kind), clean=kind == "clean")
            for kind in ("clean", "robust")
        ]  # fmt: skip
    return claims


def section_5_2() -> list[Claim]:
    claims = []
    measures = [(measure, kind) for measure in ("overall", "under") for kind in ("clean", "robust")]
    said = {"overall": "overall", "under": "rare classes"}
    for loss, (measure, kind) in product(LOSSES, measures):
        claims.append(
            Claim("5.2", "compared to baseline methods, SRAT obtains improved performance",
                  f"SRAT-{loss} − DRCB-{loss}, {said[measure]}, {kind}", "05",
                  between({"method": f"SRAT-{loss}"}, {"method": f"DRCB-{loss}"}, measure, kind), clean=kind == "clean")
        )  # fmt: skip
    for loss, (measure, kind) in product(LOSSES, measures):
        claims.append(
            Claim("5.2", "… under almost all imbalanced settings",
                  f"SRAT-{loss} − the best other {loss} method, {said[measure]}, {kind}", "06",
                  above_all({"method": f"SRAT-{loss}"}, [{"method": name} for name in RIVALS[loss]], measure, kind),
                  clean=kind == "clean")
        )  # fmt: skip
    for kind in ("clean", "robust"):
        twins = [({"method": f"SRAT-{loss}"}, {"method": f"DRCB-{loss}"}) for loss in LOSSES]
        larger = [(1 / 3, ours | {"imbalance": EXTREME}, theirs | {"imbalance": EXTREME}) for ours, theirs in twins]
        every = [(-1 / 3, ours, theirs) for ours, theirs in twins]
        claims.append(
            Claim("5.2", "… especially under the extremely imbalanced setting",
                  f"SRAT − DRCB, rare classes, {kind}, at the larger ratio − over all sets", "06",
                  where_smaller_ratios_are(mean_of(larger + every, "under", kind)), clean=kind == "clean")
        )  # fmt: skip
    for other, (measure, kind) in product(("CE", "Focal"), measures):
        claims += [
            Claim("5.2", f"{family}-LDAM outperforms {family}-{other}"
                  + (" (in the paper's own tables not on clean images)" if kind == "clean" else ""),
                  f"{family}-LDAM − {family}-{other}, {said[measure]}, {kind}", "06",
                  between({"method": f"{family}-LDAM"}, {"method": f"{family}-{other}"}, measure, kind), clean=kind == "clean")
            for family in ("DRCB", "SRAT")
        ]  # fmt: skip
    for other, kind in product(("CE", "Focal"), ("clean", "robust")):
        ours = ({"method": f"SRAT-{other}"}, {"method": f"DRCB-{other}"}, kind)
        ldam = ({"method": "SRAT-LDAM"}, {"method": "DRCB-LDAM"}, kind)
        claims.append(
            Claim("A.6", "the improvement is more obvious with CE and Focal than with LDAM",
                  f"(SRAT − DRCB with {other}) − (with LDAM), rare classes, {kind}", "06",
                  more_than(ours, ldam, "under"), clean=kind == "clean")
        )  # fmt: skip
    return claims


def section_5_3() -> list[Claim]:
    step = {"imbalance": "step"}
    claims = [
        Claim("5.3, Figure 4", "the feature space learned by SRAT-LDAM is more separable",
              f"{measure.replace('_', ' ')}, attacked test images, SRAT-LDAM − {other}", "07",
              of_features(step | {"method": "SRAT-LDAM"}, step | {"method": other}, measure, ("attacked", "attacked")),
              clean=True)
        for other in ("CE", "DRCB-LDAM")
        for measure in ("variance_ratio", "silhouette", "probe_accuracy")
    ]  # fmt: skip
    low, high = studies.RATIOS[0], studies.RATIOS[-1]
    for method in SRAT:
        heavy, light = (step | {"method": method, "weight_ratio": ratio} for ratio in (high, low))
        flat = method == "SRAT-LDAM"
        (ours, x), (theirs, y) = ((heavy, high), (light, low)) if flat else ((light, low), (heavy, high))
        claims += [
            Claim("5.3, Figure 5", "standard accuracy is increased with the increase of the weights",
                  f"{method}, overall, clean, weight {high:g} − {low:g}", "07",
                  between(heavy, light, "overall", "clean"), clean=True),
            Claim("5.3, Figure 5",
                  "robust accuracy of SRAT-LDAM is almost unchanged" if flat else "robust accuracy even has slight decrease",
                  f"{method}, overall, robust, weight {x:g} − {y:g}", "07",
                  between(ours, theirs, "overall", "robust"), "no change" if flat else "up"),
        ]  # fmt: skip
    for kind, sets, method in product(("clean", "robust"), ("step", "exp"), SRAT):
        at = {value: {"imbalance": sets, "method": method, "separation_weight": value} for value in studies.LAMBDAS}
        small, one, four, eight = at[0.3], at[1.0], at[4.0], at[8.0]
        name = sets.capitalize()
        claims += [
            Claim("5.3, Figure 6", "not very sensitive to the choice of λ", f"{method}, rare classes, {kind}, {name}, λ = 1 − λ = 0.3",
                  "07", between(one, small, "under", kind), "no change", clean=kind == "clean"),
            Claim("5.3, Figure 6", "a large value of λ, such as 8, may hurt", f"{method}, overall, {kind}, {name}, λ = 4 − λ = 8",
                  "07", between(four, eight, "overall", kind), clean=kind == "clean"),
        ]  # fmt: skip
    return claims


def every_claim() -> list[Claim]:
    """In the paper's order."""
    sections = (section_2_1, section_2_2, section_3, section_4_3, section_5_2, section_5_3)
    return [claim for section in sections for claim in section()]


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


def table(notebook: str, stage: Stage, sections: str = "", attacks: Mapping[str, Protocol] = ATTACKS) -> Table:
    """What a notebook shows of its claims: the paper's words, the difference, and for each attack interval and verdict.

    sections: the beginning of the sections to show; verdicts are corrected for all of the notebook's claims.
    """
    rows = judged([claim for claim in every_claim() if claim.notebook == notebook], stage, attacks)
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

    What is the same under any attack stands in the first of a stage's columns.
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
    columns = names if len(stages) == 1 else [f"{stage}: {name}" for stage in stages for name in names]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["the paper says", *columns])
    frame.index = pd.MultiIndex.from_tuples(rows, names=["claim", "the difference"])
    return in_full(frame)


def beside(notebook: str, sections: str = "", stages: Sequence[str] = ("digits", "CIFAR-10 on a laptop")) -> Table:
    """A notebook's claims on several stages, as results/claims.csv has them: `table` side by side, nothing is read or trained."""
    rows = ledger()
    chosen = (rows["notebook"] == notebook) & rows["stage"].isin(stages) & rows["section"].str.startswith(sections)
    return shown(rows[chosen])


def in_words(row: pd.Series) -> str:
    if row["verdict"] == "not measured":
        return "not measured"
    if not np.isfinite(row["low"]):
        return f"{row['difference']:+.2f}, {row['seeds']} seed{'' if row['seeds'] == 1 else 's'}: undecided"
    return f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] {row['verdict']}"


def stages() -> list[Stage]:
    """The three stages as results/ has them; on photographs the paper's own pair, cat and horse, stands for all."""
    digits, photographs = (studies.for_mode("laptop", name)[0] for name in ("digits", "cifar10"))
    own_pair = studies.pairs("cifar10")[:1]
    return [
        Stage("digits", digits, results.read("digits"), features=results.separability("digits")),
        Stage(
            "CIFAR-10 on a laptop",
            photographs,
            results.read("cifar10-laptop"),
            features=results.separability("cifar10-laptop"),
            sets=studies.JUDGED,
            pairs=own_pair,
        ),
        Stage(
            "the paper's own",
            Config("cifar10"),
            results.read("cifar10"),
            features=results.separability("cifar10"),
            sets=studies.imbalances("cifar10")[1::2],
            pairs=own_pair,
        ),
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m srat_utils.course.claims", description=__doc__.splitlines()[0])
    parser.parse_args(arguments)
    claims = every_claim()
    ledger = pd.concat([judged(claims, stage) for stage in stages()], ignore_index=True)
    target = results.FOLDER / "claims.csv"
    write(target, lambda path: ledger.to_csv(path, index=False, float_format="%.4g"))
    print(ledger.groupby(["stage", "attack", "verdict"]).size().unstack(fill_value=0))
    print(f"{len(ledger)} rows are written to {target}")


if __name__ == "__main__":
    main()
