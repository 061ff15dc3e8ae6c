"""What the sliders of notebook 04 draw."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from . import theory
from .plots import UNDER, WELL
from .svg import Chart


def explorer(t: float, K: float, rho: float, eps: float) -> Chart:
    """The two densities along 1ᵀx in units of its deviation, clean and attacked, with both boundaries.  eps: share of η."""
    t_eps = t * (1 - eps)
    natural, robust = theory.errors_at(t, K, rho), theory.errors_at(t_eps, K, rho)
    boundary, robust_boundary = (-0.5 * np.log(K / rho) / s for s in (t, t_eps))
    said = (
        f"t = {t:.2f}, t_ε = {t_eps:.2f}: natural errors {natural[0]:.1%} rare, {natural[1]:.1%} frequent; "
        f"robust errors {robust[0]:.1%} and {robust[1]:.1%}"
    )
    chart = Chart((-7, 7), (0, 0.54), x_label="1ᵀx / (√d σ)", alt=said).ticks(range(-6, 7, 2))
    x = np.linspace(-7, 7, 281)
    for sign, colour in ((-1, UNDER), (1, WELL)):
        chart.line(x, norm.pdf(x - sign * t), colour).line(x, norm.pdf(x - sign * t_eps), colour, dash="5 4", width=1.5)
        wrong = (np.minimum if sign > 0 else np.maximum)(x, robust_boundary)
        chart.area(wrong, norm.pdf(wrong - sign * t_eps), colour)
    chart.line([boundary] * 2, [0, 0.42], "#111").line([robust_boundary] * 2, [0, 0.42], "#111", dash="5 4")
    chart.text(
        -6.9, 0.52, f"natural: err(−1) = Φ(L/t − t) = {natural[0]:.3f}, err(+1) = Φ(−L/t − t) = {natural[1]:.3f}"
    )
    chart.text(
        -6.9,
        0.48,
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
    said = f"K = {K:g}, ρ = {rho:.3g}: error of the rare class {now[0]:.1%}, of the frequent class {now[1]:.1%}, mean {sum(now) / 2:.1%}"
    chart = Chart((0, 3), (0, 1.15), x_label="weight ρ of the rare class (log scale)", alt=said)
    chart.ticks([0, 1, 2, 3], ["1", "10", "100", "1000"]).y_ticks([0, 0.5, 1], ["0", "½", "1"])
    chart.line(np.log10(grid), rare, UNDER).line(np.log10(grid), frequent, WELL)
    chart.line(np.log10(grid), (rare + frequent) / 2, "#666", dash="2 3")
    chart.line([np.log10(rho)] * 2, [0, 1], "#111", width=1)
    chart.points([np.log10(rho)], [now[0]], UNDER, triangle=True).points([np.log10(rho)], [now[1]], WELL)
    if reveal:
        chart.line([np.log10(K)] * 2, [0, 1], "#009E73", dash="5 4").text(
            np.log10(K), 0.97, f" optimum ρ = K = {K:g}", colour="#006B4F"
        )
    return chart.text(0.03, 1.08, said)


def cloud(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Forty frequent and eight rare points in the plane, labels ±1."""
    generator = np.random.default_rng(seed)
    y = np.repeat([1, -1], [40, 8])
    return generator.normal(size=(48, 2)) * 0.8 + y[:, None], y


def robust_cloud(rho: float, eps: float) -> Chart:
    """The cloud with its ε-boxes and the boundary of the robust linear classifier, found with the exact inner maximum."""
    x, y = cloud()
    w, b = theory.fit_robust_linear(x, y, eps=eps, rho=rho)
    wrong = theory.robust_margin(w, b, x, y, eps) <= 0
    said = f"ρ = {rho:.3g}, ε = {eps:.2f}: {wrong[y < 0].mean():.0%} of the rare and {wrong[y > 0].mean():.0%} of the frequent can be pushed across"
    chart = Chart((-4, 4), (-3.4, 3.4), height=400, width=465, x_label="x₁ (x₂ upwards)", alt=said)  # equal units
    chart.ticks(range(-4, 5, 2)).y_ticks(range(-2, 3, 2))
    chart.points(*x[y > 0].T, WELL, box=(eps, eps)).points(*x[y < 0].T, UNDER, triangle=True, box=(eps, eps))
    if np.abs(w).max() > 1e-3:
        normal = w / np.linalg.norm(w)
        foot, side = normal * b / np.linalg.norm(w), np.array([-normal[1], normal[0]])
        line = foot[:, None] + side[:, None] * np.linspace(-8, 8, 161)
        chart.line(*line[:, (np.abs(line[0]) < 4) & (line[1] > -3.4) & (line[1] < 2.9)], "#111")
    return chart.text(
        -3.9, 3.2, f"pushed across: {wrong[y < 0].mean():.0%} of the rare, {wrong[y > 0].mean():.0%} of the frequent"
    )
