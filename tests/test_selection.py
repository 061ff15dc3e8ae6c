"""A choice is made on validation images, paired by seed, and never on the test set."""

from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from made_up import save
from scipy import stats

from srat_utils import Config, evaluation, runs
from srat_utils.course import choice, compose, results
from srat_utils.effects import from_seeds, holm
from srat_utils.evaluation import PAPER, Protocol
from srat_utils.methods import METHODS
from srat_utils.records import ConfigError
from srat_utils.runs import Run
from srat_utils.selection import on_validation, select

BASE = Config(
    imbalance="step-5", max_per_class=20, test_per_class=5, epochs=2, attack_steps=2, evaluation_steps=2, validation=0.2
)
SEEDS = (0, 1, 2)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


def options(store):
    return {"store": store, "jobs": 1, "progress": False}


def test_the_table_is_the_paired_t_test_over_seeds_of_accuracy_on_validation_images(store):
    configs = [BASE.replace(method="CE", learning_rate=rate, seed=seed) for rate in (0.1, 0.001) for seed in SEEDS]
    table = select(configs, by="robust balanced", **options(store))
    values = {}
    for config in configs:
        run = Run(config, store / config.name)
        held, _ = run.data.validation, run.model
        metrics = evaluation.evaluate(run.model, held, [config.evaluation_attack], seed=config.seed)
        values[config.learning_rate, config.seed] = evaluation.of_kind(metrics, "robust")["accuracy"].mean()
    rows = {rate: np.array([values[rate, seed] for seed in SEEDS]) for rate in (0.1, 0.001)}
    best, other = table.index
    assert rows[best].mean() >= rows[other].mean()
    expected = stats.ttest_rel(rows[best], rows[other])
    assert table.loc[other, "below best"] == pytest.approx((rows[best] - rows[other]).mean())
    assert table.loc[other, "p"] == pytest.approx(expected.pvalue)
    assert table.loc[other, "below best, low"] == pytest.approx(expected.confidence_interval().low)
    assert table.loc[best, "value"] == pytest.approx(rows[best].mean())
    interval = stats.t.interval(0.95, 2, rows[best].mean(), stats.sem(rows[best]))
    assert (table.loc[best, "low"], table.loc[best, "high"]) == pytest.approx(interval)
    assert table.loc[best, "below best"] == 0 and table.loc[best, "p"] == 1 and (table["seeds"] == 3).all()


def test_a_prior_taken_off_afterwards_is_chosen_like_any_setting(store):
    configs = [BASE.replace(method="CE", learning_rate=rate, seed=seed) for rate in (0.1, 0.001) for seed in SEEDS]
    table = select(configs, by="clean under", taus=(0.0, 1.0), **options(store))
    assert table.index.names == ["learning_rate", "prior off"] and len(table) == 4
    for rate, tau in table.index:
        own = [Run(config, store / config.name) for config in configs if config.learning_rate == rate]
        values = [run.prior_off(tau).summary(PAPER.on_validation()).loc["clean", "under"] for run in own]
        assert table.loc[(rate, tau), "value"] == pytest.approx(np.mean(values))
    alone = select(configs[:3], by="clean under", taus=(0.0, 1.0), **options(store))
    assert alone.index.names == ["prior off"] and set(alone.index) == {0.0, 1.0}


def test_the_test_images_stay_unseen(store, monkeypatch):
    seen = []
    attempt = evaluation.attempt
    monkeypatch.setattr(
        evaluation,
        "attempt",
        lambda model, dataset, *rest, **more: (
            seen.append(dataset.fingerprint) or attempt(model, dataset, *rest, **more)
        ),
    )
    configs = [BASE.replace(method=method, seed=7) for method in ("CE", "CB-Reweight")]
    table = select(configs, **options(store))
    held = runs.load_data(configs[0])
    assert set(seen) == {held.validation.fingerprint} != {held.test.fingerprint}
    assert not any(Run(config, store / config.name).evaluated(PAPER) for config in configs)
    assert set(table.index) == {"CE", "CB-Reweight"} and table["low"].isna().all()  # one seed: no interval


def test_what_is_averaged_over_is_not_compared(store):
    configs = [
        BASE.replace(method=method, epochs=epochs, seed=seed)
        for method in ("CE", "CB-Reweight") for epochs in (1, 2) for seed in (0, 1)
    ]  # fmt: skip
    table = select(configs, over=["method"], by="clean overall", **options(store))
    assert table.index.name == "epochs" and set(table.index) == {1, 2}
    alone = select([config for config in configs if config.epochs == 2], by="clean overall", **options(store))
    assert table.loc[2, "value"] == pytest.approx(alone["value"].mean())


def test_one_protocol_on_validation_is_another_file(store):
    quick = Protocol("quick", PAPER.attacks)
    assert quick.key(BASE) != quick.on_validation().key(BASE) and quick.on_validation().attacks(BASE) == quick.attacks(
        BASE
    )


def test_a_set_that_brings_validation_images_needs_no_share(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
    path = save(tmp_path / "mine.npz", val_images=images, val_labels=np.arange(6) % 3)
    base = Config(dataset=path, epochs=1, batch_size=4, attack_steps=1, evaluation_steps=1)
    table = select(
        [base.replace(method=m) for m in ("CE", "CB-Reweight")], by="robust worst", **options(tmp_path / "store")
    )
    assert isinstance(table, pd.DataFrame) and len(table) == 2


@pytest.mark.parametrize(
    ("configs", "options", "said"),
    [
        ([], {}, "no config"),
        ([BASE, BASE.replace(seed=1)], {}, "nothing but their seeds"),
        ([BASE, BASE.replace(epochs=3)], {"by": "under"}, "by must be"),
        ([BASE, BASE.replace(epochs=3)], {"by": "robust rare"}, "by must be"),
        ([BASE, BASE.replace(epochs=3)], {"over": ["method"]}, "do not differ"),
        ([BASE, BASE.replace(eps=0.1)], {}, "different attacks"),
        ([BASE, BASE.replace(step=0.0)], {}, "different attacks"),
        ([BASE.replace(validation=None, epochs=e) for e in (1, 2)], {}, "would make their accuracy worthless"),
    ],
)
def test_what_cannot_be_chosen_is_told(configs, options, said):
    with pytest.raises(ConfigError, match=said):
        select(configs, store=None, **options)


def test_settings_with_other_seeds_are_refused(store):
    configs = [BASE.replace(method="CE", epochs=1, seed=0), BASE.replace(method="CE", epochs=2, seed=1)]
    with pytest.raises(ConfigError, match="same seeds"):
        select(configs, **options(store))


def test_compositions_are_chosen_on_validation_images_of_seeds_that_no_study_has():
    with patch.dict(METHODS, compose.COMPOSED):
        listed = compose.candidates()
        rows = {(c.method, c.ldam_scale, c.averaging) for c in listed}
        assert {c.validation for c in listed} == {0.2} and {c.seed for c in listed}.isdisjoint(range(10))
        assert len(listed) == len(rows) * len(compose.SEEDS) == len({c.fingerprint for c in listed})
    kept = pd.read_csv(results.FOLDER / "digits" / "composed.csv", keep_default_na=False)
    kept["averaging"] = kept["averaging"].replace("none", None).astype(float).astype(object)
    assert {tuple(None if pd.isna(v) else v for v in row) for row in kept.iloc[:, :3].itertuples(index=False)} == rows
    assert kept["method"][0] == "CB-LDAM" and kept["value"].is_monotonic_decreasing
    assert set(METHODS).isdisjoint(set(compose.COMPOSED) - {"CB-LDAM"})


def test_rare_classes_that_are_not_there_are_told_of_before_anything_is_trained(store, monkeypatch):
    monkeypatch.setattr("srat_utils.selection.sweep", None)
    balanced = [BASE.replace(imbalance="balanced", learning_rate=rate) for rate in (0.1, 0.01)]
    with pytest.raises(ConfigError, match="no class is rare in digits balanced; choose by='robust balanced'"):
        select(balanced, **options(store))


def test_schedules_of_photographs_are_compared_on_validation_images(tmp_path):
    asked = []

    def answer(configs, by, **options):
        asked.append((tuple(configs), by))
        index = pd.MultiIndex.from_tuples(
            [(c.batch_size, c.epochs, c.seed) for c in configs], names=["batch_size", "epochs", "seed"]
        )
        return pd.DataFrame({"value": float(len(asked)), "seconds": 60.0}, index=index)

    with patch.object(choice, "on_validation", answer), patch.object(results, "FOLDER", tmp_path):
        choice.main(["cifar10", "--jobs", "1"])
    written = pd.read_csv(tmp_path / "cifar10-laptop" / "choice.csv")
    (configs, by), (again, other) = asked
    assert configs == again and {by, other} == {"robust balanced", "clean balanced"}
    assert all(config.validation and config.dataset == "cifar10" for config in configs)
    assert len({config.fingerprint for config in configs}) == len(choice.SCHEDULES) == len(written)
    assert set(written["robust balanced"]) == {1.0} and set(written["clean balanced"]) == {2.0}


def test_that_the_best_was_chosen_on_the_same_numbers_is_in_its_p(store):
    configs = [
        BASE.replace(method="CE", learning_rate=rate, seed=seed) for rate in (0.1, 0.01, 0.001) for seed in SEEDS
    ]
    table = select(configs, by="robust balanced", **options(store))
    rows = (
        on_validation(configs, "robust balanced", **options(store))["value"].unstack("seed").loc[table.index].to_numpy()
    )
    pairs = [from_seeds(rows[a] - rows[b]).p for a, b in ((0, 1), (0, 2), (1, 2))]
    assert table["p"].tolist() == pytest.approx([1.0, *holm(pairs)[:2]])


def test_a_set_of_rare_classes_only_is_refused_before_it_trains(store):
    everything = BASE.replace(rare=tuple("0123456789"))
    with pytest.raises(ConfigError, match="every class is rare in digits step-5; choose by='robust balanced'"):
        select([everything, everything.replace(epochs=3)], by="robust well", **options(store))


def test_a_setting_that_is_true_or_false_is_compared_like_any_other(store):
    configs = [BASE.replace(method="CE", adversarial=way, seed=seed) for way in (True, False) for seed in SEEDS]
    table = select(configs, by="clean balanced", **options(store))
    assert set(table.index) == {"True", "False"} and (table["seconds"] > 0).all()
