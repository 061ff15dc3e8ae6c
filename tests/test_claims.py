"""The ledger: every claim takes the difference that it says, and none is judged from what was not measured."""

import dataclasses
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from srat_utils import Config, effects
from srat_utils.course import claims, compare, evidence, stages, studies
from srat_utils.course.claims import judged
from srat_utils.course.evidence import EXTREME, Stage
from srat_utils.course.paper_claims import every_claim
from srat_utils.evaluation import PAPER, STRONG, Outcomes
from srat_utils.runs import Run

BASE = Config()
SEEDS = (0, 1)
COUNTS = {str(c): 100 if c < 5 else 4 for c in range(10)}


def answered(config, attack_costs=0.2):
    """A run whose accuracies are made up from a hash of its config."""
    generator = np.random.default_rng(zlib.crc32(config.name.encode()))
    names = list(config.classes or COUNTS)
    counts = dict.fromkeys(names, 100) | {names[-1]: 4} if config.classes else COUNTS
    labels = np.arange(20 * len(names), dtype=np.int16) % len(names)
    level = generator.uniform(0.4, 0.9)

    def said(level):
        return np.where(generator.random(len(labels)) < level, labels, (labels + 1) % len(names)).astype(np.int16)

    clean, weak, hard = said(level), said(level - attack_costs), said(level - 2 * attack_costs)
    test = "-".join(names)
    first, *others = (attack.name for attack in STRONG.attacks(config))
    paper = Outcomes(test, labels, {"clean": clean, first: weak})
    strong = Outcomes(test, labels, {"clean": clean, first: weak} | dict.fromkeys(others, hard))
    return Run(config, None, {"class_counts": counts}, {"paper": paper, "strong": strong})


@pytest.fixture(scope="module")
def stage():
    runs = {config.fingerprint: answered(config) for config in studies.everything(BASE, SEEDS)}
    for config in studies.figure_5(BASE, SEEDS) + studies.figure_6(BASE, SEEDS):
        runs.setdefault(config.fingerprint, answered(config))
    return Stage("made up", BASE, runs, SEEDS)


@pytest.fixture(scope="module")
def ledger(stage):
    return judged(every_claim(), stage)


def accuracy(run, protocol, kind, chosen):
    said = run.outcomes(protocol)
    right = (said.predictions["clean"] if kind == "clean" else said.worst_case(protocol.union)) == said.labels
    return 100 * np.mean([right[said.labels == c].mean() for c in chosen])


def mean(stage, configs, protocol, kind, chosen):
    return np.mean([accuracy(stage.stored[config.fingerprint], protocol, kind, chosen) for config in configs])


def row(ledger, shown, attack):
    (found,) = ledger[(ledger["shown"] == shown) & (ledger["attack"] == attack)].to_dict("records")
    return found


def test_twins_are_the_mean_over_four_sets_and_seeds(stage, ledger):
    for attack, protocol in claims.ATTACKS.items():
        ours, theirs = (
            mean(stage, [BASE.replace(imbalance=i, method=m, seed=s) for i in stages.imbalances("digits") for s in SEEDS],
                 protocol, "robust", range(5, 10))
            for m in ("SRAT-Focal", "DRCB-Focal")
        )  # fmt: skip
        found = row(ledger, "SRAT-Focal − DRCB-Focal, rare classes, robust", attack)
        assert found["difference"] == pytest.approx(ours - theirs) and found["seeds"] == 2


def test_a_wider_gap_is_positive(stage, ledger):
    def gap(adversarial):
        configs = [BASE.replace(imbalance="exp-25", method="CE", adversarial=adversarial, seed=s) for s in SEEDS]
        return mean(stage, configs, PAPER, "clean", range(5)) - mean(stage, configs, PAPER, "clean", range(5, 10))

    found = row(ledger, "clean gap well − rare, adversarial − natural, Exp, larger ratio", "none")
    assert found["difference"] == pytest.approx(gap(True) - gap(False))


def test_a_loss_of_the_frequent_class_is_positive_and_compared_with_natural_trainings(stage, ledger):
    def level(adversarial, ratio, protocol, kind):
        configs = [config for config in studies.binary(BASE, SEEDS, [ratio]) if config.adversarial == adversarial]
        return mean(stage, configs, protocol, kind, [0])

    lost = level(True, 1, STRONG, "robust") - level(True, 200, STRONG, "robust")
    natural = level(False, 1, PAPER, "clean") - level(False, 200, PAPER, "clean")
    found = row(ledger, "loss of the frequent class, robust, adversarial − clean, natural", "STRONG")
    assert found["difference"] == pytest.approx(lost - natural)
    assert row(ledger, "frequent class, robust, ρ = 1 − ρ = 200", "STRONG")["difference"] == pytest.approx(lost)


def test_the_best_rival_is_the_hardest_one(stage, ledger):
    each = [
        effects.difference(*stage.runs(PAPER, {"method": "SRAT-CE"}, {"method": name}), "overall")
        for name in ("CE", "CB-Reweight", "DRCB-CE")
    ]
    found = row(ledger, "SRAT-CE − the best other CE method, overall, robust", "STRONG")
    assert found["difference"] == pytest.approx(min(one.estimate for one in each))
    assert found["high"] >= min(one.high for one in each)


def test_very_low_is_below_guessing(stage, ledger):
    configs = [BASE.replace(imbalance="step-10", method="CE", seed=s) for s in SEEDS]
    found = row(ledger, "10 % (guessing) − rare classes' robust accuracy, Step, smaller ratio", "PGD-20")
    assert found["difference"] == pytest.approx(10 - mean(stage, configs, PAPER, "robust", range(5, 10)))
    assert found["low"] < found["difference"] < found["high"]


def test_twice_the_epochs_and_an_earlier_deferral_are_other_runs(stage):
    (late, early) = stage.runs(
        PAPER,
        {"imbalance": "step", "method": "DRCB-CE", "times": 2, "reweight_at": 0.5},
        {"imbalance": "step", "method": "CB-Reweight"},
    )
    assert {run.config.epochs for run in late} == {80} and {run.config.reweight_at for run in late} == {0.5}
    assert {run.config.epochs for run in early} == {40}


def test_everything_but_the_features_is_measured_by_the_studies(ledger):
    assert set(ledger[ledger["verdict"] == "not measured"]["notebook"]) == {"03", "04", "07"}
    missing = ledger[(ledger["verdict"] == "not measured") & (ledger["notebook"] == "07")]
    assert missing["shown"].str.contains("attacked test images").all()


def test_features_are_compared_seed_by_seed(stage):
    values = {}
    for config in studies.preliminary(BASE, SEEDS):
        for images in ("clean", "attacked"):
            values[config.fingerprint, images] = {
                "silhouette": config.seed + 2.0 * config.adversarial + (images == "clean")
            }
    features = pd.DataFrame.from_dict(values, orient="index")
    told = judged(
        every_claim(),
        dataclasses.replace(stage, features=features.assign(variance_ratio=1.0, probe_accuracy=1.0, t=1.0)),
    )
    found = row(told, "silhouette, ten classes, attacked test images, natural − adversarial", "none")
    assert found["difference"] == pytest.approx(-2) and found["seeds"] == 2


def test_holm_runs_over_all_that_a_notebooks_table_shows(stage, ledger):
    own = [claim for claim in every_claim() if claim.notebook == "05"]
    alone = judged(own, stage)
    both = ledger[ledger["notebook"] == "05"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, both)
    attacks = {"PGD-20": PAPER, "STRONG": STRONG}
    found = {
        (c.shown, attack): c.found(stage, protocol)
        for c in own
        for attack, protocol in ({"none": PAPER} if c.clean else attacks).items()
    }
    expected = effects.judge(dict(enumerate(found.values())))["p"]
    shown = alone.set_index(["shown", "attack"])["p"]
    assert np.allclose(shown[list(found)], expected)


def test_a_stage_without_runs_is_not_measured_and_claims_are_told_once():
    told = judged(every_claim(), Stage("nothing", Config("cifar10"), {}, [0]))
    assert set(told["verdict"]) == {"not measured"}
    index = pd.MultiIndex.from_tuples([("0123456789", "clean")], names=["fingerprint", "images"])
    no_pair = pd.DataFrame(
        {"silhouette": 0.1, "variance_ratio": 1.0, "probe_accuracy": 50.0}, index=index
    )  # and so no t
    other = judged(every_claim(), Stage("nothing", Config("cifar10"), {}, [0], no_pair))
    pd.testing.assert_frame_equal(other, told)
    keys = told[["section", "claim", "shown", "attack"]]
    assert not keys.duplicated().any() and set(told["paper"]) == {"up", "no change"}


def test_every_set_means_those_of_the_stage_and_the_smaller_ratio_is_not_made_up(stage):
    larger = dataclasses.replace(stage, sets=("step-25", "exp-25"))
    words = "SRAT − DRCB, rare classes, clean, at the larger ratio − over all sets"
    assert row(judged(every_claim(), larger), words, "none")["verdict"] == "not measured"
    assert row(judged(every_claim(), stage), words, "none")["verdict"] != "not measured"
    one, four = (judged(every_claim(), each) for each in (larger, stage))
    shown = "SRAT-CE − DRCB-CE, overall, clean"
    expected = effects.contrast(
        [(sign, larger.runs(PAPER, {"imbalance": EXTREME, "method": m})[0], "clean") for sign, m in ((1, "SRAT-CE"), (-1, "DRCB-CE"))],
        "overall", PAPER,
    )  # fmt: skip
    assert np.isclose(row(one, shown, "none")["difference"], expected.estimate)
    assert not np.isclose(row(four, shown, "none")["difference"], expected.estimate)


def test_every_pair_means_those_of_the_stage(stage):
    first, *_ = stages.pairs("digits")
    own = dataclasses.replace(stage, pairs=(first,))
    shown = "rare class, clean, ρ = 200 − ρ = 1"
    (high, low) = (
        studies.binary(BASE, SEEDS, [ratio], [first])[len(SEEDS) :] for ratio in (200.0, 1.0)
    )  # the adversarial ones
    expected = mean(stage, high, PAPER, "clean", [1]) - mean(stage, low, PAPER, "clean", [1])
    assert np.isclose(row(judged(every_claim(), own), shown, "none")["difference"], expected)
    assert not np.isclose(row(judged(every_claim(), stage), shown, "none")["difference"], expected)


def test_seeds_that_one_side_lacks_are_left_out(stage):
    gone = BASE.replace(imbalance="exp-10", method="DRCB-CE", seed=1).fingerprint
    less = dataclasses.replace(stage, stored={key: run for key, run in stage.stored.items() if key != gone})
    found = row(judged(every_claim(), less), "SRAT-CE − DRCB-CE, overall, robust", "PGD-20")
    assert found["seeds"] == 1 and found["verdict"] == "undecided"


def test_the_table_has_a_line_a_claim_and_a_column_an_attack(stage):
    text = claims.table("05", stage.base, stage.stored.values(), stage.seeds).text
    assert "PGD-20" in text and "STRONG" in text and "the paper says" in text
    assert text.count("SRAT-LDAM − DRCB-LDAM") == 4


def test_a_difference_without_an_interval_says_of_how_many_seeds_it_is():
    rows = {"one": effects.from_seeds([3.0]), "ten": effects.from_seeds([3.0] * 10), "none": None}
    rows["half"] = effects.above_best([effects.from_seeds([-7.1, -7.0, -6.8]), effects.from_seeds([5.0])])
    rows = effects.judge(rows)
    words = rows.apply(compare.in_words, axis=1)
    assert words.to_dict() == {
        "one": "+3.00, 1 seed: undecided",
        "ten": "+3.00, 10 seeds: undecided",
        "none": "not measured",
        "half": "-6.97 [-inf, -6.42] down",  # a word that a table counts is the word it shows
    }


def test_a_level_that_is_the_same_in_every_run_decides_nothing(stage):
    """All at 0 %, say: no spread was seen, which is not none."""
    runs = [run for run in stage.stored.values() if run.config.seed in SEEDS]
    lost = {}
    for run in runs:
        said = run.outcomes(PAPER)
        wrong = {name: (said.labels + 1) % 10 for name in said.predictions}
        lost[run.config.fingerprint] = replace(run, said={"paper": Outcomes(said.test, said.labels, wrong)})
    found = evidence.of_level({"imbalance": "step", "method": "CE"}, 10, "under", "robust")(
        replace(stage, stored=lost), PAPER
    )
    assert found.estimate == 10 and found.p == 1 and not np.isfinite(found.low)
