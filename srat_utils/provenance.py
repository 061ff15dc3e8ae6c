"""Where a result comes from: versions, machine, commit.  Failing to find any of it never stops a run."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version

from .devices import hardware, resolve_device
from .places import CHECKOUT, PROJECT

VERSIONS = {"python": platform.python_version()} | {name: version(name) for name in ("torch", "torchvision", "numpy")}


def commit() -> str | None:
    """The commit of the checkout that this package is part of; None without git, or where it is installed elsewhere."""
    if not (CHECKOUT and (PROJECT / ".git").exists()):
        return None
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return asked.stdout.strip() or None


def environment() -> dict[str, str]:
    """Versions and the device that `device="auto"` picks here."""
    device = resolve_device("auto")
    return VERSIONS | {"device": f"{device} ({hardware(device)}, {os.cpu_count()} cores)"}
