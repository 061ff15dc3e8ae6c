"""Pictures of whole notebooks after a run, to look at: light and dark, on a wide and on a narrow screen.

python ci/browser/screenshots.py [--mode laptop] [notebooks/04_separability_theory.ipynb …]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import lab

FOLDER = lab.ROOT / "build" / "screenshots"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WIDTHS = (1280, 800)
TALLEST = 8000  # pixels: Chromium leaves what lies beyond 16384 blank, and few viewers open that

# The notebook alone, as tall as it is.
ALONE = """async () => {
    jupyterapp.shell.mode = 'single-document';
    jupyterapp.shell.collapseLeft();
    jupyterapp.shell.collapseRight();
}"""
THEME = """async theme => {
    await jupyterapp.commands.execute('apputils:change-theme', {theme});
}"""
HEIGHT = """() => {
    const node = jupyterapp.shell.currentWidget.node, scrolled = node.querySelector('.jp-WindowedPanel-outer');
    const bottoms = [...node.querySelectorAll('.jp-Cell')].map(cell => cell.getBoundingClientRect().bottom);
    const below = Math.max(...bottoms) - scrolled.getBoundingClientRect().bottom + scrolled.scrollTop;
    return Math.ceil(innerHeight + below + 20);
}"""

TO_THE_TOP = """() => {
    const notebook = jupyterapp.shell.currentWidget;
    notebook.content.activeCellIndex = 0;  // a resized notebook scrolls to its active cell
    notebook.node.querySelector('.jp-WindowedPanel-outer').scrollTop = 0;
}"""


def shoot(page, stem: str) -> None:
    page.evaluate(ALONE)
    for theme, name in THEMES.items():
        page.evaluate(THEME, name)
        page.wait_for_timeout(1000)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 1000})
            page.wait_for_timeout(500)
            height = page.evaluate(HEIGHT)
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate(TO_THE_TOP)
            page.wait_for_timeout(1000)
            for part, top in enumerate(range(0, height, TALLEST), 1):
                path = FOLDER / f"{stem}-{theme}-{width}-{part}.png"
                page.screenshot(
                    path=path, clip={"x": 0, "y": top, "width": width, "height": min(TALLEST, height - top)}
                )
                print(path.relative_to(lab.ROOT), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, default=lab.COURSE, help="default: notebooks/NN_*.ipynb")
    parser.add_argument("--mode", choices=("quick", "laptop", "paper"), default="quick")
    options = parser.parse_args()
    if lab.missing():
        sys.exit(lab.missing())
    FOLDER.mkdir(parents=True, exist_ok=True)
    with lab.browsing() as browser, lab.serving(browser) as reader:
        for path in options.notebooks:
            with reader.open(reader.copy(path, f"shown/{path.name}", mode=options.mode)) as page:
                lab.run_all(page)
                shoot(page, path.stem)


if __name__ == "__main__":
    main()
