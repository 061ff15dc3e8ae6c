"""Verdicts follow the written rule."""

import numpy as np
import pytest
from scipy import stats

from srat_utils.course.verdicts import table, verdict


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([], "not measured"),
        ([1.0, np.nan], "not measured"),
        ([5.0], "direction only"),
        ([-5.0], "not reproduced"),
        ([0.0, 0.0], "not reproduced"),
        ([4.0, 5.0, 6.0], "reproduced"),
        ([1.0, -0.5, 1.0], "direction only"),
        ([-1.0, 0.5, -1.0], "not reproduced"),
        ([-4.0, -5.0, -6.0], "reversed"),
    ],
)
def test_verdict(differences, expected):
    assert verdict(differences) == expected


def test_the_bound_is_two_standard_errors_as_scipy_computes_them():
    generator = np.random.default_rng(0)
    for _ in range(50):
        values = generator.normal(0.7, 1, size=4)
        mean, error = values.mean(), stats.sem(values)
        names = ("reversed", "not reproduced", "direction only", "reproduced")
        expected = names[np.searchsorted([-2 * error, 0, 2 * error], mean)]
        assert verdict(values) == expected


def test_table_has_a_row_a_claim():
    rows = table({"a": [1.0, 2.0, 3.0], "b": [-1.0]})
    assert rows.loc["a"].tolist() == [2.0, 1.0, 3, "reproduced"]
    assert rows.loc["b", "verdict"] == "not reproduced"
