"""Sliders that answer at once: frames drawn beforehand and switched in the browser, or a small chart drawn live."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from html import escape

import ipywidgets
from IPython.display import display

from .plots import Picture, png
from .svg import Chart


def frames(pictures: Mapping[object, Picture], *, label: str, start: object = None) -> None:
    """A slider over pictures made beforehand, one for each value that was really run.

    pictures: value → (figure, alt text), in the slider's order.  start: the value shown first; None for the first.
    The slider and the pictures are linked in the browser, so that it works without a kernel; where no widget can be shown
    (GitHub, an untrusted notebook) the picture of `start` stands in its place.
    """
    values = list(pictures)
    position = values.index(start) if start is not None else 0
    images = {value: png(figure) for value, (figure, _) in pictures.items()}
    slider = ipywidgets.IntSlider(
        position, 0, len(values) - 1, description=label, readout=False,
        style={"description_width": "initial"}, layout={"width": "32em"},
    )  # fmt: skip
    stacks = [
        ipywidgets.Stack(
            [ipywidgets.HTML(f"<b>{escape(format_value(value))}</b>") for value in values], selected_index=position
        ),
        ipywidgets.Stack(
            [picture_html(images[value], pictures[value][1]) for value in values], selected_index=position
        ),
    ]
    for stack in stacks:
        ipywidgets.jslink((slider, "value"), (stack, "selected_index"))
    box = ipywidgets.VBox([ipywidgets.HBox([slider, stacks[0]]), stacks[1]])
    alt = pictures[values[position]][1]
    still = {"image/png": images[values[position]], "text/plain": alt}
    display(box._repr_mimebundle_() | still, raw=True, metadata={"image/png": {"alt": alt}})


def live(draw: Callable[..., Chart], **controls: ipywidgets.Widget) -> None:
    """Controls above a chart that `draw(**values)` makes anew whenever one of them moves.

    An error in `draw` stands in the place of the chart.  Where no widget can be shown, the first chart is.
    """
    chart = draw(**{name: control.value for name, control in controls.items()})
    panel = ipywidgets.HTML(str(chart))

    def redraw(_change) -> None:
        try:
            panel.value = str(draw(**{name: control.value for name, control in controls.items()}))
        except Exception as error:  # shown to the reader: an exception in a callback would vanish
            panel.value = f"<pre>{escape(type(error).__name__)}: {escape(str(error))}</pre>"

    for control in controls.values():
        control.style.description_width = "13em"
        control.layout.width = "36em"
        control.observe(redraw, names="value")
    box = ipywidgets.VBox([*controls.values(), panel])
    still = {"image/svg+xml": str(chart), "text/plain": chart.alt}
    display(box._repr_mimebundle_() | still, raw=True, metadata={"image/svg+xml": {"alt": chart.alt}})


def slider(low: float, high: float, start: float, label: str) -> ipywidgets.FloatSlider:
    return ipywidgets.FloatSlider(start, min=low, max=high, step=0.05, description=label)


def log_slider(high: float, start: float, label: str) -> ipywidgets.FloatLogSlider:
    """From 1 to `high`, in equal ratios."""
    return ipywidgets.FloatLogSlider(
        start, min=0, max=math.log10(high), step=0.05, description=label, readout_format=".3g"
    )


def picture_html(picture: bytes, alt: str) -> ipywidgets.HTML:
    source = base64.b64encode(picture).decode()
    return ipywidgets.HTML(f'<img src="data:image/png;base64,{source}" alt="{escape(alt)}" style="max-width:100%">')


def format_value(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
