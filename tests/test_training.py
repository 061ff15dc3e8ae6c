"""Algorithm 1 against a straight-line computation, its schedules, and reproducibility to the last bit."""

import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import build

from srat_utils import METHODS, Config, load_dataset, training
from srat_utils.attacks import PGD, pgd
from srat_utils.batches import batches_per_epoch, shuffled
from srat_utils.config import ConfigError
from srat_utils.devices import resolve_device
from srat_utils.training import State, TrainingError, class_weights, fit, learning_rate

TINY = {"imbalance": "step-5", "max_per_class": 15, "batch_size": 32, "attack_steps": 2}


@pytest.fixture(scope="module")
def data():
    return load_dataset(
        "digits", imbalance="step-5", max_per_class=15, test_per_class=5
    ).train  # 15 × 5 and 3 × 5 images


def config(method="SRAT-CE", **changes):
    return Config(**({"method": method, "epochs": 3} | TINY | changes))


def differences(first: State, second: State) -> list[str]:
    """Names of the weights, buffers and history entries (seconds aside) that differ in any bit."""
    one, other = first.model.state_dict(), second.model.state_dict()
    wrong = [name for name in one if not torch.equal(one[name], other[name])]
    for row, twin in zip(first.history, second.history, strict=True):
        wrong += [name for name in row if name != "seconds" and row[name] != twin[name]]
    return wrong


# ------------------------------------------------------------------------------------------------ one step


def straight_line(method, data, reweighted, adversarial=True, separation=0.3):
    """One SRAT update over the whole set as one batch, in plain torch; only the model and the attack are the package's."""
    loss_name, counts = method.split("-")[1], [15] * 5 + [3] * 5
    model = build("small-cnn", 1, 10, scale=30.0 if loss_name == "LDAM" else None, seed=0).train()
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    x = torch.tensor(data.images).permute(0, 3, 1, 2)[order] / 255
    y = torch.tensor(data.labels)[order]
    if adversarial:
        x = pgd(model, x, y, PGD(0.2, 0.05, 2), generator=torch.Generator().manual_seed(0))
    features = model.body(x)
    logits = model.head(features)
    if loss_name == "LDAM":
        margins = torch.tensor([(3 / n) ** 0.25 / 2 for n in counts])  # the rarest class's is 1/2
        logits = logits - 30 * margins[y][:, None] * torch.eye(10)[y]
    each = -torch.log_softmax(logits, 1)[torch.arange(90), y]
    if loss_name == "Focal":
        each = each * (1 - torch.softmax(logits, 1)[torch.arange(90), y])
    w = torch.ones(10)
    if reweighted:
        w = torch.tensor([(1 - 0.9999) / (1 - 0.9999**n) for n in counts])
    prediction = (w[y] * each).sum() / w[y].sum()
    z = features / features.norm(dim=1, keepdim=True)
    exponentials = torch.exp(z @ z.T / 0.1) * (1 - torch.eye(90))
    same = (y[:, None] == y[None, :]).float() - torch.eye(90)
    log_ratio = z @ z.T / 0.1 - exponentials.sum(1, keepdim=True).log()
    l_sep = -((same * log_ratio).sum(1) / same.sum(1)).mean()
    (prediction + separation * l_sep).backward()
    for parameter in model.parameters():  # SGD's first step: momentum has nothing to add yet; warm-up 0.1/5
        parameter.data -= 0.02 * (parameter.grad + 2e-4 * parameter.data)
    return model, prediction.item(), l_sep.item()


@pytest.mark.parametrize("reweighted", [False, True], ids=["before T_d", "from T_d"])
@pytest.mark.parametrize("method", ["SRAT-CE", "SRAT-Focal", "SRAT-LDAM"])
def test_one_step_of_srat_equals_a_straight_line_computation(data, method, reweighted):
    settings = config(method, epochs=1, batch_size=128, separation_weight=0.3, reweight_at=0.0 if reweighted else 1.0)
    state = fit(settings, data)
    model, prediction, l_sep = straight_line(method, data, reweighted)
    row = state.history[0]
    assert row["reweighted"] == float(reweighted)
    assert (row["prediction_loss"], row["separation_loss"]) == pytest.approx((prediction, 0.3 * l_sep), rel=1e-5)
    assert row["loss"] == pytest.approx(prediction + 0.3 * l_sep, rel=1e-5)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(state.model.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_the_attack_leaves_no_gradient_for_the_update(data, monkeypatch):
    # `zero_grad` before an attack that calls `backward` would add the attack's gradients to the update.
    def watched(model, *arguments, **options):
        before = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        result = pgd(model, *arguments, **options)
        for parameter, old in zip(model.parameters(), before, strict=True):
            assert (parameter.grad is None) == (old is None)
            assert old is None or torch.equal(parameter.grad, old)
        calls.append(1)
        return result

    calls = []
    monkeypatch.setattr(training, "pgd", watched)
    fit(config(epochs=1), data)
    assert len(calls) == 3  # 90 images in batches of 32


def test_training_on_adversarial_images_made_beforehand_gives_the_same_update(data, monkeypatch):
    settings = config("CE", epochs=1, batch_size=128)
    attacked = fit(settings, data)
    made = []
    monkeypatch.setattr(training, "pgd", lambda *a, **k: made.append(pgd(*a, **k)) or made[-1])
    fit(settings, data)
    monkeypatch.setattr(training, "pgd", lambda *a, **k: made[0])  # no attack at all during this training
    assert differences(attacked, fit(settings, data)) == []


def test_natural_training_never_attacks(data, monkeypatch):
    monkeypatch.setattr(training, "pgd", None)
    fit(config(adversarial=False, epochs=1), data)


def test_momentum_and_weight_decay_are_those_of_torch_sgd(data):
    settings = config("CE", adversarial=False, batch_size=128, warmup_epochs=0, momentum=0.9, weight_decay=0.01)
    state = fit(settings, data)
    model = build("small-cnn", 1, 10, seed=0).train()
    x, y = data.tensors("cpu")
    order, velocity = torch.Generator().manual_seed(0), [0.0] * len(list(model.parameters()))
    for rate in (0.1, 0.1, 0.01):  # of 3 epochs the rate falls at round(2.4) = 2 and at round(2.7) = 3
        index = torch.randperm(90, generator=order)
        gradients = torch.autograd.grad(
            F.cross_entropy(model(x[index].float() / 255), y[index]), list(model.parameters())
        )
        with torch.no_grad():
            for i, (parameter, gradient) in enumerate(zip(model.parameters(), gradients, strict=True)):
                velocity[i] = 0.9 * velocity[i] + gradient + 0.01 * parameter
                parameter -= rate * velocity[i]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(state.model.state_dict()[name], value, rtol=1e-3, atol=1e-5, msg=name)


# ------------------------------------------------------------------------------------------------ schedules


def test_learning_rate_of_the_papers_200_epochs():
    rates = [learning_rate(Config.paper("cifar10", "step-100", "CE"), epoch) for epoch in range(200)]
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[5:160] == [0.1] * 155
    assert rates[160:180] == pytest.approx([1e-3] * 20)  # once at the milestone, not every epoch
    assert rates[180:] == pytest.approx([1e-5] * 20)


def test_the_schedule_keeps_its_fractions_at_other_lengths():
    rates = [learning_rate(Config(epochs=50, lr_decay=0.01), epoch) for epoch in range(50)]
    assert (
        rates[5:40] == [0.1] * 35
        and rates[40:45] == pytest.approx([1e-3] * 5)
        and rates[45:] == pytest.approx([1e-5] * 5)
    )


def test_without_warm_up_the_first_epoch_has_the_full_rate():
    assert learning_rate(Config(warmup_epochs=0), 0) == 0.1


def test_the_optimizer_is_given_the_rates_of_the_schedule(data):
    seen = []
    settings = config("CE", adversarial=False, epochs=10, warmup_epochs=2, lr_decay=0.1)
    state = fit(settings, data, after_epoch=lambda state: seen.append(state.optimizer.param_groups[0]["lr"]))
    assert seen == pytest.approx([0.05, 0.1] + [0.1] * 6 + [0.01, 0.001])
    assert [row["learning_rate"] for row in state.history] == seen


@pytest.mark.parametrize(
    ("method", "first"),
    [("CE", 200), ("LDAM", 200), ("CB-Reweight", 0), ("CB-Focal", 0), ("DRCB-CE", 160), ("SRAT-LDAM", 160)],
)
def test_class_weights_are_ones_until_the_method_reweights(method, first):
    settings, counts = Config.paper("cifar10", "step-100", method), [5000] * 5 + [50] * 5
    changed = [epoch for epoch in range(200) if (class_weights(settings, counts, epoch) != 1).any()]
    assert changed == list(range(first, 200))
    if changed:
        w = class_weights(settings, counts, first)
        assert w[9] / w[0] == pytest.approx(78.89, abs=0.01) and w.sum() == pytest.approx(10)


def test_a_plain_ratio_replaces_the_class_balanced_weights():
    settings = Config(method="DRCB-CE", weight_ratio=25, epochs=10)
    assert class_weights(settings, [50, 2, 50, 2], 7).tolist() == [1, 1, 1, 1]
    assert class_weights(settings, [50, 2, 50, 2], 8).tolist() == [1, 25, 1, 25]


def test_epsilon_grows_over_its_warm_up(data, monkeypatch):
    seen = []
    monkeypatch.setattr(
        training, "pgd", lambda model, x, y, attack, **rest: seen.append((attack.eps, attack.step)) or x
    )
    fit(config("CE", batch_size=128, epochs=4, eps_warmup_epochs=2), data)
    assert [eps for eps, _ in seen] == pytest.approx([0.1, 0.2, 0.2, 0.2])
    assert [step for _, step in seen] == pytest.approx([0.025, 0.05, 0.05, 0.05])


@pytest.mark.parametrize("loss", ["CE", "Focal", "LDAM"])
def test_a_deferred_method_is_its_plain_twin_to_the_bit_before_it_reweights(data, loss):
    snapshots = {}
    for method in (loss, f"DRCB-{loss}"):
        snapshots[method] = []

        def keep(state, kept=snapshots[method]):
            kept.append({name: value.clone() for name, value in state.model.state_dict().items()})

        fit(config(method, epochs=4, reweight_at=0.75), data, after_epoch=keep)
    equal = [
        all(torch.equal(one[name], other[name]) for name in one)
        for one, other in zip(snapshots[loss], snapshots[f"DRCB-{loss}"], strict=True)
    ]
    assert equal == [True, True, True, False]


def test_srat_without_separation_weight_is_its_deferred_twin(data):
    srat, twin = fit(config("SRAT-CE", separation_weight=0.0), data), fit(config("DRCB-CE"), data)
    assert all(torch.equal(t, twin.model.state_dict()[name]) for name, t in srat.model.state_dict().items())
    assert [row["separation_loss"] for row in srat.history] == [0, 0, 0]


# ------------------------------------------------------------------------------------------------ reproducibility


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not(data):
    first, again, other = fit(config(), data), fit(config(), data), fit(config(seed=1), data)
    assert differences(first, again) == []
    assert len(differences(first, other)) > 10


def test_the_number_of_threads_torch_was_left_with_does_not_matter(data):
    before = torch.get_num_threads()
    first = fit(config(), data)
    assert torch.get_num_threads() == before
    try:
        torch.set_num_threads(1 if before > 1 else 2)
        assert differences(first, fit(config(), data)) == []
    finally:
        torch.set_num_threads(before)


def test_augmented_training_repeats_to_the_bit(data):
    settings = config(augmentation="crop+flip", epochs=1)
    assert differences(fit(settings, data), fit(settings, data)) == []


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("last", [1, 2, 3])
def test_an_interrupted_training_resumed_from_its_checkpoint_equals_the_undisturbed_one(data, tmp_path, last):
    settings = config(epochs=4, reweight_at=0.5, augmentation="crop+flip")

    def stop(state):
        torch.save(state.to_dict(), tmp_path / "checkpoint.pt")
        if len(state.history) == last:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(settings, data, after_epoch=stop)
    resumed = State.fresh(settings, data, torch.device("cpu"))
    resumed.load_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert len(resumed.history) == last
    assert differences(fit(settings, data), fit(settings, data, state=resumed)) == []


@pytest.mark.parametrize(("epoch", "batch"), [(0, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("method", ["SRAT-LDAM", "CB-Focal"])
def test_a_training_resumed_in_the_middle_of_an_epoch_equals_the_undisturbed_one(data, tmp_path, method, epoch, batch):
    goes_on_to_the_same_end(
        config(method, epochs=4, reweight_at=0.5, augmentation="crop+flip"), data, tmp_path, epoch, batch
    )


@pytest.mark.parametrize(
    "changes", [*({"method": name} for name in METHODS), {"averaging": 0.9}, {"rand_augment": 2}], ids=str
)
def test_so_does_every_method_with_all_that_it_remembers(data, tmp_path, changes):
    goes_on_to_the_same_end(config(epochs=3, reweight_at=0.5, **changes), data, tmp_path, 1, 2)


def goes_on_to_the_same_end(settings, data, tmp_path, epoch, batch):
    """Broken off after a batch of an epoch, three batches long, and resumed from the file."""

    def stop(state):
        if (len(state.history), state.epoch.batches) == (epoch, batch):
            torch.save(state.to_dict(), tmp_path / "checkpoint.pt")
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(settings, data, after_step=stop)
    resumed = State.fresh(settings, data, torch.device("cpu"))
    resumed.load_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert (len(resumed.history), resumed.epoch.batches) == (epoch, batch)
    trained, whole = fit(settings, data, state=resumed), fit(settings, data)
    assert differences(whole, trained) == [] and trained.epoch is None
    one, other = whole.result.state_dict(), trained.result.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_between_the_steps_of_an_epoch_its_state_is_shown(data):
    seen = []
    fit(config(epochs=2), data, after_step=lambda state: seen.append((len(state.history), state.epoch.batches)))
    assert seen == [(0, 1), (0, 2), (1, 1), (1, 2)]  # the third step ends the epoch
    fit(config(epochs=1, batch_size=90), data, after_step=lambda state: pytest.fail("an epoch of one step"))


def test_a_finished_state_is_not_trained_further(data):
    state = fit(config(epochs=1), data)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    fit(config(epochs=1), data, state=state, after_epoch=lambda state: pytest.fail("an epoch too many"))
    assert all(torch.equal(value, before[name]) for name, value in state.model.state_dict().items())


# ------------------------------------------------------------------------------------------------ what is reported


def test_history_has_a_row_an_epoch_with_means_over_images(data):
    state = fit(config("SRAT-CE", adversarial=False), data)
    assert [row["epoch"] for row in state.history] == [0, 1, 2]
    for row in state.history:
        assert row["loss"] == pytest.approx(row["prediction_loss"] + row["separation_loss"], rel=1e-5)
        assert 0 <= row["train_accuracy"] <= 100 and row["seconds"] > 0


def test_the_share_of_anchors_with_a_positive_is_that_of_the_batches(data):
    settings = config("CE", adversarial=False, epochs=1, batch_size=8)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0)).numpy()
    batches = [data.labels[order[start : start + 8]] for start in range(0, 90, 8)]
    having = sum((np.bincount(labels)[labels] > 1).sum() for labels in batches)
    assert fit(settings, data).history[0]["anchors_with_positive"] == pytest.approx(having / 90)


@pytest.mark.parametrize("method", ["CE", "SRAT-LDAM"])
def test_a_loss_that_is_no_number_stops_the_training_and_names_the_epoch_in_one_line(data, method):
    with pytest.raises(TrainingError) as error:
        fit(config(method, learning_rate=1e30, warmup_epochs=0, adversarial=False), data)
    message = str(error.value)
    assert "\n" not in message and "1e+30" in message and "nan" in message
    assert "epoch 1 of 3" in message or "epoch 2 of 3" in message


def test_a_last_batch_of_one_image_is_trained_on(data):
    state = fit(config("SRAT-CE", epochs=1, batch_size=89), data)
    assert math.isfinite(state.history[0]["loss"])


@pytest.mark.parametrize(("size", "expected"), [(32, [32, 32, 26]), (89, [90]), (45, [45, 45]), (200, [90])])
def test_an_epoch_sees_every_image_once_and_no_batch_of_one(data, size, expected):
    images, labels = data.tensors("cpu")
    numbered = torch.arange(90)[:, None, None, None].expand_as(images).to(torch.uint8)
    seen = list(shuffled(numbered, labels, size, torch.Generator().manual_seed(0)))
    assert [len(y) for _, y in seen] == expected and batches_per_epoch(90, size) == len(expected)
    numbers = torch.cat([(x[:, 0, 0, 0] * 255).round().long() for x, _ in seen])
    assert sorted(numbers.tolist()) == list(range(90))
    assert torch.equal(torch.cat([y for _, y in seen]), labels[numbers])  # each image with its own label


def test_two_classes_with_one_image_in_the_rarer_are_trained_on():
    pair = load_dataset("digits", imbalance="step-20", classes=("3", "8"), max_per_class=20).train
    assert pair.counts == [20, 1]
    state = fit(
        Config(imbalance="step-20", classes=("3", "8"), max_per_class=20, epochs=2, reweight_at=0.0, attack_steps=2),
        pair,
    )
    assert state.model.head.out_features == 2 and math.isfinite(state.history[-1]["loss"])


@pytest.mark.parametrize("changes", [{"projection": 16}, {"lonely_anchors": "drop"}, {"reduction": "mean"}])
def test_the_alternatives_to_unstated_defaults_train_and_change_the_result(data, changes):
    settings = config("SRAT-LDAM", epochs=1, batch_size=16, reweight_at=0.0)
    base, other = fit(settings, data), fit(settings.replace(**changes), data)
    assert math.isfinite(other.history[0]["loss"]) and differences(base, other)


def test_bf16_training_keeps_float32_parameters_losses_and_optimizer_state(data):
    state = fit(config("SRAT-LDAM", precision="bf16"), data)
    tensors = [
        *state.model.state_dict().values(),
        *(slot["momentum_buffer"] for slot in state.optimizer.state.values()),
    ]
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float32}
    full = fit(config("SRAT-LDAM"), data)
    assert state.history[0]["loss"] != full.history[0]["loss"]
    assert state.history[0]["loss"] == pytest.approx(full.history[0]["loss"], rel=0.05)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_body_trains_to_the_same_up_to_rounding_and_its_state_loads_elsewhere(data):
    settings = config("SRAT-CE", epochs=1)
    plain, compiled = fit(settings, data), fit(settings.replace(compile=True), data)
    assert compiled.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=1e-3)
    State.fresh(settings, data, torch.device("cpu")).load_dict(compiled.to_dict())


def test_the_methods_own_loss_is_what_the_attack_maximises_when_asked_for(data, monkeypatch):
    given = []
    monkeypatch.setattr(training, "pgd", lambda model, x, y, attack, *, loss, **rest: given.append(loss) or x)
    for settings in (config("SRAT-LDAM", epochs=1), config("SRAT-LDAM", epochs=1, attack_loss="method")):
        fit(settings, data)
    logits, labels = torch.eye(10) * 3, torch.arange(10)
    torch.testing.assert_close(given[0](logits, labels), F.cross_entropy(logits, labels, reduction="none"))
    assert (given[-1](logits, labels) > given[0](logits, labels)).all()  # LDAM's margins are in it


def test_an_absent_device_is_refused_in_one_line_that_says_what_to_take():
    missing = "cuda:99" if torch.cuda.is_available() else "cuda"
    for name in (missing, "abacus"):
        with pytest.raises(ConfigError, match="auto") as error:
            resolve_device(name)
        assert name in str(error.value) and "\n" not in str(error.value)


def test_a_last_step_into_no_numbers_is_no_finished_training(data):
    config = Config(method="CE", adversarial=False, epochs=1, batch_size=1000, warmup_epochs=0, learning_rate=1e38)
    with pytest.raises(TrainingError, match="answers with no numbers"):
        fit(config, data)
