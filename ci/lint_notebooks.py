"""Measure the notebooks against the course's rules: order, rhythm, size.

python ci/lint_notebooks.py [NOTEBOOK]…        one line a finding, one line a notebook; exit status 1 with findings
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
MOST_CELLS, MOST_LINES, MOST_WORDS, MOST_BYTES = 60, 25, 120, 1_500_000
WORDS_PER_LINE = (5.0, 20.0)
DRAWS = re.compile(r"\b(show|frames|live)\(")
MACHINE_PATH = re.compile(r"(/home/|/root/|/Users/|/work/|/tmp/|[A-Z]:\\)")
NEEDED = ("you will", "predict", "exercise", "recap")


def prose(markdown: str) -> list[str]:
    """The words a reader reads as prose: no code, formulas, tables, tags or folded solutions."""
    for pattern in (
        r"<details>.*?</details>",
        r"```.*?```",
        r"\$\$.*?\$\$",
        r"\$[^$]*\$",
        r"`[^`]*`",
        r"^\|.*$",
        r"<[^>]+>",
        r"^#+ ",
    ):
        markdown = re.sub(pattern, " ", markdown, flags=re.S | re.M)
    return re.findall(r"[A-Za-z0-9][\w'’-]*", markdown)


def code_lines(source: str) -> list[str]:
    return [line for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def findings(notebook, name: str, size: int = 0) -> list[str]:
    """What breaks a rule, one line each, with the cell and what to do."""
    found = []

    def say(cell, text):
        where = f" cell {notebook.cells.index(cell)} ({cell.get('id')})" if cell is not None else ""
        found.append(f"{name}{where}: {text}")

    cells = notebook.cells
    identities = [cell.get("id") for cell in cells]
    if not cells or not cells[0].source.startswith("# "):
        say(None, "the first cell must begin with the title, '# …'")
    if len(cells) > MOST_CELLS:
        say(None, f"{len(cells)} cells; at most {MOST_CELLS}")
    if None in identities or len(set(identities)) < len(identities):
        say(None, "every cell needs an id of its own")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        say(None, "the kernel must be named python3")
    if "widgets" in notebook.metadata or "papermill" in notebook.metadata:
        say(None, "widget state or papermill metadata; run make outputs, or strip them")
    if size > MOST_BYTES:
        say(None, f"{size / 1e6:.1f} MB; at most {MOST_BYTES / 1e6} MB")
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1 or "mode" not in tagged[0].source:
        say(None, "exactly one cell must be tagged 'parameters' and set mode")
    text = " ".join(cell.source.lower() for cell in cells if cell.cell_type == "markdown")
    for word in NEEDED:
        if word not in text and not (name.startswith("00") and word == "exercise"):
            say(None, f"no section has the word {word!r}; every notebook has goals, predictions, exercises and a recap")
    in_a_row = 0
    for position, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            in_a_row = 0
            if len(prose(cell.source)) > MOST_WORDS:
                say(cell, f"{len(prose(cell.source))} words; at most {MOST_WORDS}, split it")
            continue
        in_a_row += 1
        lines = code_lines(cell.source)
        if in_a_row == 3:
            say(cell, "a third code cell in a row; put a sentence before it")
        if len(lines) > MOST_LINES:
            say(cell, f"{len(lines)} lines of code; at most {MOST_LINES}, move some into srat_utils")
        if MACHINE_PATH.search(cell.source):
            say(cell, "a path of one machine; make it relative or a parameter")
        drawn = DRAWS.search(cell.source) or any(
            "image/png" in output.get("data", {}) for output in cell.get("outputs", [])
        )
        if drawn and (position + 1 == len(cells) or cells[position + 1].cell_type != "markdown"):
            say(cell, "a figure with no sentence after it; say what to notice")
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                say(cell, f"a stored error, {output.ename}; run it again")
            if "image/png" in output.get("data", {}) and not output.get("metadata", {}).get("image/png", {}).get("alt"):
                say(cell, "a picture without alt text; use plots.show")
    ratio = words_per_line(notebook)
    if not WORDS_PER_LINE[0] <= ratio <= WORDS_PER_LINE[1]:
        say(
            None,
            f"{ratio:.1f} words of prose a line of code; {WORDS_PER_LINE[0]:g} to {WORDS_PER_LINE[1]:g} reads well",
        )
    return found


def words_per_line(notebook) -> float:
    words = sum(len(prose(cell.source)) for cell in notebook.cells if cell.cell_type == "markdown")
    lines = sum(len(code_lines(cell.source)) for cell in notebook.cells if cell.cell_type == "code")
    return words / max(1, lines)


def main(names: list[str]) -> int:
    paths = [Path(name) for name in names] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    total = 0
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        found = findings(notebook, path.name, path.stat().st_size)
        print(*found, sep="\n", end="\n" if found else "")
        print(
            f"{path.name}: {len(notebook.cells)} cells, {words_per_line(notebook):.1f} words a line of code, {len(found)} findings"
        )
        total += len(found)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
