"""Accuracy per class against scikit-learn, the summary by hand, and the collapse flag."""

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import build
from sklearn.metrics import recall_score

from srat_utils import PAPER, STRONG, Config, load_dataset
from srat_utils.attacks import PGD
from srat_utils.evaluation import (
    TO_DO,
    Outcomes,
    Protocol,
    accuracies,
    attempt,
    evaluate,
    is_collapsed,
    of_kind,
    summarise,
)
from srat_utils.training import fit


@pytest.fixture(scope="module")
def trained():
    """A half-trained network and an unbalanced test set, so that N/C is wrong for every class."""
    config = Config(imbalance="step-5", method="CE", adversarial=False, epochs=3, max_per_class=30)
    split = load_dataset("digits", imbalance="step-5", max_per_class=30)
    rng = np.random.default_rng(0)
    sizes = [1, 2, 5, 9, 14, 20, 27, 35, 44, 54]
    picked = np.concatenate([rng.choice(np.flatnonzero(split.test.labels == c), n, False) for c, n in enumerate(sizes)])
    return fit(config, split.train).model, split.test.subset(picked), sizes


@pytest.mark.parametrize("attack", [None, PGD(0.2, 0.05, 3)])
def test_class_accuracy_is_scikit_learns_recall_on_an_unbalanced_set(trained, attack):
    model, test, sizes = trained
    metrics = evaluate(model, test, [attack] if attack else [], seed=1)
    name = attack.name if attack else "clean"
    rows = metrics[metrics["attack"] == name]
    predictions = attempt(model, test, [attack] if attack else [], seed=1).predictions[name]
    assert rows["accuracy"].to_numpy() == pytest.approx(100 * recall_score(test.labels, predictions, average=None))
    assert rows["images"].tolist() == sizes
    assert rows["predicted"].tolist() == np.bincount(predictions, minlength=10).tolist()
    assert rows["class"].tolist() == list(test.classes)


def test_overall_is_per_image_and_balanced_is_per_class(trained):
    model, test, _ = trained
    metrics = evaluate(model, test, [])
    predictions = attempt(model, test, []).predictions["clean"]
    summary = summarise(metrics).loc["clean"]
    assert summary["overall"] == pytest.approx(100 * (predictions == test.labels).mean())
    assert summary["balanced"] == pytest.approx(100 * recall_score(test.labels, predictions, average="macro"))


def test_summary_by_hand():
    rows = [("a", "well", 10, 90.0, 50.0), ("b", "well", 30, 70.0, 40.0), ("c", "under", 60, 20.0, 0.0)]
    rows = [
        (*row[:3], *tried, row[place])
        for place, tried in ((3, ("clean", "clean")), (4, ("robust", "pgd")))
        for row in rows
    ]
    summary = summarise(pd.DataFrame(rows, columns=["class", "group", "images", "kind", "attack", "accuracy"]))
    assert summary["attack"].to_dict() == {"clean": "clean", "robust": "pgd"}
    summary = summary.drop(columns="attack")
    assert summary.loc["clean"].to_dict() == pytest.approx(
        {"overall": 42, "balanced": 60, "well": 80, "under": 20, "worst": 20}
    )
    assert summary.loc["robust"].to_dict() == pytest.approx(
        {"overall": 17, "balanced": 30, "well": 45, "under": 0, "worst": 0}
    )


def always(index, classes=10):
    """A network that predicts one class whatever it sees."""
    model = build("small-cnn", 1, classes)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()[index] = 1
    return model


def test_a_model_that_knows_one_class_is_collapsed():
    test = load_dataset("digits", test_per_class=5).test
    metrics = evaluate(always(3), test, [])
    assert is_collapsed(metrics)
    assert metrics["accuracy"].tolist() == [0.0] * 3 + [100.0] + [0.0] * 6
    assert metrics["predicted"].tolist() == [0] * 3 + [50] + [0] * 6


def test_a_trained_model_is_not_collapsed_and_an_attack_alone_does_not_make_it_so():
    rows = [("clean", 50, 100.0, 50), ("clean", 50, 100.0, 50), ("robust", 50, 100.0, 100), ("robust", 50, 0.0, 0)]
    assert not is_collapsed(pd.DataFrame(rows, columns=["kind", "images", "accuracy", "predicted"]))


def test_evaluation_is_the_same_in_train_and_eval_mode_and_restores_the_mode(trained):
    model, test, _ = trained
    in_eval = evaluate(model.eval(), test, [PGD(0.1, 0.05, 2)])
    pd.testing.assert_frame_equal(evaluate(model.train(), test, [PGD(0.1, 0.05, 2)]), in_eval)
    assert all(module.training for module in model.modules())


def test_robust_accuracy_does_not_exceed_clean_accuracy(trained):
    model, test, _ = trained
    metrics = evaluate(model, test, [PGD(0.2, 0.05, 10)])
    correct = (metrics["accuracy"] * metrics["images"]).groupby(metrics["kind"]).sum()
    assert correct["robust"] < correct["clean"]


def test_a_class_without_test_images_has_no_accuracy_and_does_not_spoil_the_summary():
    test = load_dataset("digits", test_per_class=4).test
    test = test.subset(np.flatnonzero(test.labels != 9))
    metrics = evaluate(always(3), test, [], rare=np.arange(10) > 4)
    assert np.isnan(metrics["accuracy"].iloc[9]) and metrics["images"].iloc[9] == 0
    assert summarise(metrics).loc["clean", "overall"] == pytest.approx(100 / 9)


# ------------------------------------------------------------------------------------------------ several attacks


def outcomes(**said):
    """Four images of two classes, [0, 0, 1, 1], and what was said of them."""
    labels = np.array([0, 0, 1, 1], np.int16)
    return Outcomes("", labels, {name: np.array(values, np.int16) for name, values in said.items()})


SAID = {"clean": [0, 0, 1, 0], "pgd-20@0.2": [0, 1, 1, 1], "apgd-ce-100@0.2": [1, 0, 1, 1]}


def test_robust_is_the_worst_case_for_each_image():
    metrics = accuracies(outcomes(**SAID), ["a", "b"], [False, True])
    table = metrics.pivot(index="class", columns=["kind", "attack"], values="accuracy")
    assert table["clean", "clean"].tolist() == [100, 50]
    assert table["robust", "2 attacks@0.2"].tolist() == [0, 100]
    assert table["attack", "pgd-20@0.2"].tolist() == [50, 100] and table["attack", "apgd-ce-100@0.2"].tolist() == [
        50,
        100,
    ]
    assert metrics["group"].tolist() == ["well", "under"] * 4
    # In a union the unattacked image counts, too: the last one is wrong without any attack.
    union = accuracies(outcomes(**SAID), ["a", "b"], [False, True], union=True)
    assert of_kind(union, "robust")["accuracy"].tolist() == [0, 50]
    assert union[union["attack"] == "pgd-20@0.2"]["accuracy"].tolist() == [50, 50]


def test_one_attack_is_itself_the_robust_row():
    metrics = accuracies(outcomes(**{name: SAID[name] for name in ("clean", "pgd-20@0.2")}), ["a", "b"], [False, True])
    assert metrics["kind"].tolist() == ["clean", "clean", "robust", "robust"]
    assert metrics["attack"].unique().tolist() == ["clean", "pgd-20@0.2"]


def test_two_budgets_stay_two_rows_and_are_never_mixed():
    said = {"clean": SAID["clean"], "pgd-20@0.2": [0, 1, 1, 1], "pgd-20@0.1": [0, 0, 1, 1]}
    summary = summarise(accuracies(outcomes(**said), ["a", "b"], [False, True]))
    assert summary.loc["robust"].set_index("attack")["overall"].to_dict() == {"pgd-20@0.2": 75, "pgd-20@0.1": 100}
    with pytest.raises(ValueError, match=r"0\.1, 0\.2"):
        of_kind(accuracies(outcomes(**said), ["a", "b"], [False, True]), "robust")


def test_in_a_union_only_what_stands_is_attacked_and_in_the_end_the_worst_case_is_the_same(trained):
    model, test, _ = trained
    attacks = [PGD(0.1, 0.05, 2), PGD(0.1, 0.02, 5)]
    every = attempt(model, test, attacks)
    seen = []
    watched = [
        lambda *given, attack=attack, **rest: seen.append(len(given[1])) or attack(*given, **rest) for attack in attacks
    ]
    for function, attack in zip(watched, attacks, strict=True):
        function.name = attack.name
    union = attempt(model, test, watched, union=True)
    right = every.predictions["clean"] == every.labels
    assert (
        seen[0] == right.sum() and seen[1] == (union.worst(["clean", attacks[0].name]) == union.labels).sum() < seen[0]
    )
    assert (union.predictions[attacks[1].name] == -1).sum() == len(test) - seen[1]


@pytest.mark.parametrize("union", [False, True])
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_an_interrupted_evaluation_goes_on_to_the_same_outcomes(trained, tmp_path, monkeypatch, union, stop):
    model, test, _ = trained
    monkeypatch.setattr("srat_utils.evaluation.BATCH", 80)
    attacks, path = [PGD(0.1, 0.05, 2), PGD(0.1, 0.02, 3)], tmp_path / "outcomes.npz"
    whole = attempt(model, test, attacks, union=union, seed=3)
    assert whole.complete

    class Enough(Exception):
        pass

    def save(outcomes):
        outcomes.write(path)
        save.times += 1
        if save.times == stop:
            raise Enough

    save.times = 0
    with pytest.raises(Enough):
        attempt(model, test, attacks, union=union, seed=3, save=save)
    half = Outcomes.read(path)
    assert not half.complete
    again = attempt(model, test, attacks, union=union, seed=3, outcomes=half)
    for name, said in whole.predictions.items():
        assert np.array_equal(again.predictions[name], said), name


def test_two_attacks_of_one_name_are_refused(trained):
    model, test, _ = trained
    with pytest.raises(ValueError, match=r"one name: pgd-2@0\.1, pgd-2@0\.1"):
        attempt(model, test, [PGD(0.1, 0.05, 2), PGD(0.1, 0.02, 2)])


def test_a_union_over_two_budgets_is_the_worst_case_of_each_by_itself(trained):
    model, test, _ = trained
    weak, strong = PGD(0.02, 0.01, 3), PGD(0.3, 0.1, 3)
    alone = {each.name: attempt(model, test, [each], union=True) for each in (weak, strong)}
    for order in ([weak, strong], [strong, weak]):
        both = attempt(model, test, order, union=True).robust(True)
        for each in order:
            names, said = both[each.name.partition("@")[2]]
            assert names == [each.name]
            assert (said == alone[each.name].worst_case(True)).all()


def clean(images, accuracies, predicted):
    rows = {"images": images, "accuracy": accuracies, "predicted": predicted}
    return pd.DataFrame(rows).assign(kind="clean")


def test_a_network_that_is_right_on_an_imbalanced_test_set_has_not_collapsed():
    assert not is_collapsed(clean([95, 5], [100, 100], [95, 5]))
    assert is_collapsed(clean([95, 5], [100, 0], [100, 0]))
    assert is_collapsed(clean([5, 95], [100, 0], [100, 0]))  # one that always names the rare class
    assert is_collapsed(clean([10, 10, 0], [100, 0, np.nan], [20, 0, 0]))


def test_a_key_tells_parts_apart_and_an_attack_that_does_not_say_its_settings_is_refused():
    config = Config()
    assert replace(PAPER, part="validation").key(config) != PAPER.key(config)
    assert PAPER.adjusted(1e-5).name == "paper_tau0.00001"  # a hyphen would end the name of a file in results/

    class Silent:
        name = "silent@0.1"

    with pytest.raises(ValueError, match="Silent needs a __repr__"):
        Protocol("mine", lambda config: [Silent()]).key(config)


class BrokenOff(Exception):
    pass


def test_an_evaluation_that_is_broken_off_twice_equals_the_undisturbed_one(trained, monkeypatch):
    model, test, _ = trained
    attacks = [PGD(0.1, 0.05, 2), PGD(0.2, 0.1, 2)]
    monkeypatch.setattr("srat_utils.evaluation.BATCH", 64)
    whole, saves = attempt(model, test, attacks), []

    def save(outcomes):
        saves.append(deepcopy(outcomes))
        if len(saves) in (6, 8):  # within the first attack, and within the second after it went on
            raise BrokenOff

    outcomes = None
    for _ in range(3):
        try:
            outcomes = attempt(model, test, attacks, outcomes=outcomes, save=save)
        except BrokenOff:
            outcomes = saves[-1]
    assert outcomes.complete
    assert all((outcomes.predictions[name] == said).all() for name, said in whole.predictions.items())


def test_random_numbers_of_another_device_cannot_go_on_and_the_attack_begins_anew(trained):
    model, test, _ = trained
    attack = PGD(0.2, 0.1, 2)
    whole = attempt(model, test, [attack])
    half = deepcopy(whole)
    half.predictions[attack.name][: len(test) // 2] = TO_DO
    half.noise = np.zeros(16, np.uint8)  # as many bytes as CUDA's state has
    again = attempt(model, test, [attack], outcomes=half)
    assert (again.predictions[attack.name] == whole.predictions[attack.name]).all()


def test_what_was_begun_on_other_images_counts_for_nothing(trained):
    model, test, _ = trained
    attacks = [PGD(0.2, 0.05, 2)]
    other = test.subset(np.arange(len(test))[::-1].copy())
    begun = attempt(model, other, attacks)
    for said in begun.predictions.values():
        said[50:] = TO_DO
    whole, again = attempt(model, test, attacks), attempt(model, test, attacks, outcomes=begun)
    assert again.test == test.fingerprint and (again.labels == test.labels).all()
    for name, said in whole.predictions.items():
        assert (again.predictions[name] == said).all()


@dataclass(frozen=True)
class Transfer:
    """PGD of another network: a setting whose repr says nothing of its weights."""

    source: torch.nn.Module
    eps: float = 0.2
    name: str = "transfer@0.2"


def test_attacks_through_different_networks_have_different_keys():
    networks = [torch.nn.Linear(2, 2) for _ in range(2)]
    keys = [Protocol("transfer", lambda config, n=n: [Transfer(n)]).key(Config()) for n in (*networks, networks[0])]
    assert keys[0] == keys[2] != keys[1]
    several = [Protocol("transfer", lambda config, n=n: [Transfer((n.bfloat16(),))]).key(Config()) for n in networks]
    assert several[0] != several[1]
    assert STRONG.key(Config()) == "strong-c21f5303" and PAPER.key(Config()) == "paper-054fb7da"


def test_an_attack_of_ones_own_is_known_by_its_code():
    def attack_that(moves):
        @dataclass(frozen=True)
        class Own:
            name: str = "own@0.1"

            def __call__(self, model, images, labels, *, generator=None):
                return moves(images)

        return Own()

    def key_of(moves):
        return Protocol("own", lambda config: [attack_that(moves)]).key(Config())

    assert key_of(nothing) == key_of(nothing) != key_of(everything)


def nothing(images):
    return images


def everything(images):
    return 1 - images


def test_a_prior_is_taken_off_once():
    with pytest.raises(ValueError, match="a prior already"):
        PAPER.adjusted(1).adjusted(2)
