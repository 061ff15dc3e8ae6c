import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from srat_utils import batches, data, sources
from srat_utils.data import DataError, ImageDataset, class_counts, load_dataset, make_imbalanced

SVHN_TRAIN = [4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659]
HERE = Path(__file__).parent


def labelled(counts, size=4):
    """A set whose every image is filled with its own label and position, so that a wrong pairing shows."""
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(1).permutation(labels)
    images = np.zeros((len(labels), size, size, 2), np.uint8)
    images[..., 0] = labels[:, None, None]
    images[..., 1] = np.arange(len(labels))[:, None, None] % 256
    return ImageDataset(images, labels, tuple(f"class {i}" for i in range(len(counts))), "made up train")


def arrays(**changes):
    """What an .npz of three classes holds."""
    labels = np.arange(12) % 3
    images = np.random.default_rng(0).integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)
    return {
        "train_images": images,
        "train_labels": labels,
        "test_images": images[:6],
        "test_labels": labels[:6],
    } | changes


def save(path, **changes):
    np.savez(path, **{key: value for key, value in arrays(**changes).items() if value is not None})
    return path


def picture_folder(path, mode="RGB", size=(6, 5), classes=("cat", "dog")):
    for split, count in (("train", 3), ("test", 2)):
        for shade, name in enumerate(classes):
            folder = path / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new(mode, size, 50 * shade + i if mode == "L" else (50 * shade + i, 7, 9)).save(
                    folder / f"{i}.png"
                )
    return path


@pytest.fixture(autouse=True)
def fresh_caches():
    yield
    sources.hosted.cache_clear()


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SRAT_DATA", str(tmp_path))
    return tmp_path


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


def test_under_represented():
    assert data.under_represented(class_counts("exp-100", [5000] * 10)).tolist() == [False] * 5 + [True] * 5
    assert data.under_represented([5, 5, 5]).tolist() == [False, False, True]
    assert data.under_represented([1, 9, 5, 5]).tolist() == [True, False, False, True]


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


def test_one_image_in_a_class():
    part = make_imbalanced(labelled([8, 8]), "step-8")
    assert part.counts == [8, 1]
    assert part.tensors("cpu")[0].shape == (9, 2, 4, 4)


def test_tensors_are_channels_first_and_their_own():
    whole = labelled([4, 4])
    images, labels = whole.tensors("cpu")
    assert images.dtype == torch.uint8 and images.is_contiguous() and labels.dtype == torch.int64
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), whole.images)
    images.zero_(), labels.zero_()
    assert whole.images.any() and whole.labels.any()


# --- digits ------------------------------------------------------------------------------------------------------------


def test_digits():
    train, test, _ = load_dataset("digits")
    assert train.images.shape == (1097, 8, 8, 1) and test.counts == [70] * 10
    assert not set(train.indices) & set(test.indices)
    stored = load_digits()
    assert np.array_equal(train.labels, stored.target[train.indices])
    assert np.array_equal(train.images[..., 0], np.round(stored.images[train.indices] * 255 / 16))
    assert (train.name, test.name, train.images.max()) == ("digits train", "digits test", 255)


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


# --- augmentation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("flip", [True, False])
def test_every_augmented_image_is_a_window_of_its_own_padded_one(dtype, flip):
    images = torch.randint(1, 256, (60, 3, 5, 6), generator=torch.Generator().manual_seed(0)).to(dtype)
    result = batches.augment(images, torch.Generator().manual_seed(1), padding=2, flip=flip)
    assert result.shape == images.shape and result.dtype == dtype
    seen = set()
    for image, augmented in zip(images, result, strict=True):
        padded = torch.zeros(3, 9, 10, dtype=dtype)
        padded[:, 2:7, 2:8] = image
        windows = {(y, x): padded[:, y : y + 5, x : x + 6] for y in range(5) for x in range(5)}
        matches = {(*at, False) for at, window in windows.items() if torch.equal(window, augmented)}
        matches |= {(*at, True) for at, window in windows.items() if torch.equal(window.flip(2), augmented)}
        assert len(matches) == 1
        seen |= matches
    assert len(seen) > 15  # each image draws its own
    assert {mirrored for _, _, mirrored in seen} == ({True, False} if flip else {False})


def test_augmentation_repeats_and_leaves_its_input_and_the_global_generator_alone():
    images = torch.rand(8, 1, 8, 8)
    original, state = images.clone(), torch.get_rng_state()
    first, second = (batches.augment(images, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(images, original) and torch.equal(state, torch.get_rng_state())
    assert torch.equal(batches.augment(images, torch.Generator(), padding=0, flip=False), images)


# --- CIFAR-10 and SVHN -------------------------------------------------------------------------------------------------


def ten_classes(**changes):
    labels = np.arange(20) % 10
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    return {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels} | changes


@pytest.fixture
def no_download(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("nothing may be downloaded here")

    monkeypatch.setattr(sources, "download", refuse)


def test_cifar10_from_an_npz(data_folder, no_download):
    exact = np.ones(20, bool)
    exact[[3, 7]] = False
    np.savez(data_folder / "cifar10.npz", **ten_classes(train_exact=exact))
    train, test, _ = load_dataset("cifar10")
    assert train.classes == sources.CIFAR10_CLASSES and len(train) == 18 and len(test) == 20
    assert not {3, 7} & set(train.indices.tolist())
    assert load_dataset("cifar10", classes=("auto", "truck")).train.classes == ("automobile", "truck")


def test_a_set_is_read_once_a_process(data_folder, no_download):
    path = data_folder / "cifar10.npz"
    np.savez(path, **ten_classes())
    first = load_dataset("cifar10")
    path.unlink()
    assert load_dataset("cifar10").train.fingerprint == first.train.fingerprint


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_torchvisions_files_are_found_before_anything_is_downloaded(name, data_folder, monkeypatch, no_download):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(20) % 10

    class Miniature:  # torchvision checks the real files' sums, so a small copy on disk would not pass
        def __init__(self, root, train=True, split="train", download=False):
            assert Path(root) == data_folder and not download
            self.data = pixels if name == "cifar10" else pixels.transpose(0, 3, 1, 2)
            self.targets, self.labels = labels.tolist(), labels

    monkeypatch.setattr(torchvision.datasets, name.upper(), Miniature)
    for part in load_dataset(name)[:2]:
        assert np.array_equal(part.images, pixels) and np.array_equal(part.labels, labels)


def failing_download(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", fail)
    monkeypatch.setattr(torchvision.datasets.svhn, "download_url", fail)


@pytest.mark.parametrize(
    "error", [OSError("Name or service\nnot known"), RuntimeError("File not found or corrupted."), TimeoutError()]
)
@pytest.mark.parametrize("name, file", [("cifar10", "cifar-10-python.tar.gz"), ("svhn", "train_32x32.mat")])
def test_a_download_announces_itself_and_fails_in_one_line(name, file, error, data_folder, monkeypatch, capsys):
    failing_download(monkeypatch, error)
    with pytest.raises(DataError) as caught:
        load_dataset(name)
    message, announced = str(caught.value), capsys.readouterr().out
    for text in (message, announced):
        assert file in text and str(data_folder) in text and f"{name}.npz" in text and "SRAT_DATA" in text
        assert "\n" not in text.strip()
    assert "MB" in announced


def test_without_srat_data_the_project_comes_first(monkeypatch):
    monkeypatch.delenv("SRAT_DATA", raising=False)
    assert sources.data_folders()[0] == HERE.parent / "data"


def test_real_cifar10(tmp_path):
    """The test images as they are packed beside the project: sizes, and a picture anybody can look up."""
    source = HERE.parent.parent / "shared" / "data" / "cifar10.py"
    packed = source.with_name("cifar10_5_test.xz")
    if not packed.exists():
        pytest.skip("no packed copy of CIFAR-10 beside the project; the same code is tested on made-up images")
    spec = importlib.util.spec_from_file_location("packed_cifar10", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stored = module.unpack(packed.read_bytes())
    test = ImageDataset(stored["test_images"], stored["test_labels"], sources.CIFAR10_CLASSES, "cifar10 test")
    assert test.images.shape == (10_000, 32, 32, 3) and test.counts == [1000] * 10
    assert [test.classes[label] for label in test.labels[:4]] == ["cat", "ship", "ship", "airplane"]
    assert make_imbalanced(test, "exp-100").counts == [1000, 599, 359, 215, 129, 77, 46, 27, 16, 10]


# --- your own images ---------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("mode, channels", [("RGB", 3), ("L", 1)])
def test_own_folder(tmp_path, mode, channels):
    path = picture_folder(tmp_path / "pets", mode)
    (path / "train" / ".hidden").mkdir()
    (path / "train" / "cat" / "Thumbs.db").write_bytes(b"not a picture")
    train, test, _ = load_dataset(path)
    assert train.classes == ("cat", "dog") and train.counts == [3, 3] and test.counts == [2, 2]
    assert train.images.shape == (6, 5, 6, channels)
    assert train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 50, 51, 52]
    assert load_dataset(path, classes=("dog", "cat")).train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 50, 51, 52]


def test_one_colour_picture_gives_all_three_channels(tmp_path):
    path = picture_folder(tmp_path / "pets", "L")
    Image.new("RGB", (6, 5), (200, 100, 0)).save(path / "train" / "cat" / "0.png")
    images = load_dataset(path).train.images
    assert images[0, 0, 0].tolist() == [200, 100, 0] and images[1, 0, 0].tolist() == [1, 1, 1]


def test_source_hash_follows_the_images(tmp_path):
    assert sources.source_hash("digits") == "digits" and sources.source_hash("cifar10") == "cifar10"
    path = picture_folder(tmp_path / "pets")
    before = sources.source_hash(str(path))
    assert sources.source_hash(str(picture_folder(tmp_path / "copy"))) == before
    (path / "train" / "cat" / ".DS_Store").write_bytes(b"1")
    assert sources.source_hash(str(path)) == before
    first = load_dataset(path).train.fingerprint
    Image.new("RGB", (6, 5), (99, 0, 0)).save(path / "train" / "cat" / "1.png")
    os.utime(path / "train" / "cat" / "1.png", (1, 1))
    assert sources.source_hash(str(path)) != before
    assert load_dataset(path).train.fingerprint != first


def test_a_slug_is_a_file_name():
    assert sources.slug("/somewhere/my pets (2).npz") == "my-pets-2"
    assert sources.slug("/somewhere/…") == "images"


# --- what a reader may get wrong ---------------------------------------------------------------------------------------


def says(*parts, of):
    with pytest.raises(DataError) as caught:
        of()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


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


@pytest.mark.parametrize(
    "dataset, parts",
    [
        ("cifar", ("unknown dataset 'cifar'", "did you mean cifar10?")),
        ("CIFAR10", ("did you mean cifar10?",)),
        ("imagenet", ("digits, cifar10, svhn",)),
        ("no/such/folder", ("no/such/folder does not exist", "check the path")),
        ("pets.npz", ("pets.npz does not exist",)),
        (__file__, ("neither an .npz nor a folder",)),
        (str(HERE), ("no folder train/", "train/<class>/")),
    ],
)
def test_wrong_places(dataset, parts):
    says(*parts, of=lambda: load_dataset(dataset))
    says(*parts, of=lambda: sources.source_hash(dataset))


FLOATS = np.zeros((12, 5, 4, 3))


@pytest.mark.parametrize(
    "changes, parts",
    [
        ({"train_images": FLOATS}, ("mine.npz train", "float64", "uint8, 0…255")),
        ({"train_images": np.full_like(FLOATS, np.nan)}, ("NaN", "uint8, 0…255")),
        ({"train_images": FLOATS[..., 0, 0].astype(np.uint8)}, ("(12, 5)", "[N,H,W,C]")),
        ({"train_images": np.zeros((0, 5, 4, 3), np.uint8), "train_labels": np.zeros(0, int)}, ("(0, 5, 4, 3)",)),
        ({"train_labels": np.arange(11) % 3}, ("12 images but 11 labels",)),
        ({"train_labels": np.arange(12) / 3}, ("labels are float64", "integers")),
        ({"train_labels": np.arange(12)[:, None] % 3}, ("(12, 1)", "one an image")),
        ({"train_labels": np.arange(12) % 3 - 1}, ("label -1 is out of range",)),
        ({"train_labels": np.arange(12) % 3 * 2, "test_labels": np.arange(6) % 3}, ("train: class '1' has no image",)),
        ({"train_labels": np.arange(12) % 4, "classes": np.array(["a", "b", "c"])}, ("label 3 is out of range", "0…2")),
        ({"test_labels": np.arange(6) % 5}, ("mine.npz test", "label 4 is out of range", "3 classes")),
        ({"test_labels": np.arange(6) % 2}, ("test: class '2' has no image",)),
        ({"test_images": FLOATS[:6, :4].astype(np.uint8)}, ("(4, 4, 3)", "(5, 4, 3)", "one size")),
        ({"test_images": None}, ("has no test_images", "train_labels")),
        ({"train_labels": np.zeros(12, int), "test_labels": np.zeros(6, int)}, ("only class '0'", "at least two")),
        ({"train_exact": np.ones(3, bool)}, ("train_exact", "one bool an image")),
        ({"train_labels": np.array([None] * 12)}, ("damaged or not an .npz", "numpy.savez")),
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


def test_wrong_folders(tmp_path):
    path = picture_folder(tmp_path / "size")
    Image.new("RGB", (7, 5)).save(path / "test" / "dog" / "odd.png")
    says("odd.png", "7×5", "6×5", "resize", of=lambda: load_dataset(path))

    path = picture_folder(tmp_path / "damaged")
    (path / "train" / "dog" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    says("1.png cannot be read", "8-bit PNG", of=lambda: load_dataset(path))

    path = picture_folder(tmp_path / "deep")
    Image.fromarray(np.full((5, 6), 40_000, np.uint16)).save(path / "train" / "dog" / "1.png")
    says("1.png", "more than 8 bits", of=lambda: load_dataset(path))

    path = picture_folder(tmp_path / "stranger")
    (path / "test" / "dog").rename(path / "test" / "dogs")
    says("class 'dogs'", "did you mean dog?", of=lambda: load_dataset(path))

    path = picture_folder(tmp_path / "hollow")
    for file in (path / "test").glob("*/*"):
        file.unlink()
    says("has no pictures", "test/<class>/", of=lambda: load_dataset(path))

    path = picture_folder(tmp_path / "bare class")
    (path / "train" / "eel").mkdir()
    says("train: class 'eel' has no image", of=lambda: load_dataset(path))


def test_indices_must_match():
    says(
        "6 images but 2 indices",
        of=lambda: ImageDataset(FLOATS[:6].astype(np.uint8), np.zeros(6, int), ("a",), "x", np.arange(2)),
    )
