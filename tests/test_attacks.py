"""PGD against another library, against a model whose inner maximum is known, and against the traps of public code."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchattacks
from helpers import build
from torch import nn

from srat_utils import Config, load_dataset
from srat_utils.attacks import PGD, frozen, pgd
from srat_utils.attacks.pgd import budget_name
from srat_utils.evaluation import evaluate
from srat_utils.terms import LDAM, Facts, Focal
from srat_utils.training import fit

pytestmark = pytest.mark.usefixtures("one_thread")
# ε, step and pixels are multiples of 1/64, so that float32 adds them without rounding and equality can be exact.
ATTACK = PGD(eps=16 / 64, step=3 / 64, steps=7, start="zero")


@pytest.fixture(scope="module")
def trained():
    """A small network after a few natural epochs on digits."""
    config = Config(imbalance="balanced", method="CE", adversarial=False, epochs=6, warmup_epochs=1, max_per_class=40)
    split = load_dataset("digits", imbalance="balanced", max_per_class=40, test_per_class=12)
    return fit(config, split.train).model.eval(), split.test


@pytest.fixture(scope="module")
def batch(trained):
    images, labels = trained[1].tensors("cpu")
    return torch.round(images.float() / 255 * 64) / 64, labels


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear_model(weight, bias):
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight.shape[1], 2))
    with torch.no_grad():
        model[1].weight.copy_(weight)
        model[1].bias.copy_(bias)
    return model


# ------------------------------------------------------------------------------------------------ references


def test_pgd_equals_torchattacks_on_a_trained_model(trained, batch):
    model, (images, labels) = trained[0], batch
    reference = torchattacks.PGD(model, eps=ATTACK.eps, alpha=ATTACK.step, steps=ATTACK.steps, random_start=False)
    assert torch.equal(pgd(model, images, labels, ATTACK), reference(images, labels))


def test_pgd_reaches_the_exact_inner_maximum_of_a_linear_model():
    # Two classes, margin m(x) = (w_y − w_other)·x + b: the worst x′ has margin m − ε‖w_y − w_other‖₁.
    rng = generator(3)
    weight, bias = torch.randn(2, 12, generator=rng), torch.randn(2, generator=rng)
    images = 0.3 + 0.4 * torch.rand(9, 1, 3, 4, generator=rng)  # farther than ε from 0 and 1
    labels = torch.arange(9) % 2
    model, eps = linear_model(weight, bias), 0.2
    adversarial = pgd(model, images, labels, PGD(eps, 0.05, 10), generator=rng)
    sign = 1 - 2 * labels.double()
    difference = (weight[0] - weight[1]).double()
    margin = sign * (images.double().flatten(1) @ difference + (bias[0] - bias[1]).double())
    expected = F.softplus(-(margin - eps * difference.abs().sum()))
    torch.testing.assert_close(
        F.cross_entropy(model(adversarial), labels, reduction="none").double(), expected, rtol=1e-5, atol=1e-5
    )


def test_pixel_bounds_cut_the_inner_maximum_of_a_linear_model():
    model = linear_model(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), torch.zeros(2))
    images = torch.tensor([0.1, 0.9]).view(1, 1, 1, 2)
    adversarial = pgd(model, images, torch.tensor([1]), PGD(0.3, 0.1, 10))  # raises pixel 0, lowers pixel 1
    assert adversarial.flatten().tolist() == pytest.approx([0.4, 0.6])
    adversarial = pgd(model, images, torch.tensor([0]), PGD(0.3, 0.1, 10))
    assert adversarial.flatten().tolist() == pytest.approx([0.0, 1.0])


def test_another_loss_is_maximised_when_it_is_given():
    model = linear_model(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2))
    images = torch.full((1, 1, 1, 2), 0.5)
    adversarial = pgd(
        model, images, torch.tensor([0]), PGD(0.2, 0.1, 5, "zero"), loss=lambda logits, labels: logits[:, 1]
    )
    assert adversarial.flatten().tolist() == pytest.approx([0.5, 0.7])  # pixel 0 has no part in that loss


@pytest.mark.parametrize("loss", ["Focal", "LDAM"])
def test_attacking_focal_or_ldam_is_attacking_cross_entropy(trained, batch, loss):
    # For one example both losses' input gradients are positive multiples of cross-entropy's, so their signs agree.
    model, (images, labels) = copy.deepcopy(trained[0]).double(), batch
    record = Focal() if loss == "Focal" else LDAM(ldam_scale=3.0)
    attack, own = PGD(0.2, 0.05, 3, "zero"), record.each(Facts(range(1, 11), 64, torch.device("cpu")))
    on_own = pgd(model, images.double(), labels, attack, loss=own)
    assert torch.equal(on_own, pgd(model, images.double(), labels, attack))


# ------------------------------------------------------------------------------------------------ the ball


@pytest.mark.parametrize("attack", [PGD(0.2, 0.05, 10), PGD(0.3, 1.0, 3), PGD(2.0, 0.7, 4), PGD(0.1, 0.0, 5)])
def test_adversarial_images_stay_in_the_ball_and_in_the_pixel_range(trained, batch, attack):
    adversarial = pgd(trained[0], *batch, attack, generator=generator())
    assert (adversarial - batch[0]).abs().max() <= attack.eps + 1e-6
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    assert adversarial.shape == batch[0].shape and adversarial.dtype == batch[0].dtype


def test_loss_is_never_lower_than_at_the_start_and_grows_with_steps(trained, batch):
    model, (images, labels) = trained[0], batch

    def loss_after(steps):
        adversarial = pgd(model, images, labels, PGD(0.2, 0.05, steps), generator=generator())
        return F.cross_entropy(model(adversarial), labels).item()

    assert loss_after(0) < loss_after(1) < loss_after(10)
    assert loss_after(10) > F.cross_entropy(model(images), labels).item()


def test_random_start_is_two_sided_and_fills_the_ball():
    images = torch.full((50, 1, 8, 8), 0.5)
    noise = (
        pgd(
            build("small-cnn", 1, 2),
            images,
            torch.zeros(50, dtype=torch.long),
            PGD(0.2, 0.05, 0),
            generator=generator(),
        )
        - 0.5
    )
    assert noise.min() < -0.19 and noise.max() > 0.19
    assert abs(noise.mean().item()) < 0.01  # a one-sided start ε·U(0,1) would have mean 0.1
    assert noise.std().item() == pytest.approx(0.4 / 12**0.5, rel=0.05)


def test_zero_epsilon_returns_the_images(trained, batch):
    assert torch.equal(pgd(trained[0], *batch, PGD(0.0, 0.05, 10), generator=generator()), batch[0])


def test_robust_accuracy_at_zero_epsilon_is_clean_accuracy(trained):
    metrics = evaluate(*trained, [PGD(0.0, 0.0, 3)])
    clean, attacked = (metrics[metrics["attack"] == name]["accuracy"].tolist() for name in ("clean", "pgd-3@0"))
    assert clean == attacked


def test_zero_steps_return_the_start(trained, batch):
    assert torch.equal(pgd(trained[0], *batch, PGD(0.2, 0.05, 0, "zero")), batch[0])
    assert not torch.equal(pgd(trained[0], *batch, PGD(0.2, 0.05, 0), generator=generator()), batch[0])


def test_a_single_image_is_attacked_as_it_is_within_a_batch(trained, batch):
    images, labels = batch
    alone = pgd(trained[0], images[:1], labels[:1], ATTACK)
    torch.testing.assert_close(alone, pgd(trained[0], images, labels, ATTACK)[:1])


@pytest.mark.parametrize(
    "wrong", [{"eps": -0.1}, {"step": -1}, {"steps": -1}, {"eps": float("nan")}, {"start": "normal"}]
)
def test_impossible_attacks_are_refused_in_one_line_with_the_value(wrong):
    with pytest.raises(ValueError) as error:
        PGD(**wrong)
    assert "\n" not in str(error.value) and str(next(iter(wrong.values()))) in str(error.value)


def test_scaling_an_attack_scales_its_budget_and_step():
    assert PGD(0.2, 0.05, 10).scaled(0.5) == PGD(0.1, 0.025, 10)


def test_a_record_is_called_as_every_attack_is(trained, batch):
    attack = PGD(0.2, 0.05, 2)
    expected = pgd(trained[0], *batch, attack, generator=generator(1))
    assert torch.equal(attack(trained[0], *batch, generator=generator(1)), expected)


@pytest.mark.parametrize(
    ("eps", "name"),
    [
        (0.2, "0.2"), (0.05, "0.05"), (0.125, "0.125"), (0, "0"), (1.0, "1"), (0.1 * 3, "0.3"), (0.0312, "0.0312"),
        (8 / 255, "8/255"), (1 / 255, "1/255"), (4 / 255 * 2, "8/255"), (51 / 255, "0.2"), (float(np.float32(8 / 255)), "8/255"),
        (1 / 3, "85/255"), (0.123456, "0.1235"), (8.5 / 255, "0.03333"),
    ],
)  # fmt: skip
def test_a_budget_is_named_as_people_write_it(eps, name):
    assert budget_name(eps) == name
    assert PGD(eps, steps=20).name == f"pgd-20@{name}"


# ------------------------------------------------------------------------------------------------ another ε than the attack's


@pytest.mark.parametrize("start", ["uniform", "zero"])
def test_the_attacks_own_eps_changes_nothing_bit_for_bit(trained, batch, start):
    attack = PGD(0.2, 0.07, 4, start)
    expected = pgd(trained[0], *batch, attack, generator=generator())
    for eps in (0.2, torch.full((len(batch[1]),), 0.2)):
        assert torch.equal(pgd(trained[0], *batch, attack, eps=eps, generator=generator()), expected)


@pytest.mark.parametrize("start", ["uniform", "zero"])
def test_another_eps_is_the_attack_scaled(trained, batch, start):
    attack = PGD(0.25, 0.0625, 4, start)
    expected = pgd(trained[0], *batch, attack.scaled(0.5), generator=generator())
    assert torch.equal(pgd(trained[0], *batch, attack, eps=0.125, generator=generator()), expected)


def test_each_image_keeps_to_its_own_budget(trained, batch):
    images, labels = batch
    eps = torch.linspace(0, 0.3, len(images))
    adversarial = pgd(trained[0], images, labels, PGD(0.2, 0.05, 10), eps=eps, generator=generator())
    assert torch.equal(adversarial[0], images[0])
    moved = (adversarial - images).abs().amax((1, 2, 3))
    assert (moved <= eps + 1e-6).all() and (moved >= eps - 1e-6).all()  # digits have grey pixels enough to spend it on
    alone = pgd(trained[0], images, labels, PGD(0.2, 0.05, 10, "zero"), eps=eps)[7:8]
    one = pgd(trained[0], images[7:8], labels[7:8], PGD(0.2, 0.05, 10, "zero"), eps=eps[7].item())
    torch.testing.assert_close(alone, one)


def test_an_attack_of_eps_zero_given_a_budget_takes_its_step_as_it_is(trained, batch):
    attack = PGD(0.0, 0.05, 3, "zero")
    expected = pgd(trained[0], *batch, PGD(0.2, 0.05, 3, "zero"))
    assert torch.equal(pgd(trained[0], *batch, attack, eps=0.2), expected)
    assert torch.equal(pgd(trained[0], *batch, attack, eps=torch.zeros(len(batch[1]))), batch[0])


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), torch.zeros(3), torch.zeros(2, 2)])
def test_an_impossible_eps_is_refused_in_one_line(trained, batch, wrong):
    with pytest.raises(ValueError, match="eps must be") as error:
        pgd(trained[0], *batch, ATTACK, eps=wrong)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------ nothing left behind


def test_module_modes_come_back_one_by_one(batch):
    model = build("small-cnn", 1, 10).train()
    model.body[0][0][1].eval()  # a batch norm that its owner froze inside a training model
    before = [module.training for module in model.modules()]
    pgd(model, *batch, ATTACK)
    assert [module.training for module in model.modules()] == before
    assert model.training and not model.body[0][0][1].training


def test_the_model_is_in_eval_mode_during_the_attack(batch):
    seen = []
    model = build("small-cnn", 1, 10).train()
    model.body[0][1].register_forward_hook(lambda module, inputs, output: seen.append(module.training))
    pgd(model, *batch, ATTACK)
    assert seen == [False] * ATTACK.steps


def test_batch_norm_statistics_are_untouched_unless_train_mode_is_asked_for(batch):
    model = build("small-cnn", 1, 10).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pgd(model, *batch, ATTACK)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    pgd(model, *batch, ATTACK, training=True)
    assert model.body[0][0][1].num_batches_tracked == ATTACK.steps


def test_no_gradient_is_left_in_the_parameters(trained, batch):
    model = trained[0]
    model.zero_grad(set_to_none=True)
    pgd(model, *batch, ATTACK)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_existing_gradients_are_left_as_they_were(batch):
    model = build("small-cnn", 1, 10).eval()
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    before = [parameter.grad.clone() for parameter in model.head.parameters()]
    pgd(model, *batch, ATTACK)
    assert all(torch.equal(parameter.grad, old) for parameter, old in zip(model.head.parameters(), before, strict=True))


def test_requires_grad_flags_come_back_one_by_one(batch):
    model = build("small-cnn", 1, 10)
    model.head.weight.requires_grad_(False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    pgd(model, *batch, ATTACK)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags


def test_modes_and_flags_come_back_after_an_exception(batch):
    model = build("small-cnn", 1, 10).train()

    def broken(logits, labels):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pgd(model, *batch, ATTACK, loss=broken)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_frozen_can_be_nested(batch):
    model = build("small-cnn", 1, 10).train()
    with frozen(model):
        with frozen(model, training=True):
            assert model.training
        assert not model.training and not model.head.weight.requires_grad
    assert model.training and model.head.weight.requires_grad


def test_images_and_labels_are_left_alone(trained, batch):
    images, labels = batch[0].clone(), batch[1].clone()
    pgd(trained[0], images, labels, PGD(0.2, 0.05, 3), generator=generator())
    assert torch.equal(images, batch[0]) and torch.equal(labels, batch[1]) and not images.requires_grad


@pytest.mark.parametrize("steps", [0, 3])
def test_adversarial_images_carry_no_graph_even_if_the_images_do(trained, batch, steps):
    images = batch[0].clone().requires_grad_()
    assert not pgd(trained[0], images, batch[1], PGD(0.2, 0.05, steps, "zero")).requires_grad


def test_pgd_works_for_callers_without_gradients(trained, batch):
    with torch.no_grad():
        assert torch.equal(pgd(trained[0], *batch, ATTACK), pgd(trained[0], *batch, ATTACK))
        assert not torch.is_grad_enabled()
    with torch.no_grad():
        inside = pgd(trained[0], *batch, ATTACK)
    assert torch.equal(inside, pgd(trained[0], *batch, ATTACK))


# ------------------------------------------------------------------------------------------------ randomness


def test_equal_generators_give_equal_images_and_others_differ(trained, batch):
    attack = PGD(0.2, 0.05, 2)
    first, again, other = (pgd(trained[0], *batch, attack, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_given_generator_leaves_the_global_random_state_alone(trained, batch):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    pgd(trained[0], *batch, PGD(0.2, 0.05, 2), generator=generator())
    assert torch.equal(torch.get_rng_state(), before) and (np.random.get_state()[1] == numpy_before).all()
