"""Sliders: what they show, what they leave behind for a page without widgets, and how long a redraw takes."""

import io
import re
import threading
import time
import xml.etree.ElementTree as ElementTree

import ipywidgets
import numpy as np
import pandas as pd
import pytest
from ipywidgets.widgets.widget import _instances as every_widget
from matplotlib import colors as mcolors
from matplotlib.figure import Figure
from PIL import Image

from srat_utils import Config, trainer
from srat_utils.course import panels, plots, widgets
from srat_utils.course.svg import Chart, Panels, rasterised
from srat_utils.images import ImageDataset

KINDS = (("clean", "clean"), ("robust", "pgd-20@0.2"))
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def shown(monkeypatch):
    """What was displayed: the data, its metadata, and the widget of the view."""
    calls = []
    monkeypatch.setattr(widgets, "display", lambda data, raw, metadata: calls.append((data, metadata)))
    return calls


def picture(label):
    figure = Figure(figsize=(1, 1))
    figure.text(0.5, 0.5, label)
    return plots.Picture(figure, f"a picture of {label}")


def is_png(data):
    return Image.open(io.BytesIO(data)).format == "PNG"


def widget_of(data):
    return every_widget[data[VIEW]["model_id"]]


def test_frames_show_the_start_and_leave_its_picture_for_a_page_without_widgets(shown):
    widgets.frames({1: picture("one"), 10.0: picture("ten"), "many": picture("many")}, label="ρ", start=10.0)
    (data, metadata) = shown[0]
    assert data["image/png"].startswith(b"\x89PNG") and data["text/plain"] == "a picture of ten"
    assert metadata["image/png"]["alt"] == "a picture of ten" and 'alt="a picture of ten"' in data["text/html"]
    (slider, value), stack = widget_of(data).children[0].children, widget_of(data).children[1]
    assert (slider.min, slider.max, slider.value, stack.selected_index) == (0, 2, 1, 1)
    assert [child.value for child in value.children] == ["<b>1</b>", "<b>10</b>", "<b>many</b>"]
    assert 'alt="a picture of many"' in stack.children[2].value


def test_the_slider_is_linked_in_the_browser_so_that_no_kernel_is_needed(shown):
    before = set(every_widget)
    widgets.frames({1: picture("one"), 2: picture("two")}, label="ρ")
    links = [
        w
        for name, w in every_widget.items()
        if name not in before and isinstance(w, ipywidgets.widgets.widget_link.Link)
    ]
    assert {(link.source[1], link.target[1]) for link in links} == {("value", "selected_index")} and len(links) == 2


def draw(a, flag):
    if a > 5:
        raise ValueError("a < 5 is needed")
    return Chart((0, 1), (0, 1), alt=f"a is {a}, {flag}")


def test_a_live_panel_is_drawn_anew_and_shows_an_error_in_its_place(shown):
    a, flag = ipywidgets.IntSlider(1), ipywidgets.Checkbox(False)
    widgets.live(draw, a=a, flag=flag)
    (data, _) = shown[0]
    panel = widget_of(data).children[-1]
    assert "a is 1, False" in panel.value and data["text/plain"] == "a is 1, False" and is_png(data["image/png"])
    a.value, flag.value = 2, True
    assert "a is 2, True" in panel.value
    a.value = 7
    assert "ValueError: a &lt; 5 is needed" in panel.value
    a.value = 3
    assert "a is 3, True" in panel.value


def test_a_first_drawing_that_fails_stops_the_cell(shown):
    with pytest.raises(ValueError, match="a < 5"):
        widgets.live(draw, a=ipywidgets.IntSlider(9), flag=ipywidgets.Checkbox())


# Pictures with several controls


def links_of(widget):
    """(source widget, trait) of each link in the browser that sets this widget's picture."""
    return [
        link.source
        for link in every_widget.values()
        if isinstance(link, ipywidgets.widgets.widget_link.Link) and link.target[0] is widget
    ]


def visible(stack):
    """The picture that a nest of stacks shows."""
    while isinstance(stack, ipywidgets.Stack):
        stack = stack.children[stack.selected_index]
    return stack.value


def test_two_controls_choose_among_all_combinations_without_a_kernel(shown):
    chart = {
        (kind, x): Chart((0, 1), (0, 1), alt=f"{kind} at {x}") for kind in ("t-SNE", "PCA") for x in (0.0, 0.5, 2.0)
    }
    widgets.frames(chart, label=("method", "λ"), start=("PCA", 0.5))
    (data, metadata) = shown[0]
    pair, row, outer = widget_of(data).children
    slider = row.children[0]
    assert isinstance(pair, ipywidgets.ToggleButtons) and pair.value == "PCA"
    assert data["text/plain"] == metadata["image/png"]["alt"] == "PCA at 0.5" and is_png(data["image/png"])
    assert "PCA at 0.5" in visible(outer)
    assert links_of(outer) == [(pair, "index")]
    assert [links_of(inner) for inner in outer.children] == [[(slider, "value")]] * 2
    # What the browser does with the links, for every combination.
    for i, kind in enumerate(("t-SNE", "PCA")):
        for j, x in enumerate((0.0, 0.5, 2.0)):
            outer.selected_index, outer.children[i].selected_index = i, j
            assert f"{kind} at {x:g}" in visible(outer)


def test_a_combination_that_was_never_run_is_an_error(shown):
    chart = Chart((0, 1), (0, 1))
    with pytest.raises(ValueError, match=r"no picture for \('b', 2\): every combination of kind, λ must have been run"):
        widgets.frames({("a", 1): chart, ("a", 2): chart, ("b", 1): chart}, label=("kind", "λ"))
    assert not shown


def test_a_single_value_needs_no_slider(shown):
    widgets.frames({"only": picture("it")}, label="pair")
    words, panel = widget_of(shown[0][0]).children
    assert isinstance(words, ipywidgets.HTML) and "only" in words.value and "a picture of it" in panel.value


# Prediction cards


def parts_of(data):
    """guess, reveal, picture of a card"""
    _, row, panel = widget_of(data).children
    return *row.children, panel


def test_a_guess_stands_alone_until_it_is_revealed_beside_the_measured_answer(shown):
    widgets.predict("How many survive?", 2.83, 0, 100)
    guess, button, panel = parts_of(shown[0][0])
    guess.value = 40
    assert "Your guess: 40 %." in panel.value and "2.8" not in panel.value and button.description == "Reveal"
    button.value = True
    assert (
        "Measured: 2.8 %. Your guess was 37.2 points too high." in panel.value
        and button.description == "Hide the answer"
    )
    guess.value = 0
    assert "Your guess was 2.8 points too low." in panel.value
    button.value = False
    assert "2.8" not in panel.value
    ElementTree.fromstring(panel.value)


def test_a_page_without_widgets_shows_the_answer(shown):
    widgets.predict("More than <one>?", 1234.5, 0, 2000, unit="ms")
    (data, _) = shown[0]
    assert data["text/plain"] == "More than <one>? Measured: 1.23e+03 ms."
    summary = "<summary><b>Predict.</b> More than &lt;one&gt;?</summary>"
    assert data["text/html"] == f"<details>{summary}<p>Measured: 1.23e+03 ms.</p></details>"


@pytest.mark.parametrize("answer", [-20.0, 0.0, 0.5, 1.0, 7.0])
def test_an_answer_outside_the_scale_is_drawn_inside_the_picture(answer, shown):
    widgets.predict("?", answer, 0, 1, unit="")
    guess, button, panel = parts_of(shown[0][0])
    assert isinstance(guess, ipywidgets.FloatSlider)
    button.value = True
    width = int(re.search(r'width="(\d+)"', panel.value)[1])
    across = [
        float(x) for points in re.findall(r'points="([^"]*)"', panel.value) for x in re.findall(r"([-\d.]+),", points)
    ]
    assert across and min(across) >= 0 and max(across) <= width


def test_a_right_guess_is_called_right():
    assert panels.prediction(73, 72.96, 0, 100, "%", True).alt.endswith("You were right.")
    assert panels.prediction(73, 73.0, 0, 100, "%", True).alt.endswith("You were right.")


@pytest.mark.parametrize(("answer", "low", "high"), [(float("nan"), 0, 1), (float("inf"), 0, 1), (1, 2, 2), (1, 3, 2)])
def test_a_card_without_a_measured_answer_or_a_scale_is_an_error(answer, low, high):
    with pytest.raises(ValueError, match="measured answer and low < high"):
        widgets.predict("?", answer, low, high)


def test_a_choice_is_revealed_in_words(shown):
    widgets.choose("More or fewer?", "more", ["fewer", "more"], measured="47 % against 3 %.")
    (data, _) = shown[0]
    guess, button, panel = parts_of(data)
    assert "47" not in panel.value
    button.value = True
    assert "Your guess: fewer. It is: more. 47 % against 3 %." in panel.value
    guess.value = "more"
    assert "That is right. 47 % against 3 %." in panel.value
    assert data["text/plain"] == "More or fewer? Measured: more. 47 % against 3 %."
    with pytest.raises(ValueError, match="'most' is none of the choices fewer, more"):
        widgets.choose("?", "most", ["fewer", "more"])


# Training on the spot


def tiny(epochs, **changes):
    return Config(
        imbalance="step-5", max_per_class=15, test_per_class=5, epochs=epochs, batch_size=64, attack_steps=2,
        evaluation_steps=2, method="CB-Reweight", **changes,
    )  # fmt: skip


@pytest.fixture
def training(shown, tmp_path):
    """Starts a live training and hands back its parts."""

    class Parts:
        def __init__(self, configs, draw=lambda runs, rho: Chart((0, 1), (0, 1), alt=f"{len(runs)} run(s), ρ {rho}")):
            self.rho = ipywidgets.IntSlider(2, 1, 9)
            widgets.train_live(configs, draw, store=tmp_path, rho=self.rho)
            _, buttons, self.status, self.panel = widget_of(shown[-1][0]).children
            self.train, self.stop, self.bar = buttons.children

        def wait_until(self, happened):
            for _ in range(24_000):
                if happened():
                    return
                time.sleep(0.005)
            pytest.fail(self.status.value)

        def press_train(self):
            self.train.click()
            self.wait_until(lambda: not self.train.disabled)

    return Parts


def test_a_page_without_widgets_shows_the_chart_before_training(training, shown):
    training(lambda rho: [])
    assert shown[0][0]["text/plain"] == "0 run(s), ρ 2" and is_png(shown[0][0]["image/png"])


def test_train_trains_what_the_controls_say_and_draws_it(training, tmp_path):
    parts = training(lambda rho: [tiny(2, weight_ratio=rho), tiny(1, weight_ratio=rho)])
    parts.rho.value = 3
    assert "ρ 3" in parts.panel.value and parts.stop.disabled
    parts.press_train()
    assert "2 run(s), ρ 3" in parts.panel.value and "Done: 2 run(s)" in parts.status.value
    assert parts.bar.value == 1 and parts.stop.disabled
    assert (tmp_path / tiny(2, weight_ratio=3).name / "provenance.json").exists()
    parts.rho.value = 5
    assert "2 run(s), ρ 5" in parts.panel.value
    parts.press_train()
    assert "4 run(s), ρ 5" in parts.panel.value
    parts.press_train()  # all are there already
    assert "4 run(s), ρ 5" in parts.panel.value


def test_the_thread_leaves_the_controls_free(training):
    parts = training(lambda rho: [tiny(300, weight_ratio=rho)])
    parts.train.click()
    assert parts.train.disabled and not parts.stop.disabled
    parts.rho.value = 7
    assert "0 run(s), ρ 7" in parts.panel.value
    parts.stop.click()
    parts.wait_until(lambda: not parts.train.disabled)


def test_stop_keeps_what_was_trained_and_train_goes_on_from_there(training, tmp_path):
    parts = training(lambda rho: [tiny(40, weight_ratio=rho)])
    parts.train.click()
    parts.wait_until(lambda: parts.bar.value > 0)
    parts.stop.click()
    parts.wait_until(lambda: not parts.train.disabled)
    stopped = int(re.search(r"Stopped at epoch (\d+) of 40 of run 1 of 1; press Train to go on", parts.status.value)[1])
    assert 1 <= stopped < 40 and parts.stop.disabled and "0 run(s)" in parts.panel.value
    reached = []
    parts.bar.observe(lambda change: reached.append(change["new"]), names="value")
    parts.press_train()
    assert min(share for share in reached if share > 0) > stopped / 40 and "1 run(s)" in parts.panel.value
    straight = trainer.train(tiny(40, weight_ratio=2), store=tmp_path / "straight", progress=False)
    resumed = trainer.train(tiny(40, weight_ratio=2), store=tmp_path, progress=False)
    assert len(resumed.history) == 40
    pd.testing.assert_series_equal(resumed.history["loss"], straight.history["loss"])


def test_stop_between_two_runs_leaves_the_second_untrained(training):
    parts = training(lambda rho: [tiny(1, weight_ratio=rho), tiny(200, weight_ratio=rho)])
    parts.train.click()
    parts.stop.click()
    parts.wait_until(lambda: not parts.train.disabled)
    assert "Stopped" in parts.status.value and "2 run(s)" not in parts.panel.value


@pytest.mark.parametrize(
    ("configs", "said"),
    [
        (lambda rho: [tiny(1, weight_ratio=-rho)], "ConfigError: weight_ratio must be above 0, not -2.0"),
        (lambda rho: [tiny(1, learning_rate=1e30, weight_ratio=rho)], "TrainingError: the loss became nan in epoch"),
        (lambda rho: [tiny(1).replace(imbalance="step-99")], "DataError: step-99: class"),
        (lambda rho: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_stands_in_one_line_and_the_button_can_be_pressed_again(training, configs, said):
    parts = training(configs)
    parts.press_train()
    assert said.replace("'", "&#x27;") in parts.status.value and parts.status.value.count("\n") == 0
    assert parts.stop.disabled and "0 run(s)" in parts.panel.value
    parts.press_train()
    assert said.replace("'", "&#x27;") in parts.status.value


def test_a_run_that_another_process_trains_is_said_to_be_so(training, tmp_path):
    config = tiny(1, weight_ratio=2)
    (tmp_path / config.name).mkdir()
    from filelock import FileLock

    held = threading.Event()
    release = threading.Event()

    def hold():
        with FileLock(tmp_path / config.name / ".lock"):
            held.set()
            release.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    parts = training(lambda rho: [config])
    parts.press_train()
    assert "RunError: another process is training" in parts.status.value
    release.set()
    holder.join()
    parts.press_train()
    assert "Done" in parts.status.value


def test_an_error_in_the_chart_stands_in_its_place(training):
    def draw(runs, rho):
        if runs:
            raise ValueError("cannot be drawn")
        return Chart((0, 1), (0, 1), alt="empty")

    parts = training(lambda rho: [tiny(1, weight_ratio=rho)], draw)
    parts.press_train()
    assert "ValueError: cannot be drawn" in parts.panel.value and "Done" in parts.status.value


# What the panels draw


def ratio_metrics(ratios=(1.0, 10.0, 200.0), seeds=(0, 1)):
    """The accuracy of every row is told by its ratio, seed and group."""
    return pd.DataFrame(
        {
            "adversarial": adversarial, "weight_ratio": ratio, "seed": seed, "kind": kind, "attack": attack, "group": group,
            "accuracy": (20 if group == "under" else 90) + seed,
        }
        for adversarial in (False, True) for ratio in ratios for seed in seeds
        for kind, attack in KINDS for group in ("well", "under")
    )  # fmt: skip


def test_ratio_curves_are_means_and_ranges_over_seeds():
    curves = panels.curves_of(ratio_metrics())
    table = curves["adversarial training,\nunder PGD-20", "under"]
    assert table.index.tolist() == [1, 10, 200] and table.loc[10].tolist() == [20.5, 20, 21]
    assert len(curves) == 6


def test_the_readers_point_is_drawn_as_a_diamond_and_told(shown):
    curves, yours = panels.curves_of(ratio_metrics()), panels.curves_of(ratio_metrics((30.0,), (0,)))
    without, with_point = panels.ratio_explorer(curves, {}, 5.0), panels.ratio_explorer(curves, yours, 5.0)
    diamond = "l9 9l-9 9l-9 -9z"
    assert without.html().count(diamond) == 1 and with_point.html().count(diamond) == 7  # one of them in the key
    assert (
        "nothing trained yet" in without.alt
        and "adversarial training, under PGD-20, under, ratio 30: 20 %" in with_point.alt
    )


def test_imbalance_shows_counts_and_weights_that_sum_to_the_classes():
    chart = panels.imbalance("step", 25, 104)
    assert "104, 104, 104, 104, 104, 4, 4, 4, 4, 4 images" in chart.alt and "25.9 times" in chart.alt
    assert "sum 10" in chart.html()
    assert "weighs 1 times" in panels.imbalance("exp", 1, 104).alt


def test_an_attack_step_says_what_each_network_reads():
    clean = np.full((1, 8, 8), 0.5)
    sure, unsure = np.eye(10)[3], np.full(10, 0.1)
    networks = {"natural": (clean + 0.2, sure), "robust": (clean, unsure)}
    chart = panels.attack_step(networks, clean, 0.2, 7, [str(i) for i in range(10)], label=0)
    assert chart.alt == "ε = 0.2, after 7 steps: natural reads 3 (100%), wrong; robust reads 0 (10%), right."
    assert chart.html().count("<image") == 4


def separation_of(values=(0.0, 1.0), images=12):
    """Two classes, the second rare; the accuracy of every row is told by λ, attack and group."""
    accuracies = pd.DataFrame(
        {
            "separation_weight": value, "seed": seed, "kind": kind, "attack": attack, "class": name, "group": group,
            "accuracy": 10 * value + 5 * (kind == "clean") + 50 * (group == "well") + seed,
        }
        for value in values for seed in (0, 2) for kind, attack in KINDS
        for name, group in (("a", "well"), ("b", "under"))
    )  # fmt: skip
    labels = np.array([0] * (images - 2) + [1] * 2)
    dataset = ImageDataset(np.zeros((images, 8, 8, 1), np.uint8), labels, ("a", "b"), "made up")
    meters = {value: {"probe_accuracy": 60 + value, "variance_ratio": 0.5 + value} for value in values}
    points = np.random.default_rng(0).normal(size=(images, 2))
    return panels.separation(accuracies, meters, values[-1], points, dataset, "PCA")


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_a_chart_shows_images_of_any_number_of_channels(channels):
    picture = np.random.default_rng(0).random((channels, 4, 4), np.float32)
    assert (
        "data:image/png" in panels.attack_step({"CE": (picture, np.array([1.0, 0]))}, picture, 0.1, 1, "ab", 0).html()
    )


def test_separation_tells_means_over_seeds_and_both_meters():
    said = "At λ = 1, PCA: well clean 66 %, well robust 61 %, under clean 16 %, under robust 11 %, linear probe 61, "
    assert separation_of().alt == said + "variance ratio 1.5."
    assert separation_of().html().count("<circle") == 10 + 4 and "nan" not in separation_of((0.0,), 3).html()


CHARTS = [
    separation_of,
    lambda: panels.prediction(0, 5, 0, 10, "%", True),
    lambda: panels.choice("a", "b", ["a", "b", "c & d"], True, "because 1 < 2"),
    lambda: panels.imbalance("exp", 100, 5000),
    lambda: panels.imbalance("step", 104, 104),
    lambda: panels.attack_step({"n": (np.zeros((3, 32, 32)), np.ones(2) / 2)}, np.ones((3, 32, 32)), 0.0, 0, ["cat", "automobile"], 1),
    lambda: panels.ratio_explorer(panels.curves_of(ratio_metrics((1.0,))), {}, 1.0),
    lambda: Panels([[Chart((0, 1), (0, 1), width=100, height=50)], [Chart((0, 1), (0, 1), width=70, height=20)] * 2], "both"),
]  # fmt: skip


@pytest.mark.parametrize("make", CHARTS)
def test_a_panel_is_valid_svg_without_missing_numbers(make):
    text = make().html()
    ElementTree.fromstring(text)
    assert not re.search(r'"[^"]*\b(nan|inf)\b', re.sub(r'href="[^"]*"', "", text))


def test_a_still_has_its_words_and_its_pixels_on_a_machine_without_fonts():
    def ink(chart):
        with Image.open(io.BytesIO(rasterised(chart))) as image:
            assert image.size == (400, 200)
            return np.asarray(image.convert("L"))

    def chart():
        return Chart((0, 1), (0, 1), width=200, height=100, axis=False)

    assert ink(chart()).min() == 255
    assert (ink(chart().text(0.1, 0.5, "ρ = 10 · ε")) < 128).sum() > 200
    assert (ink(chart().image(np.zeros((2, 2, 1), np.uint8))) < 128).mean() > 0.3


def test_panels_stand_side_by_side_in_rows():
    both = CHARTS[-1]()
    assert (both.width, both.height) == (140, 70)
    assert re.findall(r"translate\(([^)]*)\)", both.html()) == ["0 0", "0 50", "70 50"]


PANELS = [
    (panels.theory_explorer, [{"t": t, "K": K, "rho": rho, "eps": eps} for t in (0.3, 4) for K in (1, 100) for rho in (1, 100) for eps in (0, 0.9)]),
    (panels.reweighter, [{"t": t, "K": K, "rho": 3.0, "reveal": reveal} for t in (0.3, 4) for K in (1, 100) for reveal in (True, False)]),
    (panels.robust_cloud, [{"rho": rho, "eps": eps} for rho in (1, 10, 100) for eps in (0, 0.3, 0.9)]),
]  # fmt: skip


def contrast_with_white(colour: str) -> float:
    """WCAG's ratio, from relative luminance."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(mcolors.to_rgb(colour)).tolist()
    ]
    return 1.05 / (0.05 + np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize(
    "make", [*CHARTS, *(lambda panel=panel, own=settings[0]: panel(**own) for panel, settings in PANELS)]
)
def test_letters_stand_out_from_the_page(make):
    colours = set(re.findall(r'<text [^>]*fill="([^"]*)"', make().html())) - {"currentColor"}
    assert all(contrast_with_white(colour) >= 4.5 for colour in colours), colours


def test_the_contrast_is_the_one_of_wcag():
    assert contrast_with_white("#000") == pytest.approx(21) and contrast_with_white("#767676") >= 4.5
    assert contrast_with_white("#777777") < 4.5


@pytest.mark.parametrize(("panel", "settings"), PANELS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_theory_panel_draws_valid_svg_at_the_ends_of_its_sliders(panel, settings):
    for values in settings:
        text = panel(**values).html()
        ElementTree.fromstring(text)
        assert "nan" not in text.lower().replace("tan", "")


def test_a_gallery_has_every_picture_with_its_words_in_rows():
    grey, colour = np.full((5, 4, 1), 9, np.uint8), np.random.default_rng(0).random((3, 5, 4))
    drawn = panels.gallery([(grey, "nv"), (colour, "nv → mel")] * 4, "Two & two", columns=3, side=50)
    assert (drawn.width, drawn.height) == (150, 3 * 66)
    assert drawn.alt == "Two & two: " + "; ".join(["nv", "nv → mel"] * 4) + "."
    assert drawn.html().count("<image") == 8 and drawn.png().startswith(b"\x89PNG")
