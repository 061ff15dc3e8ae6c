"""The rule keeps its promise: false findings, coverage and power on simulated runs, and classical tests where one fits."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from srat_utils import Config, effects
from srat_utils.attacks import PGD
from srat_utils.effects import (
    above_best,
    chance_wins,
    class_mean,
    difference,
    effect,
    from_seeds,
    holm,
    judge,
    paired,
    word,
)
from srat_utils.evaluation import STRONG, Outcomes, Protocol
from srat_utils.runs import Run


def outcomes(generator, accuracies, seeds, images, *, shared=0.3, image=0.0, seed=0.0):
    """Bool [methods,S,N]: a latent score of variance 1 below a bound.  shared: of an image for all methods; image: of an
    image for one method under all seeds; seed: of one training; what remains is noise of a seed and an image."""
    methods = len(accuracies)
    score = np.sqrt(shared) * generator.normal(size=images)
    score = score + np.sqrt(image) * generator.normal(size=(methods, 1, images))
    score = score + np.sqrt(seed) * generator.normal(size=(methods, seeds, 1))
    score = score + np.sqrt(1 - shared - image - seed) * generator.normal(size=(methods, seeds, images))
    return score < stats.norm.ppf(accuracies)[:, None, None]


def mean_squares(d):
    """Textbook analysis of variance of [S,N] without replicates: over seeds, over images, of the rest."""
    seeds, images = d.shape
    total = d.mean()
    over_seeds = sum(images * (d[s].mean() - total) ** 2 for s in range(seeds)) / (seeds - 1)
    over_images = sum(seeds * (d[:, i].mean() - total) ** 2 for i in range(images)) / (images - 1)
    rest = sum((d[s, i] - d[s].mean() - d[:, i].mean() + total) ** 2 for s in range(seeds) for i in range(images)) / (
        (seeds - 1) * (images - 1)
    )
    return over_seeds, over_images, rest


# Classical tests where one fits.


def test_without_noise_of_images_it_is_the_paired_t_test():
    ours, theirs = np.array([0.50, 0.62, 0.58, 0.71]), np.array([0.44, 0.60, 0.47, 0.69])
    found = paired(np.tile(ours[:, None], 30), np.tile(theirs[:, None], 30), np.arange(30) % 3)
    expected = stats.ttest_rel(100 * ours, 100 * theirs)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert (found.seeds, found.images) == (4, 30)
    by_seed = from_seeds(100 * (ours - theirs))
    assert (by_seed.p, by_seed.low) == pytest.approx((found.p, found.low)) and by_seed.images is None


def test_without_noise_of_seeds_it_is_the_test_of_two_paired_shares():
    ours, theirs = outcomes(np.random.default_rng(0), [0.55, 0.5], 1, 300)[:, 0]
    found = paired(np.tile(ours, (3, 1)), np.tile(theirs, (3, 1)))
    gained, lost = (ours & ~theirs).sum(), (~ours & theirs).sum()
    error = 100 * np.sqrt(gained + lost - (gained - lost) ** 2 / 300) / 300  # Agresti, Categorical Data Analysis, 10.1
    assert np.sqrt(found.spread.images) == pytest.approx(error, rel=0.01)
    expected = stats.ttest_rel(100.0 * ours, 100.0 * theirs)
    assert (found.p, found.low) == pytest.approx((expected.pvalue, expected.confidence_interval().low))
    assert found.p == pytest.approx(stats.chi2.sf((gained - lost) ** 2 / (gained + lost), 1), rel=0.1)  # McNemar


def test_the_parts_are_the_mean_squares_of_a_two_way_analysis_of_variance():
    values = np.random.default_rng(0).normal(size=(4, 9)) + np.arange(9)
    over_seeds, over_images, rest = mean_squares(values)
    spread = effect(values).spread
    assert (spread.seeds, spread.images, spread.rest) == pytest.approx(np.array([over_seeds, over_images, rest]) / 36)
    assert (spread.seeds_df, spread.images_df) == pytest.approx((3, 8))


def test_images_vary_within_their_class_only():
    classes = np.repeat([0, 1], [6, 10])
    values = np.random.default_rng(1).normal(size=(3, 16)) + 50 * classes
    _, first, rest_first = mean_squares(values[:, :6])
    _, second, rest_second = mean_squares(values[:, 6:])
    spread = effect(values, classes, class_mean(classes)).spread
    assert spread.images == pytest.approx((first / 18 + second / 30) / 4)
    assert spread.rest == pytest.approx((rest_first / 18 + rest_second / 30) / 4)
    welch = stats.ttest_ind(values[:, :6].mean(0), values[:, 6:].mean(0), equal_var=False)
    assert spread.images_df == pytest.approx(welch.df)
    assert effect(values).spread.images > 10 * spread.images


def test_three_seeds_take_4_30_standard_errors_not_2():
    values = np.array([1.0, 2.0, 3.0])  # mean 2, standard error 0.577: more than two of them from 0
    found = from_seeds(values)
    assert (found.high - found.estimate) / stats.sem(values) == pytest.approx(4.3027, abs=1e-4)
    assert word(found) == "undecided" and word(from_seeds(values + 1)) == "up"


def test_each_part_has_its_own_quantile_and_the_rest_counts_once():
    t, u = stats.t.ppf(0.975, 2), stats.t.ppf(0.975, 99)
    assert effects.Spread(1, 2, 0.9, 99, 0.4).half_width() == pytest.approx(np.sqrt(t**2 + u**2 * 0.5))
    assert effects.Spread(1, 2, 0.9, 99, 1.2).half_width() == pytest.approx(t)  # as wide as seeds alone
    assert effects.Spread(0.01, 2, 0.9, 99, 0.8).half_width() == pytest.approx(u * np.sqrt(0.9))  # as images alone
    assert effects.Spread(1, 2).half_width(0.3) == pytest.approx(stats.t.ppf(0.85, 2))


def test_p_and_interval_say_the_same():
    generator = np.random.default_rng(2)
    for images in (0.0, 0.2, 0.6):
        found = paired(*outcomes(generator, [0.55, 0.5], 4, 200, image=images, seed=0.05))
        assert 0 < found.p < 1
        assert found.spread.half_width(found.p) == pytest.approx(abs(found.estimate))
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


# Promises, kept on simulated runs.

NAMES = [attack.name for attack in STRONG.attacks(Config())]
NULLS = [  # accuracy, seeds, and the parts of the latent variance
    pytest.param(0.5, 3, {"shared": 0.2, "image": 0.1, "seed": 0.3}, id="half right, seeds differ much"),
    pytest.param(0.5, 3, {"shared": 0.2, "image": 0.6, "seed": 0.002}, id="half right, images differ much"),
    pytest.param(0.03, 3, {"shared": 0.5, "image": 0.3, "seed": 0.01}, id="three in a hundred right"),
    pytest.param(0.5, 10, {"shared": 0.2, "image": 0.3, "seed": 0.002}, id="ten seeds"),
]


@pytest.mark.parametrize(("accuracy", "seeds", "parts"), NULLS)
def test_a_table_of_nothing_has_a_finding_in_a_twentieth_of_cases_at_most(accuracy, seeds, parts):
    generator, classes, tables = np.random.default_rng(3), np.arange(300) % 10, 80
    rare, every = class_mean(classes, range(5, 10)), class_mean(classes)
    false = 0
    for _ in range(tables):  # twelve dependent rows: one rival, the same images, one measure within the other
        first, *others = outcomes(generator, [accuracy] * 7, seeds, 300, **parts)
        claims = {
            (i, len(w[w > 0])): paired(one, first, classes, w) for i, one in enumerate(others) for w in (rare, every)
        }
        assert len(claims) == 12
        false += (judge(claims)["verdict"] != "undecided").any()
    assert false <= 0.075 * tables


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds):
    generator, tries, shares = np.random.default_rng(4), 100, []
    for parts in ({"seed": 0.02}, {"image": 0.4, "seed": 0.01}, {"image": 0.6}, {"shared": 0.0}):
        for ours, theirs in ((0.55, 0.5), (0.06, 0.03)):
            runs = (outcomes(generator, [ours, theirs], seeds, 250, **parts) for _ in range(tries))
            found = [paired(*run) for run in runs]
            shares.append(np.mean([one.low <= 100 * (ours - theirs) <= one.high for one in found]))
    assert min(shares) >= 0.88 and 0.94 <= np.mean(shares) <= 0.995


@pytest.mark.parametrize("parts", [{"image": 0.3, "seed": 0.01}, {"shared": 0.0}], ids=["both", "only the rest"])
def test_the_interval_is_not_wider_than_it_need_be(parts):
    generator, tries = np.random.default_rng(5), 400
    found = [paired(*outcomes(generator, [0.5, 0.5], 10, 100, **parts)) for _ in range(tries)]
    assert 0.02 <= np.mean([one.p < 0.05 for one in found]) <= 0.065


def test_satterthwaites_degrees_of_freedom_would_err_too_often():
    generator, n, level = np.random.default_rng(6), 200_000, 0.05 / 30
    over_seeds, over_images = 1.3 * generator.chisquare(2, n) / 2, 0.6 * generator.chisquare(690, n) / 690
    rest = 0.3 * generator.chisquare(1380, n) / 1380
    estimate = generator.normal(0, np.sqrt(1 + 0.3 + 0.3), n)
    total = np.maximum(over_seeds + over_images - rest, over_seeds)
    df = total**2 / (over_seeds**2 / 2 + over_images**2 / 690 + rest**2 / 1380)
    assert np.mean(abs(estimate) > stats.t.isf(level / 2, df) * np.sqrt(total)) > 4 * level
    cases = list(zip(estimate, over_seeds, over_images, rest, strict=True))[:20_000]
    wrong = [abs(e) > effects.Spread(a, 2, b, 690, r).half_width(level) for e, a, b, r in cases]
    assert np.mean(wrong) <= level


def test_a_clear_effect_is_found_among_rows_without_one():
    generator, classes, found = np.random.default_rng(7), np.arange(700) % 10, []
    for _ in range(20):
        first, *others = outcomes(generator, [0.5] * 11 + [0.6], 10, 700, image=0.1, seed=0.001)
        claims = {str(i): paired(one, first, classes) for i, one in enumerate(others)}
        found.append(judge(claims).loc["10", "verdict"])
    assert found.count("up") >= 18 and "down" not in found


# The best of several rivals, chosen on the same seeds.


def test_the_best_of_equal_rivals_is_above_in_a_twentieth_of_cases_at_most():
    generator, tries = np.random.default_rng(8), 1000
    corrected, naive = [], []
    for _ in range(tries):
        ours, *rivals = generator.normal(50, 2, size=(4, 3))
        effects = [from_seeds(ours - rival) for rival in rivals]
        corrected.append(word(above_best(effects)))
        naive.append(word(min(effects, key=lambda one: one.estimate)))
    assert naive.count("down") > 0.035 * tries  # 0.025 is what a 95 % interval owes to each side
    assert corrected.count("down") <= 0.03 * tries and corrected.count("up") <= 0.01 * tries


def test_the_interval_for_the_best_holds_the_truth():
    generator, tries = np.random.default_rng(9), 400
    for means in ([50, 50, 50], [50, 44, 30], [50, 49, 47]):
        covered = 0
        for _ in range(tries):
            rivals = generator.normal(means, 2, size=(4, 3))
            found = above_best(from_seeds(ours) for ours in (generator.normal(51, 2, size=4)[:, None] - rivals).T)
            assert found.low <= found.estimate <= found.high
            assert (found.low > 0) == (word(found) == "up") and (found.high < 0) == (word(found) == "down")
            covered += found.low <= 1 <= found.high
        assert covered >= stats.binom.isf(0.999, tries, 0.95)


def test_above_the_best_means_above_every_rival():
    far, near, below = from_seeds([9, 10, 11.0]), from_seeds([2.9, 3, 3.1]), from_seeds([-7.1, -7, -6.8])
    assert word(above_best([far, near])) == "up" and above_best([far, near]).p == pytest.approx(max(far.p, near.p))
    assert word(above_best([far, near, below])) == "down"
    assert above_best([far, near, below]).p == pytest.approx(3 * below.p)
    assert word(above_best([far, from_seeds([-1, 3, 4.0])])) == "undecided"
    unsure = above_best([from_seeds([5.0]), below])  # a rival of one seed may still be the best
    assert (word(unsure), unsure.seeds, unsure.low) == ("down", 1, -np.inf)
    assert judge({"unsure": unsure, "other": far})["p"].tolist() == holm([unsure.p, far.p]).tolist()
    alone = above_best([near])
    assert (alone.estimate, alone.low, alone.high, alone.p) == pytest.approx((3, near.low, near.high, near.p))
    with pytest.raises(ValueError, match="no rival"):
        above_best([])


# Edges.


def test_nothing_and_dust_are_undecided():
    same = np.random.default_rng(0).random((3, 20)) < 0.5
    found = paired(same, same)
    assert (found.estimate, found.low, found.high, found.p, word(found)) == (0, 0, 0, 1, "undecided")
    dust = from_seeds([1.4e-14] * 3)
    assert (dust.estimate, dust.low, dust.high, dust.p, word(dust)) == (0, 0, 0, 1, "undecided")
    rounding = effect(np.full((3, 20), 0.1) + 0.2 - np.full((3, 20), 0.3))
    assert (rounding.estimate, rounding.p) == (0, 1)


def test_one_seed_decides_nothing():
    ours, theirs = outcomes(np.random.default_rng(1), [0.9, 0.1], 1, 50)
    for found in (paired(ours, theirs), from_seeds([80.0])):
        assert (found.low, found.high, found.p, found.seeds) == (-np.inf, np.inf, 1, 1) and found.estimate > 50
        assert word(found) == "undecided"
    assert word(above_best([paired(ours, theirs)])) == "undecided"


def test_equal_differences_of_a_measure_with_steps_show_no_spread():
    found = from_seeds([2.5, 2.5, 2.5])
    assert (found.estimate, found.low, found.p, word(found)) == (2.5, -np.inf, 1, "undecided")


def test_a_class_of_one_image_decides_nothing_unless_it_has_no_weight():
    classes = np.array([0] * 30 + [1])
    ours, theirs = outcomes(np.random.default_rng(2), [0.95, 0.2], 4, 31)
    assert paired(ours, theirs, classes, class_mean(classes)).p == 1
    assert paired(ours[:, :1], theirs[:, :1]).p == 1
    without = paired(ours, theirs, classes, class_mean(classes, [0]))
    assert without == paired(ours[:, :30], theirs[:, :30]) and word(without) == "up" and without.images == 30


def test_swapping_the_sides_turns_the_sign():
    ours, theirs = outcomes(np.random.default_rng(3), [0.7, 0.5], 5, 200, image=0.1)
    one, other = paired(ours, theirs), paired(theirs, ours)
    assert (one.estimate, one.low, one.high, one.p) == pytest.approx(
        (-other.estimate, -other.high, -other.low, other.p)
    )
    assert (word(one), word(other)) == ("up", "down")


def test_one_effect_for_a_gap_that_grows():
    classes = np.repeat(np.arange(4), [10, 20, 10, 40])
    attacked, natural = outcomes(np.random.default_rng(4), [0.5, 0.8], 3, 80)

    def gap(right):
        by_class = [100 * right[:, classes == one].mean(1) for one in range(4)]
        return (by_class[0] + by_class[1]) / 2 - (by_class[2] + by_class[3]) / 2

    contrast = class_mean(classes, [0, 1]) - class_mean(classes, [2, 3])
    found = paired(attacked, natural, classes, contrast)
    expected = gap(attacked) - gap(natural)
    assert found.estimate == pytest.approx(expected.mean())
    assert found.spread.seeds == pytest.approx(expected.var(ddof=1) / 3)
    assert found.high - found.low > 2 * stats.t.ppf(0.975, 2) * stats.sem(expected) * 0.999


def test_class_mean_weighs_classes_alike():
    classes = np.array(["cat", "dog", "dog", "dog"])
    assert class_mean(classes) == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])
    assert class_mean(classes, ["dog"]) == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    with pytest.raises(ValueError, match="cow"):
        class_mean(classes, ["cow"])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: paired(np.ones((3, 4)), np.ones((3, 5))), "same seeds and images"),
        (lambda: paired([[55.0, 60.0]], [[50.0, 61.0]]), "not percent"),
        (lambda: paired([[np.nan, 1.0]], [[0.0, 1.0]]), "finite"),
        (lambda: paired([1.0, 0.0], [0.0, 0.0]), "from_seeds"),
        (lambda: effect(np.ones((3, 4)), classes=[0, 1]), "one per image"),
        (lambda: effect(np.ones((3, 4)), weights=np.zeros(4)), "not all 0"),
        (lambda: from_seeds([]), "one per seed"),
        (lambda: from_seeds([1.0, np.nan]), "judge"),
    ],
)
def test_bad_input_is_one_clear_line(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# Tables.


def test_holm_is_the_closed_test_of_bonferroni():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    generator = np.random.default_rng(10)
    for _ in range(20):
        p = generator.random(6) ** 3
        subsets = [subset for size in range(1, 7) for subset in combinations(range(6), size)]
        expected = [max(min(1, len(s) * min(p[list(s)])) for s in subsets if row in s) for row in range(6)]
        assert holm(p) == pytest.approx(expected)
    assert holm([]).size == 0 and holm([0.3, 0.3]) == pytest.approx([0.6, 0.6])


def test_judge_has_a_row_a_claim():
    clear = paired(*outcomes(np.random.default_rng(5), [0.9, 0.5], 5, 100))
    below, weak = from_seeds([-5.0, -5.2, -5.1]), from_seeds([4.0, 5.0, 7.0])
    assert word(weak) == "up"
    table = judge({"clear": clear, "not run": None, "below": below, "weak": weak, "nothing": from_seeds([1.0, -1.0])})
    assert table["verdict"].tolist() == ["up", "not measured", "down", "undecided", "undecided"]
    assert table.columns.tolist() == ["difference", "low", "high", "seeds", "images", "p", "verdict"]
    assert table["seeds"].tolist() == [5, 0, 3, 3, 2]
    assert table["images"].isna().tolist() == [False, True, True, True, True] and table.loc["clear", "images"] == 100
    assert table.loc["weak", "p"] == pytest.approx(2 * weak.p)
    assert table.loc["not run", ["difference", "low", "high", "p"]].isna().all()
    assert judge({"weak": weak})["verdict"].tolist() == ["up"] and judge({"none": None})["p"].isna().all()
    beside = judge({"weak": weak, "one seed": from_seeds([9.0])})  # which can decide nothing, and costs nothing
    assert beside.loc["weak", "p"] == weak.p and beside.loc["one seed", ["p", "verdict"]].tolist() == [1, "undecided"]
    assert word(None) == "not measured"


def test_wins_by_chance():
    expected, low, high = chance_wins([1] * 12)
    assert expected == pytest.approx(6) and (low, high) == stats.binom.interval(0.95, 12, 0.5)
    generator, rivals = np.random.default_rng(11), [3, 3, 2] * 4
    wins = sum((generator.random((100_000, k + 1)).argmax(1) == 0).astype(int) for k in rivals)
    expected, low, high = chance_wins(rivals)
    assert expected == pytest.approx(10 / 3) and wins.mean() == pytest.approx(expected, abs=0.02)
    assert (low, high) == tuple(np.quantile(wins, [0.025, 0.975], method="inverted_cdf"))
    assert chance_wins([]) == (0, 0, 0)


def made_up_runs(generator, seeds, *, tests=1, images=40, accuracy=0.7, settings=1, union=True):
    """Runs whose outcomes under STRONG are made up: ten classes, the last five rare."""
    counts = {str(c): 100 if c < 5 else 4 for c in range(10)}
    made = []
    for test in range(tests):
        labels = np.arange(images, dtype=np.int16) % 10
        for setting in range(settings):
            for seed in seeds:
                right = generator.random((1 + len(NAMES), images)) < accuracy
                said = np.where(right, labels, (labels + 1) % 10).astype(np.int16)
                outcomes = Outcomes(f"test {test}", labels, dict(zip(("clean", *NAMES), said, strict=True)))
                config = Config(seed=seed, imbalance=("step-10", "step-25")[setting])
                made.append(Run(config, None, {"class_counts": counts}, {"strong": outcomes}))
    return made


def accuracy(run, kind, chosen):
    outcomes = run.said["strong"]
    right = outcomes.predictions["clean"] == outcomes.labels
    if kind == "robust":
        right = right & np.all([outcomes.predictions[a] == outcomes.labels for a in NAMES], axis=0)
    return 100 * np.mean([right[outcomes.labels == c].mean() for c in chosen])


@pytest.mark.parametrize("measure", ["under", "well", "balanced", "gap"])
def test_a_difference_of_runs_is_that_of_their_class_accuracies(measure):
    generator = np.random.default_rng(2)
    ours, theirs = (made_up_runs(generator, (3, 0, 1), tests=2, settings=2, accuracy=a) for a in (0.8, 0.6))

    def value(run, kind):
        well, under = accuracy(run, kind, range(5)), accuracy(run, kind, range(5, 10))
        return {"under": under, "well": well, "balanced": (well + under) / 2, "gap": well - under}[measure]

    for kind, against in (("clean", None), ("robust", None), ("robust", "clean")):
        found = difference(ours[::-1], theirs, measure, kind, against=against)
        expected = np.mean([value(run, kind) for run in ours]) - np.mean(
            [value(run, against or kind) for run in theirs]
        )
        assert found.estimate == pytest.approx(expected) and found.seeds == 3
    level = effects.level(ours, measure)
    assert level.estimate == pytest.approx(np.mean([value(run, "robust") for run in ours]))


def test_the_worst_class_is_each_runs_own():
    generator = np.random.default_rng(3)
    ours, theirs = (made_up_runs(generator, (0, 1), settings=2, accuracy=a) for a in (0.8, 0.6))
    found = difference(ours, theirs, "worst")
    lowest = [
        np.mean([min(accuracy(run, "robust", [c]) for c in range(10)) for run in runs]) for runs in (ours, theirs)
    ]
    assert found.estimate == pytest.approx(lowest[0] - lowest[1]) and found.images is None


def test_runs_that_do_not_pair_are_refused_and_no_runs_are_not_measured():
    generator = np.random.default_rng(4)
    runs = made_up_runs(generator, (0, 1))
    assert difference(runs, []) is None
    with pytest.raises(ValueError, match="same seeds"):
        difference(runs, runs[:1])
    with pytest.raises(ValueError, match="same seeds"):
        difference(made_up_runs(generator, (0, 1), settings=2)[:3], runs)
    with pytest.raises(ValueError, match="same test sets"):
        difference(runs, made_up_runs(generator, (0, 1), tests=2))
    with pytest.raises(ValueError, match="same imbalanced sets"):
        difference(runs, made_up_runs(generator, (0, 1), settings=2))  # the same images, of both sets as of one
    with pytest.raises(ValueError, match="same seeds"):
        mixed = made_up_runs(generator, (0, 1), settings=2)
        difference([mixed[0], mixed[3]], runs)  # one seed of one set, the other of another
    with pytest.raises(ValueError, match="measure must be"):
        difference(runs, runs, "rare")
    with pytest.raises(ValueError, match="kind must be"):
        difference(runs, runs, "overall", "Clean")
    assert difference(runs, runs).p == 1


def test_networks_under_different_attacks_are_not_compared():
    runs = made_up_runs(np.random.default_rng(4), (0, 1))
    budget = [replace(run, config=run.config.replace(step=0.01)) for run in runs]
    with pytest.raises(ValueError, match="same attacks"):
        difference(runs, budget)
    assert difference(runs, runs, "under", "robust", against="clean").estimate < 0
    fixed = Protocol("fixed", lambda config: [PGD(0.2, 0.05, 3)])

    def held(run):
        said = run.said["strong"]
        of_it = {"clean": said.predictions["clean"], PGD(0.2, 0.05, 3).name: said.predictions[NAMES[0]]}
        return replace(run, said={"fixed": Outcomes(said.test, said.labels, of_it)})

    assert difference(map(held, runs), map(held, budget), protocol=fixed).estimate == 0


def test_rivals_of_one_seed_each_cost_no_other_row_its_word():
    found = from_seeds(np.array([5.0, 6.0, 5.5]))
    alone = above_best([from_seeds(np.array([1.0])), from_seeds(np.array([2.0]))])
    table = judge({"a": found, "b": alone})
    assert table.loc["a", "p"] == found.p and table.loc["b", "verdict"] == "undecided"
    among = judge({"a": found, "b": above_best([found, from_seeds(np.array([1.0]))])})
    assert among.loc["a", "p"] == pytest.approx(2 * found.p)


def test_a_difference_of_differences_is_of_the_same_seeds_and_images():
    generator = np.random.default_rng(5)
    a, b, c, d = (made_up_runs(generator, (0, 1, 2)) for _ in range(4))
    found = effects.contrast([(1, a, "robust"), (-1, b, "robust"), (-1, c, "clean"), (1, d, "clean")], "balanced")
    one, other = difference(a, b, "balanced"), difference(c, d, "balanced", "clean")
    assert found.estimate == pytest.approx(one.estimate - other.estimate)
    assert effects.contrast([(1, a, "robust"), (-1, [], "robust")]) is None
    lowest = effects.contrast([(1, a, "robust"), (-1, b, "robust")], "worst")
    assert lowest == difference(a, b, "worst")


def test_outcomes_that_vary_and_whose_seeds_agree_by_chance_are_no_certainty():
    found = paired([[1, 0], [0, 1]], np.zeros((2, 2)))
    assert found.estimate == 50 and (found.p, found.low) == (1, -np.inf) and word(found) == "undecided"


def test_few_seeds_and_images_find_nothing_where_nothing_is():
    generator = np.random.default_rng(6)
    wrong = 0
    for _ in range(60):
        rows = {row: paired(*(generator.random((2, 2, 2)) < 0.5)) for row in range(20)}
        wrong += bool((judge(rows)["verdict"] != "undecided").any())
    assert wrong <= 3  # 0.7 of the tables had one when no spread counted as certainty


def test_the_worst_class_pairs_as_the_others_do_and_has_a_level():
    generator = np.random.default_rng(7)
    runs, others = made_up_runs(generator, (0, 1)), made_up_runs(generator, (0, 1), tests=2)
    with pytest.raises(ValueError, match="same test sets"):
        difference(runs, others, "worst")
    level = effects.level(runs, "worst")
    assert level.estimate == pytest.approx(
        np.mean([min(accuracy(run, "robust", [c]) for c in range(10)) for run in runs])
    )


def test_overall_weighs_test_sets_alike():
    small, large = (np.arange(images, dtype=np.int16) % 10 for images in (20, 60))
    made = []
    for test, labels, said in (
        ("a", small, small),
        ("b", large, np.where(np.arange(60) < 30, large, (large + 1) % 10)),
    ):
        outcomes = Outcomes(test, labels, {"clean": said.astype(np.int16)} | dict.fromkeys(NAMES, labels))
        facts = {"class_counts": {str(c): 100 if c < 5 else 4 for c in range(10)}}
        made.append(Run(Config(), None, facts, {"strong": outcomes}))
    assert effects.level(made, "overall", "clean").estimate == pytest.approx((100 + 50) / 2)


def test_what_cannot_be_measured_is_told_of():
    runs = made_up_runs(np.random.default_rng(8), (0, 1))
    for run in runs:
        run.provenance["class_counts"] = {str(c): 100 for c in range(10)}
    with pytest.raises(ValueError, match="no class is rare; choose measure='balanced'"):
        difference(runs, runs)
    with pytest.raises(ValueError, match="there is no run"):
        effects.level([])
