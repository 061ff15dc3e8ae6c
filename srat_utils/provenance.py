"""Where a result comes from: versions, machine, commit.  Failing to find any of it never stops a run."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from .places import CHECKOUT, PROJECT
from .training import resolve_device

VERSIONS = {"python": platform.python_version()} | {name: version(name) for name in ("torch", "torchvision", "numpy")}


def hardware(device: torch.device) -> str:
    """The model's name of a GPU or of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        described = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        described = ""
    names = re.findall(r"^model name\s*: (.+)$", described, flags=re.MULTILINE)
    return names[0] if names else platform.processor() or platform.machine()


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
