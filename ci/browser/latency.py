"""How long a reader waits in JupyterLab: for a slider's new picture, for the first slider, for a notebook to run again.

python ci/browser/latency.py          prints two tables and writes them to results/benchmarks/sliders.csv and waiting.csv
python ci/browser/latency.py 06 07    how long these notebooks take to run again, in place of their rows in waiting.csv
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import lab
import numpy as np
import pandas as pd
import pictures
import torch

from srat_utils.course.results import FOLDER
from srat_utils.devices import hardware

# From the time stamp of the key press; an image counts when it is decoded, and a frame when the page has handed it over,
# which is when a task posted from its animation callback begins.
WATCH = f"""handle => {{
    const area = handle.closest('.jp-OutputArea-child'), pictures = {pictures.OF_AREA};
    const seen = () => pictures(area).map(picture => picture.src ?? picture.outerHTML).join();
    const before = seen();
    window.waited = new Promise(resolve => handle.addEventListener('keydown', press => {{
        const observer = new MutationObserver(async () => {{
            const now = seen();
            if (!now || now === before) return;
            observer.disconnect();
            await Promise.all(pictures(area).map(picture => picture.decode?.()));
            requestAnimationFrame(() => {{
                const channel = new MessageChannel();
                channel.port1.onmessage = () => resolve(performance.now() - press.timeStamp);
                channel.port2.postMessage(null);
            }});
        }});
        observer.observe(area, {{subtree: true, childList: true, attributes: true, characterData: true}});
        setTimeout(() => resolve(null), 5000);
    }}, {{once: true, capture: true}}));
}}"""


def measure(reader: lab.Lab) -> pd.DataFrame:
    """One row per slider, with the median and the slowest tenth of its key presses."""
    rows = []
    for kind, number, call, aim in (("precomputed", "02", "widgets.frames(", 40), ("live", "04", "widgets.live(", 80)):
        path = next(path for path in lab.COURSE if path.name.startswith(number))
        with reader.open(reader.copy(path, f"latency/{path.name}", mode="quick")) as page:
            cells = lab.run_all(page).cells
            cell = next(place for place, cell in enumerate(cells) if cell.cell_type == "code" and call in cell.source)
            values = presses(page, pictures.sliders(page.locator(".jp-Cell").nth(cell))[0])
        median, slow = np.quantile(values or [np.inf], (0.5, 0.9)).round(1)
        rows.append((kind, path.stem, len(values), median, slow, aim))
    return pd.DataFrame(rows, columns=["slider", "notebook", "presses", "median ms", "90 % ms", "aim ms"])


def presses(page, handle, count: int = 40) -> list[float]:
    """Milliseconds from each key press to the new picture; presses that changed nothing are left out."""
    handle.focus()
    pictures.settled(page)
    to_and_fro, values = pictures.keys(handle), []
    for press in range(count):
        handle.evaluate(WATCH)
        page.keyboard.press(to_and_fro[press % 2])
        values.append(page.evaluate("() => window.waited"))
        page.wait_for_timeout(50)
    return [value for value in values if value is not None]


def first_slider(reader: lab.Lab) -> float:
    """Seconds from Run All of notebook 00, with nothing stored, until a key press on its first slider changes the picture."""
    with reader.open(reader.copy(lab.COURSE[0], "first.ipynb", mode="laptop")) as page:
        started = time.monotonic()
        page.evaluate(f"() => {{ ({lab.RUN_ALL})(); }}")
        page.wait_for_selector(".jupyter-widgets .noUi-handle")
        while not presses(page, pictures.sliders(page.locator("body"))[0], 1):
            pass
        return time.monotonic() - started


def run_again(reader: lab.Lab, path: Path) -> float:
    """Seconds that a notebook takes from Restart and Run All, its runs stored: the second time in a new kernel."""
    for name in ("before", "again"):
        with reader.open(reader.copy(path, f"{name}/{path.name}", mode="laptop")) as page:
            started = time.monotonic()
            lab.run_all(page)
    return time.monotonic() - started


def waiting(browser, numbers: Sequence[str] = ()) -> pd.DataFrame:
    """One row per wait, in seconds, with what it should be at most.  numbers: of the notebooks; none: all, and the first slider."""
    rows = []
    if not numbers:
        with tempfile.TemporaryDirectory() as nothing, lab.serving(browser, Path(nothing)) as reader:
            rows += [("00: Run All to the first moving slider, nothing stored", first_slider(reader), 10)]
    chosen = [path for path in lab.COURSE if not numbers or path.name[:2] in numbers]
    with lab.serving(browser) as reader:
        rows += [(f"{path.stem[:2]}: Run All again", run_again(reader, path), 15) for path in chosen]
    return pd.DataFrame(rows, columns=["wait", "seconds", "aim seconds"]).round(1)


def keep(name: str, table: pd.DataFrame, beside: bool) -> None:
    """Write a table; beside: in place of its rows in the stored one."""
    print(table.to_string(index=False))
    path, table = FOLDER / "benchmarks" / f"{name}.csv", table.assign(hardware=hardware(torch.device("cpu")))
    if beside:
        new = table.set_index("wait")
        table = pd.read_csv(path).set_index("wait")
        table.loc[new.index] = new
        table = table.reset_index()
    table.to_csv(path, index=False)


def main(numbers: Sequence[str]) -> None:
    if lab.missing():
        sys.exit(lab.missing())
    with lab.browsing() as browser:
        if not numbers:
            with lab.serving(browser) as reader:
                keep("sliders", measure(reader), False)
        keep("waiting", waiting(browser, numbers), bool(numbers))


if __name__ == "__main__":
    main(sys.argv[1:])
