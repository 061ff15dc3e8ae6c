"""Checks for the exercises: each runs the reader's function and says in words what is wrong.

A check prints one line and returns whether the answer is right; it never raises, so that a notebook runs through with the
exercises still open.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import silhouette_samples
from torch import nn

from .. import losses, weights
from ..attacks import PGD
from ..imbalance import class_counts
from . import theory, verdicts


class Wrong(Exception):
    """What is wrong with an answer, in words."""


def exercise(check: Callable[[Callable], None]) -> Callable[[Callable], bool]:
    """Turn a function that raises Wrong into a check that prints its verdict."""

    @wraps(check)
    def run(answer: Callable) -> bool:
        try:
            check(answer)
        except NotImplementedError:
            print("Not answered yet: replace the `raise NotImplementedError` by your code.")
        except Wrong as wrong:
            print(f"Not yet: {wrong}")
        except Exception as error:  # the reader's own code may raise anything
            print(f"Not yet: your function raised {type(error).__name__}: {error}")
        else:
            print("Right.")
            return True
        return False

    return run


def need(condition: object, message: str) -> None:
    if not condition:
        raise Wrong(message)


def tiny_model() -> nn.Sequential:
    """A network with batch norm in train mode, always the same one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)]
        return nn.Sequential(*layers)


@exercise
def check_projection(answer: Callable) -> None:
    """answer(x_adv, x, eps) -> the nearest point to x_adv in the ε-ball around x and in [0, 1]."""
    x = torch.tensor([0.0, 0.05, 0.5, 0.5, 0.5, 0.95, 1.0])
    x_adv = torch.tensor([-0.4, 0.4, 0.55, 0.9, 0.1, 1.4, 0.99])
    got = answer(x_adv.clone(), x.clone(), 0.1)
    need(isinstance(got, torch.Tensor) and got.shape == x.shape, "return a tensor of the same shape")
    outside = (got - x).abs().max().item() - 0.1
    need(outside < 1e-6, f"it leaves the ε-ball by {outside:.2g}")
    low, high = got.min().item(), got.max().item()
    need(low >= 0 and high <= 1, f"pixels reach from {low:.2f} to {high:.2f}; they must stay in [0, 1]")
    moved = [i for i in (2, 6) if abs(got[i] - x_adv[i]) > 1e-6]
    need(not moved, "it moves a point that is in both already; leave such points alone")
    expected = x_adv.clamp(x - 0.1, x + 0.1).clamp(0, 1)
    need(torch.allclose(got, expected), "it is in the ball, but not the nearest point there")


@exercise
def check_pgd(answer: Callable) -> None:
    """answer(model, images, labels, attack) -> adversarial images: PGD from a random or zero start."""
    model, attack = tiny_model(), PGD(eps=0.1, step=0.03, steps=10)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(32, 1, 4, 4, generator=generator).round(decimals=1)
    labels = torch.randint(3, (32,), generator=generator)
    statistics = model[1].running_mean.clone()
    adversarial = answer(model, images, labels, attack)
    need(isinstance(adversarial, torch.Tensor), f"return a tensor of images, not {type(adversarial).__name__}")
    need(adversarial.shape == images.shape, f"the shape is {list(adversarial.shape)}, not {list(images.shape)}")
    outside = (adversarial - images).abs().max().item() - attack.eps
    need(outside < 1e-5, f"it leaves the ε-ball by {outside:.2g}")
    low, high = adversarial.min().item(), adversarial.max().item()
    need(low >= 0 and high <= 1, f"pixels reach from {low:.2f} to {high:.2f}; they must stay in [0, 1]")
    unchanged = torch.equal(model[1].running_mean, statistics)
    need(unchanged, "the batch-norm statistics changed: the model was attacked in train mode")
    need(model.training, "the model was in train mode before the attack and is not afterwards")
    held = any(parameter.grad is not None for parameter in model.parameters())
    need(not held, "the attack left gradients in the parameters; use torch.autograd.grad with respect to the images")
    model.eval()
    with torch.no_grad():
        gain = (F.cross_entropy(model(adversarial), labels) - F.cross_entropy(model(images), labels)).item()
    need(gain > 0, f"the loss went down by {-gain:.2g}: step along the gradient, not against it")


@exercise
def check_exp_counts(answer: Callable) -> None:
    """answer(n_max, K, C) -> counts of Exp-K."""
    for largest, ratio, classes in ((5000, 100, 10), (104, 25, 10), (50, 1, 3)):
        expected = class_counts(f"exp-{ratio}", [largest] * classes)
        got = [int(count) for count in answer(largest, ratio, classes)]
        need(len(got) == classes, f"{len(got)} counts for {classes} classes")
        need(got[0] == largest, f"the first class must keep all {largest} images, not {got[0]}")
        need(got[-1] == expected[-1], f"the last class must have n_max/K = {expected[-1]} images, not {got[-1]}")
        need(got == expected, f"with n_max={largest}, K={ratio} it should be {expected}, not {got}")


@exercise
def check_class_accuracy(answer: Callable) -> None:
    """answer(predictions, labels, C) -> percent per class, over the class's own count."""
    labels = np.array([0] * 8 + [1] * 2)
    predictions = np.array([0] * 6 + [1, 1] + [1, 0])
    got = np.asarray(answer(predictions, labels, 2), dtype=float)
    need(got.shape == (2,), f"one number a class is needed, not an array of shape {got.shape}")
    need(not np.allclose(got, [0.75, 0.5]), "accuracies are in percent: multiply by 100")
    need(not np.allclose(got, [60, 10]), "divide by the class's own number of images, not by all images")
    need(not np.allclose(got, [120, 20]), "divide by the class's own number of images, not by N/C")
    need(np.allclose(got, [75, 50]), f"it should be [75, 50], not {got.tolist()}")


@exercise
def check_weighted_mean(answer: Callable) -> None:
    """answer(losses, weights) -> Σ w l / Σ w."""
    values, w = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 1.0, 10.0])
    got, expected = float(answer(values, w)), float(weights.reduce(values, w))
    need(abs(got - 43 / 3) > 1e-4, "this is Σ w l / N: divide by the sum of the weights")
    need(abs(got - 7 / 3) > 1e-4, "the weights have no effect yet")
    need(abs(got - 43) > 1e-4, "this is the sum Σ w l: divide by the sum of the weights")
    need(
        abs(got - expected) < 1e-4,
        f"for losses [1, 2, 4] and weights [1, 1, 10] it should be {expected:.3f}, not {got:.3f}",
    )


@exercise
def check_break_even(answer: Callable) -> None:
    """answer(ratios, well, under) -> the run ratio at which the two accuracies differ least."""
    ratios, well, under = [1, 10, 50, 200], [99.0, 95.0, 80.0, 40.0], [0.0, 30.0, 70.0, 90.0]
    got = answer(ratios, well, under)
    need(got in ratios, f"{got} was not run; choose one of {ratios}")
    need(got != 200, "that is where under-represented accuracy is best, not where the two meet")
    need(
        got == 50,
        f"at {got} they are {abs(well[ratios.index(got)] - under[ratios.index(got)]):.0f} points apart; at 50 only 10",
    )


@exercise
def check_variance_ratio(answer: Callable) -> None:
    """answer(features, labels) -> variance between class means over mean variance within."""
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], [40, 10])
    features = generator.normal(size=(50, 3)) + 4 * labels[:, None]
    means = np.stack([features[labels == c].mean(0) for c in (0, 1)])
    within = np.mean([features[labels == c].var(0).sum() for c in (0, 1)])
    expected, got = means.var(0).sum() / within, float(answer(features, labels))
    need(abs(got - 1 / expected) > 1e-6, "this is the inverse: the variance between belongs on top")
    scaled = float(answer(10 * features, labels))
    need(
        abs(scaled - got) < 1e-6 * abs(got),
        "it changes when the features are multiplied by 10; use variances in both places",
    )
    need(
        abs(got - expected) < 1e-6, f"it should be {expected:.3f}, not {got:.3f}; average over classes, not over images"
    )


@exercise
def check_silhouette(answer: Callable) -> None:
    """answer(features, labels, i) -> silhouette of image i, as in `sklearn.metrics.silhouette_samples`."""
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [6, 5, 4])
    z = generator.normal(size=(15, 2)) + np.array([[0, 0], [3, 0], [0, 9]])[labels]
    distances = np.linalg.norm(z[:, None] - z, axis=2)
    for i in (0, 7, 14):
        got, expected = float(answer(z, labels, i)), silhouette_samples(z, labels)[i]
        means = [distances[i, labels == c].mean() for c in range(3)]
        own, others = means[labels[i]], [mean for c, mean in enumerate(means) if c != labels[i]]
        with_itself = (min(others) - own) / max(own, min(others))
        a = own * (labels == labels[i]).sum() / ((labels == labels[i]).sum() - 1)
        rest = distances[i, labels != labels[i]].mean()
        need(abs(got + expected) > 1e-6, "the sign is turned round: positive means near one's own class")
        need(abs(got - with_itself) > 1e-6, "the image counts as its own neighbour: divide by n − 1")
        need(
            abs(got - (rest - a) / max(a, rest)) > 1e-6,
            "b is the mean over the nearest other class, not over all others",
        )
        need(abs(got - expected) < 1e-6, f"for image {i} it should be {expected:.3f}, not {got:.3f}")


@exercise
def check_class_balanced(answer: Callable) -> None:
    """answer(counts, beta) -> class-balanced weights, summing to C."""
    counts = [5000, 500, 50]
    got, expected = np.asarray(answer(counts, 0.9999), dtype=float), weights.class_balanced(counts)
    need(got.shape == (3,), f"one weight a class is needed, not shape {got.shape}")
    need(got[2] > got[0], "the rarest class must get the largest weight")
    need(abs(got.sum() - 3) < 1e-6, f"the weights sum to {got.sum():.4g}, not to C = 3")
    plain = 1 / np.array(counts)
    need(
        not np.allclose(got, 3 * plain / plain.sum()),
        "these are inverse counts; use the effective number (1 − βⁿ)/(1 − β)",
    )
    need(np.allclose(got, expected), f"it should be {expected.round(3).tolist()}, not {got.round(3).tolist()}")


@exercise
def check_feature_separation(answer: Callable) -> None:
    """answer(features, labels, temperature) -> L_sep of Eq. 6, mean over all anchors."""
    generator = torch.Generator().manual_seed(0)
    z, labels = torch.randn(6, 4, generator=generator), torch.tensor([0, 0, 1, 1, 1, 2])
    alone, expected = float(answer(z, labels, 0.1)), float(losses.feature_separation(z, labels, 0.1))
    need(not np.isnan(alone), "anchors without a positive turned into NaN")
    paired = float(answer(z[:5], labels[:5], 0.1))
    paired_expected = float(losses.feature_separation(z[:5], labels[:5], 0.1))
    need(abs(paired + paired_expected) > 1e-3, "the sign is turned round: L_sep is minus a log-probability")
    longer = float(answer(3 * z[:5], labels[:5], 0.1))
    need(abs(longer - paired) < 1e-3, "it changes with the features' length: normalise them")
    need(
        abs(paired - paired_expected) < 1e-3,
        f"without lonely anchors it should be {paired_expected:.4f}, not {paired:.4f}",
    )
    need(
        abs(alone - 6 / 5 * expected) > 1e-3, "the anchor without a positive must count in the mean (with the value 0)"
    )
    need(abs(alone - expected) < 1e-3, f"it should be {expected:.4f}, not {alone:.4f}")


@exercise
def check_bias_for_priors(answer: Callable) -> None:
    """answer(eta, sigma, p) -> the optimal bias when Pr(y = −1) = p, without reweighting."""
    for eta, sigma, p in ((0.5, 1.0, 1 / 11), (0.2, 2.0, 0.25), (1.0, 0.5, 0.5)):
        expected, got = float(theory.optimal_bias(eta, sigma, 3, (1 - p) / p)), float(answer(eta, sigma, p))
        need(
            abs(got + expected) > 1e-6 or expected == 0,
            "the sign is turned round: the frequent class +1 wants a lower bias",
        )
        need(abs(got - 3 * expected) > 1e-6 or expected == 0, "the factor d does not belong here")
        need(abs(got - 2 * expected) > 1e-6 or expected == 0, "there is a ½ before the logarithm")
        need(
            abs(got - expected) < 1e-6, f"for η={eta}, σ={sigma}, p={p:.3f} it should be {expected:.4f}, not {got:.4f}"
        )


@exercise
def check_eps_of_cost(answer: Callable) -> None:
    """answer(eta, sigma, d, K, points) -> the ε at which reweighting costs so many points."""
    for setting in ((1.0, 1.0, 4, 10, 5), (2.0, 1.5, 9, 100, 10)):
        expected, got = float(theory.eps_of_cost(*setting)), float(answer(*setting))
        need(0 <= got < setting[0], f"ε must lie between 0 and η = {setting[0]}, not at {got:.3f}")
        cost = 100 * float(theory.cost(theory.t_of(*setting[:3], eps=got), setting[3]))
        need(abs(got - expected) < 1e-3, f"at your ε = {got:.4f} reweighting costs {cost:.2f} points, not {setting[4]}")


@exercise
def check_robust_margin(answer: Callable) -> None:
    """answer(w, b, x, y, eps) -> the smallest y(wᵀ(x+δ) − b) over ‖δ‖∞ ≤ ε, one a row of x."""
    generator = np.random.default_rng(0)
    w, b, x, y = np.array([2.0, -1.0, 0.5]), 0.3, generator.normal(size=(6, 3)), np.array([1, 1, 1, -1, -1, -1])
    expected, got = theory.robust_margin(w, b, x, y, 0.2), np.asarray(answer(w, b, x, y, 0.2), dtype=float)
    plain = y * (x @ w - b)
    need(got.shape == (6,), f"one margin a row is needed, not shape {got.shape}")
    need(not np.allclose(got, plain), "the adversary has no effect yet")
    need(not np.allclose(got, plain + 0.2 * np.abs(w).sum()), "the adversary makes the margin smaller, not larger")
    need(not np.allclose(got, plain - 0.2 * np.linalg.norm(w)), "this is ε‖w‖₂: for an ℓ∞ ball it is the 1-norm")
    need(not np.allclose(got, plain - 0.2 * w.sum()), "a negative weight can be used, too: take absolute values")
    need(np.allclose(got, expected), f"the first margin should be {expected[0]:.3f}, not {got[0]:.3f}")


@exercise
def check_verdict(answer: Callable) -> None:
    """answer(differences) -> the word of verdicts.verdict."""
    need(answer([]) == "not measured", "without a seed nothing was measured")
    need(
        answer([5.0]) == "direction only",
        f"one seed has no spread and shows a direction at most, not {answer([5.0])!r}",
    )
    for differences in ([1.0, 1.1, 0.9], [4.0, -1.0, 0.5], [-1.0, -1.1, -0.9], [-4.0, 1.0, -0.5], [2.0, 1.0, 0.2]):
        values = np.array(differences)
        expected, got = verdicts.verdict(differences), answer(differences)
        error = values.std(ddof=1) / np.sqrt(len(values))
        need(
            got == expected,
            f"{differences} has mean {values.mean():.2f} and standard error {error:.2f} (std with ddof=1, over √n): "
            f"{expected!r}, not {got!r}",
        )


@exercise
def check_ranks(answer: Callable) -> None:
    """answer(accuracies) -> ranks, 1 the best, ties sharing the mean of their places."""
    plain, tied = np.asarray(answer([10.0, 30.0, 20.0]), dtype=float), np.asarray(answer([5.0, 9.0, 5.0, 1.0]))
    need(plain.shape == (3,), f"three accuracies have three ranks, not shape {plain.shape}")
    need(not np.allclose(plain, [1, 3, 2]), "the order is turned round: the best has rank 1")
    need(not np.allclose(plain, [2, 0, 1]), "ranks begin at 1, not at 0")
    need(np.allclose(plain, [3, 1, 2]), f"10, 30, 20 have ranks 3, 1, 2, not {plain.tolist()}")
    need(
        np.allclose(tied, [2.5, 1, 2.5, 4]),
        f"5, 9, 5, 1 have ranks 2.5, 1, 2.5, 4: equal ones share the mean of their places; not {tied.tolist()}",
    )


@exercise
def check_paired_error(answer: Callable) -> None:
    """answer(default, changed) -> the standard error of the mean paired difference."""
    default, changed = np.array([40.0, 50.0, 60.0, 55.0]), np.array([42.0, 53.0, 61.0, 57.0])
    difference, got = changed - default, float(answer(default, changed))
    expected = difference.std(ddof=1) / 2
    unpaired = np.sqrt((default.var(ddof=1) + changed.var(ddof=1)) / 4)
    need(abs(got - unpaired) > 1e-6, "this treats the two as unpaired: take the difference of each seed first")
    need(
        abs(got - difference.std(ddof=1)) > 1e-6, "this is the standard deviation: divide by √n for the error of a mean"
    )
    need(abs(got - difference.std() / 2) > 1e-6, "four values leave three degrees of freedom: ddof=1")
    need(abs(got - expected) < 1e-6, f"it should be {expected:.4f}, not {got:.4f}")


@exercise
def check_weight_ratio(answer: Callable) -> None:
    """answer(well, under, beta) -> class-balanced weight of the rare class over that of the frequent one."""
    for well, under, beta in ((5000, 50, 0.9999), (104, 4, 0.9999), (1000, 100, 0.99)):
        rare, frequent = weights.class_balanced([under, well], beta)
        expected, got = rare / frequent, float(answer(well, under, beta))
        need(abs(got - 1 / expected) > 1e-6, "this is the inverse: the rare class has the larger weight")
        need(
            abs(got - well / under) > 1e-6, f"this is the ratio of the counts, {well / under:g}; take effective numbers"
        )
        need(
            abs(got - expected) < 1e-4 * expected,
            f"for {well} and {under} images it should be {expected:.2f}, not {got:.2f}",
        )
