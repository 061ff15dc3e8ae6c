"""What a reader sees in the output of a cell: its pictures, and whether they follow a slider."""

from __future__ import annotations

import time

PICTURED = {"image/png", "image/jpeg", "image/svg+xml", "<img"}
# Hidden frames of a slider, and icons, are no pictures.
OF_AREA = """area => [...area.querySelectorAll('.jp-OutputArea-output :is(img, svg)')].filter(picture => {
    const {width, height} = picture.getBoundingClientRect();
    return width > 60 && height > 40 && picture.naturalWidth !== 0;
})"""
# The pictures that belong to the focused slider, scrolled into view, as one rectangle of the window.
PLACE = f"""async () => {{
    const seen = () => ({OF_AREA})(document.activeElement.closest('.jp-OutputArea-child'));
    seen()[0]?.scrollIntoView({{block: 'center'}});
    await new Promise(requestAnimationFrame);
    const places = seen().map(picture => picture.getBoundingClientRect());  // a live one may be another by now
    if (!places.length) return null;
    const x = Math.ceil(Math.min(...places.map(place => place.left)));
    const y = Math.ceil(Math.min(...places.map(place => place.top)));
    const right = Math.max(...places.map(place => place.right)), bottom = Math.max(...places.map(place => place.bottom));
    return {{x, y, width: right - x, height: bottom - y}};
}}"""
UNNAMED = "() => [...document.querySelectorAll('.jp-OutputArea-output img')].filter(picture => !picture.alt).length"
OF_CELLS = f"""() => [...document.querySelectorAll('.jp-Notebook .jp-Cell')].map(cell => ({OF_AREA})(cell).length)"""
CELL = """handle => {
    const cells = [...document.querySelectorAll('.jp-Notebook .jp-Cell')];
    return jupyterapp.shell.currentWidget.content.model.cells.get(cells.indexOf(handle.closest('.jp-Cell'))).id;
}"""


def shown(page, notebook) -> list[str]:
    """The id of a cell for each picture that a reader sees in its output."""
    return [cell.id for cell, count in zip(notebook.cells, page.evaluate(OF_CELLS), strict=True) for _ in range(count)]


def stored(notebook) -> list[str]:
    """The id of a cell for each of its outputs that holds a picture."""
    return [cell.id for cell in notebook.cells for output in cell.get("outputs", []) if PICTURED & kinds(output)]


def only_svg(notebook) -> list[str]:
    """The id of a cell for each output that has no picture but an SVG, which an untrusted notebook does not show."""
    outputs = [(cell.id, kinds(output)) for cell in notebook.cells for output in cell.get("outputs", [])]
    return [cell for cell, held in outputs if PICTURED & held == {"image/svg+xml"}]


def kinds(output) -> set[str]:
    data = output.get("data", {})
    return set(data) | {"<img"} if "<img" in data.get("text/html", "") else set(data)


def sliders(page) -> list:
    return page.locator(".jp-OutputArea-output .noUi-handle").all()


def findings(page, seconds: float = 20) -> list[str]:
    """What is wrong with the sliders of a notebook, each moved by a key and back."""
    found = [(slider.evaluate(CELL), finding(page, slider, seconds)) for slider in sliders(page)]
    return [f"{cell}: {wrong}" for cell, wrong in found if wrong]


def pixels(page) -> bytes | None:
    """What the pictures of the focused slider look like; None where there are none."""
    place = page.evaluate(PLACE)
    while place:
        seen = page.screenshot(clip=place)
        before, place = place, page.evaluate(PLACE)
        if place == before:  # else the picture left, or another came, while this one was taken
            return seen
    return None


def keys(handle) -> tuple[str, str]:
    """The arrow key that can move a slider from where it is, and the one that takes it back."""
    highest = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
    return ("ArrowLeft", "ArrowRight") if highest else ("ArrowRight", "ArrowLeft")


def finding(page, handle, seconds: float) -> str | None:
    handle.focus()
    start = settled(page)
    if start is None:
        return "no picture belongs to it"
    there, back = keys(handle)
    page.keyboard.press(there)
    if not becomes(page, lambda seen: seen not in (start, None), seconds):
        return f"its picture does not change on {there}"
    page.keyboard.press(back)
    if not becomes(page, lambda seen: seen == start, seconds):
        return f"its picture does not come back on {back}"
    return None


def settled(page) -> bytes | None:
    """The pixels, once two looks in a row are the same."""
    before = pixels(page)
    while (now := pixels(page)) != before:
        before = now
    return now


def becomes(page, wanted, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (found := wanted(pixels(page))) and time.monotonic() < end:
        page.wait_for_timeout(50)
    return found
