"""Prediction losses and L_sep against libraries, loops and numbers worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SupConLoss
from torchvision.ops import sigmoid_focal_loss

from srat_utils import losses


def random_features(number, width=6, seed=0):
    return torch.randn(number, width, generator=torch.Generator().manual_seed(seed))


def separation_by_loops(features, labels, temperature):
    """Eq. 6 read aloud: anchor by anchor, positive by positive, in Python floats."""
    vectors = [[value / math.dist(row, [0] * len(row)) for value in row] for row in features.double().tolist()]

    def similarity(i, j):
        return sum(a * b for a, b in zip(vectors[i], vectors[j], strict=True)) / temperature

    total = 0.0
    for i in range(len(vectors)):
        others = [j for j in range(len(vectors)) if j != i]
        positives = [p for p in others if labels[p] == labels[i]]
        if positives:
            denominator = sum(math.exp(similarity(i, a)) for a in others)
            total += -sum(math.log(math.exp(similarity(i, p)) / denominator) for p in positives) / len(positives)
    return total / len(vectors)


# ------------------------------------------------------------------------------------------------ L_sep


@pytest.mark.parametrize("temperature", [0.05, 0.07, 0.1, 0.5, 1.0])
def test_separation_and_its_gradient_equal_pytorch_metric_learning(temperature):
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3])
    ours, theirs = (random_features(12).requires_grad_() for _ in range(2))
    value, reference = losses.feature_separation(ours, labels, temperature), SupConLoss(temperature)(theirs, labels)
    assert value.item() == pytest.approx(reference.item(), rel=1e-5)
    value.backward()
    reference.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.sampled_from([0.1, 0.5, 2.0]), st.integers(0, 99))
def test_separation_equals_a_double_loop_whatever_the_labels(labels, temperature, seed):
    features = random_features(len(labels), seed=seed)
    expected = separation_by_loops(features, labels, temperature)
    assert losses.feature_separation(features, torch.tensor(labels), temperature).item() == pytest.approx(
        expected, rel=1e-4, abs=1e-5
    )


def test_separation_of_three_axes_by_hand():
    features = torch.tensor([[2.0, 0, 0], [0, 5.0, 0], [0, 0, 0.1]])
    # Every pair has cosine 0: −log(1/2) for both anchors of class 0, 0 for the one that is alone.
    value = losses.feature_separation(features, torch.tensor([0, 0, 1]), 1.0)
    assert value.item() == pytest.approx(2 * math.log(2) / 3, rel=1e-6)


def test_anchor_without_positive_adds_zero_and_still_counts_in_the_mean():
    features = torch.tensor([[1.0, 0], [0, 1.0], [1.0, 1.0]])
    labels = torch.tensor([0, 0, 1])
    diagonal = math.sqrt(0.5)  # cosine between an axis and the lonely anchor
    per_anchor = math.log(math.exp(0) + math.exp(diagonal))  # the positive has cosine 0
    assert losses.feature_separation(features, labels, 1.0).item() == pytest.approx(2 * per_anchor / 3, rel=1e-6)
    assert losses.feature_separation(features, labels, 1.0, lonely="drop").item() == pytest.approx(per_anchor, rel=1e-6)


@pytest.mark.parametrize("lonely", ["zero", "drop"])
@pytest.mark.parametrize("labels", [[0], [0, 1], [0, 1, 2, 3, 4]])
def test_batches_without_any_positive_give_zero_loss_and_zero_gradient(labels, lonely):
    features = random_features(len(labels)).requires_grad_()
    value = losses.feature_separation(features, torch.tensor(labels), 0.1, lonely=lonely)
    value.backward()
    assert value.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_one_class_of_identical_features_gives_log_of_the_other_images():
    features = torch.ones(5, 3)
    assert losses.feature_separation(features, torch.zeros(5, dtype=torch.long), 0.1).item() == pytest.approx(
        math.log(4), rel=1e-5
    )


def test_separation_has_no_factor_of_temperature_over_base_temperature():
    features = torch.eye(4)  # cosines 0, so Eq. 6 does not depend on τ: −log(1/3) for each anchor
    labels = torch.tensor([0, 0, 1, 1])
    values = [losses.feature_separation(features, labels, temperature).item() for temperature in (0.07, 0.1, 0.5)]
    assert values == pytest.approx([math.log(3)] * 3, rel=1e-6)


def test_separation_ignores_the_length_of_features():
    features, labels = random_features(8), torch.tensor([0, 0, 1, 1, 2, 2, 2, 3])
    scaled = features * torch.rand(8, 1).add(0.1) * 10
    torch.testing.assert_close(losses.feature_separation(features, labels), losses.feature_separation(scaled, labels))


def test_separation_falls_when_classes_part():
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    mixed = random_features(6)
    parted = mixed + 20 * F.one_hot(labels, 6)
    assert losses.feature_separation(parted, labels) < losses.feature_separation(mixed, labels)


@pytest.mark.parametrize("temperature", [0.1, 0.01])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_separation_of_half_precision_features_is_finite_and_near_float32(dtype, temperature):
    exact = random_features(16, 32).to(dtype).float()
    labels = torch.arange(16) % 5
    labels[0] = 9  # one anchor is alone
    halves = exact.to(dtype).requires_grad_()
    value = losses.feature_separation(halves, labels, temperature)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value) and torch.isfinite(halves.grad).all()
    assert halves.grad.abs().sum() > 0
    assert value.item() == pytest.approx(losses.feature_separation(exact, labels, temperature).item(), rel=1e-4)


def test_separation_under_autocast_equals_separation_without():
    features, labels = random_features(16, 32), torch.arange(16) % 4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = losses.feature_separation(features, labels)
    assert torch.equal(value, losses.feature_separation(features, labels))


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_separation_refuses_a_temperature_of_zero_or_less(temperature):
    with pytest.raises(ValueError, match=str(temperature)):
        losses.feature_separation(random_features(4), torch.tensor([0, 0, 1, 1]), temperature)


def test_separation_refuses_a_word_for_lonely_anchors_that_it_does_not_know():
    with pytest.raises(ValueError, match="'Zero'"):
        losses.feature_separation(random_features(4), torch.tensor([0, 0, 1, 1]), 0.1, lonely="Zero")


def test_has_positive_finds_the_anchors_with_a_classmate():
    assert losses.has_positive(torch.tensor([0, 1, 0, 2, 2, 3])).tolist() == [True, False, True, True, True, False]
    assert losses.has_positive(torch.tensor([7])).tolist() == [False]


# ------------------------------------------------------------------------------------------------ focal


def test_focal_of_known_probabilities_by_hand():
    probabilities = torch.tensor([[0.9, 0.1], [0.25, 0.75]])
    labels = torch.tensor([0, 0])
    expected = [0.1 * -math.log(0.9), 0.75 * -math.log(0.25)]
    assert losses.focal(probabilities.log(), labels).tolist() == pytest.approx(expected, rel=1e-5)
    squared = [0.01 * -math.log(0.9), 0.5625 * -math.log(0.25)]
    assert losses.focal(probabilities.log(), labels, gamma=2.0).tolist() == pytest.approx(squared, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_two_class_focal_equals_torchvision_sigmoid_focal(gamma):
    logits, labels = random_features(20, 2), torch.arange(20) % 2
    # With two classes the softmax is a sigmoid of the logits' difference.
    reference = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], labels.float(), alpha=-1, gamma=gamma)
    torch.testing.assert_close(losses.focal(logits, labels, gamma), reference, rtol=1e-4, atol=1e-6)


def test_focal_with_gamma_zero_is_cross_entropy():
    logits, labels = random_features(20, 7), torch.arange(20) % 7
    torch.testing.assert_close(losses.focal(logits, labels, 0.0), F.cross_entropy(logits, labels, reduction="none"))


def test_focal_never_exceeds_cross_entropy():
    logits, labels = 5 * random_features(50, 10), torch.arange(50) % 10
    value = losses.focal(logits, labels)
    assert (value >= 0).all() and (value <= F.cross_entropy(logits, labels, reduction="none")).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradient_is_finite_for_a_certain_example(gamma):
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)  # p = 1 and p = 0 in float32
    losses.focal(logits, torch.tensor([0, 0]), gamma).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_focal_and_ldam_give_one_value_an_example():
    logits, labels = random_features(5, 4), torch.tensor([0, 1, 2, 3, 0])
    assert losses.focal(logits, labels).shape == (5,)
    assert losses.ldam(logits, labels, torch.full((4,), 0.5)).shape == (5,)
    assert losses.cross_entropy(logits, labels).shape == (5,)


# ------------------------------------------------------------------------------------------------ LDAM


def test_ldam_margins_by_hand():
    # n^(−1/4): 10000 → 1/10, 625 → 1/5, 16 → 1/2; the largest margin is 0.5.
    assert losses.ldam_margins([10000, 625, 16]).tolist() == pytest.approx([0.1, 0.2, 0.5], rel=1e-6)
    assert losses.ldam_margins([10000, 625, 16], max_margin=1.0).tolist() == pytest.approx([0.2, 0.4, 1.0], rel=1e-6)


def test_ldam_margins_of_one_image_and_of_equal_counts():
    assert losses.ldam_margins([81, 1]).tolist() == pytest.approx([0.5 / 3, 0.5], rel=1e-6)
    assert losses.ldam_margins([7, 7, 7]).tolist() == pytest.approx([0.5] * 3)


def test_ldam_loss_by_hand():
    logits = torch.tensor([[3.0, 1.0], [0.0, 2.0]])  # s·cos, s = 10
    margins = torch.tensor([0.1, 0.2])
    # True logits after the margin: 3 − 10·0.1 = 2 against 1, and 2 − 10·0.2 = 0 against 0.
    expected = [math.log(1 + math.exp(1 - 2)), math.log(2)]
    assert losses.ldam(logits, torch.tensor([0, 1]), margins, scale=10.0).tolist() == pytest.approx(expected, rel=1e-5)


def test_ldam_without_margins_is_cross_entropy_of_the_logits_as_they_are():
    logits, labels = 20 * random_features(10, 4), torch.arange(10) % 4
    value = losses.ldam(logits, labels, torch.zeros(4))
    torch.testing.assert_close(value, F.cross_entropy(logits, labels, reduction="none"))  # not multiplied by s again


def test_ldam_leaves_its_arguments_alone():
    logits, labels = random_features(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    before = logits.clone()
    losses.ldam(logits, labels, torch.tensor([0.1, 0.2, 0.5]))
    assert torch.equal(logits, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_ldam_of_half_precision_logits_is_finite(dtype):
    logits = (30 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).to(dtype)
    assert torch.isfinite(losses.ldam(logits, torch.tensor([0, 0]), torch.tensor([0.1, 0.5]))).all()


@pytest.mark.parametrize("number", [1, 5])
def test_others_are_compared_with_and_are_no_anchors(number):
    generator = torch.Generator().manual_seed(0)
    z, others = torch.randn(number, 4, generator=generator), torch.randn(3, 4, generator=generator)
    y, other_y = torch.arange(number) % 2, torch.tensor([0, 1, 7])
    everything, labels = torch.nn.functional.normalize(torch.cat([z, others])), torch.cat([y, other_y])
    total = 0.0
    for i in range(number):
        A = [a for a in range(number + 3) if a != i]
        P = [p for p in A if labels[p] == labels[i]]
        log_sum = torch.stack([everything[i] @ everything[a] / 0.2 for a in A]).exp().sum().log()
        total -= sum(everything[i] @ everything[p] / 0.2 - log_sum for p in P) / len(P)
    ours = losses.feature_separation(z, y, 0.2, others=others, other_labels=other_y)
    torch.testing.assert_close(ours, total / number)


def test_without_others_a_lone_image_costs_nothing_and_an_unrelated_other_changes_that_not_to_nan():
    z = torch.randn(1, 4, requires_grad=True)
    assert losses.feature_separation(z, torch.tensor([0])).item() == 0
    losses.feature_separation(z, torch.tensor([0]), others=torch.ones(1, 4), other_labels=torch.tensor([3])).backward()
    assert torch.isfinite(z.grad).all()
