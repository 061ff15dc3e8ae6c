"""Section 3 against numeric minimisation, sampled data and its own theorems."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from srat_utils.course import panels, theory

etas = st.floats(0.05, 5)
sigmas = st.floats(0.1, 5)
dimensions = st.integers(1, 100)
ratios = st.floats(1.001, 1000)
separabilities = st.floats(0.05, 6)


def errors_of_bias(b, eta, sigma, d):
    """(err of −1, err of +1) of the classifier sign(1ᵀx − b)."""
    centre, deviation = d * eta, np.sqrt(d) * sigma
    return norm.cdf(-(b + centre) / deviation), norm.cdf((b - centre) / deviation)


@pytest.mark.parametrize("d", [1, 2, 4, 25, 100])
@pytest.mark.parametrize(
    ("eta", "sigma", "K", "rho"), [(0.5, 1, 10, 1), (0.6, 1.2, 100, 1), (0.2, 1, 10, 3), (0.5, 2, 5, 20)]
)
def test_the_bias_minimises_the_weighted_risk_found_numerically(d, eta, sigma, K, rho):
    centre, deviation = d * eta, np.sqrt(d) * sigma

    def risk(b):  # from scipy's own normal distribution, not from the package
        return rho * norm.sf(b, -centre, deviation) + K * norm.cdf(b, centre, deviation)

    bias = theory.optimal_bias(eta, sigma, d, K, rho)
    reach = abs(bias) + 3 * deviation
    found = minimize_scalar(risk, bounds=(-reach, reach), method="bounded", options={"xatol": 1e-10}).x
    assert bias == pytest.approx(found, abs=1e-3 * deviation)
    errors = theory.class_errors(eta, sigma, d, K, rho)
    assert errors == pytest.approx((norm.sf(bias, -centre, deviation), norm.cdf(bias, centre, deviation)))
    assert errors == pytest.approx(errors_of_bias(bias, eta, sigma, d))


def test_the_papers_factor_d_is_one_too_many():
    for d in (1, 4, 100):
        assert theory.optimal_bias(0.5, 1, d, 10) == pytest.approx(-np.log(10), abs=1e-12)  # −2.3026 whatever d is


@pytest.mark.parametrize("d", [1, 3, 100])
def test_a_linear_classifier_fitted_to_samples_has_these_errors(d):
    eta, sigma, K = 1.2 / np.sqrt(d), 1.0, 10
    generator = np.random.default_rng(d)
    y = np.where(np.arange(88_000) < 80_000, 1, -1)
    x = generator.normal(size=(len(y), d)) * sigma + eta * y[:, None]
    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(x, y)
    fresh = generator.normal(size=(100_000, d)) * sigma
    rare = (fitted.predict(fresh - eta) == 1).mean()
    frequent = (fitted.predict(fresh + eta) == -1).mean()
    assert theory.class_errors(eta, sigma, d, K) == pytest.approx((rare, frequent), abs=0.015)


def test_the_counterexample_to_the_theorems_as_printed():
    first, second = {"eta": 0.1, "sigma": 0.1, "d": 4}, {"eta": 10, "sigma": 2, "d": 4}
    assert first["eta"] / first["sigma"] ** 2 == pytest.approx(10) and second["eta"] / second["sigma"] ** 2 == 2.5
    wide, narrow = (theory.gap(theory.t_of(**data), 10) for data in (first, second))
    assert wide == pytest.approx(0.0723, abs=5e-4)  # S = 10, and yet the larger gap
    assert 1e-24 < narrow < 1e-22


@given(etas, sigmas, dimensions, ratios, st.floats(0.1, 10))
def test_rescaling_the_inputs_changes_neither_t_nor_the_errors(eta, sigma, d, K, scale):
    assert theory.t_of(eta * scale, sigma * scale, d) == pytest.approx(theory.t_of(eta, sigma, d))
    before, after = theory.class_errors(eta, sigma, d, K), theory.class_errors(eta * scale, sigma * scale, d, K)
    assert after == pytest.approx(before, abs=1e-9)


@given(separabilities, st.floats(0.01, 1), ratios)
def test_both_theorems_hold_in_t_for_every_K(t, more, K):
    assert theory.gap(t + more, K) <= theory.gap(t, K) + 1e-12
    assert theory.cost(t + more, K) <= theory.cost(t, K) + 1e-12


@given(separabilities, st.floats(1.05, 1000))
def test_the_gaps_slope_in_t_is_as_derived(t, K):
    L, h = 0.5 * np.log(K), 1e-5
    slope = (theory.gap(t + h, K) - theory.gap(t - h, K)) / (2 * h)
    common = norm.pdf(L / t - t)  # φ(L/t + t) = φ(L/t − t)/K at ρ = 1
    assert slope == pytest.approx(common / K * (-(K + 1) * L / t**2 - (K - 1)), rel=2e-3, abs=1e-7)


@given(separabilities, ratios, st.floats(0.01, 1000))
def test_errors_are_probabilities_and_relabelling_swaps_them(t, K, rho):
    rare, frequent = theory.errors_at(t, K, rho)
    assert 0 <= rare <= 1 and 0 <= frequent <= 1
    # rarer and heavier swap places: L changes its sign when K/ρ becomes ρ/K
    swapped = theory.errors_at(t, 1.0, K / rho)
    assert swapped == pytest.approx((frequent, rare), abs=1e-12)


@given(separabilities, ratios)
def test_full_reweighting_makes_the_errors_equal_and_K_of_one_needs_none(t, K):
    assert theory.errors_at(t, K, K) == pytest.approx((norm.cdf(-t),) * 2)
    assert theory.gap(t, 1.0) == 0 and theory.cost(t, 1.0) == 0


@given(etas, sigmas, dimensions, ratios, st.floats(0, 0.99))
def test_an_adversary_is_less_separability_and_nothing_else(eta, sigma, d, K, share):
    eps = share * eta
    robust = theory.class_errors(eta, sigma, d, K, eps=eps)
    assert robust == pytest.approx(theory.class_errors(eta - eps, sigma, d, K), rel=1e-6, abs=1e-12)
    assert theory.t_of(eta, sigma, d, eps) <= theory.t_of(eta, sigma, d)


def test_near_eta_the_rare_class_is_given_up():
    rare, frequent = theory.class_errors(1.0, 1.0, 4, 10, eps=1 - 1e-6)
    assert rare == pytest.approx(1) and frequent == pytest.approx(0)


@settings(max_examples=50)
@given(st.integers(1, 6), st.floats(0, 0.5), st.integers(0, 2**31))
def test_the_robust_margin_is_the_worst_corner_of_the_box(d, eps, seed):
    generator = np.random.default_rng(seed)
    w, b, x, y = (
        generator.normal(size=d),
        generator.normal(),
        generator.normal(size=(5, d)),
        generator.choice([-1, 1], 5),
    )
    corners = eps * np.array(np.meshgrid(*[[-1, 1]] * d)).reshape(d, -1).T
    brute = np.min([y * ((x + corner) @ w - b) for corner in corners], axis=0)
    assert theory.robust_margin(w, b, x, y, eps) == pytest.approx(brute)


def test_the_robust_fit_is_scikit_learns_at_eps_zero():
    generator = np.random.default_rng(0)
    y = np.where(generator.random(400) < 0.8, 1, -1)
    x = generator.normal(size=(400, 2)) + 0.7 * y[:, None]
    w, b = theory.fit_robust_linear(x, y, rho=4)
    weight = np.where(y < 0, 4, 1.0)
    reference = LogisticRegression(C=1 / (2e-3 * weight.sum()), tol=1e-10, max_iter=5000).fit(
        x, y, sample_weight=weight
    )
    assert w == pytest.approx(reference.coef_[0], rel=1e-2)
    assert -b == pytest.approx(reference.intercept_[0], rel=2e-2, abs=1e-2)


def test_more_eps_shrinks_the_weights():
    generator = np.random.default_rng(1)
    y = generator.choice([-1, 1], 300)
    x = generator.normal(size=(300, 2)) + y[:, None]
    lengths = [np.abs(theory.fit_robust_linear(x, y, eps=eps)[0]).sum() for eps in (0, 0.3, 0.6)]
    assert lengths[0] > lengths[1] > lengths[2]


def test_eps_of_cost_is_where_reweighting_costs_that_much():
    eps = theory.eps_of_cost(1.0, 1.0, 4, 10, points=5)
    assert 0 < eps < 1 and 100 * theory.cost(theory.t_of(1.0, 1.0, 4, eps), 10) == pytest.approx(5)
    assert theory.eps_of_cost(0.1, 1.0, 4, 10) == 0.0
    assert np.isnan(theory.eps_of_cost(1.0, 1.0, 4, 1.0))


@pytest.mark.parametrize("t", [0.5, 1.5])
def test_measured_separability_of_gaussians_is_t_even_in_many_dimensions(t):
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 2000)
    direction = np.ones(32) / np.sqrt(32)
    features = generator.normal(size=(4000, 32)) + t * (2 * labels - 1)[:, None] * direction
    assert theory.measured_t(features, labels) == pytest.approx(t, rel=0.08)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"eps": 0.5}, "below eta"),
        ({"eps": 0.7}, "below eta"),
        ({"eps": -0.1}, "eps must be 0 or more"),
        ({"sigma": 0}, "sigma must be above 0"),
        ({"sigma": -1}, "sigma must be above 0"),
        ({"sigma": np.nan}, "sigma must be above 0"),
        ({"K": 0.5}, "K must be 1 or more"),
        ({"rho": 0}, "rho must be above 0"),
        ({"eta": 0}, "eta must be above 0"),
        ({"d": 0}, "d must be 1 or more"),
    ],
)
def test_an_impossible_setting_is_refused_in_one_line(arguments, words):
    with pytest.raises(ValueError) as refused:
        theory.class_errors(**{"eta": 0.5, "sigma": 1, "d": 4, "K": 10} | arguments)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_weight_moves_the_robust_boundary_further_where_the_boxes_are_large():
    x, y = panels.cloud()

    def offset(rho, eps):
        w, b = theory.fit_robust_linear(x, y, eps=eps, rho=rho)
        return b / np.linalg.norm(w)

    moved = {eps: offset(100, eps) - offset(1, eps) for eps in (0.1, 0.8)}
    assert moved == pytest.approx({0.1: 0.8, 0.8: 2.5}, abs=0.06)  # what notebook 04 tells its reader


def test_clean_errors_behind_the_robust_boundary_are_those_of_its_bias():
    for eps in (0.0, 0.3, 0.6):
        b = theory.optimal_bias(1.0 - eps, 0.8, 3, 20, 2)
        found = theory.clean_errors_behind(theory.t_of(1.0, 0.8, 3), theory.t_of(1.0, 0.8, 3, eps), 20, 2)
        assert found == pytest.approx(errors_of_bias(b, 1.0, 0.8, 3))
    with pytest.raises(ValueError, match="t must be above 0"):
        theory.clean_errors_behind(1.0, 0.0, 2)


def test_robust_training_costs_the_rare_class_clean_accuracy():
    t, K = 2.0, 10
    natural, behind = theory.errors_at(t, K), theory.clean_errors_behind(t, 0.7 * t, K)
    assert behind[0] > natural[0] and behind[1] < natural[1]


def test_a_fitted_line_approaches_the_known_one_with_many_points_and_widens_the_gap_with_few():
    assert theory.sampled_gap(1.5, (40_000, 4_000), 4, draws=2) == pytest.approx(theory.gap(1.5, 10), abs=0.02)
    assert theory.sampled_gap(2.8, (104, 4), 64, draws=10) > theory.sampled_gap(2.8, (104, 4), 8, draws=10)
    assert theory.sampled_gap(2.8, (104, 4), 8, draws=10) > theory.gap(2.8, 26)


@pytest.mark.parametrize("t", [2.0, 2.8, 3.5])
def test_a_lightly_penalised_line_leaves_no_less_than_the_widest_margin_that_it_approaches(t):
    """The limit without a penalty is the hard-margin machine, found by another solver."""
    random, gaps = np.random.default_rng(0), []
    y = np.repeat([1, -1], (104, 4))
    mean = t / 8
    for _ in range(10):
        machine = SVC(kernel="linear", C=1e6).fit(random.normal(size=(108, 64)) + mean * y[:, None], y)
        w, b = machine.coef_[0], -machine.intercept_[0]
        centre, deviation = mean * w.sum(), np.linalg.norm(w)
        gaps.append(norm.cdf(-(b + centre) / deviation) - norm.cdf((b - centre) / deviation))
    found = theory.sampled_gap(t, (104, 4), 64, draws=10)
    assert np.mean(gaps) < found < np.mean(gaps) + 0.25
