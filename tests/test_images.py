import numpy as np
import pytest
import torch
from made_up import FLOATS, labelled, says

from srat_utils.images import ImageDataset, Split


def test_a_subset_of_a_subset_knows_its_original_positions():
    whole = labelled([10, 10])
    assert whole.subset([8, 3, 5]).subset([2, 0]).indices.tolist() == [5, 8]


def test_the_fingerprint_changes_with_anything():
    whole = labelled([3, 3])
    images, labels = whole.images.copy(), whole.labels.copy()
    images[2, 1, 1, 0] += 1
    labels[:] = labels[::-1].copy()
    others = [
        ImageDataset(images, whole.labels, whole.classes, whole.name),
        ImageDataset(whole.images, 1 - whole.labels, whole.classes, whole.name),
        ImageDataset(whole.images, whole.labels, ("a", "b"), whole.name),
        ImageDataset(whole.images, whole.labels, whole.classes, whole.name, np.arange(6)[::-1]),
        whole.subset(range(5)),
    ]
    prints = {whole.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 1 + len(others)
    assert all(len(fingerprint) == 12 for fingerprint in prints)
    assert (
        ImageDataset(whole.images.copy(), whole.labels, whole.classes, "another name").fingerprint == whole.fingerprint
    )


def test_a_set_is_read_only():
    whole = labelled([3, 3])
    for array in (whole.images, whole.labels, whole.indices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_tensors_are_channels_first_and_their_own():
    whole = labelled([4, 4])
    images, labels = whole.tensors("cpu")
    assert images.dtype == torch.uint8 and images.is_contiguous() and labels.dtype == torch.int64
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), whole.images)
    images.zero_(), labels.zero_()
    assert whole.images.any() and whole.labels.any()


@pytest.mark.parametrize("name", ["NA", "None", "nan", "007", "1e5", "a/b", "x:y", "why?", "", " ", "True", "ключ"])
def test_class_names_of_any_text_survive(name):
    whole = labelled([3, 3])
    assert ImageDataset(whole.images, whole.labels, (name, "b"), "x", rare=[name]).classes == (name, "b")


def test_who_is_rare_follows_the_counts_unless_it_is_named():
    whole = labelled([8, 8, 2])
    assert whole.under.tolist() == [False, False, True]
    few = whole.subset(np.concatenate([np.flatnonzero(whole.labels == label)[:n] for label, n in enumerate((8, 3, 2))]))
    assert few.under.tolist() == [False, True, True]
    named = ImageDataset(whole.images, whole.labels, whole.classes, "x", rare=["class 0"])
    assert named.under.tolist() == [True, False, False] and named.fingerprint == whole.fingerprint
    assert not ImageDataset(whole.images, whole.labels, whole.classes, "x", rare=()).under.any()


def test_a_split_changes_the_parts_that_are_there():
    one, two = labelled([2, 2]), labelled([3, 3])
    assert [part and len(part) for part in Split(one, two).map(lambda part: part.subset([0]))] == [1, 1, None]
    assert [len(part) for part in Split(one, two, one).map(lambda part: part.subset([0, 1]))] == [2, 2, 2]


# --- what a reader may get wrong ---------------------------------------------------------------------------------------


def test_indices_must_match():
    says(
        "6 images but 2 indices",
        of=lambda: ImageDataset(FLOATS[:6].astype(np.uint8), np.zeros(6, int), ("a",), "x", np.arange(2)),
    )


@pytest.mark.parametrize(
    "changes, parts",
    [
        ({"classes": ("a", "b", "a")}, ("two classes are called 'a'",)),
        ({"rare": ("class 9",)}, ("rare class 'class 9' is unknown", "did you mean")),
        ({"labels": [1, 2, 3]}, ("label 3 is out of range", "labels 0…2", "count from 1", "labels - 1")),
        ({"labels": [0, 1, 3]}, ("label 3 is out of range",)),
        ({"labels": [0, -1, 2]}, ("label -1 is out of range",)),
        ({"labels": [0, 1]}, ("3 images but 2 labels",)),
    ],
)
def test_wrong_labels_and_names(changes, parts):
    fields = {"labels": [0, 1, 2], "classes": ("class 0", "class 1", "class 2")} | changes
    labels = np.array(fields.pop("labels"))
    says(*parts, of=lambda: ImageDataset(np.zeros((3, 4, 4, 1), np.uint8), labels, name="x", **fields))


@pytest.mark.parametrize(
    "pixels, right",
    [
        (np.linspace(0, 1, 256, dtype=np.float32), np.arange(256)),
        (np.arange(256, dtype=np.float64), np.arange(256)),
        (np.arange(256, dtype=np.int64), np.arange(256)),
        (np.arange(0, 65536, 257, dtype=np.uint16), np.arange(256)),
        (np.arange(256) > 9, 255 * (np.arange(256) > 9)),
    ],
    ids=["0…1", "0…255", "int64", "uint16", "bool"],
)
def test_the_message_on_other_pixels_is_code_that_mends_them(pixels, right):
    images = np.broadcast_to(pixels[:, None, None, None], (256, 2, 2, 1))
    with pytest.raises(ValueError, match="uint8, 0…255") as caught:
        ImageDataset(images, np.zeros(256, int), ("a",), "x")
    mended = eval(str(caught.value).partition("0…255: ")[2], {"images": images})
    assert np.array_equal(ImageDataset(mended, np.zeros(256, int), ("a",), "x").images[:, 0, 0, 0], right)


@pytest.mark.parametrize(
    "value, part",
    [
        (np.nan, "NaN"),
        (-0.5, "from -0.5 to 1, bring them to 0…255"),
        (300.0, "from 0 to 300"),
        (16.0, "from 0 to 16"),
        ("a", "numbers are needed"),
    ],
)
def test_pixels_of_no_known_range(value, part):
    images = np.array([0.0, 1.0, value]).reshape(3, 1, 1, 1) if value != "a" else np.full((3, 1, 1, 1), "a")
    says(part, of=lambda: ImageDataset(images, np.zeros(3, int), ("a",), "x"))


def test_a_split_must_fit_together():
    whole = labelled([40, 40])
    flat = ImageDataset(np.full((4, 2, 2, 1), 16, np.uint8), np.array([0, 1, 0, 1]), ("a", "b"), "flat train")
    says("no pixel is above 16 of 255", "0…1 cast to uint8", of=lambda: Split(flat, flat).checked())
    small = ImageDataset(whole.images[:, :3], whole.labels, whole.classes, "small test")
    says("small test", "(3, 4, 2)", "(4, 4, 2)", "size=(4, 4)", of=lambda: Split(whole, small).checked())
    says(
        "class 'class 1' has no image",
        of=lambda: Split(whole, whole, whole.subset(np.flatnonzero(whole.labels == 0))).checked(),
    )
