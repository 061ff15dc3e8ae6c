"""How fast the attack and the training loop are, as ratios to others measured in the same run.

    python benchmarks/bench.py                all parts; each prints its table and writes results/benchmarks/<part>-<device>.csv
    python benchmarks/bench.py attack epoch   two of them
    python benchmarks/bench.py gpu            the paper's training epoch on a CUDA GPU, and its share of the GPU's own rate

Times are medians over rounds in which everything is measured once, in a new order each round; a ratio is the median of the
ratios within rounds, so that a machine that slows down for a while slows all of them.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.manifold import TSNE

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "build" / "peers")]

import peers  # noqa: E402

from srat_utils import Config, features, load_dataset, losses, sweep  # noqa: E402
from srat_utils.attacks import APGD, PGD, Square, pgd  # noqa: E402
from srat_utils.devices import cpu_threads, hardware  # noqa: E402
from srat_utils.images import ImageDataset  # noqa: E402
from srat_utils.models import Classifier, Spec  # noqa: E402
from srat_utils.provenance import VERSIONS  # noqa: E402
from srat_utils.training import Job, State, fit, train_epoch  # noqa: E402

FOLDER = ROOT / "results" / "benchmarks"
PAPER_ATTACK = PGD(8 / 255, 2 / 255, 10)
FORWARD_GFLOP = 1.11  # of ResNet-18 for one image of 3×32×32
FORWARDS_AN_IMAGE = 23  # 10 attack steps of forward and input gradient, then forward and full backward


def compare(work: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> pd.DataFrame:
    """Median seconds of each, and how many times as long as the first it takes: median, lowest and highest of the rounds."""
    for function in work.values():  # nothing is timed that happens once
        function()
    seconds = pd.DataFrame(index=range(rounds), columns=list(work), dtype=float)
    order = list(work)
    for number in range(rounds):
        random.shuffle(order)
        for name in order:
            seconds.loc[number, name] = timed(work[name], device)
    ratios = seconds.div(seconds[next(iter(work))], axis=0)
    return pd.DataFrame(
        {
            "milliseconds": 1000 * seconds.median(),
            "times ours": ratios.median(),
            "lowest": ratios.min(),
            "highest": ratios.max(),
            "rounds": rounds,
        }
    ).rename_axis("what")


def timed(function: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


# --- the parts


def attack(device: torch.device, rounds: int) -> pd.DataFrame:
    """One PGD-10 attack on 32 images: ours and four others, ResNet-18 at 3×32×32 and the small network at 1×8×8."""
    tables = {}
    for name, architecture, shape in (
        ("ResNet-18, 3×32×32", "resnet18", (3, 32, 32)),
        ("small-cnn, 1×8×8", "small-cnn", (1, 8, 8)),
    ):
        plain = build(architecture, shape[0], 10).to(device, memory_format=torch.contiguous_format).eval()
        batch = torch.rand(32, *shape, device=device), torch.randint(10, (32,), device=device)
        work = {"ours": partial(pgd, plain, *batch, PAPER_ATTACK)}
        if architecture == "resnet18":
            last = deepcopy(plain).to(memory_format=torch.channels_last)
            work = {
                "ours": partial(pgd, last, *batch, PAPER_ATTACK),
                "ours, bf16": partial(in_bf16, pgd, last, *batch, PAPER_ATTACK),
                "ours, without channels_last": work["ours"],
                "torchattacks, with channels_last": partial(peers.torchattacks(deepcopy(last), PAPER_ATTACK), *batch),
            }
        for peer, make in peers.PEERS.items():
            work[peer] = partial(make(deepcopy(plain), PAPER_ATTACK), *batch)
        with cpu_threads(architecture):
            tables[name] = compare(work, rounds if architecture == "resnet18" else 4 * rounds, device)
    return pd.concat(tables, names=["attack"])


def strong(device: torch.device, rounds: int) -> pd.DataFrame:
    """Auto-PGD and Square, ours and as published: on a robust model of the digits, and on a ResNet-18 that nothing fools."""
    config = Config(imbalance="step-10", method="DRCB-CE", epochs=20, device=device.type)
    digits = load_dataset("digits", imbalance="step-10")
    images, labels = (part[::3][:200] for part in digits.test.tensors(device))
    small, tables = fit(config, digits.train).model.eval(), {}
    with cpu_threads(config.model):
        for attack in (APGD(0.2), APGD(0.2, loss="targeted"), Square(0.2, 1000)):
            batch = images.float() / 255, labels
            work = {
                "ours": partial(attack, small, *batch),
                "pyautoattack": partial(peers.pyautoattack(small, attack), *batch),
            }
            tables[f"{attack.name}, 200 digits"] = compare(work, max(3, rounds // 3), device)
    plain = build("resnet18", 3, 10).to(device).eval()
    with torch.no_grad():
        plain.head.bias[0] += 100
    last, attack = deepcopy(plain).to(memory_format=torch.channels_last), APGD(8 / 255, 10, "dlr")
    batch = torch.rand(32, 3, 32, 32, device=device), torch.zeros(32, dtype=torch.long, device=device)
    work = {
        "ours": partial(attack, last, *batch),
        "ours, without channels_last": partial(attack, plain, *batch),
        "pyautoattack, with channels_last": partial(peers.pyautoattack(last, attack), *batch),
        "pyautoattack": partial(peers.pyautoattack(plain, attack), *batch),
    }
    tables[f"{attack.name}, ResNet-18, 3×32×32"] = compare(work, rounds, device)
    return pd.concat(tables, names=["attack"])


def in_bf16(function: Callable, *arguments) -> object:
    with torch.autocast(arguments[1].device.type, torch.bfloat16):
        return function(*arguments)


def epoch(device: torch.device, rounds: int) -> pd.DataFrame:
    """One adversarial epoch: ours, in both precisions, against the loop with backward() and a DataLoader."""
    digits = Config(method="CB-Reweight", device=device.type)
    batch = {"batch_size": 128 if device.type == "cuda" else 32}
    colour = digits.replace(model="resnet18", augmentation="crop+flip", eps=8 / 255, step=2 / 255, **batch)
    tables = {}
    for name, config, dataset in (
        ("ResNet-18, 3×32×32", colour, random_images(3 * colour.batch_size)),
        ("digits, step-25", digits, load_dataset("digits", imbalance="step-25").train),
    ):
        with cpu_threads(config.model):
            work = {
                "ours": our_epoch(config, dataset, device),
                "ours, bf16": our_epoch(config.replace(precision="bf16"), dataset, device),
                "loop with backward() and a DataLoader": their_epoch(config, dataset, device),
            }
            tables[name] = compare(work, rounds, device)
    return pd.concat(tables, names=["epoch"])


def build(architecture: str, channels: int, classes: int) -> Classifier:
    return Spec(architecture, channels, (32, 32), tuple(map(str, range(classes)))).build()


def our_epoch(config: Config, dataset: ImageDataset, device: torch.device) -> Callable[[], object]:
    state = State.fresh(config, dataset, device)
    images, labels = dataset.tensors(device)
    weight = torch.ones(10, device=device)
    job = Job.of(config, state)
    return partial(train_epoch, config, job, state, images, labels, weight)


def their_epoch(config: Config, dataset: ImageDataset, device: torch.device) -> Callable[[], object]:
    model = State.fresh(config, dataset, device).model.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=2e-4)
    return partial(peers.epoch_with_a_loader, config, model, optimizer, *dataset.tensors(torch.device("cpu")))


def random_images(number: int, side: int = 32) -> ImageDataset:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (number, side, side, 3), dtype=np.uint8)
    return ImageDataset(pixels, np.arange(number) % 10, tuple("0123456789"), "random images")


def limit(device: torch.device, rounds: int) -> pd.DataFrame:
    """Operations a second in the attack on ResNet-18, and their share of the most that large layers reach here."""
    model = build("resnet18", 3, 10).to(device, memory_format=torch.channels_last)
    batch = torch.rand(32, 3, 32, 32, device=device), torch.randint(10, (32,), device=device)
    operations = 2 * PAPER_ATTACK.steps * len(batch[0]) * FORWARD_GFLOP * 1e9  # forward and input gradient each step
    rows = {}
    for name, dtype, work in (
        ("float32", torch.float32, partial(pgd, model, *batch, PAPER_ATTACK)),
        ("bf16", torch.bfloat16, partial(in_bf16, pgd, model, *batch, PAPER_ATTACK)),
    ):
        work()
        achieved = operations / np.median([timed(work, device) for _ in range(rounds)])
        matrices, convolution = (rate(device, dtype, rounds) for rate in (matrix_rate, convolution_rate))
        rows[name] = {
            "attack, GFLOP/s": achieved / 1e9,
            "large matrices, GFLOP/s": matrices / 1e9,
            "large convolution, GFLOP/s": convolution / 1e9,
            "share of the faster": achieved / max(matrices, convolution),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("precision")


def run(device: torch.device, rounds: int) -> pd.DataFrame:
    """A whole run: 40 adversarial epochs on the digits' step-25."""
    dataset = load_dataset("digits", imbalance="step-25").train
    work = {}
    for method, choice in (("CE", "float32"), ("SRAT-LDAM", "float32"), ("SRAT-LDAM", "bf16")):
        work[f"{method}, {choice}"] = partial(fit, Config(method=method, precision=choice, device=device.type), dataset)
    return compare(work, max(3, rounds // 3), device).rename(columns={"times ours": "times the first"})


def cluster(device: torch.device, rounds: int) -> pd.DataFrame:
    """A sweep of eight short runs on a Dask cluster, one worker and two, each with the cluster there already."""
    from dask.distributed import Client, LocalCluster

    configs = [Config(method="CE", epochs=3, test_per_class=10, seed=seed, device="cpu") for seed in range(8)]

    def swept(client: Client) -> None:
        with client.as_current(), tempfile.TemporaryDirectory() as store, joblib.parallel_config("dask"):
            sweep(configs, store=store, progress=False)

    options = {"threads_per_worker": 1, "dashboard_address": None}
    with (
        LocalCluster(n_workers=1, **options) as one,
        LocalCluster(n_workers=2, **options) as two,
        Client(one, set_as_default=False) as first,
        Client(two, set_as_default=False) as second,
    ):
        work = {"one worker": partial(swept, first), "two workers": partial(swept, second)}
        table = compare(work, max(3, rounds // 3), device)
    return table.rename(columns={"times ours": "times one worker's"})


def accuracy(device: torch.device, rounds: int) -> pd.DataFrame:
    """What precision and compilation do to the accuracy on digits, step-25: differences to float32, paired by seed."""
    rows, store = [], ROOT / "build" / "runs"
    for method in ("DRCB-CE", "SRAT-LDAM"):
        for seed in range(3):
            default = Config(method=method, seed=seed, device=device.type)
            changed = {"bf16": {"precision": "bf16"}, "compiled": {"compile": True}}
            both = [default, *(default.replace(**change) for change in changed.values())]
            plain, *others = (run.summary()[["overall", "under"]] for run in sweep(both, store=store, progress=False))
            for name, other in zip(changed, others, strict=True):
                for kind, row in (("clean", 0), ("robust", 1)):
                    for classes in ("overall", "under"):
                        points = other[classes].iloc[row] - plain[classes].iloc[row]
                        rows.append((method, name, f"{kind}, {classes}", points))
    table = pd.DataFrame(rows, columns=["method", "choice", "accuracy", "points"])
    return table.groupby(["method", "choice", "accuracy"], sort=False)["points"].agg(["mean", "std", "min", "max"])


def parts(device: torch.device, rounds: int) -> pd.DataFrame:
    """What a reader waits for besides training."""
    z = np.random.default_rng(0).normal(size=(540, 64)).astype(np.float32)
    start = features.tsne(z)

    def fresh(statement: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True)

    model, test = (
        build("small-cnn", 1, 10).to(device, memory_format=torch.contiguous_format),
        load_dataset("digits").test.tensors(device),
    )

    def evaluated(batch: int) -> Callable[[], object]:
        attack = PGD(0.2, 0.05, 20)
        pieces = [(x.float() / 255, y) for x, y in zip(*(part.split(batch) for part in test), strict=True)]
        return lambda: [pgd(model, x, y, attack) for x, y in pieces]

    def swept(**backend) -> None:
        configs = [Config(method="SRAT-LDAM", epochs=8, seed=seed, device=device.type) for seed in range(4)]
        with tempfile.TemporaryDirectory() as store, joblib.parallel_config(**backend):
            sweep(configs, store=Path(store), progress=False)

    tables = {
        "PGD-20 on 700 test digits": {
            "batches of 512, as ours": evaluated(512),
            "batches of 32": evaluated(32),
            "one batch": evaluated(len(test[1])),
        },
        "four runs of 8 epochs": {
            "two processes, as ours": partial(swept, backend="loky", n_jobs=2),
            "two threads": partial(swept, backend="threading", n_jobs=2),
            "one after the other": partial(swept, backend="sequential"),
        },
        "t-SNE of 540 points": {
            "ours": lambda: features.tsne(z),
            "ours, going on from points": lambda: features.tsne(z, start=start),
            "scikit-learn's, random start": lambda: TSNE(init="random", random_state=0).fit_transform(z),
        },
        "a subset": {
            "ours, step-25 of the digits": lambda: load_dataset("digits", imbalance="step-25"),
        },
        "a new process": {
            "import srat_utils": fresh("import srat_utils"),
            "import torch, torchvision, sklearn, pandas": fresh("import torch, torchvision, sklearn.manifold, pandas"),
            "import torch": fresh("import torch"),
        },
    }
    return pd.concat(
        {name: compare(work, max(3, rounds // 3), device) for name, work in tables.items()}, names=["part"]
    )


def growth(device: torch.device, rounds: int) -> pd.DataFrame:
    """How the cost grows: each row beside the first of its kind, with the work a multiple of it."""
    tables = {}

    def attack_on(batch=16, side=16, classes=10, steps=5):
        model = build("resnet18", 3, classes).to(device, memory_format=torch.channels_last)
        x, y = torch.rand(batch, 3, side, side, device=device), torch.randint(classes, (batch,), device=device)
        return lambda: pgd(model, x, y, PGD(8 / 255, 2 / 255, steps))

    for name, option, settings in (
        ("attack, batch", "batch", (8, 16, 32, 64)),
        ("attack, steps", "steps", (5, 10, 20)),
        ("attack, image side", "side", (8, 16, 32)),
        ("attack, classes", "classes", (10, 100, 1000)),
    ):
        table = compare({f"{value}": attack_on(**{option: value}) for value in settings}, rounds, device)
        table["work"] = (np.array(settings) / settings[0]) ** (2 if option == "side" else option != "classes")
        tables[name] = table
    separation = {}
    for batch in (32, 128, 512, 2048):
        z, y = torch.randn(batch, 512, device=device, requires_grad=True), torch.randint(10, (batch,), device=device)
        separation[f"{batch}"] = lambda z=z, y=y: losses.feature_separation(z, y).backward()
    tables["L_sep, batch"] = compare(separation, 4 * rounds, device).assign(work=[1.0, 16.0, 256.0, 4096.0])
    return pd.concat(tables, names=["growth"]).rename(columns={"times ours": "times the first"})


def gpu(device: torch.device, rounds: int) -> pd.DataFrame:
    """The paper's epoch on a GPU: ResNet-18, 3×32×32, batches of 128, PGD-10, augmentation; images per second and share of peak."""
    dataset = random_images(12_800)
    peak = matrix_rate(device, torch.bfloat16, rounds)
    config = Config.paper("cifar10", "step-100", "SRAT-LDAM", device=device.type)
    work = {
        name: our_epoch(config.replace(**choice), dataset, device)
        for name, choice in {
            "ours, bf16, compiled": {"precision": "bf16", "compile": True},
            "ours, bf16": {"precision": "bf16"},
            "ours, float32": {},
        }.items()
    }
    work["loop with backward() and a DataLoader, float32"] = their_epoch(config, dataset, device)
    table = compare(work, max(3, rounds // 3), device)
    rate = len(dataset) / (table["milliseconds"] / 1000)
    table["images per second"] = rate
    table["share of the bf16 matrix rate"] = rate * FORWARDS_AN_IMAGE * FORWARD_GFLOP * 1e9 / peak
    table["bf16 matrix rate, TFLOP/s"] = peak / 1e12
    return table


def matrix_rate(device: torch.device, dtype: torch.dtype, rounds: int) -> float:
    """Operations a second of the device's own product of two large square matrices."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / best_of(partial(torch.matmul, a, b), device, rounds)


def convolution_rate(device: torch.device, dtype: torch.dtype, rounds: int) -> float:
    """Operations a second of a single large 3×3 convolution, with more channels than the network's."""
    x = torch.randn(32, 512, 32, 32, device=device).to(dtype, memory_format=torch.channels_last)
    w = torch.randn(512, 512, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    with torch.inference_mode():
        return 2 * 9 * 512**2 * 32 * 32**2 / best_of(partial(torch.conv2d, x, w, padding=1), device, rounds)


def best_of(function: Callable[[], object], device: torch.device, rounds: int) -> float:
    return min([timed(function, device) for _ in range(3 + rounds)][3:])


PARTS = {
    function.__name__: function
    for function in (attack, strong, limit, epoch, run, cluster, accuracy, parts, growth, gpu)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all that this machine can run")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    device = torch.device(options.device)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in options.parts or PARTS:
        if name == "gpu" and device.type != "cuda":
            print("\ngpu: not measured, no CUDA GPU here.  On a machine with one: python benchmarks/bench.py gpu")
            continue
        table = PARTS[name](device, options.rounds)
        print(f"\n{name}: {PARTS[name].__doc__.splitlines()[0]}\n{table.round(2).to_string()}", flush=True)
        facts = {"hardware": hardware(device), "cores": os.cpu_count(), "torch": VERSIONS["torch"]}
        table.reset_index().assign(**facts).to_csv(
            FOLDER / f"{name}-{device.type}.csv", index=False, float_format="%.4g"
        )


if __name__ == "__main__":
    main()
