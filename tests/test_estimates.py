"""What is said before a training starts: counts and rules by hand, times as products of what was measured."""

import dataclasses
import math

import joblib
import numpy as np
import pytest
import torch
from helpers import build
from made_up import save

from srat_utils import PAPER, STRONG, Config, estimates, plan, runs, sweep, sweeps, train, trainer
from srat_utils.estimates import Cost, duration, kept_by, measured, size

COST = Cost(0.5, 3e6)


@pytest.fixture
def half_a_second(monkeypatch):
    """Every step is measured to take so long; returns the configs that were measured."""
    asked = []
    monkeypatch.setattr(estimates, "measured", lambda config, dataset: asked.append(config) or COST)
    trainer.tell.cache_clear()
    return asked


def own(tmp_path, counts, side=4, test=2, **changes):
    """A config of made-up grey images with these counts."""
    rng = np.random.default_rng(0)
    labels, tests = np.repeat(np.arange(len(counts)), counts), np.repeat(np.arange(len(counts)), test)
    arrays = {
        f"{part}_{what}": value
        for part, y in (("train", labels), ("test", tests))
        for what, value in (("labels", y), ("images", rng.integers(0, 256, (len(y), side, side), dtype=np.uint8)))
    }
    np.savez(tmp_path / "mine.npz", **arrays)
    return Config(tmp_path / "mine.npz", **({"epochs": 2, "batch_size": 8} | changes))


def test_two_lines_say_what_is_trained_on_what_and_what_it_costs(tmp_path, half_a_second):
    config = own(tmp_path, [30, 20, 3], attack_steps=10, evaluation_steps=20)
    made_of, costs, warning = str(plan(config)).split("\n")
    assert warning == "It ends within the warm-up of 5 epochs: raise epochs, or set warmup_epochs=0."
    assert made_of == (
        "mine.npz: trains on 53 images of 4×4×1; 0: 30, 1: 20, 2: 3; tests on 6.  Rare: 2 (rule: fewer images than "
        "√(30 · 3) = 9, and at most half of 30; rare=… overrides it)."
    )
    # 2 epochs of 7 steps; 6 test images at 21 passes each, of which a step makes 11 for 8 images.
    assert costs == (
        "SRAT-CE on small-cnn, PGD-10 at ε = 0.0314, 2 epochs of 7 steps, 0.5 s a step on the CPU: about 7.0 s, and 0.72 s of testing; about 3 MB of "
        "memory beside Python's own."
    )


def test_a_part_of_the_images_is_said_in_numbers_with_its_reasons(tmp_path, half_a_second):
    config = own(tmp_path, [40, 20, 10], validation=0.1, max_per_class=15, imbalance="step-5")
    said = plan(config)  # of 15, 15 and 10 a tenth is held out, 2, 2 and 1: 9 are there of the smallest
    assert "trains on 19 of 70 images of 4×4×1" in str(said)
    assert "(imbalance='step-5', max_per_class=15, 5 held out for validation); 0: 9, 1: 9, 2: 1;" in str(said)
    assert (said.counts, said.available) == ({"0": 9, "1": 9, "2": 1}, {"0": 40, "1": 20, "2": 10})


def test_what_is_held_out_is_counted_before_validation_images_are_sampled(tmp_path, half_a_second):
    config = own(tmp_path, [60, 60, 12], validation=0.2, test_per_class=3, max_per_class=100)
    said = plan(config)
    assert said.held == 12 + 12 + 2 and said.counts == {"0": 48, "1": 48, "2": 10} and said.test == 6
    assert "trains on 106 of 132 images of 4×4×1 (26 held out for validation);" in str(said) and said.to_tell == ""


@pytest.mark.parametrize(
    ("counts", "rare", "said"),
    [
        ([400] * 6 + [10], None, "Rare: 6 (rule: fewer images than √(400 · 10) = 63, and at most half of 400"),
        ([5, 5], None, "Rare: none (rule"),
        ([9, 5], ("0",), "Rare, as told: 0."),
    ],
)
def test_who_is_rare_is_said_with_the_rule(tmp_path, half_a_second, counts, rare, said):
    assert said in str(plan(own(tmp_path, counts, rare=rare)))


def test_many_classes_are_summed_up(tmp_path, half_a_second):
    assert "; 30 classes of 2 to 31; tests" in str(plan(own(tmp_path, range(2, 32))))


def test_past_an_hour_it_says_what_would_be_shorter_and_by_how_much(tmp_path, half_a_second):
    config = own(tmp_path, [40, 8], side=64, epochs=2400, attack_steps=10)  # 2,400 epochs of 6 steps: 2 h
    advice = str(plan(config)).split("\n")[-1]
    assert advice.startswith(
        "Shorter: a GPU; size=(32, 32), about a quarter; attack_steps=5, about 55%; epochs=1200, half; "
    )
    assert advice.endswith("max_per_class=10, about 38%.") and "small-cnn" not in advice
    assert "model='small-cnn'" in str(plan(config.replace(model="resnet18")))
    assert "attack_steps" not in str(plan(config.replace(adversarial=False))).split("\n")[-1]
    assert "Shorter" not in str(plan(config.replace(epochs=600)))


def test_more_memory_than_there_is_is_said(tmp_path, half_a_second):
    small = plan(own(tmp_path, [9, 9]))
    assert "more memory than the 2 MB of this machine" in str(dataclasses.replace(small, room=2e6))
    assert "more memory" not in str(dataclasses.replace(small, room=None)) + str(dataclasses.replace(small, room=1e9))


def test_a_measured_step_leaves_data_and_random_states_alone_and_costs_something():
    config = Config(max_per_class=40, imbalance="none", batch_size=16, attack_steps=2)
    split, state = runs.load_data(config), torch.get_rng_state()
    before = split.train.fingerprint
    cost = measured(config, split.train)
    assert cost.seconds > 0 and cost.memory > 0
    assert torch.equal(torch.get_rng_state(), state) and dataclasses.replace(split.train).fingerprint == before


@pytest.mark.parametrize(
    "changes", [{"batch_size": 1}, {"adversarial": False}, {"attack_steps": 0}, {"method": "LDAM"}]
)
def test_every_kind_of_step_is_measured(changes):
    config = Config(max_per_class=1, imbalance="none", **changes)
    assert measured(config, runs.load_data(config).train).seconds > 0


def test_memory_grows_with_the_batch_and_holds_the_weights_three_times():
    config = Config(max_per_class=40, imbalance="none", attack_steps=1)
    data = runs.load_data(config).train
    small, large, larger = (measured(config.replace(batch_size=n), data).memory for n in (16, 32, 64))
    assert large - small == pytest.approx((larger - large) / 2, rel=0.01) and large > small
    weights = sum(p.nbytes for p in build("small-cnn", 1, 10).parameters())
    assert 3 * weights <= small - (large - small) <= 6 * weights  # some of them are kept for backward passes, too


def test_what_autograd_keeps_is_counted_once_and_for_as_long_as_it_is_there():
    x = torch.ones(1000, requires_grad=True)

    def one():
        y = x * 2  # keeps nothing of 1,000 numbers
        z = y.exp()  # keeps z
        (z * z).sum().backward()  # keeps z again

    assert kept_by(one) == 4000
    assert kept_by(lambda: [one() for _ in range(5)]) == 4000  # one after the other
    assert kept_by(lambda: [x.exp() for _ in range(5)]) == 20000  # at once
    assert kept_by(lambda: None) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0042, "4.2 ms"),
        (0.5, "0.5 s"),
        (13.2, "13 s"),
        (116, "116 s"),
        (118, "2.0 min"),
        (3600 * 14, "14 h"),
        (200000, "2.3 days"),
    ],
)
def test_durations_have_two_digits(seconds, text):
    assert duration(seconds) == text


def test_sizes():
    assert (size(2.4e6), size(2.14e9)) == ("2 MB", "2.1 GB")


# ------------------------------------------------------------------------------------------------ who is told, and when


def test_short_runs_start_without_a_word(tmp_path, capsys):
    trainer.tell.cache_clear()
    train(Config(epochs=1, max_per_class=30, test_per_class=2, attack_steps=1, evaluation_steps=1), store=tmp_path)
    assert "trains on" not in capsys.readouterr().err


def test_long_runs_are_told_of_in_full_before_they_start(tmp_path, half_a_second, capsys, monkeypatch):
    class Started(Exception):
        pass

    def fit(*arguments, **options):
        raise Started

    monkeypatch.setattr(trainer, "fit", fit)
    with pytest.raises(Started):
        train(Config(epochs=400, max_per_class=30), store=tmp_path)
    said = capsys.readouterr().err
    assert said.index("digits: trains on") < said.index("400 epochs of") < said.index("0/400")


def test_a_mode_that_trains_on_a_part_of_own_images_says_so_once_and_however_short(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(estimates, "measured", lambda config, dataset: Cost(1e-3, 1e6))
    trainer.tell.cache_clear()
    config = own(tmp_path, [30, 9], max_per_class=5, epochs=1, adversarial=False, evaluation_steps=1)
    train(config, store=tmp_path)
    assert "mine.npz: trains on 10 of 39 images of 4×4×1 (max_per_class=5); 0: 5, 1: 5;" in capsys.readouterr().err
    train(config.replace(method="CE"), store=tmp_path)
    train(config.replace(seed=1), store=tmp_path, progress=False)
    train(config, store=tmp_path)
    train(config.replace(max_per_class=None), store=tmp_path)
    assert "trains on" not in capsys.readouterr().err


def test_more_epochs_are_another_run_and_it_says_so(tmp_path, capsys):
    trainer.tell.cache_clear()
    config = Config(epochs=1, adversarial=False, max_per_class=30, test_per_class=2, evaluation_steps=1)
    first = train(config, store=tmp_path)
    assert "afresh" not in capsys.readouterr().err
    train(config.replace(epochs=2), store=tmp_path)
    assert "The run of 1 epochs stays as it is: with 2 the learning rate falls later" in capsys.readouterr().err
    assert len(first.history) == 1
    train(config.replace(seed=1), store=tmp_path)
    assert "afresh" not in capsys.readouterr().err


def test_a_sweep_says_the_total_of_what_is_missing(tmp_path, half_a_second, capsys, monkeypatch):
    monkeypatch.setattr(sweeps, "_attempt", lambda task, *a: (task, "not trained here"))
    configs = [Config(method=method, epochs=40, seed=seed) for method in ("CE", "LDAM") for seed in (0, 1)]
    with pytest.raises(runs.RunError), joblib.parallel_config("threading"):
        sweep([*configs, Config(classes=("1", "x"))], jobs=2, store=tmp_path)
    # 17 steps of 540 images, 40 epochs: 340 s, and 700 test images · 21 passes / (32 · 11) · 0.5 s = 21 s.  Four, two at a time.
    assert "5 runs to train: about 12 min on this machine, 2 at a time." in capsys.readouterr().err
    assert len(half_a_second) == 1  # one kind of step
    with pytest.raises(runs.RunError), joblib.parallel_config("threading"):
        sweep(configs, jobs=2, store=tmp_path, protocols=(PAPER, STRONG))
    # STRONG looks 1 + 20 + 100 + 9 · 100 times where PAPER looks 21 times, at most: 1,015 s more a run, four, two at a time.
    assert "4 runs to train: about 46 min on this machine" in capsys.readouterr().err
    with pytest.raises(runs.RunError), joblib.parallel_config("threading"):
        sweep(configs, jobs=2, store=tmp_path, progress=False)
    assert "to train" not in capsys.readouterr().err


def test_the_plan_of_images_with_their_own_validation_images_holds_nothing_out(tmp_path, half_a_second):
    labels = np.arange(6) % 3
    save(tmp_path / "mine.npz", val_images=np.zeros((6, 5, 4, 3), np.uint8), val_labels=labels)
    said = plan(Config(tmp_path / "mine.npz"))
    assert said.held == 0 and "held out" not in str(said) and math.isclose(said.seconds, said.training + said.testing)


@pytest.mark.parametrize(("adversarial", "steps"), [(True, 23 / 5), (False, 1)])
def test_of_a_step_that_takes_long_the_attack_is_reckoned_not_run(monkeypatch, adversarial, steps):
    monkeypatch.setattr(estimates, "timed", lambda act, device: 3.0)  # two images, one step of the attack
    config = Config(adversarial=adversarial, attack_steps=10)
    assert measured(config, runs.load_data(config).train).seconds == pytest.approx(3.0 * steps * 32 / 2)
