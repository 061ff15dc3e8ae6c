import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import SVHN_TRAIN, labelled, says

from srat_utils.data import load_dataset
from srat_utils.images import DataError, under_represented
from srat_utils.imbalance import class_counts, hold_out_share, make_imbalanced, restrict

FIVE_OF_TEN = [False] * 5 + [True] * 5
DIGITS_TRAIN = [108, 112, 107, 113, 111, 112, 111, 109, 104, 110]

# --- counts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "imbalance, counts, total",
    [
        ("exp-100", [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50], 12_406),
        ("exp-10", [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500], 20_431),
        ("step-100", [5000] * 5 + [50] * 5, 25_250),
        ("step-10", [5000] * 5 + [500] * 5, 27_500),
        ("balanced", [5000] * 10, 50_000),
        ("none", [5000] * 10, 50_000),
    ],
)
def test_cifar10_counts(imbalance, counts, total):
    assert class_counts(imbalance, available=[5000] * 10) == counts
    assert sum(counts) == total


def test_svhn_gets_a_common_maximum_so_that_k_is_exact():
    assert class_counts("step-100", SVHN_TRAIN) == [4659] * 5 + [46] * 5
    counts = class_counts("exp-10", SVHN_TRAIN)
    assert (counts[0], counts[-1]) == (4659, 465)
    assert counts == sorted(counts, reverse=True)
    assert class_counts("none", SVHN_TRAIN) == SVHN_TRAIN


@pytest.mark.parametrize("imbalance, ratio", [("exp-10-literal", 23), ("exp-100-literal", 178)])
def test_the_papers_literal_counts_overstate_k_on_svhn(imbalance, ratio):
    counts = class_counts(imbalance, SVHN_TRAIN)
    assert max(counts) / min(counts) == pytest.approx(ratio, rel=0.02)  # ⌊·⌋ of 46.6 images moves 178 to 180


def test_literal_step_divides_each_class_by_k():
    assert class_counts("step-10-literal", [100, 50, 70, 30]) == [100, 50, 7, 3]


@pytest.mark.parametrize("imbalance, counts", [("step-2", [9, 9, 4]), ("exp-4", [9, 4, 2]), ("exp-2.5", [9, 5, 3])])
def test_three_classes_and_a_ratio_that_is_not_whole(imbalance, counts):
    assert class_counts(imbalance, [9, 9, 9]) == counts


@given(
    available=st.lists(st.integers(1, 6000), min_size=2, max_size=12),
    ratio=st.floats(1, 300),
    form=st.sampled_from(["step", "exp"]),
    suffix=st.sampled_from(["", "-literal"]),
)
def test_counts_fit_what_there_is_or_say_which_ratio_does(available, ratio, form, suffix):
    try:
        counts = class_counts(f"{form}-{ratio}{suffix}", available)
    except DataError as error:
        largest = int(str(error).split("at most ")[1].split()[0])
        assert largest < ratio
        assert min(class_counts(f"{form}-{largest}{suffix}", available)) >= 1
        return
    assert all(1 <= count <= have for count, have in zip(counts, available, strict=True))
    if not suffix:
        assert counts == sorted(counts, reverse=True)
        assert counts[0] == min(available)
        assert counts[-1] <= counts[0] / ratio + 1e-6 < counts[-1] + 1 + 1e-6  # K up to rounding down


@pytest.mark.parametrize("n", [1, 7, 49, 100, 1000, 5000])
def test_rounding_error_never_costs_an_image(n):
    for ratio in range(1, 50):
        assert class_counts(f"step-{ratio}", [n * ratio] * 4)[-1] == n
        assert class_counts(f"exp-{ratio}", [n * ratio] * 4)[-1] == n


# --- which classes are rare --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counts, rare",
    [
        ([5, 5, 5], []),
        ([400] * 6 + [10], [6]),  # two of seven would be ⌊7/2⌋ less one: the six are equals
        ([1, 9, 5, 5], [0]),
        ([500, 500, 115], [2]),
        ([6705, 1113, 115], [2]),  # 1113 lies above √(6705·115) = 878
        ([100, 10, 1], [2]),  # √(100·1) itself is not below it
        ([10, 6], []),  # below the mean, above half
        ([10, 5], [1]),
        ([1, 1000], [0]),
        ([7, 7], []),
    ],
)
def test_who_is_rare(counts, rare):
    assert np.flatnonzero(under_represented(counts)).tolist() == rare


@pytest.mark.parametrize("available", [DIGITS_TRAIN, [5000] * 10, SVHN_TRAIN], ids=["digits", "cifar10", "svhn"])
@pytest.mark.parametrize("cap", [None, 20, 40, 100, 500, 1000])
def test_the_papers_five_of_ten_are_rare_in_every_set_of_the_course(available, cap):
    available = np.minimum(available, cap or max(available))
    seen = 0
    for form in ("step", "exp"):
        for ratio in (10, 25, 100):
            for suffix in ("", "-literal"):
                if available.min() >= ratio:
                    seen += 1
                    counts = class_counts(f"{form}-{ratio}{suffix}", available)
                    assert under_represented(counts).tolist() == FIVE_OF_TEN, counts
    assert seen >= 4 and not under_represented(class_counts("balanced", available)).any()


@given(n=st.integers(1, 6000), ratio=st.floats(2, 300), classes=st.integers(2, 30))
def test_in_a_step_set_the_cut_classes_are_rare(n, ratio, classes):
    try:
        counts = class_counts(f"step-{ratio}", [n] * classes)
    except DataError:
        return
    assert under_represented(counts).tolist() == [i >= classes - classes // 2 for i in range(classes)]


@given(counts=st.lists(st.integers(1, 10**6), min_size=2, max_size=40), factor=st.integers(1, 1000))
def test_the_rule_of_who_is_rare(counts, factor):
    under, counts = under_represented(counts), np.array(counts)
    largest, smallest = counts.max(), counts.min()
    assert not under[counts.argmax()]
    assert under[counts.argmin()] == (2 * smallest <= largest)  # the smallest is rare as soon as it is half the largest
    assert all(counts[under].max() < count for count in counts[~under]) if under.any() else 2 * smallest > largest
    assert (under_represented(counts * factor) == under).all()  # shares decide, not sizes
    order = np.random.default_rng(factor).permutation(len(counts))
    assert (under_represented(counts[order]) == under[order]).all()


# --- subsets -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    counts=st.lists(st.integers(20, 60), min_size=2, max_size=6), ratio=st.integers(1, 20), seed=st.integers(0, 2**31)
)
def test_a_subset_has_its_counts_and_its_own_labels(counts, ratio, seed):
    whole = labelled(counts)
    part = make_imbalanced(whole, f"exp-{ratio}", seed)
    assert part.counts == class_counts(f"exp-{ratio}", counts)
    assert (part.images[..., 0] == part.labels[:, None, None, None][..., 0]).all()
    assert np.array_equal(part.images, whole.images[part.indices])
    assert len(set(part.indices.tolist())) == len(part)


@pytest.mark.parametrize("imbalance", ["exp-100", "exp-100-literal", "step-10", "none"])
def test_unequal_classes_keep_images_and_labels_paired(imbalance):
    whole = labelled([count // 10 for count in SVHN_TRAIN], size=1)
    part = make_imbalanced(whole, imbalance)
    assert np.array_equal(part.images[:, 0, 0, 0], part.labels)
    assert np.array_equal(part.labels, whole.labels[part.indices])


def test_a_larger_ratio_keeps_a_part_of_what_a_smaller_one_keeps():
    whole = labelled([200] * 6)
    wide, narrow = (set(make_imbalanced(whole, f"exp-{ratio}", seed=3).indices.tolist()) for ratio in (5, 50))
    assert narrow < wide


def test_a_draw_leaves_the_global_generators_alone_and_repeats():
    whole = labelled([50] * 4)
    np.random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = make_imbalanced(whole, "step-10", seed=1)
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())
    np.random.seed(99)
    assert make_imbalanced(whole, "step-10", seed=1).fingerprint == first.fingerprint
    assert make_imbalanced(whole, "step-10", seed=2).fingerprint != first.fingerprint


def test_a_subset_of_a_subset_knows_its_original_positions():
    whole = labelled([10, 10])
    assert whole.subset([8, 3, 5]).subset([2, 0]).indices.tolist() == [5, 8]


@pytest.mark.parametrize(
    "available, imbalance, seed, cap, fingerprint",
    [
        (SVHN_TRAIN, "exp-100", 7, None, "695ad5bf5f33"),
        (SVHN_TRAIN, "exp-10-literal", 0, None, "b2fbdc1aee80"),
        (SVHN_TRAIN, "step-10", 3, 100, "aa5f6d038b57"),
        ([5000] * 10, "step-10", 7, None, "831b1f368cd7"),
        ([5000] * 10, "exp-100", 0, None, "cfd72d0af2de"),
    ],
)
def test_subsets_stay_what_they_were_when_results_were_stored(available, imbalance, seed, cap, fingerprint):
    whole = labelled([count // 10 for count in available])
    assert make_imbalanced(whole, imbalance, seed, cap).fingerprint == fingerprint


def test_one_image_in_a_class():
    part = make_imbalanced(labelled([8, 8]), "step-8")
    assert part.counts == [8, 1]
    assert part.tensors("cpu")[0].shape == (9, 2, 4, 4)


def test_what_keeps_all_images_is_the_set_itself():
    whole = labelled([8, 8])
    assert make_imbalanced(whole, "none", seed=5) is whole


# --- held out ----------------------------------------------------------------------------------------------------------


@given(
    counts=st.lists(st.integers(2, 60), min_size=2, max_size=6), share=st.floats(0.01, 0.5), seed=st.integers(0, 2**31)
)
def test_a_held_out_share_is_stratified_disjoint_and_never_empty(counts, share, seed):
    whole = labelled(counts)
    rest, held = hold_out_share(whole, share, seed)
    assert sorted([*rest.indices, *held.indices]) == list(range(len(whole)))
    for have, taken in zip(counts, held.counts, strict=True):
        assert taken == 1 or abs(taken - share * have) <= 0.5
        assert 1 <= taken < have
    assert np.array_equal(held.labels, whole.labels[held.indices])


def test_a_held_out_share_repeats_and_leaves_the_global_generators_alone():
    whole = labelled([50] * 4)
    np.random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    first, second, other = (hold_out_share(whole, 0.2, seed)[1].fingerprint for seed in (1, 1, 2))
    assert first == second != other
    assert np.array_equal(before[0], np.random.get_state()[1]) and torch.equal(before[1], torch.get_rng_state())


def test_a_cap_holds_for_what_is_held_out():
    rest, held = hold_out_share(labelled([200, 10]), 0.2, 0, max_per_class=50)
    assert held.counts == [10, 2] and rest.counts == [190, 8]


@pytest.mark.parametrize("share", [0, 1, -0.1, 5, True, "0.1", float("nan")])
def test_a_share_that_is_none(share):
    says("validation is the share of each class", "0.1", of=lambda: hold_out_share(labelled([5, 5]), share, 0))


def test_a_class_of_one_image_cannot_be_held_out():
    says(
        "leave class 'class 1', of 1, no training image",
        "validation=None",
        of=lambda: hold_out_share(labelled([5, 1]), 0.1, 0),
    )


# --- pairs -------------------------------------------------------------------------------------------------------------


def test_a_pair_keeps_who_was_named_rare():
    whole = labelled([5, 5, 5])
    named = type(whole)(whole.images, whole.labels, whole.classes, whole.name, rare=("class 0", "class 2"))
    assert restrict(named, ("class 1", "class 0")).under.tolist() == [False, True]
    assert restrict(whole, ("class 1", "class 0")).under.tolist() == [False, False]


# --- what a reader may get wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, parts",
    [
        ({"imbalance": "stp-10"}, ("unknown imbalance 'stp-10'", "did you mean step-K?")),
        ({"imbalance": "balance"}, ("did you mean balanced?",)),
        ({"imbalance": "long tail"}, ("choose from step-K, exp-K, balanced, none",)),
        ({"imbalance": "step"}, ("K must be a number of 1 or more", "step-10")),
        ({"imbalance": "exp-ten"}, ("not 'ten'",)),
        ({"imbalance": "exp-0.5"}, ("1 or more",)),
        ({"imbalance": "step--3"}, ("1 or more",)),
        ({"imbalance": "step-nan"}, ("1 or more",)),
        ({"imbalance": "step-inf"}, ("1 or more",)),
        ({"imbalance": "step-200"}, ("class '5' would get no image", "at most 104")),
        ({"classes": ("1", "1")}, ("at least two different classes", "1, 1")),
        ({"classes": ("1",)}, ("at least two different classes",)),
        ({"classes": ("1", "17")}, ("unknown class '17'", "did you mean")),
        ({"classes": ("1", "cat")}, ("unknown class 'cat'", "choose from 0, 1, 2")),
    ],
)
def test_wrong_requests(options, parts):
    says(*parts, of=lambda: load_dataset("digits", **options))
