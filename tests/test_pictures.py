import errno
import os
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from made_up import picture_folder, save, says
from PIL import Image

from srat_utils import pictures
from srat_utils.data import load_dataset
from srat_utils.images import DataError
from srat_utils.pictures import read_picture, split_folder, stamp
from srat_utils.sources import source_hash

ORIENTATION = 274
RANDOM = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def read(path, picture, **options):
    """What `read_picture` gives of a picture that Pillow or numpy holds, by way of a file."""
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return read_picture(path)[0]


# --- one picture -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "webp", "tif", "jpg"])
@pytest.mark.parametrize(
    "orientation, turned",
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.swapaxes(0, 1)),
        (6, lambda a: np.rot90(a, -1)),  # what a phone held upright writes
        (7, lambda a: np.rot90(a, 2).swapaxes(0, 1)),
        (8, np.rot90),
    ],
)
def test_a_picture_stands_as_its_orientation_says(tmp_path, ending, orientation, turned):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    blocks = np.zeros((32, 48, 3), np.uint8)
    blocks[:16, :16], blocks[16:, 32:] = (250, 10, 10), (10, 10, 250)  # JPEG keeps 16 × 16 of one colour
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(ending, {})
    array = read(tmp_path / f"a.{ending}", blocks, exif=exif, **options)
    assert array.shape == turned(blocks).shape
    assert np.abs(array.astype(int) - turned(blocks)).max() <= (8 if ending == "jpg" else 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0rubbish", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x2a\0\0"]
)
def test_an_orientation_that_says_nothing_turns_nothing(tmp_path, exif):
    assert np.array_equal(read(tmp_path / "a.png", RANDOM, exif=exif), RANDOM)


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_transparency_lies_on_white(tmp_path, ending):
    alpha = np.array([0, 51, 128, 255, 0, 255], np.uint8) * np.ones((4, 1), np.uint8)
    options = {"lossless": True, "exact": True} if ending == "webp" else {}
    array = read(tmp_path / f"a.{ending}", np.dstack([RANDOM, alpha]), **options)
    a = alpha[..., None] / 255
    assert np.abs(array - (a * RANDOM + (1 - a) * 255)).max() <= 1
    assert (array[alpha == 0] == 255).all() and np.array_equal(array[alpha == 255], RANDOM[alpha == 255])


def test_grey_with_transparency_stays_grey(tmp_path):
    array = read(tmp_path / "a.png", Image.merge("LA", [Image.new("L", (2, 1), 100), Image.fromarray(np.array([[0, 255]], np.uint8))]))  # fmt: skip
    assert array.tolist() == [[[255], [100]]]


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_a_palette_with_a_transparent_entry(tmp_path, ending):
    picture = Image.new("P", (2, 1))
    picture.putpalette([200, 0, 0, 0, 0, 90])
    picture.putpixel((1, 0), 1)
    assert read(tmp_path / f"plain.{ending}", picture).tolist() == [[[200, 0, 0], [0, 0, 90]]]
    assert read(tmp_path / f"a.{ending}", picture, transparency=0).tolist() == [[[255, 255, 255], [0, 0, 90]]]


def test_a_palette_with_half_transparent_entries_and_a_transparent_colour(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([200, 0, 0, 0, 0, 90])
    picture.putpixel((1, 0), 1)
    array = read(tmp_path / "a.png", picture, transparency=b"\x33\xff")  # 51 of 255: a fifth
    assert array.tolist() == [[[244, 204, 204], [0, 0, 90]]]
    colour = Image.fromarray(np.array([[[9, 9, 9], [1, 2, 3]]], np.uint8))
    assert read(tmp_path / "b.png", colour, transparency=(9, 9, 9)).tolist() == [[[255] * 3, [1, 2, 3]]]


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_16_bits_are_scaled_to_8(tmp_path, ending):
    deep = np.array([[0, 257, 40_000, 65_535]], np.uint16)
    assert read(tmp_path / f"a.{ending}", deep)[..., 0].tolist() == [[0, 1, 156, 255]]


def test_one_bit_cmyk_and_palette(tmp_path):
    bits = np.array([[True, False, True]])
    assert read(tmp_path / "a.png", bits)[..., 0].tolist() == [[255, 0, 255]]
    assert read(tmp_path / "a.tif", bits)[..., 0].tolist() == [[255, 0, 255]]
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    for ending in ("tif", "jpg"):
        assert np.abs(read(tmp_path / f"b.{ending}", cyan).astype(int) - (0, 255, 255)).max() <= 3


@pytest.mark.parametrize("array", [np.full((4, 4), 0.5, np.float32), np.full((4, 4), 70_000, np.int32)])
def test_pixels_whose_range_is_not_stated_are_refused(tmp_path, array):
    says("a.tif cannot be read", "whose range", "8-bit PNG", of=lambda: read(tmp_path / "a.tif", array))


def bare_tiff(array, photometric, bits=None, data=None):
    """One strip, little endian; Pillow would write neither 16 bits with white as 0 nor 12 bits."""
    (h, w), bits, data = array.shape, bits or 8 * array.itemsize, data or array.tobytes()
    tags = {256: w, 257: h, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: h, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_12_bits_are_scaled_to_8(tmp_path):
    deep = np.array([[0, 2048, 4095, 16]], np.uint16)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in deep.reshape(-1, 2).tolist())
    (tmp_path / "a.tif").write_bytes(bare_tiff(deep, 1, bits=12, data=packed))
    assert read_picture(tmp_path / "a.tif")[0][..., 0].tolist() == [[0, 128, 255, 1]]


def test_white_as_0_is_turned_round_or_refused(tmp_path):
    eight, sixteen = np.array([[0, 100, 255]], np.uint8), np.array([[0, 25_700, 65_535]], np.uint16)
    file = tmp_path / "a.tif"
    for array, photometric, right in (
        (eight, 1, [0, 100, 255]),
        (eight, 0, [255, 155, 0]),
        (sixteen, 1, [0, 100, 255]),
    ):
        file.write_bytes(bare_tiff(array, photometric))
        assert read_picture(file)[0][0, :, 0].tolist() == right
    file.write_bytes(bare_tiff(sixteen, 0))
    says("a.tif cannot be read", "white as 0", of=lambda: read_picture(file))


@pytest.mark.parametrize(
    "ending", ["png", "webp", "jfif", "jpe", "JPG", "bmp", "tga", "ppm", "jp2", "qoi", "jpg_large", ""]
)
def test_a_picture_is_what_pillow_opens_whatever_its_ending(tmp_path, ending):
    path = picture_folder(tmp_path / "pets")
    known = {
        "jfif": "JPEG",
        "jpe": "JPEG",
        "JPG": "JPEG",
        "jpg_large": "JPEG",
        "": "PNG",
        "jp2": "JPEG2000",
        "tga": "TGA",
    }
    file = path / "train" / "dog" / f"more{'.' if ending else ''}{ending}"
    Image.new("RGB", (6, 5), (99, 99, 99)).save(file, format=known.get(ending, ending.upper()))
    train = load_dataset(path).train
    assert train.counts == [3, 4] and np.abs(train.images[-1].astype(int) - 99).max() <= 3


# --- a folder ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode, channels", [("RGB", 3), ("L", 1)])
def test_own_folder(tmp_path, capsys, mode, channels):
    path = picture_folder(tmp_path / "pets", mode)
    (path / "train" / ".hidden").mkdir()
    (path / "train" / "cat" / "._0.png").write_bytes(b"what macOS writes beside a picture")
    train, test, validation = load_dataset(path)
    assert train.classes == ("cat", "dog") and train.counts == [3, 3] and test.counts == [2, 2] and validation is None
    assert train.images.shape == (6, 5, 6, channels)
    assert train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 50, 51, 52]
    assert load_dataset(path, classes=("dog", "cat")).train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 50, 51, 52]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("last", [False, True])
def test_one_colour_picture_gives_all_three_channels(tmp_path, last):
    path = picture_folder(tmp_path / "pets", "L")
    name, at = ("dog/2.png", 5) if last else ("cat/0.png", 0)
    Image.new("RGB", (6, 5), (200, 100, 0)).save(path / "train" / name)
    train, test, _ = load_dataset(path)
    assert train.images[at, 0, 0].tolist() == [200, 100, 0]
    assert train.images[1, 0, 0].tolist() == [1, 1, 1] and test.images[-1, 0, 0].tolist() == [61, 61, 61]


def test_pictures_any_depth_below_a_class_folder_belong_to_it(tmp_path):
    path = picture_folder(tmp_path / "pets")
    for place in ("train/dog/2023", "train/dog/2024/may", "test/cat/more"):
        (path / place).mkdir(parents=True)
        Image.new("RGB", (6, 5), (90, 0, 0)).save(path / place / "0.png")
    train, test, _ = load_dataset(path)
    assert train.counts == [3, 5] and test.counts == [3, 2]
    assert train.images[train.labels == 1][:, 0, 0, 0].tolist() == [50, 51, 52, 90, 90]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_folder_of_validation_images(tmp_path, name):
    path = picture_folder(tmp_path / "pets", splits=("train", "test", name))
    validation = load_dataset(path).validation
    assert validation.counts == [2, 2] and validation.images[:, 0, 0, 0].tolist() == [20, 21, 70, 71]
    assert validation.name == "pets validation"


@pytest.mark.parametrize("name", ["NA", "None", "007", "1e5", "a:b", "why?", "nan", "Ünï 猫"])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such folders")
def test_class_folders_of_any_name(tmp_path, name):
    split = load_dataset(picture_folder(tmp_path / "pets", classes=(name, "zzz")))
    assert split.train.classes == tuple(sorted((name, "zzz"))) and split.test.counts == [2, 2]


def test_links_are_followed_and_a_circle_is_not(tmp_path):
    path = picture_folder(tmp_path / "pets")
    try:
        (path / "train" / "eel").symlink_to(picture_folder(tmp_path / "others") / "train" / "dog")
        (path / "test" / "eel").symlink_to(tmp_path / "others" / "test" / "dog")
        (path / "train" / "cat" / "up").symlink_to(path / "train")
    except OSError:
        pytest.skip("no links on this disk")
    train, test, _ = load_dataset(path)
    assert train.classes == ("cat", "dog", "eel") and train.counts == [3, 3, 3] and test.counts == [2, 2, 2]
    (path / "train" / "cat" / "dog").symlink_to(path / "train" / "dog")
    (path / "train" / "dog" / "cat").symlink_to(path / "train" / "cat")  # each by way of the other
    assert load_dataset(path).train.counts == [6, 6, 3]
    (path / "train" / "cat" / "gone.png").symlink_to(path / "nowhere.png")
    says("gone.png cannot be read", "remove it", of=lambda: load_dataset(path))


def test_what_is_left_out_is_counted_and_named_in_one_line(tmp_path, capsys):
    path = picture_folder(tmp_path / "pets")
    (path / "train" / "cat" / "a.txt").write_text("a word")
    (path / "test" / "dog" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0 thumbs")
    (path / "extra").mkdir()
    (path / "labels.csv").write_text("file,label")
    Image.new("RGB", (6, 5)).save(path / "train" / "stray.png")
    frames = [Image.new("RGB", (6, 5), (90 * i, 0, 0)) for i in range(3)]
    frames[0].save(path / "train" / "dog" / "moving.gif", save_all=True, append_images=frames[1:])
    load_dataset(path), load_dataset(path)
    assert capsys.readouterr().out == (
        "pets: 11 pictures read, 6 left out: train/dog/moving.gif (frames 2…3), test/dog/Thumbs.db (no picture), "
        "train/cat/a.txt (no picture), train/stray.png (in no class folder), extra/ (outside train/ and test/), …\n"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_left_out_and_nobody_waits_for_it(tmp_path, capsys):
    path = picture_folder(tmp_path / "pets")
    os.mkfifo(path / "train" / "cat" / "pipe.png")
    assert load_dataset(path).train.counts == [3, 3]
    assert "1 left out: train/cat/pipe.png (no picture)" in capsys.readouterr().out


@pytest.mark.filterwarnings("error")
def test_a_panorama_is_a_picture_too(tmp_path, monkeypatch):
    path = picture_folder(tmp_path / "pets")
    Image.new("RGB", (60, 50), (99, 0, 0)).save(path / "train" / "cat" / "wide.png")
    for limit in (2000, 1000):  # of pixels: above one Pillow warns, above two it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert load_dataset(path, size=(limit // 1000, 5)).train.counts == [4, 3]
        assert limit == Image.MAX_IMAGE_PIXELS


def test_pictures_that_no_memory_holds_are_refused_before_they_are_read(tmp_path, monkeypatch):
    folder, array = picture_folder(tmp_path / "pets"), save(tmp_path / "mine.npz")
    for path in (folder, array):
        says(
            "1000000×1000000 pixels take",
            "GB of memory",
            "size=64",
            of=lambda path=path: load_dataset(path, size=10**6),
        )
    monkeypatch.setattr(pictures, "memory", lambda: 10 * 5 * 6 * 3 - 1)
    says("10 pictures of 6×5 pixels", of=lambda: load_dataset(folder))
    monkeypatch.setattr(pictures, "memory", lambda: 10 * 5 * 6 * 3)
    assert len(load_dataset(folder).train) == 6


@pytest.mark.parametrize("train, test", [("café", "cafe\u0301"), ("cafe\u0301", "café")])
@pytest.mark.skipif(sys.platform == "darwin", reason="one folder here")
def test_a_class_is_the_same_however_its_accent_is_written(tmp_path, train, test):
    path = picture_folder(tmp_path / "pets", classes=(train, "dog"))
    (path / "test" / train).rename(path / "test" / test)
    split = load_dataset(path)
    assert split.train.classes == (train, "dog") and split.test.counts == [2, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
def test_names_that_are_no_text_are_told_of(tmp_path, capsys):
    path = picture_folder(tmp_path / "pets")
    odd = os.fsdecode(b"caf\xe9")
    (path / "train" / "cat" / "0.png").rename(path / "train" / "cat" / f"{odd}.png")
    (path / "train" / "cat" / odd).write_text("no picture")
    assert load_dataset(path).train.counts == [3, 3] and len(source_hash(path)) == 12
    assert r"train/cat/caf\udce9 (no picture)" in capsys.readouterr().out
    for split in ("train", "test"):
        (path / split / "cat").rename(path / split / odd)
    says("the name of class", r"caf\udce9", "UTF-8", of=lambda: load_dataset(path))


def test_a_reading_is_kept_until_a_file_changes(tmp_path):
    path = picture_folder(tmp_path / "pets")
    first = load_dataset(path).train
    assert load_dataset(path).train.images.base is first.images.base
    os.utime(path / "train" / "cat" / "0.png", (1, 1))
    assert load_dataset(path).train.images.base is not first.images.base
    Image.new("RGB", (6, 5), (200, 0, 0)).save(path / "test" / "dog" / "2.PNG")
    assert load_dataset(path).test.counts == [2, 3]
    assert len(stamp(path)) == 11


def test_pictures_of_several_sizes_are_resized_where_a_size_is_given(tmp_path):
    path = picture_folder(tmp_path / "pets")
    checked = (np.indices((10, 12)).sum(0) % 2 * 200).astype(np.uint8)
    Image.fromarray(checked).save(path / "test" / "dog" / "0.png")
    says("0.png has 12×10 pixels", "6×5", "size=32", "aspect ratio", of=lambda: load_dataset(path))
    split = load_dataset(path, size=(5, 6))
    assert split.train.images.shape == (6, 5, 6, 3) and split.test.name == "pets test (resized to 6×5)"
    inner = split.test.images[2, 1:-1, 1:-1]
    assert np.abs(inner.astype(int) - 100).max() <= 1  # every pixel counts: a grid of black and 200 becomes grey


def test_reading_holds_the_pixels_twice_at_most(tmp_path):
    path = picture_folder(tmp_path / "pets", size=(224, 224))
    for split in ("train", "test"):
        for number in range(10, 40):
            Image.new("RGB", (224, 224), (number, 0, 99)).save(path / split / "cat" / f"{number}.png")
    tracemalloc.start()
    try:
        split = load_dataset(path, max_per_class=20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(split.train) == 23 and peak < 2 * 70 * 224 * 224 * 3


PEAK = """
import re, sys
from pathlib import Path
from srat_utils import load_dataset

def held(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

before = held("VmRSS")
train, test, validation = load_dataset(sys.argv[1], validation=0.2)
pixels = sum(part.images.nbytes for part in (train, test, validation))
print(pixels, (held("VmHWM") - before) / pixels)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the system does not say here what a process holds")
@pytest.mark.parametrize("kind", ["folder", "npz", "npz, channels first"])
def test_the_process_holds_the_pixels_of_3000_pictures_no_more_than_two_and_a_half_times(tmp_path, kind):
    number = {"train": 2400, "test": 600}
    if kind == "folder":
        path = tmp_path / "pets"
        for split, count in number.items():
            for i in range(count):
                file = path / split / "ab"[i % 2] / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (224, 224), (i % 256, i // 256, len(split))).save(file)
    else:
        path, stored = tmp_path / "pets.npz", {}
        for split, count in number.items():
            shape = (count, 3, 224, 224) if kind.endswith("first") else (count, 224, 224, 3)
            stored[f"{split}_images"] = np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)
            stored[f"{split}_labels"] = np.arange(count) % 2
        np.savez(path, **stored)
    said = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True).stdout
    pixels, peak = map(float, said.split())
    assert pixels == 3000 * 224 * 224 * 3 and 1 < peak < 2.5


# --- what a reader may get wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x89PNG\r\n\x1a\n broken", "cut"])
def test_a_damaged_picture_is_named(tmp_path, content):
    path = picture_folder(tmp_path / "pets")
    file = path / "train" / "dog" / "1.png"
    if content == "cut":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)).save(file)
        content = file.read_bytes()[:5000]
    file.write_bytes(content)
    says("1.png cannot be read", "8-bit PNG", "remove it, or", of=lambda: load_dataset(path))
    (path / "test" / "dog" / "0.png").write_bytes(content)
    says("test/dog/0.png cannot be read", "and 1 more", "train/dog/1.png", of=lambda: load_dataset(path))


def test_wrong_folders(tmp_path):
    path = picture_folder(tmp_path / "two", splits=("train", "test", "val", "valid"))
    says("has val/ and valid/; leave one", of=lambda: load_dataset(path))
    says("has no folder train/ (but cat/, dog/)", "train/<class>/", of=lambda: load_dataset(path / "train"))

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

    path = picture_folder(tmp_path / "single", classes=("cat",))
    says("only class 'cat' is there", of=lambda: load_dataset(path))

    path = picture_folder(tmp_path / "dark", mode="L", classes=("cat",))
    (path / "train" / "cat").rename(path / "train" / "a")
    says("class 'cat' is not in", of=lambda: load_dataset(path))


def test_a_class_whose_pictures_were_all_left_out_says_so_first(tmp_path, capsys):
    path = picture_folder(tmp_path / "pets")
    for file in (path / "train" / "cat").iterdir():
        file.write_bytes(b"ftypheic")
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(DataError, match="class 'cat' has no image"):
        load_dataset(path)
    assert "train/cat/0.heic (no picture)" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything can be read here")
def test_a_folder_that_may_not_be_read(tmp_path):
    path = picture_folder(tmp_path / "pets")
    (path / "train" / "cat").chmod(0)
    try:
        says("cat cannot be read (Permission denied)", of=lambda: load_dataset(path))
    finally:
        (path / "train" / "cat").chmod(0o700)


def test_class_folders_are_dealt_into_training_and_test(tmp_path):
    flat = tmp_path / "flat"
    for name, number in {"deep scratch": 10, "ok": 3, "rare": 2}.items():
        for i in range(number):
            place = flat / name / ("left" if i % 2 else "right")
            place.mkdir(parents=True, exist_ok=True)
            Image.new("L", (6, 5), 40 + i).save(place / f"{i}.png")
    says("no folder train/", "split_folder", of=lambda: load_dataset(flat))
    split = load_dataset(split_folder(flat, tmp_path / "dealt"))
    assert split.train.classes == ("deep scratch", "ok", "rare")
    assert (split.train.counts, split.test.counts) == ([8, 2, 1], [2, 1, 1])
    both = np.concatenate([split.train.images[:, 0, 0, 0], split.test.images[:, 0, 0, 0]])
    assert sorted(both) == sorted([40 + i for number in (10, 3, 2) for i in range(number)])  # each once
    again = load_dataset(split_folder(flat, tmp_path / "again"))
    assert again.test.fingerprint == split.test.fingerprint
    assert load_dataset(split_folder(flat, tmp_path / "other", seed=1)).test.fingerprint != split.test.fingerprint


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("new", {"test": 1.0}, "test is the share"),
        ("new", {"test": "0.2"}, "test is the share"),
        ("new", {"seed": -1}, "seed is a whole number"),
        ("flat", {}, "new or empty"),
        ("new", {}, "has one picture"),
    ],
)
def test_class_folders_that_cannot_be_dealt_are_told_of(tmp_path, target, options, said):
    for name, number in {"cat": 3, "dog": 1}.items():
        (tmp_path / "flat" / name).mkdir(parents=True)
        for i in range(number):
            Image.new("L", (6, 5), 40 + i).save(tmp_path / "flat" / name / f"{i}.png")
    says(said, of=lambda: split_folder(tmp_path / "flat", tmp_path / target, **options))


def test_a_split_folder_is_not_dealt_again_and_a_copy_that_fails_leaves_nothing(tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / "flat" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (6, 5), 40 + i).save(tmp_path / "flat" / name / f"{i}.png")
    (tmp_path / "file").touch()
    says("cannot be written", "another target", of=lambda: split_folder(tmp_path / "flat", tmp_path / "file" / "new"))
    done = split_folder(tmp_path / "flat", tmp_path / "done")
    says("dealt into test and train already", of=lambda: split_folder(done, tmp_path / "new"))
    copied = []

    def copy(source, target):
        copied.append(target)
        if len(copied) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(pictures.shutil, "copy2", copy)
    says("No space left", "make room", of=lambda: split_folder(tmp_path / "flat", tmp_path / "half"))
    assert not [*(tmp_path / "half").rglob("*.png")]
    monkeypatch.undo()
    split_folder(tmp_path / "flat", tmp_path / "half")


@pytest.mark.parametrize("compression", ["tiff_lzw", None])
def test_a_grey_tiff_on_its_side_is_turned(tmp_path, compression):
    rows, exif = np.arange(12, dtype=np.uint8).reshape(3, 4), Image.Exif()
    exif[ORIENTATION] = 6
    assert np.array_equal(
        read(tmp_path / "a.tif", rows, exif=exif, compression=compression)[..., 0], np.rot90(rows, -1)
    )


def test_nothing_is_copied_where_a_class_has_one_picture(tmp_path):
    flat = tmp_path / "flat"
    for name, number in {"a": 3, "b": 1}.items():
        (flat / name).mkdir(parents=True)
        for i in range(number):
            Image.new("L", (6, 5), 40 + i).save(flat / name / f"{i}.png")
    with pytest.raises(DataError, match="one picture"):
        split_folder(flat, tmp_path / "dealt")
    Image.new("L", (6, 5), 90).save(flat / "b" / "9.png")
    assert load_dataset(split_folder(flat, tmp_path / "dealt")).train.counts == [2, 1]
