"""Runs on disk: found again, locked against a second process, written whole or not at all."""

from __future__ import annotations

import io
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from .config import Config
from .places import absolute, kept_in
from .sources import KNOWN


class RunError(RuntimeError):
    """A run that cannot be trained, read or kept now; the message says why and what to do."""


def default_store() -> Path:
    """$SRAT_RUNS, else runs/ in the project, else among the user's data, where the package is installed without the project."""
    return kept_in("SRAT_RUNS", "runs")


def folder_of(config: Config, store: str | os.PathLike | None = None) -> Path:
    """Where the run of a config lies: its name says so, and after own images were renamed or moved its fingerprint."""
    store, name = absolute(store or default_store()), config.name
    if config.dataset not in KNOWN and not (store / name).exists() and store.is_dir():
        for folder in sorted(store.glob(f"*-{name.rpartition('-')[2]}")):
            return folder
    return store / name


def prepare(folder: Path, size: int) -> None:
    """Make the folder of a run before anything is trained.  RunError where it cannot be, or has no room for `size` bytes."""
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    if free < size:
        raise RunError(
            f"{folder} has {free / 1e6:.0f} MB of room, and the run needs {size / 1e6:.0f}; make room, or name another "
            "folder: store=…, or the environment variable SRAT_RUNS"
        )


@contextmanager
def told(
    folder: Path, remedy: str = "make room, or name another folder: store=…, or the environment variable SRAT_RUNS"
):
    """What the operating system says of a folder that cannot be written, as a RunError of one line."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{folder} cannot be written ({reason(error)}); {remedy}") from error


def reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


@contextmanager
def locked(folder: Path, doing: str, wait: bool = True) -> Iterator[None]:
    """The folder for this process alone.  Another's work on it is waited for, which one line says, or is a RunError.

    Where no lock can be had, on a disk that is read-only or knows none, nothing is waited for.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise RunError(
                f"another process is {doing} {folder}; wait for it, then call train(config) again to read the result"
            ) from None
        print(f"Another process is {doing} {folder.name}; waiting for its result.", file=sys.stderr, flush=True)
        lock.acquire()
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()


def write(path: Path, writer: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: beside its place, flushed, then renamed.  What was begun gives its room back.

    Of two writers at one time, in threads or processes, the one that ends last wins.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        writer(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def saved(contents: object) -> Callable[[Path], object]:
    """A writer of tensors for `write`.  Made in memory: given a path, torch tells of a full disk in words of its own."""
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    return lambda path: path.write_bytes(buffer.getbuffer())


def write_if_possible(path: Path, writer: Callable[[Path], object], without: str) -> bool:
    """`write` something that can be done without, and say what that means where the disk refuses it."""
    try:
        path.parent.mkdir(exist_ok=True)
        write(path, writer)
    except OSError as error:
        warnings.warn(f"{path} cannot be written ({reason(error)}): {without}", stacklevel=3)
        return False
    return True
