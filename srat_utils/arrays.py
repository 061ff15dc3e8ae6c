"""An `.npz` of images, MedMNIST's among them: which arrays count, in which order their axes lie, what its labels are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .images import DataError, ImageDataset, Split, nearest, place_of

READ = re.compile(r"classes|(train|test|val|validation)_(images|labels|exact)")


def read_npz(path: Path, name: str, classes: Sequence[str] | None = None) -> Split:
    """train_images, train_labels, test_images, test_labels, and val_images, val_labels as validation images if they are there.

    Images: uint8 [N,H,W], [N,H,W,C], or [N,C,H,W] where C is plainly the shortest side.  Labels: [N] or [N,1], whole numbers
    or text.  The array `classes` names labels 0, 1, …; without it, classes are called what the training labels say, in
    ascending order.  train_exact, test_exact (bool [N]) leave images out.
    """
    arrays = stored_arrays(path)
    if "classes" in arrays:
        named = arrays["classes"]
        if named.size == 0 or named.size != max(named.shape, default=1):
            raise DataError(
                f"{path}: classes has shape {named.shape}; save the name of label 0, of label 1, …, or leave it out"
            )
        classes = [str(text) for text in decoded(named, f"{path}: classes").ravel()]
    numbered = classes is not None
    if not numbered:
        classes = [str(label) for label in np.unique(column(arrays["train_labels"], f"{name} train"))]

    def part(split: str, prefix: str) -> ImageDataset:
        own = f"{name} {split}"
        images, labels = channels_last(arrays[f"{prefix}_images"], own), column(arrays[f"{prefix}_labels"], own)
        by_name = labels.dtype.kind == "U" or not numbered
        labels = positions(labels, classes, own) if by_name else labels.astype(np.int64)
        dataset, exact = ImageDataset(images, labels, classes, own), arrays.get(f"{prefix}_exact")
        if exact is None:
            return dataset
        if exact.dtype != bool or exact.shape != (len(dataset),):
            raise DataError(f"{own}: {prefix}_exact is {exact.dtype} {exact.shape}; it needs one bool an image")
        return dataset.subset(np.flatnonzero(exact))

    validation = [prefix for prefix in ("val", "validation") if f"{prefix}_images" in arrays]
    if len(validation) > 1:
        raise DataError(f"{path} has val_images and validation_images; leave one of them, the validation images")
    return Split(part("train", "train"), part("test", "test"), *(part("validation", prefix) for prefix in validation))


def channels_last(images: np.ndarray, name: str) -> np.ndarray:
    """[N,H,W,C] of [N,H,W], [N,H,W,C], or [N,C,H,W] if C is plainly the shortest side.  DataError if it cannot be told."""
    if images.ndim == 3:
        return images[..., None]
    if images.ndim == 4 and images.size:
        first, second, last = images.shape[1:]
        if last > 4 and last >= min(first, second):
            if first > 4 and first >= min(second, last):
                raise DataError(
                    f"{name}: images have shape {images.shape}, of which no side can be the channels; "
                    "save [N,H,W] or [N,H,W,C] (from [N,C,H,W]: images.transpose(0, 2, 3, 1))"
                )
            return images.transpose(0, 2, 3, 1)
    return images


def column(labels: np.ndarray, name: str) -> np.ndarray:
    """[N] of [N] or [N,1], whole numbers, truth values or text; what is wrong with any other as a DataError."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{name}: labels have shape {labels.shape}; save one per image, [N] or [N,1] (of one-hot rows: labels.argmax(axis=1))"
        )
    if labels.dtype.kind == "S":
        return decoded(labels, f"{name}: labels")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise DataError(f"{name}: labels are {labels.dtype} with NaN, which is no class; leave those images out")
        if (labels == np.rint(labels)).all():
            return labels.astype(np.int64)
    if labels.dtype.kind not in "biuU":
        raise DataError(f"{name}: labels are {labels.dtype}; save them as integers or text, one per image")
    return labels


def decoded(texts: np.ndarray, name: str) -> np.ndarray:
    """Text of bytes.  DataError where they are no UTF-8: what cannot be read would make two classes one."""
    if texts.dtype.kind != "S":
        return texts
    try:
        return np.char.decode(texts, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} are bytes that are no UTF-8 ({error.object!r}); save them as text") from None


def positions(labels: np.ndarray, classes: Sequence[str], name: str) -> np.ndarray:
    """int64 [N]: each label's place among the classes' names."""
    texts = [str(label) for label in labels.tolist()]
    place = {text: i for i, text in enumerate(classes)}
    for text in dict.fromkeys(texts):
        if text not in place:
            place[text] = place_of(text, classes)
        if place[text] is None:
            raise DataError(f"{name}: label {text!r} is not among the {len(classes)} classes; {nearest(text, classes)}")
    return np.array([place[text] for text in texts], dtype=np.int64)


def stored_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays that are read; nothing is unpickled, for a pickle may run any code."""
    arrays, others, key = {}, [], "the file"
    try:
        with np.load(path, allow_pickle=False) as stored:
            for key in stored.files:
                if READ.fullmatch(key):
                    arrays[key] = stored[key]
                else:
                    others.append(key)
    except Exception as error:  # zip, zlib and numpy each have types of their own for a damaged file
        if "Object arrays" in str(error):
            what = "as a pandas column does; save numpy.array(column.tolist()), all whole numbers or all text"
            if key.endswith("images"):
                what = "as pictures of several sizes do; resize them and save one uint8 array"
            raise DataError(f"{path}: {key} holds Python objects, {what}") from None
        raise DataError(
            f"{path} is damaged or not an .npz ({' '.join(str(error).split())}); save it again with numpy.savez"
        ) from error
    parts = dict.fromkeys(["train", "test", *(key.split("_")[0] for key in arrays if key != "classes")])
    missing = [f"{part}_{what}" for part in parts for what in ("images", "labels") if f"{part}_{what}" not in arrays]
    if missing:
        raise DataError(
            f"{path} has no {', '.join(missing)}; an .npz of images holds train_images, train_labels, test_images, test_labels"
            + (f", not {', '.join(others)}" if others else "")
        )
    return arrays
