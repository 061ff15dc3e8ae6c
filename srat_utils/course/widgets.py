"""Parts that a reader moves: precomputed pictures, a live chart, a prediction card, a point trained on the spot.

Each is shown with `display`, together with what stands in its place on a page without widgets (GitHub, an untrusted notebook).
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import ipywidgets
from IPython.display import display

from ..config import Config
from ..runs import Run
from ..trainer import train
from ..training import State
from . import panels
from .plots import Picture
from .svg import Drawing

Shown = Picture | Drawing


# --- pictures made beforehand


def frames(pictures: Mapping[object, Shown], *, label: str | Sequence[str], start: object = None) -> None:
    """Controls over pictures made beforehand, one for each value that was really run.

    pictures: value → picture, in the slider's order.  With several labels there is a control for
    each, and a value is a tuple with a part for each; every combination must be there (else ValueError).  Of several
    controls, one with two words to choose from is a pair of buttons.  start: the value shown first; None for the first.
    Controls and pictures are linked in the browser, so that they work without a kernel; where no widget can be shown the
    picture of `start` stands in their place.
    """
    several = not isinstance(label, str)
    labels = list(label) if several else [label]
    shown = dict(pictures) if several else {(value,): picture for value, picture in pictures.items()}
    first = next(iter(shown)) if start is None else (start if several else (start,))
    choices = [list(dict.fromkeys(values)) for values in zip(*shown, strict=True)]
    if missing := [value for value in itertools.product(*choices) if value not in shown]:
        raise ValueError(f"no picture for {missing[0]}: every combination of {', '.join(labels)} must have been run")
    images = {value: picture.html() for value, picture in shown.items()}
    controls = [
        control(name, values, values.index(chosen), buttons=several)
        for name, values, chosen in zip(labels, choices, first, strict=True)
    ]

    def stack(chosen: tuple = ()) -> ipywidgets.Widget:
        """The pictures whose value begins with `chosen`, switched by the controls that follow."""
        if len(chosen) == len(choices):
            return ipywidgets.HTML(images[chosen])
        values = choices[len(chosen)]
        return switched(controls[len(chosen)], [stack((*chosen, value)) for value in values])

    box = ipywidgets.VBox([*(row for row, _ in controls), stack()])
    with_still(box, *shown[first]._repr_mimebundle_())


Control = tuple[ipywidgets.Widget, tuple[ipywidgets.Widget, str] | None]


def control(label: str, values: Sequence, position: int, *, buttons: bool) -> Control:
    """What a reader sees, and the widget and trait that hold the position among the values; None where there is no choice."""
    wide = {"description_width": "initial"}
    words = [format_value(value) for value in values]
    if len(values) == 1:
        return ipywidgets.HTML(f"{escape(label)} <b>{escape(words[0])}</b>"), None
    if buttons and len(values) == 2 and all(isinstance(value, str) for value in values):
        pair = ipywidgets.ToggleButtons(options=words, index=position, description=label, style=wide)
        return pair, (pair, "index")
    slider = ipywidgets.IntSlider(
        position, 0, len(values) - 1, description=label, readout=False, style=wide, layout=narrowing("32em")
    )
    readout = switched((slider, (slider, "value")), [ipywidgets.HTML(f"<b>{escape(word)}</b>") for word in words])
    readout.layout.flex = "0 0 auto"  # on a narrow page the slider gives way
    return ipywidgets.HBox([slider, readout]), (slider, "value")


def switched(control: Control, children: Sequence[ipywidgets.Widget]) -> ipywidgets.Widget:
    """The child at the control's position, changed in the browser."""
    source = control[1]
    if source is None:
        return children[0]
    stack = ipywidgets.Stack(children, selected_index=getattr(*source))
    ipywidgets.jslink(source, (stack, "selected_index"))
    return stack


# --- charts drawn live


def live(draw: Callable[..., Shown], **controls: ipywidgets.Widget) -> None:
    """Controls above a chart that `draw(**values)` makes anew whenever one of them moves.

    An error in the first `draw` is raised; a later one stands in the place of the chart.  Where no widget can be shown, the first
    chart is.
    """
    chart = draw(**values(controls))
    box = ipywidgets.VBox([*map(in_line, controls.values()), following(draw, controls)[0]])
    with_still(box, *chart._repr_mimebundle_())


def following(
    draw: Callable[..., Shown], controls: Mapping[str, ipywidgets.Widget]
) -> tuple[ipywidgets.HTML, Callable[[], None]]:
    """A panel that follows the controls, and the function that draws it anew."""
    panel = ipywidgets.HTML()

    def redraw(_change=None) -> None:
        try:
            panel.value = draw(**values(controls)).html()
        except Exception as error:  # shown to the reader: an exception in a callback would vanish
            panel.value = f"<pre>{escape(one_line(error))}</pre>"

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return panel, redraw


def values(controls: Mapping[str, ipywidgets.Widget]) -> dict[str, object]:
    return {name: control.value for name, control in controls.items()}


def in_line(control: ipywidgets.Widget) -> ipywidgets.Widget:
    control.style.description_width = "13em"
    control.layout = narrowing("36em")
    return control


def narrowing(width: str) -> dict[str, str]:
    """So wide, or as wide as the page."""
    return {"width": "100%", "max_width": width}


def slider(low: float, high: float, start: float, label: str) -> ipywidgets.FloatSlider:
    return ipywidgets.FloatSlider(start, min=low, max=high, step=0.05, description=label)


def log_slider(high: float, start: float, label: str) -> ipywidgets.FloatLogSlider:
    """From 1 to `high`, in equal ratios."""
    return ipywidgets.FloatLogSlider(
        start, min=0, max=math.log10(high), step=0.05, description=label, readout_format=".3g"
    )


def choice(options: Sequence[object], start: object, label: str) -> ipywidgets.ToggleButtons:
    return ipywidgets.ToggleButtons(options=options, value=start, description=label)


# --- prediction cards


def predict(question: str, answer: float, low: float, high: float, *, unit: str = "%") -> None:
    """A card: the reader guesses a number on a slider, then presses Reveal and sees it beside the measured answer.

    answer: a number that was just measured.  ValueError where it is none, or where low is not below high.
    Where no widget can be shown the answer is folded below the question.
    """
    if not (math.isfinite(answer) and low < high):
        raise ValueError(f"a prediction needs a measured answer and low < high, not {answer}, {low}, {high}")
    label = f"your guess ({unit})" if unit else "your guess"
    if high - low >= 20:
        guess = ipywidgets.IntSlider(round((low + high) / 2), low, high, description=label)
    else:
        guess = ipywidgets.FloatSlider((low + high) / 2, min=low, max=high, step=(high - low) / 100, description=label)

    def draw(guess: float, revealed: bool) -> Shown:
        return panels.prediction(guess, answer, low, high, unit, revealed)

    card(question, draw, guess, f"Measured: {panels.quantity(answer, unit)}.")


def choose(question: str, answer: str, choices: Sequence[str], measured: str = "") -> None:
    """A card as of `predict`, with words to choose from.  measured: a sentence with the numbers behind the answer.

    ValueError where the answer is none of the choices.
    """
    if answer not in choices:
        raise ValueError(f"the answer {answer!r} is none of the choices {', '.join(choices)}")
    guess = ipywidgets.ToggleButtons(options=list(choices), description="your guess", style={"button_width": "auto"})

    def draw(guess: str, revealed: bool) -> Shown:
        return panels.choice(guess, answer, choices, revealed, measured)

    card(question, draw, guess, f"Measured: {answer}. {measured}".strip())


def card(question: str, draw: Callable[[object, bool], Shown], guess: ipywidgets.Widget, revealed: str) -> None:
    button = ipywidgets.ToggleButton(description="Reveal", tooltip="show the measured answer beside your guess")

    def label(change) -> None:
        button.description = "Hide the answer" if change["new"] else "Reveal"

    button.observe(label, names="value")
    heading = ipywidgets.HTML(f"<b>Predict.</b> {escape(question)}")
    panel, _ = following(draw, {"guess": guess, "revealed": button})
    in_line(guess).style.description_width = "initial"
    controls = ipywidgets.HBox([guess, button], layout={"flex_flow": "row wrap"})
    box = ipywidgets.VBox([heading, controls, panel])
    words = {
        "text/html": f"<details><summary><b>Predict.</b> {escape(question)}</summary><p>{escape(revealed)}</p></details>",
        "text/plain": f"{question} {revealed}",
    }
    with_still(box, words, {})


# --- training on the spot


def train_live(
    configs: Callable[..., Sequence[Config]],
    draw: Callable[..., Shown],
    *,
    store: Path | None = None,
    **controls: ipywidgets.Widget,
) -> None:
    """Controls, a button that trains what they say, a bar, and a chart that shows what came out.

    configs(**values): the runs to train, one after the other, in a thread of their own, so that everything else answers.
    draw(runs, **values): the chart; `runs` are those trained here so far, none at first.
    Stop ends training after the epoch at hand; Train then goes on from there.  An error stands in one line beside the bar.
    Where no widget can be shown, the chart without runs is.
    """
    chart = draw([], **values(controls))
    with_still(LiveTraining(configs, draw, controls, store).box, *chart._repr_mimebundle_())


class Stopped(Exception):
    """The reader pressed Stop."""


class LiveTraining:
    """The state behind `train_live`: what is trained now, what has been, and the widgets that say so."""

    def __init__(self, configs, draw, controls: Mapping[str, ipywidgets.Widget], store: Path | None):
        self.configs, self.draw, self.controls, self.store = configs, draw, controls, store
        self.runs: dict[str, Run] = {}
        self.stopping = threading.Event()
        self.train = ipywidgets.Button(description="Train", tooltip="train what the controls say, on this machine")
        self.stop = ipywidgets.Button(description="Stop", tooltip="stop after this epoch", disabled=True)
        self.bar = ipywidgets.FloatProgress(0, min=0, max=1, layout={"width": "16em"})
        self.status = ipywidgets.HTML()
        self.panel, self.redraw = following(lambda **now: draw(list(self.runs.values()), **now), controls)
        self.train.on_click(self.start)
        self.stop.on_click(lambda _button: self.stopping.set())
        buttons = ipywidgets.HBox([self.train, self.stop, self.bar])
        self.box = ipywidgets.VBox([*map(in_line, controls.values()), buttons, self.status, self.panel])
        self.say("Nothing is trained yet: choose, then press Train.")

    def say(self, words: str) -> None:
        self.status.value = f'<span role="status">{escape(words)}</span>'

    def start(self, _button=None) -> None:
        self.train.disabled, self.stop.disabled = True, False
        self.stopping.clear()
        threading.Thread(target=self.work, args=[values(self.controls)], daemon=True).start()

    def work(self, chosen: dict[str, object]) -> None:
        try:
            configs = list(self.configs(**chosen))
            started = time.monotonic()
            for number, config in enumerate(configs):
                self.progress(number, len(configs), 0, config.epochs)
                watch = self.watch(number, len(configs), config)
                run = train(config, store=self.store, progress=False, wait=False, after_epoch=watch)
                self.runs[config.name] = run
            self.bar.value = 1
            self.say(f"Done: {len(configs)} run(s) in {time.monotonic() - started:.0f} s, kept on disk.")
        except Stopped:
            self.say(f"Stopped at {self.place}; press Train to go on from there.")
        except Exception as error:  # told to the reader: in a thread it would vanish
            self.say(one_line(error))
        finally:
            self.redraw()
            self.train.disabled, self.stop.disabled = False, True

    def watch(self, number: int, total: int, config: Config) -> Callable[[State], None]:
        def after_epoch(state: State) -> None:
            self.progress(number, total, len(state.history), config.epochs)
            if self.stopping.is_set():
                raise Stopped

        return after_epoch

    def progress(self, number: int, total: int, epoch: int, epochs: int) -> None:
        self.place = f"epoch {epoch} of {epochs} of run {number + 1} of {total}"
        self.bar.value = (number + epoch / epochs) / total
        self.say(f"Training: {self.place}.")
        if epoch == 0 and self.stopping.is_set():
            raise Stopped


# --- what all of them share


def with_still(box: ipywidgets.Widget, instead: dict, metadata: dict) -> None:
    """Display the box and, where no widget can be shown, what stands in its place."""
    display(box._repr_mimebundle_() | instead, raw=True, metadata=metadata)


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def format_value(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
