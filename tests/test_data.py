from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import arrays, picture_folder, save, says
from sklearn.datasets import load_digits

from srat_utils.data import load_dataset
from srat_utils.images import DataError

STORED = pd.read_csv(Path(__file__).parents[1] / "results" / "digits" / "runs.csv")


def test_seeds_share_the_test_set_and_differ_in_training():
    first, second = (load_dataset("digits", imbalance="step-25", seed=seed) for seed in (0, 1))
    assert first.test.fingerprint == second.test.fingerprint
    assert first.train.fingerprint != second.train.fingerprint
    assert first.train.counts == second.train.counts == [104] * 5 + [4] * 5


def test_trial_runs_are_capped():
    train, test, _ = load_dataset("digits", imbalance="step-10", max_per_class=40, test_per_class=6, seed=5)
    assert train.counts == [40] * 5 + [4] * 5 and test.counts == [6] * 10
    assert load_dataset("digits", test_per_class=6).test.fingerprint == test.fingerprint


def test_a_binary_pair_is_relabelled_in_its_order():
    whole = load_dataset("digits")
    pair = load_dataset("digits", classes=("8", "1"), imbalance="step-10")
    assert pair.train.classes == ("8", "1") and pair.train.counts == [104, 10] and pair.test.counts == [70, 70]
    truth = load_digits().target
    for split in pair[:2]:
        assert np.array_equal(np.array([8, 1])[split.labels], truth[split.indices])
    assert set(pair.test.indices) < set(whole.test.indices)


def test_subsets_are_those_of_the_stored_results():
    whole = STORED[STORED["classes"].isna() | (STORED["classes"] == "")]
    stored = whole.drop_duplicates(["imbalance", "seed", "subset_fingerprint"])
    assert {(row.imbalance, row.seed) for row in stored.itertuples()} >= {
        (imbalance, 0) for imbalance in ("step-10", "step-25", "exp-10", "exp-25")
    }
    assert not stored.duplicated(["imbalance", "seed"]).any()
    for row in stored.itertuples():
        train, test, validation = load_dataset("digits", imbalance=row.imbalance, seed=row.seed)
        assert (train.fingerprint, test.fingerprint, validation) == (row.subset_fingerprint, "e463cb266bb0", None)


# --- who is rare -------------------------------------------------------------------------------------------------------


def test_the_training_images_say_who_is_rare_in_every_part():
    split = load_dataset("digits", imbalance="step-10", validation=0.1)
    for part in split:
        assert part.under.tolist() == [False] * 5 + [True] * 5
    assert not load_dataset("digits").test.under.any()


def test_rare_classes_can_be_named():
    split = load_dataset("digits", imbalance="step-10", rare=("3", "7"))
    for part in split[:2]:
        assert np.flatnonzero(part.under).tolist() == [3, 7]
    assert split.train.fingerprint == load_dataset("digits", imbalance="step-10").train.fingerprint
    says("rare class '33' is unknown", "did you mean 3?", of=lambda: load_dataset("digits", rare=("33",)))


# --- validation images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_validation_images_are_taken_out_of_the_training_images(seed):
    whole = load_dataset("digits")
    train, test, validation = load_dataset("digits", imbalance="step-25", seed=seed, validation=0.1)
    assert validation.counts == [11, 11, 11, 11, 11, 11, 11, 11, 10, 11]
    assert train.counts == [94] * 5 + [3] * 5  # 104 − 10 of the smallest class, and a 25th
    assert not set(train.indices) & set(validation.indices) and set(validation.indices) < set(whole.train.indices)
    assert np.array_equal(load_digits().target[validation.indices], validation.labels)
    assert test.fingerprint == whole.test.fingerprint
    again = load_dataset("digits", imbalance="exp-10", seed=seed, validation=0.1).validation
    assert again.fingerprint == validation.fingerprint  # one validation set for all imbalances
    assert load_dataset("digits", seed=seed + 1, validation=0.1).validation.fingerprint != validation.fingerprint


def test_validation_images_of_a_pair_and_of_a_trial():
    train, _, validation = load_dataset(
        "digits", classes=("8", "1"), validation=0.25, max_per_class=40, test_per_class=6, imbalance="step-4"
    )
    assert validation.classes == ("8", "1") and validation.counts == [6, 6] and train.counts == [40, 10]


def test_a_set_keeps_its_own_validation_images(tmp_path):
    own = {"val_images": arrays()["test_images"] ^ 1, "val_labels": arrays()["test_labels"]}
    path = save(tmp_path / "mine.npz", **own)
    for share in (None, 0.3):
        train, _, validation = load_dataset(path, validation=share)
        assert np.array_equal(validation.images, own["val_images"]) and len(train) == 12
    assert load_dataset(path, test_per_class=1).validation.counts == [1, 1, 1]
    pair = load_dataset(path, classes=("2", "0")).validation
    assert pair.classes == ("2", "0") and pair.counts == [2, 2]


def test_wrong_shares_of_validation():
    says("validation is the share of each class", of=lambda: load_dataset("digits", validation=10))
    says("no training image", of=lambda: load_dataset("digits", validation=0.999))


# --- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size, shape", [(4, (4, 4)), ((3, 7), (3, 7)), ([16, 8], (16, 8)), (np.int64(8), (8, 8))])
def test_any_set_can_be_resized(size, shape, tmp_path):
    for place in ("digits", save(tmp_path / "mine.npz"), picture_folder(tmp_path / "pets")):
        plain, split = load_dataset(place), load_dataset(place, size=size)
        for before, part in zip(plain[:2], split[:2], strict=True):
            assert part.images.shape == (len(before), *shape, before.images.shape[3])
            assert np.array_equal(part.labels, before.labels)
            assert part.name.endswith(f"(resized to {shape[1]}×{shape[0]})")
            assert abs(part.images.mean() - before.images.mean()) < 6
    assert load_dataset("digits", size=8).train.fingerprint == load_dataset("digits").train.fingerprint


def test_an_npz_of_two_sizes_is_resized_to_one(tmp_path):
    path = save(tmp_path / "mine.npz", test_images=arrays()["test_images"].repeat(2, axis=1))
    says("mine.npz test: images are (10, 4, 3)", "size=(5, 4)", of=lambda: load_dataset(path))
    assert load_dataset(path, size=(5, 4)).test.images.shape == (6, 5, 4, 3)


@pytest.mark.parametrize("size", [0, -3, (8,), (8, 0), (8, 8, 3), "32", 8.5, (8.0, 8)])
def test_sizes_that_are_none(size):
    says("size is a number of pixels or (height, width)", of=lambda: load_dataset("digits", size=size))


@pytest.mark.parametrize("number", [0, -1, 1.5, "3"])
def test_numbers_of_images_that_are_none(number):
    for name in ("max_per_class", "test_per_class"):
        says(
            f"{name} is a number of images", "1 or more", of=lambda name=name: load_dataset("digits", **{name: number})
        )


def test_one_name_is_no_list_of_names():
    for name in ("classes", "rare"):
        says(f"{name} is a list of names, as in ['7']", of=lambda name=name: load_dataset("digits", **{name: "7"}))


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_a_seed_is_a_whole_number_not_below_0(seed):
    with pytest.raises(DataError, match=f"seed is a whole number, 0 or more, not {seed}"):
        load_dataset("digits", imbalance="step-5", seed=seed)
