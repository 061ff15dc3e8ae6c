"""Config: everything a run's result depends on, in one frozen and validated place."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import numbers
from dataclasses import dataclass

import numpy as np

from . import data, sources
from .attacks import Attack
from .methods import METHODS
from .models import ARCHITECTURES

# What each data set changes.  CIFAR-10 and SVHN: section 5.1 of the paper and LDAM-DRW's batch of 128.  Digits: some five
# hundred images make too few steps for that schedule, so batches are smaller and the late learning rate falls by 10, not by
# 100; λ = 1 costs SRAT-CE accuracy there (notebook 05 shows the sweep).  Anything else is your own images.
PAPER = {
    "model": "resnet18",
    "epochs": 200,
    "eps": 8 / 255,
    "batch_size": 128,
    "lr_decay": 0.01,
    "separation_weight": 1.0,
}
SMALL = {"model": "small-cnn", "epochs": 40, "batch_size": 32, "lr_decay": 0.1, "separation_weight": 0.3}
PRESETS: dict[str, dict] = {
    "digits": SMALL | {"eps": 0.2, "step": 0.05, "augmentation": "none"},
    "cifar10": PAPER | {"step": 2 / 255, "augmentation": "crop+flip"},
    "svhn": PAPER | {"step": 1 / 255, "augmentation": "none"},
    "your images": SMALL | {"eps": 8 / 255, "step": 2 / 255, "augmentation": "none"},
}

# The course's three speeds.  On a CPU, CIFAR-10 and SVHN are cut down to what a laptop can train: a look at the cells, not
# at the paper's numbers.
MODES: dict[str, dict] = {
    "quick": {
        "seeds": 1,
        "digits": {"epochs": 3},
        "images": {"epochs": 2, "model": "small-cnn", "max_per_class": 100, "test_per_class": 10},
    },
    "laptop": {
        "seeds": 3,
        "digits": {},
        "images": {"epochs": 20, "model": "small-cnn", "max_per_class": 500, "test_per_class": 100},
    },
    "paper": {"seeds": 3, "digits": {}, "images": {}},
}
# (Step, Exp) × two ratios: the paper's, and what some hundred digits a class allow.
IMBALANCES = {
    "digits": ("step-10", "step-25", "exp-10", "exp-25"),
    "paper": ("step-10", "step-100", "exp-10", "exp-100"),
}

CHOICES = {
    "model": tuple(ARCHITECTURES),
    "augmentation": ("none", "crop", "crop+flip"),
    "attack_loss": ("cross-entropy", "method"),
    "attack_batch_norm": ("eval", "train"),
    "attack_start": ("uniform", "zero"),
    "reduction": ("weighted", "mean"),
    "lonely_anchors": ("zero", "drop"),
    "ldam_scale_in": ("model", "loss"),
    "precision": ("float32", "bf16"),
}
# Fields younger than the first stored results: at their defaults they leave a fingerprint as it was.
ADDED_LATER = ("precision", "compile")
AT_LEAST_ZERO = (
    "seed",
    "separation_weight", "eps", "step", "attack_steps", "evaluation_steps", "eps_warmup_epochs", "warmup_epochs", "momentum",
    "weight_decay", "focal_gamma", "max_margin",
)  # fmt: skip
ABOVE_ZERO = (
    "epochs", "batch_size", "learning_rate", "lr_decay", "temperature", "ldam_scale", "weight_ratio", "max_per_class",
    "test_per_class", "projection", "threads",
)  # fmt: skip


class ConfigError(ValueError):
    """A setting that cannot be run; the message says which and what would do."""


@dataclass(frozen=True)
class Config:
    """One training run.  Equal configs give equal results on the CPU, bit for bit.

    Fields left at None whose comment names the preset take the data set's value from PRESETS.
    """

    dataset: str = "digits"  # "digits", "cifar10", "svhn", or the path of your own images
    imbalance: str = "step-25"  # "step-K", "exp-K", "balanced", "none"; see data.class_counts
    method: str = "SRAT-CE"  # a row of METHODS
    adversarial: bool = True
    epochs: int | None = None  # T; preset
    seed: int = 0  # decides subset, initial weights, order, augmentation and random starts
    separation_weight: float | None = None  # λ, for methods with a separation loss; preset
    weight_ratio: float | None = None  # a plain under:well ratio instead of class-balanced weights
    classes: tuple[str, ...] | None = None  # (well-represented, under-represented) for the binary study
    max_per_class: int | None = None  # at most so many training images a class, for trial runs
    test_per_class: int | None = None  # a test sample of so many a class, for trial runs

    model: str | None = None  # preset
    augmentation: str | None = None  # preset
    eps: float | None = None  # ε; preset
    step: float | None = None  # the attack's step size; preset
    attack_steps: int = 10
    evaluation_steps: int = 20
    attack_start: str = "uniform"
    attack_loss: str = (
        "cross-entropy"  # "method": the training attack maximises the method's own loss (Eq. 5 to the letter)
    )
    attack_batch_norm: str = "eval"
    eps_warmup_epochs: int = 0  # epochs over which ε grows linearly to its full size

    batch_size: int | None = None  # preset
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 2e-4
    warmup_epochs: int = 5  # linear warm-up of the learning rate
    lr_decay: float | None = None  # preset
    decay_at: tuple[float, ...] = (0.8, 0.9)  # fractions of T: 160 and 180 of 200
    reweight_at: float = 0.8  # fraction of T from which deferred methods reweight: T_d, 160 of 200

    beta: float = 0.9999  # of the effective number
    reduction: str = "weighted"  # Σ w l / Σ w; "mean": Σ w l / N
    temperature: float = 0.1  # τ of L_sep
    lonely_anchors: str = "zero"  # an anchor with P(i) = ∅ counts as 0; "drop": left out of the mean
    projection: int | None = None  # width of an MLP head before L_sep; None: the penultimate features
    focal_gamma: float = 1.0
    max_margin: float = 0.5  # LDAM's largest margin
    ldam_scale: float = 30.0  # s of LDAM's cosine head
    ldam_scale_in: str = "model"  # "loss": logits are bare cosines, as in LDAM-DRW, and the attacks see them so

    precision: str = "float32"  # "bf16": the body in bfloat16 during training; head, losses and updates stay in float32
    compile: bool = False  # torch.compile the body: faster epochs on a GPU, after a minute or more of preparation

    device: str = "auto"  # not part of the fingerprint: "auto", "cpu", "cuda", …
    threads: int | None = None  # CPU threads; None: 1 for small-cnn, else torch's own number

    def __post_init__(self):
        preset = PRESETS.get(self.dataset, PRESETS["your images"])
        for name, value in preset.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, canonical(field.name, field.type, getattr(self, field.name)))
        self._validate()

    def _validate(self):
        if self.method not in METHODS:
            raise ConfigError(f"unknown method {self.method!r}; {sources.nearest(self.method, METHODS)}")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        for names, holds, need in (
            (AT_LEAST_ZERO, lambda value: value >= 0, "0 or more"),
            (ABOVE_ZERO, lambda value: value > 0, "above 0"),
        ):
            for name in names:
                value = getattr(self, name)
                if value is not None and not holds(value):
                    raise ConfigError(f"{name} must be {need}, not {value!r}")
        if not 0 <= self.beta < 1:
            raise ConfigError(f"beta must lie in [0, 1), not {self.beta}")
        if not all(0 <= at <= 1 for at in (*self.decay_at, self.reweight_at)):
            raise ConfigError(
                f"decay_at and reweight_at are fractions of the epochs, 0 to 1; got {self.decay_at}, {self.reweight_at}"
            )
        if self.classes is not None and len(set(self.classes)) < max(2, len(self.classes)):
            raise ConfigError(f"classes must name at least two different classes, not {self.classes}")
        if self.weight_ratio is not None and METHODS[self.method].weighting == "none":
            raise ConfigError(
                f"weight_ratio has no effect on {self.method}, which never reweights; try method='CB-Reweight'"
            )
        data.parse_imbalance(self.imbalance)

    @classmethod
    def paper(cls, dataset: str, imbalance: str, method: str, **changes) -> Config:
        """The paper's settings (section 5.1) for "cifar10" or "svhn": ResNet-18, 200 epochs, PGD-10, ε = 8/255."""
        if dataset not in ("cifar10", "svhn"):
            raise ConfigError(f"the paper uses 'cifar10' and 'svhn', not {dataset!r}")
        return cls(dataset=dataset, imbalance=imbalance, method=method, **changes)

    def replace(self, **changes) -> Config:
        """A copy with some fields changed; a changed data set brings its own preset."""
        if "dataset" in changes:
            preset = PRESETS.get(self.dataset, PRESETS["your images"])
            changes = {name: None for name, value in preset.items() if getattr(self, name) == value} | changes
        return dataclasses.replace(self, **changes)

    def epoch_at(self, fraction: float) -> int:
        """The epoch, counted from 0, that a fraction of the schedule names: 0.8 of 200 is 160."""
        return round(fraction * self.epochs)

    @property
    def training_attack(self) -> Attack:
        return Attack(self.eps, self.step, self.attack_steps, self.attack_start)

    @property
    def evaluation_attack(self) -> Attack:
        return Attack(self.eps, self.step, self.evaluation_steps)

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict) -> Config:
        return cls(**fields)

    @property
    def fingerprint(self) -> str:
        """Ten hex digits of a hash over everything the result depends on, your own images' content included."""
        fields = {name: value for name, value in self.to_dict().items() if name not in ("device", "threads")}
        for name in ADDED_LATER:
            if fields[name] == getattr(type(self), name):
                del fields[name]
        fields["dataset"] = sources.source_hash(self.dataset)
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """A folder name for people and for the machine: digits-step-25-SRAT-CE-seed0-3fa9c1…"""
        dataset = self.dataset if self.dataset in PRESETS else sources.slug(self.dataset)
        parts = [dataset, self.imbalance, *(self.classes or ()), self.method, "" if self.adversarial else "natural"]
        return "-".join([part for part in parts if part] + [f"seed{self.seed}", self.fingerprint])


def for_mode(
    mode: str, dataset: str = "digits", *, epochs: int | None = None, seeds: int | None = None
) -> tuple[Config, range]:
    """What a notebook starts from: a config of the data set at the mode's speed, and the seeds to run.

    mode: "quick" (reduced epochs, one seed), "laptop", or "paper" (the full schedule; a GPU for CIFAR-10 and SVHN).
    epochs, seeds: a number of each instead of the mode's.
    """
    if mode not in MODES:
        raise ConfigError(f"unknown mode {mode!r}; {sources.nearest(mode, MODES)}")
    changes = MODES[mode]["digits" if dataset == "digits" else "images"] | ({"epochs": epochs} if epochs else {})
    return Config(dataset=dataset, **changes), range(seeds or MODES[mode]["seeds"])


def imbalances(dataset: str) -> tuple[str, ...]:
    """The four imbalanced sets of a study: two Step and two Exp settings."""
    return IMBALANCES["digits" if dataset == "digits" else "paper"]


def canonical(name: str, kind: str, value):
    """A field's value in its declared type, so that 1 and 1.0, a list and a tuple, have one fingerprint."""
    if value is None and "None" in kind:
        return None
    if kind == "bool":
        if not isinstance(value, (bool, np.bool_)):  # "false" is a true string
            raise ConfigError(f"{name} must be True or False, not {value!r}")
        return bool(value)
    if kind.startswith("int"):
        if not (is_number(value) and value == int(value)):
            raise ConfigError(f"{name} must be a whole number, not {value!r}")
        return int(value)
    if kind.startswith("float"):
        if not is_number(value):
            raise ConfigError(f"{name} must be a number, not {value!r}")
        return float(value)
    if kind.startswith("tuple"):
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} must be a list of several values, not {value!r}")
        return tuple(canonical(name, kind.removeprefix("tuple["), part) for part in value)
    return value


def is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
