"""The course's figures: every function returns a Picture, which a notebook shows as the last value of a cell.

One pair of colours throughout (Okabe–Ito), always with a marker or hatch beside it: blue ● for well-represented classes,
vermillion ▲ for under-represented ones; clean accuracy is filled, robust accuracy is hatched.  Kinds of accuracy are "clean",
"robust" (PGD-20) and, where a frame has it, "strong" (the protocol STRONG; `sweeps.tidy(…, beside=STRONG)`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from ..evaluation import of_kind
from .svg import bundle, tag

WELL, UNDER = "#0072B2", "#D55E00"
COLOURS = {"well": WELL, "under": UNDER}
MARKERS = {"well": "o", "under": "^"}
GROUP_HATCHES = {"well": "", "under": ".."}
HATCHES = {"clean": "", "robust": "///", "strong": "xxxx"}
STYLES = {"clean": "-", "robust": "--", "strong": ":"}
KIND_NAMES = {"clean": "clean", "robust": "PGD-20", "strong": "STRONG"}
GROUP_NAMES = {"well": "well-represented", "under": "under-represented"}
# Ten hues that stay apart for colour-blind readers; pictures of features name each class beside its points.
CLASS_COLOURS = [
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#000000",
    "#882255",
    "#999999",
]
HALO = [withStroke(linewidth=2.5, foreground="white")]  # round letters that stand on points
DPI = 100


@dataclass(frozen=True)
class Picture:
    """A figure with its alt text, which is also what a reader without pictures sees."""

    figure: Figure
    alt: str

    def png(self) -> bytes:
        return png(self.figure)

    def html(self) -> str:
        return tag(self.png(), self.alt)

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        return bundle(self.png(), self.alt)


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # No software stamp: equal figures give equal bytes.
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def grid(rows: int, columns: int, width: float, height: float, **options) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def dress(axes, *, title: str = "", x: str = "", y: str = "") -> None:
    given = {"title": title, "xlabel": x, "ylabel": y}
    axes.set(**{name: words for name, words in given.items() if words})  # what a figure's own function wrote stays
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def whiskers(std: pd.Series) -> pd.Series | None:
    """None for a single seed: no error bar, not one of length 0."""
    return std if std.notna().any() else None


def group_legend(figure: Figure, *, lines: bool = False, reported: bool = False, beside: Sequence = ()) -> None:
    handles = [
        Line2D([], [], color=COLOURS[g], marker=MARKERS[g], label=GROUP_NAMES[g])
        if lines
        else Patch(facecolor=COLOURS[g], hatch=GROUP_HATCHES[g], edgecolor="white", label=GROUP_NAMES[g])
        for g in COLOURS
    ]
    if reported:
        cross = Line2D([], [], linestyle="", color="#444444", marker="X", markerfacecolor="white", label="the paper's")
        handles.append(cross)
    handles += beside
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def class_bars(
    values: Mapping[str, Sequence[float]], under: Mapping[str, Sequence[bool]], *,
    y: str, title: str = "", top: float | None = None, line: tuple[float, str] | None = None,
) -> Picture:  # fmt: skip
    """A number per class, a panel for each training set; of its images (Figures 13 and 14) or of anything else.

    values: name → [C].  under: name → bool [C].  top: where the axes end; None: each its own values' end.  line: a level to
    compare with, and its name.
    """
    width = max(5.4, 2.7 * len(values))  # the legend has to fit
    figure, axes = grid(1, len(values), width, 3.0, sharey=top is None and line is None)
    for axis, (name, heights) in zip(axes.flat, values.items(), strict=True):
        groups = ["under" if rare else "well" for rare in under[name]]
        drawn = axis.bar(
            range(len(heights)), heights, color=[COLOURS[g] for g in groups], edgecolor="white",
            hatch=[GROUP_HATCHES[g] for g in groups],
        )  # fmt: skip
        axis.bar_label(drawn, fmt=short_number, fontsize=7, rotation=90, padding=2)
        axis.set_xticks(range(len(heights)), range(len(heights)), fontsize=8)
        highest = top or max(np.max(own) for own in (values.values() if line is None else [heights]))
        axis.set_ylim(0, 1.3 * highest)  # room for the numbers on the bars
        axis.set_yticks([tick for tick in axis.get_yticks() if 0 <= tick <= 1.01 * highest])
        if line is not None:
            axis.axhline(line[0], color="#444444", linestyle=":", linewidth=1)
        dress(axis, title=fill(name, 22), x="class")
    axes[0, 0].set_ylabel(y)
    figure.suptitle(title)
    dotted = [] if line is None else [Line2D([], [], color="#444444", linestyle=":", linewidth=1, label=line[1])]
    group_legend(figure, beside=dotted)
    sizes = "; ".join(f"{name}: {', '.join(map(short_number, heights))}" for name, heights in values.items())
    return Picture(figure, f"Bars per class: {', '.join(filter(None, (y, title)))}. {sizes}.")


def short_number(value: float) -> str:
    """A whole number as it is, another with three digits."""
    return f"{value:.0f}" if value == round(value) else f"{value:.3g}"


PANELS = [(False, "clean", "natural training,\nclean accuracy"), (True, "clean", "adversarial training,\nclean accuracy"),
          (True, "robust", "adversarial training,\nunder PGD-20"), (True, "strong", "adversarial training,\nunder STRONG")]  # fmt: skip


def kinds(rows: pd.DataFrame) -> list[str]:
    """The kinds of accuracy that a frame has, from the mildest to the hardest."""
    return [kind for kind in ("clean", "robust", "strong") if (rows["kind"] == kind).any()]


def panels_of(metrics: pd.DataFrame) -> tuple[Figure, list]:
    """A figure of one row, and (axis, training, kind, name) of those of PANELS that the frame has."""
    shown = [panel for panel in PANELS if panel[:2] in set(zip(metrics["adversarial"], metrics["kind"], strict=True))]
    figure, axes = grid(1, len(shown), 1 + 3 * len(shown), 3.3, sharey=True)
    axes[0, 0].set_ylabel("accuracy (%)")
    return figure, [(axis, *panel) for axis, panel in zip(axes.flat, shown, strict=True)]


def class_accuracy(metrics: pd.DataFrame, title: str = "") -> Picture:
    """Accuracy per class, one panel per kind (Figures 1, 7, 8, 9).

    metrics: `sweeps.tidy(…, "adversarial", "seed", per_class=True)` of one imbalanced set; bars are means over seeds, whiskers
    their standard deviation.
    """
    figure, shown = panels_of(metrics)
    said = []
    for axis, adversarial, kind, name in shown:
        rows = of_kind(metrics[metrics["adversarial"] == adversarial], kind)
        table = rows.groupby(["class", "group"], sort=False)["accuracy"].agg(["mean", "std"]).reset_index()
        hatches = [GROUP_HATCHES[group] for group in table["group"]]
        axis.bar(
            table["class"], table["mean"], yerr=whiskers(table["std"]), capsize=2, hatch=hatches, edgecolor="white",
            color=[COLOURS[group] for group in table["group"]], ecolor="#444444",
        )  # fmt: skip
        by_group = table.groupby("group")["mean"].mean()
        for group, mean in by_group.items():
            axis.axhline(mean, color=COLOURS[group], linestyle="-" if group == "well" else "--", linewidth=1.2)
        dress(axis, title=name, x="class")
        axis.set_ylim(0, 105)
        if table["class"].str.len().max() > 2:
            axis.tick_params(axis="x", rotation=90)
        said.append(f"{name.replace(chr(10), ' ')}: " + ", ".join(f"{g} {m:.0f} %" for g, m in by_group.items()))
    figure.suptitle(title)
    group_legend(figure)
    return Picture(figure, f"Accuracy per class, {title}. Group means (lines): {'; '.join(said)}.")


def against_ratio(
    metrics: pd.DataFrame, title: str = "", mark: float | None = None, reported: Mapping | None = None
) -> Picture:
    """Accuracy of both classes against the weight ratio, one panel per kind (Figures 2, 10, 11, 12).

    metrics: `sweeps.tidy(…, "adversarial", "weight_ratio", "seed", per_class=True)` of one pair; lines are means over seeds,
    bands reach from the lowest to the highest seed.  mark: a ratio to point out.
    reported: (accuracy, group) → {ratio: percent} of adversarial training as published, drawn as crosses.
    """
    figure, shown = panels_of(metrics)
    said = []
    for axis, adversarial, kind, name in shown:
        rows, marked = of_kind(metrics[metrics["adversarial"] == adversarial], kind), []
        for group in COLOURS:
            table = rows[rows["group"] == group].groupby("weight_ratio")["accuracy"].agg(["mean", "min", "max"])
            axis.plot(table.index, table["mean"], color=COLOURS[group], marker=MARKERS[group], markersize=5)
            axis.fill_between(table.index, table["min"], table["max"], color=COLOURS[group], alpha=0.18, linewidth=0)
            published = (reported or {}).get((kind, group), {}) if adversarial else {}
            axis.plot(
                list(published), list(published.values()), linestyle="", marker="X", markersize={"well": 12, "under": 7}[group],
                markerfacecolor="white", markeredgecolor=COLOURS[group], markeredgewidth=1.5, zorder=3,
            )  # fmt: skip
            if mark is not None:
                value = table["mean"][mark]
                axis.plot(
                    mark, value, marker=MARKERS[group], markersize=13, markerfacecolor="none", color=COLOURS[group]
                )
                marked.append((value, COLOURS[group]))
                said.append(f"{name.replace(chr(10), ' ')}, {group}: {value:.0f} %")
            else:
                said.append(
                    f"{name.replace(chr(10), ' ')}, {group}: from {table['mean'].iloc[0]:.0f} to {table['mean'].iloc[-1]:.0f} %"
                )
        if mark is not None:
            axis.axvline(mark, color="#444444", linestyle=":", linewidth=1)
            # The higher above its mark, the lower below, or beside it where the axis ends: each away from the other's line.
            beside = (11, 5) if mark == rows["weight_ratio"].min() else (-11, 5)
            highest = max(value for value, _ in marked)
            for words, (value, colour) in {f"{value:.0f}": (value, colour) for value, colour in marked}.items():
                offset = (0, 13) if value == highest else (0, -13) if value > 12 else beside
                axis.annotate(
                    words, (mark, value), offset, textcoords="offset points", ha="center", va="center", fontsize=9,
                    color=colour, path_effects=HALO,
                )  # fmt: skip
        dress(axis, title=name, x="weight ratio, under : well")
        axis.set_xscale("log")
        ticks = [
            t for t in (1, 2, 5, 10, 25, 50, 100, 200) if rows["weight_ratio"].min() <= t <= rows["weight_ratio"].max()
        ]
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axis.minorticks_off()
        axis.set_ylim(-3, 116)
    figure.suptitle(title if mark is None else f"{title}, weight ratio {mark:g} : 1")
    group_legend(figure, lines=True, reported=bool(reported))
    return Picture(figure, f"Accuracy against the weight ratio, {title}. {'; '.join(said)}.")


def class_colours(classes: Sequence[str]) -> list[str]:
    return [WELL, UNDER] if len(classes) == 2 else [CLASS_COLOURS[i % len(CLASS_COLOURS)] for i in range(len(classes))]


def scatter(axis, points: np.ndarray, labels: np.ndarray, classes: Sequence[str], under: Sequence[bool]) -> None:
    """Points [N,2] by class, named near the middle; under-represented classes are drawn last, as larger triangles."""
    colours, middles = class_colours(classes), {}
    for index in sorted(range(len(classes)), key=lambda i: bool(under[i])):
        rare = {"marker": "^", "s": 34, "edgecolors": "black", "linewidths": 0.6}
        mark = rare if under[index] else {"marker": "o", "s": 12, "alpha": 0.65}
        own = points[labels == index]
        axis.scatter(*own.T, color=colours[index], **mark)
        if len(classes) > 2 and len(own):  # colours alone would not do in greyscale
            middles[index] = own[np.abs(own - np.median(own, axis=0)).sum(axis=1).argmin()]
    axis.set(xticks=[], yticks=[])
    if not middles:
        return
    to_points = 200 / np.maximum(np.ptp(points, axis=0), 1e-9)  # an axis is about so many typographic points wide
    names, above = [classes[index][:5] for index in middles], [(0, 9 * bool(under[index])) for index in middles]
    own = np.array(list(middles.values())) * to_points
    # A letter on a triangle would hide it, and two names on one spot each other.
    triangles = points[np.array(under, bool)[labels]] * to_points
    places = apart(own + above, max(9, *(5 * len(n) for n in names)), triangles)
    for name, middle, place in zip(names, middles.values(), places, strict=True):
        beside = tuple(place - middle * to_points)
        axis.annotate(
            name, middle, beside, textcoords="offset points", ha="center", va="center", fontsize=9, path_effects=HALO
        )


TURN = np.array([[0.8, 0.6], [-0.6, 0.8]])


def apart(places: np.ndarray, least: float, marks: np.ndarray | None = None, clear: float = 8) -> np.ndarray:
    """Places of labels [N,2], moved until no two are closer than `least`, and none closer than `clear` to a mark [M,2].

    Each that is too close gives way along the line between them, or at an angle to it before a mark; marks stay.  Among a hundred
    marks no place is free, and they are passed over.
    """
    places = np.array(places, float)
    marks = np.empty((0, 2)) if marks is None or len(marks) >= 100 else np.asarray(marks, float)
    count, needed = len(places), np.repeat([least, clear], [len(places), len(marks)])
    order = np.arange(count + len(marks))
    for _ in range(200):
        gaps = places[:, None] - np.concatenate([places, marks])[None]
        distance = np.hypot(*np.moveaxis(gaps, -1, 0))
        close = (distance < needed) & (order[:count, None] != order)
        if not close.any():
            break
        gaps[close & (distance == 0)] = 0, 1  # one spot: the first goes up, the others down
        gaps[(distance == 0) & (order[:count, None] > order)] *= -1
        gaps[:, count:] @= TURN  # or what is caught between two marks would stay there
        along = gaps / np.maximum(np.hypot(*np.moveaxis(gaps, -1, 0)), 1e-9)[..., None]
        places += 0.51 * (np.where(close, needed - distance, 0)[..., None] * along).sum(1)
    return places


def class_legend(figure: Figure, classes: Sequence[str], under: Sequence[bool]) -> None:
    handles = []
    for name, colour, rare in zip(classes, class_colours(classes), under, strict=True):
        edge = "black" if rare else colour
        handles.append(
            Line2D([], [], linestyle="", color=colour, marker="^" if rare else "o", markeredgecolor=edge, label=name)
        )
    inches = 0.58 + 0.07 * max(map(len, classes))  # of a mark and the longest name
    columns = max(1, min(10, len(classes), int(figure.get_figwidth() / inches)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, handletextpad=0.2)


def embeddings(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]], classes: Sequence[str], under: Sequence[bool]
) -> Picture:
    """Scatter plots of points in the plane, coloured by class (Figures 3 and 4).

    panels: title → (points [N,2], labels [N]).  under: bool [C]; under-represented classes are drawn last, as triangles.
    """
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = grid(rows, columns, 3.4 * columns, 3.3 * rows + 0.5)
    for axis, (title, (points, labels)) in zip(axes.flat, panels.items(), strict=False):
        scatter(axis, points, labels, classes, under)
        axis.set_title(title)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    class_legend(figure, classes, under)
    rare = ", ".join(name for name, is_rare in zip(classes, under, strict=True) if is_rare)
    return Picture(
        figure,
        f"Features in the plane, one point an image, for {'; '.join(panels)}. Triangles: under-represented {rare}.",
    )


def method_bars(summaries: pd.DataFrame, title: str = "") -> Picture:
    """Clean and robust accuracy of methods, overall and under-represented, mean ± std over seeds.

    summaries: `sweeps.tidy(…, "method", "seed")`.
    """
    figure, axes = grid(1, 2, 10, 3.9)
    methods = list(dict.fromkeys(summaries["method"]))
    highest = summaries.groupby(["method", "kind"])[["overall", "under"]].mean().to_numpy().max()
    top = min(105, 10 * np.ceil(1.25 * highest / 10))  # room for the legend, not for what nobody reaches
    said = []
    for axis, measure in zip(axes.flat, ("overall", "under"), strict=True):
        width = 0.8 / len(kinds(summaries))
        for number, kind in enumerate(kinds(summaries)):
            rows, offset = of_kind(summaries, kind), (number + 0.5) * width - 0.4
            table = rows.groupby("method")[measure].agg(["mean", "std"]).loc[methods]
            colour = WELL if measure == "overall" else UNDER
            axis.bar(
                np.arange(len(methods)) + offset, table["mean"], 0.95 * width, yerr=whiskers(table["std"]), capsize=2,
                hatch=HATCHES[kind], facecolor=colour if kind == "clean" else "white", edgecolor=colour, ecolor="#444444",
                label=KIND_NAMES[kind],
            )  # fmt: skip
            said.append(f"{measure} {kind}: " + ", ".join(f"{m} {v:.0f}" for m, v in table["mean"].items()))
        axis.set_xticks(range(len(methods)), methods, rotation=40, ha="right")
        dress(axis, title="overall" if measure == "overall" else "under-represented classes", y="accuracy (%)")
        axis.set_ylim(0, top)
        axis.legend(frameon=False, ncols=3, loc="upper right", fontsize=8)
    figure.suptitle(title)
    return Picture(figure, f"Accuracy by method, {title}. {'; '.join(said)}.")


def method_dots(summaries: pd.DataFrame, title: str = "") -> Picture:
    """`method_bars` for many methods: a line each, the best on rare classes under the strongest attack on top."""
    order = of_kind(summaries, kinds(summaries)[-1]).groupby("method")["under"].mean().sort_values().index
    figure, axes = grid(1, 2, 10, 1.3 + 0.26 * len(order), sharey=True)
    said = []
    for axis, (measure, colour) in zip(axes.flat, (("overall", WELL), ("under", UNDER)), strict=True):
        for kind, marker in zip(kinds(summaries), ("o", "s", "x"), strict=False):
            table = of_kind(summaries, kind).groupby("method")[measure].agg(["mean", "std"]).loc[order]
            axis.errorbar(
                table["mean"], range(len(order)), xerr=whiskers(table["std"]), fmt=marker, color=colour, ecolor="#999999",
                markerfacecolor=colour if kind == "clean" else "white", elinewidth=1, label=KIND_NAMES[kind],
            )  # fmt: skip
            said.append(f"{measure} {kind}: " + ", ".join(f"{m} {v:.0f}" for m, v in table["mean"][::-1].items()))
        axis.set_yticks(range(len(order)), order)
        dress(axis, title="overall" if measure == "overall" else "under-represented classes", x="accuracy (%)")
        axis.grid(axis="x", alpha=0.3)
        axis.set_xlim(-3, 105)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(title)
    return Picture(figure, f"Accuracy by method, {title}. {'; '.join(said)}.")


def schedule(learning_rates: Sequence[float], weights: np.ndarray, title: str = "") -> Picture:
    """Learning rate and class weights against the epoch.  weights: [epochs, C]; the first and the last class are drawn."""
    figure, axes = grid(1, 2, 9, 2.8)
    edges = np.arange(len(learning_rates) + 1)
    axes[0, 0].stairs(learning_rates, edges, baseline=None, color="black")
    axes[0, 0].set_yscale("log")
    dress(axes[0, 0], title="learning rate", x="epoch")
    for group, column, style in (("well", 0, "-"), ("under", -1, "--")):
        line = {"color": COLOURS[group], "label": GROUP_NAMES[group], "linestyle": style}
        axes[0, 1].stairs(np.asarray(weights)[:, column], edges, baseline=None, **line)
    dress(axes[0, 1], title="class weight w", x="epoch")
    axes[0, 1].legend(frameon=False)
    figure.suptitle(title)
    last = np.asarray(weights)[-1]
    return Picture(
        figure,
        f"Learning rate falls from {max(learning_rates):g} to {min(learning_rates):g}; weights end at {last[0]:.2f} and {last[-1]:.2f}.",
    )


def class_method(metrics: pd.DataFrame, title: str = "", kind: str = "robust") -> Picture:
    """Accuracy of each class under each method, clean or robust, as a grid of numbers on a grey scale that prints.

    metrics: `sweeps.tidy(…, "method", "seed", per_class=True)` of one imbalanced set; cells are means over seeds.
    """
    rows = of_kind(metrics, kind)
    table = rows.groupby(["method", "class"], sort=False)["accuracy"].mean().unstack("class")
    rare = rows.drop_duplicates("class").set_index("class")["group"].eq("under")
    figure, axes = grid(1, 1, 1.2 + 0.75 * len(table.columns), 1.6 + 0.32 * len(table))
    axis = axes[0, 0]
    mesh = axis.imshow(table, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for row, column in np.ndindex(*table.shape):
        value = table.iat[row, column]
        axis.text(
            column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color="white" if value < 55 else "black"
        )
    axis.set_xticks(range(len(rare)), [f"▲ {name}" if rare[name] else name for name in table.columns])
    axis.tick_params(axis="x", rotation=90 if max(map(len, table.columns)) > 2 else 0)
    axis.set_yticks(range(len(table)), table.index)
    axis.set(title=title, xlabel="class (▲ under-represented)")
    figure.colorbar(mesh, ax=axis, label=f"accuracy under {KIND_NAMES[kind]} (%)")
    worst = table.min(axis=1)
    said = ", ".join(f"{method} {value:.0f}" for method, value in worst.items())
    return Picture(
        figure,
        f"Accuracy under {KIND_NAMES[kind]} per class and method, {title}. Worst class of each method, in percent: {said}.",
    )


def ranks(places: pd.DataFrame, title: str = "") -> Picture:
    """Rank of each method, 1 the best: every setting and seed as a small mark, the mean as a large one.

    places: one row per setting and seed, one column per method, ranks as values.
    """
    order = places.mean().sort_values().index
    figure, axes = grid(1, 1, 8, 0.9 + 0.32 * len(order))
    axis = axes[0, 0]
    for height, method in enumerate(order[::-1]):
        values, counts = np.unique(places[method], return_counts=True)
        axis.scatter(values, np.full(len(values), height), s=14 * counts, color=WELL, alpha=0.35, linewidths=0)
        axis.plot(places[method].mean(), height, marker="D", color=UNDER, markeredgecolor="black")
    axis.set_yticks(range(len(order)), order[::-1])
    dress(axis, title=title, x="rank (1 = best); a dot's area: how many settings × seeds, ◆: mean")
    axis.set_xticks(range(1, len(order) + 1))
    said = ", ".join(f"{method} {places[method].mean():.1f}" for method in order)
    return Picture(figure, f"Ranks of methods, {title}. Mean ranks: {said}.")


def setting_curves(
    summaries: pd.DataFrame, setting: str, mark: float, x_label: str, names: Mapping | None = None
) -> Picture:
    """Accuracy against a setting, one panel per method, overall and under-represented, clean and robust; one value marked.

    summaries: `sweeps.tidy(…, "method", setting, "seed")`; lines are means over seeds, bands from lowest to highest.
    names: value → what stands at its tick; values are drawn at equal distances because only they were run.
    """
    values = sorted(summaries[setting].unique())
    names = {value: f"{value:g}" for value in values} | dict(names or {})
    methods = list(dict.fromkeys(summaries["method"]))
    figure, axes = grid(1, len(methods), max(6.6, 3.5 * len(methods)), 3.6, sharey=True)
    said, place = [], {value: position for position, value in enumerate(values)}
    highest = max(of_kind(summaries, kind)[["overall", "under"]].max(axis=None) for kind in kinds(summaries))
    top = min(105, 10 * np.ceil(1.1 * highest / 10))
    for axis, method in zip(axes.flat, methods, strict=True):
        marked = []
        for classes, colour, marker in (("overall", WELL, "o"), ("under", UNDER, "^")):
            for kind in kinds(summaries):
                rows = of_kind(summaries[summaries["method"] == method], kind)
                table = rows.groupby(setting)[classes].agg(["mean", "min", "max"])
                x = [place[value] for value in table.index]
                label = f"{classes}, {KIND_NAMES[kind]}"
                axis.plot(x, table["mean"], STYLES[kind], color=colour, marker=marker, markersize=4, label=label)
                axis.fill_between(x, table["min"], table["max"], color=colour, alpha=0.15, linewidth=0)
                mean = table["mean"][mark]
                marked.append((mean, colour))
                said.append(f"{method} {classes} {kind} {mean:.0f} %")
        line = 0.046 * (top + 3)  # as high as a number is
        beside = apart(np.array([(0, mean) for mean, _ in marked]), line)[:, 1] + 0.4 * line
        for (mean, colour), height in zip(marked, beside, strict=True):
            axis.text(place[mark] + 0.08, height, f"{mean:.0f}", color=colour, fontsize=9, path_effects=HALO)
        axis.axvline(place[mark], color="#444444", linestyle=":", linewidth=1)
        axis.set_xticks(range(len(values)), [names[value] for value in values])
        dress(axis, title=method, x=x_label)
        axis.set_ylim(-3, top)
    axes[0, 0].set_ylabel("accuracy (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles) // 2, frameon=False)
    return Picture(figure, f"Accuracy against {x_label}; at {names[mark]}: {', '.join(said)}.")


def paired_differences(differences: pd.DataFrame, title: str = "") -> Picture:
    """What a changed setting does: one row per switch, one panel per measure, a mark a seed, the mean as a bar.

    differences: columns switch, measure, seed, difference (changed minus default, in points).
    """
    switches = list(dict.fromkeys(differences["switch"]))
    measures = list(dict.fromkeys(differences["measure"]))
    figure, axes = grid(
        1, len(measures), 4.2 + 2.3 * len(measures), 1.1 + 0.34 * len(switches), sharey=True, sharex=True
    )
    for axis, measure in zip(axes.flat, measures, strict=True):
        colour, hatch = (
            (UNDER if "rare" in measure else WELL),
            HATCHES["clean" if "clean" in measure else "strong" if "STRONG" in measure else "robust"],
        )
        for height, switch in enumerate(switches[::-1]):
            rows = differences[(differences["switch"] == switch) & (differences["measure"] == measure)]
            mean = rows["difference"].mean()
            axis.barh(height, mean, color=colour, hatch=hatch, edgecolor="white", alpha=0.6)
            axis.plot(rows["difference"], [height] * len(rows), "o", color="black", markersize=3.5)
        axis.axvline(0, color="black", linewidth=0.8)
        dress(axis, title=measure, x="points, changed − default")
    axes[0, 0].set_yticks(range(len(switches)), switches[::-1])
    figure.suptitle(title)
    last = differences[differences["measure"] == measures[-1]].groupby("switch", sort=False)["difference"].mean()
    said = "; ".join(f"{switch}: {value:+.1f}" for switch, value in last.items())
    return Picture(figure, f"Paired differences over seeds, {title}. Means in points, {measures[-1]}: {said}.")
