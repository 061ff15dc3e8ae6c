"""The state of a training on disk, two deep and often enough; failing to write it never stops the training."""

from __future__ import annotations

import io
import math
import time
import warnings
from contextlib import suppress
from pathlib import Path

import torch

from .config import Config
from .devices import resolve_device
from .images import ImageDataset
from .store import RunError, reason, saved, write
from .training import State

CHECKPOINTS = ("checkpoint.pt", "checkpoint-before.pt")  # newest first
BETWEEN, WITHIN = 5.0, 60.0  # seconds from one to the next, at an epoch's end and inside one; less is cheaper to repeat
SHARE = 0.05  # of the time goes into writing them, at most


class Checkpoints:
    """Of one training, in its folder.  A disk that refuses one is told of once, and the training goes on.

    images: the fingerprint of the training images; with others the training does not go on.
    """

    def __init__(self, folder: Path, images: str):
        self.folder, self.images, self.refused = folder, images, False
        self.saved, self.cost = time.monotonic(), 0.0

    def save_if_due(self, state: State) -> None:
        """Save after a step or an epoch, if the last one is old enough, unless the loss is no longer a number."""
        if time.monotonic() - self.saved <= max(BETWEEN if state.epoch is None else WITHIN, self.cost / SHARE):
            return
        if state.epoch is None or math.isfinite(state.epoch.sums["loss"]):
            self.save(state)

    def save(self, state: State) -> None:
        """Write the state, keeping the checkpoint before it in case this one is damaged later."""
        started = time.monotonic()
        newest, before = (self.folder / name for name in CHECKPOINTS)
        coming = self.folder / "checkpoint-next.pt"
        try:
            write(coming, saved(state.to_dict() | {"images": self.images}))
            if newest.exists():
                newest.replace(before)
            coming.replace(newest)
        except OSError as error:
            if not self.refused:
                warnings.warn(
                    f"no checkpoint can be written into {self.folder} ({reason(error)}); the training goes on, and broken off "
                    "it would go on from the checkpoint before",
                    stacklevel=2,
                )
            self.refused = True
        self.saved = time.monotonic()
        self.cost = self.saved - started

    def give_way(self) -> None:
        """Leave the room of all but the newest to the result."""
        with suppress(OSError):
            (self.folder / CHECKPOINTS[1]).unlink(missing_ok=True)

    def resume(self, config: Config, dataset: ImageDataset) -> State:
        """The state in the newest readable checkpoint, or a fresh one.

        A damaged or foreign checkpoint is set aside, never overwritten, and the one before it is tried.  RunError, with all left
        as it is, where the fault may not be the file's: a disk or a memory that fails, another kind of device, other images.
        """
        device = resolve_device(config.device)
        for name in CHECKPOINTS:
            checkpoint = self.folder / name
            if not checkpoint.exists():
                continue
            state = State.fresh(config, dataset, device)
            left = f"{checkpoint} could not be read ({{}}); it is left as it is: call train(config) again"
            try:
                # Apart from torch.load, which raises OSError for half a file, too.
                content = io.BytesIO(checkpoint.read_bytes())
            except OSError as error:
                raise RunError(left.format(reason(error))) from error
            try:
                stored = torch.load(content, map_location=device, weights_only=True)
                self.refuse(stored, state)
                state.load_dict(stored)
                return state
            except RunError:
                raise
            except (MemoryError, torch.OutOfMemoryError) as error:
                raise RunError(left.format(reason(error))) from error
            except Exception as error:  # torch, pickle and zipfile each raise their own
                aside = checkpoint.with_name(f"{checkpoint.stem}-damaged-{time.time_ns()}.pt")
                checkpoint.replace(aside)
                warnings.warn(
                    f"{checkpoint} cannot be read ({type(error).__name__}); set aside as {aside.name}, "
                    "going on from the checkpoint before it, or afresh",
                    stacklevel=2,
                )
        return State.fresh(config, dataset, device)

    def refuse(self, stored: dict, state: State) -> None:
        """RunError for a sound checkpoint that this training must not go on from."""
        if stored.get("images", self.images) != self.images:
            raise RunError(
                f"{self.folder} was begun on other images than are there now; put those back to go on, or remove it to train "
                "on these"
            )
        if len(stored["noise"]) != len(state.noise.get_state()):
            raise RunError(
                f"{self.folder} was begun on another kind of device than {state.facts.device.type}; go on there, or remove it "
                "to train afresh"
            )
