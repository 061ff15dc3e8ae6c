"""What a training will be made of and what it will cost, before it starts: images per class, time from measured steps, memory."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from .batches import batches_per_epoch
from .config import Config
from .data import load_dataset
from .devices import cpu_threads, memory, resolve_device
from .images import ImageDataset, Split
from .imbalance import held_counts
from .sources import KNOWN
from .training import Job, State, batches_told, step

LONG, HOUR = 60.0, 3600.0  # seconds: worth a word before it starts; worth advice
ENOUGH = 0.3  # seconds that a measured step takes, at least, if the batch allows it
TOO_LONG = 2.0  # seconds of a step with a single attack step, from which the others are reckoned, not measured
LISTED = 24  # classes that are told one by one
TRIED_STEPS = 5  # of the attack, which advice proposes
SMALLER = 32  # pixels a side, below which half would show too little


class Cost(NamedTuple):
    """Of one training step here: seconds, and bytes of memory at its peak, the images' own aside."""

    seconds: float
    memory: float


@dataclass(frozen=True)
class Plan:
    """What is trained on what, and what it costs; as text, two lines, and advice where it takes more than an hour.

    counts, available: training images per class, used and there.  held: of those, kept out for validation.  test: test images.

    shape: (height, width, channels).  cost: of a step.  memory: bytes at the peak, roughly, beside Python's own.
    room: bytes of memory here; None: not known.
    """

    config: Config
    counts: dict[str, int]
    available: dict[str, int]
    rare: tuple[str, ...]
    shape: tuple[int, int, int]
    held: int
    test: int
    cost: Cost
    memory: float
    room: float | None
    device: torch.device

    @property
    def steps(self) -> int:
        """In an epoch."""
        return batches_per_epoch(sum(self.counts.values()), self.config.batch_size)

    @property
    def training(self) -> float:
        return self.config.epochs * self.steps * self.cost.seconds

    @property
    def testing(self) -> float:
        """Seconds to test clean images and under PAPER."""
        return self.looking(self.config.evaluation_steps + 1)

    def looking(self, looks: int) -> float:
        """Seconds of tests that look so often at each image: a look costs what one of a training step does."""
        passes = self.config.attack_steps + 1 if self.config.adversarial else 1
        batch = min(self.config.batch_size, sum(self.counts.values()))
        return self.test * looks * self.cost.seconds / (batch * passes)

    @property
    def seconds(self) -> float:
        return self.training + self.testing

    @property
    def to_tell(self) -> str:
        """What must be known before it starts: all, if it takes a minute or more; if own images stay unused, that they do."""
        unused = sum(self.counts.values()) + self.held < sum(self.available.values())
        if self.seconds >= LONG:
            return str(self)
        return self.made_of if unused and self.config.dataset not in KNOWN else ""

    def __str__(self) -> str:
        lines = [self.made_of, self.costs]
        if self.config.epochs <= self.config.warmup_epochs:
            lines.append(
                f"It ends within the warm-up of {self.config.warmup_epochs} epochs: raise epochs, or set warmup_epochs=0."
            )
        if self.room is not None and self.memory > self.room:
            lines.append(
                f"That is more memory than the {size(self.room)} of this machine: lower batch_size, or set size."
            )
        if self.seconds > HOUR:
            lines.append(f"Shorter: {'; '.join(self.shorter())}.")
        return "\n".join(lines)

    @property
    def made_of(self) -> str:
        height, width, channels = self.shape
        name = self.config.dataset if self.config.dataset in KNOWN else Path(self.config.dataset).name
        used, there = sum(self.counts.values()), sum(self.available.values())
        listed = ", ".join(f"{label}: {images:,}" for label, images in self.counts.items())
        if len(self.counts) > LISTED:
            listed = f"{len(self.counts)} classes of {min(self.counts.values()):,} to {max(self.counts.values()):,}"
        because = [f"imbalance={self.config.imbalance!r}"] if self.config.imbalance != "none" else []
        cap = self.config.max_per_class
        because += [f"max_per_class={cap}"] if cap and cap < max(self.available.values()) else []
        because += [f"{self.held:,} held out for validation"] if self.held else []
        part, why = (f" of {there:,}", f" ({', '.join(because)})") if used < there else ("", "")
        own_validation = self.config.validation is not None and not self.held
        unused = "  It has validation images: validation=… is not used." if own_validation else ""
        return (
            f"{name}: trains on {used:,}{part} images of {height}×{width}×{channels}{why}; {listed}; tests on {self.test:,}.  "
            f"{self.who_is_rare}{unused}"
        )

    @property
    def who_is_rare(self) -> str:
        named = ", ".join(self.rare) or "none"
        if self.config.rare is not None:
            return f"Rare, as told: {named}."
        most, least = max(self.counts.values()), min(self.counts.values())
        return (
            f"Rare: {named} (rule: fewer images than √({most:,} · {least:,}) = {math.sqrt(most * least):,.0f}, and at most half "
            f"of {most:,}; rare=… overrides it)."
        )

    @property
    def costs(self) -> str:
        config = self.config
        where = "the CPU" if self.device.type == "cpu" else self.device
        against = f", PGD-{config.attack_steps} at ε = {config.eps:.3g}" if config.adversarial else ", no adversary"
        return (
            f"{config.method} on {config.model}{against}, {config.epochs} epochs of {self.steps:,} steps, {duration(self.cost.seconds)} "
            f"a step on {where}: about {duration(self.training)}, and {duration(self.testing)} of testing; about "
            f"{size(self.memory)} of memory beside Python's own."
        )

    def shorter(self) -> list[str]:
        """What would take less time, and how much of it where that can be told."""
        config, (height, width, _) = self.config, self.shape
        ideas = []
        if self.device.type == "cpu":
            ideas.append("a GPU")
        if config.model != "small-cnn":
            ideas.append("model='small-cnn'")
        if min(height, width) >= 2 * SMALLER:
            ideas.append(f"size=({height // 2}, {width // 2}), about a quarter")
        if config.adversarial and config.attack_steps > TRIED_STEPS:
            share = (TRIED_STEPS + 1) / (config.attack_steps + 1)
            ideas.append(f"attack_steps={TRIED_STEPS}, about {share:.0%}")
        ideas.append(f"epochs={math.ceil(config.epochs / 2)}, half")
        most = max(self.counts.values())
        if most > 1:
            cap = most // 4 or 1
            kept = sum(min(images, cap) for images in self.counts.values())
            ideas.append(f"max_per_class={cap}, about {kept / sum(self.counts.values()):.0%}")
        return ideas


def plan(config: Config, split: Split, cost: Cost | None = None) -> Plan:
    """The plan of a config whose data are `split`.  cost: of a step, where it was measured before."""
    device = resolve_device(config.device)
    whole = load_dataset(config.dataset, classes=config.classes, size=config.size)
    own_validation = whole.validation is not None or config.validation is None
    held = 0 if own_validation else int(held_counts(whole.train.counts, config.validation, config.max_per_class).sum())
    train = split.train
    cost = cost or measured(config, train)
    images = sum(part.images.nbytes for part in split if part is not None)
    return Plan(
        config=config,
        counts=dict(zip(train.classes, train.counts, strict=True)),
        available=dict(zip(whole.train.classes, whole.train.counts, strict=True)),
        rare=tuple(name for name, is_rare in zip(train.classes, train.under, strict=True) if is_rare),
        shape=train.images.shape[1:],
        held=held,
        test=len(split.test),
        cost=cost,
        memory=cost.memory + images,
        room=memory(device),
        device=device,
    )


def measured(config: Config, dataset: ImageDataset) -> Cost:
    """The cost of a step of a config on images of this size: of a whole batch, or of as much of it as shows.

    A network of its own is trained for it; nothing else changes.
    """
    device = resolve_device(config.device)
    state = State.fresh(config.replace(compile=False), dataset, device)
    job, light = (Job.of(c, state) for c in (config, config.replace(attack_steps=min(1, config.attack_steps))))
    images, labels = (torch.from_numpy(array[: config.batch_size].copy()) for array in (dataset.images, dataset.labels))
    x, y = images.permute(0, 3, 1, 2).contiguous().to(device).float() / 255, labels.to(device)
    w = torch.ones(len(dataset.classes), device=device)
    state.model.train()
    with cpu_threads(config.model, config.threads), batches_told(config):
        few, more = min(2, len(y)), min(4, len(y))  # batch norm needs two
        base, grown = (kept_by(lambda n=n: step(light, state, x[:n], y[:n], w)) for n in (few, more))
        seconds = timed(lambda: step(light, state, x[:few], y[:few], w), device)
        if job.attack and seconds > TOO_LONG:
            # A pass for the image alone is two units of work, one for the weights three.
            seconds *= (2 * job.attack.steps + 3) / (2 * light.attack.steps + 3)
        else:
            while True:
                seconds = timed(lambda n=few: step(job, state, x[:n], y[:n], w), device)
                if few == len(y) or seconds > ENOUGH:
                    break
                few = min(len(y), 4 * few)
    activations = grown + (grown - base) / max(more - 2, 1) * (len(y) - more)
    weights = sum(parameter.nbytes for parameter in state.model.parameters())
    # A backward pass makes a gradient of about every tensor that was kept; of the weights there are gradients and momentum, too.
    return Cost(seconds * len(y) / few, 2 * activations + 3 * weights)


def timed(act, device: torch.device) -> float:
    """Seconds."""
    started = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def kept_by(act) -> int:
    """Bytes of the tensors that autograd keeps for backward passes, at most at a time, each storage once."""
    tally = Tally()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: Kept(tally, tensor), lambda kept: kept.tensor):
        act()
    return tally.peak


class Tally:
    def __init__(self):
        self.times: dict[int, int] = {}  # storage → by how many saved tensors it is kept
        self.now = self.peak = 0  # bytes


class Kept:
    """A saved tensor that is counted for as long as it is there."""

    def __init__(self, tally: Tally, tensor: torch.Tensor):
        storage = tensor.untyped_storage()
        self.tally, self.tensor, self.key, self.bytes = tally, tensor, storage.data_ptr(), storage.nbytes()
        if tally.times.setdefault(self.key, 0) == 0:
            tally.now += self.bytes
            tally.peak = max(tally.peak, tally.now)
        tally.times[self.key] += 1

    def __del__(self):
        self.tally.times[self.key] -= 1
        if self.tally.times[self.key] == 0:
            self.tally.now -= self.bytes


def duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", HOUR), ("min", 60), ("s", 1)):
        if seconds >= 1.95 * length:
            return f"{seconds / length:.0f} {unit}" if seconds >= 9.5 * length else f"{seconds / length:.1f} {unit}"
    return f"{seconds:.2g} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"


def size(memory: float) -> str:
    return f"{memory / 1e9:.1f} GB" if memory >= 0.95e9 else f"{memory / 1e6:.0f} MB"
