"""What a finished network is worth: protocols of attacks, outcomes per image, accuracies per class in percent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from .attacks import APGD, frozen
from .config import Config
from .images import ImageDataset
from .models import Classifier, at_once
from .records import code_of

BATCH = 512
COLLAPSED_ABOVE = 0.9  # share of clean predictions that one class takes, classes counted alike
CLEAN = "clean"
TO_DO, FALLEN_BEFORE = -2, -1  # in place of a prediction


@dataclass(frozen=True)
class Protocol:
    """A named way to test a network.

    attacks: config → the attacks, in their order; a name of theirs ends in "@" and the budget ε.
    union: whether an image that one of them, or no attack at all, has turned is spared the others of that budget, so that
    "robust" is the worst case over all of them.  Otherwise every attack sees every image.
    part: "test" or "validation", whose images are tried.
    tau: τ of a post-hoc prior, τ·ln π taken off the logits before anything is tried (Menon et al., 2021); see `adjusted`.
    """

    name: str
    attacks: Callable[[Config], Sequence]
    union: bool = False
    part: str = "test"
    tau: float = 0.0

    def __post_init__(self):
        for sign in "-/\\":
            if sign in self.name:
                raise ValueError(f"a protocol's name is a part of file names and has no {sign!r}: {self.name!r}")

    def key(self, config: Config) -> str:
        """A file name for what this protocol computes of a config's network: equal keys, equal numbers."""
        attacks = self.attacks(config)
        used = f"{self.meets(config)} {self.union} {config.test_per_class} {config.seed}"
        used += "".join(map(arrays_of, attacks))
        used += "".join(
            code_of(type(each)) for each in attacks if not type(each).__module__.startswith(f"{__package__}.")
        )
        used += f" {self.tau}" if self.tau else ""
        used += f" {self.part}" if self.part != "test" else ""
        return f"{self.name}-{hashlib.sha256(used.encode()).hexdigest()[:8]}"

    def meets(self, config: Config) -> str:
        """The attacks that a config's network meets, with their settings: equal where accuracies can be compared."""
        attacks = list(self.attacks(config))
        for attack in attacks:
            if type(attack).__repr__ is object.__repr__:
                raise ValueError(
                    f"{type(attack).__name__} needs a __repr__ that gives its settings, as a dataclass has: outcomes are kept under it"
                )
        return repr(attacks)

    def looks(self, config: Config) -> int:
        """How often it looks at an image that stands to the end: the clean pass, and each attack's passes, if it says them."""
        return 1 + sum(getattr(attack, "passes", 0) for attack in self.attacks(config))

    def on_validation(self) -> Protocol:
        """The same on the validation images: what settings are chosen by."""
        return replace(self, name=f"{self.name}_validation", part="validation")

    def adjusted(self, tau: float = 1.0) -> Protocol:
        """The same of the network with the post-hoc prior τ·ln π, π the training set's shares; every attack meets it."""
        if not 0 <= tau < float("inf"):
            raise ValueError(f"tau must be a number of 0 or more, not {tau}")
        if self.tau:
            raise ValueError(f"{self.name!r} takes off a prior already; adjust the protocol that it was made of")
        return replace(self, name=f"{self.name}_tau{np.format_float_positional(tau, trim='-')}", tau=float(tau))


def arrays_of(attack) -> str:
    """A hash of the networks, tensors and arrays among an attack's settings, whose repr says nothing of their values; "" for none."""

    def inside(value) -> Iterator[torch.Tensor]:
        if isinstance(value, torch.nn.Module):
            yield from value.state_dict().values()
        elif isinstance(value, (list, tuple)):
            for part in value:
                yield from inside(part)
        elif isinstance(value, (torch.Tensor, np.ndarray)):
            yield torch.as_tensor(value)

    found = list(inside(list(getattr(attack, "__dict__", {}).values())))
    digest = hashlib.sha256()
    for part in found:
        # As bytes: numpy knows no bfloat16.
        digest.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest() if found else ""


def several(protocols: Sequence[Protocol]) -> tuple[Protocol, ...]:
    """The protocols.  ValueError for one in place of a list."""
    if isinstance(protocols, Protocol):
        raise ValueError(f"protocols is a list of them, as in [{protocols.name.upper()}]")
    return tuple(protocols)


PAPER = Protocol("paper", lambda config: [config.evaluation_attack])
# The paper's attack, then Auto-PGD on cross-entropy and towards the likeliest wrong classes, each on what still stands: what
# AutoAttack's first two attacks find (Croce & Hein, 2020), which is nearly all that it finds.
STRONG = Protocol(
    "strong",
    lambda config: [config.evaluation_attack, APGD(config.eps), APGD(config.eps, loss="targeted")],
    union=True,
)


def budget_of(name: str) -> str:
    """ε in an attack's name, "8/255" in "pgd-20@8/255"."""
    return name.partition("@")[2]


@dataclass
class Outcomes:
    """What a network said of each test image.  test: the set's fingerprint.  labels: int16 [N].

    predictions: "clean" or an attack's name → int16 [N]; −1 where the image had fallen before, −2 where it is still to be tried.
    noise: the state of the attack's random numbers, in the middle of an evaluation.
    """

    test: str
    labels: np.ndarray
    predictions: dict[str, np.ndarray]
    noise: np.ndarray | None = None

    @property
    def complete(self) -> bool:
        return not any((said == TO_DO).any() for said in self.predictions.values())

    def worst(self, names: Sequence[str]) -> np.ndarray:
        """The first wrong prediction among those of `names`, and the label where all are right.  int16 [N]."""
        worst = self.labels.copy()
        for name in reversed(names):
            said = self.predictions[name]
            wrong = (said != self.labels) & (said >= 0)
            worst[wrong] = said[wrong]
        return worst

    def with_budget(self, budget: str) -> list[str]:
        """The attacks that have it, in their order."""
        return [name for name in self.predictions if name != CLEAN and budget_of(name) == budget]

    def robust(self, union: bool) -> dict[str, tuple[list[str], np.ndarray]]:
        """Budget → (the attacks that have it, the worst predictions under them)."""
        budgets = dict.fromkeys(budget_of(name) for name in self.predictions if name != CLEAN)
        clean = [CLEAN] if union else []
        return {b: (self.with_budget(b), self.worst([*clean, *self.with_budget(b)])) for b in budgets}

    def worst_case(self, union: bool) -> np.ndarray:
        """The worst predictions, int16 [N], where all attacks have one budget.  Raises ValueError where they have several."""
        robust = self.robust(union)
        if len(robust) != 1:
            raise ValueError(f"there are outcomes for ε = {', '.join(robust) or 'none'}, not for one budget")
        ((_, said),) = robust.values()
        return said

    def of_kind(self, kind: str, union: bool) -> np.ndarray:
        """What was said, int16 [N]: "clean", or "robust", the worst case.  ValueError for any other kind."""
        if kind not in ("clean", "robust"):
            raise ValueError(f"kind must be 'clean' or 'robust', not {kind!r}")
        return self.predictions[CLEAN] if kind == "clean" else self.worst_case(union)

    def write(self, path: Path) -> None:
        noise = np.array([], np.uint8) if self.noise is None else self.noise
        said = np.stack(list(self.predictions.values()))
        with path.open("wb") as file:  # given a path, NumPy adds an ending of its own
            np.savez_compressed(
                file, test=self.test, labels=self.labels, names=list(self.predictions), predictions=said, noise=noise
            )

    @classmethod
    def read(cls, path: Path) -> Outcomes:
        with np.load(path, allow_pickle=False) as stored:
            predictions = dict(zip(stored["names"].tolist(), stored["predictions"].copy(), strict=True))
            noise = stored["noise"] if len(stored["noise"]) else None
            return cls(str(stored["test"]), stored["labels"], predictions, noise)


def attempt(
    model: Classifier,
    dataset: ImageDataset,
    attacks: Sequence,
    *,
    union: bool = False,
    seed: int = 0,
    outcomes: Outcomes | None = None,
    save: Callable[[Outcomes], None] = lambda outcomes: None,
) -> Outcomes:
    """Try the images as they are and under each attack.

    outcomes: where to go on from; of other images they count for nothing.  save: called with the outcomes after each batch.
    """
    device = next(model.parameters()).device
    images, labels = dataset.tensors(device)
    if outcomes is None or outcomes.test != dataset.fingerprint:
        names = [CLEAN, *(attack.name for attack in attacks)]
        if len(set(names)) < len(names):
            raise ValueError(f"two attacks have one name: {', '.join(names[1:])}")
        blank = {name: np.full(len(dataset), TO_DO, np.int16) for name in names}
        outcomes = Outcomes(dataset.fingerprint, dataset.labels.astype(np.int16), blank)
    tried, broken_off = [], outcomes.noise
    for name, attack in zip(outcomes.predictions, (None, *attacks), strict=True):
        said = outcomes.predictions[name]
        generator = torch.Generator(device).manual_seed(seed)
        if broken_off is not None and (said >= 0).any() and (said == TO_DO).any():
            if len(broken_off) == len(generator.get_state()):
                generator.set_state(torch.from_numpy(broken_off))
            else:  # of another kind of device, whose random numbers cannot go on here: this attack begins anew
                said[said >= 0] = TO_DO
        if union and attack is not None:
            before = [CLEAN, *(other for other in outcomes.with_budget(budget_of(name)) if other in tried)]
            said[(said == TO_DO) & (outcomes.worst(before) != outcomes.labels)] = FALLEN_BEFORE
        tried.append(name)
        if not (said == TO_DO).any():
            continue
        for index in torch.from_numpy(np.flatnonzero(said == TO_DO)).to(device).split(at_once(images.shape[2:], BATCH)):
            x, y = images[index].float() / 255, labels[index]
            if attack is not None:
                x = attack(model, x, y, generator=generator)
            with torch.no_grad(), frozen(model):
                said[index.cpu().numpy()] = model(x).argmax(1).cpu().numpy()
            outcomes.noise = generator.get_state().numpy()
            save(outcomes)
    outcomes.noise = None
    return outcomes


def accuracies(
    outcomes: Outcomes, classes: Sequence[str], rare: Sequence[bool], *, union: bool = False
) -> pd.DataFrame:
    """Tidy frame, a row for each class, kind and attack.

    Columns: class; group, "under" where rare, else "well"; images; kind; attack; accuracy, in percent of the class's own images;
    predicted, the images of any class that the network put into this one.
    kind "clean": the images as they are.  kind "robust": the worst case over all attacks of one budget; two budgets are two
    attacks.  kind "attack": each of several attacks of one budget on its own, or with union up to and including it.
    """
    parts = [("clean", CLEAN, outcomes.predictions[CLEAN])]
    for budget, (names, worst) in outcomes.robust(union).items():
        alone = len(names) == 1
        parts.append(("robust", names[0] if alone else f"{len(names)} attacks@{budget}", worst))
        for number, name in enumerate([] if alone else names, 1):
            said = outcomes.worst([CLEAN, *names[:number]]) if union else outcomes.predictions[name]
            parts.append(("attack", name, said))
    rows = []
    for kind, attack, said in parts:
        for index, name in enumerate(classes):
            own = outcomes.labels == index
            accuracy = 100 * (said[own] == index).mean() if own.any() else np.nan
            group = "under" if rare[index] else "well"
            rows.append((name, group, int(own.sum()), kind, attack, accuracy, int((said == index).sum())))
    return pd.DataFrame(rows, columns=["class", "group", "images", "kind", "attack", "accuracy", "predicted"])


def evaluate(
    model: Classifier, dataset: ImageDataset, attacks: Sequence, *, rare: Sequence[bool] | None = None, seed: int = 0
) -> pd.DataFrame:
    """The frame of `accuracies` for a network on a data set; every attack sees every image.  rare: bool [C], default none."""
    rare = np.zeros(len(dataset.classes), bool) if rare is None else rare
    return accuracies(attempt(model, dataset, attacks, seed=seed), dataset.classes, rare)


def of_kind(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The clean or the robust rows of `accuracies` or of a frame made from it: what pictures and tables show.

    Raises ValueError where robust rows of two budgets would be mixed.
    """
    chosen = rows[rows["kind"] == kind]
    budgets = sorted({budget_of(name) for name in chosen["attack"]})
    if len(budgets) > 1:
        raise ValueError(f"there are robust accuracies for ε = {', '.join(budgets)}; keep the rows of one of them")
    return chosen


class Damage(NamedTuple):
    """A test image that an attack turned.  image, attacked: float [C,H,W] in [0,1].  index: its position in the test set.

    before, after: what the network says of the two.  fall: by how much the true class's probability fell, 0 to 1.
    """

    index: int
    image: np.ndarray
    attacked: np.ndarray
    true: str
    before: str
    after: str
    fall: float


def most_damaging(model: Classifier, dataset: ImageDataset, attack, fallen: np.ndarray, number: int) -> list[Damage]:
    """The attacked images whose true class lost most of its probability, worst first.

    fallen: int64 [M], positions of the images to attack anew; of more than one batch, a batch spread evenly over them.
    """
    if len(fallen) == 0:
        return []
    fallen = fallen[:: -(-len(fallen) // at_once(dataset.images.shape[1:3], BATCH))]
    device = next(model.parameters()).device
    images, y = dataset.subset(fallen).tensors(device)
    x = images.float() / 255
    x_adv = attack(model, x, y, generator=torch.Generator(device).manual_seed(0))
    with torch.no_grad(), frozen(model):
        p, p_adv = (model(each).softmax(1).cpu() for each in (x, x_adv))
    y = y.cpu()
    fall = (p.gather(1, y[:, None]) - p_adv.gather(1, y[:, None])).squeeze(1)
    said = p_adv.argmax(1)
    order = [i for i in fall.argsort(descending=True, stable=True).tolist() if said[i] != y[i]][:number]
    name = dataset.classes
    return [
        Damage(
            int(fallen[i]), x[i].cpu().numpy(), x_adv[i].cpu().numpy(), name[y[i]], name[p[i].argmax()], name[said[i]],
            float(fall[i]),
        )
        for i in order
    ]  # fmt: skip


def summarise(metrics: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """One row per kind and attack: overall (per image), balanced (mean over classes), well, under (means over the group), worst class.

    metrics: `accuracies`' frame, or several under each other that the columns `by` tell apart.  Index: by, then kind.
    """
    keys = [*by, "kind", "attack"]
    rows = metrics.assign(right=metrics["accuracy"] * metrics["images"])
    grouped = rows.groupby(keys, sort=False)
    sums, accuracy = grouped[["right", "images"]].sum(), grouped["accuracy"]
    summary = pd.DataFrame(
        {"overall": sums["right"] / sums["images"], "balanced": accuracy.mean(), "well": np.nan, "under": np.nan}
    )
    for group in ("well", "under"):
        own = rows[rows["group"] == group]
        if len(own):
            summary[group] = own.groupby(keys, sort=False)["accuracy"].mean().reindex(summary.index)
    return summary.assign(worst=accuracy.min()).reset_index("attack")


def is_collapsed(metrics: pd.DataFrame) -> bool:
    """Whether one class takes almost all clean predictions: such a run is reported, never averaged in silently.

    Classes count alike, as if the test set were balanced: a network that is right on a set of 95 to 5 has not collapsed.
    """
    clean = metrics[(metrics["kind"] == "clean") & (metrics["images"] > 0)]
    right = clean["accuracy"] / 100
    others = (clean["predicted"] - right * clean["images"]) / (clean["images"].sum() - clean["images"]).clip(lower=1)
    share = (right + (len(clean) - 1) * others) / len(clean)
    return bool(share.max() > COLLAPSED_ABOVE + 1e-9)
