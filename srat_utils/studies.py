"""The two large studies as lists of configs: what notebooks 06 and 07 show and `make results` computes.

python -m srat_utils.studies    trains on the digits what results/ is made of, and writes it there
"""

from __future__ import annotations

from collections.abc import Iterable

from . import results
from .config import Config, for_mode, imbalances
from .methods import METHODS
from .runs import sweep

SRAT = ("SRAT-CE", "SRAT-Focal", "SRAT-LDAM")
LAMBDAS = (0.0, 0.3, 1.0, 4.0, 8.0)  # Figure 6
RATIOS = (10.0, 50.0, 100.0, 200.0)  # Figure 5, beside the class-balanced weights

# What a reader could doubt among the choices that the paper leaves open: name → (method, the changed settings).
SWITCHES: dict[str, tuple[str, dict]] = {
    "weighted mean → plain mean": ("SRAT-CE", {"reduction": "mean"}),
    "attack on cross-entropy → on the method's loss": ("SRAT-LDAM", {"attack_loss": "method"}),
    "batch norm in the attack: eval → train": ("SRAT-CE", {"attack_batch_norm": "train"}),
    "attack starts at random → at the image": ("SRAT-CE", {"attack_start": "zero"}),
    "LDAM's scale in the model → in the loss": ("SRAT-LDAM", {"ldam_scale_in": "loss"}),
    "LDAM's scale 30 → 10": ("SRAT-LDAM", {"ldam_scale": 10.0}),
    "focal γ 1 → 2": ("SRAT-Focal", {"focal_gamma": 2.0}),
    "τ 0.1 → 0.07": ("SRAT-CE", {"temperature": 0.07}),
    "τ 0.1 → 0.5": ("SRAT-CE", {"temperature": 0.5}),
    "lonely anchors: count as 0 → left out": ("SRAT-CE", {"lonely_anchors": "drop"}),
    "L_sep on the features → on an MLP head": ("SRAT-CE", {"projection": 128}),
    "weights deferred → from the start": ("SRAT-CE", {"reweight_at": 0.0}),
    "weight decay 2e-4 → 5e-4": ("SRAT-CE", {"weight_decay": 5e-4}),
}


def benchmark(base: Config, seeds: Iterable[int]) -> list[Config]:
    """Tables 1–4: eleven methods on the four imbalanced sets of the data set."""
    return [
        base.replace(imbalance=imbalance, method=method, seed=seed)
        for imbalance in imbalances(base.dataset)
        for method in METHODS
        for seed in seeds
    ]


def weight_ratios(base: Config, seeds: Iterable[int], ratios: Iterable[float] = RATIOS) -> list[Config]:
    """Figure 5: the SRAT variants with plain under:well weight ratios on a Step set; None stands for class-balanced weights."""
    step = hardest(base.dataset, "step")
    return [
        base.replace(imbalance=step, method=method, weight_ratio=ratio, seed=seed)
        for method in SRAT
        for ratio in (None, *ratios)
        for seed in seeds
    ]


def separation_weights(base: Config, seeds: Iterable[int], lambdas: Iterable[float] = LAMBDAS) -> list[Config]:
    """Figure 6: the SRAT variants at several λ on a Step and an Exp set."""
    return [
        base.replace(imbalance=hardest(base.dataset, kind), method=method, separation_weight=value, seed=seed)
        for kind in ("step", "exp")
        for method in SRAT
        for value in lambdas
        for seed in seeds
    ]


def switchboard(base: Config, seeds: Iterable[int]) -> dict[str, list[tuple[Config, Config]]]:
    """Name of a switch → a pair (default, changed) of configs for each seed; the two share subset and initial weights."""
    step = base.replace(imbalance=hardest(base.dataset, "step"))
    return {
        name: [(step.replace(method=m, seed=seed), step.replace(method=m, seed=seed, **changes)) for seed in seeds]
        for name, (m, changes) in SWITCHES.items()
    }


def hardest(dataset: str, kind: str) -> str:
    """The data set's largest ratio of a kind: "step-25" for the digits, "step-100" for CIFAR-10 and SVHN."""
    return [name for name in imbalances(dataset) if name.startswith(kind)][-1]


def everything(base: Config, seeds: Iterable[int]) -> list[Config]:
    pairs = [pair for pairs in switchboard(base, seeds).values() for pair in pairs]
    both = [config for pair in pairs for config in pair]
    return benchmark(base, seeds) + weight_ratios(base, seeds) + separation_weights(base, seeds) + both


if __name__ == "__main__":
    results.export(sweep(everything(*for_mode("laptop"))))
