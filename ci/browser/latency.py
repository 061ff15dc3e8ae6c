"""How long a reader waits for a slider: from a key press in JupyterLab to the frame that shows the new picture.

python ci/browser/latency.py     prints the table and writes it to results/benchmarks/sliders.csv
"""

from __future__ import annotations

import sys

import lab
import numpy as np
import pandas as pd
import pictures
import torch

from srat_utils.course.results import FOLDER
from srat_utils.provenance import hardware

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
    """A row a slider, with the median and the slowest tenth of its key presses."""
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


if __name__ == "__main__":
    if lab.missing():
        sys.exit(lab.missing())
    with lab.browsing() as browser, lab.serving(browser) as reader:
        table = measure(reader)
    print(table.to_string(index=False))
    table.assign(hardware=hardware(torch.device("cpu"))).to_csv(FOLDER / "benchmarks" / "sliders.csv", index=False)
