"""A folder per run: read it if it is finished, resume it if it was interrupted, train it otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from . import estimates, provenance
from .batches import batches_per_epoch
from .checkpoints import Checkpoints
from .config import Config
from .devices import hardware, resolve_device
from .evaluation import PAPER, Protocol, several
from .images import Split
from .progress import redrawn, tell, tqdm
from .runs import Run, load_data, read
from .store import RunError, folder_of, locked, prepare, reason, saved, told, write
from .training import State, fit

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.4g}/{total:.4g} epochs [{elapsed}<{remaining}{postfix}]"
_unwritten: dict[Path, State] = {}  # trained to the end, when the disk refused them


def train(
    config: Config,
    *,
    store: str | Path | None = None,
    progress: bool = True,
    wait: bool = True,
    protocols: Sequence[Protocol] = (PAPER,),
    after_epoch: Callable[[State], None] = lambda state: None,
) -> Run:
    """The run of a config: read back if it is finished, resumed if it was interrupted, else trained; then evaluated.

    A config with more epochs is another run, trained afresh: its learning rate falls later, and continuing the finished one at
    the rate it ended with would be neither of the two.

    store: the folder of runs; None for `default_store()`.  progress: whether to show a bar and, where it will take a minute or
    more, or own images stay unused, `plan(config)` before it.
    wait: whether to wait for another process that is training or testing the same run, which a line says, instead of raising RunError.
    protocols: what the network is tested under.
    after_epoch: called with the state after each epoch; what it raises stops the run, which a later call resumes.
    Raises RunError where the store cannot be written, before anything is trained, and TrainingError when the loss is no longer
    a number.
    """
    protocols = several(protocols)
    run = Run(config, folder_of(config, store))
    if not run.trained:
        split = load_data(config)
        state = State.fresh(config, split.train, resolve_device(config.device))
        prepare(run.folder, 8 * sum(t.nbytes for t in (*state.model.parameters(), *state.model.buffers())))
        with locked(run.folder, "training", wait):
            if not run.trained:
                _train(config, split, run.folder, progress, after_epoch)
    for leftover in (*run.folder.glob("checkpoint*.pt"), *run.folder.glob(".*.part")):
        if "damaged" not in leftover.name:
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
    for protocol in protocols:
        run.outcomes(protocol, progress=progress, wait=wait)
    return run


def _train(config: Config, split: Split, folder: Path, progress: bool, watch: Callable[[State], None]) -> None:
    facts = facts_of(config, split)  # before the training, which an error here would lose
    with told(folder):
        settings = json.dumps(config.to_dict(), indent=1)
        write(folder / "config.json", lambda path: path.write_text(settings, encoding="utf-8"))
    checkpoints = Checkpoints(folder, split.train.fingerprint)
    state = _unwritten.pop(folder, None) or checkpoints.resume(config, split.train)
    if progress and not (state.history or state.epoch):
        tell(estimates.plan(config, split).to_tell, longer(config, folder))
    steps = batches_per_epoch(len(split.train), config.batch_size)
    adversarial = "adversarial" if config.adversarial else "natural"

    def epochs(state: State) -> float:
        return len(state.history) + (state.epoch.batches / steps if state.epoch else 0)

    bar = tqdm(
        total=config.epochs, initial=epochs(state), bar_format=BAR, disable=not progress, mininterval=0.5, miniters=0,
        desc=f"{config.imbalance} {config.method} {adversarial} seed {config.seed}",
    )  # fmt: skip

    def after_step(state: State) -> None:
        bar.update(epochs(state) - bar.n)
        checkpoints.save_if_due(state)

    def after_epoch(state: State) -> None:
        bar.set_postfix(loss=f"{state.history[-1]['loss']:.3f}", refresh=False)
        bar.update(epochs(state) - bar.n)
        if len(state.history) < config.epochs:
            checkpoints.save_if_due(state)
        try:
            watch(state)
        except BaseException:
            checkpoints.save(state)  # stopped on purpose: not one epoch is lost
            raise

    with bar, redrawn(bar):
        fit(config, split.train, state=state, after_epoch=after_epoch, after_step=after_step)
    facts |= {"seconds": round(sum(row["seconds"] for row in state.history), 2)}
    try:
        keep(state, facts, folder)
    except OSError:
        checkpoints.give_way()
        try:
            keep(state, facts, folder)
        except OSError as error:
            _unwritten[folder] = state
            raise RunError(
                f"{folder} cannot be written ({reason(error)}); the trained network is in memory: make room, then call "
                "train(config) again in this session, which only writes it"
            ) from error


def longer(config: Config, folder: Path) -> str:
    """What to say where the store holds the same run with fewer epochs: that this one does not go on from there."""
    stem = config.name.removesuffix(config.fingerprint)
    for other in sorted(folder.parent.glob(f"{stem}*/provenance.json")):
        try:
            finished = read(other.parent).config
        except (ValueError, RunError):  # of a version that had other settings, or damaged
            continue
        if finished.epochs < config.epochs and finished.replace(epochs=config.epochs).fingerprint == config.fingerprint:
            return (
                f"The run of {finished.epochs} epochs stays as it is: with {config.epochs} the learning rate falls later, so "
                "this one is trained afresh."
            )
    return ""


def keep(state: State, facts: dict, folder: Path) -> None:
    """Write a trained network."""
    write(folder / "history.csv", lambda path: pd.DataFrame(state.history).to_csv(path, index=False))
    write(folder / "spec.json", lambda path: path.write_text(state.model.spec.to_json(), encoding="utf-8"))
    write(folder / "model.pt", saved(state.result.state_dict()))
    # Last: this file is what makes a run finished.
    write(folder / "provenance.json", lambda path: path.write_text(json.dumps(facts, indent=1), encoding="utf-8"))


def facts_of(config: Config, split: Split) -> dict:
    """The provenance of a run that is about to be trained."""
    device = resolve_device(config.device)
    return {
        "fingerprint": config.fingerprint,
        "subset_fingerprint": split.train.fingerprint,
        "class_counts": dict(zip(split.train.classes, split.train.counts, strict=True)),
        "device": str(device),
        "hardware": hardware(device),
        "versions": provenance.VERSIONS,
        "commit": provenance.commit(),
    }
