"""What is written for those who teach names what the notebooks have."""

import re
from pathlib import Path

import nbformat
import pytest
import slides
from lint_notebooks import headings
from run_notebooks import course

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = {path.name[:2]: nbformat.read(path, as_version=4) for path in course()}


def sections(path: str) -> dict[str, str]:
    """Number of a notebook → the text under its heading."""
    parts = re.split(r"^## (\d\d) · .*$", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_ten_questions_a_notebook_each_taught_where_it_says(number):
    rows = [line.strip("|").split(" | ") for line in sections("docs/questions.md")[number].splitlines() if "|" in line]
    rows = [[cell.strip() for cell in row] for row in rows[2:]]
    assert len(rows) == 10 and all(len(row) == 3 and all(row) for row in rows)
    assert {where for *_, where in rows} <= set(headings(NOTEBOOKS[number]))


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_every_guess_of_a_notebook_is_answered(number):
    (card,) = (cell.source for cell in NOTEBOOKS[number].cells if "## Predict first" in cell.source)
    numbered = re.compile(r"^\d+\. ", flags=re.MULTILINE)
    assert len(numbered.findall(sections("docs/teaching.md")[number])) == len(numbered.findall(card))


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_slides_are_cells_of_their_notebook(number):
    named = [name for slide in slides.SLIDES[number] for name in slide.split()]
    there = [cell.id for cell in NOTEBOOKS[number].cells]
    assert [name for name in named if name not in there] == []
    assert sorted(named, key=there.index) == named, "slides follow the order of their notebook"
    kinds = [
        cell.metadata.slideshow.slide_type for cell in slides.marked(NOTEBOOKS[number], slides.SLIDES[number]).cells
    ]
    assert kinds.count("slide") == len(slides.SLIDES[number]) and kinds.count("-") == len(named) - kinds.count("slide")
