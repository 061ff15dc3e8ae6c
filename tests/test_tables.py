"""The paper's layout: the right number in the right cell, and the right ones marked."""

import numpy as np
import pandas as pd
import pytest

from srat_utils import Config
from srat_utils.course import panels, paper, plots, tables
from srat_utils.evaluation import Outcomes, accuracies, summarise
from srat_utils.images import ImageDataset
from srat_utils.methods import ELEVEN
from srat_utils.runs import Run
from srat_utils.sources import CIFAR10_CLASSES

RNG = np.random.default_rng(0)
SUMMARIES = pd.DataFrame(
    [
        {"imbalance": imbalance, "method": method, "seed": seed, "collapsed": False, "kind": kind, "attack": attack}
        | dict(zip(("overall", "under"), RNG.uniform(0, 100, 2), strict=True))
        for imbalance in ("step-10", "step-25", "exp-10")
        for method in reversed(ELEVEN)
        for seed in range(3)
        for kind, attack in (("clean", "clean"), ("robust", "pgd-20@0.2"))
    ]
)


@pytest.mark.parametrize(("statistic", "reference"), [("mean", np.mean), ("std", lambda v: np.std(v, ddof=1))])
def test_each_cell_holds_its_own_runs(statistic, reference):
    table = tables.in_layout(SUMMARIES, "step", statistic)
    assert table.index.tolist() == list(ELEVEN)
    assert table.columns.tolist() == [
        (K, accuracy, classes)
        for K in (10, 25)
        for accuracy in ("Standard", "Robust")
        for classes in ("Overall", "Under")
    ]
    for K, accuracy, classes in table:
        for method in ELEVEN:
            rows = SUMMARIES.query(
                "imbalance == @imbalance and method == @method", local_dict={"imbalance": f"step-{K}", "method": method}
            )
            values = rows[(rows["kind"] == "clean") == (accuracy == "Standard")][classes.lower()]
            assert table.loc[method, (K, accuracy, classes)] == pytest.approx(reference(values))


def test_the_layout_is_that_of_the_papers_tables():
    ours, theirs = tables.in_layout(SUMMARIES, "step"), paper.table(1)
    assert ours.index.tolist() == theirs.index.tolist()
    assert (
        ours.columns.names == theirs.columns.names
        and ours.columns.droplevel(0).tolist() == theirs.columns.droplevel(0).tolist()
    )


def test_in_the_papers_table_the_papers_bold_and_underlined_numbers_are_marked():
    text = tables.marked(paper.table(1))
    column = (100, "Standard", "Under")
    assert text.loc["SRAT-LDAM", column] == "<b><ins>52.7</ins></b>"
    assert text.loc["SRAT-Focal", column] == "<ins>51.8</ins>"
    assert text.loc["SRAT-CE", column] == "<ins>40.2</ins>"
    assert text.loc["DRCB-LDAM", column] == "50.7"
    assert text.loc["SRAT-CE", (10, "Standard", "Overall")].startswith("<b>")


def test_every_column_has_a_best_and_one_best_a_loss_and_ties_share_it():
    mean = tables.in_layout(SUMMARIES, "step").round(-1)
    text = tables.marked(mean)
    for column in mean:
        best = mean[column] == mean[column].max()
        assert text[column].str.contains("<b>").tolist() == best.tolist()
        for loss in ("CE", "Focal", "LDAM"):
            family = [name for name in ELEVEN if ELEVEN[name].loss == loss]
            top = mean.loc[family, column] == mean.loc[family, column].max()
            assert text.loc[family, column].str.contains("<ins>").tolist() == top.tolist()


def test_spread_and_collapse_are_shown_and_one_seed_has_no_spread():
    mean, std = (tables.in_layout(SUMMARIES, "exp", statistic) for statistic in ("mean", "std"))
    text = tables.marked(mean, std, {(10, "CE")})
    column = (10, "Robust", "Under")
    assert f"{mean.loc['CE', column]:.1f} ± {std.loc['CE', column]:.1f} †" in text.loc["CE", column]
    assert not text.drop(index="CE").stack(text.columns.names, future_stack=True).str.contains("†").any()
    single = SUMMARIES[SUMMARIES["seed"] == 0]
    alone = tables.marked(tables.in_layout(single, "exp"), tables.in_layout(single, "exp", "std"))
    assert not alone.stack(alone.columns.names, future_stack=True).str.contains("±|nan").any()


# ------------------------------------------------------------------------------------------------ pictures of the studies

METRICS = pd.DataFrame(
    [
        {
            "method": method,
            "class": str(c),
            "group": "under" if c > 4 else "well",
            "kind": kind,
            "attack": attack,
            "accuracy": 10.0 * c,
        }
        for method in ("CE", "SRAT-CE")
        for kind, attack in (("clean", "clean"), ("robust", "pgd-20@0.2"))
        for c in range(10)
    ]
)


def test_the_picture_of_classes_shows_robust_accuracy_only():
    metrics = METRICS.assign(accuracy=METRICS["accuracy"].where(METRICS["kind"] == "robust", 77.0))
    picture = plots.class_method(metrics, "digits")
    shown = [text.get_text() for text in picture.figure.axes[0].texts]
    assert shown == [str(10 * c) for c in range(10)] * 2
    assert "CE 0, SRAT-CE 0" in picture.alt


def test_ranks_are_ordered_by_their_mean():
    places = pd.DataFrame({"A": [3, 3], "B": [1, 2], "C": [2, 1.0]})
    picture = plots.ranks(places, "robust")
    assert next(label.get_text() for label in picture.figure.axes[0].get_yticklabels()) == "A"
    assert "B 1.5, C 1.5, A 3.0" in picture.alt


def test_setting_curves_mark_a_value_that_was_run():
    summaries = SUMMARIES[SUMMARIES["imbalance"] == "step-10"].assign(value=lambda t: t["seed"] % 2 * 4.0)
    picture = plots.setting_curves(summaries[summaries["method"].str.startswith("SRAT")], "value", 4.0, "λ")
    assert len(picture.figure.axes) == 3 and "at 4:" in picture.alt
    with pytest.raises(KeyError):
        plots.setting_curves(summaries, "value", 3.0, "λ")


def test_paired_differences_show_each_seed_and_the_mean():
    rows = pd.DataFrame(
        {"switch": ["s"] * 3, "measure": ["clean"] * 3, "seed": range(3), "difference": [1.0, 2.0, 6.0]}
    )
    picture = plots.paired_differences(rows, "digits")
    assert picture.figure.axes[0].lines[0].get_xdata().tolist() == [1.0, 2.0, 6.0]
    assert "clean: s: +3.0." in picture.alt


def measured(config: Config, well: float, under: float) -> Run:
    """A run of ten test images per class; under attack one of them stands."""
    labels = np.repeat(np.arange(10), 10).astype(np.int16)
    place = np.tile(np.arange(10), 10)

    def said(well: float, under: float) -> np.ndarray:
        return np.where(10 * place < np.where(labels > 4, under, well), labels, (labels + 1) % 10).astype(np.int16)

    outcomes = Outcomes("made up", labels, {"clean": said(well, under), config.evaluation_attack.name: said(10, 10)})
    counts = {str(c): 50 if c > 4 else 5000 for c in range(10)}
    return Run(config, facts={"class_counts": counts}, said={"paper": outcomes})


def test_each_measured_row_stands_beside_the_papers():
    exp = [Config.paper("cifar10", "exp-100", "SRAT-LDAM", seed=seed) for seed in (0, 1)]
    runs = [measured(exp[0], 80, 40), measured(exp[1], 90, 50), measured(exp[0].replace(epochs=20), 30, 10)]
    table = tables.against_paper(runs)
    key = ("cifar10", "exp-100", "SRAT-LDAM")
    assert table.index.tolist() == [(*key, 20, "float32", False, 1), (*key, 200, "float32", False, 2)]
    long, published = (
        table.xs((*key, 200)).iloc[0],
        paper.tables().set_index(["dataset", "imbalance", "method"]).loc[key],
    )
    for metric, ours in (
        ("standard_overall", 65),
        ("standard_under", 45),
        ("robust_overall", 10),
        ("robust_under", 10),
    ):
        assert long[metric, "ours"] == ours and long[metric, "paper"] == pytest.approx(published[metric], abs=0.005)
        assert long[metric, "difference"] == pytest.approx(ours - published[metric], abs=0.0051)


def test_fewer_seeds_of_a_method_are_told():
    rows = pd.DataFrame({"method": ["CE", "CE", "SRAT-CE"], "seed": [0, 1, 0], "kind": "clean"})
    assert tables.seeds_in(rows) == "1 to 2" and tables.seeds_in(rows[:2]) == "2"


@pytest.mark.parametrize(
    "change",
    [
        {"adversarial": False},
        {"max_per_class": 100},
        {"classes": ("cat", "horse")},
        {"separation_weight": 0.5},
        {"reduction": "mean"},
        {"imbalance": "step-25"},
        {"dataset": "digits"},
    ],
    ids=str,
)
def test_what_was_run_in_another_setting_never_stands_beside_the_paper(change):
    run = measured(Config.paper("cifar10", "step-100", "SRAT-CE").replace(**change), 80, 40)
    assert tables.against_paper([run]).empty and tables.against_paper([]).empty


# ------------------------------------------------------------------------------------------------ which robust number is shown


def union_of(clean: int, pgd: int, apgd: int) -> pd.DataFrame:
    """Accuracies of two classes of 100 images, equal in both: clean, under one attack, and under a second on what still stood."""
    labels = np.repeat([0, 1], 100).astype(np.int16)
    wrong = 1 - labels

    def said(right: int) -> np.ndarray:
        return np.where(np.tile(np.arange(100) < right, 2), labels, wrong)

    predictions = {"clean": said(clean), "pgd-20@0.2": said(pgd), "apgd-ce-100@0.2": said(apgd)}
    return accuracies(Outcomes("", labels, predictions), ["3", "8"], [False, True], union=True)


def test_given_clean_90_pgd_50_and_apgd_10_every_picture_and_table_says_robust_10():
    metrics = pd.concat(
        union_of(90, 50, 10).assign(
            adversarial=a, method="CE", imbalance="step-10", seed=0, weight_ratio=r, separation_weight=0.3
        )
        for a in (False, True)
        for r in (1.0, 10.0)
    )
    assert set(metrics["accuracy"]) == {90.0, 50.0, 10.0}
    keys = ["imbalance", "adversarial", "method", "seed", "weight_ratio"]
    summaries = pd.concat(
        summarise(own).reset_index().assign(**dict(zip(keys, key, strict=True))) for key, own in metrics.groupby(keys)
    )
    adversarial = metrics[metrics["adversarial"]]
    said = [
        plots.class_accuracy(metrics).alt,
        plots.against_ratio(metrics, mark=10.0).alt,
        plots.method_bars(summaries).alt,
        plots.method_dots(summaries).alt,
        plots.class_method(metrics).alt,
        plots.setting_curves(summaries, "weight_ratio", 10.0, "ratio").alt,
        panels.separation(adversarial, {0.3: {"probe_accuracy": 50.0, "variance_ratio": 1.0}}, 0.3, *PLANE, "PCA").alt,
    ]
    for alt in said:
        assert "10" in alt.replace("step-10", "") and "50" not in alt.replace("probe 50", "") and "30" not in alt, alt
    table = tables.in_layout(summaries, "step")
    assert table.loc["CE"].tolist() == [90, 90, 10, 10]
    assert {float(curve["mean"].iloc[0]) for curve in panels.curves_of(metrics).values()} == {90, 10}


PLANE = np.zeros((4, 2)), ImageDataset(np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 0, 0, 1]), ("3", "8"), "pair")


def test_a_second_protocol_stands_beside_the_first_in_every_picture():
    by_kind = {"clean": 90.0, "robust": 50.0, "strong": 10.0}
    rows = [
        ("3" if group == "well" else "8", group, 100, kind, f"{kind}@0.2", value, 100)
        for kind, value in by_kind.items()
        for group in ("well", "under")
    ]
    metrics = pd.DataFrame(rows, columns=["class", "group", "images", "kind", "attack", "accuracy", "predicted"])
    metrics = pd.concat(
        metrics.assign(adversarial=a, method="CE", imbalance="step-10", seed=0, weight_ratio=r, separation_weight=0.3)
        for a in (False, True)
        for r in (1.0, 10.0)
    )
    keys = ["imbalance", "adversarial", "method", "seed", "weight_ratio"]
    summaries = pd.concat(
        summarise(own).reset_index().assign(**dict(zip(keys, key, strict=True))) for key, own in metrics.groupby(keys)
    )
    adversarial = metrics[metrics["adversarial"]]
    for alt in (
        plots.class_accuracy(metrics).alt,
        plots.against_ratio(metrics, mark=10.0).alt,
        plots.method_bars(summaries).alt,
        plots.method_dots(summaries).alt,
        plots.setting_curves(summaries, "weight_ratio", 10.0, "ratio").alt,
        panels.separation(adversarial, {0.3: {"probe_accuracy": 30.0, "variance_ratio": 1.0}}, 0.3, *PLANE, "PCA").alt,
        panels.ratio_explorer(panels.curves_of(metrics), panels.curves_of(metrics), 10.0).alt,
    ):
        assert all(said in alt for said in ("90", "50", "10")), alt
    assert (
        "STRONG" in plots.class_method(metrics, kind="strong").alt
        and ": CE 10" in plots.class_method(metrics, kind="strong").alt
    )


@pytest.mark.parametrize("classes", [CIFAR10_CLASSES, tuple("0123456789"), ("a class with a very long name", "b")])
@pytest.mark.parametrize("panels", [1, 2, 3])
def test_a_legend_of_classes_stays_inside_its_picture(classes, panels):
    points, labels = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % len(classes)
    under = np.arange(len(classes)) >= len(classes) // 2
    figure = plots.embeddings({str(n): (points, labels) for n in range(panels)}, classes, under).figure
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1


def test_a_ratio_may_be_a_fraction_and_a_set_without_rare_classes_has_a_dash():
    rows = SUMMARIES.assign(imbalance=SUMMARIES["imbalance"].replace("step-25", "step-2.5"))
    rows.loc[rows["imbalance"] == "step-2.5", "under"] = np.nan
    table = tables.in_layout(rows, "step")
    assert list(dict.fromkeys(table.columns.get_level_values(0))) == [10, 2.5]
    text = tables.marked(table)
    assert set(text[2.5, "Standard", "Under"]) == {"–"} and "–" not in set(text[10, "Standard", "Under"])
    with pytest.raises(ValueError, match="no exp set"):
        tables.in_layout(rows[rows["imbalance"] != "exp-10"], "exp")


def test_a_run_that_was_tested_otherwise_is_not_in_the_papers_setting():
    own = Config.paper("cifar10", "exp-100", "CE")
    assert tables.in_papers_setting(own.replace(seed=3, epochs=40))
    assert not tables.in_papers_setting(own.replace(evaluation_steps=1))
    assert not tables.in_papers_setting(own.replace(test_per_class=10))


def test_adversarial_runs_alone_have_their_pictures():
    rows = pd.DataFrame(
        [
            {"class": name, "group": group, "images": 10, "kind": kind, "attack": attack, "accuracy": 50.0,
             "adversarial": True, "weight_ratio": ratio, "seed": 0}
            for name, group in (("a", "well"), ("b", "under"))
            for kind, attack in (("clean", "clean"), ("robust", "pgd-20@0.2"))
            for ratio in (1.0, 10.0)
        ]
    )  # fmt: skip
    assert len(plots.against_ratio(rows).figure.axes) == 2
    assert {panel for panel, _ in panels.curves_of(rows)} == {name for way, kind, name in plots.PANELS[1:3]}


def test_words_are_set_to_the_left_and_are_the_same_each_time():
    rows = pd.DataFrame({"loss": ["CE", "LDAM with margins"]}, index=["a", "b"])
    table = tables.in_full(rows, words=True)
    assert table == tables.in_full(rows, words=True) and table.html.count('<td style="text-align: left">') == 2
    assert "text-align: left" not in tables.in_full(rows).html
