"""Accuracy per class against scikit-learn, the summary by hand, and the collapse flag."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import recall_score

from srat_utils import Config, load_dataset
from srat_utils.attacks import Attack
from srat_utils.evaluation import evaluate, is_collapsed, predict, summarise
from srat_utils.models import build
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


@pytest.mark.parametrize("attack", [None, Attack(0.2, 0.05, 3)])
def test_class_accuracy_is_scikit_learns_recall_on_an_unbalanced_set(trained, attack):
    model, test, sizes = trained
    metrics = evaluate(model, test, [attack] if attack else [], seed=1)
    rows = metrics[metrics["attack"] == (attack.name if attack else "clean")]
    predictions = predict(model, *test.tensors("cpu"), attack, seed=1).numpy()
    assert rows["accuracy"].to_numpy() == pytest.approx(100 * recall_score(test.labels, predictions, average=None))
    assert rows["images"].tolist() == sizes
    assert rows["predicted"].tolist() == np.bincount(predictions, minlength=10).tolist()
    assert rows["class"].tolist() == list(test.classes)


def test_overall_is_per_image_and_balanced_is_per_class(trained):
    model, test, _ = trained
    metrics = evaluate(model, test, []).assign(group=["well"] * 5 + ["under"] * 5)
    predictions = predict(model, *test.tensors("cpu")).numpy()
    summary = summarise(metrics).loc["clean"]
    assert summary["overall"] == pytest.approx(100 * (predictions == test.labels).mean())
    assert summary["balanced"] == pytest.approx(100 * recall_score(test.labels, predictions, average="macro"))


def test_summary_by_hand():
    rows = [("a", "well", 10, "clean", 90.0), ("b", "well", 30, "clean", 70.0), ("c", "under", 60, "clean", 20.0)]
    rows += [("a", "well", 10, "pgd-20", 50.0), ("b", "well", 30, "pgd-20", 40.0), ("c", "under", 60, "pgd-20", 0.0)]
    summary = summarise(pd.DataFrame(rows, columns=["class", "group", "images", "attack", "accuracy"]))
    assert summary.index.tolist() == ["clean", "pgd-20"]
    assert summary.loc["clean"].to_dict() == pytest.approx(
        {"overall": 42, "balanced": 60, "well": 80, "under": 20, "worst": 20}
    )
    assert summary.loc["pgd-20"].to_dict() == pytest.approx(
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
    rows = [("a", "clean", 50), ("b", "clean", 50), ("a", "pgd-20", 100), ("b", "pgd-20", 0)]
    assert not is_collapsed(pd.DataFrame(rows, columns=["class", "attack", "predicted"]))


def test_evaluation_is_the_same_in_train_and_eval_mode_and_restores_the_mode(trained):
    model, test, _ = trained
    in_eval = evaluate(model.eval(), test, [Attack(0.1, 0.05, 2)])
    pd.testing.assert_frame_equal(evaluate(model.train(), test, [Attack(0.1, 0.05, 2)]), in_eval)
    assert all(module.training for module in model.modules())


def test_robust_accuracy_does_not_exceed_clean_accuracy(trained):
    model, test, _ = trained
    metrics = evaluate(model, test, [Attack(0.2, 0.05, 10)])
    correct = (metrics["accuracy"] * metrics["images"]).groupby(metrics["attack"]).sum()
    assert correct["pgd-10"] < correct["clean"]


def test_a_class_without_test_images_has_no_accuracy_and_does_not_spoil_the_summary():
    test = load_dataset("digits", test_per_class=4).test
    test = test.subset(np.flatnonzero(test.labels != 9))
    metrics = evaluate(always(3), test, []).assign(group=["well"] * 5 + ["under"] * 5)
    assert np.isnan(metrics["accuracy"].iloc[9]) and metrics["images"].iloc[9] == 0
    assert summarise(metrics).loc["clean", "overall"] == pytest.approx(100 / 9)
