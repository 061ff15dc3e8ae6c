"""Many runs at once, and one tidy frame of them."""

from __future__ import annotations

import io
import multiprocessing
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout, suppress
from pathlib import Path

import joblib
import pandas as pd

from . import estimates, evaluation
from .config import Config
from .devices import resolve_device
from .evaluation import PAPER, Protocol, several
from .images import DataError
from .places import absolute
from .progress import redrawn, tell, tqdm
from .runs import Run, load_data
from .sources import at_hand, load_source
from .store import RunError, default_store, folder_of
from .trainer import train
from .training import State

KILLED = ("TerminatedWorkerError", "BrokenProcessPool", "KilledWorker")  # loky's words for it, and Dask's
NAMED = 5  # runs that failed for one reason
SECOND = 1.0  # between two looks at how far the runs are
EPOCHS = ".epochs.part"  # in a run's folder while it is trained: how many are over; `train` removes it at the end
Task = tuple[str, ...]  # a folder's name, and the protocols' keys


class OutOfTime(RuntimeError):
    """A sweep's time is over; the run that raises it is kept as it is."""


def sweep(
    configs: Iterable[Config],
    jobs: int | None = None,
    *,
    store: Path | None = None,
    progress: bool = True,
    minutes: float | None = None,
    protocols: Sequence[Protocol] = (PAPER,),
    after_run: Callable[[Run], None] = lambda run: None,
) -> list[Run]:
    """The runs of many configs, in their order; what is finished is read back and only the rest is trained.

    jobs: processes at a time; None takes joblib's active `parallel_config` (a Dask cluster, say), else one per core, or one
    in all on a GPU.  The bar shows what is running, the time left and a line for each failure.
    One failed run does not stop the others: after all have ended RunError lists the failures.
    minutes: a limit after which no further epoch begins.  The runs finished by then are returned, and a later call goes on
    with the epoch at which each of the others stopped.  protocols: what each network is tested under.
    after_run: called here with each run that was just finished.  store: the folder of the runs; None: `store.default_store()`.
    progress: whether the bar is shown.
    """
    protocols = several(protocols)
    store = absolute(store or default_store())  # a worker may have another working directory
    # Once: of own images, the name of a run takes a look at every file.
    asked = [Run(config, folder_of(config, store)) for config in configs]

    def finished(run: Run) -> bool:
        return kept(run, protocols)

    # Two configs that differ only in their tests share a folder, and are two tasks.
    missing: dict[Task, Run] = {
        (run.folder.name, *(protocol.key(run.config) for protocol in protocols)): run
        for run in asked
        if not finished(run)
    }
    here = joblib.parallel.get_active_backend()[1] is None  # elsewhere workers may have images that this machine lacks
    lost = unreadable(run.config.dataset for run in missing.values()) if here else {}
    failures = {
        task[0]: f"DataError: {lost[run.config.dataset]}" for task, run in missing.items() if run.config.dataset in lost
    }
    missing = {task: run for task, run in missing.items() if run.config.dataset not in lost}
    if jobs is None and here:
        on_gpu = any(resolve_device(run.config.device).type == "cuda" for run in missing.values())
        jobs = 1 if on_gpu else joblib.cpu_count()
    if jobs is not None:
        jobs = min(joblib.effective_n_jobs(jobs), max(1, len(missing)))
    if progress and missing:
        seconds = time_of(missing.values(), protocols) / (jobs or 1)
        if seconds >= estimates.LONG:
            at_once = f", {jobs} at a time" if jobs and jobs > 1 else ""
            where = "on this machine" if jobs else "on one worker like this machine"
            tell(f"{len(missing)} runs to train: about {estimates.duration(seconds)} {where}{at_once}.")
    running, over = [], set()
    end = None if minutes is None else time.time() + 60 * minutes  # the wall clock, which processes share
    epochs = sum(run.config.epochs for run in missing.values())
    bar = tqdm(total=epochs, unit="epoch", disable=not (progress and missing), mininterval=0.5)

    def reached() -> int:
        return sum(missing[task].config.epochs for task in over) + sum(epochs_of(missing[task]) for task in [*running])

    def show_running() -> None:
        names = ", ".join(name.rpartition("-")[0] for name, *_ in running)
        bar.n = reached()
        bar.set_description_str(f"{len(over)} of {len(missing)} runs", refresh=False)
        bar.set_postfix_str(f"running: {names}" if names else "")

    def tasks() -> Iterator:
        for task, run in missing.items():  # joblib takes a task when a process is free for it
            if end is not None and time.time() >= end:
                return
            running.append(task)
            show_running()
            yield joblib.delayed(_attempt)(task, run.config, run.folder, protocols, end)

    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
    with bar, redrawn(bar, SECOND, reached):
        try:
            for task, failure in parallel(tasks()):
                if failure:
                    failures[task[0]] = failure
                    bar.write(f"failed: {task[0]}: {failure}")
                if finished(missing[task]):
                    after_run(missing[task])
                running.remove(task)
                if failure or finished(missing[task]):  # not what the end of the time stopped
                    over.add(task)
                show_running()
        except Exception as error:
            if type(error).__name__ not in KILLED:
                raise
            raise RunError(
                "a worker process was killed, often for want of memory; nothing is lost: call sweep again, with fewer jobs"
            ) from None
    if failures:
        raise RunError(failed(failures, len({run.folder.name for run in asked})))
    return [run for run in asked if finished(run)]


def kept(run: Run, protocols: Sequence[Protocol]) -> bool:
    """Whether the run's network and its outcomes under the protocols are on disk."""
    return run.trained and all(run.evaluated(protocol) for protocol in protocols)


def unreadable(names: Iterable[str]) -> dict[str, str]:
    """Data sets that are not here and cannot be downloaded → why; each is tried once, not by every run that needs it."""
    why = {}
    for name in dict.fromkeys(names):
        try:
            if not at_hand(name):
                load_source(name)
        except DataError as problem:
            why[name] = str(problem)
    return why


def time_of(missing: Iterable[Run], protocols: Sequence[Protocol]) -> float:
    """Seconds of what is missing of runs, one after the other on this machine; tests at their longest.

    A step is measured once for all that differ in method and counts alone.
    """
    known: dict[tuple, estimates.Cost] = {}
    seconds = 0.0
    for run in missing:
        config, trained = run.config, run.trained
        looks = sum(each.looks(config) for each in protocols if not (trained and run.evaluated(each)))
        alike = config.network, config.attack_steps, config.adversarial, config.batch_size, config.dataset, config.size
        try:
            one = estimates.plan(config, load_data(config), known.get(alike))
        except (ValueError, RuntimeError):  # it will be told of when its turn comes
            continue
        known[alike] = one.cost
        seconds += (not trained) * one.training + one.looking(looks)
    return seconds


def epochs_of(run: Run) -> int:
    """How many of a run's epochs are over, wherever it is trained."""
    if run.trained:
        return run.config.epochs
    try:
        return int((run.folder / EPOCHS).read_text())
    except (OSError, ValueError):  # none is, or the number is just being written
        return 0


def failed(failures: Mapping[str, str], total: int) -> str:
    """Name → why, in one line: a reason that many runs share is said once."""
    by_reason: dict[str, list[str]] = {}
    for name, why in failures.items():
        alike = re.sub(rf"\S*[/\\]{re.escape(name)}", "its folder", why).replace(name, "the run")
        by_reason.setdefault(alike, []).append(name)
    reasons = [
        f"{', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' * (len(names) > NAMED)}: {why}"
        for why, names in by_reason.items()
    ]
    others = "all runs" if len(failures) == total else f"{len(failures)} of {total} runs"
    stored = "" if len(failures) == total else "; the others are stored"
    return f"{others} failed{stored}. {'; '.join(reasons)}"


def _attempt(
    task: Task, config: Config, folder: Path, protocols: Sequence[Protocol], end: float | None = None
) -> tuple[Task, str | None]:
    def look_at_the_clock(state: State | None = None) -> None:
        if state:
            with suppress(OSError):  # an ornament
                (folder / EPOCHS).write_text(str(len(state.history)))
        if end is not None and time.time() >= end:
            raise OutOfTime

    try:
        look_at_the_clock()
        with said_before():
            run = train(config, store=folder.parent, progress=False, protocols=protocols, after_epoch=look_at_the_clock)
        if run.folder != folder:
            why = "this process sees another method than the one that asked; call sweep with jobs=1"
            return task, f"trained as {run.folder.name}: {why}"
        if not kept(run, protocols):
            return task, f"its outcomes could not be kept in {run.folder}; make room there, or name another store"
    except OutOfTime:
        pass
    except Exception as error:  # told to the reader by sweep, after the other runs
        return task, f"{type(error).__name__}: {error}"
    return task, None


def said_before() -> AbstractContextManager:
    """What the reading of images says, each worker process would say again."""
    return nullcontext() if multiprocessing.parent_process() is None else redirect_stdout(io.StringIO())


def tidy(
    runs: Iterable[Run],
    *settings: str,
    per_class: bool = False,
    protocol: Protocol = PAPER,
    beside: Protocol | None = None,
) -> pd.DataFrame:
    """One frame of many runs: the named settings, "collapsed", then under the protocol summary rows or, per_class, metrics rows.

    beside: a second protocol, whose robust accuracy is added under its own name as the kind ("strong" for STRONG).
    Raises ValueError without any run.
    """
    if not (runs := list(runs)):
        raise ValueError("there is no run to make a frame of; train some, or look why none was stored")
    parts, collapsed = [], []
    for number, run in enumerate(runs):
        parts.append(run.evaluate(protocol).assign(run=number))
        collapsed.append(evaluation.is_collapsed(parts[-1]))
        if beside is not None:
            harder = evaluation.of_kind(run.evaluate(beside), "robust")
            parts.append(harder.assign(kind=beside.name, run=number))
    frame = pd.concat(parts, ignore_index=True)
    if not per_class:
        frame = evaluation.summarise(frame, ["run"]).reset_index()
    number = frame.pop("run")
    about = {name: [getattr(run.config, name) for run in runs] for name in settings}
    for position, (name, values) in enumerate((about | {"collapsed": collapsed}).items()):
        frame.insert(position, name, [values[i] for i in number])
    return frame
