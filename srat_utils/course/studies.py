"""The large studies as lists of configs: what the notebooks read from results/, and the paper's own experiment.

python -m srat_utils.course.studies                          trains on the digits what results/ is made of, and writes it there
python -m srat_utils.course.studies --after-srat             the same of the methods that came later
python -m srat_utils.course.studies cifar10 --laptop         CIFAR-10 on the small network that a CPU can train
python -m srat_utils.course.studies cifar10 --minutes 600    the paper's Tables 1 and 2 at ratio 100 and Figures 1 and 2; on a GPU
Each with --plan says how many runs are finished and how long the others take here, and trains nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import joblib
import numpy as np

from .. import features
from ..config import Config
from ..estimates import duration
from ..evaluation import PAPER, STRONG, Protocol
from ..methods import ELEVEN, LATER
from ..places import home
from ..runs import Run
from ..sources import at_hand, load_source
from ..store import RunError, default_store, folder_of, reason
from ..sweeps import kept, sweep, time_of, unreadable
from . import exhibits, results
from .stages import TARGET_SEEDS, for_mode, hardest, imbalances, of_set, on_laptop, pairs

IN_ORDER = (
    "CE", "SRAT-LDAM", "DRCB-LDAM", "SRAT-CE", "DRCB-CE", "SRAT-Focal", "DRCB-Focal", "CB-Reweight", "LDAM", "Focal", "CB-Focal",
)  # fmt: skip
SRAT = ("SRAT-CE", "SRAT-Focal", "SRAT-LDAM")
FIGURE_4 = ("CE", "DRCB-LDAM", "SRAT-LDAM")  # whose features the paper shows
LAMBDAS = (0.0, 0.3, 1.0, 4.0, 8.0)  # Figure 6
RATIOS = (10.0, 50.0, 100.0, 200.0)  # Figure 5, beside the class-balanced weights
PAIR_RATIOS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0)  # Figure 2
OTHER_RATIOS = (1.0, 10.0, 100.0, 200.0)  # of the other pairs of photographs
BESIDE = ("CE", "CB-Reweight", "DRCB-LDAM", "SRAT-CE", "SRAT-LDAM")  # what the later methods are compared with
# On digits, rare classes under STRONG; then what the fifth adds its separation to.
BEST_LATER = ("CB-LDAM", "RoBal-N", "AT-BSL-Both", "RoBal-R", "SRAT-CE-Balanced", "CE-Balanced")
Work = tuple[list[Config], tuple[Protocol, ...]]  # what is to be trained, and tested under which protocols
POST_HOC = {"CE": 1.0, "RoBal-N": 0.1}  # τ of the prior that is taken off the logits afterwards
# What the later papers change beside their methods, and any method may have: averaged weights, and RandAugment as in AT-BSL.
COLUMNS: dict[str, dict[str, dict]] = {
    "digits": {"averaged weights": {"averaging": 0.99}, "RandAugment": {"rand_augment": 2}},
    "images": {"averaged weights": {"averaging": 0.999}, "RandAugment": {"rand_augment": 2}},
}

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
    "float32 → bfloat16": ("SRAT-CE", {"precision": "bf16"}),
}


def benchmark(base: Config, seeds: Iterable[int]) -> list[Config]:
    """Tables 1–4: eleven methods on the four imbalanced sets of the data set."""
    return [
        of_set(base, imbalance, method=method, seed=seed)
        for imbalance in imbalances(base.dataset)
        for method in ELEVEN
        for seed in seeds
    ]


def preliminary(base: Config, seeds: Iterable[int]) -> list[Config]:
    """Figures 1 and 7–9: plain training, natural and adversarial, on the four sets."""
    return [
        of_set(base, imbalance, method="CE", adversarial=adversarial, seed=seed)
        for imbalance in imbalances(base.dataset)
        for adversarial in (False, True)
        for seed in seeds
    ]


def turned(base: Config, seeds: Iterable[int]) -> list[Config]:
    """Plain adversarial training on the larger Step set as it is, and with the other half of the classes rare."""
    step = of_set(base, hardest(base.dataset, "step"), method="CE")
    names = load_source(base.dataset).train.classes
    half = (len(names) + 1) // 2  # as many as are frequent
    orders = (None, tuple(names[half:] + names[:half]))
    return [step.replace(classes=order, seed=seed) for order in orders for seed in seeds]


def binary(
    base: Config,
    seeds: Iterable[int],
    ratios: Iterable[float] = PAIR_RATIOS,
    of: Iterable[tuple[str, str]] | None = None,
) -> list[Config]:
    """Figures 2 and 10–12: two classes, natural and adversarial training, a growing weight on the rare one.  of: the pairs."""
    step = base.replace(method="CB-Reweight")
    return [
        of_set(
            step, hardest(base.dataset, "step"), classes=pair, weight_ratio=ratio, adversarial=adversarial, seed=seed
        )
        for pair in (of or pairs(base.dataset))
        for ratio in ratios
        for adversarial in (False, True)
        for seed in seeds
    ]


def deferral(base: Config, seeds: Iterable[int]) -> list[Config]:
    """Class-balanced weights from the start and from T_d = 0.8 and 0.5 of the epochs, in the preset's epochs and in twice as many."""
    step = of_set(base, hardest(base.dataset, "step"))
    return [
        step.replace(method=method, epochs=times * step.epochs, seed=seed, **changes)
        for times in (1, 2)
        for method, changes in (("CB-Reweight", {}), ("DRCB-CE", {}), ("DRCB-CE", {"reweight_at": 0.5}))
        for seed in seeds
    ]


def figure_5(
    base: Config, seeds: Iterable[int], ratios: Iterable[float] = RATIOS, methods: Iterable[str] = SRAT
) -> list[Config]:
    """Figure 5: the SRAT variants with plain under:well weight ratios on a Step set; None stands for class-balanced weights."""
    step = hardest(base.dataset, "step")
    return [
        of_set(base, step, method=method, weight_ratio=ratio, seed=seed)
        for method in methods
        for ratio in (None, *ratios)
        for seed in seeds
    ]


def figure_6(
    base: Config, seeds: Iterable[int], lambdas: Iterable[float] = LAMBDAS, methods: Iterable[str] = SRAT
) -> list[Config]:
    """Figure 6: the SRAT variants at several λ on a Step and an Exp set."""
    return [
        of_set(base, hardest(base.dataset, kind), method=method, separation_weight=value, seed=seed)
        for kind in ("step", "exp")
        for method in methods
        for value in lambdas
        for seed in seeds
    ]


def after_srat(base: Config, seeds: Iterable[int]) -> list[Config]:
    """The later methods beside BESIDE, seed by seed: each on the four sets, then with each of COLUMNS on the larger Step set."""
    step = of_set(base, hardest(base.dataset, "step"))
    listed = []
    for seed in seeds:
        for imbalance in imbalances(base.dataset):
            listed += [of_set(base, imbalance, method=method, seed=seed) for method in (*BESIDE, *LATER)]
        for changes in COLUMNS["digits" if base.dataset == "digits" else "images"].values():
            listed += [step.replace(method=method, seed=seed, **changes) for method in (*BESIDE, *LATER)]
    return listed


def switchboard(base: Config, seeds: Iterable[int]) -> dict[str, list[tuple[Config, Config]]]:
    """Name of a switch → a pair (default, changed) of configs for each seed; the two share subset and initial weights."""
    step = of_set(base, hardest(base.dataset, "step"))
    return {
        name: [(step.replace(method=m, seed=seed), step.replace(method=m, seed=seed, **changes)) for seed in seeds]
        for name, (m, changes) in SWITCHES.items()
    }


def everything(base: Config, seeds: Iterable[int]) -> list[Config]:
    """All that results/ holds of the digits, seed by seed, so that whatever is finished is balanced.

    Figures 5 and 6 are on `some` of the seeds, the weight ratios between the ends of Figure 2 on the first three.
    """
    seeds, listed = list(seeds), []
    for place, seed in enumerate(seeds):
        listed += benchmark(base, [seed]) + preliminary(base, [seed])
        listed += [config for pairs in switchboard(base, [seed]).values() for pair in pairs for config in pair]
        listed += binary(base, [seed], PAIR_RATIOS if place < 3 else (PAIR_RATIOS[0], PAIR_RATIOS[-1]))
        listed += deferral(base, [seed]) + turned(base, [seed])
        if seed in some(seeds):
            listed += figure_5(base, [seed]) + figure_6(base, [seed])
    return list(dict.fromkeys(listed))


def some(seeds: Iterable[int]) -> list[int]:
    """Those of the seeds on which Figures 5 and 6 are: the first half of TARGET_SEEDS."""
    return [seed for seed in seeds if 2 * seed < TARGET_SEEDS["digits"]]


def photographs(base: Config, seeds: Iterable[int]) -> list[Config]:
    """All that results/ holds of CIFAR-10 on a laptop's network, one seed of everything before the next.

    In the order of what one would miss most if time ran out: natural training and the eleven methods at the larger ratio, the
    first pair of Figure 2, the best five later methods, Figures 5 and 6 of two methods, which at λ = 0 are their twins among the
    eleven, Figure 5 of one twin, too; then, of fewer seeds, the smaller ratio and the other pairs.
    """
    seeds, (first, *others), two = list(seeds), pairs(base.dataset), ("SRAT-CE", "SRAT-LDAM")
    listed = []
    for seed in seeds:
        cells = sorted(benchmark(base, [seed]), key=lambda config: (IN_ORDER.index(config.method), config.imbalance))
        hard = [config for config in cells if config.imbalance in imbalances(base.dataset)[1::2]]
        listed += [config for config in preliminary(base, [seed]) if not config.adversarial]
        listed += hard + binary(base, [seed], of=[first])
        listed += [one.replace(method=method) for method in BEST_LATER for one in hard if one.method == "CE"]
        listed += figure_5(base, [seed], methods=(*two, "DRCB-CE")) + figure_6(base, [seed], LAMBDAS[1:], two)
        listed += cells if seed in seeds[:1] else []
        listed += binary(base, [seed], OTHER_RATIOS, others) if seed in seeds[:2] else []
    return list(dict.fromkeys(listed))


def papers_own(dataset: str = "cifar10", **changes) -> list[Config]:
    """The paper's setting at ratio 100, one seed, in the order of what one would miss most if time ran out.

    Tables 1 and 2 (eleven methods on Exp-100, then on Step-100), the natural models of Figure 1, the pair of Figure 2.
    changes: settings that all of them share, a shorter schedule or another precision.
    """
    base = Config.paper(dataset, "exp-100", "CE", **changes)
    tables = [base.replace(imbalance=imbalance, method=m) for imbalance in ("exp-100", "step-100") for m in IN_ORDER]
    natural = [base.replace(imbalance=imbalance, adversarial=False) for imbalance in ("exp-100", "step-100")]
    binary = base.replace(imbalance="step-100", classes=pairs(dataset)[0], method="CB-Reweight")
    by_ratio = [
        binary.replace(weight_ratio=ratio, adversarial=adversarial)
        for adversarial in (True, False)
        for ratio in (1, 10, 50, 100, 150, 200)
    ]
    return tables + natural + by_ratio


def along(runs: Mapping[Hashable, Run]) -> tuple[dict[tuple, np.ndarray], dict[Hashable, dict[str, float]]]:
    """What becomes of the features as a setting changes, for runs on one training set: value → run, in a slider's order.

    Returns (value, "t-SNE" or "PCA") → attacked training images in the plane, [N,2], as `features.aligned_embeddings` does it,
    and value → `features.separability` of attacked test images, where every class has as many.
    """
    z = {value: run.features(run.config.training_attack, "train") for value, run in runs.items()}
    points = {
        (value, method): shown
        for method in ("t-SNE", "PCA")
        for value, shown in features.aligned_embeddings(z, method).items()
    }
    measured = {}
    for value, run in runs.items():
        unseen = run.features(run.config.evaluation_attack)
        measured[value] = features.separability(unseen, run.data.test.labels)
    return points, measured


def separable(config: Config, kind: str = "step") -> list[Config]:
    """Of a config's data set and seed, those whose features the paper shows: Figures 3 and 4, on the larger set of a kind."""
    base = Config(config.dataset, epochs=config.epochs, precision=config.precision, compile=config.compile)
    if on_laptop(config):
        base = for_mode("laptop", config.dataset)[0].replace(epochs=config.epochs)
    large = of_set(base, hardest(config.dataset, kind), seed=config.seed)
    pairs = binary(base, [config.seed], PAIR_RATIOS[:1])
    return [large.replace(method=m) for m in FIGURE_4] + [large.replace(method="CE", adversarial=False)] + pairs


def keep(runs: Iterable[Run], folder: Path) -> None:
    """Write the runs' numbers under both protocols and how separable some features are.

    Of photographs, which readers do not have at hand, their losses and one seed's features of ten classes, too: those that a
    notebook draws, and in the paper's setting, where no CPU makes the networks again, those of the Exp set.
    """
    runs = list(runs)
    own = [run for run in runs if run.config.dataset != "digits"]
    results.export([run for run in runs if run.config.dataset == "digits"], folder, protocols=(PAPER, STRONG))
    results.export(own, folder, protocols=(PAPER, STRONG), histories=True)

    def print_of(config: Config) -> str:
        return config.replace(max_per_class=None).fingerprint  # a trial has fewer images, and must try all of this

    shown, also = (
        [run for run in runs if print_of(run.config) in set(map(print_of, separable(run.config, kind)))]
        for kind in ("step", "exp")
    )
    exhibits.export_separability(shown, folder)
    for run in own:
        drawn = run in shown or (run in also and not on_laptop(run.config))
        if run.config.seed == 0 and run.config.classes is None and drawn:
            exhibits.export_features(run, folder)
        if run.config.seed == 0 and run in shown and run.config.method == "CE" and run.config.adversarial:
            exhibits.export_examples(run, folder)


def post_hoc(configs: Iterable[Config]) -> list[Work]:
    """The tests of CE and RoBal-N, trained adversarially on all classes, with the prior of POST_HOC taken off their logits."""
    chosen = [config for config in configs if config.adversarial and config.classes is None]
    return [
        ([config for config in chosen if config.method == method], (PAPER.adjusted(tau), STRONG.adjusted(tau)))
        for method, tau in POST_HOC.items()
    ]


def left_of(work: Sequence[Work]) -> str:
    """How many of the runs are finished under their protocols, and how long the others would take here, one after the other."""
    names, unfinished, seconds = set(), set(), 0.0
    near = {name: at_hand(name) for name in sorted({config.dataset for configs, _ in work for config in configs})}
    for configs, protocols in work:
        runs = [Run(config, folder_of(config)) for config in dict.fromkeys(configs)]
        left = [run for run in runs if not kept(run, protocols)]
        names |= {run.folder.name for run in runs}
        unfinished |= {run.folder.name for run in left}
        seconds += time_of((run for run in left if near[run.config.dataset]), protocols)
    rest = f"; the others take at most {duration(seconds)} here, one at a time" if unfinished else ""
    away = [name for name, is_near in near.items() if not is_near]
    if unfinished and away:
        rest = f"; how long the others take is measured on the images, and {' and '.join(away)} is not on this machine"
    return f"{len(names) - len(unfinished)} of {len(names)} runs are finished in {default_store()}{rest}"


def at_least_one(text: str) -> int:
    """A number of something, of the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it is a whole number, 1 or more, not {text!r}")
    return int(text)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m srat_utils.course.studies", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default="digits", choices=("digits", "cifar10", "svhn"))
    parser.add_argument("--after-srat", action="store_true", help="the later methods instead of the paper's studies")
    parser.add_argument(
        "--laptop", action="store_true", help="on the small network that a CPU can train, not the paper's"
    )
    parser.add_argument("--minutes", type=float, help="stop after so long; the same command then goes on from there")
    parser.add_argument(
        "--epochs", type=at_least_one, help="a shorter schedule for all runs; its fractions stay as they are"
    )
    parser.add_argument("--precision", choices=("float32", "bf16"))
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="train on the workers of this Dask scheduler, tcp://… (needs the extra `cluster`)",
    )
    parser.add_argument(
        "--seeds", type=at_least_one, metavar="N", help="so many seeds; the paper's own experiment has one unless told"
    )
    parser.add_argument("--plan", action="store_true", help="say what is finished and what the rest takes, and stop")
    parser.add_argument(
        "--trial",
        type=at_least_one,
        metavar="N",
        help="at most N images per class and N/10 for testing, written to build/trial",
    )
    options = parser.parse_args(arguments)
    changes = {name: getattr(options, name) for name in ("epochs", "precision", "compile") if getattr(options, name)}
    if options.trial:
        changes |= {"max_per_class": options.trial, "test_per_class": max(1, options.trial // 10)}
    small = options.laptop or options.dataset == "digits"
    base = for_mode("laptop" if small else "paper", options.dataset)[0].replace(**changes)
    seeds = range(options.seeds or (TARGET_SEEDS[options.dataset] if small else 1))
    if options.after_srat:
        configs = after_srat(base, seeds)
    elif options.dataset == "digits":
        configs = everything(base, seeds)
    elif small:
        configs = photographs(base, seeds)
    else:
        configs = [one for seed in seeds for one in papers_own(options.dataset, seed=seed, **changes)]
    work: list[Work] = [
        (configs, (PAPER, STRONG)),
        *(post_hoc(configs) if options.after_srat or (small and options.dataset != "digits") else []),
    ]
    if options.plan:
        print(left_of(work))
        return
    if not options.cluster and (why := unreadable(config.dataset for config in configs)):
        raise SystemExit("\n".join(why.values()))
    folder = home() / "build" / "trial" if options.trial else results.FOLDER
    refused: dict[str, None] = {}

    def write(runs: list[Run], protocols: tuple[Protocol, ...]) -> None:
        try:
            if protocols == (PAPER, STRONG):
                keep(runs, folder)
            else:
                results.export(runs, folder, protocols=protocols)
        except (ValueError, OSError) as problem:
            # Results of other images are there, or no room: no reason to stop the training.
            refused[f"some are not written to {folder}: {reason(problem)}; they are in {default_store()}"] = None

    cluster = joblib.parallel_config("dask", scheduler_host=options.cluster) if options.cluster else nullcontext()
    started, done, failed = time.monotonic(), [], []
    with cluster:
        for asked, protocols in work:
            passed = (time.monotonic() - started) / 60
            try:
                sweep(
                    asked,
                    minutes=None if options.minutes is None else max(0.0, options.minutes - passed),
                    protocols=protocols,
                    # After every run, so that nothing measured is lost with the machine.
                    after_run=lambda run, protocols=protocols: write([run], protocols),
                )
            except RunError as problem:  # of some of the runs: no reason to leave out the rest
                failed.append(str(problem))
            runs = [run for config in dict.fromkeys(asked) if kept(run := Run(config, folder_of(config)), protocols)]
            write(runs, protocols)  # what an earlier call left unwritten
            done.append({run.config.name for run in runs})
    whole = f"{len(done[0])} of {len({config.name for config in configs})} runs are finished"
    print(*(f"{whole}; {why}" for why in refused), *([] if refused else [f"{whole} and written to {folder}"]), sep="\n")
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
