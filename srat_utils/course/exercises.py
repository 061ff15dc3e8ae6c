"""The exercises: a table of right answers and of the usual mistakes, with the words for each.

`check("pgd", my_pgd)` runs the reader's function and prints one line.  No answer can make it raise, so that a notebook
runs through with its exercises still open.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from scipy.stats import rankdata
from sklearn.metrics import silhouette_samples
from torch import nn

from .. import budgets, checks, effects, losses, weights
from ..attacks import PGD, pgd
from ..attacks.pgd import bounds
from ..config import Config
from ..images import nearest
from ..imbalance import class_counts
from ..trainer import train
from . import planted, theory


def verdict(differences: Sequence[float]) -> str:
    """Notebook 06's rule for one claim: up, down or undecided by a t-test at 5 %, or not measured."""
    return effects.word(effects.from_seeds(differences) if len(differences) else None)


@dataclass(frozen=True)
class Exercise:
    """A right function and what tells wrong ones: for the first case that is wrong, the first matching message is printed.

    returns: what a result is.  reference: function of a case, its parameters named as in the notebook.
    cases: the arguments, simple ones first.  mistakes: function of (right, *case) -> {words: the result of that mistake}.
    demands: functions of (got, right, *case) -> words for a wrong result, or something false where they do not fit.
    tolerance: absolute; None where every result is right that meets the demands.
    """

    returns: str
    reference: Callable
    cases: Sequence[tuple]
    mistakes: Callable[..., Mapping[str, object]] = lambda *case: {}
    demands: Sequence[Callable] = ()
    tolerance: float | None = 1e-4


def check(name: str, answer: Callable) -> bool:
    """Say in one line what is wrong with the answer to an exercise; return whether it is right."""
    if name not in EXERCISES:
        print(f"There is no exercise {name!r}; {nearest(name, EXERCISES)}")
        return False
    try:
        wrong = fault(EXERCISES[name], answer)
        said = f"Not yet: {wrong}" if wrong else "Right."
    except NotImplementedError:
        said = "Not answered yet: replace the `raise NotImplementedError` by your code."
    except Exception as error:  # the reader's own code may raise anything
        said = f"Not yet: your function raised {type(error).__name__}: {error}"
    print(" ".join(said.split()))
    return said == "Right."


def fault(exercise: Exercise, answer: Callable) -> str | None:
    """What is wrong with an answer, in words; None if nothing is."""
    names = inspect.signature(exercise.reference).parameters
    for case in exercise.cases:
        given = deepcopy(case)  # an answer that writes into its arguments spoils a copy
        result, wanted = answer(*given), exercise.reference(*deepcopy(case))
        for name, before, after in zip(names, case, given, strict=False):
            if not np.array_equal(plain(before), plain(after)):
                return f"it writes into its argument {name}: work on a copy"
        got, right = plain(result), plain(wanted)
        kind = next((kind for kind in (str, torch.Tensor) if isinstance(wanted, kind)), object)
        if got is None or not isinstance(result, kind) or isinstance(got, str) != isinstance(right, str):
            return f"return {exercise.returns}, not {type(result).__name__}"
        if np.shape(got) != np.shape(right):
            return f"return {exercise.returns}: shape {np.shape(right)}, not {np.shape(got)}"
        if exercise.tolerance is not None and close(got, right, exercise.tolerance):
            continue
        for words, mistaken in exercise.mistakes(right, *case).items():
            if close(got, plain(mistaken), exercise.tolerance):
                return words
        for unmet in exercise.demands:
            if words := unmet(got, right, *given):
                return words
        if exercise.tolerance is not None:
            data = {name: value for name, value in zip(names, case, strict=False) if np.size(plain(value)) <= 12}
            told = ", ".join(f"{name}={shown(value)}" for name, value in data.items())
            return f"{told and f'for {told} '}it should be {shown(right)}, not {shown(got)}"
    return None


def plain(value) -> np.ndarray | np.float64 | str | None:
    """A string, or floats from anything that holds numbers alone; None for the rest."""
    if isinstance(value, str):
        return value
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, RuntimeError):  # such as lists of several lengths
        return None
    return array.astype(float)[()] if array.dtype.kind in "biuf" else None


def close(got, value, tolerance: float) -> bool:
    return got == value if isinstance(got, str) else np.allclose(got, value, atol=tolerance, equal_nan=True)


def shown(value) -> str:
    if (held := plain(value)) is None or isinstance(value, str):
        return repr(value)
    return f"[{', '.join(f'{v:.5g}' for v in held.ravel())}]" if np.ndim(held) else f"{held:.5g}"


def clean_accuracy(config: Config, seed: int) -> float:
    return train(config.replace(seed=seed), progress=False).summary()["overall"]["clean"]


def outside(got, x, eps):
    beyond, low, high = np.abs(got - plain(x)).max() - eps, got.min(), got.max()
    if beyond > 1e-5:
        return f"it leaves the ε-ball by {beyond:.2g}"
    return not 0 <= low <= high <= 1 and f"pixels reach from {low:.2f} to {high:.2f}; they must stay in [0, 1]"


def attacked() -> tuple[nn.Module, torch.Tensor, torch.Tensor, PGD]:
    """A network with batch norm in train mode, images, labels and an attack: always the same ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
        images, labels = torch.rand(32, 1, 4, 4).round(decimals=1), torch.randint(3, (32,))
    return nn.Sequential(*layers), images, labels, PGD(eps=0.1, step=0.03, steps=10)


@torch.no_grad()
def descends(got, right, model, images, labels, attack):
    after, before = (F.cross_entropy(model.eval()(x), labels) for x in (torch.tensor(got).to(images), images))
    return not after > before and f"the loss went down by {before - after:.2g}: step along the gradient, not against it"


def rounding() -> tuple[nn.Module, torch.Tensor, torch.Tensor, PGD]:
    """A network behind rounded pixels, images, labels that it gets right, and an attack: always the same ones."""
    network, images, _, attack = attacked()
    model = nn.Sequential(planted.Rounded(5), network).eval()
    with torch.no_grad():
        return model, images, model(images).argmax(1), attack


def straight_through(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, attack: PGD) -> torch.Tensor:
    """PGD with the gradient of the network at the rounded image, as if rounding were not there."""
    front, network = model
    low, high = bounds(images, attack.eps)
    adversarial = images
    for _ in range(attack.steps):
        adversarial = ascend_behind(front, network, adversarial, labels, attack.step).clamp(low, high)
    return adversarial


def ascend_behind(front, network, images, labels, step):
    seen = front(images).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(seen), labels, reduction="sum"), seen)
    return images + step * gradient.sign()


@torch.no_grad()
def stands(model: nn.Module, images: np.ndarray, labels: torch.Tensor) -> int:
    return int((model(torch.tensor(images).float()).argmax(1) == labels).sum())


def withstood(got, right, model, images, labels, attack):
    """Whether more images stand than the straight-through attack leaves, with two for luck."""
    left, few = stands(model, got, labels), stands(model, right, labels)
    none = len(labels) - left <= 2
    said = f"{left} of {len(labels)} images still stand, and {few} need: "
    said += "the gradient through the rounding is 0, take it at the rounded image" if none else "take every step uphill"
    return left > few + 2 and said


def impossible(rows: Mapping[str, tuple[float, float, float]], images: int) -> str:
    for method, (clean, mild, worst) in rows.items():
        counts = np.array([clean, mild, worst]) * images / 100
        if worst > mild or mild > clean + 2 or not np.allclose(counts, counts.round(), atol=0.01):
            return method
    raise ValueError("every row can be")


def largest_fall(rows: Mapping[str, tuple[float, float, float]], images: int) -> str:
    return max(rows, key=lambda method: rows[method][1] - rows[method][2])


TABLES = [  # clean, under PGD-20, the worst case
    ({"A": (72, 46, 44), "B": (88, 50, 46), "C": (86, 52, 54), "D": (86, 44, 32)}, 50),
    ({"A": (72, 46, 44), "B": (60, 86, 40), "C": (88, 54, 52), "D": (92, 36, 24)}, 50),
    ({"A": (72, 46, 44), "B": (88, 56, 52), "C": (89, 47.3, 44), "D": (88, 50, 42)}, 100),
]


def variance_ratio(features, labels, between=np.var, within=np.var, count=lambda group: 1):
    groups = [features[labels == c] for c in np.unique(labels)]
    inside = np.average([within(group, axis=0).sum() for group in groups], weights=[count(group) for group in groups])
    return between([group.mean(0) for group in groups], axis=0).sum() / inside


def wald(right: int, images: int) -> list[float]:
    p = right / images
    return [100 * (p + side * 1.959964 * (p * (1 - p) / images) ** 0.5) for side in (-1, 1)]


def clouds(sizes: list[int], centres: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(0).normal(size=(len(labels), len(centres[0]))) + np.array(centres)[labels], labels


Z, Y = F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0))), torch.tensor([0, 0, 1, 1, 1, 2])

# One line per mistake; the formatter would make it three.
# fmt: off
EXERCISES: dict[str, Exercise] = {
    "projection": Exercise(
        "a tensor of the same shape", lambda x_adv, x, eps: x_adv.clamp(x - eps, x + eps).clamp(0, 1),
        [(torch.tensor([-0.4, 0.4, 0.55, 0.9, 0.1, 1.4, 0.99]), torch.tensor([0, 0.05, 0.5, 0.5, 0.5, 0.95, 1]), 0.1)],
        demands=[
            lambda got, right, x_adv, x, eps: outside(got, x, eps),
            lambda got, right, x_adv, *_: (np.abs(got - right) > 1e-6)[right == plain(x_adv)].any()
                and "it moves a point that is in both already; leave such points alone",
            lambda *_: "it is in the ball, but not the nearest point there"]),
    "retrain": Exercise("a percentage", clean_accuracy,
        [(Config("digits", imbalance="balanced", method="CE", adversarial=False, epochs=3), 1)],
        lambda right, config, seed: {
            "this is the accuracy with the seed that the settings came with": clean_accuracy(config, config.seed),
            "this is the share; say it in percent": right / 100},
        [lambda *_: "train the settings that you are given, with the seed that you are given, and take the overall clean accuracy"],
        tolerance=1e-6),
    "pgd": Exercise("a tensor of images", lambda model, images, labels, attack: pgd(model, images, labels, attack), [attacked()], tolerance=None,
        demands=[
            lambda got, right, model, images, labels, attack: outside(got, images, attack.eps),
            lambda got, right, model, *_: model[1].running_mean.any()
                and "the batch-norm statistics changed: the model was attacked in train mode",
            lambda got, right, model, *_: not model.training
                and "the model was in train mode before the attack and is not afterwards",
            lambda got, right, model, *_: any(parameter.grad is not None for parameter in model.parameters())
                and "the attack left gradients in the parameters; use torch.autograd.grad with respect to the images",
            descends]),
    "literal_counts": Exercise("one count a class", lambda available, K: class_counts(f"exp-{K}-literal", available),
        [([100, 300, 90, 50], 10), ([4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659], 100), ([5000] * 10, 100)],
        lambda right, available, K: {
            "a part of an image is none: round down": available * K ** -np.linspace(0, 1, len(available)),
            "this starts every class from the smallest count; start each from its own":
                class_counts(f"exp-{K}", available)},
        [lambda got, right, available, K: got[0] != right[0]
            and f"the first class must keep all its {right[0]:g} images, not {got[0]:g}",
         lambda got, right, available, K: got[-1] != right[-1]
            and f"the last class must have its own count / K = {right[-1]:g} images, not {got[-1]:g}"]),
    "worst_case": Exercise("one number per class",
        lambda predictions, labels, C: [100 * (predictions == labels).all(0)[labels == c].mean() for c in range(C)],
        [(np.array([[0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 1, 1]]), np.array([0, 0, 0, 0, 1, 1]), 2)],
        lambda right, predictions, labels, C: {
            "accuracies are in percent: multiply by 100": right / 100,
            "this is the mean over attacks; an image counts only if it withstands all of them":
                [100 * (predictions == labels)[:, labels == c].mean() for c in range(C)],
            "the weakest attack on a class is not the worst case: attacks fell different images":
                [100 * (predictions == labels)[:, labels == c].mean(1).min() for c in range(C)],
            "divide by the class's own number of images": right * np.bincount(labels) / len(labels)}),
    "plain_factor": Exercise("one number", lambda w: float(w.mean()),
        [(torch.tensor([1.0, 1.0, 1.0, 9.0]),), (torch.ones(5),)],
        lambda right, w: {
            "this is the inverse: the plain mean is the larger one": 1 / right,
            "this is ρ; only a part of the batch has that weight": w.max(),
            "this is the sum of the weights; the plain mean divides by N": w.sum()}),
    "break_even": Exercise("one number", lambda ratios, well, under: ratios[np.abs(np.subtract(well, under)).argmin()],
        [([1, 10, 50, 200], [99.0, 95.0, 80.0, 40.0], [0.0, 30.0, 70.0, 90.0])],
        lambda right, ratios, well, under: {
            "that is where under-represented accuracy is best, not where the two meet": ratios[np.argmax(under)]},
        [lambda got, right, ratios, *_: got not in ratios and f"{got:g} was not run; choose one of {ratios}",
         lambda got, right, ratios, well, under:
            f"at {got:g} they are {np.abs(np.subtract(well, under))[ratios.index(got)]:.0f} points apart; "
            f"at {right:g} only {np.abs(np.subtract(well, under)).min():.0f}"]),
    "variance_ratio": Exercise("one number", variance_ratio, [clouds([40, 10], [[0, 0, 0], [4, 4, 4]])],
        lambda right, *case: {
            "this is the inverse: the variance between belongs on top": 1 / right,
            "it changes when the features are multiplied by 10; use variances in both places":
                variance_ratio(*case, within=np.std),
            "it changes when the features are multiplied by 10; use variances in both places, also between":
                variance_ratio(*case, between=np.std),
            "average over classes, not over images": variance_ratio(*case, count=len)}),
    "silhouette": Exercise("one number", lambda features, labels, i: silhouette_samples(features, labels)[i],
        [(*clouds([6, 5, 4], [[0, 0], [3, 0], [0, 9]]), i) for i in (0, 7, 14)],
        lambda right, z, y, i: {
            "the sign is turned round: positive means near one's own class": -right,
            "the image counts as its own neighbour: divide by n − 1":  # as a copy of it would
                silhouette_samples(np.append(z, z[[i]], 0), np.append(y, y[i]))[i],
            "b is the mean over the nearest other class, not over all others": silhouette_samples(z, y == y[i])[i]}),
    "class_balanced": Exercise("one weight per class", weights.class_balanced, [([5000, 500, 50], 0.9999)],
        lambda right, counts, beta: {
            "these are inverse counts; use the effective number (1 − βⁿ)/(1 − β)":
                3 / np.array(counts) / np.sum(1 / np.array(counts))},
        [lambda got, *_: got[-1] <= got[0] and "the rarest class must get the largest weight",
         lambda got, *_: not np.isclose(got.sum(), 3) and f"the weights sum to {got.sum():.4g}, not to C = 3"]),
    "feature_separation": Exercise("one number",
        lambda features, labels, temperature: float(losses.feature_separation(features, labels, temperature)),
        [(Z[:5], Y[:5], 0.1), (3 * Z[:5], Y[:5], 0.1), (Z, Y, 0.1)],  # of length 1, longer, with a lonely anchor
        lambda right, *case: {
            "the sign is turned round: L_sep is minus a log-probability": -right,
            "anchors without a positive turned into NaN": np.nan,
            "the anchor without a positive must count in the mean (with the value 0)":
                losses.feature_separation(*case, lonely="drop")},
        [lambda got, right, z, *_: z.norm() > 3 and "it changes with the features' length: normalise them"]),
    "bias_for_priors": Exercise("one number", lambda eta, sigma, p: theory.optimal_bias(eta, sigma, 1, (1 - p) / p),
        [(0.5, 1.0, 1 / 11), (0.2, 2.0, 0.25), (1.0, 0.5, 0.5)],
        lambda right, *_: {
            "the sign is turned round: the frequent class +1 wants a lower bias": -right,
            "the factor d does not belong here": 3 * right,
            "there is a ½ before the logarithm": 2 * right}),
    "eps_of_cost": Exercise(
        "one number", theory.eps_of_cost, [(1.0, 1.0, 4, 10, 5), (2.0, 1.5, 9, 100, 10)], tolerance=1e-3,
        demands=[
            lambda got, right, eta, *_: not 0 <= got < eta and f"ε must lie between 0 and η = {eta}, not at {got:.3f}",
            lambda got, right, eta, sigma, d, K, points: f"at your ε = {got:.4f} reweighting costs "
                f"{100 * theory.cost(theory.t_of(eta, sigma, d, got), K):.2f} points, not {points}"]),
    "robust_margin": Exercise("one margin a row", theory.robust_margin,
        [(np.array([2, -1, 0.5]), 0.3, clouds([6], [[0, 0, 0]])[0], np.array([1, 1, 1, -1, -1, -1]), 0.2)],
        lambda right, w, b, x, y, eps: {
            "the adversary has no effect yet": y * (x @ w - b),
            "the adversary makes the margin smaller, not larger": y * (x @ w - b) + eps * np.abs(w).sum(),
            "this is ε‖w‖₂: for an ℓ∞ ball it is the 1-norm": y * (x @ w - b) - eps * np.linalg.norm(w),
            "a negative weight can be used, too: take absolute values": y * (x @ w - b) - eps * w.sum()}),
    "verdict": Exercise("one word", verdict,
        [([],), ([5.0],), *(([*d],) for d in ((1, 1.1, 0.9), (4, -1, 0.5), (-1, -1.1, -0.9), (-4, 1, -0.5), (2, 1, 0.2),
                                              (1.0, 1.4, 0.4, 0.2)))],
        demands=[
            lambda got, right, differences: not differences and "without a seed nothing was measured",
            lambda got, right, differences: len(differences) == 1
                and f"one seed has no spread and decides nothing: undecided, not {got!r}",
            lambda got, right, d: got != right and abs(np.mean(d)) > 2 * stats.sem(d) and right == "undecided"
                and f"{d} is more than two standard errors from 0, but for {len(d)} seeds Student's t asks for "
                f"{stats.t.isf(0.025, len(d) - 1):.2f}",
            lambda got, right, d: f"{d} has mean {np.mean(d):.2f} and standard error {stats.sem(d):.2f} "
                f"(std with ddof=1, over √n): {right!r}, not {got!r}"]),
    "balanced_softmax": Exercise("one loss an image",
        lambda logits, labels, counts: losses.cross_entropy(logits + torch.tensor(counts).float().log(), labels),
        [(torch.tensor([[2.0, 0.0, 1.0], [0.5, 1.5, -1.0]]), torch.tensor([0, 2]), [90, 9, 1]),
         (torch.zeros(3, 3), torch.tensor([0, 1, 2]), [4, 4, 4])],
        lambda right, logits, labels, counts: {
            "the prior is added in training; it is taken off only where a network was trained without it":
                losses.cross_entropy(logits - torch.tensor(counts).float().log(), labels),
            "the prior has no effect yet": losses.cross_entropy(logits, labels),
            "a logit is a logarithm: add ln n, not n": losses.cross_entropy(logits + torch.tensor(counts), labels),
            "add ln n to every logit, not to the true one alone": losses.cross_entropy(
                logits + F.one_hot(labels, len(counts)) * torch.tensor(counts).float().log(), labels)}),
    "rarity": Exercise("one factor a class", lambda counts, alpha: budgets.by_rarity(counts, alpha, cap=None),
        [([5000, 500, 50], 0.3), ([100, 100, 4], 1.0), ([10, 5], 0.0)],
        lambda right, counts, alpha: {
            "without the root the rarest class gets still more": (1 - alpha) + alpha * np.log(max(counts) / np.array(counts))
                / max(1e-12, np.average(np.log(max(counts) / np.array(counts)), weights=counts)),
            "the mean is over images, not over classes": (1 - alpha) + alpha * np.sqrt(np.log(max(counts) / np.array(counts)))
                / max(1e-12, np.sqrt(np.log(max(counts) / np.array(counts))).mean())}),
    "holm": Exercise("one adjusted p a p", lambda p: effects.holm(p),
        [([0.01, 0.04],), ([0.04, 0.01, 0.03],), ([0.001, 0.02, 0.02, 0.8],)],
        lambda right, p: {
            "this is Bonferroni's: only the smallest p is multiplied by all of them": np.minimum(1, np.multiply(p, len(p))),
            "no adjusted p may be smaller than that of a smaller p: take the running maximum":
                np.minimum(1, np.array(p) * (len(p) + 1 - rankdata(p, "ordinal"))),
            "give them back in the order in which they came": np.sort(right)}),
    "focal": Exercise("one loss an example", lambda logits, labels, gamma: losses.focal(logits, labels, gamma),
        [(torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.5]]), torch.tensor([0, 0, 1]), gamma) for gamma in (1.0, 2.0)],
        lambda right, logits, labels, gamma: {
            "p_y^γ discounts what is wrong; it must discount what is right":
                F.softmax(logits, 1).gather(1, labels[:, None])[:, 0] ** gamma * F.cross_entropy(logits, labels, reduction="none"),
            "without the factor it is cross-entropy": F.cross_entropy(logits, labels, reduction="none")}),
    "ldam_margins": Exercise("one margin a class", lambda counts, largest: losses.ldam_margins(counts, largest).numpy(),
        [([16, 1], 0.5), ([5000, 50], 0.5), ([104, 104, 4], 0.3)],
        lambda right, counts, largest: {
            "the root is the fourth, not the square root": largest * np.sqrt(min(counts) / np.array(counts)),
            "the rarest class must get the largest margin": largest * (np.array(counts) / max(counts)) ** 0.25,
            "scale them so that the largest is the one that was asked for": 1 / np.array(counts) ** 0.25}),
    "interval": Exercise("the lower and the upper end", checks.wilson, [(81, 100), (0, 20), (29, 29), (3, 10)],
        lambda ends, right, images: {
            "an accuracy is in percent here: multiply by 100": ends / 100,
            "this is p ± 1.96 √(p(1−p)/n), which has no width at 0 and at 100 %: use Wilson's": wald(right, images)},
        [lambda got, ends, right, images: ends[1] - ends[0] > got[1] - got[0]
            and f"{right} of {images} images say less than that: your interval is too narrow"]),
    "held_out": Exercise("one count a class", lambda counts, share: np.maximum(1, np.rint(np.multiply(share, counts))),
        [([50, 40, 12], 0.2), ([100, 7, 2], 0.2), ([30, 9, 4], 0.1)],
        lambda right, counts, share: {
            "a class that holds out none cannot be validated on: one image at least": np.rint(np.multiply(share, counts)),
            "a part of an image is none: round to the nearest": np.maximum(1, np.multiply(share, counts)),
            "that is what is left for training, not what is held out": np.array(counts) - right}),
    "paired_error": Exercise(
        "one number", lambda default, changed: np.std(changed - default, ddof=1) / len(default) ** 0.5,
        [(np.array([40.0, 50.0, 60.0, 55.0]), np.array([42.0, 53.0, 61.0, 57.0]))],
        lambda right, a, b: {
            "this treats the two as unpaired: take the difference of each seed first":
                np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 4),
            "this is the standard deviation: divide by √n for the error of a mean": np.std(b - a, ddof=1),
            "four values leave three degrees of freedom: ddof=1": np.std(b - a) / 2}),
    "weight_ratio": Exercise(
        "one number", lambda well, under, beta: np.divide(*weights.effective_number([well, under], beta)),
        [(5000, 50, 0.9999), (104, 4, 0.9999), (1000, 100, 0.99)],
        lambda right, well, under, beta: {
            "this is the inverse: the rare class has the larger weight": 1 / right,
            f"this is the ratio of the counts, {well / under:g}; take effective numbers": well / under}),
    "diagnosis": Exercise("one word or two, the name of a check", lambda letter: planted.MYSTERIES[letter].check,
        [(letter,) for letter in planted.MYSTERIES],
        demands=[
            lambda got, right, letter: got == "ε = 1"
                and f"network {letter} stands at ε = 1 because something stops the attack; name what stops it",
            lambda got, right, letter: f"it is not {got!r} for network {letter}: {planted.MYSTERIES[letter].hint}"]),
    "break_rounding": Exercise("a tensor of images", straight_through, [rounding()], tolerance=None,
        demands=[
            lambda got, right, model, images, labels, attack: outside(got, images, attack.eps),
            withstood]),
    "impossible": Exercise("the name of a method", impossible, TABLES,
        lambda right, rows, images: {
            "a large fall from PGD-20 to the worst case is a weak attack, not an impossible number": largest_fall(rows, images)},
        [lambda got, right, rows, images: got not in rows and f"there is no row {got!r}",
         lambda got, right, rows, images: f"of {images} images, {', '.join(f'{a:g}' for a in rows[got])} % can be; "
            "look again at clean, PGD-20 and worst case of the others"]),
}
