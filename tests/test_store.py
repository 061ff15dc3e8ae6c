"""Disks that are full or read-only, and two processes at once: one line, nothing lost, nothing trained twice."""

import errno
import os
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import pytest
import torch
from made_up import arrays, save

from srat_utils import PAPER, Config, checkpoints, places, runs, sources, store, sweep, train, trainer
from srat_utils.images import DataError
from srat_utils.store import RunError, default_store, folder_of, prepare, write

TINY = Config(
    imbalance="step-5",
    max_per_class=15,
    test_per_class=2,
    epochs=3,
    batch_size=64,
    adversarial=False,
    evaluation_steps=1,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run that tests only read."""
    return train(TINY, store=tmp_path_factory.mktemp("store"), progress=False)


@pytest.fixture
def no_training(monkeypatch):
    """Any attempt to train fails the test."""
    monkeypatch.setattr(trainer.State, "descend", lambda *a: pytest.fail("it was trained again"))


def refuse(patch, name, after=0, error=errno.ENOSPC):
    """From now on the disk takes only the first so many files whose name begins like this."""
    real, seen = Path.replace, []

    def replace(path, target):
        if Path(target).name.startswith(name):
            seen.append(path)
            if len(seen) > after:
                raise OSError(error, os.strerror(error))
        return real(path, target)

    patch.setattr(Path, "replace", replace)
    return seen


def save_always(monkeypatch):
    """A checkpoint after every step and every epoch."""
    for name in ("BETWEEN", "WITHIN"):
        monkeypatch.setattr(checkpoints, name, -1.0)
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))


def same_weights(one, other):
    first, second = (torch.load(run.folder / "model.pt", weights_only=True) for run in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


def one_line(error):
    return "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------ where things lie


def test_a_path_means_the_same_wherever_it_is_given(finished, tmp_path, monkeypatch, no_training):
    there = finished.folder.parent
    monkeypatch.setenv("HOME", str(there.parent))
    monkeypatch.setenv("USERPROFILE", str(there.parent))
    for place in (f"~/{there.name}", Path("~") / there.name, os.path.relpath(there), there):
        assert train(TINY, store=place, progress=False).folder == finished.folder
        (run,) = sweep([TINY], store=place, progress=False)
        assert run.folder == finished.folder
        monkeypatch.setenv("SRAT_RUNS", str(place))
        assert default_store() == there and train(TINY, progress=False).folder == finished.folder
    monkeypatch.setenv("SRAT_DATA", f"~/{there.name}")
    assert sources.data_folders() == (there,)


def test_installed_without_the_project_runs_and_data_are_among_the_users(monkeypatch):
    for name in ("SRAT_RUNS", "SRAT_DATA"):
        monkeypatch.delenv(name, raising=False)
    assert default_store() == places.PROJECT / "runs"
    monkeypatch.setattr(places, "CHECKOUT", False)
    users = Path(platformdirs.user_data_dir("srat-utils", appauthor=False))
    assert default_store() == users / "runs" and sources.data_folders()[0] == users / "data"


def test_own_images_are_found_again_from_another_working_directory(tmp_path, monkeypatch):
    save(tmp_path / "mine.npz")
    monkeypatch.chdir(tmp_path)
    config = Config("mine.npz", size=8)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert runs.load_data(config).train.counts == [4, 4, 4] and config.replace(seed=1).fingerprint != config.fingerprint


def test_a_run_on_renamed_images_is_found_and_read_without_them(tmp_path, monkeypatch):
    path = save(tmp_path / "mine.npz")
    config = Config(path, epochs=1, adversarial=False, evaluation_steps=1)
    run = train(config, store=tmp_path / "store", progress=False)
    monkeypatch.setattr(trainer.State, "descend", lambda *a: pytest.fail("it was trained again"))
    moved = path.rename(tmp_path / "renamed.npz")
    again = train(config.replace(dataset=moved), store=tmp_path / "store", progress=False)
    assert again.folder == run.folder
    moved.unlink()
    alone = runs.read(run.folder)
    assert alone.confusion().to_numpy().sum() == 6 and alone.predict(run.data.test.images)[1].shape == (6, 3)
    with pytest.raises(DataError, match="does not exist"):
        _ = alone.data
    with pytest.raises(RunError, match="holds no finished run") as error:
        runs.read(tmp_path)
    assert one_line(error)


def test_images_that_changed_since_are_not_evaluated_as_if_they_were_the_same(tmp_path):
    config = Config(save(tmp_path / "mine.npz"), epochs=1, adversarial=False, evaluation_steps=1)
    run = train(config, store=tmp_path / "store", progress=False)
    save(tmp_path / "mine.npz", train_images=arrays()["train_images"][::-1].copy())
    with pytest.raises(RunError, match="no longer what") as error:
        _ = runs.read(run.folder).data
    assert one_line(error)


# ------------------------------------------------------------------------------------------------ before anything is trained


def test_a_store_that_cannot_be_written_is_told_of_before_training(tmp_path, no_training):
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match="SRAT_RUNS") as error:
            train(TINY, store=place, progress=False)
        assert one_line(error) and str(place) in str(error.value)
        with pytest.raises(RunError, match="SRAT_RUNS") as error:
            sweep([TINY], jobs=1, store=place, progress=False)
        assert one_line(error)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_so_is_one_that_takes_folders_but_no_files(tmp_path, no_training, monkeypatch, error):
    refuse(monkeypatch, "config.json", error=error)
    with pytest.raises(RunError, match=os.strerror(error)) as raised:
        train(TINY, store=tmp_path, progress=False)
    assert one_line(raised)


def test_a_disk_with_too_little_room_is_told_of_before_training(tmp_path, no_training):
    prepare(tmp_path / "fits", 1)
    with pytest.raises(RunError, match="of room, and the run needs 1000000000000") as error:
        prepare(tmp_path / "run", 10**18)
    assert one_line(error)


# ------------------------------------------------------------------------------------------------ while it is trained


def test_a_disk_that_fills_up_under_the_checkpoints_stops_no_training(finished, tmp_path, monkeypatch):
    save_always(monkeypatch)
    seen = refuse(monkeypatch, "checkpoint-next", after=2)
    with pytest.warns(UserWarning, match="the training goes on") as told:
        run = train(TINY, store=tmp_path, progress=False)
    assert len(told) == 1 and len(seen) == 5
    assert same_weights(run, finished) and not list(run.folder.glob("*checkpoint*"))


def test_a_checkpoint_that_was_refused_leaves_the_one_before(tmp_path, monkeypatch, finished):
    save_always(monkeypatch)

    def stop(state):
        if len(state.history) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        refuse(patch, "checkpoint-next", after=2)
        with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning):
            train(TINY, store=tmp_path, progress=False, after_epoch=stop)
    stored = torch.load(folder_of(TINY, tmp_path) / "checkpoint.pt", weights_only=True)
    assert (len(stored["history"]), stored["epoch"]) == (1, None)
    assert same_weights(train(TINY, store=tmp_path, progress=False), finished)


@pytest.mark.parametrize("file", ["history.csv", "spec.json", "model.pt", "provenance.json"])
def test_what_was_trained_when_the_disk_is_full_is_written_later_and_not_trained_again(
    finished, tmp_path, monkeypatch, file
):
    with monkeypatch.context() as patch:
        refuse(patch, file)
        with pytest.raises(RunError, match="is in memory") as error:
            train(TINY, store=tmp_path, progress=False)
    assert one_line(error)
    monkeypatch.setattr(trainer.State, "descend", lambda *a: pytest.fail("it was trained again"))
    run = train(TINY, store=tmp_path, progress=False)
    assert same_weights(run, finished) and len(run.history) == 3
    assert folder_of(TINY, tmp_path) not in trainer._unwritten


def test_the_older_checkpoint_gives_its_room_to_the_result(finished, tmp_path, monkeypatch):
    save_always(monkeypatch)
    real = trainer.write

    def tight(path, writer):
        if path.name == "model.pt" and (path.parent / "checkpoint-before.pt").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, writer)

    monkeypatch.setattr(trainer, "write", tight)
    assert same_weights(train(TINY, store=tmp_path, progress=False), finished)


def test_provenance_is_found_out_before_and_costs_no_training(tmp_path, monkeypatch, finished):
    order = []
    real_facts, real_fit = trainer.facts_of, trainer.fit
    monkeypatch.setattr(trainer, "facts_of", lambda *a: order.append("facts") or real_facts(*a))
    monkeypatch.setattr(trainer, "fit", lambda *a, **k: order.append("fit") or real_fit(*a, **k))
    train(TINY, store=tmp_path, progress=False)
    assert order == ["facts", "fit"]


# ------------------------------------------------------------------------------------------------ afterwards


def test_a_finished_run_on_a_read_only_disk_is_read_evaluated_and_exported(
    finished, tmp_path, monkeypatch, no_training
):
    class Refused:
        def __init__(self, path):
            pass

        def acquire(self, timeout=None):
            raise OSError(errno.EROFS, "Read-only file system")

        def release(self):
            pass

    there = shutil.copytree(finished.folder.parent, tmp_path / "store")
    harder = TINY.replace(evaluation_steps=2)
    monkeypatch.setattr(store, "FileLock", Refused)
    with monkeypatch.context() as patch:
        refuse(patch, "paper", error=errno.EROFS)
        with pytest.warns(UserWarning, match="in this session only"):
            run = train(harder, store=there, progress=False)
        assert run.metrics["attack"].unique().tolist() == ["clean", "pgd-2@0.2"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert run.confusion("robust").to_numpy().sum() == 20  # not measured, and not warned of, again
        assert (run.export(tmp_path / "export", check=False, protocols=(PAPER,)) / "model.pt").exists()


def test_a_sweep_says_when_results_could_not_be_kept(tmp_path, monkeypatch):
    refuse(monkeypatch, "paper")
    with pytest.raises(RunError, match="could not be kept") as error, pytest.warns(UserWarning, match="session only"):
        sweep([TINY], jobs=1, store=tmp_path, progress=False)
    assert one_line(error)


def test_an_export_that_cannot_be_written_is_told_of_in_one_line(finished, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="name another folder") as error:
        finished.export(tmp_path / "file")
    assert one_line(error)


def test_what_only_adorns_an_export_does_not_cost_the_weights(finished, tmp_path, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise RuntimeError("an exporter's own")

    monkeypatch.setattr(runs, "program", broken)
    monkeypatch.setattr(runs.checks, "run", broken)
    given = finished.export(tmp_path / "given", protocols=(PAPER,))
    assert {path.name for path in given.iterdir()} == {"model.pt", "spec.json", "card.md"}
    assert "model.pt2 was left out (an exporter's own)" in capsys.readouterr().err
    assert "Not checked: an exporter's own." in (given / "card.md").read_text(encoding="utf-8")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    def half(path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "x.txt").write_text("before")
    with pytest.raises(OSError):
        write(tmp_path / "x.txt", half)
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"] and (tmp_path / "x.txt").read_text() == "before"


# ------------------------------------------------------------------------------------------------ two processes


ASKS_TOO = """
import sys
from srat_utils import Config, trainer
steps, real = [], trainer.State.descend
trainer.State.descend = lambda state, loss: steps.append(1) or real(state, loss)
run = trainer.train(Config(**{settings!r}), store={store!r}, progress=False)
print(len(steps), len(run.history), len(run.metrics))
"""


def test_two_processes_that_ask_for_one_run_train_it_once(tmp_path, finished):
    script, others = ASKS_TOO.format(settings=TINY.given, store=str(tmp_path)), []

    def ask_too(state):
        if not others:
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            others.append(subprocess.Popen([sys.executable, "-c", script], **pipes))
            said = others[0].stderr.readline()  # before that the training does not go on
            assert said == f"Another process is training {TINY.name}; waiting for its result.\n"

    run = train(TINY, store=tmp_path, progress=False, after_epoch=ask_too)
    out, err = others[0].communicate()
    waited = f"Another process is evaluating {TINY.name}; waiting for its result.\n"  # where this one is still at it
    assert out == "0 3 20\n" and err in ("", waited) and others[0].returncode == 0
    assert same_weights(run, finished)


@contextmanager
def another_process_at(folder):
    script = f"from filelock import FileLock\nwith FileLock({str(folder / '.lock')!r}):\n    print('held', flush=True)\n    input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate("\n")


def test_a_run_that_another_process_is_training_is_refused_in_one_line_where_nobody_waits(tmp_path, no_training):
    folder = folder_of(TINY, tmp_path)
    folder.mkdir()
    with another_process_at(folder), pytest.raises(RunError, match="another process") as error:
        train(TINY, store=tmp_path, progress=False, wait=False)
    assert TINY.name in str(error.value) and one_line(error)


def test_nobody_waits_for_tests_either(finished, tmp_path, no_training):
    folder = tmp_path / finished.folder.name
    shutil.copytree(finished.folder, folder)
    shutil.rmtree(folder / "evaluations")
    with another_process_at(folder), pytest.raises(RunError, match="another process"):
        train(finished.config, store=tmp_path, progress=False, wait=False)


def test_of_two_writers_at_one_time_each_writes_a_whole_file(tmp_path):
    path = tmp_path / "both.bin"

    def slow(temporary):
        with temporary.open("wb") as file:
            file.write(b"a" * 5000)
            file.flush()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(store.write, path, lambda other: other.write_bytes(b"b" * 500)).result()
            assert path.read_bytes() == b"b" * 500
            file.write(b"a" * 5000)

    store.write(path, slow)
    assert path.read_bytes() == b"a" * 10_000 and [file.name for file in tmp_path.iterdir()] == ["both.bin"]


def test_a_known_sets_run_that_was_renamed_is_out_of_the_way(tmp_path):
    folder = folder_of(TINY, tmp_path)
    folder.mkdir()
    folder.rename(tmp_path / f"old-{folder.name}")
    assert folder_of(TINY, tmp_path) == folder
