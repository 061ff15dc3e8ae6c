"""What notebook 08 draws: how an attack goes wrong, and what is left of a number when it goes right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import nn

from ..attacks import PGD, pgd
from ..attacks.objectives import largest_margin
from ..checks import zero_gradient
from ..losses import Loss, cross_entropy
from .plots import CLASS_COLOURS, UNDER, WELL, Picture, dress, grid
from .svg import Chart, Panels

MARKS = "os^Dv"
LOSS_COLOURS = {"CE": CLASS_COLOURS[0], "Focal": CLASS_COLOURS[2], "LDAM": CLASS_COLOURS[5]}
LOSS_MARKS = {"CE": "o", "Focal": "s", "LDAM": "^"}

# --- the first picture: two pixels, three classes


class Plane(nn.Module):
    """Logits of three classes that are linear in two pixels: the true one is 0 everywhere, one is near, one is far and steep."""

    slopes = torch.tensor([[0.0, 10.0, -20.0], [0.0, 4.0, 6.0]])
    heights = torch.tensor([0.0, -1.6, -10.0])  # in the middle

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1) - 0.5) @ self.slopes + self.heights


def way(scale: float, attack: PGD) -> np.ndarray:
    """The points [steps+1,2] that PGD on cross-entropy visits when `Plane`'s logits are multiplied by `scale`."""
    x, y = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    points = []
    for steps in range(attack.steps + 1):
        so_far = PGD(attack.eps, attack.step, steps, "zero")
        points.append(pgd(Plane(), x, y, so_far, loss=lambda z, t: cross_entropy(scale * z, t)).flatten().numpy())
    return np.array(points)


def three_scales() -> Picture:
    """One network of two pixels, its logits multiplied: the same decisions, and PGD-10 goes three ways."""
    attack, scales = PGD(0.2, 0.03, 10), (0.01, 1.0, 100.0)
    figure, axes = grid(1, len(scales), 10, 3.7, sharey=True)
    across = torch.linspace(0, 1, 300)
    images = torch.cartesian_prod(across, across)[:, None, None]
    decided = Plane()(images).argmax(1).view(300, 300).T
    said = []
    for axis, scale in zip(axes.flat, scales, strict=True):
        axis.contourf(across, across, decided, levels=[-0.5, 0.5, 1.5, 2.5], colors=["#f2f2f2", "#F6C9A8", "#A9D3EC"])
        axis.add_patch(Rectangle((0.3, 0.3), 0.4, 0.4, fill=False, linestyle="--", edgecolor="#444444"))
        points = way(scale, attack)
        axis.plot(*points.T, "-o", color="black", markersize=3.5, linewidth=1)
        axis.plot(0.5, 0.5, marker="D", color="white", markeredgecolor="black", markersize=8)
        end = Plane()(torch.tensor(points[-1]).view(1, 1, 1, 2)).argmax().item()
        outcome = "does not move" if np.ptp(points, axis=0).max() == 0 else "fools" if end else "does not fool"
        axis.set(title=f"logits × {scale:g}: PGD {outcome}", xlabel="pixel 1", xlim=(0, 1), ylim=(0, 1))
        for words, place in (("true class", (0.36, 0.08)), ("near\nclass", (0.83, 0.62)), ("far\nclass", (0.09, 0.8))):
            axis.annotate(words, place, ha="center", fontsize=9)
        said.append(f"× {scale:g} it {outcome}")
    axes[0, 0].set_ylabel("pixel 2")
    return Picture(figure, f"Three identical maps of decisions; PGD from the same image, logits {'; '.join(said)}.")


# --- the ladder of attacks


def ladder(left: Mapping[str, pd.DataFrame], title: str = "") -> Picture:
    """What still stands after each attack.  left: network → one row per attack, in order, columns "all classes", "rare classes"."""
    panels = list(next(iter(left.values())).columns)
    figure, axes = grid(1, len(panels), 10, 3.9)
    said = []
    for axis, panel in zip(axes.flat, panels, strict=True):
        for number, (name, table) in enumerate(left.items()):
            axis.plot(
                range(len(table)),
                table[panel],
                color=CLASS_COLOURS[number],
                marker=MARKS[number % len(MARKS)],
                markersize=5,
                label=name,
            )
            said.append(f"{name}, {panel}: {' → '.join(f'{value:.1f}' for value in table[panel])}")
        axis.set_xticks(range(len(table)), table.index, rotation=25, ha="right")
        dress(axis, title=panel, y="images that stand (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(left), frameon=False)
    figure.suptitle(title)
    return Picture(figure, f"Accuracy after each attack, {title}. {'; '.join(said)}.")


# --- sliders


def across_scales(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, attack: PGD, scales: Sequence[float]
) -> tuple[pd.DataFrame, dict[float, np.ndarray]]:
    """The attack on cross-entropy of s·z for every s, recomputed: what `scale_explorer` draws.

    Returns index scale, columns cross-entropy, margin, union (accuracy in percent), still (images whose gradient is exactly 0,
    percent); and scale → [C−1], the softmax over the wrong classes of s·z, the largest first, the mean over images.
    """

    def stands(loss: Loss) -> torch.Tensor:
        noise = torch.Generator(x.device).manual_seed(0)
        with torch.no_grad():
            return model(pgd(model, x, y, attack, loss=loss, generator=noise)).argmax(1) == y

    rows, pulls, on_margin = [], {}, stands(largest_margin)
    union, z = on_margin.clone(), model(x).detach()
    for scale in scales:

        def loss(z: torch.Tensor, y: torch.Tensor, scale: float = scale) -> torch.Tensor:
            return cross_entropy(scale * z, y)

        found, without_gradient = stands(loss), zero_gradient(model, x, y, loss)
        union &= found
        rows.append([100 * share(each) for each in (found, on_margin, without_gradient)])
        q = (scale * z).scatter(1, y[:, None], -torch.inf).softmax(1)
        pulls[scale] = q.sort(descending=True).values[:, :-1].mean(0).cpu().numpy()
    table = pd.DataFrame(rows, pd.Index(scales, name="scale"), ["cross-entropy", "margin", "still"])
    return table.assign(union=100 * share(union)), pulls


def share(which: torch.Tensor) -> float:
    return float(which.double().mean())


def scale_explorer(measured: pd.DataFrame, pulls: Mapping[float, np.ndarray], scale: float, name: str) -> Panels:
    """PGD-20 on cross-entropy of multiplied logits, and which wrong classes it pulls at.

    measured: index scale; columns cross-entropy, margin, union (accuracy in percent), still (images without a gradient, percent).
    pulls: scale → [C−1], the softmax over the wrong classes, the largest first, the mean over images.
    """
    x, now = np.log10(measured.index.to_numpy(float)), measured.loc[scale]
    chart = Chart((x[0] - 0.1, x[-1] + 0.15), (0, 105), width=430, height=290, title=f"{name}: accuracy (%)",
                  x_label="logits multiplied by")  # fmt: skip
    marks = [value for value in (0.1, 1, 10, 100) if x[0] - 0.01 <= np.log10(value) <= x[-1] + 0.01]
    chart.ticks(np.log10(marks), [f"{value:g}" for value in marks]).y_ticks([0, 50, 100])
    chart.line([np.log10(scale)] * 2, [0, 105], "#444", dash="2 3", width=1)
    chart.line(x, measured["cross-entropy"], UNDER).points(x, measured["cross-entropy"], UNDER, triangle=True)
    chart.line(x, measured["margin"], WELL, dash="6 4").line(x, measured["union"], "#111", dash="2 3")
    chart.text(np.log10(scale), now["cross-entropy"], f"{now['cross-entropy']:.1f}", dx=7, dy=-9, colour=UNDER)
    pull = pulls[scale]
    bars = Chart((0.4, len(pull) + 0.6), (0, 1.1), width=430, height=290, title="pull of each wrong class, q sorted",
                 x_label="wrong classes, the likeliest first")  # fmt: skip
    bars.ticks(range(1, len(pull) + 1)).y_ticks([0, 0.5, 1], ["0", "½", "1"]).bars(range(1, len(pull) + 1), pull, UNDER)
    bars.text(len(pull) + 0.5, 1.0, f"no gradient at all: {now['still']:.0f} % of the images", anchor="end")
    said = (
        f"{name}, logits × {scale:.3g}: {now['cross-entropy']:.1f} % stand under PGD-20 on cross-entropy, "
        f"{now['margin']:.1f} % on the margin, {now['union']:.1f} % under all scales together; likeliest wrong class {pull[0]:.0%} of "
        f"the pull; {now['still']:.0f} % of the images have no gradient"
    )
    return Panels([[chart, bars], [key(("cross-entropy", UNDER, ""), ("margin, no scale in it", WELL, "6 4"),
                                       ("worst case over all scales and the margin", "#111", "2 3"))]], said)  # fmt: skip


def key(*lines: tuple[str, str, str]) -> Chart:
    """A row of line samples with their words: (words, colour, dash)."""
    chart = Chart((0, 1), (0, 1), width=860, height=28, left=34, axis=False)
    for place, (words, colour, dash) in zip(np.linspace(0, 0.62, len(lines)), lines, strict=True):
        chart.line([place, place + 0.04], [0.5, 0.5], colour, dash=dash).text(place + 0.05, 0.5, words, dy=4)
    return chart


def budget_explorer(
    curves: Mapping[str, pd.Series], shown: Mapping[str, np.ndarray], read: Mapping[str, str], eps: float
) -> Panels:
    """Accuracy against ε for several networks, and one image as each of them is attacked.

    curves: network → accuracy in percent by ε, of at most three.  shown: network → the attacked image [C,H,W] at this ε.
    read: network → what it reads.
    """
    chart = Chart((-0.02, 1.05), (-2, 108), width=430, height=290, title="accuracy (%) under PGD-20", x_label="ε")
    chart.ticks([0, 0.2, 0.4, 0.6, 0.8, 1]).y_ticks([0, 50, 100]).line(
        [eps] * 2, [-2, 108], "#444", dash="2 3", width=1
    )
    said, images = [], []
    if len(curves) > 3:
        raise ValueError(f"three networks can be told apart here, and there are {len(curves)}")
    for (name, curve), colour, dash in zip(curves.items(), (WELL, UNDER, "#009E73"), ("", "6 4", "2 3"), strict=False):
        chart.line(curve.index, curve, colour, dash=dash).points(curve.index, curve, colour, triangle=bool(dash))
        chart.text(eps, curve[eps], f"{curve[eps]:.0f}", colour=colour, dx=6, dy=-7)
        image = Chart((0, 1), (0, 1), width=150, height=160, left=10, axis=False, title=f"{name}: {read[name]}")
        images.append(image.image(shown[name]))
        said.append(f"{name} {curve[eps]:.0f} %, reads {read[name]}")
    lines = zip(curves, (WELL, UNDER, "#009E73"), ("", "6 4", "2 3"), strict=False)
    return Panels([[chart, *images], [key(*lines)]], f"At ε = {eps:g}: {'; '.join(said)}.")


# --- choices and tables


def chosen_on_test(right: np.ndarray, epochs: Sequence[int], halves: pd.DataFrame) -> Picture:
    """Accuracy of each epoch on the test images, and what choosing the best on one half says of it and of the other half.

    right: bool [epochs,N].  halves: a row a random split; columns same half, other half (percent).
    """
    figure, axes = grid(1, 2, 10, 3.4)
    curve = 100 * right.mean(1)
    best = int(curve.argmax())
    axes[0, 0].plot(epochs, curve, "-o", color=UNDER, markersize=3.5)
    for place, words in ((best, "best on test"), (len(curve) - 1, "last")):
        axes[0, 0].plot(epochs[place], curve[place], marker="D", color="black")
        axes[0, 0].annotate(f"{words}: {curve[place]:.1f}", (epochs[place], curve[place]), xytext=(0, 8),
                            textcoords="offset points", ha="right" if place else "left", fontsize=9)  # fmt: skip
    axes[0, 0].set_ylim(0, 1.2 * curve.max() or 1)
    dress(axes[0, 0], title="rare classes under PGD-20", x="epoch", y="accuracy (%)")
    flattery = halves["same half"] - halves["other half"]
    axes[0, 1].hist(flattery, bins=25, color=WELL, edgecolor="white", hatch="///")
    axes[0, 1].axvline(0, color="black", linewidth=0.8)
    axes[0, 1].axvline(flattery.mean(), color="black", linestyle="--", label=f"mean {flattery.mean():+.1f}")
    axes[0, 1].legend(frameon=False)
    dress(axes[0, 1], title="the half that chose, minus the other", x="points", y="splits")
    return Picture(
        figure,
        f"Best epoch on test {curve[best]:.1f} %, last epoch {curve[-1]:.1f} %; chosen on one half, the accuracy there is on average "
        f"{flattery.mean():+.1f} points above that on the other half.",
    )


def slopes(accuracies: Mapping[str, pd.DataFrame], losses: Mapping[str, str]) -> Picture:
    """Methods under a weak and a strong attack, rank by rank, one panel per set.

    accuracies: title → one row per method, two columns, the mild attack first.  losses: method → prediction loss, which gives the colour.
    """
    figure, axes = grid(1, len(accuracies), 6 * len(accuracies), 4.6)
    said = []
    for axis, (title, table) in zip(axes.flat, accuracies.items(), strict=True):
        ranks = table.rank(ascending=False, method="min").astype(int)
        gap = (table.max().max() - table.min().min() or 1) / 16
        reach = [*table.min(), *table.max()]
        for side, column in enumerate(table):
            order = table[column].sort_values(kind="stable")
            heights = spaced(order.to_numpy(), gap)
            reach += [heights[0], heights[-1]]
            for (method, value), height in zip(order.items(), heights, strict=True):
                words = (
                    f"{ranks[column][method]}  {method}  {value:.1f}"
                    if side
                    else f"{value:.1f}  {method}  {ranks[column][method]}"
                )
                axis.annotate(words, (side, value), xytext=(side + 0.08 * (2 * side - 1), height), textcoords="data",
                              ha="left" if side else "right", va="center", fontsize=8, color=LOSS_COLOURS[losses[method]],
                              arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.6})  # fmt: skip
        for method, values in table.iterrows():
            loss = losses[method]
            axis.plot([0, 1], values, color=LOSS_COLOURS[loss], marker=LOSS_MARKS[loss], markersize=5)
        axis.set(xlim=(-1, 2), ylim=(min(reach) - gap, max(reach) + gap), title=title)
        axis.set_xticks([0, 1], table.columns)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.set_yticks([])
        moved = (ranks.iloc[:, 0] != ranks.iloc[:, 1]).sum()
        said.append(f"{title}: {moved} of {len(table)} methods change their rank")
    shown = dict.fromkeys(losses[method] for table in accuracies.values() for method in table.index)
    handles = [Line2D([], [], color=LOSS_COLOURS[loss], marker=LOSS_MARKS[loss], label=loss) for loss in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return Picture(figure, f"Robust accuracy of rare classes under {' and '.join(table.columns)}. {'; '.join(said)}.")


def spaced(heights: np.ndarray, gap: float) -> np.ndarray:
    """Sorted heights, moved as little as needed to be `gap` apart: pairs that are too near share their middle."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while (
            len(groups) > 1 and middle(groups[-1]) - middle(groups[-2]) < gap * (len(groups[-1]) + len(groups[-2])) / 2
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    return np.concatenate([middle(group) + gap * (np.arange(len(group)) - (len(group) - 1) / 2) for group in groups])


def middle(group: Sequence[float]) -> float:
    return sum(group) / len(group)
