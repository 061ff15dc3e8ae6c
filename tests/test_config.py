"""Config: what decides a run's identity, the paper's values, and errors that fit on one line."""

import dataclasses
import json
import math
import pickle
from itertools import pairwise
from string import ascii_letters, digits

import numpy as np
import pytest
import torch
from made_up import save

from srat_utils import METHODS, Config, load_dataset
from srat_utils.config import RECORDS, Threat
from srat_utils.course.stages import STORED_SEEDS, for_mode
from srat_utils.methods import Method
from srat_utils.records import ConfigError
from srat_utils.training import fit

# Every setting of every record, changed; what belongs to a method's own records stands under a method that has it.
OF_RECORDS = {
    "dataset": "svhn",
    "imbalance": "exp-10",
    "classes": ("1", "7"),
    "max_per_class": 30,
    "size": (16, 16),
    "validation": 0.2,
    "rare": ("9",),
    "model": "resnet18",
    "projection": 128,
    "precision": "bf16",
    "compile": True,
    "eps": 0.1,
    "step": 0.01,
    "attack_steps": 9,
    "attack_start": "zero",
    "attack_loss": "method",
    "attack_batch_norm": "train",
    "eps_warmup_epochs": 3,
    "epochs": 41,
    "batch_size": 64,
    "learning_rate": 0.05,
    "momentum": 0.8,
    "weight_decay": 5e-4,
    "warmup_epochs": 0,
    "lr_decay": 0.5,
    "decay_at": (0.5, 0.75),
    "augmentation": "crop",
    "sampler": "class-balanced",
    "rand_augment": 2,
    "rand_magnitude": 4,
    "averaging": 0.99,
}
OF_EVALUATION = {"evaluation_steps": 21, "test_per_class": 10}
OWN = {
    "SRAT-CE": {
        "separation_weight": 2.0,
        "temperature": 0.07,
        "lonely_anchors": "drop",
        "view": "clean",
        "weight_ratio": 5.0,
        "beta": 0.999,
        "reduction": "mean",
        "reweight_at": 0.5,
    },
    "Focal": {"focal_gamma": 2.0},
    "LDAM": {"max_margin": 0.4, "ldam_scale": 10.0, "ldam_scale_in": "loss"},
    "AT-BSL": {"tau": 2.0},
    "TRADES": {"kl_weight": 3.0, "kl_temperature": 2.0},
    "RoBal-R": {"robal_margin": 0.2, "robal_slope": 0.1, "robal_scale": 20.0},
    "AWP": {"awp_gamma": 0.02},
    "SRAT-CE-Queue": {"queue_length": 64},
    "RobustLT": {"budget_share": 0.5, "budget_cap": 1.5, "budget_warmup": 0.5},
    "DAFA": {"difficulty_weight": 1.5, "difficulty_at": 0.5, "budget_floor": 0.2},
    "TAET": {"harl_mean": 1.0, "harl_variance": 1.0, "harl_share": 1.0, "harl_from": 0.5, "harl_first": "attacked"},
}
USED = [(method, name, value) for method, own in OWN.items() for name, value in own.items()]
USED += [("SRAT-CE", name, value) for name, value in (OF_RECORDS | {"adversarial": False, "seed": 1}).items()]


# ------------------------------------------------------------------------------------------------ identity


def test_the_lists_of_changes_name_every_setting_of_every_method():
    of_records = {name for record in RECORDS.values() for name in record.names()}
    assert of_records == set(OF_RECORDS) | set(OF_EVALUATION)
    own = {name for row in METHODS.values() for record in row.records() for name in record.names()}
    assert own == {name for settings in OWN.values() for name in settings}


@pytest.mark.parametrize(("method", "name", "value"), USED)
def test_changing_what_training_uses_changes_the_fingerprint(method, name, value):
    base = Config(method=method)
    assert getattr(base, name) != value
    changed = base.replace(**{name: value})
    assert changed.fingerprint != base.fingerprint and getattr(changed, name) == value


def test_all_single_changes_have_fingerprints_of_their_own():
    prints = {Config(method=method).replace(**{name: value}).fingerprint for method, name, value in USED}
    assert len(prints) == len(USED)


UNUSED = [("SRAT-CE", {}, name, value) for name, value in OF_EVALUATION.items()]
UNUSED += [("CE", {}, name, value) for name, value in OWN["SRAT-CE"].items() if name not in ("view", "weight_ratio")]
UNUSED += [("SRAT-CE", {"adversarial": False}, name, OF_RECORDS[name]) for name in Threat.names()]
UNUSED += [("CB-Reweight", {}, "reweight_at", 0.5), ("CE", {}, "focal_gamma", 2.0), ("Focal", {}, "ldam_scale", 10.0)]
UNUSED += [
    ("SRAT-CE", {"weight_ratio": 5.0}, "beta", 0.999),
    ("SRAT-CE", {}, "device", "cpu"),
    ("CE", {}, "threads", 2),
]


@pytest.mark.parametrize(("method", "settings", "name", "value"), UNUSED)
def test_changing_what_training_does_not_use_trains_nothing_again(method, settings, name, value):
    base = Config(method=method, **settings)
    changed = base.replace(**{name: value})
    assert getattr(changed, name) == value != getattr(base, name)
    assert changed.fingerprint == base.fingerprint


@pytest.mark.parametrize(
    ("method", "settings", "name", "value"), [case for case in UNUSED if case[2] in ("eps", "beta")]
)
def test_equal_fingerprints_are_equal_trainings(method, settings, name, value):
    tiny = {"imbalance": "step-5", "max_per_class": 10, "epochs": 2, "attack_steps": 1, "reweight_at": 0.0}
    base = Config(method=method, **(tiny | settings))
    train = load_dataset("digits", imbalance="step-5", max_per_class=10).train
    one, other = fit(base, train).model.state_dict(), fit(base.replace(**{name: value}), train).model.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_fingerprints_of_stored_results_stay():
    assert Config().fingerprint == "0de9f1ceb7"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"separation_weight": 1}, {"separation_weight": 1.0}),
        ({"method": "SRAT-CE", "weight_ratio": 78}, {"method": "SRAT-CE", "weight_ratio": 78.0}),
        ({"classes": ["1", "7"]}, {"classes": ("1", "7")}),
        ({"decay_at": [0.5, 0.75]}, {"decay_at": (0.5, 0.75)}),
        ({"decay_at": (0, 1)}, {"decay_at": (0.0, 1.0)}),
        ({"epochs": 40}, {"epochs": 40.0}),
        ({"seed": 3}, {"seed": 3.0}),
        ({"seed": 3}, {"seed": np.int64(3)}),
        ({"eps": 0.25}, {"eps": np.float32(0.25)}),
    ],
)
def test_equal_values_of_different_types_have_one_fingerprint(first, second):
    assert Config(**first).fingerprint == Config(**second).fingerprint
    assert Config(**first) == Config(**second)


def test_a_whole_float_number_of_epochs_can_be_counted_through():
    assert list(range(Config(epochs=3.0).epochs)) == [0, 1, 2]


def test_configs_survive_json():
    for changes in ({}, OF_RECORDS | OF_EVALUATION | OWN["SRAT-CE"], {"classes": ("3", "8"), "focal_gamma": 2.0}):
        config = Config(**changes)
        again = Config.from_dict(json.loads(json.dumps(config.to_dict())))
        assert again == config and again.fingerprint == config.fingerprint and hash(again) == hash(config)


def test_the_name_tells_people_what_it_is_and_ends_in_the_fingerprint():
    config = Config(method="CB-Reweight", adversarial=False, classes=("1", "7"), seed=4, weight_ratio=10)
    assert config.name == f"digits-step-25-1-7-CB-Reweight-natural-seed4-{config.fingerprint}"


def test_the_name_of_own_images_and_classes_is_that_of_one_folder_on_any_system(tmp_path):
    names = ("a/b: c?", "CON", "dog. ", "..", "x" * 200)
    labels = np.arange(5)
    images = np.full((5, 4, 4), 200, np.uint8)
    path = tmp_path / "what* is|it.npz"
    np.savez(
        path, train_images=images, test_images=images, train_labels=labels, test_labels=labels, classes=np.array(names)
    )
    for pair in pairwise(names):
        name = Config(path, classes=pair).name
        assert set(name) <= {*ascii_letters, *digits, "-"} and len(name) < 255


def test_the_fingerprint_of_your_own_images_follows_their_content(tmp_path):
    path = tmp_path / "mine.npz"
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1])
    stored = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    np.savez(path, **stored)
    before = Config(dataset=str(path), imbalance="none").fingerprint
    np.savez(path, **(stored | {"train_images": images + 1}))
    assert Config(dataset=str(path), imbalance="none").fingerprint != before


# ------------------------------------------------------------------------------------------------ presets


@pytest.mark.parametrize(("dataset", "step"), [("cifar10", 2 / 255), ("svhn", 1 / 255)])
def test_the_papers_settings(dataset, step):
    config = Config.paper(dataset, "step-100", "SRAT-LDAM")
    assert (config.model, config.epochs, config.batch_size) == ("resnet18", 200, 128)
    assert (config.eps, config.step, config.attack_steps, config.evaluation_steps) == (8 / 255, step, 10, 20)
    assert (config.learning_rate, config.momentum, config.weight_decay, config.lr_decay) == (0.1, 0.9, 2e-4, 0.01)
    assert [config.epoch_at(fraction) for fraction in (*config.decay_at, config.reweight_at)] == [160, 180, 160]
    assert (config.beta, config.separation_weight, config.temperature, config.focal_gamma) == (0.9999, 1.0, 0.1, 1.0)
    assert (config.max_margin, config.ldam_scale, config.warmup_epochs, config.projection) == (0.5, 30.0, 5, None)
    assert (config.reduction, config.lonely_anchors, config.attack_loss) == ("weighted", "zero", "cross-entropy")
    assert config.augmentation == ("crop+flip" if dataset == "cifar10" else "none")
    assert config.adversarial


def test_the_evaluation_attack_has_the_training_attacks_budget_and_twenty_random_started_steps():
    config = Config.paper("svhn", "exp-10", "CE", attack_start="zero")
    assert (config.training_attack.steps, config.training_attack.start) == (10, "zero")
    attack = config.evaluation_attack
    assert (attack.eps, attack.step, attack.steps, attack.start) == (8 / 255, 1 / 255, 20, "uniform")
    assert attack.name == "pgd-20@8/255"


def test_changes_override_the_papers_settings():
    config = Config.paper("cifar10", "exp-10", "CE", epochs=3, model="small-cnn")
    assert (config.epochs, config.model, config.eps) == (3, "small-cnn", 8 / 255)


def test_replacing_the_dataset_brings_its_preset_and_keeps_what_was_chosen():
    config = Config(epochs=7, seed=3, method="DRCB-CE").replace(dataset="svhn")
    assert config == Config(dataset="svhn", epochs=7, seed=3, method="DRCB-CE")
    assert (config.model, config.step, config.eps) == ("resnet18", 1 / 255, 8 / 255)
    assert config.replace(dataset="digits") == Config(epochs=7, seed=3, method="DRCB-CE")


def test_replacing_another_field_keeps_the_rest():
    assert Config(eps=0.1).replace(seed=2) == Config(eps=0.1, seed=2)


def test_a_path_names_ones_own_images_and_they_are_taken_as_they_are(tmp_path):
    path = tmp_path / "mine.npz"
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1])
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    config = Config(dataset=path)
    assert (config.dataset, config.imbalance) == (str(path), "none") and config == Config(dataset=str(path))
    stored = json.loads(json.dumps(config.to_dict()))
    path.unlink()
    again = Config.from_dict(stored)  # a run can be read when its images have moved
    assert again == config and again.fingerprint == again.replace(device="cpu").fingerprint != Config().fingerprint
    with pytest.raises(ValueError, match="does not exist"):
        Config(dataset=path)


def test_configs_travel_to_other_processes():
    config = Config(method="SRAT-LDAM", separation_weight=2.0)
    again = pickle.loads(pickle.dumps(config))
    assert again == config and again.fingerprint == config.fingerprint and again.separation_weight == 2.0


def test_a_setting_that_only_other_methods_have_is_there_all_the_same():
    assert (Config(method="CE").temperature, Config(method="CE", temperature=0.2).temperature) == (0.1, 0.2)
    assert Config(method="CE").separation_weight == Config().separation_weight == 0.3
    with pytest.raises(AttributeError, match="'temprature'"):
        Config().temprature  # noqa: B018


def test_configs_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().epochs = 3


def test_the_quick_mode_of_a_notebook_trains_for_fewer_epochs_and_one_seed():
    (quick, quick_seeds), (laptop, laptop_seeds) = for_mode("quick"), for_mode("laptop")
    assert quick.epochs < laptop.epochs and len(quick_seeds) == 1 and len(laptop_seeds) == STORED_SEEDS["digits"]
    assert (
        len(for_mode("laptop", "cifar10")[1]) == STORED_SEEDS["cifar10"] and len(for_mode("laptop", epochs=9)[1]) == 3
    )
    assert for_mode("quick", epochs=9)[0].epochs == 9 and len(for_mode("quick", seeds=2)[1]) == 2
    assert for_mode("paper", "cifar10")[0] == Config.paper("cifar10", "step-100", "SRAT-CE")


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "SRAT-KE"}, ["'SRAT-KE'", "SRAT-CE"]),
        ({"method": "srat-ldam"}, ["'srat-ldam'", "SRAT-LDAM"]),
        ({"method": "qqqq"}, ["'qqqq'", "CB-Reweight"]),
        ({"method": None}, ["None"]),
        ({"imbalance": "stap-10"}, ["'stap-10'", "step-10"]),
        ({"imbalance": "step-0.5"}, ["0.5", "1 or more"]),
        ({"imbalance": "step-many"}, ["many", "number"]),
        ({"imbalance": "exp-nan"}, ["nan"]),
        ({"model": "resnet50"}, ["'resnet50'", "resnet18"]),
        ({"augmentation": "flip"}, ["'flip'", "crop+flip"]),
        ({"reduction": "sum"}, ["'sum'", "weighted"]),
        ({"attack_loss": ["method"]}, ["attack_loss", "text", "['method']"]),
        ({"classes": [["1"], ["2"]]}, ["classes", "text", "['1']"]),
        ({"attack_start": "one-sided"}, ["'one-sided'", "uniform"]),
        ({"epochs": -1}, ["epochs", "-1"]),
        ({"epochs": 0}, ["epochs", "0"]),
        ({"epochs": 2.5}, ["epochs", "2.5", "whole"]),
        ({"epochs": "3"}, ["epochs", "'3'"]),
        ({"epochs": True}, ["epochs", "True"]),
        ({"epochs": math.inf}, ["epochs", "inf"]),
        ({"seed": 0.5}, ["seed", "0.5"]),
        ({"separation_weight": -1}, ["separation_weight", "-1"]),
        ({"separation_weight": math.nan}, ["separation_weight", "nan"]),
        ({"eps": -0.1}, ["eps", "-0.1"]),
        ({"step": "big"}, ["step", "'big'"]),
        ({"weight_ratio": 0}, ["weight_ratio", "0"]),
        ({"weight_ratio": -5}, ["weight_ratio", "-5"]),
        ({"weight_ratio": 5, "method": "CE"}, ["weight_ratio", "CE", "CB-Reweight"]),
        ({"temperature": 0}, ["temperature", "0"]),
        ({"beta": 1}, ["beta", "1"]),
        ({"beta": "high"}, ["beta", "high"]),
        ({"decay_at": (0.8, 1.2)}, ["decay_at", "1.2"]),
        ({"decay_at": 0.8}, ["decay_at", "0.8"]),
        ({"reweight_at": -0.1}, ["reweight_at", "-0.1"]),
        ({"classes": ("cat", "cat")}, ["'cat'", "different"]),
        ({"classes": ("cat",)}, ["'cat'", "two"]),
        ({"batch_size": 0}, ["batch_size", "0"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"seed": None}, ["seed", "None"]),
        ({"beta": None}, ["beta", "None"]),
        ({"temperature": None}, ["temperature", "None"]),
        ({"adversarial": "false"}, ["adversarial", "'false'"]),
        ({"adversarial": None}, ["adversarial", "None"]),
        ({"temprature": 0.1}, ["'temprature'", "temperature"]),
        ({"method": "CE", "temperature": 0}, ["temperature", "0"]),
        ({"dataset": "digit"}, ["'digit'", "digits"]),
        ({"dataset": "no/such/folder"}, ["no/such/folder", "does not exist"]),
        ({"attack_loss": "hinge"}, ["attack_loss", "'hinge'", "cross-entropy"]),
    ],
)
def test_a_setting_that_cannot_be_run_is_refused_in_one_line_that_names_it(changes, words):
    with pytest.raises(ValueError) as error:
        Config(**changes)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_the_paper_has_two_data_sets():
    with pytest.raises(ConfigError, match="digits"):
        Config.paper("digits", "step-10", "CE")


def test_an_unknown_mode_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="laptop"):
        for_mode("labtop")


def test_one_imbalance_has_one_name_and_one_fingerprint():
    configs = [Config(imbalance=text) for text in ("step-10", "step-10.0", "step-1e1")]
    assert {config.fingerprint for config in configs} == {configs[0].fingerprint}
    assert Config(imbalance="exp-2.5-literal").imbalance == "exp-2.5-literal"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"eps": 8}, "eight of 255 grey levels are 8/255"),
        ({"step": 2}, "eight of 255 grey levels are 8/255"),
        ({"validation": 0}, "between 0 and 1"),
        ({"validation": 1.0}, "between 0 and 1"),
        ({"device": None}, "device must be a name"),
        ({"seed": 2**64}, "seed must be 0 or more, and below"),
        ({"threads": 0}, "threads must be 1 or more, not 0"),
        ({"method": ["CE"]}, "unknown method"),
    ],
)
def test_a_setting_that_cannot_be_run_is_told_of_by_its_name(settings, said):
    with pytest.raises(ConfigError, match=said):
        Config(**settings)


def test_class_names_may_be_given_as_numbers():
    assert (
        Config(rare=[8, 9]) == Config(rare=("8", "9"))
        and Config(classes=[3, 8]).name == Config(classes=("3", "8")).name
    )


def test_what_was_read_back_takes_another_methods_and_data_sets_presets():
    again = Config.from_dict(Config(epochs=7, separation_weight=2.0).to_dict())
    for changes in ({"method": "TRADES"}, {"method": "AT-BSL"}, {"dataset": "cifar10"}, {"seed": 3, "method": "CE"}):
        assert again.replace(**changes) == Config(epochs=7, separation_weight=2.0).replace(**changes)
    balanced = Config.from_dict(Config(method="SRAT-CE-Balanced").to_dict())
    assert (balanced.sampler, balanced.replace(method="CE").sampler) == ("class-balanced", "shuffled")


def test_many_long_class_names_still_make_a_folders_name():
    names = tuple(f"{i} {'long ' * 20}" for i in range(40))
    name = Config(classes=names).name
    assert len(name) < 255 and "and-37-more" in name
    assert name != Config(classes=names[::-1]).name != Config(classes=(*names[:-1], "another")).name


def test_a_ratio_that_is_no_whole_number_is_in_the_name():
    assert "step-2-5" in Config(imbalance="step-2.5").name


STEADY = """
from dataclasses import dataclass
from srat_utils.records import Record, at_least

@dataclass(frozen=True)
class Steady(Record):
    steady_weight: float = at_least(0, {default})
    name = "steady_loss"

    def build(self, facts):
        return lambda batch: {factor} * batch.attacked.features.mean()
"""


def test_a_method_that_is_written_anew_is_another_run(monkeypatch):
    def fingerprint(**changes):
        here = {"__name__": "a_notebook"}
        exec(STEADY.format(**{"default": 0.1, "factor": 1} | changes), here)
        monkeypatch.setitem(METHODS, "mine", Method("mine", (*METHODS["CE"].terms, here["Steady"]())))
        return Config(method="mine").fingerprint

    assert (
        fingerprint() == fingerprint() and len({fingerprint(), fingerprint(factor=-1), fingerprint(default=5.0)}) == 3
    )


def test_a_name_that_would_be_too_long_for_a_folder_is_cut_in_its_parts(tmp_path):
    path = save(tmp_path / ("long " * 20 + ".npz"))
    names = [f"{i} {'long ' * 20}" for i in range(3)]
    with np.load(path) as held:
        np.savez(path, **held, class_names=np.array(names))
    config = Config(path, classes=tuple(names), imbalance="none")
    assert len(config.name) <= 255 and config.name.endswith(config.fingerprint)
