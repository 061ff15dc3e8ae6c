"""What the sliders of the course and the prediction cards draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from scipy.stats import norm

from .. import weights
from ..evaluation import of_kind
from ..images import ImageDataset, under_represented
from ..imbalance import class_counts
from . import theory
from .plots import COLOURS, PANELS, UNDER, WELL, apart, class_colours, kinds
from .svg import Chart, Panels

MEASURED = "#006B4F"


def prediction(guess: float, answer: float, low: float, high: float, unit: str, revealed: bool) -> Chart:
    """A bar for the guess and, once it is revealed, one for the measured answer, with the difference in words."""
    said = f"Your guess: {quantity(guess, unit)}."
    if revealed:
        said += f" Measured: {quantity(answer, unit)}. {difference(guess, answer, unit)}"
        low, high = min(low, answer), max(high, answer)
    span = high - low or 1
    chart = Chart((low, high), (0, 3), height=120, left=90, alt=said).y_ticks([1.5, 0.5], ["your guess", "measured"])
    chart.ticks(ticks := np.linspace(low, high, 5), [f"{tick:.3g}" for tick in ticks])
    foot = min(max(0.0, low), high)  # bars grow from 0 where 0 is in view
    chart.line([foot, guess], [1.5, 1.5], "#666", width=3, dash="4 3").diamonds([guess], [1.5], "#444")
    if revealed:
        chart.line([foot, answer], [0.5, 0.5], MEASURED, width=14)
    else:
        chart.text(low + 0.01 * span, 0.5, "press Reveal", dy=4)
    return chart.text(low, 2.6, said)


def quantity(value: float, unit: str) -> str:
    return f"{f'{round(value, 1):g}' if unit in ('%', 'points') else f'{value:.3g}'} {unit}".strip()


def difference(guess: float, answer: float, unit: str) -> str:
    distance = quantity(abs(guess - answer), "points" if unit == "%" else unit)
    if quantity(guess, unit) == quantity(answer, unit):
        return "You were right."
    return f"Your guess was {distance} too {'high' if guess > answer else 'low'}."


def choice(guess: str, answer: str, choices: Sequence[str], revealed: bool, measured: str) -> Chart:
    """The choices, the guessed one with a diamond and, once it is revealed, the right one with a bar."""
    said = f"Your guess: {guess}."
    if revealed:
        said += f" {'That is right' if guess == answer else f'It is: {answer}'}. {measured}"
    rows = len(choices)
    chart = Chart((0, 1), (0, rows + 1), height=24 * (rows + 1) + 16, left=20, axis=False, alt=said.strip())
    for row, name in zip(range(rows, 0, -1), choices, strict=True):
        if revealed and name == answer:
            chart.text(0, row - 0.5, "✓", colour=MEASURED, dy=4)
        if name == guess:
            chart.diamonds([0.03], [row - 0.5], "#444")
        chart.text(0.055, row - 0.5, name + (" (measured)" if revealed and name == answer else ""), dy=4)
    return chart.text(0, rows + 0.4, said.strip())


def attack_step(
    networks: Mapping[str, tuple[np.ndarray, np.ndarray]],
    clean: np.ndarray,
    eps: float,
    step: int,
    classes: Sequence[str],
    label: int,
) -> Panels:
    """One image after some steps of an attack: one row per network with the image, the change and the class probabilities.

    networks: name → (attacked image [C,H,W] in [0,1], probabilities [classes]).  clean: the image itself, like the attacked one.
    """
    rows, said = [], []
    for name, (image, probabilities) in networks.items():
        read = int(np.argmax(probabilities))
        verdict = f"{classes[read]} ({probabilities[read]:.0%}), {'right' if read == label else 'wrong'}"
        said.append(f"{name} reads {verdict}")
        change = (image - clean).mean(0) / eps if eps > 0 else np.zeros_like(clean[0])
        colours = matplotlib.colormaps["cividis"](0.5 + 0.5 * change, bytes=True)[..., :3]
        square = {"width": 190, "height": 206, "left": 14, "axis": False}
        chart = Chart(
            (-0.6, len(classes) - 0.4), (0, 1.1), width=330, height=206, title=f"{name} reads {verdict}: probabilities"
        )
        chart.y_ticks([0, 0.5, 1], ["0", "½", "1"]).ticks(range(len(classes)), short(classes))
        others = [i for i in range(len(classes)) if i != label]
        chart.bars(others, probabilities[others], COLOURS["under"], filled=False)
        chart.bars([label], probabilities[[label]], COLOURS["well"])
        chart.text(label, probabilities[label], "true", dy=-4, anchor="middle")
        rows.append(
            [
                Chart((0, 1), (0, 1), title=f"{name}: image", **square).image(image),
                Chart((0, 1), (0, 1), title=f"change, ±{eps:g} in full colour", **square).image(colours),
                chart,
            ]
        )
    key = Chart((0, 1), (0, 1), width=710, height=28, left=14, axis=False)
    key.text(
        0, 0.5, "change: dark blue is darker, yellow is lighter, grey is none; bars: filled is the true class", dy=4
    )
    return Panels([*rows, [key]], f"ε = {eps:g}, after {step} steps: {'; '.join(said)}.")


def short(classes: Sequence[str]) -> list[str]:
    return [name[:4] for name in classes]


def imbalance(form: str, K: float, n_max: int, beta: float = 0.9999, classes: int = 10) -> Panels:
    """Images a class and class-balanced weights of Step-K or Exp-K (`form`), from n_max images per class.  DataError if one gets none."""
    counts = class_counts(f"{form}-{K:.4g}", [n_max] * classes)
    w = weights.class_balanced(counts, beta)
    under = under_represented(counts)
    charts = []
    for title, values, top, form_of in (
        (f"training images, {sum(counts)} in all", counts, n_max, "{:.0f}"),
        (f"class-balanced weights, β = {beta:g}, sum {w.sum():.3g}", w, max(2.0, w.max()), "{:.2f}"),
    ):
        chart = Chart((-0.6, classes - 0.4), (0, 1.12 * top), width=390, height=250, title=title, x_label="class")
        chart.ticks(range(classes)).y_ticks([0, top], ["0", f"{top:.0f}"])
        for group, own in (("well", ~under), ("under", under)):
            where = np.flatnonzero(own)
            chart.bars(where, np.asarray(values)[where], COLOURS[group], filled=group == "well")
        for position, value in enumerate(values):
            chart.text(position, value, form_of.format(value), dy=-4, anchor="middle")
        charts.append(chart)
    key = Chart((0, 1), (0, 1), width=780, height=28, left=34, axis=False)
    key.text(0, 0.5, "filled: well-represented", colour=COLOURS["well"], dy=4)
    key.text(0.25, 0.5, "dashed: under-represented", colour=COLOURS["under"], dy=4)
    said = f"{form}-{K:.4g} from {n_max} images per class: {', '.join(map(str, counts))} images; "
    said += f"the rarest class weighs {w.max() / w.min():.3g} times the most frequent"
    return Panels([charts, [key.text(0.55, 0.5, f"largest : smallest weight = {w.max() / w.min():.3g}", dy=4)]], said)


Curves = dict[tuple[str, str], pd.DataFrame]


def curves_of(metrics: pd.DataFrame) -> Curves:
    """(panel, group) → mean, min and max accuracy over seeds, a row a weight ratio.

    metrics: `sweeps.tidy(…, "adversarial", "weight_ratio", "seed", per_class=True)` of one pair of classes.
    """
    found = {}
    for adversarial, kind, name in PANELS:
        rows = of_kind(metrics[metrics["adversarial"] == adversarial], kind)
        if rows.empty:
            continue
        for group in COLOURS:
            own = rows[rows["group"] == group]
            found[name, group] = own.groupby("weight_ratio")["accuracy"].agg(["mean", "min", "max"])
    return found


def ratio_explorer(curves: Curves, yours: Curves, ratio: float) -> Panels:
    """The measured curves of accuracy against the weight ratio, the points trained by the reader, and the ratio now chosen."""
    charts, said = [], []
    reach = max(table.index.max() for table in curves.values())
    width = np.log10(max(reach, 2))
    names = list(dict.fromkeys(name for name, _ in curves))
    for name in names:
        title = name.replace("\n", " ")
        chart = Chart(
            (-0.08, width + 0.12),
            (-3, 112),
            width=900 // len(names),
            title=f"{title} (%)",
            x_label="weight ratio, under : well",
        )
        chart.y_ticks([0, 50, 100])
        marks = [tick for tick in (1, 2, 5, 10, 25, 50, 100, 200) if tick <= reach]
        chart.ticks(np.log10(marks), [str(tick) for tick in marks])
        chart.line([np.log10(ratio)] * 2, [-3, 112], "#444", dash="2 3", width=1)
        for group, colour in COLOURS.items():
            table = curves[name, group]
            x = np.log10(table.index.to_numpy(dtype=float))
            chart.area(x, table["max"], colour, low=table["min"], opacity=0.16).line(x, table["mean"], colour)
            chart.points(x, table["mean"], colour, triangle=group == "under")
        for group, colour in COLOURS.items():
            mine = yours.get((name, group), pd.DataFrame({"mean": []}))
            x = np.log10(mine.index.to_numpy(dtype=float))
            chart.diamonds(x, mine["mean"], colour).points(x, mine["mean"], colour, triangle=group == "under")
            for place, own, accuracy in zip(x, mine.index, mine["mean"], strict=True):
                chart.text(place, accuracy, f"{accuracy:.0f}", colour=colour, dx=12, dy=-6)
                said.append(f"{title}, {group}, ratio {own:.3g}: {accuracy:.0f} %")
        charts.append(chart)
    key = Chart((0, 1), (0, 1), width=900, height=28, left=34, axis=False)
    key.points([0.01], [0.5], COLOURS["well"]).text(0.025, 0.5, "well-represented", colour=COLOURS["well"], dy=4)
    key.points([0.2], [0.5], COLOURS["under"], triangle=True)
    key.text(0.215, 0.5, "under-represented", colour=COLOURS["under"], dy=4)
    key.diamonds([0.41], [0.5], "#444").text(0.43, 0.5, "yours", dy=4).text(
        0.53, 0.5, f"ratio now: {ratio:.3g} : 1", dy=4
    )
    alt = (
        f"Accuracy against the weight ratio, {ratio:.3g} : 1 chosen. Yours: {'; '.join(said) or 'nothing trained yet'}."
    )
    return Panels([charts, [key]], alt)


def separation(
    accuracies: pd.DataFrame,
    measured: Mapping[float, Mapping[str, float]],
    value: float,
    points: np.ndarray,
    dataset: ImageDataset,
    projection: str,
) -> Panels:
    """One λ of a sweep (Figures 4 and 6): group accuracies along λ, the features in the plane, accuracy per class, two meters.

    accuracies: `sweeps.tidy(…, "separation_weight", "seed", per_class=True)`, means over seeds.  measured: λ → numbers of
    `features.separability`.  points: the training images of `dataset` in the plane [N,2], centred and scaled alike for all λ.
    """
    parts = {kind: of_kind(accuracies, kind) for kind in kinds(accuracies)}
    hardest = list(parts)[-1]
    lambdas = sorted(measured)
    place = lambdas.index(value)
    curves = Chart(
        (-0.3, len(lambdas) - 0.5), (-3, 112), width=300, height=280, title=f"accuracy (%), λ = {value:g}", x_label="λ"
    )
    curves.ticks(range(len(lambdas)), [f"{number:g}" for number in lambdas]).y_ticks([0, 50, 100])
    curves.line([place] * 2, [-3, 112], "#444", dash="2 3", width=1)
    said, marked = [], []
    for group, colour in COLOURS.items():
        for kind, rows in parts.items():
            table = rows[rows["group"] == group].groupby("separation_weight")["accuracy"].mean().loc[lambdas]
            curves.line(range(len(lambdas)), table, colour, dash={"clean": "", "robust": "5 3", "strong": "1 3"}[kind])
            curves.points(range(len(lambdas)), table, colour, triangle=group == "under")
            marked.append((table[value], colour))
            said.append(f"{group} {kind} {table[value]:.0f} %")
    beside = apart(np.array([(0, accuracy) for accuracy, _ in marked]), 6)[:, 1] + 2  # in percent, of 115 on the chart
    for (accuracy, colour), height in zip(marked, beside, strict=True):
        curves.text(place, height, f"{accuracy:.0f}", colour=colour, dx=6)

    under, colours = dataset.under, class_colours(dataset.classes)
    reach = 2.2 * points.std(0).max()
    (left, low), (right, high) = points.mean(0) - reach, points.mean(0) + reach
    shown = np.clip(points, (left, low), (right, high))
    title = f"{projection}, attacked training images"
    plane = Chart((left, right), (low, high), width=300, height=280, left=14, title=title, axis=False)
    for index in sorted(range(len(under)), key=lambda i: bool(under[i])):
        own = shown[dataset.labels == index]
        plane.points(*own.T, colours[index], triangle=under[index])
    middles = np.array([np.median(shown[dataset.labels == index], 0) for index in range(len(under))])
    own = np.stack(plane.place(*middles.T), 1)
    triangles = np.stack(plane.place(*shown[under[dataset.labels]].T), 1)
    moved = apart(own, 14, triangles, clear=11) - own
    for name, middle, beside in zip(dataset.classes, middles, moved, strict=True):
        plane.text(*middle, name, anchor="middle", dx=beside[0], dy=beside[1] + 4)

    bars = Chart(
        (-0.6, len(under) - 0.4), (0, 112), width=300, height=280, title="accuracy per class (%)", x_label="class"
    )
    bars.ticks(range(len(under)), short(dataset.classes)).y_ticks([0, 50, 100])
    for kind in ("clean", hardest):
        rows = parts[kind]
        table = rows[rows["separation_weight"] == value].groupby("class", sort=False)["accuracy"].mean()
        for group, colour in COLOURS.items():
            where = np.flatnonzero(under == (group == "under"))
            bars.bars(where, table.to_numpy()[where], colour, filled=kind == hardest)

    meters, height = [], 72
    largest = max(each["variance_ratio"] for each in measured.values())
    for name, label, top, end in (
        ("probe_accuracy", "linear probe", 100.0, " %"),
        ("variance_ratio", "variance ratio", largest, f", largest {largest:.3g}"),
    ):
        now = measured[value][name]
        meter = Chart(
            (0, 1.06 * top), (0, 1), width=450, height=height, left=120, title=f"separability: {label} {now:.3g}{end}"
        )
        meter.line([0, now], [0.9, 0.9], MEASURED, width=10).ticks([0, top], ["0", f"{top:.3g}"])
        meters.append(meter)
        said.append(f"{label} {now:.3g}")
    key = Chart((0, 1), (0, 1), width=900, height=44, left=34, axis=False)
    key.text(0, 0.8, "circles, blue: well-represented", colour=COLOURS["well"], dy=4)
    key.text(0.35, 0.8, "triangles, orange: under-represented", colour=COLOURS["under"], dy=4)
    attacked = (
        "PGD-20: dashed lines; STRONG: dotted lines, filled bars"
        if "strong" in parts
        else "robust: dashed lines, filled bars"
    )
    key.text(0, 0.2, f"clean: solid lines, dashed bars; {attacked}", dy=4)
    return Panels([[curves, plane, bars], meters, [key]], f"At λ = {value:g}, {projection}: {', '.join(said)}.")


# --- notebook 04


def theory_explorer(t: float, K: float, rho: float, eps: float) -> Chart:
    """The two densities along 1ᵀx in units of its deviation, clean and attacked, with both boundaries.  eps: share of η."""
    t_eps = t * (1 - eps)
    natural, robust = theory.errors_at(t, K, rho), theory.errors_at(t_eps, K, rho)
    behind = theory.clean_errors_behind(t, t_eps, K, rho)
    boundary, robust_boundary = (-0.5 * np.log(K / rho) / s for s in (t, t_eps))
    said = (
        f"t = {t:.2f}, t_ε = {t_eps:.2f}: natural errors {natural[0]:.1%} rare, {natural[1]:.1%} frequent; "
        f"robust errors {robust[0]:.1%} and {robust[1]:.1%}; clean images behind the robust boundary {behind[0]:.1%} and {behind[1]:.1%}"
    )
    chart = Chart((-7, 7), (0, 0.58), x_label="1ᵀx / (√d σ)", alt=said).ticks(range(-6, 7, 2))
    x = np.linspace(-7, 7, 281)
    for sign, colour in ((-1, UNDER), (1, WELL)):
        chart.line(x, norm.pdf(x - sign * t), colour).line(x, norm.pdf(x - sign * t_eps), colour, dash="5 4", width=1.5)
        wrong = (np.minimum if sign > 0 else np.maximum)(x, robust_boundary)
        chart.area(wrong, norm.pdf(wrong - sign * t_eps), colour)
    chart.line([boundary] * 2, [0, 0.42], "#111").line([robust_boundary] * 2, [0, 0.42], "#111", dash="5 4")
    chart.text(
        -6.9, 0.56, f"natural: err(−1) = Φ(L/t − t) = {natural[0]:.3f}, err(+1) = Φ(−L/t − t) = {natural[1]:.3f}"
    )
    chart.text(-6.9, 0.48, f"clean images at the robust boundary: Φ(±L/t_ε − t) = {behind[0]:.3f} and {behind[1]:.3f}")
    chart.text(
        -6.9,
        0.52,
        f"robust (dashed), t_ε = {t_eps:.2f}: {robust[0]:.3f} and {robust[1]:.3f};  L = ½ log(K/ρ) = {0.5 * np.log(K / rho):.2f}",
    )
    return chart.text(-t, 0.42, "▲ rare −1", colour=UNDER, anchor="end").text(
        t, 0.42, "● frequent +1", colour=WELL, anchor="middle"
    )


def reweighter(t: float, K: float, rho: float, reveal: bool) -> Chart:
    """Both errors against the weight, with the chosen one marked and, on request, the optimum."""
    grid = np.logspace(0, 3, 121)
    rare, frequent = theory.errors_at(t, K, grid)
    now = theory.errors_at(t, K, rho)
    said = f"t = {t:g}, K = {K:g}, ρ = {rho:.3g}: error of the rare class {now[0]:.1%}, of the frequent class {now[1]:.1%}, mean {sum(now) / 2:.1%}"
    chart = Chart((0, 3), (0, 1.15), x_label="weight ρ of the rare class (log scale)", alt=said)
    chart.ticks([0, 1, 2, 3], ["1", "10", "100", "1000"]).y_ticks([0, 0.5, 1], ["0", "½", "1"])
    mean = (rare + frequent) / 2
    chart.line(np.log10(grid), rare, UNDER).text(0.05, rare[0], "error of the rare class", colour=UNDER, dy=-6)
    chart.line(np.log10(grid), frequent, WELL)
    chart.text(2.98, frequent[-1], "error of the frequent class", colour=WELL, dy=-8, anchor="end")
    chart.line(np.log10(grid), mean, "#666", dash="2 3").text(0.05, mean[0], "mean", colour="#666", dy=-6)
    chart.line([np.log10(rho)] * 2, [0, 1], "#111", width=1)
    chart.points([np.log10(rho)], [now[0]], UNDER, triangle=True).points([np.log10(rho)], [now[1]], WELL)
    if reveal:
        chart.line([np.log10(K)] * 2, [0, 1], "#009E73", dash="5 4").text(
            np.log10(K), 0.97, f" optimum ρ = K = {K:g}", colour="#006B4F"
        )
    return chart.text(0.03, 1.08, said)


def cloud() -> tuple[np.ndarray, np.ndarray]:
    """Forty frequent and eight rare points in the plane, labels ±1."""
    generator = np.random.default_rng(0)
    y = np.repeat([1, -1], [40, 8])
    return generator.normal(size=(48, 2)) * 0.8 + y[:, None], y


def robust_cloud(rho: float, eps: float) -> Chart:
    """The cloud with its ε-boxes and the boundary of the robust linear classifier, found with the exact inner maximum."""
    x, y = cloud()
    w, b = theory.fit_robust_linear(x, y, eps=eps, rho=rho)
    wrong = theory.robust_margin(w, b, x, y, eps) <= 0
    pushed = f"{wrong[y < 0].sum()} of {(y < 0).sum()} rare, {wrong[y > 0].sum()} of {(y > 0).sum()} frequent points"
    said = f"ρ = {rho:.3g}, ε = {eps:.2f}: {pushed} can be pushed across"
    chart = Chart(
        (-4, 4), (-3.4, 3.4), height=400, width=465, x_label="x₁ to the right, x₂ upwards", alt=said
    )  # equal units
    chart.ticks(range(-4, 5, 2)).y_ticks(range(-2, 3, 2))
    chart.points(*x[y > 0].T, WELL, box=(eps, eps)).points(*x[y < 0].T, UNDER, triangle=True, box=(eps, eps))
    if np.abs(w).max() > 1e-3:
        normal = w / np.linalg.norm(w)
        foot, side = normal * b / np.linalg.norm(w), np.array([-normal[1], normal[0]])
        line = foot[:, None] + side[:, None] * np.linspace(-8, 8, 161)
        chart.line(*line[:, (np.abs(line[0]) < 4) & (line[1] > -3.4) & (line[1] < 2.9)], "#111")
    return chart.text(-3.9, 3.2, f"can be pushed across: {pushed}")


def gallery(pictures: Sequence[tuple[np.ndarray, str]], title: str, *, columns: int = 6, side: int = 112) -> Panels:
    """Small pictures in rows, a few words above each.

    pictures: (uint8 [H,W,C], or float [C,H,W] in [0,1], and its words).  title: what the whole shows, for who does not see it.
    """
    charts = []
    for picture, words in pictures:
        square = {"width": side, "height": side + 16, "left": 4, "axis": False}
        charts.append(Chart((0, 1), (0, 1), title=words, **square).image(picture))
    rows = [charts[start : start + columns] for start in range(0, len(charts), columns)]
    return Panels(rows, f"{title}: {'; '.join(words for _, words in pictures)}.")
