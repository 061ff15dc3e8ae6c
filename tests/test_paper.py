import pytest

from srat_utils.course import paper


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
    from srat_utils.methods import ELEVEN

    assert set(paper.tables()["method"]) == set(ELEVEN)


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
