"""Config: everything that a run's result depends on, as five small records and a method's own behind one flat face."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field

from . import sources
from .attacks import PGD
from .batches import SAMPLERS
from .images import nearest
from .imbalance import parse_imbalance
from .inner import INNER, inner_named
from .methods import METHODS, Method
from .models import ARCHITECTURES
from .pictures import height_width
from .places import absolute
from .records import ConfigError, Record, above, among, at_least, canonical, checked, code_of, fraction, one_of


@dataclass(frozen=True)
class Data(Record):
    """Which images are trained on."""

    dataset: str = "digits"  # "digits", "cifar10", "svhn", or the path of your own images
    imbalance: str | None = None  # "step-K", "exp-K", "balanced", "none" (see imbalance.class_counts); preset
    classes: tuple[str, ...] | None = checked(
        None, "at least two different classes", lambda names: len(set(names)) == len(names) > 1
    )  # (well-represented, under-represented) for the binary study
    max_per_class: int | None = above(0)  # at most so many training images per class, for trial runs
    size: tuple[int, ...] | None = None  # pixels, or (height, width), to which all pictures are resized
    validation: float | None = checked(
        None, "between 0 and 1, the share of each class to hold out, as in 0.2", lambda share: 0 < share < 1
    )  # kept out of the training images
    rare: tuple[str, ...] | None = (
        None  # classes that count as rare, where images.under_represented's rule does not fit
    )

    def __post_init__(self):
        object.__setattr__(self, "size", height_width(self.size))
        super().__post_init__()
        object.__setattr__(self, "imbalance", str(parse_imbalance(self.imbalance)))  # "step-10.0" is "step-10"


@dataclass(frozen=True)
class Network(Record):
    """What is trained."""

    model: str | None = one_of(*ARCHITECTURES, default=None)  # preset
    projection: int | None = above(0)  # width of an MLP head before L_sep; None: the penultimate features
    precision: str = one_of("float32", "bf16")  # "bf16": the body in bfloat16; head, losses and updates in float32
    compile: bool = False  # torch.compile the body: faster epochs on a GPU, after a minute or more of preparation


def of_range():
    """How far a pixel may go."""
    return checked(None, "0 to 1, as pixels are; eight of 255 grey levels are 8/255", lambda value: 0 <= value <= 1)


@dataclass(frozen=True)
class Threat(Record):
    """The adversary of the training."""

    eps: float | None = of_range()  # ε; preset
    step: float | None = of_range()  # of the attack; preset
    attack_steps: int = at_least(0, 10)  # of PGD in training
    attack_start: str = one_of("uniform", "zero")  # anywhere in the ε-ball, or at the image
    attack_loss: str | None = among(INNER, default=None)  # what it climbs; None: what the method says
    attack_batch_norm: str = one_of("eval", "train")  # the network's mode while it is attacked
    eps_warmup_epochs: int = at_least(0, 0)  # epochs over which ε grows linearly to its full size


@dataclass(frozen=True)
class Schedule(Record):
    """How long and how fast, and what regularises it."""

    epochs: int | None = above(0)  # T; preset
    batch_size: int | None = above(0)  # N; preset
    learning_rate: float = above(0, 0.1)  # κ after the warm-up
    momentum: float = at_least(0, 0.9)
    weight_decay: float = at_least(0, 2e-4)
    warmup_epochs: int = at_least(0, 5)  # linear warm-up of the learning rate
    lr_decay: float | None = above(0)  # its factor at each of decay_at; preset
    decay_at: tuple[float, ...] = fraction((0.8, 0.9))  # of T: 160 and 180 of 200
    augmentation: str | None = one_of("none", "crop", "crop+flip", default=None)  # of training images; preset
    sampler: str = one_of(*SAMPLERS)  # how images are drawn; left out: as the method says
    rand_augment: int = at_least(0, 0)  # how many operations of RandAugment come before the crop
    rand_magnitude: int = checked(8, "0 to 30", lambda value: 0 <= value <= 30)  # of each of them
    averaging: float | None = checked(
        None, "in [0, 1)", lambda value: 0 <= value < 1
    )  # decay a step of the weights' moving average, which then is the network that is kept


@dataclass(frozen=True)
class Evaluation(Record):
    """What a finished network is tried on; training never sees it."""

    evaluation_steps: int = at_least(0, 20)  # of PGD in the protocol PAPER
    test_per_class: int | None = above(0)  # a test sample of so many a class, for trial runs


ALWAYS = {"dataset", "method", "adversarial", "seed", "device", "threads"}  # in `Config.given`
NAMED, LONGEST = 3, 250  # classes in a run's name, which is a folder's, and letters
RECORDS = {"data": Data, "network": Network, "threat": Threat, "schedule": Schedule, "evaluation": Evaluation}

# What each data set changes.  CIFAR-10 and SVHN: section 5.1 of the paper and LDAM-DRW's batch of 128.  Digits: some five
# hundred images make too few steps for that schedule, so batches are smaller and the late learning rate falls by 10, not by
# 100; λ = 1 costs SRAT-CE accuracy there (notebook 05 shows the sweep).  Anything else is your own images.
OF_THE_PAPER = {
    "imbalance": "step-100", "model": "resnet18", "epochs": 200, "eps": 8 / 255, "batch_size": 128, "lr_decay": 0.01,
    "separation_weight": 1.0,
}  # fmt: skip
SMALL = {"model": "small-cnn", "epochs": 40, "batch_size": 32, "lr_decay": 0.1, "separation_weight": 0.3}
PRESETS: dict[str, dict] = {
    "digits": SMALL | {"imbalance": "step-25", "eps": 0.2, "step": 0.05, "augmentation": "none"},
    "cifar10": OF_THE_PAPER | {"step": 2 / 255, "augmentation": "crop+flip"},
    "svhn": OF_THE_PAPER | {"step": 1 / 255, "augmentation": "none"},
    "your images": SMALL | {"imbalance": "none", "eps": 8 / 255, "step": 2 / 255, "augmentation": "none"},
}


@dataclass(frozen=True, init=False, repr=False)
class Config:
    """One training run.  Equal configs give equal results on the CPU, bit for bit with as many threads.

    Config(dataset, imbalance=…, method=…, adversarial=True, epochs=…, seed=0, <any field of the records>), where the records
    are the five of this module and those of the method: its terms, weighting, update and budget.  A field left at None whose comment
    names the preset takes the data set's value from PRESETS; a setting that only other methods have is kept without effect.
    Raises ConfigError or DataError for what cannot be run.
    """

    data: Data
    network: Network
    threat: Threat
    schedule: Schedule
    evaluation: Evaluation
    recipe: Method  # the method with this config's settings
    adversarial: bool
    seed: int  # decides subset, initial weights, order, augmentation and random starts
    others: tuple[tuple[str, object], ...]  # settings that only other methods have
    device: str  # "auto", "cpu", "cuda", …; not part of the identity, nor is threads
    threads: int | None  # CPU threads; None: 1 for small-cnn, else torch's own number
    given: dict = field(compare=False)  # what was asked for, without presets
    source: str | None = field(compare=False)  # the images' identity, where it is known without reading them

    def __init__(
        self, dataset="digits", *, method="SRAT-CE", adversarial=True, seed=0, device="auto", threads=None, source=None,
        **settings,
    ):  # fmt: skip
        if isinstance(dataset, os.PathLike):
            dataset = str(dataset if sources.is_known(dataset) else absolute(dataset))
        if not isinstance(method, str) or method not in METHODS:
            raise ConfigError(f"unknown method {method!r}; {nearest(method, METHODS)}")
        if source is None:
            dataset = dataset if sources.is_known(dataset) else str(sources.own_path(dataset))
        owners = {name: record for row in METHODS.values() for record in row.records() for name in record.names()}
        of_records = {name for record in RECORDS.values() for name in record.names()}
        for name in settings:
            if name not in of_records | set(owners):
                known = [*sorted(of_records | set(owners)), "adversarial", "seed", "device", "threads"]
                raise ConfigError(f"unknown setting {name!r}; {nearest(name, known)}")
        row = METHODS[method]
        preset = PRESETS.get(dataset, PRESETS["your images"]) | {"attack_loss": row.inner, "sampler": row.sampler}
        chosen = preset | {name: v for name, v in settings.items() if v is not None or name not in preset}
        recipe = row.having(chosen)
        own = {name for record in recipe.records() for name in record.names()}
        if chosen["attack_loss"] == "clean output" and chosen.get("attack_start") == "zero" and adversarial:
            raise ConfigError(
                f"{method} climbs away from its own clean output, which has no slope at the image itself; set attack_start='uniform'"
            )
        if chosen.get("weight_ratio") is not None and recipe.weighting is None:
            raise ConfigError(
                f"weight_ratio has no effect on {method}, which never reweights; try method='CB-Reweight'"
            )
        others = {
            name: getattr(owners[name].having(chosen), name) for name in settings if name in set(owners) - own
        }  # made by their owner, so that a bad value is refused here, too
        parts = {name: record.of(chosen | {"dataset": dataset}) for name, record in RECORDS.items()}
        given = settings | {"dataset": dataset, "method": method, "adversarial": adversarial, "seed": seed}
        facts = {
            "recipe": recipe,
            "adversarial": canonical("adversarial", "bool", adversarial),
            "seed": canonical("seed", "int", seed),
            "others": tuple(sorted(others.items())),
            "device": device,
            "threads": canonical("threads", "int | None", threads),
            "given": given | {"device": device, "threads": threads},
            "source": source,
        }
        for name, value in (parts | facts).items():
            object.__setattr__(self, name, value)
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be 0 or more, and below 2**63, not {self.seed!r}")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads must be 1 or more, not {self.threads!r}")
        if not isinstance(self.device, str):
            raise ConfigError(f"device must be a name, 'auto', 'cpu' or 'cuda', not {self.device!r}")

    def __getattr__(self, name: str):
        """A setting of any record, flat; of a record that only other methods have, what was given, else its default."""
        if name.startswith("_") or "recipe" not in self.__dict__:
            raise AttributeError(name)
        for record in (self.data, self.network, self.threat, self.schedule, self.evaluation, *self.recipe.records()):
            if name in record.names():
                return getattr(record, name)
        for record in (record for row in METHODS.values() for record in row.records()):
            if name in record.names():
                return dict(self.others).get(name, getattr(record.having(PRESETS.get(self.dataset, SMALL)), name))
        raise AttributeError(f"Config has no setting {name!r}")

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={value!r}' for name, value in self.given.items() if value is not None)})"

    @classmethod
    def paper(cls, dataset: str, imbalance: str, method: str, **changes) -> Config:
        """The paper's settings (section 5.1) for "cifar10" or "svhn": ResNet-18, 200 epochs, PGD-10, ε = 8/255."""
        if dataset not in ("cifar10", "svhn"):
            raise ConfigError(f"the paper uses 'cifar10' and 'svhn', not {dataset!r}")
        return cls(dataset, imbalance=imbalance, method=method, **changes)

    def replace(self, **changes) -> Config:
        """A copy with some settings changed; a changed data set brings its own preset."""
        source = None if "dataset" in changes else self.source
        return Config(**({"source": source} | self.given | changes))

    @property
    def method(self) -> str:
        return self.recipe.name

    def epoch_at(self, fraction: float) -> int:
        """The epoch, counted from 0, that a fraction of the schedule names: 0.8 of 200 is 160."""
        return round(fraction * self.schedule.epochs)

    @property
    def training_attack(self) -> PGD:
        return PGD(self.threat.eps, self.threat.step, self.threat.attack_steps, self.threat.attack_start)

    @property
    def evaluation_attack(self) -> PGD:
        """That of the protocol PAPER: training's budget and step size, more steps, a random start."""
        return PGD(self.threat.eps, self.threat.step, self.evaluation.evaluation_steps)

    @property
    def head_scale(self) -> float | None:
        """The scale of the cosine head that the method's prediction loss asks for; None for a linear head."""
        return self.recipe.terms[0].head_scale

    def to_dict(self) -> dict:
        """All settings, flat, with what the presets filled in."""
        records = (self.data, self.network, self.threat, self.schedule, self.evaluation, *self.recipe.records())
        settings = {name: value for record in records for name, value in record.items().items()}
        own = {"method": self.method, "adversarial": self.adversarial, "seed": self.seed}
        return (
            own | settings | dict(self.others) | {"device": self.device, "threads": self.threads, "source": self.images}
        )

    @classmethod
    def from_dict(cls, fields: dict) -> Config:
        """The config of `to_dict`; its images need not be there any more.

        What the presets of its data set and method fill in counts as not asked for: another method brings its own.
        """
        config = cls(**fields)
        preset = cls(config.dataset, method=config.method, source=config.source).to_dict()
        asked = {name: value for name, value in config.to_dict().items() if value != preset.get(name, ...)}
        object.__setattr__(
            config, "given", {name: config.given[name] for name in config.given if name in ALWAYS | asked.keys()}
        )
        return config

    @property
    def images(self) -> str:
        """What the identity says of the images: the name of a known set, a content hash of your own."""
        return self.source or sources.source_hash(self.dataset)

    @property
    def identity(self) -> dict:
        """What training uses: of every record that it is handed, the settings that are not the record's own defaults.

        Natural training is handed no threat, an unweighted method no weighting, and none is handed an evaluation.  Of a record that
        is not this package's, which its reader may still be writing, all settings and the code; of an inner loss of one's own the code.
        """
        handed = {"data": self.data, "network": self.network, "schedule": self.schedule}
        if self.adversarial:
            handed["threat"] = self.threat
        used = {name: record.changed() for name, record in handed.items()}
        used["data"]["dataset"] = self.images
        used["recipe"] = [
            [type(record).__name__, record.changed()]
            if type(record).__module__.startswith(f"{__package__}.")
            else [type(record).__name__, record.items(), code_of(type(record))]
            for record in self.recipe.records()
        ]
        if self.adversarial:
            climbed = inner_named(self.threat.attack_loss)
            if not climbed.__module__.startswith(f"{__package__}."):
                used["inner"] = code_of(climbed)
        return used | {"adversarial": self.adversarial, "seed": self.seed}

    @property
    def fingerprint(self) -> str:
        """Ten hex digits of a hash over `identity`: equal for trainings with equal results."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """A folder name for people and for the machine: digits-step-25-SRAT-CE-seed0-3fa9c1…"""
        named, more = (self.classes or ())[:NAMED], len((self.classes or ())[NAMED:])
        parts = [self.imbalance, *named, f"and {more} more" if more else "", self.method]
        parts += [] if self.adversarial else ["natural"]
        written = [sources.slug(self.dataset), *map(sources.in_file_name, filter(None, parts))]
        written += [f"seed{self.seed}", self.fingerprint]
        if len("-".join(written)) > LONGEST:
            written = [part[:30].strip("-") for part in written]
        return "-".join(written)
