"""A folder per run: read it if it is finished, resume it if it was interrupted, train it otherwise."""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from tqdm.std import tqdm

from . import checks, evaluation, provenance
from .config import Config
from .data import load_dataset
from .evaluation import PAPER, Outcomes, Protocol
from .images import DataError, Split, under_represented
from .models import Classifier, cpu_threads, load
from .sources import at_hand
from .training import State, fit, resolve_device

CHECKPOINTS = ("checkpoint.pt", "checkpoint-before.pt")  # newest first
SAVE_EVERY = 5.0  # seconds; shorter runs and evaluations are cheaper to repeat than to save


class RunError(RuntimeError):
    """A run that cannot be trained or read now; the message says why and what to do."""


def default_store() -> Path:
    """$SRAT_RUNS, else runs/ in the project, else runs/ in the working directory where the package is installed without it."""
    if "SRAT_RUNS" in os.environ:
        return Path(os.environ["SRAT_RUNS"]).expanduser()
    return (provenance.PROJECT if provenance.CHECKOUT else Path.cwd()) / "runs"


def load_data(config: Config) -> Split:
    """The imbalanced training set and the test set that a config names."""
    return load_dataset(
        config.dataset,
        imbalance=config.imbalance,
        classes=config.classes,
        seed=config.seed,
        max_per_class=config.max_per_class,
        test_per_class=config.test_per_class,
        size=config.size,
        validation=config.validation,
        rare=config.rare,
    )


@dataclass(frozen=True)
class Run:
    """A trained network and what was measured of it; everything is read, or computed and kept, when it is first asked for.

    folder: where it lies.  None: only its numbers are kept: `facts` (the provenance) and, by the protocol's name, `frames`
    (metrics) or `said` (outcomes).
    """

    config: Config
    folder: Path | None = None
    facts: Mapping | None = None
    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    said: Mapping[str, Outcomes] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        return self.folder is None or (self.folder / "provenance.json").exists()

    def evaluated(self, protocol: Protocol) -> bool:
        if self.folder is None:
            return protocol.name in {**self.frames, **self.said}
        path = self.path_of(protocol)
        return path.exists() and Outcomes.read(path).complete

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Under PAPER, tidy: class, group, images, kind ("clean", "robust"), attack, accuracy in percent, predicted."""
        return self.evaluate(PAPER)

    def summary(self, protocol: Protocol = PAPER) -> pd.DataFrame:
        """A row a kind: attack, then overall, balanced, well, under, worst accuracy in percent."""
        return evaluation.summarise(self.metrics if protocol is PAPER else self.evaluate(protocol))

    def evaluate(self, protocol: Protocol, *, progress: bool = False) -> pd.DataFrame:
        """The frame of `evaluation.accuracies` under a protocol; computed once, stored beside the model, resumed per batch."""
        if protocol.name in self.frames:
            return self.frames[protocol.name]
        outcomes = self.outcomes(protocol, progress=progress)
        return evaluation.accuracies(outcomes, self.classes, self.rare, union=protocol.union)

    def outcomes(self, protocol: Protocol = PAPER, *, progress: bool = False) -> Outcomes:
        """What the network said of each test image under a protocol."""
        if protocol.name in self.said:
            return self.said[protocol.name]
        path = self.path_of(protocol)
        if path.exists() and (known := Outcomes.read(path)).complete:
            return known
        path.parent.mkdir(exist_ok=True)
        with FileLock(self.folder / ".lock"):
            known = Outcomes.read(path) if path.exists() else None
            if known is None or not known.complete:
                known = self._attempt(protocol, path, known, progress)
        return known

    def _attempt(self, protocol: Protocol, path: Path, known: Outcomes | None, progress: bool) -> Outcomes:
        attacks, saved = protocol.attacks(self.config), time.monotonic()
        tried = getattr(self.data, protocol.part)
        if tried is None:
            raise RunError(f"{self.config.name} held out no validation images; set validation=0.2, say, and train again")
        bar = tqdm(total=len(tried) * (1 + len(attacks)), desc=protocol.name, unit="image", disable=not progress)

        def save(outcomes: Outcomes) -> None:
            nonlocal saved
            bar.update(sum(int((said != evaluation.TO_DO).sum()) for said in outcomes.predictions.values()) - bar.n)
            if time.monotonic() - saved > SAVE_EVERY:
                write(path, outcomes.write)
                saved = time.monotonic()

        with bar, cpu_threads(self.config.model, self.config.threads):
            done = evaluation.attempt(
                self.model,
                tried,
                attacks,
                union=protocol.union,
                seed=self.config.seed,
                outcomes=known,
                save=save,
            )
        write(path, done.write)
        return done

    def path_of(self, protocol: Protocol) -> Path:
        if self.folder is None:
            raise RunError(
                f"of {self.config.name} no outcomes under {protocol.name!r} are kept; train(config) makes the network again"
            )
        return self.folder / "evaluations" / f"{protocol.key(self.config)}.npz"

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row an epoch: learning rate, the loss and its terms, training accuracy, share of anchors with a positive, seconds."""
        return pd.read_csv(self._file("history.csv"))

    @cached_property
    def provenance(self) -> Mapping:
        """Versions, hardware, seconds, class counts, subset fingerprint, commit."""
        return self.facts or json.loads(self._file("provenance.json").read_text(encoding="utf-8"))

    def _file(self, name: str) -> Path:
        if self.folder is None:
            raise RunError(f"of {self.config.name} only its numbers are kept; train(config) makes the rest again")
        return self.folder / name

    @property
    def classes(self) -> list[str]:
        return list(self.provenance["class_counts"])

    @property
    def rare(self) -> np.ndarray:
        """Which classes are under-represented in the training set, bool [C]."""
        if self.config.rare is not None:
            return np.array([name in self.config.rare for name in self.classes])
        return under_represented(list(self.provenance["class_counts"].values()))

    @cached_property
    def model(self) -> Classifier:
        """The trained network in eval mode, on the config's device; its data are not needed."""
        return load(self._file("model.pt").parent, resolve_device(self.config.device))

    @cached_property
    def data(self) -> Split:
        return load_data(self.config)

    @property
    def collapsed(self) -> bool:
        """Whether the network puts almost all clean test images into one class."""
        return evaluation.is_collapsed(self.metrics)

    @cached_property
    def findings(self) -> list[checks.Finding]:
        """Whether its robustness is real, judged on its test images: see `checks.run`."""
        images, labels = self.data.test.tensors(next(self.model.parameters()).device)
        with cpu_threads(self.config.model, self.config.threads):
            return checks.run(self.model, images.float() / 255, labels, self.config.evaluation_attack)

    def predict(self, images: np.ndarray | Sequence[str | Path]) -> tuple[np.ndarray, np.ndarray]:
        """Class names and probabilities of pictures: see `Classifier.predict`."""
        return self.model.predict(images)

    def confusion(self, kind: str = "clean", protocol: Protocol = PAPER) -> pd.DataFrame:
        """Counts of test images, a row a true class, a column a predicted one.  kind: "clean" or "robust" (the worst case)."""
        outcomes = self.outcomes(protocol)
        if kind not in ("clean", "robust"):
            raise ValueError(f"kind must be 'clean' or 'robust', not {kind!r}")
        said = outcomes.predictions[evaluation.CLEAN] if kind == "clean" else outcomes.worst_case(protocol.union)
        table = np.zeros((len(self.classes),) * 2, int)
        np.add.at(table, (outcomes.labels, said), 1)
        return pd.DataFrame(table, pd.Index(self.classes, name="true"), pd.Index(self.classes, name="predicted"))

    def export(self, folder: str | Path, *, check: bool = True) -> Path:
        """Write what others need to use the network: model.pt, spec.json and card.md; `load(folder)` reads them back.

        check: whether the card says if the robustness is real, which costs some 250 gradients for each of 200 test images:
        seconds for the small network, half an hour for ResNet-18 on a CPU.
        """
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("model.pt", "spec.json"):
            write(folder / name, lambda path, name=name: shutil.copyfile(self._file(name), path))
        write(folder / "card.md", lambda path: path.write_text(self.card(check=check), encoding="utf-8"))
        return folder

    def card(self, *, check: bool = True) -> str:
        """A model card in Markdown: data, accuracies, what speaks against them, settings."""
        counts = ", ".join(f"{name} {number}" for name, number in self.provenance["class_counts"].items())
        settings = "\n".join(f"- {name}: {value}" for name, value in self.config.to_dict().items() if value is not None)
        clean = evaluation.of_kind(self.metrics, "clean")
        rows = self.summary().round(1).reset_index()
        table = [
            " | ".join(rows),
            " | ".join("-" for _ in rows),
            *(" | ".join(map(str, row)) for row in rows.to_numpy()),
        ]
        lines = "\n".join(f"| {line} |" for line in table)
        return (
            f"# {self.config.name}\n\nTraining images a class: {counts}.\n\n## Accuracy on {clean['images'].sum()} test images, "
            f"percent\n\n{lines}\n\n## Is this robustness real?\n\n{self._judged(check)}\n\n## Settings\n\n{settings}\n"
        )

    def _judged(self, check: bool) -> str:
        """The findings as a table, or why there are none."""
        if not check:
            return "Not checked."
        if self.folder is None:
            return "Not checked: only the numbers of this run are kept."
        try:
            if not at_hand(self.config.dataset):
                return f"Not checked: the images of {self.config.dataset} are not on this machine."
            return checks.table(self.findings)
        except DataError as problem:
            return f"Not checked: {problem}."


def train(
    config: Config,
    *,
    store: Path | None = None,
    progress: bool = True,
    wait: bool = False,
    protocols: Sequence[Protocol] = (PAPER,),
    after_epoch: Callable[[State], None] = lambda state: None,
) -> Run:
    """The run of a config: read back if it is finished, resumed if it was interrupted, else trained; then evaluated.

    store: the folder of runs; None for `default_store()`.  progress: whether to show a bar with loss and epoch time.
    wait: whether to wait for another process that is training the same run, instead of saying so.
    after_epoch: called with the state after each epoch; what it raises stops the run, which a later call resumes.
    Raises RunError when another process is training the same run, TrainingError when the loss is no longer a number.
    """
    run = Run(config, Path(store or default_store()).expanduser() / config.name)
    if not run.trained:
        split = load_data(config)
        run.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run.folder / ".lock")
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            raise RunError(
                f"another process is training {run.folder}; wait for it, then call train(config) again to read the result"
            ) from None
        try:
            if not run.trained:
                _train(config, split, run.folder, progress, after_epoch)
        finally:
            lock.release()
    for leftover in (*run.folder.glob("checkpoint*.pt"), *run.folder.glob(".*.part")):
        if "damaged" not in leftover.name:
            leftover.unlink(missing_ok=True)
    for protocol in protocols:
        run.outcomes(protocol, progress=progress and protocol is not PAPER)
    return run


def _train(config: Config, split: Split, folder: Path, progress: bool, watch: Callable[[State], None]) -> None:
    write(
        folder / "config.json", lambda path: path.write_text(json.dumps(config.to_dict(), indent=1), encoding="utf-8")
    )
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
        if time.monotonic() - saved > SAVE_EVERY and len(state.history) < config.epochs:
            save_checkpoint(state, folder)
            saved = time.monotonic()
        try:
            watch(state)
        except BaseException:
            save_checkpoint(state, folder)  # stopped on purpose: not one epoch is lost
            raise

    with bar:
        fit(config, split.train, state=state, after_epoch=after_epoch)
    write(folder / "history.csv", lambda path: pd.DataFrame(state.history).to_csv(path, index=False))
    write(folder / "spec.json", lambda path: path.write_text(state.model.spec.to_json(), encoding="utf-8"))
    write(folder / "model.pt", lambda path: torch.save(state.model.state_dict(), path))
    # Last: this file is what makes a run finished.
    facts = facts_of(config, split, state)
    write(folder / "provenance.json", lambda path: path.write_text(json.dumps(facts, indent=1), encoding="utf-8"))


def facts_of(config: Config, split: Split, state: State) -> dict:
    """The provenance of a run that was just trained."""
    device = next(state.model.parameters()).device
    return {
        "fingerprint": config.fingerprint,
        "subset_fingerprint": split.train.fingerprint,
        "class_counts": dict(zip(split.train.classes, split.train.counts, strict=True)),
        "seconds": round(sum(row["seconds"] for row in state.history), 2),
        "device": str(device),
        "hardware": provenance.hardware(device),
        "versions": provenance.VERSIONS,
        "commit": provenance.commit(),
    }


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
        checkpoint = folder / name
        if not checkpoint.exists():
            continue
        state = State.fresh(config, split.train, device)
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
