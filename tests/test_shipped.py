"""The networks that come with the package are what their settings make."""

import json

import numpy as np
import pandas as pd
import pytest

from srat_utils import train
from srat_utils.course import shipped
from srat_utils.runs import read


class Enough(Exception):
    """One epoch is over."""


@pytest.mark.parametrize("name", shipped.RUNS)
def test_a_shipped_network_is_the_run_of_its_settings_and_small(name):
    run = read(shipped.FOLDER / name)
    assert run.config.fingerprint == run.provenance["fingerprint"] == shipped.RUNS[name].fingerprint
    assert len(run.history) == run.config.epochs
    assert (run.folder / "model.pt").stat().st_size < 110_000
    assert set(shipped.KEPT) <= {path.name for path in run.folder.iterdir()}


@pytest.mark.parametrize("name", ["digits-natural", "digits-adversarial"])
def test_an_epoch_of_training_begins_as_the_shipped_one_did(name, tmp_path):
    seen = []

    def look(state):
        seen.append(state.history[0])
        raise Enough

    with pytest.raises(Enough):
        train(shipped.RUNS[name], store=tmp_path, progress=False, after_epoch=look)
    kept = pd.read_csv(shipped.FOLDER / name / "history.csv").iloc[0]
    assert seen[0]["loss"] == pytest.approx(kept["loss"], rel=1e-3)  # another processor rounds otherwise
    assert seen[0]["learning_rate"] == pytest.approx(kept["learning_rate"])


@pytest.mark.parametrize("name", ["digits-natural", "digits-adversarial"])
def test_a_shipped_network_says_what_its_stored_outcomes_say(name):
    run = shipped.run(shipped.RUNS[name])
    assert run.folder == shipped.FOLDER / name
    images, labels = run.data.test.tensors("cpu")
    right = (run.model(images.float() / 255).argmax(1) == labels).float().mean()
    assert 100 * right == pytest.approx(run.summary()["overall"]["clean"], abs=0.2)


def test_other_settings_are_trained(monkeypatch):
    asked = []
    monkeypatch.setattr(shipped, "train", asked.append)
    other = shipped.RUNS["digits-natural"].replace(seed=1)
    shipped.run(other)
    assert asked == [other]


def test_the_first_picture_shows_two_images_that_are_read_right_and_then_wrong():
    said = shipped.first_picture().alt
    assert "read as 0 (100%); the change, at most 0.2; read as 9" in said
    assert "read as horse" in said and "read as frog" in said


def test_making_them_keeps_what_is_needed_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "networks")
    tiny = shipped.RUNS["digits-natural"].replace(epochs=1, max_per_class=4)
    monkeypatch.setattr(shipped, "RUNS", {"digits-natural": tiny})
    monkeypatch.setattr(shipped, "train", lambda config, store: train(config, store=store, progress=False))
    shipped.make()
    made = read(tmp_path / "networks" / "digits-natural")
    assert made.config.fingerprint == tiny.fingerprint and np.isfinite(made.summary()["overall"]["robust"])
    assert {path.name for path in made.folder.iterdir()} == {*shipped.KEPT, "evaluations"}
    assert json.loads((made.folder / "spec.json").read_text())["classes"] == list("0123456789")
