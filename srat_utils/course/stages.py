"""The course's stages: digits, CIFAR-10 and SVHN on a laptop's network or the paper's, own images; each at three speeds.

A stage's settings are written here once, and every study and notebook starts from them.
"""

from __future__ import annotations

import numpy as np

from ..config import Config
from ..images import DataError, nearest, under_represented
from ..imbalance import class_counts
from ..records import ConfigError
from ..sources import HOSTED, load_source

# What a CPU core trains in about ten minutes, after pilots on validation images; never the paper's numbers.
PHOTOGRAPHS = {
    "model": "resnet8", "precision": "bf16", "epochs": 10, "batch_size": 64, "warmup_epochs": 1, "decay_at": (0.6, 0.8),
    "lr_decay": 0.1, "reweight_at": 0.6, "threads": 1, "test_per_class": 200,
}  # fmt: skip
# Two classes of photographs, 5,000 and 50.  47 % of batches of 64 hold a rare one, and the weighted mean gives rare images at most
# that share of all weight, whatever ρ: tried at ρ = 100, the networks called everything a cat.  The plain mean, which the paper
# writes, keeps ρ; it multiplies the loss, so that the learning rate is smaller.
PAIR = {"reduction": "mean", "learning_rate": 0.02, "batch_size": 128, "epochs": 12}
# The course's three speeds.  In quick mode images are cut down to a look at the cells.
MODES: dict[str, dict] = {
    "quick": {
        "seeds": 1,
        "digits": {"epochs": 3, "test_per_class": 5},
        "images": {"epochs": 2, "model": "small-cnn", "max_per_class": 100, "test_per_class": 10},
    },
    "laptop": {
        "seeds": 3,
        "digits": {},
        "cifar10": PHOTOGRAPHS,
        "svhn": PHOTOGRAPHS,
        "images": {"epochs": 20, "model": "small-cnn", "max_per_class": 500, "test_per_class": 100},
    },
    "paper": {"seeds": 3, "digits": {}, "images": {}},
}
# (Step, Exp) × two ratios: the paper's, and what some hundred digits per class allow.
RATIOS_OF_SETS = {"digits": (10, 25), "cifar10": (10, 100), "svhn": (10, 100)}

# On a laptop's network three sets start from half of the images, so that no run takes twice as long as one on Exp-100.  At Step-100
# that leaves a rare class 25, and 47 % of batches of 64 a rare image: with the weighted mean no method found more than 5 % of the rare.
HALVED: dict[str, dict] = {
    "step-10": {"max_per_class": 2500},
    "exp-10": {"max_per_class": 2500},
    "step-100": {"max_per_class": 2500, "reduction": "expected"},
}

PAIRS = {  # (well-represented, rare): the paper's, and the digits that notebook 02's rule finds
    "digits": (("1", "8"), ("5", "9"), ("4", "7"), ("2", "3")),
    "cifar10": (("cat", "horse"), ("automobile", "truck"), ("bird", "frog"), ("dog", "deer")),
    "svhn": (("0", "1"), ("2", "3"), ("4", "5"), ("6", "7")),  # the paper names none
}
# In results/, under both protocols: complete of the digits; of photographs under way.  `make results` goes on.
STORED_SEEDS = {"digits": 10, "cifar10": 3}
TARGET_SEEDS = {"digits": 10, "cifar10": 3, "svhn": 3}


def for_mode(
    mode: str, dataset: str = "digits", *, epochs: int | None = None, seeds: int | None = None
) -> tuple[Config, range]:
    """What a notebook starts from: a config of the data set at the mode's speed, and the seeds to run or to read from results/.

    mode: "quick" (reduced epochs, one seed), "laptop", or "paper" (the full schedule; a GPU for CIFAR-10 and SVHN).
    epochs, seeds: a number of each instead of the mode's.
    """
    if mode not in MODES:
        raise ConfigError(f"unknown mode {mode!r}; {nearest(mode, MODES)}")
    changes = MODES[mode].get(dataset, MODES[mode]["images"]) | ({"epochs": epochs} if epochs else {})
    stored = STORED_SEEDS.get(dataset, 0) if mode == "laptop" and epochs is None else 0
    return Config(dataset=dataset, **changes), range(seeds or stored or MODES[mode]["seeds"])


def on_laptop(config: Config) -> bool:
    """Whether a config is of photographs on the network that a CPU can train."""
    return config.dataset in HOSTED and config.model == "resnet8"


def imbalances(dataset: str) -> tuple[str, ...]:
    """The four imbalanced sets of a study: two Step and two Exp settings.

    Of own images: at ratios at which both have the same rare classes in every mode, the largest that leaves a rare class four
    images, or fewer where there are few, and the one nearest to 2/5 of it.  Raises DataError where there are no two.
    """
    ratios = RATIOS_OF_SETS.get(dataset)
    if ratios is None:
        train = load_source(dataset).train
        smallest, caps = min(train.counts), [mode["images"].get("max_per_class") for mode in MODES.values()]
        kept = sorted({min(smallest, cap or smallest) for cap in caps})
        alike = [K for K in range(2, kept[0] + 1) if all(same_rare(K, n, len(train.classes)) for n in kept)]
        some = next(
            (left for images in (4, 3, 2, 1) if len(left := [K for K in alike if kept[0] // K >= images]) > 1), None
        )
        if some is None:
            raise DataError(
                f"{train.name}: class {train.classes[int(np.argmin(train.counts))]!r} has too few images ({smallest}) for Step "
                "and Exp sets at two ratios; add some, or train on the images as they are: Config(dataset), whose imbalance "
                "is 'none'"
            )
        ratios = min(some[:-1], key=lambda K: abs(K - 0.4 * some[-1])), some[-1]
    return tuple(f"{kind}-{ratio}" for kind in ("step", "exp") for ratio in ratios)


def of_set(base: Config, imbalance: str, **changes) -> Config:
    """The base on one of its imbalanced sets, of all classes or of the pair in `changes`.

    On a laptop's network sets of all classes train as HALVED says, with K as it is, and a pair of classes as PAIR says.
    """
    if on_laptop(base):
        if len(changes.get("classes") or ()) == 2:
            own = {
                name: value for name, value in PAIR.items() if name != "epochs" or base.epochs == PHOTOGRAPHS["epochs"]
            }
            changes = own | changes
        elif imbalance in HALVED:
            own = HALVED[imbalance]
            fewer = min(own["max_per_class"], base.max_per_class or own["max_per_class"])
            changes = own | {"max_per_class": fewer} | changes
    return base.replace(imbalance=imbalance, **changes)


def same_rare(ratio: int, images: int, classes: int) -> bool:
    """Whether the Step and the Exp set of so many images per class have the same rare classes, and some."""
    step, exp = (under_represented(class_counts(f"{kind}-{ratio}", [images] * classes)) for kind in ("step", "exp"))
    return bool((step == exp).all() and step.any())


def pairs(dataset: str) -> tuple[tuple[str, str], ...]:
    """Up to four pairs (well-represented, rare) of classes; of own images the largest with the smallest, and so on."""
    if dataset in PAIRS:
        return PAIRS[dataset]
    train = load_source(dataset).train
    names = [train.classes[i] for i in np.argsort(-np.array(train.counts), kind="stable")]
    return tuple(zip(names[: len(names) // 2], names[::-1], strict=False))[:4]


def hardest(dataset: str, kind: str) -> str:
    """The data set's largest ratio of a kind: "step-25" for the digits, "step-100" for CIFAR-10 and SVHN."""
    return [name for name in imbalances(dataset) if name.startswith(kind)][-1]
