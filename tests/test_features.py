"""Penultimate features, their t-SNE, and separability numbers that order what is plainly more and less separable."""

import math

import numpy as np
import pytest
import torch

from srat_utils import load_dataset
from srat_utils.attacks import Attack
from srat_utils.features import penultimate, separability, tsne
from srat_utils.models import build


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("digits", imbalance="balanced", max_per_class=4, test_per_class=4).test


def blobs(distance, counts=(40, 40, 40), width=5, seed=0):
    """Unit Gaussian blobs around points on the axes, `distance` from the origin."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    return rng.normal(size=(len(labels), width)) + distance * np.eye(width)[labels], labels


def test_features_are_those_before_the_head(dataset):
    model = build("small-cnn", 1, 10).train()
    features = penultimate(model, dataset)
    assert features.shape == (len(dataset), 64) and features.dtype == np.float32
    assert model.training
    images, _ = dataset.tensors("cpu")
    with torch.no_grad():
        logits = model.eval()(images.float() / 255)
    np.testing.assert_allclose(
        features @ model.head.weight.detach().numpy().T + model.head.bias.detach().numpy(), logits, atol=1e-5
    )


def test_features_of_adversarial_examples_differ_and_depend_on_the_seed(dataset):
    model, attack = build("small-cnn", 1, 10), Attack(0.2, 0.05, 2)
    clean, first, again, other = (
        penultimate(model, dataset),
        penultimate(model, dataset, attack),
        penultimate(model, dataset, attack),
        penultimate(model, dataset, attack, seed=1),
    )
    assert (first == again).all() and not (first == other).all() and not (first == clean).all()
    assert (penultimate(model, dataset, Attack(0.0, 0.0, 1)) == clean).all()


@pytest.mark.parametrize("number", [2, 3, 5, 12, 40])
def test_tsne_gives_a_point_an_image_and_the_same_points_again(number):
    features = np.random.default_rng(0).normal(size=(number, 6)).astype(np.float32)
    points = tsne(features)
    assert points.shape == (number, 2) and np.isfinite(points).all()
    np.testing.assert_array_equal(points, tsne(features))


def test_tsne_leaves_the_global_random_state_alone():
    before = np.random.get_state()[1].copy()
    tsne(np.random.default_rng(0).normal(size=(10, 4)))
    assert (np.random.get_state()[1] == before).all()


def test_separability_orders_mixed_near_and_far_blobs():
    mixed, near, far = (separability(*blobs(distance)) for distance in (0, 2, 10))
    for name in ("silhouette", "variance_ratio", "probe_accuracy"):
        assert mixed[name] < near[name] < far[name] or (name == "probe_accuracy" and near[name] <= far[name] == 100)
    assert far["silhouette"] > 0.7 and abs(mixed["silhouette"]) < 0.1
    assert mixed["probe_accuracy"] == pytest.approx(100 / 3, abs=15)


def test_variance_ratio_by_hand():
    features = np.array([[-1.0, 0], [1.0, 0], [9.0, 0], [11.0, 0]])
    # Means 0 and 10: variance 25 between them; variance 1 within each.
    assert separability(features, np.array([0, 0, 1, 1]))["variance_ratio"] == pytest.approx(25)


def test_a_rare_class_counts_as_much_as_a_frequent_one():
    # The rare class sits inside the frequent one: per image nearly all is right, per class about half.
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(210, 3)), np.repeat([0, 1], [200, 10])
    assert separability(features, labels)["probe_accuracy"] < 75


def test_a_class_of_one_image_has_no_probe_and_is_no_error():
    result = separability(*blobs(10, counts=(20, 20, 1)))
    assert math.isnan(result["probe_accuracy"])
    assert math.isfinite(result["silhouette"]) and math.isfinite(result["variance_ratio"])


def test_collapsed_features_have_no_variance_within():
    assert separability(np.eye(2).repeat(3, 0), np.array([0, 0, 0, 1, 1, 1]))["variance_ratio"] == math.inf
