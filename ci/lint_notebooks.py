"""Measure the notebooks against the course's rules: order, rhythm, what may be committed.

    python ci/lint_notebooks.py [NOTEBOOK …]

One line a finding, one line per notebook; exit status 1 with findings.  A `note:` is advice and does not fail.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import links
import nbformat
from run_notebooks import LANGUAGE, MODES, SIZE_LIMIT, WIDGET_VIEW, course, parameter_defaults, place, shown, tags

MOST_CELLS, MOST_LINES, USUAL_LINES, MOST_WORDS, MOST_COLUMNS = 60, 25, 15, 120, 88
WORDS_PER_LINE = (6, 24)
SENTENCE = 5
DRAWS = re.compile(r"^(plots|widgets)\.\w+\(|\bplots\.Picture\(|\bplt\.(?!rc|style)\w+\(", re.MULTILINE)
MACHINE_PATH = re.compile(r"(?<![\w./])(/home/|/root/|/Users/|/work/|/tmp/|[A-Z]:\\Users\\)")
NOT_PROSE = (
    r"<details>.*?</details>", r"```.*?```", r"<!--.*?-->", r"\$\$.*?\$\$", r"\$[^$]*\$", r"`[^`]*`",
    r"^\s*\|.*$", r"!\[[^\]]*\]\([^)]*\)", r"(?<=\])\([^)]*\)", r"<[^>]+>",
)  # fmt: skip
CARD = ("you will", "prerequisite", "time")
SECTIONS = {
    "predict": "1–3 guesses before the reader sees anything",
    "beside the paper": "ours beside the paper, with a verdict a claim",
    "exercise": "2–3 exercises",
    "recap": "a recap of the goals",
}
EXCUSED = {"00": {"exercise", "beside the paper"}}


def prose(markdown: str) -> list[str]:
    """The words a reader reads as prose: no code, formulas, tables, tags or folded solutions."""
    for pattern in NOT_PROSE:
        markdown = re.sub(pattern, " ", markdown, flags=re.S | re.M)
    return re.findall(r"[^\W_][\w'’-]*", markdown)


def headings(notebook) -> list[str]:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"^#+ +(.*)$", re.sub(r"```.*?```", "", text, flags=re.S), flags=re.M)


def code_lines(source: str) -> int:
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in source.splitlines())


def words_per_line(notebook) -> float:
    words = sum(len(prose(cell.source)) for cell in notebook.cells if cell.cell_type == "markdown")
    return words / max(1, sum(code_lines(cell.source) for cell in notebook.cells if cell.cell_type == "code"))


def draws(cell) -> bool:
    return cell.cell_type == "code" and (
        bool(DRAWS.search(cell.source)) or any("image/png" in output.get("data", {}) for output in cell.outputs)
    )


# The rules.  Each yields (the cell or None, what is wrong and what to do).


def order(notebook, number: str) -> Iterator:
    first = notebook.cells[0].source if notebook.cells else ""
    if not first.startswith("# ") or "?" not in first:
        yield None, "the first cell has the title, `# …`, and the one question that the notebook answers"
    card = " ".join(cell.source.lower() for cell in notebook.cells[:3] if cell.cell_type == "markdown")
    if missing := [word for word in CARD if word not in card]:
        yield None, f"the card near the top lacks {', '.join(map(repr, missing))}: goals, prerequisites, measured time"
    found = " | ".join(headings(notebook)).lower()
    for word, meaning in SECTIONS.items():
        if word not in found and word not in EXCUSED.get(number, ()):
            yield None, f"no heading says {word!r}: add {meaning}"
    tagged = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    if len(tagged) != 1:
        yield None, f"{len(tagged)} cells are tagged `parameters`: tag exactly one"
    elif (parameter_defaults(notebook) or {}).get("mode") not in MODES:
        yield tagged[0], f"the `parameters` cell sets mode to one of {', '.join(MODES)}"


def rhythm(notebook, number: str) -> Iterator:
    written = [cell for cell in notebook.cells if cell.get("id") not in (links.COLAB, links.NEIGHBOURS)]
    if len(written) > MOST_CELLS:
        yield None, f"{len(written)} cells: at most {MOST_CELLS}"
    low, high = WORDS_PER_LINE
    if not low <= (ratio := words_per_line(notebook)) <= high:
        yield None, f"{ratio:.1f} words of prose a line of code: between {low} and {high}, best 10 to 14"
    in_a_row = 0
    for position, cell in enumerate(notebook.cells):
        in_a_row = in_a_row + 1 if cell.cell_type == "code" else 0
        if in_a_row == 3:
            yield cell, "the third code cell in a row: put a sentence before it"
        if cell.cell_type == "markdown" and (words := len(prose(cell.source))) > MOST_WORDS:
            yield cell, f"{words} words: at most {MOST_WORDS}, split or shorten"
        if cell.cell_type == "code" and (lines := code_lines(cell.source)) > USUAL_LINES:
            advice = "move some into srat_utils"
            yield (
                cell,
                f"{lines} lines: at most {MOST_LINES}, {advice}"
                if lines > MOST_LINES
                else f"note: {lines} lines: {advice}",
            )
        if cell.cell_type == "code" and (longest := max(map(len, cell.source.splitlines() or [""]))) > MOST_COLUMNS:
            format_it = "ruff format notebooks, and break long strings by hand"
            yield cell, f"a line of {longest} columns: at most {MOST_COLUMNS}; {format_it}"
        if draws(cell) and not read_after(notebook.cells[position + 1 :]):
            yield cell, "a figure that no sentence reads: say below it what to notice"


def read_after(following) -> bool:
    text = following[0].source if following and following[0].cell_type == "markdown" else ""
    return len(prose(re.sub(r"^#.*$", "", text, flags=re.M))) >= SENTENCE


def committed(notebook, number: str) -> Iterator:
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield None, "the kernel's name must be python3"
    if notebook.metadata.get("language_info") != LANGUAGE:
        yield (
            None,
            "its language_info is incomplete, and `nbconvert --to script` would write a .txt: run `make outputs`",
        )
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) < len(ids):
        yield None, "every cell needs an id of its own (nbformat 4.5)"
    if {"widgets", "papermill"} & set(notebook.metadata) or any(
        "papermill" in cell.metadata for cell in notebook.cells
    ):
        yield None, "widget state or papermill metadata: run `make outputs`"
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=)", cell.source):
            yield cell, "a picture without alt text"
        shown_text = [cell.source]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            shown_text += [
                output.get("text", ""),
                *(str(value) for mime, value in data.items() if mime.startswith("text/")),
            ]
            if output.output_type == "error":
                yield cell, f"a stored error, {output.ename}: mend it and run `make outputs`"
            if WIDGET_VIEW in data:
                yield cell, "a stored widget, which only a live kernel can show: run `make outputs`"
            if "image/png" in data and not output.metadata.get("image/png", {}).get("alt"):
                yield cell, "a figure without alt text: make it a plots.Picture"
        if path := MACHINE_PATH.search("\n".join(shown_text)):
            yield cell, f"a path of one machine, {path[0]}…: make it relative, or a parameter"


def lint(path: Path) -> tuple[list[str], list[str]]:
    """Findings that fail, and notes."""
    text = path.read_text(encoding="utf-8")
    try:
        # v4.reads repairs nothing: nbformat.read would give a cell without an id a new one at every reading.
        notebook = nbformat.v4.reads(text)
        nbformat.validate(json.loads(text))
    except (ValueError, nbformat.ValidationError) as error:
        return [f"{shown(path)} is no valid notebook: {str(error).splitlines()[0]}"], []
    found = [(c, message) for rule in (order, rhythm, committed) for c, message in rule(notebook, path.name[:2])]
    if len(text.encode()) > SIZE_LIMIT:
        found.append((None, f"{len(text.encode()) / 1e6:.1f} MB: at most {SIZE_LIMIT / 1e6}"))
    lines = [f"{shown(path)} {place(notebook, c.get('id') if c else None)}{message}" for c, message in found]
    notes = [line for line, (_, message) in zip(lines, found, strict=True) if message.startswith("note: ")]
    failures = [line for line in lines if line not in notes]
    verdict = f"{len(failures)} findings" if failures else "ok"
    print(
        f"{shown(path)}: {len(notebook.cells)} cells, {words_per_line(notebook):.1f} words per line of code, {verdict}"
    )
    return failures, notes


def main(names: list[str]) -> int:
    paths = [Path(name) for name in names] or course()
    failed = False
    for path in paths:
        failures, notes = lint(path)
        print(*(f"  {line}\n" for line in failures + notes), sep="", end="")
        failed |= bool(failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
