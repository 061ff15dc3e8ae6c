"""Sets of images made up for a test, and how an error that a reader may meet is checked."""

import numpy as np
import pytest
from PIL import Image

from srat_utils.images import DataError, ImageDataset

SVHN_TRAIN = [4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659]
FLOATS = np.zeros((12, 5, 4, 3))


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
    images = np.random.default_rng(0).integers(0, 256, (18, 5, 4, 3), dtype=np.uint8)
    return {
        "train_images": images[:12],
        "train_labels": labels,
        "test_images": images[12:],
        "test_labels": labels[:6],
    } | changes


def save(path, **changes):
    np.savez(path, **{key: value for key, value in arrays(**changes).items() if value is not None})
    return path


def picture_folder(path, mode="RGB", size=(6, 5), classes=("cat", "dog"), splits=("train", "test")):
    """Three pictures per class for training and two for anything else; the first channel is 50·class + 10·split + number."""
    for i, split in enumerate(splits):
        for shade, name in enumerate(classes):
            folder = path / split / name
            folder.mkdir(parents=True)
            for number in range(3 if split == "train" else 2):
                value = 50 * shade + 10 * i + number
                Image.new(mode, size, value if mode == "L" else (value, 7, 9)).save(folder / f"{number}.png")
    return path


def says(*parts, of):
    with pytest.raises(DataError) as caught:
        of()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
