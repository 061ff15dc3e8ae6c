"""Bars, and words beside them: widgets in a notebook, text on a terminal's stderr."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from tqdm.auto import tqdm

__all__ = ["REDRAW", "redrawn", "tell", "tqdm"]
REDRAW = 5.0  # seconds after which a bar moves on, however long a step takes
IN_NOTEBOOK = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)


@cache
def tell(*lines: str) -> None:
    """Say it once, where bars are drawn.  A notebook shows stderr as if it were an error."""
    if any(lines):
        print(*filter(None, lines), sep="\n", file=sys.stdout if IN_NOTEBOOK else sys.stderr, flush=True)


@contextmanager
def redrawn(bar: tqdm, every: float | None = None, reached: Callable[[], float] | None = None) -> Iterator[None]:
    """The bar is drawn anew now and then, so that its clock moves while one step is long.

    every: seconds; None for REDRAW.  reached: where the bar stands by then; None where others move it.
    """
    over = threading.Event()

    def redraw() -> None:
        while not over.wait(REDRAW if every is None else every):
            if reached:
                bar.n = reached()
            bar.refresh()

    thread = threading.Thread(target=redraw, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
