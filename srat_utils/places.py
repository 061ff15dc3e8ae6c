"""Where things lie: a path means the same wherever it is given, and what is kept lies with the project or with its user."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import platformdirs
from joblib import Memory

PROJECT = Path(__file__).resolve().parent.parent
CHECKOUT = (PROJECT / "notebooks").is_dir() and (PROJECT / "pyproject.toml").is_file()  # else: installed as a package


def absolute(path: str | os.PathLike) -> Path:
    """ "~" is the user's folder, and a relative path begins at the working directory, whoever reads it later.

    A link keeps its own name: what it leads to may have none that says what it is.
    """
    return Path(os.path.abspath(os.path.expanduser(path)))


def home() -> Path:
    """The project's folder; installed without it, this package's own folder among the user's data."""
    return PROJECT if CHECKOUT else platformdirs.user_data_path("srat-utils", appauthor=False)


def kept_in(variable: str, name: str) -> Path:
    """The folder that an environment variable names, else `name` in `home()`."""
    return absolute(os.environ[variable]) if os.environ.get(variable) else home() / name


def remembered(function: Callable) -> Callable:
    """A slow function of arrays and numbers: its results are kept beside the runs, and equal arguments are not computed again."""

    @functools.wraps(function)
    def call(*arguments, **options):
        try:
            folder = kept_in("SRAT_RUNS", "runs") / ".memory" / f"scikit-learn-{version('scikit-learn')}"
            kept = Memory(folder, verbose=0).cache(function)
        except OSError:  # a disk that is read-only
            return function(*arguments, **options)
        return kept(*arguments, **options)

    return call
