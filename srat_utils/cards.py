"""A model's card: what it was made of, how far it is right, what speaks against it, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from . import checks, evaluation
from .evaluation import Protocol
from .images import DataError
from .pictures import printable
from .sources import KNOWN, at_hand

FEW = 30  # test images of a class, below which its accuracy is hardly known: 95 % intervals are up to 34 points wide, and more
READING = """```python
from srat_utils import load
network = load("this folder")
names, probabilities = network.predict(["picture.png"])  # a column per class: network.classes

import torch  # or without this package: images float [N,{channels},{height},{width}] in [0,1]
logits = torch.export.load("model.pt2").module()(images)
```"""


def interval(accuracy: float, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval, in percent, of an accuracy in percent over so many images."""
    return checks.wilson(round(accuracy * images / 100) if images else 0, images)


def with_interval(accuracy: float, images: int) -> str:
    low, high = interval(accuracy, images)
    return f"{accuracy:.1f} [{low:.1f}, {high:.1f}]" if images else "no image"


def markdown(rows: Sequence[Sequence]) -> str:
    """A table, its first row the head."""
    lines = [[" ".join(str(cell).replace("|", "\\|").split("\n")) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], ["-"] * len(lines[0]), *lines[1:]])


def card(run, protocols: Sequence[Protocol], *, check: bool = True, progress: bool = False) -> str:
    """The card of a `runs.Run` in Markdown.  check: whether it says if the robustness is real."""
    frames, unmeasured = {}, []
    for protocol in protocols:
        try:
            frame = run.evaluate(protocol, progress=progress)
            if evaluation.of_kind(frame, "robust").empty:
                raise DataError("it has no attack")
            frames[protocol.name] = frame
        except (ValueError, RuntimeError, OSError) as problem:
            unmeasured.append(f"Not measured under {protocol.name!r}: {without_place(problem, run.config)}.")
    parts = [
        f"# {run.config.name}",
        made_of(run),
        "## Accuracy, percent\n\nWith 95 % intervals (Wilson) over the test images; a training from another seed varies, too.",
        *([accuracies(run, frames)] if frames else []),
        *unmeasured,
        "## Is this robustness real?",
        judged(run, check),
        "## What it must not be used for",
        "\n".join(f"- {line}" for line in limits(run, frames)),
        "## Reading it back",
        READING.format(channels=run.spec.channels, height=run.spec.size[0], width=run.spec.size[1]),
        "## Settings",
        "\n".join(f"- {name}: {value}" for name, value in settings(run)),
    ]
    return "\n\n".join(parts) + "\n"


def made_of(run) -> str:
    config, counts = run.config, run.provenance["class_counts"]
    (height, width), colour = run.spec.size, {1: "grey", 3: "colour"}.get(run.spec.channels, "")
    trained = f"adversarially ({config.training_attack.name})" if config.adversarial else "without an adversary"
    rare = [name for name, is_rare in zip(counts, run.rare, strict=True) if is_rare]
    return (
        f"{config.model} for {colour} pictures of {height}×{width} pixels, trained {trained} by {config.method} for "
        f"{config.epochs} epochs on {sum(counts.values()):,} images of {source(config)}.  Rare classes: "
        f"{', '.join(rare) or 'none'}."
        + (f"  The log of each class's share of them, times {run.tau:g}, is taken off its logits." if run.tau else "")
    )


def source(config) -> str:
    """The images' name, not where they lie on somebody's machine."""
    if config.dataset in KNOWN:
        return config.dataset
    return f"{printable(Path(config.dataset).name)} (content {config.images})"


def without_place(problem: Exception, config) -> str:
    """What went wrong, in one line that does not say where the images lie."""
    line = " ".join(str(problem).split()) or type(problem).__name__
    return line if config.dataset in KNOWN else printable(line.replace(config.dataset, Path(config.dataset).name))


def accuracies(run, frames: dict[str, pd.DataFrame]) -> str:
    """One row per class, and one of all test images: accuracy and interval, clean and under each protocol's worst case.

    Protocols that test another network (with a prior) or other images have a clean column of their own.
    """
    columns = {}
    for name, frame in frames.items():
        clean, robust = (evaluation.of_kind(frame, kind) for kind in ("clean", "robust"))
        if not any(clean.equals(column) for column in columns.values()):
            columns[f"{name}: clean" if columns else "clean"] = clean
        columns[f"{name}: {robust['attack'].iloc[0]}"] = robust
    rows = [["class", "training images", "test images", *columns]]
    for position, (name, trained) in enumerate(run.provenance["class_counts"].items()):
        cells = [with_interval(*frame.iloc[position][["accuracy", "images"]]) for frame in columns.values()]
        label = f"{name} (rare)" if run.rare[position] else name
        rows.append([label, trained, columns["clean"].iloc[position]["images"], *cells])

    def over_all(frame: pd.DataFrame) -> str:
        images = int(frame["images"].sum())
        return with_interval((frame["accuracy"] * frame["images"]).sum() / max(1, images), images)

    total = int(columns["clean"]["images"].sum())
    rows.append(["all images", sum(run.provenance["class_counts"].values()), total, *map(over_all, columns.values())])
    rows.append(["mean over classes", "", "", *(f"{frame['accuracy'].mean():.1f}" for frame in columns.values())])
    return markdown(rows)


def judged(run, check: bool) -> str:
    """The findings as a table, or why there are none."""
    if not check:
        return "Not checked."
    if run.folder is None:
        return "Not checked: only the numbers of this run are kept."
    try:
        if not at_hand(run.config.dataset):
            return f"Not checked: the images of {run.config.dataset} are not on this machine."
        return checks.table(run.findings)
    except Exception as problem:  # a card that fails must not stop an export
        return f"Not checked: {without_place(problem, run.config)}."


def limits(run, frames: dict[str, pd.DataFrame]) -> list[str]:
    """Uses that the data and the numbers do not carry."""
    config, names = run.config, run.classes
    lines = [
        "Deciding about people or their safety on its own: it is wrong as often as the table says.",
        f"Pictures of anything else than {', '.join(names)}: it always answers with one of them.  Its probabilities are not "
        "calibrated.",
        "Pictures made otherwise than the training images (another camera, place, year, size): nothing was measured there.",
        f"Attacks other than a change of each pixel by at most ε = {config.eps:.4g} of its range: larger ones, patches, "
        "rotations, and attackers that know its training images were not tried.",
    ]
    if not config.adversarial:
        lines.append("Anything that an adversary can reach: it was trained without one.")
    if frames:
        clean = evaluation.of_kind(next(iter(frames.values())), "clean")
        attacked = [at_chance(evaluation.of_kind(frame, "robust")) for frame in frames.values()]
        few = [row["class"] for _, row in clean.iterrows() if row["images"] < FEW]
        lost = at_chance(clean)
        weak = [name for name in names if name not in lost and any(name in own for own in attacked)]
        if few:
            lines.append(
                f"Claims about {', '.join(few)}: fewer than {FEW} test images each, so the accuracy is hardly known."
            )
        if lost:
            lines.append(
                f"Recognition of {', '.join(lost)} at all: not shown to be better than a guess, without any attack."
            )
        if weak:
            lines.append(f"Robust recognition of {', '.join(weak)}: under attack not shown to be better than a guess.")
        if evaluation.is_collapsed(next(iter(frames.values()))):
            lines.insert(0, "Anything: the training collapsed, and one class takes almost all pictures.")
    return lines


def at_chance(rows: pd.DataFrame) -> list[str]:
    """The classes whose accuracy could be that of a guess."""
    chance = 100 / len(rows)
    return [row["class"] for _, row in rows.iterrows() if interval(row["accuracy"], row["images"])[0] <= chance]


def settings(run) -> list[tuple[str, object]]:
    own = {name: value for name, value in run.config.to_dict().items() if value is not None}
    versions = " ".join(f"{name} {version}" for name, version in run.provenance["versions"].items())
    return list((own | {"dataset": source(run.config), "versions": versions}).items())
