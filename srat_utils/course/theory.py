"""Section 3 of the paper in closed form, for x ~ N(yμ, σ²I) with μ = (η, …, η) in d dimensions (Eq. 1).

The prior ratio is Pr(y=+1) = K·Pr(y=−1), and class −1 has the weight ρ.  The classifier is f(x) = sign(1ᵀx − b).  Along
1ᵀx the classes have means ±dη and standard deviation √d·σ, so everything depends on one number, t = √d·η/σ.

An ℓ∞ adversary with budget ε < η moves every coordinate by ε against the label and turns η into η − ε: robust training in
this model is natural training on less separable data.

Arguments are numbers or arrays that broadcast; ValueError outside the model's range.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from ..places import remembered


def _check(eta=1.0, sigma=1.0, d=1, K=1.0, rho=1.0, eps=0.0, t=1.0) -> None:
    for condition, message in (
        (np.all(np.asarray(t) > 0), f"t must be above 0, not {t}"),
        (np.all(np.asarray(sigma) > 0), f"sigma must be above 0, not {sigma}"),
        (np.all(np.asarray(d) >= 1), f"d must be 1 or more, not {d}"),
        (np.all(np.asarray(K) >= 1), f"K must be 1 or more, not {K}"),
        (np.all(np.asarray(rho) > 0), f"rho must be above 0, not {rho}"),
        (np.all(np.asarray(eta) > 0), f"eta must be above 0, not {eta}"),
        (np.all(np.asarray(eps) >= 0), f"eps must be 0 or more, not {eps}"),
        (np.all(np.asarray(eps) < eta), f"eps must stay below eta = {eta}, where the classes meet; it is {eps}"),
    ):
        if not condition:  # NaN fails every comparison, and so it lands here, too
            raise ValueError(message)


def t_of(eta, sigma, d, eps=0.0):
    """t = √d·(η − ε)/σ: half the distance of the class means along 1ᵀx over the standard deviation there."""
    _check(eta=eta, sigma=sigma, d=d, eps=eps)
    return np.sqrt(d) * (np.asarray(eta) - eps) / sigma


def optimal_bias(eta, sigma, d, K, rho=1.0):
    """b = ½·log(ρ/K)·σ²/η, which minimises ρ·err(−1) + K·err(+1) over b: Lemma 3.1 without its factor d."""
    _check(eta=eta, sigma=sigma, d=d, K=K, rho=rho)
    return 0.5 * np.log(np.asarray(rho) / K) * sigma**2 / eta


def errors_at(t, K, rho=1.0):
    """(err of −1, err of +1) at the optimal bias: Φ(L/t − t) and Φ(−L/t − t) with L = ½·log(K/ρ), for t > 0."""
    _check(t=t, K=K, rho=rho)
    shift = 0.5 * np.log(K / np.asarray(rho)) / t
    return norm.cdf(shift - t), norm.cdf(-shift - t)


def clean_errors_behind(t, t_eps, K, rho=1.0):
    """(err of −1, err of +1) on clean images of the boundary that is optimal for attacked ones: Φ(±L/t_ε − t)."""
    _check(t=t, K=K, rho=rho)
    _check(t=t_eps)
    shift = 0.5 * np.log(K / np.asarray(rho)) / t_eps
    return norm.cdf(shift - t), norm.cdf(-shift - t)


def class_errors(eta, sigma, d, K, rho=1.0, eps=0.0):
    """(err of −1, err of +1) of the optimal classifier; with ε the robust errors of the robustly trained one (t_ε for t)."""
    return errors_at(t_of(eta, sigma, d, eps), K, rho)


def gap(t, K):
    """err(−1) − err(+1) without reweighting (Theorem 3.1): falls in t for every K > 1."""
    rare, frequent = errors_at(t, K)
    return rare - frequent


def cost(t, K):
    """What full reweighting (ρ = K) adds to err(+1): Φ(−t) − Φ(−L/t − t) (Theorem 3.2)."""
    return errors_at(t, K, K)[1] - errors_at(t, K)[1]


@remembered
def sampled_gap(t, counts, d, *, draws=40, seed=0):
    """err(−1) − err(+1) of a line that is fitted to counts = (frequent, rare) Gaussian points in d dimensions, the mean of draws.

    The fit is logistic regression with a light penalty, solved to the end: separable points make the loss so small that a
    solver with its usual tolerance stops on the way.  Its errors on the population are exact.  Few rare points in many
    dimensions leave a wider gap than `gap`, which knows the optimal line.
    """
    random, gaps = np.random.default_rng(seed), []
    y = np.repeat([1, -1], counts)
    mean = t / np.sqrt(d)
    for _ in range(draws):
        points = random.normal(size=(len(y), d)) + mean * y[:, None]
        fitted = LogisticRegression(C=100.0, tol=1e-8, max_iter=100_000).fit(points, y)
        w, b = fitted.coef_[0], -fitted.intercept_[0]
        centre, deviation = mean * w.sum(), np.linalg.norm(w)
        gaps.append(norm.cdf(-(b + centre) / deviation) - norm.cdf((b - centre) / deviation))
    return float(np.mean(gaps))


def eps_of_cost(eta, sigma, d, K, points=5.0):
    """The ε at which reweighting begins to cost more than so many points; 0 if it does from the start, NaN if it never does."""

    def excess(eps):
        return 100 * cost(t_of(eta, sigma, d, eps), K) - points

    if excess(0.0) >= 0:
        return 0.0
    highest = eta * (1 - 1e-9)
    return brentq(excess, 0.0, highest) if excess(highest) > 0 else np.nan


def robust_margin(w, b, x, y, eps):
    """min over ‖δ‖∞ ≤ ε of y(wᵀ(x+δ) − b) = y(wᵀx − b) − ε‖w‖₁: a linear model's exact inner problem.  x [N,d], y ±1 [N]."""
    return y * (x @ w - b) - eps * np.abs(w).sum()


def fit_robust_linear(x, y, eps=0.0, rho=1.0):
    """(w, b) that minimise the logistic loss of the robust margin, class −1 weighted by ρ.  x [N,d], y ±1 [N].

    Convex, because the exact inner maximum is known.  ‖w‖₁ and |w| are smoothed by 1e-6.
    """
    _check(rho=rho)
    if eps < 0:
        raise ValueError(f"eps must be 0 or more, not {eps}")
    weight = np.where(y < 0, rho, 1.0)
    weight = weight / weight.sum()

    def objective(parameters):
        w, b = parameters[:-1], parameters[-1]
        length = np.sqrt(w**2 + 1e-12)
        margin = y * (x @ w - b) - eps * length.sum()
        slope = -weight / (1 + np.exp(np.clip(margin, -500, 500)))
        toward_w = (slope * y) @ x - slope.sum() * eps * w / length + 2e-3 * w
        return weight @ np.logaddexp(0, -margin) + 1e-3 * w @ w, np.append(toward_w, -(slope @ y))

    first = np.append(x[y > 0].mean(0) - x[y < 0].mean(0), 0.0)
    found = minimize(objective, first, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return found[:-1], found[-1]


def measured_t(features, labels):
    """t of two classes of features [N,D], measured where it was not learnt.

    Fisher's direction is fitted on one half of the images and t read off on the other, both ways round, and averaged: half
    the distance of the class means over the pooled standard deviation.  Fitted and read on the same images, it would grow
    with D alone.
    """
    halves, values = StratifiedKFold(2, shuffle=True, random_state=0), []
    for fitted, read in halves.split(features, labels):
        line = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(features[fitted], labels[fitted])
        along = features[read] @ line.coef_[0]
        first, second = (along[labels[read] == c] for c in np.unique(labels))
        values.append((second.mean() - first.mean()) / 2 / np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2))
    return float(np.mean(values))
