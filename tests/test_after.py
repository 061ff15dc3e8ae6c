"""What notebook 09 draws and lists: chances against a simulation, budgets, and which runs it takes."""

import numpy as np
import pandas as pd
import pytest

from srat_utils import ELEVEN, METHODS, STRONG, Config, effects, load_dataset, sweep
from srat_utils.course import after, compare, plots, results
from srat_utils.methods import Method
from srat_utils.terms import CE
from srat_utils.weights import Deferred


def test_the_table_tells_all_methods_apart_by_their_choices():
    table = after.choices()
    assert list(table.index) == list(METHODS)
    alike = table[table.duplicated(keep=False)].index.tolist()
    assert alike == []
    assert (table.loc["CE"].drop("loss") == "–").all()
    assert table.loc["AT-BSL-Both", "attack climbs"] == "its own loss" and table.loc["AT-BSL", "attack climbs"] == "–"
    assert table.loc["DAFA", ["loss", "ε"]].tolist() == ["CE of x", "by difficulty"]
    assert (table.loc[list(ELEVEN), ["prior τ", "batches", "ε", "step", "attack climbs"]] == "–").all(axis=None)
    mine = after.choices({"mine": Method("mine", (CE(),), Deferred())})
    assert mine.loc["mine", "class weights"] == "deferred"


@pytest.mark.parametrize("others", [1, 7, 20, 500])
def test_the_chance_of_a_positive_is_what_drawing_gives(others):
    counts, rng = [12, 6, 2], np.random.default_rng(0)
    labels = np.repeat(range(3), counts)
    hits = np.zeros(3)
    for _ in range(3000):
        for c in range(3):
            rest = np.delete(labels, np.flatnonzero(labels == c)[0])
            hits[c] += (rng.permutation(rest)[:others] == c).any()
    assert after.chance_of_positive(counts, others) == pytest.approx(hits / 3000, abs=0.03)


def test_an_only_image_never_finds_a_positive():
    assert after.chance_of_positive([5, 1], 100).tolist() == [1, 0]


def test_the_published_chances_of_step_100():
    chance = [after.chance_of_positive([5000] * 5 + [50] * 5, others)[-1] for others in (127, 511, 1024, 2048)]
    assert chance == pytest.approx([0.22, 0.63, 0.87, 0.98], abs=0.01)


def test_pictures_say_their_numbers():
    curves = pd.DataFrame({("under", "clean"): {0.0: 41.0, 1.0: 80.0}, ("well", "robust"): {0.0: 90.0, 1.0: 76.0}})
    said = after.along_tau(curves, 1.0, "digits").alt
    assert said == "digits, τ = 1: under-represented, clean 80 %; well-represented, PGD-20 76 %."
    counts = {"a": [8, 8, 1], "b": [9, 3, 1]}
    said = after.positives({"a": ([8, 8, 1], 4), "b": ([9, 3, 1], 2)}, queue=0).alt
    assert "queue of 0" in said and said.endswith("b: 66.7, 16.7, 0.")
    assert "5.6, 8" in after.budgets({"a": [0.7, 1.0, 31]}, counts, 8, "of 255", "without a cap").alt


def test_what_is_stored_for_all_methods_is_taken_and_else_a_few_of_the_first_seed(tmp_path):
    tiny = Config(
        imbalance="step-5",
        max_per_class=10,
        test_per_class=5,
        epochs=1,
        attack_steps=1,
        evaluation_steps=1,
        adversarial=False,
    )
    configs = [tiny.replace(method=m, seed=s) for s in (0, 1) for m in ("CE", "AT-BSL")]
    assert results.whole_seeds(configs, ["AT-BSL"], tmp_path) == [configs[1]]
    runs = sweep(configs[1:], jobs=1, store=tmp_path / "store", progress=False)
    results.export(runs, tmp_path)
    assert results.whole_seeds(configs, ["AT-BSL"], tmp_path) == configs[2:]


def test_methods_on_their_sets_with_their_means_the_best_on_rare_classes_first(tmp_path):
    tiny = Config(max_per_class=10, test_per_class=5, epochs=1, attack_steps=1, evaluation_steps=1, adversarial=False)
    sets = ("step-5", "exp-5")
    configs = [tiny.replace(imbalance=i, method=m, seed=s) for i in sets for m in ("CE", "AT-BSL") for s in (0, 1)]
    named = compare.of_methods(sweep(configs, jobs=1, store=tmp_path, progress=False))
    table = compare.by_set(named)
    rare = {
        (name, i): np.mean([run.summary(STRONG).loc["robust", "under"] for run in own if run.config.imbalance == i])
        for name, own in named.items()
        for i in sets
    }
    for (name, imbalance), value in rare.items():
        fell = any(run.collapsed for run in named[name] if run.config.imbalance == imbalance)
        assert table.loc[name, imbalance] == f"{value:.1f}" + " †" * fell
    assert table["rare"].to_dict() == {name: round(np.mean([rare[name, i] for i in sets]), 1) for name in named}
    assert table["rare"].is_monotonic_decreasing and set(table) == {*sets, "rare", "frequent", "overall"}


@pytest.mark.parametrize(
    ("method", "looks"),
    [
        ("CE", 5 + 1),
        ("SRAT-LDAM", 5 + 1),
        ("AT-BSL", 5 + 1),
        ("TRADES", 1 + 5 + 2),
        ("RoBal-R", 5 + 2),
        ("AWP", 5 + 1 + 1),
    ],
)
def test_passes_are_the_attacks_steps_and_what_the_terms_and_the_update_look_at(method, looks):
    data = load_dataset("digits", imbalance="step-5", max_per_class=15).train
    config = Config(method=method, imbalance="step-5", max_per_class=15, attack_steps=5)
    assert after.passes(config, data) == looks
    assert after.passes(config.replace(adversarial=False), data) <= 2


def test_a_board_has_the_words_in_the_order_of_what_was_asked_and_a_dash_for_the_rest():
    certain, unsure = effects.from_seeds([5.0, 5.1, 4.9]), effects.from_seeds([3.0])
    text = compare.board({("b", "− a"): certain, ("a", "− b"): unsure, ("c", "− a"): None}, "method", "points").text
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["points", "−", "a", "−", "b"] and [row[0] for row in rows[2:]] == ["b", "a", "c"]
    assert rows[2][-2:] == ["up", "–"] and "1 seed: undecided" in text and rows[4][1:] == ["not", "measured", "–"]


def test_labels_give_way_to_each_other_and_those_apart_stay():
    places = np.array([[0, 0], [0, 0], [0, 0], [1, 0], [30, 30]], float)
    moved = plots.apart(places, 9)
    gaps = np.hypot(*np.moveaxis(moved[:, None] - moved[None], -1, 0))[np.triu_indices(5, 1)]
    assert gaps.min() >= 9 and moved[4].tolist() == [30, 30]
    on_a_line = plots.apart(np.array([(0, 49), (0, 36), (0, 36), (0, 35)], float), 5)
    assert (on_a_line[:, 0] == 0).all() and np.diff(np.sort(on_a_line[:, 1])).min() >= 5 and on_a_line[0, 1] == 49
    marks = np.array([(0, 0), (4, 0), (50, 50)], float)
    beside = plots.apart(np.array([(0, 0), (1, 0), (90, 90)], float), 9, marks, clear=8)
    assert np.hypot(*np.moveaxis(beside[:, None] - marks, -1, 0)).min() >= 8 and beside[2].tolist() == [90, 90]
    assert np.hypot(*(beside[0] - beside[1])) >= 9
