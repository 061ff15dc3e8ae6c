"""A folder per run: load it if it is finished, resume it if it was interrupted, train it otherwise; and many runs at once."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import joblib
import pandas as pd
import torch
from filelock import FileLock, Timeout
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm.std import tqdm

from . import evaluation
from .config import Config
from .data import Split, load_dataset, under_represented
from .models import Classifier
from .training import State, fit, resolve_device

PROJECT = Path(__file__).resolve().parent.parent
VERSIONS = {"python": platform.python_version()} | {name: version(name) for name in ("torch", "torchvision", "numpy")}
CHECKPOINTS = ("checkpoint.pt", "checkpoint-before.pt")  # newest first
CHECKPOINT_EVERY = 5.0  # seconds; shorter runs are cheaper to repeat than to save


class OutOfTime(RuntimeError):
    """A sweep's time is over; the run that raises it is kept as it is."""


class RunError(RuntimeError):
    """A run that cannot be trained now; the message says why and what to do."""


def default_store() -> Path:
    """$SRAT_RUNS, else runs/ in the project, else runs/ in the working directory where the package is installed without it."""
    if "SRAT_RUNS" in os.environ:
        return Path(os.environ["SRAT_RUNS"])
    return (PROJECT if (PROJECT / "notebooks").is_dir() else Path.cwd()) / "runs"


def load_data(config: Config) -> Split:
    """The imbalanced training set and the test set that a config names."""
    return load_dataset(
        config.dataset,
        imbalance=config.imbalance,
        classes=config.classes,
        seed=config.seed,
        max_per_class=config.max_per_class,
        test_per_class=config.test_per_class,
    )


@dataclass(frozen=True)
class Run:
    """A finished run on disk; everything is read when it is first asked for."""

    config: Config
    folder: Path

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Tidy: class, group ("well" or "under"), images, attack ("clean", "pgd-20"), accuracy in percent, predicted."""
        return pd.read_csv(self.folder / "metrics.csv", dtype={"class": str})

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row an epoch: learning rate, losses, training accuracy, share of anchors with a positive, seconds."""
        return pd.read_csv(self.folder / "history.csv")

    @cached_property
    def provenance(self) -> dict:
        """Versions, hardware, seconds, class counts, subset fingerprint, commit, and whether the run collapsed."""
        return json.loads((self.folder / "provenance.json").read_text())

    @cached_property
    def model(self) -> Classifier:
        """The trained network in eval mode, on the config's device."""
        device = resolve_device(self.config.device)
        state = State.fresh(self.config.replace(compile=False), self.data.train, device)  # not worth the wait here
        state.model.load_state_dict(torch.load(self.folder / "model.pt", map_location=device, weights_only=True))
        return state.model.eval()

    @cached_property
    def data(self) -> Split:
        return load_data(self.config)

    @property
    def collapsed(self) -> bool:
        return self.provenance["collapsed"]

    def summary(self) -> pd.DataFrame:
        """A row an attack: overall, balanced, well, under, worst accuracy in percent."""
        return evaluation.summarise(self.metrics)


def train(
    config: Config,
    *,
    store: Path | None = None,
    progress: bool = True,
    wait: bool = False,
    after_epoch: Callable[[State], None] = lambda state: None,
) -> Run:
    """The run of a config: read back if it is finished, resumed if it was interrupted, else trained.

    store: the folder of runs; None for `default_store()`.  progress: whether to show a bar with loss and epoch time.
    wait: whether to wait for another process that is training the same run, instead of saying so.
    after_epoch: called with the state after each epoch; what it raises stops the run, which a later call resumes.
    Raises RunError when another process is training the same run, TrainingError when the loss is no longer a number.
    """
    folder = Path(store or default_store()) / config.name
    if (folder / "provenance.json").exists():
        return Run(config, folder)
    split = load_data(config)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise RunError(
            f"another process is training {folder}; wait for it, then call train(config) again to read the result"
        ) from None
    try:
        if not (folder / "provenance.json").exists():
            _train(config, split, folder, progress, after_epoch)
    finally:
        lock.release()
    return Run(config, folder)


def _train(config: Config, split: Split, folder: Path, progress: bool, watch: Callable[[State], None]) -> None:
    write(folder / "config.json", lambda path: path.write_text(json.dumps(config.to_dict(), indent=1)))
    state = resume(config, split, folder)
    label = (
        f"{config.imbalance} {config.method} {'adversarial' if config.adversarial else 'natural'} seed {config.seed}"
    )
    bar = tqdm(
        total=config.epochs, initial=len(state.history), desc=label, unit="epoch", disable=not progress, mininterval=0.5
    )
    saved = time.monotonic()

    def after_epoch(state: State) -> None:
        nonlocal saved
        bar.set_postfix(loss=f"{state.history[-1]['loss']:.3f}", refresh=False)
        bar.update()
        if time.monotonic() - saved > CHECKPOINT_EVERY and len(state.history) < config.epochs:
            save_checkpoint(state, folder)
            saved = time.monotonic()
        try:
            watch(state)
        except BaseException:
            save_checkpoint(state, folder)  # stopped on purpose: not one epoch is lost
            raise

    with bar:
        fit(config, split.train, state=state, after_epoch=after_epoch)
    metrics = evaluation.evaluate(state.model.eval(), split.test, [config.evaluation_attack], seed=config.seed)
    under = under_represented(split.train.counts)
    groups = {name: "under" if rare else "well" for name, rare in zip(split.train.classes, under, strict=True)}
    metrics.insert(1, "group", metrics["class"].map(groups))
    write(folder / "history.csv", lambda path: pd.DataFrame(state.history).to_csv(path, index=False))
    write(folder / "metrics.csv", lambda path: metrics.to_csv(path, index=False))
    write(folder / "model.pt", lambda path: torch.save(state.model.state_dict(), path))
    # Last: this file is what makes a run finished.
    facts = provenance(config, split, state, metrics)
    write(folder / "provenance.json", lambda path: path.write_text(json.dumps(facts, indent=1)))
    for leftover in (*folder.glob("checkpoint*.pt"), *folder.glob(".*.part")):
        if "damaged" not in leftover.name:
            leftover.unlink()


def save_checkpoint(state: State, folder: Path) -> None:
    """Write the state, keeping the checkpoint before it in case this one is damaged later."""
    newest, before = (folder / name for name in CHECKPOINTS)
    write(folder / "checkpoint-next.pt", lambda path: torch.save(state.to_dict(), path))
    if newest.exists():
        newest.replace(before)
    (folder / "checkpoint-next.pt").replace(newest)


def resume(config: Config, split: Split, folder: Path) -> State:
    """The state in the folder's newest readable checkpoint, or a fresh one.

    A damaged or foreign checkpoint is set aside, never overwritten, and the one before it is tried.
    """
    device = resolve_device(config.device)
    for name in CHECKPOINTS:
        checkpoint, state = folder / name, State.fresh(config, split.train, device)
        if not checkpoint.exists():
            continue
        try:
            state.load_dict(torch.load(checkpoint, map_location=device, weights_only=True))
            return state
        except Exception as error:  # torch, pickle and zipfile each raise their own
            aside = checkpoint.with_name(f"{checkpoint.stem}-damaged-{time.time_ns()}.pt")
            checkpoint.replace(aside)
            warnings.warn(
                f"{checkpoint} cannot be read ({type(error).__name__}); set aside as {aside.name}, "
                "going on from the checkpoint before it, or afresh",
                stacklevel=2,
            )
    return State.fresh(config, split.train, device)


def write(path: Path, writer: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: beside its place, flushed, then renamed."""
    temporary = path.with_name(f".{path.name}.part")
    writer(temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def hardware(device: torch.device) -> str:
    """The model's name of a GPU or of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    described = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = re.findall(r"^model name\s*: (.+)$", described, flags=re.MULTILINE)
    return names[0] if names else platform.processor() or platform.machine()


def provenance(config: Config, split: Split, state: State, metrics: pd.DataFrame) -> dict:
    device = next(state.model.parameters()).device
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "fingerprint": config.fingerprint,
        "subset_fingerprint": split.train.fingerprint,
        "test_fingerprint": split.test.fingerprint,
        "class_counts": dict(zip(split.train.classes, split.train.counts, strict=True)),
        "collapsed": evaluation.is_collapsed(metrics),
        "seconds": round(sum(row["seconds"] for row in state.history), 2),
        "device": str(device),
        "hardware": hardware(device),
        "versions": VERSIONS,
        "commit": commit or None,
    }


def sweep(
    configs: Iterable[Config],
    jobs: int | None = None,
    *,
    store: Path | None = None,
    progress: bool = True,
    minutes: float | None = None,
    after_run: Callable[[Run], None] = lambda run: None,
) -> list[Run]:
    """The runs of many configs, in their order; what is finished is read back and only the rest is trained.

    jobs: processes at a time; None takes joblib's active `parallel_config` (a Dask cluster, say), else one a core, or one
    in all on a GPU.  The bar shows what is running, the time left and a line for each failure.
    One failed run does not stop the others: after all have ended RunError lists the failures.
    minutes: a limit after which no further epoch begins.  The runs finished by then are returned, and a later call goes on
    with the epoch at which each of the others stopped.  after_run: called here with each run that was just finished.
    """
    configs = list(configs)
    store = Path(store or default_store()).resolve()  # a worker may have another working directory

    def finished(config: Config) -> bool:
        return (store / config.name / "provenance.json").exists()

    missing = {config.name: config for config in configs if not finished(config)}
    if jobs is None and joblib.parallel.get_active_backend()[1] in (None, 1):
        on_gpu = any(resolve_device(config.device).type == "cuda" for config in missing.values())
        jobs = 1 if on_gpu else joblib.cpu_count()
    if jobs is not None:
        jobs = min(jobs, max(1, len(missing)))
    running, failures = [], []
    end = None if minutes is None else time.time() + 60 * minutes  # the wall clock, which processes share
    bar = tqdm(total=len(missing), desc="runs", unit="run", disable=not (progress and missing), mininterval=0.5)

    def show_running() -> None:
        names = ", ".join(name.rpartition("-")[0] for name in running)
        bar.set_postfix_str(f"running: {names}" if names else "")

    def tasks() -> Iterator:
        for name, config in missing.items():  # joblib takes a task when a process is free for it
            if end is not None and time.time() >= end:
                return
            running.append(name)
            show_running()
            yield joblib.delayed(_attempt)(config, store, end)

    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
    with bar:
        try:
            for name, failure in parallel(tasks()):
                if failure:
                    failures.append(f"{name}: {failure}")
                    bar.write(f"failed: {failures[-1]}")
                running.remove(name)
                show_running()
                if finished(missing[name]):
                    after_run(Run(missing[name], store / name))
                if failure or finished(missing[name]):  # not what the end of the time stopped
                    bar.update()
        except TerminatedWorkerError:
            raise RunError(
                "a worker process was killed, often for want of memory; nothing is lost: call sweep again, with fewer jobs"
            ) from None
    if failures:
        raise RunError(f"{len(failures)} of {len(configs)} runs failed; the others are stored. " + "; ".join(failures))
    return [Run(config, store / config.name) for config in configs if finished(config)]


def _attempt(config: Config, store: Path, end: float | None = None) -> tuple[str, str | None]:
    def look_at_the_clock(_state: State | None = None) -> None:
        if end is not None and time.time() >= end:
            raise OutOfTime

    try:
        look_at_the_clock()
        train(config, store=store, progress=False, wait=True, after_epoch=look_at_the_clock)
    except OutOfTime:
        pass
    except Exception as error:  # told to the reader by sweep, after the other runs
        return config.name, f"{type(error).__name__}: {error}"
    return config.name, None


def frame(runs: Iterable[Run], *fields: str, per_class: bool = False) -> pd.DataFrame:
    """One tidy frame of many runs: the named config fields, "collapsed", then summary rows or, per_class, metrics rows."""
    parts = []
    for run in runs:
        part = run.metrics.copy() if per_class else run.summary().reset_index()
        for position, field in enumerate(fields):
            part.insert(position, field, [getattr(run.config, field)] * len(part))
        part.insert(len(fields), "collapsed", run.collapsed)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def environment() -> dict[str, str]:
    """Versions and the device that `device="auto"` picks here."""
    device = resolve_device("auto")
    return VERSIONS | {"device": f"{device} ({hardware(device)}, {os.cpu_count()} cores)"}
