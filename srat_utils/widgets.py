"""Sliders that answer at once: frames that were drawn beforehand, switched in the browser."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape

import ipywidgets
from IPython.display import display

from .plots import Picture, png


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


def picture_html(picture: bytes, alt: str) -> ipywidgets.HTML:
    source = base64.b64encode(picture).decode()
    return ipywidgets.HTML(f'<img src="data:image/png;base64,{source}" alt="{escape(alt)}" style="max-width:100%">')


def format_value(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
