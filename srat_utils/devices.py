"""What this machine has: the device that is asked for, threads, memory, names."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from .records import ConfigError


def resolve_device(name: str) -> torch.device:
    """The device of that name, "auto" the first GPU if there is one.  ConfigError where it cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"device {name!r} cannot be used here; take device='auto' ({str(error).splitlines()[0]})"
        ) from None
    return torch.device(name)


@contextmanager
def cpu_threads(architecture: str, threads: int | None = None) -> Iterator[None]:
    """One thread for the small network, where a second one costs more than it brings and would change the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or (1 if architecture == "small-cnn" else before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def memory(device: torch.device | None = None) -> float | None:
    """Bytes of memory of a device, the CPU unless given; None where the system does not tell."""
    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


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
