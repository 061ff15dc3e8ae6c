import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torchvision
from made_up import picture_folder, save, says
from PIL import Image
from sklearn.datasets import load_digits

from srat_utils import Config, load_dataset, sources
from srat_utils.images import DataError, ImageDataset
from srat_utils.imbalance import make_imbalanced
from srat_utils.sources import slug, source_hash

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def fresh_caches():
    yield
    sources.hosted.cache_clear()


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SRAT_DATA", str(tmp_path))
    return tmp_path


def test_digits():
    train, test, _ = load_dataset("digits")
    assert train.images.shape == (1097, 8, 8, 1) and test.counts == [70] * 10
    assert not set(train.indices) & set(test.indices)
    stored = load_digits()
    assert np.array_equal(train.labels, stored.target[train.indices])
    assert np.array_equal(train.images[..., 0], np.round(stored.images[train.indices] * 255 / 16))
    assert (train.name, test.name, train.images.max()) == ("digits train", "digits test", 255)


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


def test_source_hash_follows_the_images(tmp_path):
    assert source_hash("digits") == "digits" and source_hash("cifar10") == "cifar10"
    path = picture_folder(tmp_path / "pets")
    before = source_hash(str(path))
    assert source_hash(str(picture_folder(tmp_path / "copy"))) == before
    (path / "train" / "cat" / ".DS_Store").write_bytes(b"1")
    assert source_hash(str(path)) == before
    first = load_dataset(path).train.fingerprint
    Image.new("RGB", (6, 5), (99, 0, 0)).save(path / "train" / "cat" / "1.png")
    os.utime(path / "train" / "cat" / "1.png", (1, 1))
    assert source_hash(str(path)) != before
    assert load_dataset(path).train.fingerprint != first


def test_a_slug_is_a_file_name():
    assert slug("/somewhere/my pets (2).npz") == "my-pets-2"
    assert slug("/somewhere/…") == "images"


def test_the_hash_is_of_the_content_whatever_it_is_called(tmp_path):
    array = save(tmp_path / "mine.npz")
    before = source_hash(array)
    assert before == source_hash(str(array)) == source_hash(array.rename(tmp_path / "other name.npz"))
    folder = picture_folder(tmp_path / "pets")
    before = source_hash(folder)
    folder = folder.rename(tmp_path / "animals")
    assert source_hash(folder) == before
    (folder / "train" / "cat" / "notes.txt").write_text("no picture")
    assert source_hash(folder) == before
    (folder / "train" / "cat").rename(folder / "train" / "lynx")
    assert source_hash(folder) != before  # a class by another name


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    save(tmp_path / "mine.npz"), picture_folder(tmp_path / "pets")
    for place in ("~/mine.npz", Path("~/mine.npz"), "~/pets", Path("~/pets")):
        assert source_hash(place) == source_hash(Path(place).expanduser())
        assert load_dataset(place).train.counts == load_dataset(Path(place).expanduser()).train.counts
    assert slug("~/pets") == "pets"
    assert load_dataset(Path("digits")).train.fingerprint == load_dataset("digits").train.fingerprint


@pytest.mark.parametrize(
    "path, name",
    [
        ("/data/con.npz", "images-con"),
        ("/data/LPT1", "images-LPT1"),
        ("/data/aux.v2.npz", "aux-v2"),
        ("a" * 300, "a" * 60),
        ("/data/what? a:b*c.npz", "what-a-b-c"),
        (Path("/data/pets."), "pets"),
        ("/data/猫", "images"),
    ],
)
def test_a_slug_is_a_file_name_on_windows_too(path, name):
    assert slug(path) == name


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_pictures_that_are_in_training_and_test_are_told_in_one_line(tmp_path, capsys, kind):
    if kind == "npz":
        images = np.random.default_rng(0).integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)
        labels = np.arange(12) % 3
        path = save(tmp_path / "mine.npz", train_images=images, test_images=images[[0, 4, 8]], test_labels=labels[:3],
                    val_images=images[:6] ^ 1, val_labels=labels[:6])  # fmt: skip
        said = "mine.npz: 3 of 3 test pictures are in the training set too"
    else:
        path = picture_folder(tmp_path / "pets", splits=("train", "test", "val"))
        for split in ("test", "val"):
            (path / split / "cat" / "0.png").write_bytes((path / "train" / "cat" / "2.png").read_bytes())
        said = "pets: 1 of 4 test pictures and 1 of 4 validation pictures are in the training set too"
    load_dataset(path), load_dataset(path, imbalance="step-2")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith(said)


def test_what_is_twice_in_the_training_set_and_what_is_chosen_and_tested_on_is_told(tmp_path, capsys):
    path = picture_folder(tmp_path / "pets", splits=("train", "test", "val"))
    one = (path / "train" / "cat" / "0.png").read_bytes()
    (path / "train" / "cat" / "again.png").write_bytes(one)
    (path / "train" / "dog" / "cat.png").write_bytes(one)
    (path / "test" / "dog" / "1.png").write_bytes((path / "val" / "dog" / "0.png").read_bytes())
    load_dataset(path)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("pets: 2 of 8 training pictures repeat another, 1 of them as another class; leave them out")
    assert second.startswith("pets: 1 of 4 test pictures are in the validation set too, pixel for pixel")


def test_pictures_that_differ_in_one_pixel_are_not_the_same(tmp_path, capsys):
    save(tmp_path / "mine.npz")
    load_dataset(tmp_path / "mine.npz")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "dataset, parts",
    [
        ("cifar", ("unknown dataset 'cifar'", "did you mean cifar10?")),
        ("CIFAR10", ("did you mean cifar10?",)),
        ("imagenet", ("digits, cifar10, svhn",)),
        ("no/such/folder", ("no/such/folder does not exist", "check the path")),
        ("pets.npz", ("pets.npz does not exist",)),
        ("~/no such place", ("~/no such place does not exist",)),
        (__file__, ("neither an .npz nor a folder",)),
        (str(HERE), ("no folder train/", "train/<class>/")),
        (None, ("a dataset is digits, cifar10, svhn, or the path", "not NoneType")),
        (np.zeros(3), ("not ndarray", "numpy.savez makes an .npz of arrays")),
        (b"digits", ("not bytes",)),
        ("a\0b", ("is no path", "check it")),
        ("a" * 5000, ("is no path (File name too long)",)),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else type(value).__name__,
)
def test_wrong_places(dataset, parts):
    says(*parts, of=lambda: Config(dataset))
    says(*parts, of=lambda: load_dataset(dataset))
    says(*parts, of=lambda: source_hash(dataset))


FLOATS = np.zeros((12, 5, 4, 3))


def test_a_path_to_a_folder_that_is_called_like_a_known_set_is_that_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture_folder(tmp_path / "digits")
    for place in (Path("digits"), Path("./digits")):
        assert load_dataset(place).train.classes == ("cat", "dog")
        assert Config(place).dataset == str(tmp_path / "digits") and Config(place).images != "digits"
    assert len(load_dataset("digits").train.classes) == 10


def test_a_link_is_called_what_it_is_called(tmp_path):
    (tmp_path / "blobs").mkdir()
    save(tmp_path / "whole.npz").rename(tmp_path / "blobs" / "3fa9c1")
    link = tmp_path / "images.npz"
    link.symlink_to(tmp_path / "blobs" / "3fa9c1")
    assert len(load_dataset(link).train.classes) == 3 and slug(link) == "images"


def test_an_accent_of_two_characters_is_the_same_name(tmp_path):
    composed, apart = "\u00c4pfel", "A\u0308pfel"
    folder = picture_folder(tmp_path / "fruit", classes=(apart, "pears"))
    assert load_dataset(folder, rare=[composed]).train.under.tolist() == [True, False]
    assert load_dataset(folder, classes=["pears", composed], rare=[composed]).train.under.tolist() == [False, True]


def test_grey_files_are_no_pictures_of_four_channels(tmp_path):
    Image.new("L", (8, 8), 7).save(tmp_path / "grey.png")
    assert sources.as_images(tmp_path / "grey.png", (8, 8), 3).shape == (1, 8, 8, 3)
    says("(8, 8, 1)", "(8, 8, 4)", of=lambda: sources.as_images(tmp_path / "grey.png", (8, 8), 4))
