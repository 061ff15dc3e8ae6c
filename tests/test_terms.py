"""What terms, inner objectives and updates do, each against a straight line; and a method added in a few lines."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import few_digits, small_batch
from torch import nn

from srat_utils import METHODS, Config
from srat_utils.attacks import PGD, pgd
from srat_utils.inner import INNER
from srat_utils.methods import Method
from srat_utils.records import ConfigError, at_least
from srat_utils.terms import CE, LDAM, Consistency, Facts, Focal, LogitAdjusted, Objective, Separation
from srat_utils.training import State, fit
from srat_utils.updates import AWP, Plain
from srat_utils.weights import Deferred

COUNTS = [40, 10, 2]
FACTS = Facts(COUNTS, 64, torch.device("cpu"))
WEIGHTS = Path(__file__).with_name("weights.json")


@pytest.fixture(scope="module")
def data():
    return few_digits()


@pytest.fixture
def batch():
    return small_batch(weighted=True)


def digest(method: str, training: str) -> str:
    config = Config(
        method=method, adversarial=training == "adversarial", imbalance="step-5", max_per_class=15, epochs=4, attack_steps=3,
        reweight_at=0.5, warmup_epochs=2,
    )  # fmt: skip
    state = fit(config, few_digits())
    digest = hashlib.sha256()
    for name, tensor in sorted(state.model.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def test_eleven_methods_give_the_weights_they_first_gave_to_the_bit():
    """tests/weights.json: environment → method and training → hash of the weights after four epochs on one thread."""
    environment = f"torch {torch.__version__.split('+')[0]}, {torch.backends.cpu.get_cpu_capability()}"
    stored = json.loads(WEIGHTS.read_text()).get(environment)
    if stored is None:
        pytest.skip(f"no weights are stored for {environment}: other kernels round differently")
    assert len(stored) == 2 * 11
    assert {name: digest(*name.split()) for name in stored} == stored


# ------------------------------------------------------------------------------------------------ terms


@pytest.mark.parametrize("view", ["attacked", "clean"])
def test_a_prediction_term_is_the_weighted_mean_over_its_view(batch, view):
    value = CE(view=view).build(FACTS)(batch)
    logits = getattr(batch, view).logits
    expected = (batch.w * F.cross_entropy(logits, batch.y, reduction="none")).sum() / batch.w.sum()
    torch.testing.assert_close(value, expected)
    plain = CE(view=view).build(FACTS)(replace(batch, reduction="mean", model=batch.model.eval()))
    assert plain.isfinite()


def test_a_pass_is_computed_once_and_only_when_asked_for(batch):
    calls = []
    batch.model.register_forward_hook(lambda *given: calls.append(1))
    batch.model.body.register_forward_hook(lambda *given: calls.append(1))
    CE().build(FACTS)(batch), Separation().build(FACTS)(batch), CE().build(FACTS)(batch)
    assert len(calls) == 1
    natural = replace(batch, x_adv=batch.x)
    assert natural.attacked is natural.clean and len(calls) == 2


def test_balanced_softmax_is_its_formula(batch):
    each = LogitAdjusted().each(FACTS)
    logits, n = torch.randn(12, 3), torch.tensor([40.0, 10.0, 2.0])
    shifted = logits.exp() * n  # Ren et al. 2020: p_y = n_y exp(z_y) / Σ n_c exp(z_c)
    torch.testing.assert_close(each(logits, batch.y), -(shifted[range(12), batch.y] / shifted.sum(1)).log())
    assert torch.equal(
        LogitAdjusted(tau=0).each(FACTS)(logits, batch.y), F.cross_entropy(logits, batch.y, reduction="none")
    )


def test_with_equal_counts_priors_and_margins_change_no_probability():
    facts, logits, y = Facts([5, 5, 5], 64, torch.device("cpu")), torch.randn(9, 3), torch.arange(9) % 3
    torch.testing.assert_close(
        LogitAdjusted(tau=2).each(facts)(logits, y), F.cross_entropy(logits, y, reduction="none")
    )


def test_consistency_is_the_divergence_of_trades(batch):
    value = Consistency(kl_weight=6).build(FACTS)(batch)
    p, q = batch.clean.logits.softmax(1), batch.attacked.logits.softmax(1)
    torch.testing.assert_close(value, 6 * (p * (p / q).log()).sum(1).mean(), rtol=1e-4, atol=1e-6)


def test_a_method_of_terms_must_begin_with_a_prediction_and_name_each_column_once():
    with pytest.raises(ConfigError, match="must be a prediction loss"):
        Method("mine", (Separation(),))
    with pytest.raises(ConfigError, match="one name"):
        Method("mine", (CE(), Focal()))
    with pytest.raises(ConfigError, match="inner must be one of"):
        Method("mine", (CE(),), inner="hinge")


# ------------------------------------------------------------------------------------------------ the adversary


def test_losses_that_fall_in_the_true_probability_make_the_same_images_and_a_prior_does_not(batch):
    attack = PGD(0.1, 0.03, 5, "zero")

    def images(first, inner):
        loss, target = INNER[inner](first, FACTS)(batch.model, batch.x, batch.y)
        return pgd(batch.model, batch.x, target, attack, loss=loss)

    plain = images(CE(), "cross-entropy")
    same = [
        (images(first, "method") == plain).float().mean()
        for first in (CE(), Focal(focal_gamma=2.0), LDAM(ldam_scale=1))
    ]
    assert min(same) > 0.99
    assert (images(LogitAdjusted(tau=4), "method") == plain).float().mean() < 0.99
    assert not torch.equal(images(CE(), "clean output"), plain)


def test_the_clean_output_is_computed_frozen(batch):
    before = {name: value.clone() for name, value in batch.model.state_dict().items()}
    loss, target = INNER["clean output"](CE(), FACTS)(batch.model, batch.x, batch.y)
    assert (
        all(torch.equal(value, before[name]) for name, value in batch.model.state_dict().items())
        and batch.model.training
    )
    assert not target.requires_grad
    zero = loss(batch.model.eval()(batch.x), target)
    torch.testing.assert_close(zero, torch.zeros(12), rtol=0, atol=1e-6)  # no distance from itself


# ------------------------------------------------------------------------------------------------ updates


class Counting(nn.Module):
    """A term with a memory: how many batches it has seen."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, batch):
        self.seen += 1
        return batch.attacked.logits.pow(2).mean()


@dataclass(frozen=True)
class Memory(CE):
    weight_of_memory: float = at_least(0, 1.0)

    def build(self, facts):
        return Counting()


def test_awp_takes_the_gradient_where_the_loss_is_worse_and_comes_back(batch):
    objective = Objective((CE(),), FACTS)
    matrices = [p for p in batch.model.parameters() if p.ndim > 1]
    before, here = [p.detach().clone() for p in matrices], objective(replace(batch))["prediction_loss"].item()
    with AWP(awp_gamma=0.01)(objective, batch) as moved:
        there = objective(moved)["prediction_loss"].item()
        for p, old in zip(matrices, before, strict=True):
            assert (p - old).norm().item() == pytest.approx(0.01 * old.norm().item(), rel=1e-3)
    assert there > here
    assert all(torch.allclose(p, old, atol=1e-6) for p, old in zip(matrices, before, strict=True))


def test_looking_ahead_leaves_statistics_and_memories_as_they_were(batch):
    objective = Objective((Memory(),), FACTS)
    for update in (Plain(), AWP()):
        seen, passed = (
            objective.terms["prediction_loss"].seen.item(),
            batch.model.body[0][0][1].num_batches_tracked.item(),
        )
        with update(objective, replace(batch)) as moved:
            objective(moved)
        assert objective.terms["prediction_loss"].seen.item() == seen + 1
        assert batch.model.body[0][0][1].num_batches_tracked.item() == passed + 1


def test_without_strength_awp_is_the_plain_step(data):
    rows = {name: Method(name, (CE(),), update=update) for name, update in (("a", Plain()), ("b", AWP(awp_gamma=0.0)))}
    weights = []
    for row in rows.values():
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(METHODS, row.name, row)
            config = Config(method=row.name, imbalance="step-5", max_per_class=15, epochs=1, attack_steps=1)
            weights.append(fit(config, data).model.state_dict())
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


# ------------------------------------------------------------------------------------------------ a new method


def test_a_new_method_is_a_row_and_a_term_and_its_settings_are_settings_of_config(data, monkeypatch, tmp_path):
    @dataclass(frozen=True)
    class Shrinking(Separation):
        """A term of somebody else's: the features' mean square."""

        shrinking_weight: float = at_least(0, 0.01)
        name = "shrinking_loss"

        def build(self, facts):
            return lambda batch: self.shrinking_weight * batch.attacked.features.pow(2).mean()

    monkeypatch.setitem(METHODS, "mine", Method("mine", (CE(), Shrinking()), Deferred()))
    config = Config(method="mine", imbalance="step-5", max_per_class=15, epochs=2, attack_steps=1, shrinking_weight=0.5)
    state = fit(config, data)
    assert [row["loss"] for row in state.history] == pytest.approx(
        [row["prediction_loss"] + row["shrinking_loss"] for row in state.history], rel=1e-5
    )
    assert config.fingerprint != config.replace(shrinking_weight=0.4).fingerprint
    with pytest.raises(ConfigError, match="shrinking_weight"):
        Config(method="mine", shrinking_weight=-1)


@pytest.mark.parametrize("inner", list(INNER))
@pytest.mark.parametrize(
    "terms", [(LogitAdjusted(tau=1.5), Consistency()), (CE(view="clean"), Consistency(kl_weight=1))]
)
def test_rows_of_the_methods_that_came_later_train(data, monkeypatch, terms, inner):
    monkeypatch.setitem(METHODS, "later", Method("later", terms, inner=inner, update=AWP()))
    state = fit(Config(method="later", imbalance="step-5", max_per_class=15, epochs=2, attack_steps=1), data)
    assert {"prediction_loss", "consistency_loss"} <= set(state.history[1])
    assert all(torch.isfinite(value).all() for value in state.model.state_dict().values())


def test_a_terms_memory_is_in_the_checkpoint_and_its_parameters_in_the_optimizer(data, monkeypatch):
    class Learnt(Counting):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.ones(()))

        def forward(self, batch):
            return self.shift * super().forward(batch)

    monkeypatch.setattr(Memory, "build", lambda self, facts: Learnt())
    monkeypatch.setitem(METHODS, "learnt", Method("learnt", (Memory(),)))
    config = Config(method="learnt", imbalance="step-5", max_per_class=15, epochs=2, attack_steps=1)
    state = fit(config, data)
    term = state.objective.terms["prediction_loss"]
    assert term.seen == 6 and term.shift != 1
    again = State.fresh(config, data, torch.device("cpu"))
    again.load_dict(state.to_dict())
    assert (
        again.objective.terms["prediction_loss"].seen == 6
        and again.objective.terms["prediction_loss"].shift == term.shift
    )
