"""A small chart as an SVG string: what a live slider draws, because a string is quicker than a figure."""

from __future__ import annotations

from html import escape

import numpy as np

MARGIN = (34, 14, 30, 12)  # left, right, bottom, top


class Chart:
    """Coordinates, and marks that are added one after the other; `str(chart)` is the SVG, with `alt` as its description."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], *, width=680, height=270, x_label="", alt=""):
        self.x, self.y, self.width, self.height, self.alt = x, y, width, height, alt
        left, right, bottom, top = MARGIN
        self.frame = (left, top, width - left - right, height - top - bottom)
        self.marks: list[str] = []
        axis = self.frame[1] + self.frame[3]
        self.marks.append(f'<line x1="{left}" x2="{width - right}" y1="{axis}" y2="{axis}" stroke="#444"/>')
        self.marks.append(f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>')

    def ticks(self, values, names=None) -> Chart:
        for value, name in zip(values, names or [f"{value:g}" for value in values], strict=True):
            self.text(value, self.y[0], name, dy=14, anchor="middle")
        return self

    def y_ticks(self, values, names) -> Chart:
        for value, name in zip(values, names, strict=True):
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

    def area(self, x, y, colour: str) -> Chart:
        x, y = np.asarray(x), np.asarray(y)
        if len(x):
            outline = (np.concatenate([x[:1], x, x[-1:]]), np.concatenate([self.y[:1], y, self.y[:1]]))
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(*self.place(*outline), strict=True))
            self.marks.append(f'<polygon points="{points}" fill="{colour}" fill-opacity="0.3"/>')
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
            f'<text {place} fill="{colour}" stroke="#fff" stroke-width="3" paint-order="stroke">{escape(words)}</text>'
        )
        return self

    @staticmethod
    def _stroke(dash: str, width: float) -> str:
        return f'stroke-width="{width}"' + (f' stroke-dasharray="{dash}"' if dash else "")

    def __str__(self) -> str:
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}"'
        style = (
            'style="max-width:100%;height:auto;background:#fff;color:#111;font:12px sans-serif" fill="#111" role="img"'
        )
        label = f'aria-label="{escape(self.alt)}"'
        return f"{head} {style} {label}><title>{escape(self.alt)}</title>{''.join(self.marks)}</svg>"
