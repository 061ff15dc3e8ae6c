"""A small chart as an SVG string: what a live slider draws, because a string is quicker than a figure and stays sharp."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import matplotlib
import numpy as np
import resvg_py
from PIL import Image

RIGHT, BOTTOM, TOP, TITLE = 14, 34, 12, 18  # margins; a title needs more at the top
# The colours of marks, darker where they are those of letters: 4.5 : 1 against white, as WCAG's AA asks.
LETTERS = {"#D55E00": "#B04A00", "#009E73": "#00724F"}


class Drawing:
    """Marks of a width and height; `html()` is the SVG, with `alt` as its description.  A notebook shows it as a cell's last value."""

    marks: list[str]
    width: int
    height: int
    alt: str

    def html(self) -> str:
        return document("".join(self.marks), self.width, self.height, self.alt)

    def png(self) -> bytes:
        return rasterised(self)

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        return bundle(self.png(), self.alt, width=self.width)


class Chart(Drawing):
    """Coordinates, and marks that are added one after the other."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        width: int = 680,
        height: int = 270,
        left: int = 34,
        title: str = "",
        x_label: str = "",
        alt: str = "",
        axis: bool = True,
    ):
        self.x, self.y = (ends if ends[0] != ends[1] else (ends[0] - 0.5, ends[1] + 0.5) for ends in (x, y))
        self.width, self.height, self.alt = width, height, alt
        top, bottom = TOP + TITLE * bool(title), BOTTOM if axis else 4
        self.frame = (left, top, width - left - RIGHT, height - top - bottom)
        self.marks: list[str] = []
        if axis:
            foot = top + self.frame[3]
            self.marks.append(f'<line x1="{left}" x2="{width - RIGHT}" y1="{foot}" y2="{foot}" stroke="#444"/>')
        for words, down in ((title, TITLE), (x_label, height - 4)):
            if words:
                middle = left + self.frame[2] / 2
                self.marks.append(f'<text x="{middle}" y="{down}" text-anchor="middle">{escape(words)}</text>')

    def ticks(self, values, names=None) -> Chart:
        for value, name in zip(values, names or [f"{value:g}" for value in values], strict=True):
            self.text(value, self.y[0], name, dy=14, anchor="middle")
        return self

    def y_ticks(self, values, names=None) -> Chart:
        for value, name in zip(values, names or [f"{value:g}" for value in values], strict=True):
            self.text(self.x[0], value, name, dx=-4, dy=4, anchor="end")
        return self

    def place(self, x, y) -> tuple[np.ndarray, np.ndarray]:
        left, top, width, height = self.frame
        across = left + width * (np.asarray(x, float) - self.x[0]) / (self.x[1] - self.x[0])
        down = top + height * (1 - (np.asarray(y, float) - self.y[0]) / (self.y[1] - self.y[0]))
        return np.clip(across, -1e4, 1e4), np.clip(down, -1e4, 1e4)

    def line(self, x, y, colour: str, *, dash: str = "", width: float = 2) -> Chart:
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(*self.place(x, y), strict=True))
        self.marks.append(f'<polyline points="{points}" fill="none" stroke="{colour}" {self._stroke(dash, width)}/>')
        return self

    def area(self, x, y, colour: str, *, low=None, opacity: float = 0.3) -> Chart:
        """Filled from `low`, the foot of the chart unless given, up to y."""
        x, y = np.asarray(x), np.asarray(y)
        low = np.full(len(x), self.y[0]) if low is None else np.asarray(low)
        if len(x):
            outline = (np.concatenate([x, x[::-1]]), np.concatenate([y, low[::-1]]))
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(*self.place(*outline), strict=True))
            self.marks.append(f'<polygon points="{points}" fill="{colour}" fill-opacity="{opacity}"/>')
        return self

    def bars(self, x, y, colour: str, *, filled: bool = True) -> Chart:
        """Bars from the foot of the chart, 0.8 data units wide; empty ones have a dashed outline."""
        look = f'fill="{colour}"' if filled else f'fill="#fff" stroke-dasharray="3 2" stroke="{colour}"'
        wide, foot = self.frame[2] * 0.8 / (self.x[1] - self.x[0]), self.frame[1] + self.frame[3]
        for a, b in zip(*self.place(x, y), strict=True):
            self.marks.append(
                f'<rect x="{a - wide / 2:.1f}" y="{b:.1f}" width="{wide:.1f}" height="{foot - b:.1f}" {look}/>'
            )
        return self

    def diamonds(self, x, y, colour: str) -> Chart:
        """Hollow marks, large enough to stand around a point."""
        for a, b in zip(*self.place(x, y), strict=True):
            self.marks.append(
                f'<path d="M{a:.1f} {b - 9:.1f}l9 9l-9 9l-9 -9z" fill="#fff" fill-opacity="0.6" '
                f'stroke="{colour}" stroke-width="2.5"/>'
            )
        return self

    def image(self, picture: np.ndarray) -> Chart:
        """uint8 [H,W,C] or float [C,H,W] in [0,1] over the whole frame, each pixel a sharp square.

        Of other than three channels the first.
        """
        if picture.dtype != np.uint8:
            picture = np.round(255 * picture.transpose(1, 2, 0)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(picture if picture.shape[2] == 3 else picture[..., 0]).save(buffer, "png")
        left, top, width, height = self.frame
        place = f'x="{left}" y="{top}" width="{width}" height="{height}"'
        data = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        sharp = 'preserveAspectRatio="none" style="image-rendering:pixelated"'
        self.marks.append(f'<image {place} {sharp} href="{data}"/><rect {place} fill="none" stroke="#444"/>')
        return self

    def points(self, x, y, colour: str, *, triangle: bool = False, box: tuple[float, float] | None = None) -> Chart:
        """Circles or triangles, each with a box of half-widths `box` in data units around it."""
        for a, b in zip(*self.place(x, y), strict=True):
            if box is not None and box[0] > 0:
                w, h = (
                    side * length / (hi - lo)
                    for side, length, (lo, hi) in zip(box, self.frame[2:], (self.x, self.y), strict=True)
                )
                rectangle = f'x="{a - w:.1f}" y="{b - h:.1f}" width="{2 * w:.1f}" height="{2 * h:.1f}"'
                self.marks.append(f'<rect {rectangle} fill="none" stroke="{colour}" stroke-opacity="0.3"/>')
            if triangle:
                self.marks.append(
                    f'<path d="M{a:.1f} {b - 5:.1f}l5 9h-10z" fill="{colour}" stroke="black" stroke-width="0.6"/>'
                )
            else:
                self.marks.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}" fill-opacity="0.7"/>')
        return self

    def text(self, x, y, words: str, *, colour="currentColor", dx=0, dy=0, anchor="start") -> Chart:
        across, down = self.place(x, y)
        place = f'x="{across + dx:.1f}" y="{down + dy:.1f}" text-anchor="{anchor}"'
        self.marks.append(
            f'<text {place} fill="{LETTERS.get(colour, colour)}" stroke="#fff" stroke-width="3" paint-order="stroke">{escape(words)}</text>'
        )
        return self

    @staticmethod
    def _stroke(dash: str, width: float) -> str:
        return f'stroke-width="{width}"' + (f' stroke-dasharray="{dash}"' if dash else "")


class Panels(Drawing):
    """Charts side by side in rows, as one picture."""

    def __init__(self, rows: Sequence[Sequence[Chart]], alt: str):
        self.alt, self.marks, down, widths = alt, [], 0, []
        for row in rows:
            across = 0
            for chart in row:
                self.marks.append(f'<g transform="translate({across} {down})">{"".join(chart.marks)}</g>')
                across += chart.width
            widths.append(across)
            down += max(chart.height for chart in row)
        self.width, self.height = max(widths), down


def tag(image: bytes, alt: str, **size: int) -> str:
    source = base64.b64encode(image).decode()
    sizes = "".join(f' {name}="{value}"' for name, value in size.items())
    return f'<img src="data:image/png;base64,{source}" alt="{escape(alt)}"{sizes} style="max-width:100%">'


def bundle(image: bytes, alt: str, **size: int) -> tuple[dict, dict]:
    """Data and metadata of an output.  As HTML, too: JupyterLab and nbconvert show a PNG without its alt text."""
    data = {"text/html": tag(image, alt, **size), "image/png": image, "text/plain": alt}
    return data, {"image/png": {"alt": alt} | size}


def rasterised(drawing: Drawing) -> bytes:
    """The drawing as a PNG at twice its size: what a page shows that lets no SVG through."""
    # matplotlib's own font, so that the picture is the same on every machine.
    fonts = [matplotlib.get_data_path() + "/fonts/ttf/DejaVuSans.ttf"]
    return resvg_py.svg_to_bytes(
        drawing.html(),
        background="#ffffff",
        zoom=2,
        skip_system_fonts=True,
        font_files=fonts,
        sans_serif_family="DejaVu Sans",
    )


def document(marks: str, width: int, height: int, alt: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
    # On a narrow page the picture shrinks until its letters are 11 pixels high; then its box is scrolled.
    size = f"max-width:100%;min-width:{round(11 / 12 * width)}px;height:auto"
    style = f'style="{size};background:#fff;color:#111;font:12px sans-serif" fill="#111" role="img"'
    return f'{head} {style} aria-label="{escape(alt)}"><title>{escape(alt)}</title>{marks}</svg>'
