"""Class folders of pictures: which files count, how one is read, and what is said of those that are left out."""

from __future__ import annotations

import math
import numbers
import operator
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .devices import memory
from .images import DataError, ImageDataset, Split, nearest, place_of

FOLDERS = {"train": "train", "test": "test", "val": "validation", "valid": "validation", "validation": "validation"}
NAMED = 5  # files that the line about what was left out names
BITS = 258  # TIFF's bits a channel
WHITE_OR_BLACK_IS_0 = 262  # TIFF's photometric interpretation, which Pillow follows for 8 bits only
SEVERAL = ("MPO", "PSD")  # formats whose further frames are previews and layers of the one picture


def visible(path: Path, folders: Iterable[str] = FOLDERS) -> list[Path]:
    """The files below train/, test/ and val/, links followed; a name that begins with a dot is the system's own."""
    files = []
    for split in filter(lambda split: (path / split).is_dir(), folders):
        for place, inner, names in os.walk(path / split, followlinks=True, onerror=unreadable):
            here = Path(place)
            inner[:] = [name for name in inner if name[0] != "." and not leads_back(here / name)]
            files += [here / name for name in names if name[0] != "."]
    return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def leads_back(folder: Path) -> bool:
    """Whether this is a link to a folder that holds it, by way of other links, too."""
    if not folder.is_symlink():
        return False
    target = folder.resolve()
    return any(above.resolve().is_relative_to(target) for above in folder.parents)


def unreadable(error: OSError):
    raise DataError(f"{error.filename} cannot be read ({error.strerror}); give yourself the right to, or remove it")


def stamp(path: Path) -> tuple:
    """(file, bytes, time of change) of a set's files: what makes a cached reading stale."""
    try:
        return tuple(
            (file, file.stat().st_size, file.stat().st_mtime_ns)
            for file in ([path] if path.is_file() else visible(path))
        )
    except OSError as error:
        unreadable(error)


@lru_cache(maxsize=16)
def sorted_out(path: Path, stamped: tuple) -> tuple[list[Path], list[str]]:
    """The pictures in class folders, however deep below them, and what is left out, each with its reason.

    A picture is what Pillow opens, whatever its name; a file that only bears a picture's ending is damaged, not left out.
    """
    pictures, left_out = [], []
    for file, *_ in stamped:
        inside = file.relative_to(path)
        if len(inside.parts) < 3:
            left_out.append(f"{inside.as_posix()} (in no class folder)")
        elif is_picture(file):
            pictures.append(file)
        else:
            left_out.append(f"{inside.as_posix()} (no picture)")
    outside = [entry for entry in sorted(path.iterdir()) if entry.name[0] != "." and entry.name not in FOLDERS]
    left_out += [f"{entry.name}{'/' * entry.is_dir()} (outside train/ and test/)" for entry in outside]
    return pictures, left_out


def is_picture(file: Path) -> bool:
    Image.init()
    # A pipe or a device would keep whoever opens it waiting.
    return file.is_file() and (Image.EXTENSION.get(file.suffix.lower()) in Image.OPEN or opens(file))


def opens(file: Path) -> bool:
    try:
        with without_a_limit(), Image.open(file):
            return True
    except Exception:  # each of Pillow's readers has types of its own for what it does not know
        return False


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder, however deep, in the order of their paths; one line names what is left out.  DataError without any."""
    files = visible(folder, ["."])
    pictures = [file for file in files if is_picture(file)]
    if not pictures:
        raise DataError(f"{folder} has no pictures; name a folder that has some, or pictures")
    kept = set(pictures)
    left_out = [f"{file.relative_to(folder)} (no picture)" for file in files if file not in kept]
    tell_left_out(folder, len(pictures), left_out)
    return pictures


def split_folder(folder: str | Path, target: str | Path, test: float = 0.2, seed: int = 0) -> Path:
    """Copy the pictures of class folders `folder`/<class>/ to `target`/train/<class>/ and `target`/test/<class>/.

    test: the share of each class that becomes test pictures, rounded, one at least; a seed draws them.  Copies keep their paths
    inside the class.  Returns the target, which is a data set.  DataError for fewer than two classes, a class of one picture, a
    share outside (0, 1), or a target that holds something already.
    """
    folder, target = (Path(path).expanduser().resolve() for path in (folder, target))
    if not (isinstance(test, numbers.Real) and 0 < test < 1):
        raise DataError(f"test is the share of each class to test on, as in 0.2, not {test!r}")
    if not (isinstance(seed, numbers.Integral) and seed >= 0):
        raise DataError(f"seed is a whole number, 0 or more, not {seed!r}")
    if not folder.is_dir() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise DataError(f"{folder} must be a folder of class folders, and {target} new or empty")
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "." and entry != target)
    if len(classes) < 2:
        raise DataError(f"{folder} has {len(classes)} class folders; at least two are needed")
    if {place.name for place in classes} <= set(FOLDERS):
        raise DataError(
            f"{folder} is dealt into {' and '.join(place.name for place in classes)} already; use it as it is"
        )
    found = {place: pictures_in(place) for place in classes}
    for place, pictures in found.items():  # all of them before the first copy
        if len(pictures) < 2:
            raise DataError(f"{place} has one picture; one to train on and one to test on are needed")
    random = np.random.default_rng(seed)
    for place, pictures in found.items():
        number = min(len(pictures) - 1, max(1, round(test * len(pictures))))
        for rank, index in enumerate(random.permutation(len(pictures))):
            part = "test" if rank < number else "train"
            copy = target / part / place.name / pictures[index].relative_to(place)
            try:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(pictures[index], copy)
            except OSError as error:
                for begun in ("train", "test"):  # the target was empty
                    shutil.rmtree(target / begun, ignore_errors=True)
                raise DataError(
                    f"{copy} cannot be written ({error.strerror or error}); make room, or name another target"
                ) from error
    return target


def tell_left_out(path: Path, read: int, left_out: list[str]) -> None:
    if left_out:
        named = ", ".join(left_out[:NAMED]) + (", …" if len(left_out) > NAMED else "")
        print(printable(f"{path.name}: {read:,} pictures read, {len(left_out):,} left out: {named}"), flush=True)


def printable(text: str) -> str:
    """A name whose bytes are no UTF-8, as an archive of another system leaves them, can be printed escaped only."""
    return text.encode("utf-8", "backslashreplace").decode()


def read_folder(path: Path, stamped: tuple, size: tuple[int, int] | None = None) -> Split:
    """Classes are train/'s folders in alphabetical order; a val/ or validation/ becomes the validation images.

    Pictures keep one channel if all of them are grey.  They have one size, or `size` (height, width) makes it.  One line
    tells how many were read and what was left out.  DataError, naming the file, for a damaged picture: a set that shrinks in
    silence would be another set.
    """
    classes = sorted(entry.name for entry in (path / "train").iterdir() if entry.is_dir() and entry.name[0] != ".")
    validation = [name for name, part in FOLDERS.items() if part == "validation" and (path / name).is_dir()]
    if len(validation) > 1:
        raise DataError(
            f"{path} has {' and '.join(f'{name}/' for name in validation)}; leave one of them, the validation images"
        )
    files, left_out = sorted_out(path, stamped)
    places = [file.relative_to(path).parts for file in files]
    label_of = {}
    for split, name in dict.fromkeys(place[:2] for place in places):
        label_of[name] = place_of(name, classes)
        if label_of[name] is None:
            raise DataError(
                f"{path / split / name}: class {name!r} is not in {path / 'train'}; {nearest(name, classes)}"
            )
    images, more = read_pictures(files, size)
    left_out = [f"{file.relative_to(path).as_posix()} (frames 2…{frames})" for file, frames in more] + left_out
    tell_left_out(path, len(files), left_out)
    parts = {}
    for split in dict.fromkeys(FOLDERS.values()):
        own = [i for i, place in enumerate(places) if FOLDERS[place[0]] == split]
        if own:  # neighbours, as the files are sorted
            labels = np.array([label_of[places[i][1]] for i in own])
            name = f"{path.name} {split}" + (f" ({resized_to(size)})" if size else "")
            parts[split] = ImageDataset(images[own[0] : own[-1] + 1], labels, classes, name)
        elif split != "validation":
            raise DataError(f"{path / split} has no pictures; put some that Pillow can open into {split}/<class>/")
    return Split(**parts)


def read_pictures(files: list[Path], size: tuple[int, int] | None) -> tuple[np.ndarray, list[tuple[Path, int]]]:
    """uint8 [N,H,W,C], and the files of several frames with their number.  Filled in place: the pixels are held once."""
    images, more = np.empty((0, 0, 0, 0), np.uint8), []
    for i, file in enumerate(files):
        try:
            picture, frames = read_picture(file)
        except DataError as problem:
            raise DataError(f"{problem}{others_like(files[i + 1 :])}") from problem
        if i == 0:
            must_fit(len(files), (*(size or picture.shape[:2]), picture.shape[2]))
        picture = picture if size is None else resize(picture, size)
        if i == 0:
            images = np.empty((len(files), *picture.shape), np.uint8)
        (high, wide), (h, w) = images.shape[1:3], picture.shape[:2]
        if (h, w) != (high, wide):
            raise DataError(
                f"{file} has {w}×{h} pixels, {files[0]} has {wide}×{high}; size=32, or another number of pixels, makes them "
                "one size (the aspect ratio is not kept)"
            )
        if picture.shape[2] > images.shape[3]:
            images = np.repeat(images, 3, axis=3)
        images[i] = picture
        more += [(file, frames)] if frames > 1 else []
    return images, more


def others_like(files: Sequence[Path]) -> str:
    """What to add to the first picture that cannot be read: the further ones, so that they are mended at once."""
    damaged = [file for file in files if not reads(file)]
    if not damaged:
        return ""
    names = ", ".join(map(str, damaged[:NAMED])) + (", …" if len(damaged) > NAMED else "")
    return f"; and {len(damaged):,} more: {names}"


def reads(file: Path) -> bool:
    try:
        read_picture(file)
    except DataError:
        return False
    return True


def must_fit(number: int, shape: tuple[int, ...]) -> None:
    """DataError where so many pictures are more than this machine's memory, before it runs out: the system would end the process."""
    needed, there = number * math.prod(shape), memory()
    if there is not None and needed > there:
        raise DataError(
            f"{number:,} pictures of {shape[1]}×{shape[0]} pixels take {needed / 1e9:,.0f} GB of memory, and this machine has "
            f"{there / 1e9:,.0f}; size=… makes them smaller, as in size=64"
        )


@contextmanager
def without_a_limit() -> Iterator[None]:
    """Pillow warns of pictures above 89 million pixels, and refuses twice as many, as an attack: here they are the reader's own."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def read_picture(path: Path) -> tuple[np.ndarray, int]:
    """uint8 [H,W,1] of a picture stored as grey, [H,W,3] of any other, as a viewer shows it, and the number of frames in the file.

    The first frame of several; turned as its EXIF orientation says; what is transparent lies on white; 16 bits a channel are
    scaled to 8.  Colour profiles are not applied.
    """
    try:
        # From an open file: given a path, Pillow maps uncompressed ones into memory and mixes up those that lie on their side.
        with without_a_limit(), path.open("rb") as file, Image.open(file) as picture:
            frames = 1 if picture.format in SEVERAL else getattr(picture, "n_frames", 1)
            picture.load()
            return np.atleast_3d(np.asarray(eight_bits(upright(picture), picture))), frames
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except Exception as error:  # each of Pillow's readers has types of its own for a damaged file
        raise DataError(
            f"{path} cannot be read ({' '.join(str(error).split())}); remove it, or save it again as an 8-bit PNG"
        ) from error


def upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # metadata that nobody can read turn nothing; the pixels were loaded before
        return picture


def eight_bits(picture: Image.Image, opened: Image.Image) -> Image.Image:
    """In mode "L" if it is grey and else "RGB", on white.  ValueError where it is not known what the pixels mean.

    opened: the picture as it was opened, which still knows its format.
    """
    if picture.mode.startswith("I;16") or (picture.mode == "I" and opened.format in ("PNG", "PPM")):
        if "transparency" in picture.info or getattr(opened, "tag_v2", {}).get(WHITE_OR_BLACK_IS_0) == 0:
            raise ValueError("16 bits a channel, with a transparent value or white as 0")
        bits = int(np.max(getattr(opened, "tag_v2", {}).get(BITS, 16)))  # 12 in a scanner's or a microscope's TIFF
        return Image.fromarray(np.rint(np.asarray(picture) * (255 / (2**bits - 1))).astype(np.uint8))
    if picture.mode[0] in "IF":
        raise ValueError(
            "signed or fractional pixels, or more than 16 bits a channel, whose range the file does not state"
        )
    grey = picture.mode in ("1", "L", "LA", "La")
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return picture.convert("L" if grey else "RGB")


def resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H,W,C] at `size` (height, width): Pillow's bilinear filter, which averages over all pixels that one covers."""
    if picture.shape[:2] == size:
        return picture
    channels = np.moveaxis(picture, 2, 0)
    return np.dstack([Image.fromarray(one).resize(size[::-1], Image.Resampling.BILINEAR) for one in channels])


def resized_to(size: tuple[int, int]) -> str:
    return f"resized to {size[1]}×{size[0]}"


def height_width(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """(height, width) of a pair, or of one number for both.  DataError for anything else."""
    if size is None:
        return None
    pair = (size, size) if isinstance(size, numbers.Integral) else size
    try:
        height, width = map(operator.index, pair)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise DataError(f"size is a number of pixels or (height, width), as in size=32 or size=(24, 32), not {size!r}")
    return height, width
