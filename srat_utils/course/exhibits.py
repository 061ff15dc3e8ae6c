"""What is kept of a few networks so that notebooks can show them without: features, how well these part, attacked examples.

Beside a stage's results: features-<fingerprint>.npz, separability.csv, examples.png with examples.csv.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.decomposition import PCA

from .. import features
from ..config import Config
from ..evaluation import PAPER
from ..imbalance import make_imbalanced
from ..runs import Run
from ..store import locked, write
from . import theory
from .results import home_of, stage_of


def export_features(run: Run, folder: Path | None = None, *, per_class: int = 100, components: int = 50) -> None:
    """Write what a picture like Figure 4 needs, without its model, to `folder`/<stage>/features-<fingerprint>.npz.

    features: float16 [N,≤components], the first principal components of attacked training images' penultimate features.
    labels: int64 [N].  At most per_class images per class.  A file that is there already stays as it is.
    """
    home = home_of(stage_of(run.config), folder)
    target = home / f"features-{run.config.fingerprint}.npz"
    if target.exists():
        return
    home.mkdir(parents=True, exist_ok=True)
    sample = make_imbalanced(run.data.train, "none", max_per_class=per_class)
    z = features.penultimate(run.model, sample, run.config.training_attack)
    z = PCA(min(components, *z.shape), svd_solver="full").fit_transform(z).astype(np.float16)

    def save(path: Path) -> None:
        with path.open("wb") as file:  # given a path, NumPy adds an ending of its own
            np.savez_compressed(file, features=z, labels=sample.labels)

    write(target, save)


def features_of(config: Config, folder: Path | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """What `export_features` wrote of a run: components [N,≤50] and labels [N]; None if there is nothing."""
    path = home_of(stage_of(config), folder) / f"features-{config.fingerprint}.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        return stored["features"].astype(np.float32), stored["labels"]


def export_examples(run: Run, folder: Path | None = None) -> None:
    """Write a test image of each class, as it is and attacked, to `folder`/<stage>/examples.png, and what is read in examples.csv.

    The first image of the class that the network reads right, else the first one.  Above the images, below the attacked ones.
    """
    home = home_of(stage_of(run.config), folder)
    test, said = run.data.test, run.outcomes(PAPER).predictions["clean"]
    index = [np.flatnonzero(test.labels == c) for c in range(len(test.classes))]
    index = np.array([next((i for i in own if said[i] == test.labels[i]), own[0]) for own in index])
    x, y = test.subset(index).tensors(run.model.device)
    x = x.float() / 255
    attacked = run.config.evaluation_attack(run.model, x, y, generator=torch.Generator(x.device).manual_seed(0))
    rows = [(255 * part).round().byte().permute(2, 0, 3, 1).flatten(1, 2).cpu().numpy() for part in (x, attacked)]
    names = np.asarray(test.classes)
    read = [names[run.model(part).argmax(1).cpu().numpy()] for part in (x, attacked)]
    home.mkdir(parents=True, exist_ok=True)
    whole = np.concatenate(rows)
    whole = whole[..., 0] if whole.shape[2] == 1 else whole
    write(home / "examples.png", lambda path: Image.fromarray(whole).save(path, format="png"))
    table = pd.DataFrame({"class": names, "read": read[0], "attacked": read[1]})
    write(home / "examples.csv", lambda path: table.to_csv(path, index=False))


def examples(stage: str, folder: Path | None = None) -> list[tuple[np.ndarray, str]]:
    """What `export_examples` wrote: a picture uint8 [H,W,C] and its words, class after class, clean then attacked."""
    home = home_of(stage, folder)
    table = pd.read_csv(home / "examples.csv", dtype=str, keep_default_na=False)
    with Image.open(home / "examples.png") as file:
        pixels = np.atleast_3d(np.array(file))
    height, width, shown = len(pixels) // 2, pixels.shape[1] // len(table), []
    for place, (name, read, attacked) in enumerate(table.itertuples(index=False)):
        for row, words in enumerate((f"{name}: {read}", f"attacked: {attacked}")):
            shown.append((pixels[row * height : (row + 1) * height, place * width : (place + 1) * width], words))
    return shown


def export_separability(runs: Iterable[Run], folder: Path | None = None) -> None:
    """Add to `folder`/<stage>/separability.csv how well the classes part in the features of test images, clean and attacked.

    One row per run and kind of images: `features.separability`, and of two classes `theory.measured_t`, too.  Runs that are there
    already are not measured again.
    """
    runs = list(runs)
    for stage in sorted({stage_of(run.config) for run in runs}):
        home, known = home_of(stage, folder), separability(stage, folder)
        new = [run for run in runs if stage_of(run.config) == stage]
        rows = []
        for run in (run for run in new if (run.config.fingerprint, "clean") not in known.index):
            for images, attack in (("clean", None), ("attacked", run.config.evaluation_attack)):
                z, labels = features.penultimate(run.model, run.data.test, attack), run.data.test.labels
                measured = features.separability(z, labels)
                if len(run.classes) == 2:
                    measured["t"] = theory.measured_t(z, labels)
                rows.append({"fingerprint": run.config.fingerprint, "images": images} | measured)
        if rows:
            new = pd.DataFrame(rows).set_index(["fingerprint", "images"])
            home.mkdir(parents=True, exist_ok=True)
            with locked(home, "writing"):
                known = separability(stage, folder)
                whole = pd.concat([known[~known.index.isin(new.index)], new]).sort_index()
                write(home / "separability.csv", lambda path, whole=whole: whole.to_csv(path, float_format="%.6g"))


def separability(stage: str, folder: Path | None = None) -> pd.DataFrame:
    """What `export_separability` wrote, index (fingerprint, images "clean" or "attacked"); empty if there is nothing."""
    path = home_of(stage, folder) / "separability.csv"
    if not path.exists():
        return pd.DataFrame()
    return pd.read_csv(path, dtype={"fingerprint": str}).set_index(["fingerprint", "images"])
