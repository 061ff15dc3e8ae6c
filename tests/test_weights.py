"""Class weights against the paper's number, FACTS computed by hand, and the reductions."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srat_utils import losses, weights
from srat_utils.records import ConfigError

STEP_100 = [5000] * 5 + [50] * 5
STEP_10 = [5000] * 5 + [500] * 5
EXP_100 = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def test_effective_number_is_the_sum_of_a_geometric_series():
    # E_n = 1 + β + … + β^(n−1), summed exactly.
    beta = Fraction(9, 10)
    expected = [float(sum(beta**k for k in range(n))) for n in (1, 2, 5, 40)]
    assert weights.effective_number([1, 2, 5, 40], 0.9).tolist() == pytest.approx(expected, rel=1e-12)


def test_effective_number_is_one_for_beta_zero_and_near_n_for_beta_near_one():
    assert weights.effective_number([1, 7, 5000], 0.0).tolist() == [1, 1, 1]
    assert weights.effective_number([1, 7, 5000], 1 - 1e-12).tolist() == pytest.approx([1, 7, 5000], rel=1e-3)


@pytest.mark.parametrize(("beta", "ratio"), [(0.9999, 78.89), (0.999, 20.4), (0.99999, 97.6)])
def test_weight_ratio_of_50_to_5000_images(beta, ratio):
    well, under = weights.class_balanced([5000, 50], beta)
    assert under / well == pytest.approx(ratio, abs=0.06)


def test_default_beta_gives_the_78_of_the_paper():
    well, under = weights.class_balanced([5000, 50])
    assert math.floor(under / well) == 78


def test_class_balanced_by_hand():
    # β = 0.5: E_1 = 1, E_2 = 1.5, E_3 = 1.75, so w ∝ 1, 2/3, 4/7, which sum to 47/21; times 3·21/47.
    expected = [63 / 47, 42 / 47, 36 / 47]
    assert weights.class_balanced([1, 2, 3], 0.5).tolist() == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.integers(1, 10**5), min_size=2, max_size=20), st.sampled_from([0.0, 0.9, 0.999, 0.9999, 0.99999]))
def test_class_balanced_weights_sum_to_the_number_of_classes_and_favour_the_rare(counts, beta):
    w = weights.class_balanced(counts, beta)
    assert w.sum() == pytest.approx(len(counts), rel=1e-9)
    assert (np.diff(w[np.argsort(counts)]) <= 1e-9).all()


@pytest.mark.parametrize(("counts", "mean"), [(STEP_100, 0.044), (EXP_100, 0.171), (STEP_10, 0.362)])
def test_mean_sample_weight_of_the_papers_sets(counts, mean):
    sample_weights = np.repeat(weights.class_balanced(counts), counts)
    assert sample_weights.mean() == pytest.approx(mean, abs=0.0006)


@pytest.mark.parametrize(
    ("counts", "beta"), [([5, 0], 0.9), ([], 0.9), ([5, 5], 1.0), ([5, 5], -0.1), ([5, 5], math.nan)]
)
def test_impossible_counts_and_betas_are_refused_in_one_line(counts, beta):
    with pytest.raises(ValueError) as error:
        weights.class_balanced(counts, beta)
    assert "\n" not in str(error.value)


def test_plain_ratio_weights_under_represented_classes_only():
    assert weights.plain_ratio(np.array([False, True, True]), 78).tolist() == [1, 78, 78]
    assert weights.plain_ratio(np.array([False, True]), 0.5).tolist() == [1, 0.5]


def test_a_reduction_of_another_name_is_refused():
    with pytest.raises(ValueError, match="'Weighted'"):
        weights.reduce(torch.ones(2), torch.ones(2), "Weighted")


@pytest.mark.parametrize("ratio", [0, -3, math.nan])
def test_plain_ratio_of_zero_or_less_is_refused(ratio):
    with pytest.raises(ValueError, match=str(ratio)):
        weights.plain_ratio(np.array([False, True]), ratio)


def test_weighting_starts_at_once_or_deferred():
    assert (weights.Always().start(200), weights.Deferred().start(200), weights.Deferred(reweight_at=1).start(7)) == (
        0,
        160,
        7,
    )


def test_weighted_reduction_divides_by_the_weights_and_mean_by_the_number():
    values, w = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 1.0, 6.0])
    assert weights.reduce(values, w).item() == pytest.approx(27 / 8)
    assert weights.reduce(values, w, "mean").item() == pytest.approx(9.0)


def test_weighted_reduction_equals_torchs_weighted_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(30, 4, generator=generator), torch.arange(30) % 4
    w = torch.tensor([0.1, 0.2, 0.7, 3.0])
    ours = weights.reduce(losses.cross_entropy(logits, labels), w[labels])
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits, labels, weight=w))


def test_reweighting_does_not_shrink_the_loss_of_equal_examples():
    w = torch.tensor(weights.class_balanced(STEP_100), dtype=torch.float32)
    labels = torch.repeat_interleave(torch.arange(10), torch.tensor(STEP_100))
    equal = torch.full((len(labels),), 2.3)
    assert weights.reduce(equal, w[labels]).item() == pytest.approx(2.3, rel=1e-4)
    assert weights.reduce(equal, w[labels], "mean").item() == pytest.approx(2.3 * 0.044, rel=0.02)  # the 23-fold drop


def test_focal_weight_acts_outside_the_probability():
    # With the weight inside p (a weighted cross-entropy put into exp) the two results would differ.
    logits, labels = torch.tensor([[2.0, 0.0], [0.5, 1.0], [0.0, 3.0]]), torch.tensor([0, 0, 1])
    w = torch.tensor([0.1, 5.0])
    p = torch.softmax(logits, 1)[range(3), labels]
    expected = sum(w[y] * (1 - p[i]) * -torch.log(p[i]) for i, y in enumerate(labels.tolist())) / w[labels].sum()
    torch.testing.assert_close(weights.reduce(losses.focal(logits, labels), w[labels]), expected)


def test_one_image_alone_in_a_batch_keeps_its_loss_whatever_its_weight():
    assert weights.reduce(torch.tensor([1.5]), torch.tensor([0.003])).item() == pytest.approx(1.5)


@pytest.mark.parametrize("weighting", [weights.Always(reduction="expected"), weights.Always(7.0, reduction="expected")])
def test_expected_weights_have_a_mean_of_one_over_the_training_set_and_the_ratios_of_the_others(weighting):
    w, plain = weighting.of(STEP_100), weights.Always(weighting.weight_ratio).of(STEP_100)
    assert np.repeat(w, STEP_100).mean() == pytest.approx(1)
    assert (w / w[0]).tolist() == pytest.approx((plain / plain[0]).tolist())


def test_the_expected_reduction_is_unbiased_over_batches_and_the_weighted_one_caps_rare_images():
    counts = [990, 10]
    labels = torch.repeat_interleave(torch.arange(2), torch.tensor(counts))
    values = labels.double()  # the loss is 1 on rare images alone: what is returned is their share of the weight
    for reduction, low, high in (("expected", 0.49999, 0.50001), ("weighted", 0.15, 0.25)):
        w = torch.tensor(weights.Always(99.0, reduction=reduction).of(counts))[labels]
        order = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).split(20)
        shares = [weights.reduce(values[i], w[i], reduction).item() for i in order]
        assert low < np.mean(shares) < high


def test_a_ratio_for_rare_classes_where_none_is_rare_is_refused():
    with pytest.raises(ConfigError, match=r"weight_ratio=50 .* none of 10 classes is rare.*rare="):
        weights.Always(50).of([100] * 5 + [60] * 5)
    assert weights.Always(1).of([100, 60]).tolist() == [1, 1]
    assert weights.Always(50).of([100, 60], [False, True]).tolist() == [1, 50]
