"""A run, and what is asked of it: its network, its outcomes, its card; all of it kept in a folder."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import confusion_matrix

from . import cards, checks, estimates, evaluation, features
from .attacks import PGD
from .config import Config
from .data import load_dataset
from .devices import cpu_threads, resolve_device
from .estimates import Plan
from .evaluation import PAPER, STRONG, Damage, Outcomes, Protocol, several
from .images import DataError, ImageDataset, Split, under_represented, which
from .models import Classifier, Spec, adjusted, at_once, load
from .places import absolute
from .progress import REDRAW, tqdm
from .sources import KNOWN, source_hash
from .store import RunError, default_store, locked, reason, told, write, write_if_possible

__all__ = ["Run", "RunError", "default_store", "load_data", "plan", "read"]
SAVE_EVERY = 5.0  # seconds; shorter evaluations are cheaper to repeat than to save


def load_data(config: Config) -> Split:
    """The imbalanced training set and the test set that a config names.

    RunError where the config is of images that are no longer those: one that was read back knows what they were.
    """
    if config.source is not None and source_hash(config.dataset) != config.source:
        raise RunError(
            f"{config.dataset} is no longer what {config.name} speaks of; Config(dataset=…) anew is of what is there now"
        )
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


def plan(config: Config) -> Plan:
    """What a config's training will be made of and, from steps measured here, what it will cost: print it before a long run."""
    return estimates.plan(config, load_data(config))


@dataclass(frozen=True)
class Run:
    """A trained network and what was measured of it; everything is read, or computed and kept, when it is first asked for.

    folder: where it lies.  None: only its numbers are kept: `facts` (the provenance) and, by the protocol's name, `said`
    (outcomes).  tau: τ of the prior that is taken off its logits, see `prior_off`.
    """

    config: Config
    folder: Path | None = None
    facts: Mapping | None = None
    said: dict[str, Outcomes] = field(default_factory=dict)
    tau: float = 0.0

    def prior_off(self, tau: float = 1.0) -> Run:
        """The same run with a post-hoc prior: all that it says is of logits z − τ·ln π; nothing is trained again (Menon et al., 2021).

        π: the training set's shares.  Every attack meets the prior, and `export` hands it on.  A protocol with a τ of its own, as
        in `PAPER.adjusted(0.5)`, is answered with that one.
        """
        return replace(self, tau=PAPER.adjusted(tau).tau)

    def _asked(self, protocol: Protocol) -> Protocol:
        return protocol.adjusted(self.tau) if self.tau and not protocol.tau else protocol

    @property
    def trained(self) -> bool:
        """Whether training is finished; runs read from results/ are."""
        return self.folder is None or (self.folder / "provenance.json").exists()

    def evaluated(self, protocol: Protocol) -> bool:
        """Whether the outcomes under a protocol are there, so that they cost nothing."""
        protocol = self._asked(protocol)
        if self.folder is None:
            return self._said(protocol) is not None
        known = read_outcomes(self.path_of(protocol))
        return known is not None and known.complete

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Under PAPER, tidy: class, group, images, kind ("clean", "robust"), attack, accuracy in percent, predicted."""
        return self.evaluate(PAPER)

    def summary(self, protocol: Protocol = PAPER) -> pd.DataFrame:
        """One row per kind (and attack, where there are several): attack, then overall, balanced, well, under, worst, in percent."""
        return evaluation.summarise(self.metrics if protocol is PAPER else self.evaluate(protocol))

    def evaluate(self, protocol: Protocol, *, progress: bool = False) -> pd.DataFrame:
        """The frame of `evaluation.accuracies` under a protocol; computed once, stored beside the model, resumed per batch."""
        outcomes = self.outcomes(protocol, progress=progress)
        return evaluation.accuracies(outcomes, self.classes, self.rare, union=protocol.union)

    def outcomes(self, protocol: Protocol = PAPER, *, progress: bool = False, wait: bool = True) -> Outcomes:
        """What the network said of each test image under a protocol.  wait: as of `train`."""
        protocol = self._asked(protocol)
        if (known := self._said(protocol)) is not None:
            return known
        path = self.path_of(protocol)
        if (known := read_outcomes(path)) is not None and known.complete:
            return known
        with locked(self.folder, "evaluating", wait):
            known = read_outcomes(path)
            if known is None or not known.complete:
                known = self._attempt(protocol, path, known, progress)
        return known

    def _said(self, protocol: Protocol) -> Outcomes | None:
        """What is held in memory under a protocol; what another of its name said is not that."""
        if (known := self.said.get(protocol.name)) is None:
            return None
        names = [evaluation.CLEAN, *(attack.name for attack in protocol.attacks(self.config))]
        published = {own.name: own for each in (PAPER, STRONG) for own in (each, each.adjusted(protocol.tau))}
        meant = published.get(protocol.name, protocol)
        same = list(known.predictions) == names and meant.key(self.config) == protocol.key(self.config)
        return known if same else None

    def _attempt(self, protocol: Protocol, path: Path, known: Outcomes | None, progress: bool) -> Outcomes:
        attacks = protocol.attacks(self.config)
        tried = self._images(protocol.part)
        model = self.model if protocol.tau == self.tau else adjusted(self.model, self._counts, protocol.tau)
        bar = tqdm(
            total=len(tried) * (1 + len(attacks)), desc=protocol.name, unit="image", disable=not progress, delay=REDRAW
        )
        saved = time.monotonic()

        def save(outcomes: Outcomes) -> None:
            nonlocal saved
            bar.update(sum(int((said != evaluation.TO_DO).sum()) for said in outcomes.predictions.values()) - bar.n)
            if time.monotonic() - saved > SAVE_EVERY:
                write_if_possible(path, outcomes.write, "broken off, the evaluation begins anew")
                saved = time.monotonic()

        with bar, cpu_threads(self.config.model, self.config.threads):
            done = evaluation.attempt(
                model,
                tried,
                attacks,
                union=protocol.union,
                seed=self.config.seed,
                outcomes=known,
                save=save,
            )
        if not write_if_possible(path, done.write, "the evaluation is kept in this session only"):
            self.said[protocol.name] = done
        return done

    def _images(self, part: str) -> ImageDataset:
        if (images := getattr(self.data, part)) is None:
            raise RunError(
                f"{self.config.name} held out no validation images; set validation=0.2, say, and train again"
            )
        return images

    def path_of(self, protocol: Protocol) -> Path:
        """Where the outcomes under a protocol are kept.  RunError for a run without a folder, read from results/."""
        if self.folder is None:
            raise RunError(
                f"of {self.config.name} no outcomes under {protocol.name!r} are kept; train(config) makes the network again"
            )
        return self.folder / "evaluations" / f"{protocol.key(self.config)}.npz"

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per epoch: learning rate, the loss and its terms, training accuracy, share of anchors with a positive, seconds."""
        return pd.read_csv(self._file("history.csv"))

    @cached_property
    def provenance(self) -> Mapping:
        """Versions, hardware, seconds, class counts, subset fingerprint, commit."""
        return self.facts or _settled(self._file("provenance.json"))

    def _file(self, name: str) -> Path:
        if self.folder is None:
            raise RunError(f"of {self.config.name} only its numbers are kept; train(config) makes the rest again")
        return self.folder / name

    @property
    def classes(self) -> list[str]:
        """Their names, in the order of the labels."""
        return list(self.provenance["class_counts"])

    @property
    def rare(self) -> np.ndarray:
        """Which classes are under-represented in the training set, bool [C]."""
        if self.config.rare is not None:
            return which(self.config.rare, self.classes)
        return under_represented(self._counts)

    @property
    def _counts(self) -> list[int]:
        return list(self.provenance["class_counts"].values())

    @cached_property
    def model(self) -> Classifier:
        """The trained network in eval mode and in the precision of its training, on the config's device; no data are needed."""
        model = load(self._file("model.pt").parent, resolve_device(self.config.device))
        model.precision = self.config.precision  # a spec.json of an earlier version does not say it
        return adjusted(model, self._counts, self.tau) if self.tau else model

    @property
    def spec(self) -> Spec:
        """What the network is, apart from its weights."""
        return Spec.from_json(self._file("spec.json").read_text(encoding="utf-8"))

    @cached_property
    def data(self) -> Split:
        """The images.  RunError where they are no longer those that it was trained on."""
        split = load_data(self.config)
        if self.folder is not None and split.train.fingerprint != self.provenance["subset_fingerprint"]:
            known = self.config.dataset in KNOWN  # whose name is all that a run's identity says of the images
            remedy = (
                f"move {self.folder} out of the store, then train(config)"
                if known
                else "train(config) with a new Config"
            )
            raise RunError(
                f"{self.config.dataset} is no longer what {self.config.name} was trained on; {remedy} trains on what is there now"
            )
        return split

    @property
    def collapsed(self) -> bool:
        """Whether the network puts almost all clean test images into one class."""
        return evaluation.is_collapsed(self.metrics)

    @cached_property
    def findings(self) -> list[checks.Finding]:
        """Whether its robustness is real, judged on its test images: see `checks.run`."""
        images, labels = self.data.test.tensors(self.model.device)
        size = at_once(images.shape[2:], 10 * checks.SAMPLE)
        with cpu_threads(self.config.model, self.config.threads):
            return checks.run(
                self.model, images.float() / 255, labels, self.config.evaluation_attack, size=min(checks.SAMPLE, size)
            )

    def features(self, attack: PGD | None = None, part: str = "test") -> np.ndarray:
        """`features.penultimate` of its "test", "train" or "validation" images, as they are or attacked; computed once, stored beside the model."""
        images = self._images(part)
        met = f"{attack} with τ = {self.tau}" if attack and self.tau else attack
        key = hashlib.sha256(f"{met} {images.fingerprint}".encode()).hexdigest()[:8]
        path = self._file("features") / f"{part}-{key}.npy"
        if path.exists():
            with suppress(ValueError, EOFError):  # damaged: computed again
                return np.load(path)
        z = features.penultimate(self.model, images, attack)
        write_if_possible(path, lambda path: path.write_bytes(as_npy(z)), "they are computed again when asked for")
        return z

    def predict(self, images: np.ndarray | str | Path | Sequence[str | Path]) -> tuple[np.ndarray, np.ndarray]:
        """Class names and probabilities of pictures: see `Classifier.predict`."""
        return self.model.predict(images)

    def confusion(self, kind: str = "clean", protocol: Protocol = PAPER) -> pd.DataFrame:
        """Counts of test images, a row a true class, a column a predicted one.  kind: "clean" or "robust" (the worst case)."""
        outcomes = self.outcomes(protocol)
        table = confusion_matrix(
            outcomes.labels, outcomes.of_kind(kind, protocol.union), labels=range(len(self.classes))
        )
        return pd.DataFrame(table, pd.Index(self.classes, name="true"), pd.Index(self.classes, name="predicted"))

    def most_damaging(self, number: int = 8) -> list[Damage]:
        """The attacked test images that hurt most under PAPER: see `evaluation.most_damaging`."""
        outcomes = self.outcomes()
        if outcomes.test != self.data.test.fingerprint:
            raise RunError(
                f"{self.config.name} was tested on other images than {self.config.dataset} has now; remove "
                f"{self.path_of(self._asked(PAPER))}, and it is tested on these"
            )
        right = outcomes.predictions[evaluation.CLEAN] == outcomes.labels
        fallen = np.flatnonzero(right & (outcomes.worst_case(PAPER.union) != outcomes.labels))
        with cpu_threads(self.config.model, self.config.threads):
            return evaluation.most_damaging(self.model, self.data.test, self.config.evaluation_attack, fallen, number)

    def export(
        self,
        folder: str | Path,
        *,
        check: bool = True,
        protocols: Sequence[Protocol] = (PAPER, STRONG),
        progress: bool = False,
    ) -> Path:
        """Write what others need to use the network, the weights first; `load(folder)` reads them back.

        model.pt, spec.json; model.pt2, a program for torch.export.load that needs no code of ours; card.md.
        check: whether the card says if the robustness is real, which costs some 250 gradients for each of 200 test images:
        seconds for the small network, half an hour for ResNet-18 on a CPU.  protocols: whose accuracies a class it has; STRONG
        costs up to 1,100 gradients a test image where it was not measured before.  A program or a card that cannot be made is
        told of and left out.
        """
        protocols = several(protocols)
        folder = absolute(folder)
        if (folder / "provenance.json").exists():
            raise RunError(f"{folder} is the folder of a run, which an export would overwrite; name another folder")
        with told(folder, "make room, or name another folder"):
            folder.mkdir(parents=True, exist_ok=True)
            write(folder / "model.pt", self._write_weights)
            spec = replace(self.spec, precision=self.config.precision).to_json()
            write(folder / "spec.json", lambda path: path.write_text(spec, encoding="utf-8"))
            for of_another in ("model.pt2", "card.md"):  # made anew below, or left out
                (folder / of_another).unlink(missing_ok=True)
        try:
            write(folder / "model.pt2", lambda path: path.write_bytes(program(self.model)))
        except Exception as error:  # exporters fail in ways of their own
            print(
                f"model.pt2 was left out ({reason(error)}); model.pt and spec.json are enough for srat_utils.load",
                file=sys.stderr,
            )
        try:
            text = cards.card(self, protocols, check=check, progress=progress)
        except (DataError, RunError) as error:  # images that are gone
            print(f"card.md was left out ({reason(error)})", file=sys.stderr)
        else:
            write_if_possible(
                folder / "card.md",
                lambda path: path.write_text(text, encoding="utf-8"),
                "the network is exported without it; print(run.card()) shows it",
            )
        return folder

    def _write_weights(self, path: Path) -> None:
        if self.tau:
            torch.save(self.model.state_dict(), path)
        else:
            shutil.copyfile(self._file("model.pt"), path)

    def card(self, *, check: bool = True, protocols: Sequence[Protocol] = (PAPER, STRONG)) -> str:
        """A model card in Markdown: data, accuracies with intervals, what speaks against them, settings."""
        return cards.card(self, several(protocols), check=check)


def as_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def program(model: Classifier) -> bytes:
    """`Classifier.program` as the bytes of a .pt2 file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found in the group")  # of storages that tensors share
        torch.export.save(model.program(), buffer)
    return buffer.getvalue()


def read_outcomes(path: Path) -> Outcomes | None:
    """What is there of an evaluation, or None; a damaged file is set aside, and the evaluation begins anew."""
    if not path.exists():
        return None
    try:
        return Outcomes.read(path)
    except Exception as error:  # numpy, zipfile and zlib each raise their own
        aside = path.with_name(f"{path.stem}-damaged-{time.time_ns()}.npz.aside")
        with suppress(OSError):
            path.replace(aside)
        warnings.warn(
            f"{path} cannot be read ({type(error).__name__}); set aside as {aside.name}, it is computed again",
            stacklevel=2,
        )
        return None


def read(folder: str | Path) -> Run:
    """The run in a folder, without its images or settings at hand."""
    folder = absolute(folder)
    if not (folder / "provenance.json").is_file():
        raise RunError(f"{folder} holds no finished run; name a folder in {default_store()}, or of another store")
    fields = _settled(folder / "config.json")
    return Run(Config.from_dict(fields | {"device": "auto", "threads": None}), folder)


def _settled(path: Path) -> dict:
    """What a finished run has written.  RunError where it is damaged, or gone."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunError(
            f"{path} cannot be read ({reason(error)}); move its folder out of the store, and train(config) makes the run again"
        ) from error
