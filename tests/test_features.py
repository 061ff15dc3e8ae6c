"""Penultimate features, their t-SNE, and separability numbers that order what is plainly more and less separable."""

import math

import numpy as np
import pytest
import torch
from helpers import build

from srat_utils import Config, load_dataset, train
from srat_utils.attacks import PGD
from srat_utils.course.studies import along
from srat_utils.features import aligned, aligned_embeddings, penultimate, separability, tsne, variance_ratio
from srat_utils.places import remembered


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
    model, attack = build("small-cnn", 1, 10), PGD(0.2, 0.05, 2)
    clean, first, again, other = (
        penultimate(model, dataset),
        penultimate(model, dataset, attack),
        penultimate(model, dataset, attack),
        penultimate(model, dataset, attack, seed=1),
    )
    assert (first == again).all() and not (first == other).all() and not (first == clean).all()
    assert (penultimate(model, dataset, PGD(0.0, 0.0, 1)) == clean).all()


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


def turned(points, angle=2.0, mirror=False):
    cosine, sine = np.cos(angle), np.sin(angle)
    return points @ np.array([[cosine, -sine], [sine, cosine]]) * ([1, -1] if mirror else [1, 1])


@pytest.mark.parametrize("number", [2, 3, 50])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_turned_mirrored_moved_and_scaled_copy_is_aligned_to_where_it_came_from(number, mirror):
    points = np.random.default_rng(0).normal(size=(number, 2))
    np.testing.assert_allclose(aligned(3 * turned(points, mirror=mirror) + 7, points), points, atol=1e-9)


def test_alignment_keeps_the_shape():
    rng = np.random.default_rng(0)
    points, reference = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))
    here, there = (
        np.linalg.norm(p[:, None] - p[None], axis=-1)[np.triu_indices(20, 1)]
        for p in (points, aligned(points, reference))
    )
    np.testing.assert_allclose(here / here[0], there / there[0])


def test_points_on_one_spot_are_moved_to_the_centre_of_the_reference():
    np.testing.assert_allclose(aligned(np.ones((3, 2)), np.array([[0, 0], [3, 0], [0, 3]])), np.ones((3, 2)))


@pytest.mark.parametrize("method", ["t-SNE", "PCA"])
def test_an_image_stays_where_it_was_when_its_features_are_only_turned(method):
    z, labels = blobs(8, width=4)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    embedded = aligned_embeddings({"before": z, "after": z @ turn}, method)
    before, after = embedded["before"], embedded["after"]
    assert before.shape == after.shape == (len(z), 2) and list(embedded) == ["before", "after"]
    size = np.linalg.norm(before - before.mean(0), axis=1).mean()
    for c in range(3):
        assert np.linalg.norm(before[labels == c].mean(0) - after[labels == c].mean(0)) < 0.1 * size
    moved = np.linalg.norm(before - after, axis=1).mean()
    strangers = np.linalg.norm(before - after[np.random.default_rng(2).permutation(len(z))], axis=1).mean()
    assert moved < strangers / 3
    if method == "PCA":
        np.testing.assert_allclose(before, after, atol=1e-6)


def test_tsne_started_from_the_points_before_moves_less_than_one_of_its_own():
    z, _ = blobs(3, counts=(30, 30, 30))
    other = z + np.random.default_rng(3).normal(size=z.shape) / 2
    first, linked = aligned_embeddings({1: z, 2: other}).values()
    alone = aligned(tsne(other), first)
    assert np.linalg.norm(first - linked, axis=1).mean() < np.linalg.norm(first - alone, axis=1).mean()


@pytest.mark.parametrize("method", ["t-SNE", "PCA"])
def test_two_images_are_enough_for_aligned_embeddings(method):
    z = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    embedded = aligned_embeddings({0.0: z, 1.0: -z, 2.0: np.zeros_like(z)}, method)
    assert all(points.shape == (2, 2) and np.isfinite(points).all() for points in embedded.values())


def test_aligned_embeddings_say_what_they_cannot_do():
    with pytest.raises(ValueError, match="'t-SNE' or 'PCA', not 'UMAP'"):
        aligned_embeddings({0: np.zeros((4, 3))}, "UMAP")
    with pytest.raises(ValueError, match=r"same images, but there are \[4, 5\]"):
        aligned_embeddings({0: np.zeros((4, 3)), 1: np.zeros((5, 3))})
    with pytest.raises(ValueError, match="4 points cannot be aligned to 5"):
        aligned(np.zeros((4, 2)), np.zeros((5, 2)))
    assert aligned_embeddings({}) == {}


def test_along_a_setting_each_run_is_embedded_and_measured(tmp_path):
    start = Config(imbalance="step-5", method="CE", epochs=1, max_per_class=15, adversarial=False)
    runs = {seed: train(start.replace(learning_rate=seed), store=tmp_path, progress=False) for seed in (0.1, 0.2)}
    points, measured = along(runs)
    assert list(points) == [(0.1, "t-SNE"), (0.2, "t-SNE"), (0.1, "PCA"), (0.2, "PCA")]
    assert {shown.shape for shown in points.values()} == {(len(runs[0.1].data.train), 2)}
    run = runs[0.2]
    unseen = penultimate(run.model, run.data.test, run.config.evaluation_attack)
    assert measured[0.2] == separability(unseen, run.data.test.labels) != measured[0.1]


def test_separability_orders_mixed_near_and_far_blobs():
    mixed, near, far = (separability(*blobs(distance)) for distance in (0, 2, 10))
    for name in ("silhouette", "variance_ratio", "probe_accuracy"):
        assert mixed[name] < near[name] < far[name] or (name == "probe_accuracy" and near[name] <= far[name] == 100)
    assert far["silhouette"] > 0.7 and abs(mixed["silhouette"]) < 0.1
    assert mixed["probe_accuracy"] == pytest.approx(100 / 3, abs=15)


def test_variance_ratio_by_hand():
    features = np.array([[-1.0, 0], [1.0, 0], [9.0, 0], [11.0, 0]])
    # Means 0 and 10: variance 25 between them; variance 1 within each.
    assert variance_ratio(features, np.array([0, 0, 1, 1])) == pytest.approx(25)
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


def test_what_was_computed_is_remembered_and_other_arguments_are_not_mixed_up(tmp_path, monkeypatch):
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path))
    calls = []

    def slow(array, shift=0):
        calls.append(shift)
        return array + shift

    kept = remembered(slow)
    ones = np.ones(3)
    for shift in (0, 1, 0, 1):
        assert (kept(ones, shift=shift) == 1 + shift).all()
    assert (kept(2 * ones) == 2).all() and calls == [0, 1, 0]


def test_where_nothing_can_be_kept_it_is_computed(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path / "file"))
    assert remembered(max)(3, 4) == 4
