"""Stored results: written once, read back equal, recomputable; and the studies that they are made of."""

from dataclasses import replace
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from made_up import save

import srat_utils
from srat_utils import ELEVEN, PAPER, STRONG, Config, provenance, sources, sweep
from srat_utils.attacks import PGD
from srat_utils.course import claims, compare, exhibits, paper, results, stages, studies
from srat_utils.course.stages import for_mode, imbalances
from srat_utils.evaluation import Outcomes, Protocol
from srat_utils.images import DataError
from srat_utils.imbalance import class_counts
from srat_utils.methods import LATER
from srat_utils.runs import Run, load_data
from srat_utils.sweeps import tidy
from srat_utils.training import State, fit

TINY = Config(
    imbalance="step-5", max_per_class=15, test_per_class=5, epochs=2, batch_size=64, attack_steps=2, evaluation_steps=2
)
DRIVEN = Config(
    imbalance="step-5", method="CE", max_per_class=10, test_per_class=5, epochs=1, attack_steps=1, evaluation_steps=1
)
CONFIGS = [TINY.replace(method=method, seed=seed) for method in ("CE", "SRAT-LDAM") for seed in (0, 1)]
STORED = [run for stage in results.STAGES for run in results.read(stage).values()]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def runs(store):
    return sweep(CONFIGS, jobs=1, store=store, progress=False)


def test_exported_runs_are_read_back_with_equal_numbers(runs, tmp_path):
    results.export(runs, tmp_path)
    stored = results.measured(CONFIGS, folder=tmp_path)
    assert all(run.folder is None for run in stored)
    assert [result.config for result in stored] == CONFIGS
    for result, run in zip(stored, runs, strict=True):
        pd.testing.assert_frame_equal(result.metrics, run.metrics, rtol=1e-5)
        pd.testing.assert_frame_equal(result.summary(), run.summary(), rtol=1e-5)
        assert result.collapsed is run.collapsed
        assert result.provenance["subset_fingerprint"] == run.provenance["subset_fingerprint"]
    pd.testing.assert_frame_equal(tidy(stored, "method", "seed"), tidy(runs, "method", "seed"), rtol=1e-5)


def test_all_that_is_stored_can_be_read_without_naming_it(runs, tmp_path):
    assert results.read("digits", tmp_path) == {}
    results.export(runs, tmp_path)
    assert {run.config for run in results.read("digits", tmp_path).values()} == set(CONFIGS)


def test_what_is_not_stored_is_trained_and_the_order_kept(runs, store, tmp_path):
    results.export(runs[1:3], tmp_path)
    mixed = results.measured(CONFIGS, folder=tmp_path, jobs=1, store=store, progress=False)
    assert [result.config for result in mixed] == CONFIGS
    assert [run.folder is None for run in mixed] == [False, True, True, False]
    assert "4 runs, 2 read from results/ and 2 from runs/" in results.source(mixed)


def test_exporting_twice_or_in_parts_gives_the_same_files(runs, tmp_path):
    results.export(runs, tmp_path / "once")
    for part in (runs[2:], runs[:3], runs):
        results.export(part, tmp_path / "parts")
    for name in ("runs.csv", "outcomes/step-5-paper.npz"):
        assert (tmp_path / "once/digits" / name).read_bytes() == (tmp_path / "parts/digits" / name).read_bytes()


def test_outcomes_of_each_image_are_kept_under_every_protocol(runs, tmp_path):
    two = Protocol("two", lambda config: [config.evaluation_attack, PGD(config.eps, config.step / 2, 3)], union=True)
    results.export(runs, tmp_path, protocols=(PAPER, two))
    for kept, run in zip(results.measured(CONFIGS, folder=tmp_path), runs, strict=True):
        for protocol in (PAPER, two):
            pd.testing.assert_frame_equal(kept.evaluate(protocol), run.evaluate(protocol))
            for name, said in run.outcomes(protocol).predictions.items():
                assert np.array_equal(kept.outcomes(protocol).predictions[name], said), name
        pd.testing.assert_frame_equal(kept.confusion("robust", two), run.confusion("robust", two))


def test_runs_that_replace_others_take_their_place_in_every_file(runs, tmp_path):
    results.export(runs, tmp_path, histories=True)
    path = tmp_path / "digits/history.csv"
    old = pd.read_csv(path, dtype={"fingerprint": str})
    old.assign(loss=-1.0).to_csv(path, index=False)
    results.export(runs[:1], tmp_path, histories=True)
    new = pd.read_csv(path, dtype={"fingerprint": str})
    again = new["fingerprint"] == runs[0].config.fingerprint
    assert len(new) == len(old) and (new.loc[again, "loss"] > 0).all() and (new.loc[~again, "loss"] == -1).all()
    assert len(results.read("digits", tmp_path)) == len(CONFIGS)


def test_a_stored_run_without_a_protocol_is_trained_for_it(runs, store, tmp_path):
    two = Protocol("two", lambda config: [config.evaluation_attack, PGD(config.eps, config.step / 2, 3)], union=True)
    results.export(runs[:2], tmp_path)
    results.export(runs[2:], tmp_path, protocols=(PAPER, two))
    found = results.measured(CONFIGS, folder=tmp_path, protocols=(PAPER, two), jobs=1, store=store, progress=False)
    assert [run.folder is None for run in found] == [False, False, True, True]
    assert [run.config for run in found] == CONFIGS and all(run.evaluated(two) for run in found)


def test_a_row_keeps_all_settings_so_that_no_changed_preset_can_decode_it_to_another_config(
    runs, tmp_path, monkeypatch
):
    results.export(runs, tmp_path)
    rows = pd.read_csv(tmp_path / "digits/runs.csv", dtype=str, keep_default_na=False).to_dict("records")
    monkeypatch.setitem(
        srat_utils.config.PRESETS, "digits", srat_utils.config.PRESETS["digits"] | {"eps": 0.3, "lr_decay": 0.5}
    )
    for row in rows:
        assert results.config_of(row).fingerprint == row["fingerprint"] and results.config_of(row).eps == 0.2


def test_a_row_that_does_not_give_its_fingerprint_is_an_error(runs, tmp_path):
    results.export(runs, tmp_path)
    path = tmp_path / "digits/runs.csv"
    path.write_text(path.read_text().replace("small-cnn", "resnet18", 1))
    results._read.cache_clear()
    with pytest.raises(ValueError, match="now give"):
        results.read("digits", tmp_path)


@pytest.mark.parametrize("value", [None, True, 3, 0.25, "step-25", "true", "12", "", (0.8, 0.9), ("3", "NA")])
def test_a_setting_survives_as_text(value):
    read = results.as_value(results.as_text(value)) if value not in (None, "") else value
    assert (tuple(read) if isinstance(read, list) else read) == value


def test_histories_and_features_are_kept_of_runs_that_cannot_be_made_again_at_once(runs, tmp_path):
    written = []
    for _ in range(2):
        results.export(runs, tmp_path, histories=True)
        exhibits.export_features(runs[2], tmp_path, per_class=5, components=8)
        written.append([(tmp_path / "digits" / name).read_bytes() for name in ("runs.csv", "history.csv")])
    assert written[0] == written[1]
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


def test_features_are_read_back_by_their_config(runs, tmp_path):
    assert exhibits.features_of(runs[2].config, tmp_path) is None
    exhibits.export_features(runs[2], tmp_path, per_class=5, components=8)
    z, labels = exhibits.features_of(runs[2].config, tmp_path)
    assert z.dtype == np.float32 and len(z) == len(labels) and set(labels) == set(range(10))


@pytest.mark.parametrize("shape", [(16, 16, 3), (8, 12, 1)])
def test_an_example_of_each_class_is_kept_as_it_is_and_attacked(tmp_path, shape):
    rows = np.random.default_rng(0).integers(0, 255, (60, *shape), dtype=np.uint8)
    labels = np.arange(60) % 3
    path = save(tmp_path / "mine.npz", train_images=rows, train_labels=labels, test_images=rows, test_labels=labels)
    config = Config(path, method="CE", epochs=1, attack_steps=1, evaluation_steps=2)
    (run,) = sweep([config], jobs=1, store=tmp_path / "store", progress=False)
    exhibits.export_examples(run, tmp_path / "results")
    shown = exhibits.examples(str(path), tmp_path / "results")
    assert len(shown) == 6 and {picture.shape for picture, _ in shown} == {shape}
    for place, name in enumerate(run.classes):
        (clean, words), (attacked, _) = shown[2 * place : 2 * place + 2]
        assert words.startswith(f"{name}: ") and any((image == clean).all() for image in run.data.test.images)
        assert 0 < np.abs(attacked.astype(int) - clean).max() <= np.ceil(255 * config.eps)


def test_only_what_is_stored_under_all_protocols_is_handed_out_and_nothing_is_trained(runs, tmp_path):
    results.export(runs[1:3], tmp_path)
    assert [run.config for run in results.stored(CONFIGS, folder=tmp_path)] == CONFIGS[1:3]
    assert results.stored(CONFIGS, folder=tmp_path, protocols=(PAPER, STRONG)) == []


def test_cifar10_on_the_laptops_network_is_a_stage_of_its_own(tmp_path):
    laptop, _ = for_mode("laptop", "cifar10")
    assert results.stage_of(laptop) == "cifar10-laptop" and results.stage_of(Config("cifar10")) == "cifar10"
    assert results.stage_of(Config("digits")) == "digits"
    homes = {results.home_of(stage, tmp_path) for stage in results.STAGES}
    assert homes == {tmp_path / stage for stage in results.STAGES}


def test_an_empty_folder_has_no_results(tmp_path):
    assert results.read("digits", tmp_path) == {}


# ------------------------------------------------------------------------------------------------ what is committed


def test_the_committed_results_are_small():
    assert sum(path.stat().st_size for path in results.FOLDER.rglob("*") if path.is_file()) < 5e6


def test_each_committed_row_names_its_config_and_its_origin():
    assert STORED
    for run in STORED:
        facts = run.provenance
        assert run.config.fingerprint == facts["fingerprint"]
        assert run.metrics["accuracy"].between(0, 100).all() and len(run.metrics) == 2 * len(run.classes)
        assert facts["hardware"] and facts["versions"]["torch"] and facts["seconds"] > 0
        assert len(facts["subset_fingerprint"]) > 5 and sum(facts["class_counts"].values()) > 100


def test_each_committed_row_has_its_outcomes_under_both_attacks_and_the_stronger_leaves_no_more():
    for run in STORED:
        weak, strong = run.outcomes(PAPER), run.outcomes(STRONG)
        assert weak.test == strong.test and np.array_equal(weak.predictions["clean"], strong.predictions["clean"])
        left, before = ((o.worst_case(u) == o.labels).mean() for o, u in ((strong, True), (weak, False)))
        assert left <= before + 0.01  # PGD's random starts are drawn for the images that still stand: no image by image


def test_the_ledger_is_that_of_the_stored_runs():
    """`python -m srat_utils.course.claims` was run after the last export."""
    stage = claims.all_stages()[0]
    some = [claim for claim in claims.every_claim() if claim.notebook in ("05", "06")]
    kept = claims.ledger().query("stage == 'digits'").set_index(["shown", "attack"])
    for _, row in claims.judged(some, stage).iterrows():
        own = kept.loc[(row["shown"], row["attack"])]
        assert own["verdict"] == row["verdict"] and own["seeds"] == row["seeds"]
        assert np.isclose(own["difference"], row["difference"], rtol=1e-3, atol=1e-3, equal_nan=True)


def test_every_run_of_the_digits_studies_is_stored():
    stored = results.read("digits")
    absent = [config.name for config in studies.everything(*for_mode("laptop")) if config.fingerprint not in stored]
    assert not absent, f"{len(absent)} runs are not in results/: run `make results`"


def test_a_stored_row_is_recomputed_where_it_can_be_exactly():
    """Subset and initial weights; forty epochs amplify what other hardware rounds differently, a first epoch does not."""
    run = results.read("digits")[Config(imbalance="step-25", method="DRCB-LDAM", seed=0).fingerprint]
    train = load_data(run.config).train
    assert train.fingerprint == run.provenance["subset_fingerprint"]
    assert train.counts == list(run.provenance["class_counts"].values())
    state = State.fresh(run.config, train, torch.device("cpu"))
    again = State.fresh(run.config, train, torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(state.model.parameters(), again.model.parameters(), strict=True))
    fit(run.config.replace(epochs=1), train, state=state)
    assert state.history[0]["loss"] == pytest.approx(10.819230079650879, rel=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(
    not sources.at_hand("cifar10"), reason="CIFAR-10 is not on this machine: set SRAT_DATA to its folder"
)
@pytest.mark.parametrize("method, adversarial", [("CE", False), ("CE", True), ("SRAT-LDAM", True)])
def test_a_stored_row_of_photographs_is_recomputed_in_its_first_epoch(method, adversarial):
    base, _ = for_mode("laptop", "cifar10")
    (run,) = results.stored([base.replace(imbalance="exp-100", method=method, adversarial=adversarial, seed=0)])
    train = load_data(run.config).train
    if sum(train.counts) != sum(run.provenance["class_counts"].values()):
        pytest.skip("the stored runs left out 80 images of CIFAR-10 that are here")
    assert train.fingerprint == run.provenance["subset_fingerprint"]
    history = pd.read_csv(results.home_of("cifar10-laptop") / "history.csv", dtype={"fingerprint": str})
    first = history[(history["fingerprint"] == run.config.fingerprint) & (history["epoch"] == 0)]
    state = State.fresh(run.config, train, torch.device("cpu"))
    state = fit(run.config.replace(epochs=1, warmup_epochs=1), train, state=state)
    assert state.history[0]["loss"] == pytest.approx(first["loss"].item(), rel=0.02)  # bfloat16, on any processor


# ------------------------------------------------------------------------------------------------ studies


def test_the_benchmark_has_the_papers_cells():
    configs = studies.benchmark(Config(dataset="cifar10"), [0]) + studies.benchmark(Config(dataset="svhn"), [0])
    cells = {(config.dataset, config.imbalance, config.method) for config in configs}
    rows = {tuple(row) for row in paper.tables()[["dataset", "imbalance", "method"]].itertuples(index=False)}
    assert len(configs) == 88 and cells == rows
    assert all(config.epochs == 200 and config.model == "resnet18" for config in configs)


def test_the_digits_benchmark_has_eleven_methods_on_four_sets():
    configs = studies.benchmark(Config(), range(3))
    assert len({config.fingerprint for config in configs}) == 132 == len(ELEVEN) * len(imbalances("digits")) * 3


def test_the_studies_on_photographs_begin_with_one_seed_of_all_that_is_asked_first_and_keep_every_ratio():
    base, _ = for_mode("laptop", "cifar10")
    listed = studies.photographs(base, range(3))
    assert len({config.fingerprint for config in listed}) == len(listed)
    first, cells = listed[:4], listed[4:26]
    assert not any(config.adversarial for config in first) and all(config.adversarial for config in cells)
    assert {config.imbalance for config in first} == set(imbalances("cifar10"))
    assert {(config.method, config.imbalance) for config in cells} == {
        (method, imbalance) for method in ELEVEN for imbalance in ("step-100", "exp-100")
    }
    assert [config.seed for config in listed] == sorted(config.seed for config in listed)
    for config in listed:  # half of the images where a set is large: the same ratio
        available = [min(5000, config.max_per_class or 5000)] * (len(config.classes) if config.classes else 10)
        counts = class_counts(config.imbalance, available)
        assert max(counts) == int(config.imbalance.partition("-")[2]) * min(counts) and sum(counts) < 14_000


def test_a_trial_on_photographs_takes_no_more_images_than_it_says_and_features_are_kept_of_both_large_sets():
    base = for_mode("laptop", "cifar10")[0].replace(max_per_class=100)
    listed = studies.photographs(base, [0])
    assert {config.max_per_class for config in listed} == {100}
    paper = Config.paper("cifar10", "exp-100", "SRAT-LDAM")
    kept = {one.fingerprint for kind in ("step", "exp") for one in studies.separable(paper, kind)}
    assert {c.fingerprint for c in studies.papers_own() if c.method in studies.FIGURE_4 and c.adversarial} <= kept


def test_a_switch_changes_one_thing_and_keeps_seed_and_subset():
    for name, pairs in studies.switchboard(Config(), range(2)).items():
        for default, changed in pairs:
            one, other = default.to_dict(), changed.to_dict()
            assert sum(one[field] != other[field] for field in one) == 1, name
            assert default.seed == changed.seed


def test_class_balanced_weights_stand_among_the_ratios_of_figure_5():
    configs = studies.figure_5(Config(), [0])
    assert {config.weight_ratio for config in configs} == {None, *studies.RATIOS}
    assert {config.imbalance for config in configs} == {"step-25"}
    lambdas = {config.separation_weight for config in studies.figure_6(Config(), [0])}
    assert np.allclose(sorted(lambdas), studies.LAMBDAS)


@pytest.mark.parametrize(
    ("counts", "ratios"),
    [
        ([6705, 1113, 115], (11, 25)), ([104] * 10, (10, 25)), ([70, 60], (6, 15)), ([24] * 20, (4, 6)), ([9, 20, 30], (2, 3)),
        ([9, 3], (2, 3)),
    ],
)  # fmt: skip
def test_studies_of_own_images_take_ratios_that_their_counts_allow(tmp_path, counts, ratios):
    dataset = of_counts(tmp_path, counts)
    assert imbalances(dataset) == tuple(f"{kind}-{ratio}" for kind in ("step", "exp") for ratio in ratios)
    for mode in stages.MODES:
        base, _ = for_mode(mode, dataset)
        assert base.imbalance == "none"
        for imbalance in imbalances(dataset):
            train = load_data(base.replace(imbalance=imbalance)).train
            total = len(counts)
            assert min(train.counts) >= 1 and train.under.tolist() == [i >= total - total // 2 for i in range(total)]


@pytest.mark.parametrize("counts", [[5, 1, 7], [9, 2], [9] * 20])
def test_of_too_few_images_in_a_class_no_study_is_made_and_it_says_so(tmp_path, counts):
    with pytest.raises(DataError, match=r"class '\d+' has too few images") as error:
        imbalances(of_counts(tmp_path, counts))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("counts", "pairs"),
    [
        ([3, 9], [("1", "0")]), ([7, 9, 8], [("1", "0")]), ([7, 20, 12, 9], [("1", "0"), ("2", "3")]),
        (range(24, 13, -1), [("0", "10"), ("1", "9"), ("2", "8"), ("3", "7")]),
    ],
)  # fmt: skip
def test_pairs_of_own_images_are_the_largest_with_the_smallest(tmp_path, counts, pairs):
    dataset = of_counts(tmp_path, list(counts))
    assert list(stages.pairs(dataset)) == pairs
    configs = studies.binary(for_mode("quick", dataset)[0], [0], [1.0])
    assert list(dict.fromkeys(config.classes for config in configs)) == pairs
    for config in configs:
        assert load_data(config).train.under.tolist() in (
            [False, True],
            [False, False],
        )  # [False, False]: at ratios below 2


def of_counts(path, counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.full((len(labels), 4, 4), 200, np.uint8)
    tests = np.arange(len(counts))
    np.savez(
        path / "own.npz", train_images=images, train_labels=labels, test_images=images[: len(tests)], test_labels=tests
    )
    return str(path / "own.npz")


def test_the_papers_own_runs_are_its_tables_then_its_figures():
    configs = studies.papers_own(epochs=60, precision="bf16")
    assert len({config.name for config in configs}) == len(configs) == 22 + 2 + 12
    assert [config.method for config in configs[:2]] == ["CE", "SRAT-LDAM"] and set(ELEVEN) == set(studies.IN_ORDER)
    assert {(config.model, config.epochs, config.precision, config.seed) for config in configs} == {
        ("resnet18", 60, "bf16", 0)
    }
    assert {config.imbalance for config in configs[:11]} == {"exp-100"}
    assert {config.classes for config in configs[24:]} == {("cat", "horse")}


def test_the_later_methods_stand_beside_srat_on_all_sets_and_share_its_runs():
    configs = studies.after_srat(Config(), [0, 1])
    assert len({config.name for config in configs}) == len(configs)
    rows, sets = {*studies.BESIDE, *LATER}, imbalances("digits")
    for seed in (0, 1):
        plain = [c for c in configs if c.seed == seed and c.averaging is None and not c.rand_augment]
        assert sorted((c.method, c.imbalance) for c in plain) == sorted((m, i) for m in rows for i in sets)
        for changed in ({"averaging": 0.99}, {"rand_augment": 2}):
            own = [c for c in configs if c.seed == seed and c == c.replace(**changed)]
            assert sorted(c.method for c in own) == sorted(rows) and {c.imbalance for c in own} == {"step-25"}
    shared = set(studies.benchmark(Config(), [0, 1])) & set(configs)
    assert {c.method for c in shared} == set(studies.BESIDE) and len(shared) == 2 * 4 * 5


def test_the_driver_writes_the_post_hoc_prior_beside_the_rest(tmp_path, monkeypatch, capsys):
    listed = [DRIVEN.replace(method=method) for method in ("CE", "RoBal-N", "AT-BSL")]
    monkeypatch.setattr(studies, "after_srat", lambda base, seeds: listed)
    monkeypatch.setattr(studies, "STRONG", studies.PAPER)  # quick
    monkeypatch.setattr(studies, "home", lambda: tmp_path)
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)  # in this process
    studies.main(["--after-srat", "--trial", "10"])
    assert "3 of 3 runs are finished" in capsys.readouterr().out
    runs = results.read("digits", tmp_path / "build" / "trial")
    evaluated = {
        run.config.method: {tau for tau in (0.0, 0.1, 1.0) if run.evaluated(PAPER.adjusted(tau) if tau else PAPER)}
        for run in runs.values()
    }
    assert evaluated == {"CE": {0, 1.0}, "RoBal-N": {0, 0.1}, "AT-BSL": {0}}
    trained = Run(listed[0], tmp_path / "runs" / listed[0].name)
    stored = runs[listed[0].fingerprint]
    pd.testing.assert_frame_equal(stored.evaluate(PAPER.adjusted(1.0)), trained.evaluate(PAPER.adjusted(1.0)))


def test_of_stored_runs_those_have_their_prior_off_that_were_tested_so(runs, tmp_path):
    own = [PAPER.adjusted(), Protocol("strong", PAPER.attacks).adjusted()]
    results.export(runs[:2], tmp_path)
    results.export(runs[:1], tmp_path, protocols=own)
    first, second = results.measured(CONFIGS[:2], folder=tmp_path)
    assert [run.config for run in results.prior_off([first, second, runs[3]])] == [CONFIGS[3]]  # not under STRONG
    (off,) = results.prior_off([runs[0]])
    assert first.prior_off().metrics.equals(off.metrics)


@pytest.mark.slow
def test_the_driver_trains_on_a_clusters_workers(tmp_path, monkeypatch, capsys):
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    monkeypatch.setattr(studies, "papers_own", lambda dataset, **changes: [DRIVEN.replace(seed=s) for s in (0, 1)])
    monkeypatch.setattr(studies, "home", lambda: tmp_path)
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path / "runs"))
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        studies.main(["cifar10", "--trial", "10", "--cluster", cluster.scheduler_address])
    assert "2 of 2 runs are finished" in capsys.readouterr().out


def test_the_driver_writes_after_every_run_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(studies, "papers_own", lambda dataset, seed, **changes: [DRIVEN.replace(seed=seed, **changes)])
    monkeypatch.setattr(studies, "home", lambda: tmp_path)
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)  # in this process
    studies.main(["cifar10", "--trial", "10", "--seeds", "2", "--minutes", "0"])
    assert "0 of 2 runs are finished" in capsys.readouterr().out
    studies.main(["cifar10", "--trial", "10", "--seeds", "2"])
    assert "2 of 2 runs are finished" in capsys.readouterr().out
    written = results.read("digits", tmp_path / "build" / "trial")
    assert {run.config.max_per_class for run in written.values()} == {10} and len(written) == 2


def test_a_fingerprint_of_digits_alone_stays_text(tmp_path, monkeypatch):
    """One in a hundred has no letter."""
    config = next(
        config for config in (Config(method="CE", seed=seed) for seed in range(2000)) if config.fingerprint.isdigit()
    )
    said = np.arange(20, dtype=np.int16) % 10
    outcomes = Outcomes("test", said, {"clean": said, "pgd-20@0.2": said})
    facts = {name: "7" for name in results.FACTS} | {
        "fingerprint": config.fingerprint, "seconds": 1.0, "class_counts": {str(c): 5 for c in range(10)},
        "versions": provenance.VERSIONS,
    }  # fmt: skip
    results.export([Run(config, None, facts, {"paper": outcomes})], tmp_path)
    (run,) = results.read("digits", tmp_path).values()
    assert (
        run.config == config and run.provenance["fingerprint"] == config.fingerprint and run.provenance["commit"] == "7"
    )


def test_results_on_own_images_lie_beside_the_others_and_are_read_without_the_images(tmp_path):
    names = ("NA", "007", "a/b:c?")
    path = save(tmp_path / "mine.npz", classes=np.array(names))
    config = Config(path, epochs=1, adversarial=False, evaluation_steps=1)
    run = sweep([config], jobs=1, store=tmp_path / "store", progress=False)[0]
    results.export([run], tmp_path / "results")
    assert {entry.name for entry in tmp_path.iterdir()} == {"mine.npz", "store", "results"}
    assert [entry.name.rpartition("-")[0] for entry in (tmp_path / "results").iterdir()] == ["mine"]
    path.unlink()
    (kept,) = results.read(str(path), tmp_path / "results").values()
    pd.testing.assert_frame_equal(kept.metrics, run.metrics)
    assert tuple(kept.classes) == tuple(kept.metrics["class"].unique()) == names and kept.config == config


def test_what_is_stored_answers_only_for_the_test_that_it_was_given(runs, tmp_path):
    results.export(runs, tmp_path)
    config = runs[0].config
    assert len(results.stored([config], folder=tmp_path)) == 1
    for change in ({"evaluation_steps": 3}, {"test_per_class": 4}):
        assert results.stored([config.replace(**change)], folder=tmp_path) == []


def test_class_names_that_a_file_name_cannot_hold_do_not_share_a_file():
    of = [Config(imbalance="step-5").replace(classes=names) for names in (("1", "8"),)]
    assert results.task_of(of[0]) == "step-5-1-8"
    named = SimpleNamespace(imbalance="step-5", classes=("v1.0", "v1.1"))
    first, second = results.task_of(named).removeprefix("step-5-").split("-v1-")
    assert first.removeprefix("v1-") != second


def test_the_plan_of_a_study_says_what_is_left(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path))
    monkeypatch.setattr(studies, "everything", lambda base, seeds: [DRIVEN.replace(seed=seed) for seed in seeds])
    studies.main(["--plan", "--seeds", "2"])
    assert "0 of 2 runs are finished" in capsys.readouterr().out
    sweep([DRIVEN], jobs=1, store=tmp_path, progress=False, protocols=(PAPER, STRONG))
    studies.main(["--plan", "--seeds", "2"])
    said = capsys.readouterr().out
    assert "1 of 2 runs are finished" in said and "the others take at most" in said


def test_an_export_that_cannot_be_leaves_what_is_there_as_it_was(runs, store, tmp_path):
    results.export(runs, tmp_path)
    files = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    other = sweep([CONFIGS[0].replace(test_per_class=1)], jobs=1, store=store, progress=False)
    with pytest.raises(
        ValueError,
        match=r"[\\/]step-5-paper.npz holds one test set .* 2 test sets; move its folder aside to keep them$",
    ):
        results.export(other, tmp_path)
    assert {path: path.read_bytes() for path in files} == files
    assert len(results.stored(CONFIGS, folder=tmp_path)) == len(CONFIGS)


def test_configs_that_differ_in_their_tests_alone_are_two_runs(store):
    configs = [CONFIGS[0], CONFIGS[0].replace(evaluation_steps=1)]
    first, second = sweep(configs, jobs=1, store=store, progress=False)
    assert [first.config, second.config] == configs and first.folder == second.folder
    assert set(first.metrics["attack"]) != set(second.metrics["attack"])


def test_a_frame_needs_no_other_protocol_than_the_one_it_is_of():
    said = np.arange(20, dtype=np.int16) % 10
    names = [attack.name for attack in STRONG.attacks(Config())]
    outcomes = Outcomes("test", said, {"clean": np.zeros_like(said)} | dict.fromkeys(names, said))
    run = Run(Config(), None, {"class_counts": {str(c): 100 if c < 5 else 4 for c in range(10)}}, {"strong": outcomes})
    assert tidy([run], "seed", protocol=STRONG)["collapsed"].all()


def test_classes_whose_names_look_alike_in_a_file_name_have_files_of_their_own():
    pairs = [("tumour, left", "x"), ("tumour left", "x"), ("tumour a/b", "x"), ("cat", "horse")]
    names = [results.task_of(Config(imbalance="none", classes=pair)) for pair in pairs]
    assert len(set(names)) == len(names) and names[-1] == "none-cat-horse"


def test_a_protocol_whose_name_could_not_be_read_back_is_refused():
    with pytest.raises(ValueError, match="has no '-': 'pgd-50'"):
        Protocol("pgd-50", lambda config: [])


def test_fewer_epochs_of_photographs_are_fewer_of_pairs_too():
    base, _ = for_mode("laptop", "cifar10", epochs=3)
    pairs = studies.binary(base, [0], of=[("cat", "horse")])
    assert {config.epochs for config in pairs} == {3} and {config.reduction for config in pairs} == {"mean"}
    listed = studies.separable(pairs[0].replace(classes=None))
    assert {config.epochs for config in listed} == {3} and set(listed) >= set(pairs[:2])


def test_what_is_left_to_do_counts_the_tests_of_the_post_hoc_prior(tmp_path, monkeypatch):
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path))
    sweep([DRIVEN], jobs=1, progress=False)
    work = [([DRIVEN], (PAPER,)), ([DRIVEN], (PAPER.adjusted(1.0),))]
    assert studies.left_of(work[:1]).startswith("1 of 1 runs are finished")
    assert studies.left_of(work).startswith("0 of 1 runs are finished") and "the others take" in studies.left_of(work)


def test_results_of_other_images_that_are_there_do_not_stop_the_training(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path / "store"))
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(studies, "everything", lambda base, seeds: [DRIVEN.replace(seed=seed) for seed in seeds])
    (other,) = sweep([DRIVEN.replace(test_per_class=2, seed=5)], jobs=1, store=tmp_path / "other", progress=False)
    results.export([other], tmp_path / "results")
    studies.main(["--seeds", "2"])
    said = capsys.readouterr().out
    assert (
        "2 of 2 runs are finished" in said
        and said.count("not written") == 1
        and "and written to" not in said
        and "move its folder aside" in said
    )
    assert len(list((tmp_path / "store").glob("*/provenance.json"))) == 2


def test_a_trial_of_the_papers_own_runs_tries_to_keep_features_too(monkeypatch):
    listed = studies.papers_own(max_per_class=100, test_per_class=10, epochs=1)
    said = {name: [] for name in ("export", "export_separability", "export_features", "export_examples")}
    for name in said:
        room = results if name == "export" else exhibits
        monkeypatch.setattr(room, name, lambda runs, *rest, name=name, **options: said[name].append(runs))
    studies.keep([SimpleNamespace(config=config) for config in listed], None)
    assert said["export_features"] and said["export_examples"] and said["export_separability"][0]


def test_stored_outcomes_of_another_test_are_not_handed_out(runs, store, tmp_path):
    both = (PAPER, STRONG)
    results.export(sweep([CONFIGS[0]], jobs=1, store=store, progress=False, protocols=both), tmp_path, protocols=both)
    more = CONFIGS[0].replace(evaluation_steps=3)
    results.export(sweep([more], jobs=1, store=store, progress=False), tmp_path / "x")
    assert results.held(CONFIGS[0], both, tmp_path) and results.held(more, both, tmp_path) is None


def test_features_of_a_network_that_came_out_otherwise_are_forgotten(runs, tmp_path):
    first, *others = runs
    results.export(runs, tmp_path)
    exhibits.export_features(first, tmp_path, per_class=5, components=8)
    exhibits.export_separability(runs, tmp_path)
    results.export(runs, tmp_path)  # the same: everything stays
    assert exhibits.features_of(first.config, tmp_path) and len(exhibits.separability("digits", tmp_path)) == 2 * len(
        runs
    )
    said = first.outcomes()
    turned = {name: (own + 1) % 10 for name, own in said.predictions.items()}
    again = Run(first.config, None, first.provenance, {"paper": Outcomes(said.test, said.labels, turned)})
    results.export([again], tmp_path)
    assert exhibits.features_of(first.config, tmp_path) is None
    left = {key for key, _ in exhibits.separability("digits", tmp_path).index}
    assert left == {run.config.fingerprint for run in others}


def test_results_that_cannot_be_written_do_not_stop_the_training(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path / "store"))
    (tmp_path / "file").touch()
    monkeypatch.setattr(results, "FOLDER", tmp_path / "file" / "results")
    monkeypatch.setattr(studies, "everything", lambda base, seeds: [DRIVEN.replace(seed=seed) for seed in seeds])
    studies.main(["--seeds", "2"])
    said = capsys.readouterr().out
    assert "2 of 2 runs are finished" in said and "not written" in said
    assert len(list((tmp_path / "store").glob("*/provenance.json"))) == 2


def test_a_plan_without_the_images_fetches_nothing_and_makes_up_no_time(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path))
    monkeypatch.setattr(sources, "kept", lambda name, folders: None)
    monkeypatch.setattr(sources, "download", lambda *rest: pytest.fail("it was fetched"))
    sources.hosted.cache_clear()
    studies.main(["cifar10", "--plan"])
    said = capsys.readouterr().out
    assert (
        said.startswith("0 of 36 runs are finished") and "cifar10 is not on this machine" in said and " ms" not in said
    )


def test_the_driver_stops_at_once_where_the_images_cannot_be_had(monkeypatch, tmp_path):
    def fail(name, folders):
        raise DataError(f"{name}: no network")

    monkeypatch.setenv("SRAT_RUNS", str(tmp_path))
    monkeypatch.setattr(sources, "kept", lambda name, folders: None)
    monkeypatch.setattr(sources, "download", fail)
    monkeypatch.setattr(studies, "sweep", lambda *rest, **options: pytest.fail("it went on"))
    sources.hosted.cache_clear()
    with pytest.raises(SystemExit, match=r"^cifar10: no network$"):
        studies.main(["cifar10"])


@pytest.mark.parametrize("option", ["--epochs", "--seeds", "--trial"])
@pytest.mark.parametrize("number", ["0", "-1", "2.5", "many"])
def test_numbers_of_nothing_are_refused_in_one_line(capsys, option, number):
    with pytest.raises(SystemExit):
        studies.main(["cifar10", "--plan", f"{option}={number}"])
    assert f"a whole number, 1 or more, not '{number}'" in capsys.readouterr().err


def test_a_setting_that_is_none_by_choice_survives(tmp_path):
    config = DRIVEN.replace(method="RobustLT", budget_cap=None)
    assert config.fingerprint != DRIVEN.replace(method="RobustLT").fingerprint
    (run,) = sweep([config], jobs=1, store=tmp_path / "store", progress=False)
    results.export([run], tmp_path)
    (read,) = results.read("digits", tmp_path).values()
    assert read.config == config


def test_a_run_with_its_prior_off_does_not_take_the_plain_ones_place(runs, tmp_path):
    with pytest.raises(ValueError, match=r"PAPER\.adjusted"):
        results.export([runs[0].prior_off()], tmp_path)
    assert set(compare.of_methods([runs[0], runs[0].prior_off(), runs[0].prior_off(0.5)])) == {
        "CE", "CE, prior off", "CE, prior off × 0.5",
    }  # fmt: skip


def test_own_images_of_one_name_have_folders_of_their_own(tmp_path):
    homes = {results.home_of(stage, tmp_path) for stage in ("digits", "/a/digits.npz", "/b/digits.npz")}
    assert len(homes) == 3 and {home.parent for home in homes} == {tmp_path}


def test_stored_outcomes_answer_for_the_published_protocol_alone(runs, tmp_path):
    results.export(runs[:1], tmp_path)
    (run,) = results.stored(CONFIGS[:1], folder=tmp_path)
    weak = Protocol("paper", lambda config: [PGD(config.eps, 1e-6, config.evaluation_steps, "zero")])
    assert run.evaluated(PAPER)
    for other in (weak, replace(PAPER, part="validation"), replace(PAPER, tau=1.0)):
        assert not run.evaluated(other)


def test_a_study_goes_on_after_a_run_that_fails(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path / "store"))
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    fails = DRIVEN.replace(learning_rate=1e30, adversarial=False, warmup_epochs=0, epochs=2)
    monkeypatch.setattr(studies, "after_srat", lambda base, seeds: [fails, DRIVEN])
    monkeypatch.setattr(studies, "STRONG", studies.PAPER)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)
    with pytest.raises(SystemExit, match="failed"):
        studies.main(["--after-srat"])
    assert "1 of 2 runs are finished" in capsys.readouterr().out
    (run,) = results.read("digits", tmp_path / "results").values()
    assert run.config == DRIVEN and run.evaluated(PAPER.adjusted())
