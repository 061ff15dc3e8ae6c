"""Three small networks that come with the package, so that the course's first picture and slider need no training.

python -m srat_utils.course.shipped    trains them anew: minutes on one core, and CIFAR-10 for the photograph
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..attacks import pgd
from ..config import Config
from ..models import load
from ..runs import Run, read
from ..trainer import train
from . import panels
from .svg import Panels

FOLDER = Path(__file__).with_name("networks")
BALANCED = Config("digits", imbalance="balanced", method="CE")
RUNS = {
    "digits-natural": BALANCED.replace(adversarial=False),
    "digits-adversarial": BALANCED,
    "photographs": Config(
        "cifar10", imbalance="balanced", method="CE", adversarial=False, model="small-cnn", max_per_class=2500,
        test_per_class=100, epochs=12, batch_size=64, warmup_epochs=0,
    ),
}  # fmt: skip
KEPT = ("config.json", "history.csv", "model.pt", "provenance.json", "spec.json")
SIDE = 180  # pixels of a picture on the page


def run(config: Config) -> Run:
    """The run that comes with the package where one has these settings, else `train(config)`."""
    names = [name for name, own in RUNS.items() if own.fingerprint == config.fingerprint]
    return read(FOLDER / names[0]) if names else train(config)


def first_picture() -> Panels:
    """A digit and a photograph: as they are, what PGD-20 changes, and what naturally trained networks then read."""
    digits = run(RUNS["digits-natural"]).data.test
    with Image.open(FOLDER / "photograph.png") as file:
        photograph = np.array(file)
    shown = []
    for name, pixels, said in (
        ("digits-natural", digits.images[0], digits.classes[digits.labels[0]]),
        ("photographs", photograph, "horse"),
    ):
        model, config = load(FOLDER / name), RUNS[name]
        classes = model.spec.classes
        x = torch.from_numpy(np.atleast_3d(pixels).astype(np.float32) / 255).permute(2, 0, 1)[None]
        y, noise = torch.tensor([classes.index(said)]), torch.Generator().manual_seed(0)
        attacked = pgd(model, x, y, config.evaluation_attack, generator=noise)
        read = [f"{classes[z.argmax()]} ({z.softmax(0).max():.0%})" for z in model(torch.cat([x, attacked]))]
        shown += [
            (x[0].numpy(), f"read as {read[0]}"),
            ((0.5 + (attacked - x) / (2 * config.eps))[0].numpy(), f"the change, at most {config.eps:.2g}"),
            (attacked[0].numpy(), f"read as {read[1]}"),
        ]
    return panels.gallery(shown, "A digit and a photograph, clean and attacked", columns=3, side=SIDE)


def make() -> None:
    """Train the networks and write them to FOLDER; the photograph there, CIFAR-10's test image 177, stays."""
    with tempfile.TemporaryDirectory() as store:
        for name, config in RUNS.items():
            made, home = train(config, store=store), FOLDER / name
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            for file in KEPT:
                shutil.copyfile(made.folder / file, home / file)
            shutil.copytree(made.folder / "evaluations", home / "evaluations")


if __name__ == "__main__":
    make()
