import numpy as np
import pandas as pd
import pytest
from made_up import FLOATS, arrays, save, says

from srat_utils.data import load_dataset
from srat_utils.images import DataError


def test_own_npz(tmp_path):
    train, test, _ = load_dataset(save(tmp_path / "mine.npz", classes=np.array(["a", "b", "c"])))
    assert train.classes == ("a", "b", "c") and train.counts == [4, 4, 4] and test.name == "mine.npz test"
    assert np.array_equal(train.images, arrays()["train_images"])


def test_own_npz_grey_and_without_names(tmp_path):
    grey = arrays()["train_images"][..., 0]
    path = save(
        tmp_path / "grey.npz",
        train_images=grey,
        test_images=grey[:6],
        train_labels=(np.arange(12) % 3).astype(np.uint8),
    )
    train, *_ = load_dataset(str(path))
    assert train.images.shape == (12, 5, 4, 1) and train.classes == ("0", "1", "2") and train.labels.dtype == np.int64


@pytest.mark.parametrize("colour", [False, True])
def test_medmnist_as_it_is(tmp_path, colour):
    shape = (28, 28, 3) if colour else (28, 28)
    random, stored = np.random.default_rng(0), {}
    for part, number in (("train", 14), ("val", 7), ("test", 8)):
        stored[f"{part}_images"] = random.integers(0, 256, (number, *shape), dtype=np.uint8)
        stored[f"{part}_labels"] = (np.arange(number, dtype=np.uint8) % 7)[:, None]
    np.savez(tmp_path / "dermamnist.npz", **stored)
    split = load_dataset(tmp_path / "dermamnist.npz")
    for part, name in zip(split, ("train", "test", "val"), strict=True):
        assert np.array_equal(part.images.reshape(-1, *shape), stored[f"{name}_images"])
        assert np.array_equal(part.labels, stored[f"{name}_labels"][:, 0])
    assert split.train.classes == tuple("0123456") and split.validation.name == "dermamnist.npz validation"


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_channels_first_is_put_in_order(tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 256, (12, channels, 28, 20), dtype=np.uint8)
    path = save(tmp_path / "torch.npz", train_images=images, test_images=images[:6])
    train = load_dataset(path).train
    assert np.array_equal(train.images, images.transpose(0, 2, 3, 1))
    assert np.array_equal(train.tensors()[0].numpy(), images)


@pytest.mark.parametrize("shape", [(5, 4, 3), (4, 4, 4), (3, 3, 3), (28, 3, 3), (3, 28, 1), (30, 30, 13)])
def test_channels_last_stays_as_it_is(tmp_path, shape):
    images = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    path = save(tmp_path / "ours.npz", train_images=images, test_images=images[:6])
    assert np.array_equal(load_dataset(path).train.images, images)


@pytest.mark.parametrize(
    "labels, classes, codes",
    [
        (np.arange(12) % 3 + 1, ("1", "2", "3"), np.arange(12) % 3),
        (np.arange(12) % 2 * 10 - 1, ("-1", "9"), np.arange(12) % 2),
        (np.array(["dog", "NA", "cat"] * 4), ("NA", "cat", "dog"), [2, 0, 1] * 4),
        (np.array(["1e5", "007", "7"] * 4), ("007", "1e5", "7"), [1, 0, 2] * 4),
        (np.array(["a/b", "?", "x:y"] * 4), ("?", "a/b", "x:y"), [1, 0, 2] * 4),
        (np.array(["é", "z", "a"] * 4).astype("U"), ("a", "z", "é"), [2, 1, 0] * 4),
        (np.array([b"dog", b"cat"] * 6), ("cat", "dog"), [1, 0] * 6),
        (np.array([2.0, 10.0, 1.0] * 4), ("1", "2", "10"), [1, 2, 0] * 4),
        (np.array([True, False] * 6), ("False", "True"), [1, 0] * 6),
        (pd.Series(["b", "a"] * 6, dtype=object).to_numpy(str), ("a", "b"), [1, 0] * 6),
        (pd.Series([3, 4] * 6).to_numpy(), ("3", "4"), [0, 1] * 6),
        (np.array([2**63 + 1, 5], np.uint64)[np.arange(12) % 2], ("5", str(2**63 + 1)), [1, 0] * 6),
    ],
)
@pytest.mark.parametrize("column", [False, True])
def test_labels_of_any_kind_name_their_classes(tmp_path, labels, classes, codes, column):
    shaped = labels[:, None] if column else labels
    path = save(tmp_path / "mine.npz", train_labels=shaped, test_labels=shaped[:6])
    train, test, _ = load_dataset(path)
    assert train.classes == classes and train.labels.tolist() == list(codes) and test.labels.tolist() == list(codes)[:6]


def test_names_that_look_the_same_are_the_same(tmp_path):
    composed = np.array(["café", "dog", "eel"] * 4)
    path = save(tmp_path / "mine.npz", train_labels=composed, test_labels=np.array(["dog", "cafe\u0301", "eel"] * 2))
    assert load_dataset(path).test.labels.tolist() == [1, 0, 2] * 2


@pytest.mark.parametrize("laid", [np.asfortranarray, lambda images: images[:, ::-1], lambda images: images[..., ::-1]])
def test_arrays_in_any_order_of_memory(tmp_path, laid):
    images = laid(arrays()["train_images"])
    train = load_dataset(save(tmp_path / "mine.npz", train_images=images)).train
    assert np.array_equal(train.images, images) and np.array_equal(train.tensors()[0].permute(0, 2, 3, 1), images)


def test_labels_in_text_take_the_order_of_the_names(tmp_path):
    labels = np.array(["a", "b", "c"] * 4)
    path = save(tmp_path / "mine.npz", train_labels=labels, test_labels=labels[:6], classes=np.array(["c", "a", "b"]))
    assert load_dataset(path).train.labels.tolist() == [1, 2, 0] * 4


def test_what_is_no_part_of_the_set_may_hold_anything(tmp_path):
    path = save(tmp_path / "mine.npz", notes=np.array([{"a": 1}, None], dtype=object))
    assert len(load_dataset(path).train) == 12


# --- what a reader may get wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, parts",
    [
        ({"train_images": FLOATS}, ("mine.npz train", "float64", "uint8, 0…255")),
        ({"train_images": np.full_like(FLOATS, np.nan)}, ("NaN", "uint8, 0…255")),
        ({"train_images": FLOATS[..., 0, 0].astype(np.uint8)}, ("(12, 5)", "[N,H,W,C]")),
        ({"train_images": np.zeros((0, 5, 4, 3), np.uint8), "train_labels": np.zeros(0, int)}, ("(0, 5, 4, 3)",)),
        ({"train_labels": np.arange(11) % 3}, ("12 images but 11 labels",)),
        ({"train_labels": np.arange(12) / 3}, ("labels are float64", "integers")),
        ({"train_labels": np.full(12, np.nan)}, ("labels are float64 with NaN", "leave those images out")),
        ({"train_labels": np.eye(3)[np.arange(12) % 3]}, ("labels have shape (12, 3)", "labels.argmax(axis=1)")),
        ({"train_labels": np.arange(12).astype("M8[D]")}, ("labels are datetime64[D]", "integers or text")),
        ({"test_labels": np.array(["a", "b", "c"] * 2)}, ("mine.npz test", "label 'a' is not among the 3 classes")),
        ({"classes": np.array(["a", "b", "a"])}, ("two classes are called 'a'",)),
        ({"train_labels": np.arange(12) % 3 - 1, "classes": np.array(["a", "b", "c"])}, ("label -1 is out of range",)),
        ({"train_labels": np.arange(12) % 3 + 1, "classes": np.array(["a", "b", "c"])}, ("count from 1", "labels - 1")),
        ({"train_labels": np.arange(12) % 3 * 2}, ("test: label '1' is not among the 3 classes", "0, 2, 4")),
        ({"train_labels": np.arange(12) % 4, "classes": np.array(["a", "b", "c"])}, ("label 3 is out of range", "0…2")),
        ({"test_labels": np.arange(6) % 5}, ("mine.npz test", "label '3' is not among the 3 classes")),
        ({"test_labels": np.arange(6) % 2}, ("test: class '2' has no image",)),
        ({"test_images": FLOATS[:6, :4].astype(np.uint8)}, ("(4, 4, 3)", "(5, 4, 3)", "one size")),
        ({"test_images": None}, ("has no test_images", "train_labels")),
        ({"test_images": None, "x_test": FLOATS}, ("has no test_images", "not x_test")),
        ({"val_images": FLOATS}, ("has no val_labels",)),
        ({"val_labels": np.arange(6) % 3}, ("has no val_images",)),
        ({"train_images": np.zeros((12, 9, 9, 9), np.uint8)}, ("(12, 9, 9, 9)", "images.transpose(0, 2, 3, 1)")),
        ({"train_images": np.zeros((28, 28, 3, 12), np.uint8)}, ("(28, 28, 3, 12)", "[N,H,W,C]")),
        (
            {"train_images": np.array([1, "a"] * 6, dtype=object)},
            ("train_images holds Python objects", "several sizes", "one uint8 array"),
        ),
        ({"train_images": np.ones((12, 5, 4, 3), np.uint8)}, ("no pixel is above 1 of 255", "0…1 cast to uint8")),
        ({"train_labels": np.zeros(12, int), "test_labels": np.zeros(6, int)}, ("only class '0'", "at least two")),
        ({"classes": np.array([["0", "a"], ["1", "b"]])}, ("classes has shape (2, 2)", "the name of label 0")),
        ({"classes": np.array([])}, ("classes has shape (0,)",)),
        ({"classes": np.array(["\udcff", "b", "c"])}, (r"the name of class '\udcff' is no valid text", "UTF-8")),
        ({"train_labels": np.array([b"\xe9", b"\xe8"] * 6)}, ("train: labels are bytes", r"b'\xe9'", "as text")),
        (
            {"val_images": arrays()["test_images"], "val_labels": np.arange(6) % 3}
            | {"validation_images": arrays()["test_images"], "validation_labels": np.arange(6) % 3},
            ("has val_images and validation_images", "leave one"),
        ),
        ({"train_images": FLOATS + np.inf}, ("from inf to inf, bring them to 0…255",)),
        ({"train_images": arrays()["train_images"].astype(np.int16)}, ("int16", "images.round().astype('uint8')")),
        ({"train_exact": np.ones(3, bool)}, ("train_exact", "one bool an image")),
        (
            {"train_labels": np.array([None] * 12)},
            ("train_labels holds Python objects", "pandas", "numpy.array(column.tolist())"),
        ),
    ],
)
def test_wrong_npz(tmp_path, changes, parts):
    path = save(tmp_path / "mine.npz", **changes)
    says("mine.npz", *parts, of=lambda: load_dataset(path))


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "one array"])
def test_damaged_npz(tmp_path, damage):
    path = save(tmp_path / "mine.npz")
    if damage == "one array":
        with path.open("wb") as stream:
            np.save(stream, FLOATS)
    else:
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"garbage" * 99, "empty": b""}[damage])
    says(str(path), "damaged or not an .npz", "save it again", of=lambda: load_dataset(path))


def test_an_npz_that_is_one_pickled_object_is_refused_in_one_line(tmp_path):
    path = tmp_path / "mine.npy"
    np.save(path, {"train_images": np.zeros(3)})
    path = path.rename(tmp_path / "mine.npz")
    with pytest.raises(DataError, match="Python objects") as caught:
        load_dataset(path)
    assert "\n" not in str(caught.value)
