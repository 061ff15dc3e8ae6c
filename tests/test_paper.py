import pytest

from srat_utils import paper


def test_all_88_rows_are_there_in_percent():
    rows = paper.tables()
    assert rows.groupby(["table", "imbalance"]).size().tolist() == [11] * 8
    assert rows.groupby("table")["dataset"].first().tolist() == ["cifar10", "cifar10", "svhn", "svhn"]
    assert rows[list(paper.METRICS)].stack().between(0, 100).all()


def test_robust_accuracy_never_exceeds_standard():
    rows = paper.tables()
    assert (rows["robust_overall"] <= rows["standard_overall"]).all()
    assert (rows["robust_under"] <= rows["standard_under"]).all()


def test_methods_are_those_of_the_package():
    from srat_utils.methods import METHODS

    assert set(paper.tables()["method"]) == set(METHODS)


@pytest.mark.parametrize(
    "number, method, values",  # typed from the paper
    [
        (1, "CE", [63.26, 40.62, 36.96, 14.23, 47.29, 9.03, 30.39, 1.62]),
        (1, "DRCB-Focal", [74.61, 67.06, 37.91, 29.50, 52.75, 21.81, 27.78, 3.24]),
        (3, "SRAT-LDAM", [87.65, 82.62, 46.03, 34.75, 71.56, 50.33, 33.54, 11.63]),
    ],
)
def test_a_table_reads_like_the_paper(number, method, values):
    table = paper.table(number)
    assert table.shape == (11, 8)
    assert table.index[0] == "CE"
    assert table.columns[0] == (10, "Standard", "Overall")
    assert table.columns[-1] == (100, "Robust", "Under")
    assert table.loc[method].tolist() == values


def test_a_reader_may_change_their_copy():
    mine = paper.tables()
    mine["standard_overall"] = 0.0
    assert paper.tables()["standard_overall"].min() > 0


def test_a_table_the_paper_does_not_have():
    with pytest.raises(ValueError, match="tables 1 to 4, not 5"):
        paper.table(5)


def test_one_setting_in_the_layout_of_our_runs():
    summary = paper.summary("cifar10", "step-100").set_index(["method", "attack"])
    assert summary.loc[("SRAT-LDAM", "clean")].tolist() == [63.13, 52.73]
    assert summary.loc[("SRAT-LDAM", "pgd-20")].tolist() == [33.51, 18.89]


@pytest.mark.parametrize(
    "differences, verdict",
    [
        ([5.0, 6.0, 7.0], "reproduced"),
        ([1.0, -1.0, 3.0], "direction only"),
        ([5.0], "direction only"),
        ([-1.0, 0.5], "not reproduced"),
        ([0.0, 0.0], "not reproduced"),
        ([], "not measured"),
        ([1.0, float("nan")], "not measured"),
    ],
)
def test_verdicts_follow_the_spread_over_seeds(differences, verdict):
    assert paper.verdict(differences) == verdict


def test_a_row_a_claim():
    rows = paper.verdicts({"a": [2.0, 4.0], "b": [1.0]})
    assert rows.loc["a", ["difference", "seeds", "verdict"]].tolist() == [3.0, 2, "reproduced"]
    assert rows.loc["b", "verdict"] == "direction only" and rows["std"].isna().tolist() == [False, True]
