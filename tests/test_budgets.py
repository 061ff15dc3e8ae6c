"""How far the adversary may go in each class: the two rules against hand and loops, and what the loop does with them."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srat_utils import METHODS, Config, load_dataset, training
from srat_utils.attacks import PGD, pgd
from srat_utils.budgets import Budget, Difficulty, Rarity, by_difficulty, by_rarity
from srat_utils.methods import Method
from srat_utils.records import ConfigError
from srat_utils.terms import CE, Facts, LogitAdjusted
from srat_utils.training import State, fit

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
FACTS = Facts([40, 10, 2], 64, CPU)
TINY = {"imbalance": "step-5", "max_per_class": 15, "epochs": 4, "attack_steps": 2, "warmup_epochs": 0}
EXP_50 = [round(5000 * 50 ** (-c / 9)) for c in range(10)]
COUNTS = st.lists(st.integers(1, 10**5), min_size=2, max_size=12)


@pytest.fixture(scope="module")
def data():
    return load_dataset("digits", imbalance="step-5", max_per_class=15).train


# ------------------------------------------------------------------------------------------------ by rarity


def test_budgets_of_the_published_setting_in_levels_of_255():
    asked = [5.6, 8.03, 9.03, 9.8, 10.45, 11.03, 11.54, 12.02, 12.46, 12.88]
    assert (8 * by_rarity(EXP_50, cap=None)).tolist() == pytest.approx(asked, abs=0.01)


def test_without_a_cap_the_rare_classes_of_step_100_would_get_248_levels():
    step = [5000] * 5 + [50] * 5
    assert 8 * by_rarity(step, cap=None)[-1] == pytest.approx(248, abs=1)
    assert by_rarity(step, cap=2.0)[-1] == 2 and by_rarity(step)[0] == pytest.approx(0.7)


@given(COUNTS, st.sampled_from([0.0, 0.3, 1.0]))
def test_the_mean_over_images_is_one_and_the_rarer_class_never_has_less(counts, share):
    size = by_rarity(counts, share, cap=None)
    assert (np.array(counts) * size).sum() / sum(counts) == pytest.approx(1)
    order = np.argsort(counts, kind="stable")[::-1]
    assert (np.diff(size[order]) >= -1e-12).all() and (size >= 0).all()
    assert by_rarity(counts, share, cap=1.5).max() <= 1.5


@given(st.integers(1, 1000), st.integers(2, 9))
def test_equal_counts_have_equal_budgets(n, classes):
    assert by_rarity([n] * classes).tolist() == [1] * classes


# ------------------------------------------------------------------------------------------------ by difficulty


def by_pairs(p, weight):
    """Each pair of classes once: the harder one gains what the easier one loses."""
    size = np.ones(len(p))
    for i in range(len(p)):
        for j in range(len(p)):
            if p[i, i] < p[j, j]:
                size[i] += weight * p[i, j] * p[j, j]
                size[j] -= weight * p[i, j] * p[j, j]
    return size


@given(st.integers(0, 10**6), st.integers(2, 8), st.sampled_from([0.5, 1.0, 1.5]))
def test_what_the_harder_class_gains_the_easier_one_loses(seed, classes, weight):
    p = np.random.default_rng(seed).dirichlet(np.ones(classes), classes)
    size = by_difficulty(p, weight)
    np.testing.assert_allclose(size, by_pairs(p, weight))
    assert size.sum() == pytest.approx(classes)
    other = np.random.default_rng(seed + 1).permutation(classes)
    np.testing.assert_allclose(by_difficulty(p[np.ix_(other, other)], weight), size[other])


def test_a_perfect_network_and_equally_hard_classes_have_equal_budgets():
    assert by_difficulty(np.eye(4)).tolist() == [1] * 4
    assert by_difficulty(np.full((3, 3), 1 / 3)).tolist() == [1] * 3


def test_where_all_is_taken_for_one_class_its_budget_would_fall_below_zero_and_the_floor_holds():
    p = np.full((10, 10), 0.0)
    p[:, 0] = 0.9
    p[np.arange(1, 10), np.arange(1, 10)] = 0.1
    p[0, 0] = 1.0
    assert by_difficulty(p)[0] < 0
    module = Difficulty(difficulty_at=0.5).build(Facts([5] * 10, 64, CPU))
    module.begin(0, 2)
    module.watch(torch.tensor(p).clamp(min=1e-9).log().float(), torch.arange(10))
    module.begin(1, 2)
    assert module.size[0] == pytest.approx(0.1) and module.size.max() <= 2


# ------------------------------------------------------------------------------------------------ in the loop


def test_one_budget_for_all_is_the_attacks_own():
    budget = Budget()
    assert budget(PGD(0.1), torch.arange(3)) is None and budget.weight == 1 and not budget.state_dict()


def test_budgets_grow_linearly_and_reach_their_size():
    budget, attack, y = Rarity(budget_warmup=0.5).build(FACTS), PGD(0.1, 0.025), torch.tensor([2, 0])
    full = 0.1 * by_rarity(FACTS.counts)[[2, 0]]
    for epoch, grown in ((0, 0), (1, 0.25), (3, 0.75), (4, 1), (7, 1)):
        budget.begin(epoch, 8)
        assert budget(attack, y).tolist() == pytest.approx(grown * full, rel=1e-6)
    always = Rarity(budget_warmup=0.0).build(FACTS)
    always.begin(0, 8)
    assert always(attack, y).tolist() == pytest.approx(full, rel=1e-6)


@pytest.mark.parametrize("record", [Rarity(budget_warmup=0.0), Difficulty(difficulty_at=0.5)])
def test_each_image_is_attacked_within_its_classes_budget(data, monkeypatch, record):
    seen, used = [], {}

    def watched(model, x, target, attack, **options):
        x_adv = pgd(model, x, target, attack, **options)
        seen.append((len(state.history), target, (x_adv - x).abs().amax((1, 2, 3)), options["eps"]))
        return x_adv

    monkeypatch.setattr(training, "pgd", watched)
    monkeypatch.setitem(METHODS, "mine", Method("mine", (CE(),), budget=record))
    config = Config(method="mine", **TINY)
    state = State.fresh(config, data, CPU)
    fit(
        config,
        data,
        state=state,
        after_epoch=lambda s: used.setdefault(len(s.history), s.objective.budget.size.clone()),
    )
    size = state.objective.budget.size
    assert len(set(size.tolist())) > 1 and size.max() <= 2
    for epoch, y, moved, eps in seen:
        expected = config.eps * (size if isinstance(record, Rarity) or epoch >= 2 else torch.ones(10))[y]
        torch.testing.assert_close(eps, expected)
        assert (moved <= eps + 1e-6).all()
    if isinstance(record, Difficulty):  # measured in the epoch before, from what was said of attacked images
        assert torch.equal(used[2], torch.ones(10)) and torch.equal(used[3], size)
        assert state.objective.budget.seen.tolist() == list(data.counts)


def test_difficulty_weighs_the_loss_too():
    budget = Difficulty().build(FACTS)
    budget.size.copy_(torch.tensor([0.5, 1.0, 1.5]))
    assert torch.equal(budget.weight, budget.size) and Rarity().build(FACTS).weight == 1


def test_with_equal_counts_rarity_changes_nothing(data, monkeypatch):
    monkeypatch.setitem(METHODS, "without", Method("without", (LogitAdjusted(),)))
    monkeypatch.setitem(METHODS, "with", Method("with", (LogitAdjusted(),), budget=Rarity(budget_warmup=0.0)))
    balanced = load_dataset("digits", imbalance="none", max_per_class=6).train
    settings = TINY | {"imbalance": "none", "max_per_class": 6, "epochs": 2}
    ours, plain = (fit(Config(method=name, **settings), balanced).model.state_dict() for name in ("with", "without"))
    assert all(torch.equal(value, plain[name]) for name, value in ours.items())


@pytest.mark.parametrize("method", ["RobustLT", "DAFA"])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_budget_goes_on_where_it_was_interrupted(method, after, data):
    config, kept = Config(method=method, **TINY), {}

    def keep(state):
        if len(state.history) == after:
            kept.update(copy.deepcopy(state.to_dict()))

    whole = fit(config, data, after_epoch=keep)
    again = State.fresh(config, data, CPU)
    again.load_dict(kept)
    resumed = fit(config, data, state=again)
    assert torch.equal(whole.objective.budget.size, resumed.objective.budget.size)
    assert torch.equal(whole.model.head.weight, resumed.model.head.weight)


def test_a_budget_that_cannot_be_is_refused_in_one_line():
    for method, name, value in (
        ("RobustLT", "budget_share", 1.5),
        ("RobustLT", "budget_cap", 0),
        ("DAFA", "budget_floor", 0),
    ):
        with pytest.raises(ConfigError, match=name):
            Config(method=method, **{name: value})
