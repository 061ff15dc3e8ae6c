"""Each notebook on somebody's own images, of two classes and of twenty, to its end: none may know the course's sets alone."""

from pathlib import Path

import numpy as np
import pytest
import run_notebooks

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def blobs(path, names, counts, test, shape):
    """Noisy copies of one random picture a class, in MedMNIST's layout."""
    random, total = np.random.default_rng(0), len(counts)
    means = random.integers(40, 216, (total, *shape))
    arrays = {}
    for part, number in (("train", counts), ("val", [test] * total), ("test", [test] * total)):
        labels = np.repeat(np.arange(total), number)
        pixels = means[labels] + random.normal(0, 40, (len(labels), *shape))
        arrays |= {
            f"{part}_images": pixels.clip(0, 255).astype(np.uint8),
            f"{part}_labels": np.array(names)[labels, None],
        }
    np.savez(path, **arrays)
    return str(path)


MANY = ("01", "08", "10")  # the notebooks that are tried on twenty classes, too; a minute each for all would be long
CASES = [
    (path, classes) for path in run_notebooks.course() for classes in (2, 20) if classes == 2 or path.name[:2] in MANY
]


@pytest.mark.parametrize(("path", "classes"), CASES, ids=lambda value: getattr(value, "stem", value))
def test_a_notebook_runs_on_own_images(path, classes, tmp_path, monkeypatch):
    monkeypatch.setenv("SRAT_RUNS", str(tmp_path / "runs"))
    if classes == 2:  # grey, and names that are no numbers
        dataset = blobs(tmp_path / "two.npz", ["a/b: c?", "NA"], [60, 15], 10, (12, 12))
    else:
        dataset = blobs(tmp_path / "twenty.npz", range(20), [40] * 8 + [20] * 6 + [8] * 6, 6, (10, 12, 3))
    result = run_notebooks.run(path, {"mode": "quick", "dataset": dataset}, tmp_path / "executed")
    assert result.findings == []
