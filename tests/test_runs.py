"""A folder per run: trained once, resumed, guarded, and the same whether alone or in a sweep."""

import json
import math
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from types import SimpleNamespace

import joblib
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from dying import train_and_die
from joblib.externals.loky.process_executor import TerminatedWorkerError
from made_up import picture_folder, save
from nbclient import NotebookClient
from PIL import Image

from srat_utils import (
    ELEVEN,
    PAPER,
    Config,
    checkpoints,
    features,
    load,
    progress,
    runs,
    sources,
    sweep,
    sweeps,
    train,
    trainer,
    training,
)
from srat_utils.attacks import PGD
from srat_utils.evaluation import Protocol
from srat_utils.images import DataError
from srat_utils.records import ConfigError
from srat_utils.runs import Run, RunError, default_store
from srat_utils.sweeps import tidy
from srat_utils.training import TrainingError

TINY = Config(
    imbalance="step-5", max_per_class=15, test_per_class=5, epochs=3, batch_size=64, attack_steps=2, evaluation_steps=2
)
FILES = {"config.json", "evaluations", "history.csv", "model.pt", "provenance.json", "spec.json"}


@pytest.fixture
def no_training(monkeypatch):
    """Any attempt to train fails the test."""
    monkeypatch.setattr(trainer, "fit", lambda *arguments, **options: pytest.fail("it was trained again"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run that tests only read."""
    return train(TINY, store=tmp_path_factory.mktemp("store"), progress=False)


def files(run):
    return {path.name for path in run.folder.iterdir() if path.name != ".lock"}


def assert_same_result(one, other):
    """Weights, metrics and history (seconds aside) agree to the last bit."""
    first, second = (torch.load(run.folder / "model.pt", weights_only=True) for run in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    pd.testing.assert_frame_equal(one.metrics, other.metrics, check_exact=True)
    assert [path.name for path in (one.folder / "evaluations").iterdir()] == [one.path_of(PAPER).name]
    pd.testing.assert_frame_equal(
        one.history.drop(columns="seconds"), other.history.drop(columns="seconds"), check_exact=True
    )


def interrupt_after(monkeypatch, epochs):
    """Training is broken off as by Ctrl-C after so many epochs, a checkpoint being written after each."""
    real = trainer.fit

    def broken(config, dataset, *, after_epoch, **options):
        def stop(state):
            after_epoch(state)
            if len(state.history) == epochs:
                raise KeyboardInterrupt

        return real(config, dataset, after_epoch=stop, **options)

    save_always(monkeypatch)
    monkeypatch.setattr(trainer, "fit", broken)


def save_always(monkeypatch):
    """A checkpoint after every step and every epoch."""
    for name in ("BETWEEN", "WITHIN"):
        monkeypatch.setattr(checkpoints, name, -1.0)
    monkeypatch.setattr(checkpoints, "SHARE", math.inf)


# ------------------------------------------------------------------------------------------------ one run


def test_a_finished_run_has_its_files(finished):
    assert files(finished) == FILES
    assert finished.folder.name == TINY.name


def test_the_stored_config_is_the_config(finished):
    assert Config.from_dict(json.loads((finished.folder / "config.json").read_text())) == TINY


def test_history_and_metrics_are_tidy(finished):
    assert finished.history["epoch"].tolist() == [0, 1, 2]
    assert {"loss", "prediction_loss", "separation_loss", "learning_rate", "anchors_with_positive", "seconds"} <= set(
        finished.history
    )
    metrics = finished.metrics
    assert list(metrics) == ["class", "group", "images", "kind", "attack", "accuracy", "predicted"]
    assert metrics["kind"].unique().tolist() == ["clean", "robust"] and len(metrics) == 20
    assert metrics["attack"].unique().tolist() == ["clean", "pgd-2@0.2"]
    assert metrics["class"].tolist() == [str(digit) for digit in range(10)] * 2
    assert metrics["group"].tolist() == (["well"] * 5 + ["under"] * 5) * 2
    assert metrics["accuracy"].between(0, 100).all() and (metrics["images"] == 5).all()
    assert finished.summary().columns.tolist() == ["attack", "overall", "balanced", "well", "under", "worst"]


def test_the_provenance_says_what_made_the_result(finished):
    facts = finished.provenance
    assert facts["fingerprint"] == TINY.fingerprint
    assert facts["subset_fingerprint"] == finished.data.train.fingerprint
    assert finished.outcomes().test == finished.data.test.fingerprint
    assert facts["class_counts"] == {str(digit): 15 if digit < 5 else 3 for digit in range(10)}
    assert (
        facts["versions"]["torch"] == torch.__version__.split("+")[0] or facts["versions"]["torch"] == torch.__version__
    )
    assert facts["device"] and facts["hardware"] and facts["seconds"] > 0
    assert finished.collapsed == (finished.metrics["predicted"].iloc[:10].max() > 45)


def test_the_model_comes_back_in_eval_mode_with_the_accuracy_of_the_metrics(finished):
    model = finished.model
    assert not any(module.training for module in model.modules())
    images, labels = finished.data.test.tensors("cpu")
    with torch.no_grad():
        accuracy = 100 * (model(images.float() / 255).argmax(1) == labels).double().mean().item()
    assert accuracy == pytest.approx(finished.summary().loc["clean", "overall"])


def test_a_second_call_reads_the_run_and_trains_nothing(finished, no_training):
    again = train(TINY, store=finished.folder.parent, progress=False)
    assert_same_result(finished, again)


def test_features_are_computed_once_for_each_attack_and_part(tmp_path, monkeypatch):
    run = train(TINY.replace(epochs=1), store=tmp_path, progress=False)
    attack = run.config.training_attack
    asked = [(None, "test"), (attack, "test"), (attack, "train"), (None, "train")]
    first = [run.features(*each) for each in asked]
    for (each, part), z in zip(asked, first, strict=True):
        assert np.array_equal(z, features.penultimate(run.model, getattr(run.data, part), each))
    monkeypatch.setattr(features, "penultimate", lambda *arguments: pytest.fail("computed again"))
    assert all(np.array_equal(run.features(*each), z) for each, z in zip(asked, first, strict=True))


def test_another_device_name_finds_the_same_run(finished, no_training):
    assert train(TINY.replace(device="cpu"), store=finished.folder.parent, progress=False).folder == finished.folder


def test_runs_with_equal_seeds_are_equal_to_the_bit_and_others_differ(finished, tmp_path):
    assert_same_result(finished, train(TINY, store=tmp_path, progress=False))
    with pytest.raises(AssertionError):
        assert_same_result(finished, train(TINY.replace(seed=1), store=tmp_path, progress=False))


def test_training_leaves_the_global_random_states_alone_and_does_not_depend_on_them(finished, tmp_path):
    torch.manual_seed(99)
    random.seed(99)
    state, legacy, python = torch.get_rng_state(), np.random.get_state(), random.getstate()
    run = train(TINY, store=tmp_path, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python
    assert (np.random.get_state()[1] == legacy[1]).all() and np.random.get_state()[2:] == legacy[2:]
    assert_same_result(finished, run)


def test_the_store_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path / "elsewhere"))
    assert default_store() == tmp_path / "elsewhere"


# ------------------------------------------------------------------------------------------------ interruptions


@pytest.mark.parametrize("epochs", [1, 2])
def test_an_interrupted_run_is_resumed_and_equals_the_undisturbed_one(finished, tmp_path, monkeypatch, epochs):
    with monkeypatch.context() as patch:
        interrupt_after(patch, epochs)
        with pytest.raises(KeyboardInterrupt):
            train(TINY, store=tmp_path, progress=False)
    assert (tmp_path / TINY.name / "checkpoint.pt").exists()
    resumed, real = [], trainer.fit
    monkeypatch.setattr(
        trainer, "fit", lambda *a, state, **k: resumed.append(len(state.history)) or real(*a, state=state, **k)
    )
    run = train(TINY, store=tmp_path, progress=False)
    assert resumed == [epochs]
    assert_same_result(finished, run)
    assert files(run) == FILES


# Two epochs of two steps, a checkpoint between the steps and after the first epoch, and outcomes saved after each batch:
# config.json, three checkpoints, four files of the result and three times outcomes are written; a checkpoint is renamed once
# more, and with the one before it there, twice.
POINTS = [("between epochs", n) for n in (1, 2)] + [("after rename", n) for n in range(1, 17)]
POINTS += [(point, n) for point in ("before fsync", "after fsync") for n in range(1, 12)]
QUICK = TINY.replace(adversarial=False, test_per_class=2, epochs=2)


def test_a_run_killed_at_any_point_of_its_writing_ends_as_the_undisturbed_one_to_the_bit(tmp_path):
    """Inside the writing of a file, between two files of a run, between epochs and steps: every point is hit."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["srat_utils.sweeps", "torch._dynamo"])  # torch's optimizers import it late
    undisturbed = train(QUICK, store=tmp_path / "undisturbed", progress=False)
    reached = context.SimpleQueue()
    whole = context.Process(target=train_and_die, args=(QUICK, tmp_path / "whole", "", 0, reached))
    whole.start()
    whole.join()
    counted = Counter(point for point, _ in POINTS)
    assert reached.get() == counted
    for point, number in POINTS:
        store = tmp_path / f"{number} {point}"
        process = context.Process(target=train_and_die, args=(QUICK, store, point, number))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        run = train(QUICK, store=store, progress=False)
        assert_same_result(undisturbed, run)
        assert files(run) == FILES


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_is_taken(finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(TINY, store=tmp_path, progress=False)
    checkpoint = tmp_path / TINY.name / "checkpoint.pt"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:1000])
    resumed, real = [], trainer.fit
    monkeypatch.setattr(
        trainer, "fit", lambda *a, state, **k: resumed.append(len(state.history)) or real(*a, state=state, **k)
    )
    with pytest.warns(UserWarning, match="set aside"):
        run = train(TINY, store=tmp_path, progress=False)
    assert resumed == [1]
    (aside,) = run.folder.glob("checkpoint-damaged-*")
    assert aside.read_bytes() == content[:1000]
    assert_same_result(finished, run)


def test_stopping_from_the_outside_keeps_every_epoch(finished, tmp_path):
    class Enough(Exception):
        pass

    def stop(state):
        if len(state.history) == 2:
            raise Enough

    with pytest.raises(Enough):
        train(TINY, store=tmp_path, progress=False, after_epoch=stop)
    assert len(torch.load(tmp_path / TINY.name / "checkpoint.pt", weights_only=True)["history"]) == 2
    seen = []
    run = train(TINY, store=tmp_path, progress=False, after_epoch=lambda state: seen.append(len(state.history)))
    assert seen == [3]
    assert_same_result(finished, run)


class Foreign:
    """Would write a file if it were unpickled with Python's own machinery."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "kind", ["garbage", "empty", "half", "other contents", "other network", "foreign pickle", "foreign torch file"]
)
def test_a_damaged_or_foreign_checkpoint_is_set_aside_unexecuted_and_the_run_completes(finished, tmp_path, kind):
    checkpoint, marker = tmp_path / TINY.name / "checkpoint.pt", tmp_path / "executed"
    checkpoint.parent.mkdir()
    if kind == "garbage":
        checkpoint.write_bytes(b"no checkpoint at all")
    elif kind == "empty":
        checkpoint.touch()
    elif kind == "half":
        whole = (finished.folder / "model.pt").read_bytes()
        checkpoint.write_bytes(whole[: len(whole) // 2])
    elif kind == "other contents":
        torch.save({"weights": torch.zeros(3)}, checkpoint)
    elif kind == "other network":
        torch.save(
            {"model": {"weight": torch.zeros(3)}, "optimizer": {}, "order": 0, "noise": 0, "history": []}, checkpoint
        )
    elif kind == "foreign pickle":
        checkpoint.write_bytes(pickle.dumps(Foreign(marker)))
    else:
        torch.save(Foreign(marker), checkpoint)
    content = checkpoint.read_bytes()
    with pytest.warns(UserWarning, match="set aside"):
        run = train(TINY, store=tmp_path, progress=False)
    assert not marker.exists()
    (aside,) = run.folder.glob("checkpoint-damaged-*")
    assert aside.read_bytes() == content
    assert_same_result(finished, run)


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    real = training.train_epoch
    save_always(monkeypatch)
    monkeypatch.setattr(
        training,
        "train_epoch",
        lambda config, job, state, *a: (
            real(config, job, state, *a) | ({"loss": float("nan")} if len(state.history) == 2 else {})
        ),
    )
    with pytest.raises(TrainingError, match="epoch 3 of 3"):
        train(TINY, store=tmp_path, progress=False)
    stored = torch.load(tmp_path / TINY.name / "checkpoint.pt", weights_only=True)
    assert len(stored["history"]) == 2
    assert not (tmp_path / TINY.name / "provenance.json").exists()


def test_the_lock_is_free_again_after_a_failure(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train(TINY, store=tmp_path, progress=False)
    assert train(TINY, store=tmp_path, progress=False).history.shape[0] == 3


@pytest.mark.parametrize("changes", [{"classes": ("1", "x")}, {"imbalance": "step-1000"}])
def test_data_that_do_not_exist_are_refused_in_one_line_and_leave_no_folder(tmp_path, changes):
    with pytest.raises(ValueError) as error:
        train(TINY.replace(**changes), store=tmp_path, progress=False)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_gpu_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match="auto") as error:
        train(TINY.replace(device="cuda:99"), store=tmp_path, progress=False)
    assert "\n" not in str(error.value)


def test_the_progress_bar_shows_the_loss_and_all_epochs(tmp_path, capsys):
    train(TINY.replace(epochs=1, adversarial=False), store=tmp_path)
    shown = capsys.readouterr().err
    assert "loss=" in shown and "1/1" in shown


def test_inside_an_epoch_the_bar_counts_its_steps(tmp_path, monkeypatch):
    seen, real = [], trainer.tqdm.update

    def update(bar, n=1):
        real(bar, n)
        seen.append(bar.n)

    monkeypatch.setattr(trainer.tqdm, "update", update)
    train(TINY.replace(epochs=2, adversarial=False, batch_size=30), store=tmp_path)  # three batches an epoch
    assert seen[:6] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])


def test_the_bars_clock_moves_while_a_step_is_long(tmp_path, monkeypatch):
    drawn, real = threading.Event(), trainer.fit
    monkeypatch.setattr(progress, "REDRAW", 0.001)
    monkeypatch.setattr(trainer.tqdm, "refresh", lambda bar, **options: drawn.set())

    def slow(*arguments, **options):
        assert drawn.wait(600)  # nothing but the clock could have drawn it
        return real(*arguments, **options)

    monkeypatch.setattr(trainer, "fit", slow)
    threads = threading.active_count()
    train(TINY.replace(epochs=1, adversarial=False), store=tmp_path, progress=False)
    assert threading.active_count() == threads


# ------------------------------------------------------------------------------------------------ many runs

NATURAL = TINY.replace(adversarial=False, epochs=2)


def test_a_parallel_sweep_equals_one_by_one_training_to_the_bit(tmp_path):
    configs = [NATURAL.replace(method="CE"), TINY.replace(epochs=1)]
    together = sweep(configs, jobs=2, store=tmp_path / "together", progress=False)
    assert [run.config for run in together] == configs
    for run in together:
        assert_same_result(run, train(run.config, store=tmp_path / "alone", progress=False))


def test_one_failing_config_is_listed_and_does_not_stop_the_others(tmp_path):
    good, bad = NATURAL.replace(method="CE"), NATURAL.replace(learning_rate=1e30, warmup_epochs=0)
    nameless = NATURAL.replace(classes=("1", "x"))
    with pytest.raises(RunError) as error:
        sweep([bad, nameless, good], jobs=1, store=tmp_path, progress=False)
    message = str(error.value)
    assert "\n" not in message and "2 of 3" in message
    assert bad.name in message and "epoch" in message and nameless.name in message and good.name not in message
    assert "the others are stored" in message
    assert (tmp_path / good.name / "provenance.json").exists()


def test_images_that_cannot_be_had_are_asked_for_once_not_by_every_run(tmp_path, monkeypatch, capsys):
    asked = []

    def fail(name, folders):
        asked.append(name)
        raise DataError(f"{name} could not be downloaded; put it into {folders[0]}")

    monkeypatch.setenv("SRAT_DATA", str(tmp_path / "none"))
    monkeypatch.setattr(sources, "download", fail)
    good, away = NATURAL.replace(method="CE"), [Config("cifar10", imbalance="step-100", seed=seed) for seed in range(7)]
    with pytest.raises(
        RunError, match=r"^7 of 8 runs failed; the others are stored. .* and 2 more: .*put it into"
    ) as error:
        sweep([*away, good], jobs=1, store=tmp_path)
    assert asked == ["cifar10"] and str(error.value).count("could not be downloaded") == 1
    assert (tmp_path / good.name / "provenance.json").exists() and "1 of 1 runs" in capsys.readouterr().err
    with pytest.raises(RunError, match=r"^all runs failed"):
        sweep(away, store=tmp_path)
    assert asked == ["cifar10", "cifar10"]


def test_runs_that_fail_for_one_reason_share_its_words(tmp_path):
    bad = [NATURAL.replace(learning_rate=1e30, warmup_epochs=0, seed=seed) for seed in range(7)]
    with pytest.raises(RunError) as error:
        sweep(bad, jobs=1, store=tmp_path, progress=False)
    message = str(error.value)
    assert message.startswith("all runs failed. ") and "stored" not in message
    assert message.count("learning_rate") < 7 and message.count("\n") == 0


def test_a_sweep_trains_only_what_is_missing_and_duplicates_once(tmp_path, monkeypatch):
    trained, real = [], trainer.fit
    monkeypatch.setattr(trainer, "fit", lambda config, *a, **k: trained.append(config) or real(config, *a, **k))
    first, second = NATURAL.replace(method="CE"), NATURAL.replace(method="LDAM")
    sweep([first], jobs=1, store=tmp_path, progress=False)
    result = sweep([second, first, second], jobs=1, store=tmp_path, progress=False)
    assert trained == [first, second]
    assert [run.config for run in result] == [second, first, second]


def test_a_finished_sweep_trains_nothing(finished, no_training):
    (run,) = sweep([TINY], store=finished.folder.parent, progress=False)
    assert run.folder == finished.folder


def test_without_time_a_sweep_begins_nothing(finished, no_training):
    store = finished.folder.parent
    runs = sweep([TINY.replace(seed=7), TINY], jobs=1, store=store, minutes=0, progress=False)
    assert [run.config for run in runs] == [TINY] and not (store / TINY.replace(seed=7).name).exists()


def test_a_sweep_out_of_time_goes_on_later_to_the_same_end(finished, tmp_path, monkeypatch):
    # The clock is looked at when the sweep begins, when the run is handed out and begins, and after each epoch: the second
    # epoch is the last in time.
    seconds, reported = iter((0, 1, 2, 3, 1000)), []
    monkeypatch.setattr(sweeps, "time", SimpleNamespace(time=lambda: next(seconds)))
    assert sweep([TINY], jobs=1, store=tmp_path, minutes=10, progress=False, after_run=reported.append) == []
    monkeypatch.undo()
    state = torch.load(tmp_path / TINY.name / "checkpoint.pt", weights_only=True)
    assert len(state["history"]) == 2 and not reported
    (run,) = sweep([TINY], jobs=1, store=tmp_path, minutes=10, progress=False, after_run=reported.append)
    assert_same_result(run, finished)
    assert [run.config for run in reported] == [TINY]
    sweep([TINY], jobs=1, store=tmp_path, progress=False, after_run=reported.append)
    assert len(reported) == 1


@pytest.mark.slow
def test_a_sweep_on_a_dask_cluster_survives_a_killed_worker_and_equals_the_local_one(tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    configs = [TINY.replace(epochs=12, seed=seed) for seed in range(3)]
    killed = []

    def kill_one_worker_in_the_middle(cluster):
        while not list((tmp_path / "dask").glob("*/config.json")):  # a run has begun
            time.sleep(0.01)
        worker = next(iter(cluster.workers.values())).pid
        os.kill(worker, signal.SIGKILL)
        killed.append(worker)

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        killer = threading.Thread(target=kill_one_worker_in_the_middle, args=[cluster], daemon=True)
        killer.start()
        clustered = sweep(configs, store=tmp_path / "dask", progress=False)
        killer.join()
    assert killed and [run.config for run in clustered] == configs
    for run in clustered:
        assert_same_result(run, train(run.config, store=tmp_path / "local", progress=False))


@pytest.mark.parametrize("killed", [TerminatedWorkerError, type("KilledWorker", (Exception,), {})])
def test_a_killed_worker_is_said_in_one_line(tmp_path, monkeypatch, killed):
    class Killed:
        def __init__(self, **options):
            pass

        def __call__(self, tasks):
            raise killed("the long story of an executor")

    monkeypatch.setattr(joblib, "Parallel", Killed)
    with pytest.raises(RunError, match="nothing is lost") as error:
        sweep([NATURAL], store=tmp_path, progress=False)
    assert "\n" not in str(error.value)


def test_the_bar_of_a_sweep_names_what_is_running_and_each_failure(tmp_path, capsys):
    good, bad = NATURAL.replace(method="CE"), NATURAL.replace(learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(RunError):
        sweep([bad, good], jobs=1, store=tmp_path)
    shown = capsys.readouterr()
    assert f"failed: {bad.name}" in shown.out + shown.err
    assert "4/4" in shown.err and "2 of 2 runs" in shown.err and "running: digits-step-5-CE-natural-seed0" in shown.err


def test_the_bar_of_a_sweep_counts_the_epochs_of_runs_that_are_not_over(tmp_path, monkeypatch):
    seen, real = [], sweeps.train

    def watched(config, *, after_epoch, **options):
        def look(state):
            after_epoch(state)
            seen.append(sweeps.epochs_of(runs.Run(config, sweeps.folder_of(config, tmp_path))))

        return real(config, after_epoch=look, **options)

    monkeypatch.setattr(sweeps, "train", watched)
    (run,) = sweep([NATURAL], jobs=1, store=tmp_path, progress=False)
    assert seen == [1, 2] and sweeps.epochs_of(run) == 2
    assert not (run.folder / sweeps.EPOCHS).exists()


def test_what_was_left_out_of_a_folder_is_said_once_not_by_each_process(tmp_path, capfd):
    folder = picture_folder(tmp_path / "pets")
    (folder / "train" / "notes.txt").write_text("not a picture")
    configs = [Config(folder, epochs=1, adversarial=False, evaluation_steps=1, seed=seed) for seed in (0, 1)]
    sweep(configs, jobs=2, store=tmp_path / "store")
    assert capfd.readouterr().out.count("left out") == 1


@pytest.mark.slow
def test_a_method_written_in_a_notebook_is_swept_by_workers_that_cannot_read_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path))
    cells = """
from dataclasses import dataclass
from srat_utils import Config, METHODS, losses, sweep
from srat_utils.methods import Method
from srat_utils.terms import CE

@dataclass(frozen=True)
class Mine(CE):
    def each(self, facts):
        return losses.cross_entropy

METHODS["mine"] = Method("mine", (Mine(),))
short = {"epochs": 1, "max_per_class": 20, "test_per_class": 2, "adversarial": False, "evaluation_steps": 1}
configs = [Config(method="mine", imbalance="balanced", seed=seed, **short) for seed in (0, 1)]
# ---
print([run.config.fingerprint for run in sweep(configs, jobs=2, progress=False)] == [c.fingerprint for c in configs])
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells.split("# ---")])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    assert notebook.cells[-1].outputs[0]["text"] == "True\n" and len(list(tmp_path.glob("*mine*"))) == 2


def test_an_empty_sweep_is_empty(tmp_path):
    assert sweep([], store=tmp_path) == []


def test_the_frame_of_many_runs_names_the_fields_that_were_asked_for(finished):
    summary = tidy([finished, finished], "method", "seed")
    assert summary.columns.tolist()[:5] == ["method", "seed", "collapsed", "kind", "attack"] and len(summary) == 4
    assert set(summary["method"]) == {"SRAT-CE"}
    assert len(tidy([finished], "imbalance", per_class=True)) == 20


# ------------------------------------------------------------------------------------------------ evaluations and models


def test_another_evaluation_trains_nothing_and_is_computed_once(finished, no_training, monkeypatch):
    store = finished.folder.parent
    longer = train(TINY.replace(evaluation_steps=3, temperature=0.1), store=store, progress=False)
    assert longer.folder == finished.folder and longer.metrics["attack"].unique().tolist() == ["clean", "pgd-3@0.2"]
    assert len(train(TINY.replace(test_per_class=2), store=store, progress=False).outcomes().labels) == 20
    monkeypatch.setattr(runs.evaluation, "attempt", lambda *a, **k: pytest.fail("it was attacked again"))
    pd.testing.assert_frame_equal(train(TINY, store=store, progress=False).metrics, finished.metrics)
    longer.path_of(PAPER).unlink()


def two_attacks(config):
    return [config.evaluation_attack, PGD(config.eps, config.step / 2, 4)]


def test_a_protocol_of_several_attacks_is_kept_beside_the_model(finished):
    union = Protocol("two", two_attacks, union=True)
    metrics = finished.evaluate(union)
    assert metrics["attack"].unique().tolist() == ["clean", "2 attacks@0.2", "pgd-2@0.2", "pgd-4@0.2"]
    table = finished.summary(union)["overall"]
    assert table["robust"] == table["attack"].min() <= finished.summary().loc["robust", "overall"] <= table["clean"]
    assert finished.path_of(union).parent == finished.path_of(PAPER).parent and finished.evaluated(union)
    (kept,) = sweep([TINY], store=finished.folder.parent, protocols=(PAPER, union), progress=False)
    pd.testing.assert_frame_equal(kept.evaluate(union), metrics)
    finished.path_of(union).unlink()


def test_a_model_comes_back_from_its_folder_without_data_and_settings(finished, tmp_path, monkeypatch):
    def moved(*arguments, **options):
        raise DataError("the images have moved")

    monkeypatch.setattr(runs, "load_dataset", moved)
    images = finished.data.test.images
    exported = runs.Run(TINY, finished.folder).export(tmp_path / "given away")
    assert {path.name for path in exported.iterdir()} == {"model.pt", "model.pt2", "spec.json", "card.md"}
    card = (exported / "card.md").read_text(encoding="utf-8")
    assert "step-5" in card and "Not checked: the images have moved" in card
    names, probabilities = load(exported).predict(images)
    assert probabilities.shape == (len(images), 10) and np.allclose(probabilities.sum(1), 1, atol=1e-5)
    said = finished.outcomes().predictions["clean"]
    assert names.tolist() == [str(label) for label in said]
    assert (
        load(finished.folder).predict(images[..., 0])[0].tolist() == names.tolist()
    )  # [N,H,W], and a run's own folder
    with pytest.raises(ValueError, match="resize"):
        load(exported).predict(np.zeros((2, 9, 9), np.uint8))
    with pytest.raises(ValueError, match=r"no spec\.json"):
        load(tmp_path)


def test_one_picture_and_a_folder_are_predicted_as_several_are(finished, tmp_path, capsys):
    images = finished.data.test.images[:3]
    _, expected = finished.predict(images)
    folder = tmp_path / "new"
    (folder / "deeper").mkdir(parents=True)
    files = [folder / "a.png", folder / "b.png", folder / "deeper" / "c.png"]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image[..., 0]).save(file)
    (folder / "notes.txt").write_text("no picture")
    for given in (str(folder), folder, files, (str(file) for file in files), images[..., 0]):
        names, probabilities = finished.predict(given)
        assert np.allclose(probabilities, expected, atol=1e-6) and len(names) == 3
    assert capsys.readouterr().out == "new: 3 pictures read, 1 left out: notes.txt (no picture)\n" * 2
    for given in (str(files[1]), files[1], [files[1]], images[1], images[1, ..., 0]):
        assert np.allclose(finished.predict(given)[1], expected[1:2], atol=1e-6)
    for given in ([], images[:0]):
        assert [len(part) for part in finished.predict(given)] == [0, 0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([np.zeros((8, 8), np.uint8)], "not ndarray"),
        (torch.zeros(2, 8, 8), "not Tensor"),
        (Image.new("L", (8, 8)), "or paths, not Image"),
        (None, "not NoneType"),
        (np.full((2, 8, 8), 0.5), r"\(255.0 \* images\).round\(\).astype\('uint8'\)"),
        (np.zeros((2, 1, 8, 8), np.uint8), r"images.transpose\(0, 2, 3, 1\) is that"),
        (np.zeros((2, 9, 9), np.uint8), "resize them"),
        (np.zeros((2, 8, 8, 3), np.uint8), "convert their colours"),
        ("no such.png", r"no such.png does not exist; check the path"),
        (os.path.dirname(__file__), "has no pictures"),
        (__file__, "cannot be read"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_what_cannot_be_predicted_is_told_in_one_line(finished, given, said):
    with pytest.raises(DataError, match=said) as error:
        finished.predict(given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content"), [("model.pt", b"x"), ("model.pt", b""), ("spec.json", b"no json"), ("spec.json", b"{}")]
)
def test_a_damaged_export_is_told_of_in_one_line(finished, tmp_path, file, content):
    for name in ("model.pt", "spec.json"):
        (tmp_path / name).write_bytes((finished.folder / name).read_bytes())
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match="are damaged, or not of one network") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_the_confusion_counts_every_test_image_once(finished):
    for kind in ("clean", "robust"):
        table = finished.confusion(kind)
        assert (table.sum(axis=1) == 5).all() and table.index.tolist() == table.columns.tolist() == list("0123456789")
        right = 100 * np.diag(table).sum() / 50
        assert right == pytest.approx(finished.summary().loc[kind, "overall"])
    with pytest.raises(ValueError, match="'clean' or 'robust'"):
        finished.confusion("attacked")


def test_without_git_a_run_ends_all_the_same(tmp_path, monkeypatch):
    def nothing(*arguments, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", nothing)
    run = train(TINY.replace(epochs=1, adversarial=False), store=tmp_path, progress=False)
    assert run.provenance["commit"] is None and run.trained


def test_of_a_run_whose_numbers_alone_are_kept_a_model_is_refused_in_one_line(finished):
    kept = runs.Run(TINY, facts=finished.provenance, said={"paper": finished.outcomes()})
    pd.testing.assert_frame_equal(kept.summary(), finished.summary())
    pd.testing.assert_frame_equal(kept.confusion(), finished.confusion())
    for ask in (
        lambda: kept.model,
        lambda: kept.history,
        lambda: kept.evaluate(Protocol("x", two_attacks)),
        lambda: kept.evaluate(Protocol("paper", two_attacks)),  # another protocol of a known name
    ):
        with pytest.raises(RunError, match=r"train\(config\)") as error:
            ask()
        assert "\n" not in str(error.value)


def test_each_of_the_eleven_resumes_from_its_checkpoint(tmp_path, monkeypatch):
    for method in ELEVEN:
        config = TINY.replace(method=method, epochs=2, max_per_class=10)
        with monkeypatch.context() as patch:
            interrupt_after(patch, 1)
            with pytest.raises(KeyboardInterrupt):
                train(config, store=tmp_path / "resumed", progress=False)
        assert_same_result(
            train(config, store=tmp_path / "resumed", progress=False),
            train(config, store=tmp_path / "whole", progress=False),
        )


def test_a_damaged_evaluation_is_set_aside_and_computed_again(finished, tmp_path):
    folder = tmp_path / finished.folder.name
    shutil.copytree(finished.folder, folder)
    run = Run(finished.config, folder)
    path = run.path_of(PAPER)
    for content in (b"", b"junk" * 100, path.read_bytes()[:-200]):
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="set aside"):
            assert not run.evaluated(PAPER)
        assert (run.outcomes(PAPER).predictions["clean"] == finished.outcomes(PAPER).predictions["clean"]).all()
    assert len([*path.parent.glob("*.aside")]) == 3


def test_an_export_keeps_the_precision_of_the_training(tmp_path):
    run = train(TINY.replace(precision="bf16", epochs=1), store=tmp_path / "runs", progress=False)
    back = load(run.export(tmp_path / "model", check=False, protocols=(PAPER,)))
    images = torch.rand(5, 1, 8, 8)
    assert back.precision == "bf16" and back.classes == tuple(run.classes)
    with torch.no_grad():
        assert torch.equal(back(images), run.model.cpu()(images))


def test_a_batch_of_one_image_that_batch_norm_cannot_take_is_told_of(tmp_path):
    config = TINY.replace(
        model="resnet18", batch_size=1, epochs=1, max_per_class=1, imbalance="balanced", attack_steps=0
    )
    for bar in (False, True):  # with one a step is measured first
        with pytest.raises(TrainingError, match="batch_size=2 or more"):
            train(config, store=tmp_path, progress=bar)


def test_without_runs_there_is_no_frame():
    with pytest.raises(ValueError, match="no run"):
        tidy([], "seed")


def test_images_that_changed_are_not_taken_for_those_that_a_run_was_of(tmp_path):
    path = tmp_path / "mine.npz"
    config = Config(save(path), epochs=1, adversarial=False, evaluation_steps=1)
    run = train(config, store=tmp_path / "store", progress=False)
    folder = run.folder
    again = runs.read(folder)
    assert again.outcomes().test == run.outcomes().test
    with np.load(path) as stored:
        changed = {name: stored[name] for name in stored.files}
    np.savez(path, **changed | {"test_images": 255 - changed["test_images"]})
    os.utime(path, (1, 1))
    for ask in (
        lambda: runs.read(folder).evaluate(Protocol("x", two_attacks)),
        lambda: train(runs.read(folder).config.replace(seed=1), store=tmp_path / "store", progress=False),
    ):
        with pytest.raises(RunError, match="no longer"):
            ask()
    new = Config(path, epochs=1, adversarial=False, evaluation_steps=1)
    both = sweep([again.config, new], jobs=1, store=tmp_path / "store", progress=False)
    assert [one.config.images for one in both] == [again.config.images, new.images] and len(
        set(one.folder for one in both)
    ) == 2


def test_without_its_images_a_run_is_exported_all_the_same(tmp_path, capsys):
    path = tmp_path / "mine.npz"
    run = train(
        Config(save(path), epochs=1, adversarial=False, evaluation_steps=1), store=tmp_path / "s", progress=False
    )
    path.unlink()
    given = run.export(tmp_path / "given", protocols=(PAPER,))
    assert load(given).classes == tuple(run.classes) and not (given / "card.md").exists()
    assert "card.md was left out" in capsys.readouterr().err


def test_rand_augment_of_pictures_with_two_channels_is_refused_before_training(tmp_path):
    path = tmp_path / "two.npz"
    images, labels = np.zeros((4, 8, 8, 2), np.uint8), np.array([0, 1, 0, 1])
    images[::2] = 99
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    with pytest.raises(ConfigError, match="rand_augment=0"):
        train(Config(path, rand_augment=2), store=tmp_path / "s", progress=False)


@pytest.fixture
def broken_off(tmp_path, monkeypatch):
    """A run of TINY with two of three epochs done: its folder in a store of its own."""
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(TINY, store=tmp_path, progress=False)
    return tmp_path / TINY.name


@pytest.mark.parametrize(
    "error, words", [(OSError(5, "Input/output error"), "Input/output error"), (MemoryError(), "MemoryError")]
)
def test_a_checkpoint_that_a_failing_disk_or_memory_refuses_is_left_as_it_is(broken_off, monkeypatch, error, words):
    def fail(*arguments, **options):
        raise error

    before = {path.name: path.read_bytes() for path in broken_off.glob("*.pt")}
    with monkeypatch.context() as patch:
        if isinstance(error, OSError):
            patch.setattr(checkpoints.Path, "read_bytes", fail)
        else:
            patch.setattr(checkpoints.torch, "load", fail)
        with pytest.raises(RunError, match=f"{words}.*call train\\(config\\) again"):
            train(TINY, store=broken_off.parent, progress=False)
    assert {path.name: path.read_bytes() for path in broken_off.glob("*.pt")} == before


@pytest.mark.parametrize(
    "change, words",
    [
        ({"images": "others"}, "begun on other images"),
        ({"noise": torch.zeros(16, dtype=torch.uint8)}, "another kind of device"),
    ],
)
def test_a_training_does_not_go_on_with_other_images_or_random_numbers(broken_off, change, words):
    path = broken_off / "checkpoint.pt"
    torch.save(torch.load(path, weights_only=True) | change, path)
    before = path.read_bytes()
    with pytest.raises(RunError, match=words):
        train(TINY, store=broken_off.parent, progress=False)
    assert path.read_bytes() == before


def test_an_export_does_not_overwrite_a_run(finished):
    before = (finished.folder / "model.pt").read_bytes()
    with pytest.raises(RunError, match=r"is the folder of a run.*name another"):
        finished.prior_off().export(finished.folder)
    assert (finished.folder / "model.pt").read_bytes() == before


def test_features_of_validation_images_that_are_not_there_are_refused(finished):
    with pytest.raises(RunError, match="held out no validation images"):
        finished.features(part="validation")


def test_a_worker_that_knows_another_method_is_told_of(tmp_path, monkeypatch):
    real = sweeps.train
    monkeypatch.setattr(sweeps, "train", lambda config, **options: real(config.replace(seed=1), **options))
    with pytest.raises(RunError, match="sees another method than the one that asked; call sweep with jobs=1"):
        sweep([NATURAL], jobs=1, store=tmp_path, progress=False)


def test_an_export_into_the_folder_of_another_leaves_nothing_of_that(finished, tmp_path, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise DataError("gone")

    finished.export(tmp_path, check=False, protocols=(PAPER,))
    assert (tmp_path / "card.md").exists() and (tmp_path / "model.pt2").exists()
    monkeypatch.setattr(runs, "program", fail)
    monkeypatch.setattr(runs.cards, "card", fail)
    finished.export(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "spec.json"]


def test_one_protocol_in_place_of_a_list_is_refused_before_anything_is_done(finished, tmp_path):
    for call in (
        lambda: train(TINY, store=tmp_path, protocols=PAPER),
        lambda: finished.export(tmp_path, protocols=PAPER),
        lambda: finished.card(protocols=PAPER),
        lambda: sweep([TINY], store=tmp_path, protocols=PAPER),
    ):
        with pytest.raises(ValueError, match=r"a list of them, as in \[PAPER\]"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["config.json", "provenance.json"])
def test_a_run_whose_own_words_are_damaged_says_so_in_one_line(finished, tmp_path, file):
    folder = shutil.copytree(finished.folder, tmp_path / finished.folder.name)
    (folder / file).write_text("")
    with pytest.raises(RunError, match=rf"{file} cannot be read .*move its folder out of the store"):
        _ = runs.read(folder).provenance


def test_a_damaged_neighbour_does_not_stop_a_training(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / finished.folder.name)
    (tmp_path / finished.folder.name / "config.json").unlink()
    assert trainer.longer(TINY.replace(epochs=4), tmp_path / TINY.replace(epochs=4).name) == ""


def test_a_path_in_a_reason_for_failure_stays_one():
    name = TINY.name
    said = sweeps.failed(
        {name: f"/tmp/store/{name} cannot be written", "other": "/tmp/store/other cannot be written"}, 2
    )
    assert said == f"all runs failed. {name}, other: its folder cannot be written"
