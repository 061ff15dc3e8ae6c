"""Stored results: written once, read back equal, recomputable; and the studies that they are made of."""

import numpy as np
import pandas as pd
import pytest

from srat_utils import Config, paper, results, studies, sweep, train
from srat_utils.config import for_mode, imbalances
from srat_utils.methods import METHODS
from srat_utils.runs import frame

TINY = Config(
    imbalance="step-5", max_per_class=15, test_per_class=5, epochs=2, batch_size=64, attack_steps=2, evaluation_steps=2
)
CONFIGS = [TINY.replace(method=method, seed=seed) for method in ("CE", "SRAT-LDAM") for seed in (0, 1)]
STORED = [row for dataset in ("digits", "cifar10", "svhn") for row in results.read(dataset).values()]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def runs(store):
    return sweep(CONFIGS, jobs=1, store=store, progress=False)


def test_exported_runs_are_read_back_with_equal_numbers(runs, tmp_path):
    results.export(runs, tmp_path)
    stored = results.measured(CONFIGS, folder=tmp_path)
    assert all(isinstance(result, results.Result) for result in stored)
    assert [result.config for result in stored] == CONFIGS
    for result, run in zip(stored, runs, strict=True):
        pd.testing.assert_frame_equal(result.metrics, run.metrics, rtol=1e-5)
        pd.testing.assert_frame_equal(result.summary(), run.summary(), rtol=1e-5)
        assert result.collapsed is run.collapsed
        assert result.provenance["subset_fingerprint"] == run.provenance["subset_fingerprint"]
    pd.testing.assert_frame_equal(frame(stored, "method", "seed"), frame(runs, "method", "seed"), rtol=1e-5)


def test_all_that_is_stored_can_be_read_without_naming_it(runs, tmp_path):
    assert results.stored("digits", tmp_path) == []
    results.export(runs, tmp_path)
    assert {run.config for run in results.stored("digits", tmp_path)} == set(CONFIGS)


def test_what_is_not_stored_is_trained_and_the_order_kept(runs, store, tmp_path):
    results.export(runs[1:3], tmp_path)
    mixed = results.measured(CONFIGS, folder=tmp_path, jobs=1, store=store, progress=False)
    assert [result.config for result in mixed] == CONFIGS
    assert [isinstance(result, results.Result) for result in mixed] == [False, True, True, False]
    assert "4 runs, 2 read from results/ and 2 from runs/" in results.source(mixed)


def test_exporting_twice_or_in_parts_gives_the_same_files(runs, tmp_path):
    results.export(runs, tmp_path / "once")
    for part in (runs[2:], runs[:3], runs):
        results.export(part, tmp_path / "parts")
    for name in ("runs.csv", "metrics.csv"):
        assert (tmp_path / "once/digits" / name).read_bytes() == (tmp_path / "parts/digits" / name).read_bytes()


def test_the_settings_that_differ_from_the_defaults_are_stored_so_that_a_row_can_be_run_again(runs, tmp_path):
    results.export(runs, tmp_path)
    for row in pd.read_csv(tmp_path / "digits/runs.csv").itertuples():
        assert results.config_of(row._asdict()).fingerprint == row.fingerprint


def test_histories_and_features_are_kept_of_runs_that_cannot_be_made_again_at_once(runs, tmp_path):
    for _ in range(2):
        results.export(runs, tmp_path, histories=True)
        results.export_features(runs[2], tmp_path, per_class=5, components=8)
    history = pd.read_csv(tmp_path / "digits/history.csv")
    assert len(history) == sum(config.epochs for config in CONFIGS)
    for run in runs:
        kept = history[history["fingerprint"] == run.config.fingerprint]
        assert np.allclose(kept["loss"], run.history["loss"], rtol=1e-5)
    with np.load(tmp_path / f"digits/features-{runs[2].config.fingerprint}.npz") as stored:
        z, labels = stored["features"].astype(np.float64), stored["labels"]
    counts = np.minimum(runs[2].data.train.counts, 5)
    assert np.bincount(labels).tolist() == counts.tolist() and z.shape == (counts.sum(), 8)
    # Principal components have mean 0 and are uncorrelated, the first with the largest variance.
    covariance = np.cov(z.T)
    assert np.abs(z.mean(0)).max() < 0.01 and (np.diff(np.diag(covariance)) <= 1e-3).all()
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.01 * covariance.max()


def test_an_empty_folder_has_no_results(tmp_path):
    assert results.read("digits", tmp_path) == {}


# ------------------------------------------------------------------------------------------------ what is committed


def test_the_committed_results_are_small():
    assert sum(path.stat().st_size for path in results.FOLDER.rglob("*") if path.is_file()) < 5e6


def test_each_committed_row_names_its_config_and_its_origin():
    assert STORED
    for metrics, facts in STORED:
        assert results.config_of(facts).fingerprint == facts["fingerprint"]
        assert metrics["accuracy"].between(0, 100).all() and len(metrics) == 20
        assert (
            facts["hardware"]
            and facts["versions"]["torch"]
            and facts["seconds"] > 0
            and len(facts["subset_fingerprint"]) > 5
        )


def test_every_run_of_the_digits_studies_is_stored():
    stored = results.read("digits")
    absent = [config.name for config in studies.everything(*for_mode("laptop")) if config.fingerprint not in stored]
    assert not absent, f"{len(absent)} runs are not in results/: run `make results`"


def test_a_stored_row_is_recomputed(tmp_path):
    """Other hardware rounds differently, and forty epochs amplify it: accuracies agree within what seeds differ by."""
    config = Config(imbalance="step-25", method="DRCB-LDAM", seed=0)
    (stored,) = results.measured([config])
    assert isinstance(stored, results.Result)
    again = train(config, store=tmp_path, progress=False)
    assert again.provenance["subset_fingerprint"] == stored.provenance["subset_fingerprint"]
    assert again.provenance["test_fingerprint"] == stored.provenance["test_fingerprint"]
    difference = (again.summary() - stored.summary())[["overall", "well", "under"]].abs()
    assert difference.to_numpy().max() < 8, difference


# ------------------------------------------------------------------------------------------------ studies


def test_the_benchmark_has_the_papers_cells():
    configs = studies.benchmark(Config(dataset="cifar10"), [0]) + studies.benchmark(Config(dataset="svhn"), [0])
    cells = {(config.dataset, config.imbalance, config.method) for config in configs}
    rows = {tuple(row) for row in paper.tables()[["dataset", "imbalance", "method"]].itertuples(index=False)}
    assert len(configs) == 88 and cells == rows
    assert all(config.epochs == 200 and config.model == "resnet18" for config in configs)


def test_the_digits_benchmark_has_eleven_methods_on_four_sets():
    configs = studies.benchmark(Config(), range(3))
    assert len({config.fingerprint for config in configs}) == 132 == len(METHODS) * len(imbalances("digits")) * 3


def test_a_switch_changes_one_thing_and_keeps_seed_and_subset():
    for name, pairs in studies.switchboard(Config(), range(2)).items():
        for default, changed in pairs:
            one, other = default.to_dict(), changed.to_dict()
            assert sum(one[field] != other[field] for field in one) == 1, name
            assert default.seed == changed.seed


def test_class_balanced_weights_stand_among_the_ratios_of_figure_5():
    configs = studies.weight_ratios(Config(), [0])
    assert {config.weight_ratio for config in configs} == {None, *studies.RATIOS}
    assert {config.imbalance for config in configs} == {"step-25"}
    lambdas = {config.separation_weight for config in studies.separation_weights(Config(), [0])}
    assert np.allclose(sorted(lambdas), studies.LAMBDAS)


def test_the_papers_own_runs_are_its_tables_then_its_figures():
    configs = studies.papers_own(epochs=60, precision="bf16")
    assert len({config.name for config in configs}) == len(configs) == 22 + 2 + 12
    assert [config.method for config in configs[:2]] == ["CE", "SRAT-LDAM"] and set(METHODS) == set(studies.IN_ORDER)
    assert {(config.model, config.epochs, config.precision, config.seed) for config in configs} == {
        ("resnet18", 60, "bf16", 0)
    }
    assert {config.imbalance for config in configs[:11]} == {"exp-100"}
    assert {config.classes for config in configs[24:]} == {("cat", "horse")}


def test_the_driver_writes_after_every_run_and_goes_on(tmp_path, monkeypatch, capsys):
    tiny = Config(
        imbalance="step-5",
        method="CE",
        max_per_class=10,
        test_per_class=5,
        epochs=1,
        attack_steps=1,
        evaluation_steps=1,
    )
    monkeypatch.setattr(
        studies, "papers_own", lambda dataset, **changes: [tiny.replace(seed=s, **changes) for s in (0, 1)]
    )
    monkeypatch.setattr(studies, "PROJECT", tmp_path)
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path / "runs"))
    studies.main(["cifar10", "--trial", "10", "--minutes", "0"])
    assert "0 of 2 runs are finished" in capsys.readouterr().out
    studies.main(["cifar10", "--trial", "10"])
    assert "2 of 2 runs are finished" in capsys.readouterr().out
    written = results.read("digits", tmp_path / "build" / "trial")
    assert {results.config_of(facts).max_per_class for _, facts in written.values()} == {10} and len(written) == 2
