"""What the site makes of a notebook's outputs: sliders that a page can move by itself, stills of the others, pictures with words."""

import base64
import re

import ipywidgets
import nbformat
import pages
import pytest
from ipywidgets.embed import dependency_state
from ipywidgets.widgets.widget import _instances
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from run_notebooks import WIDGET_STATE, WIDGET_VIEW

from srat_utils.course import claims as results
from srat_utils.course import widgets
from srat_utils.course.svg import Chart, bundle


class Picture:
    def __init__(self, words: str):
        self.alt = words

    def png(self) -> bytes:
        return Chart((0, 1), (0, 1)).text(0, 0.5, self.alt).png()

    def _repr_mimebundle_(self, include=None, exclude=None):
        return bundle(self.png(), self.alt)

    def html(self) -> str:
        return f'<img src="data:image/png;base64,{base64.b64encode(self.png()).decode()}" alt="{self.alt}">'


@pytest.fixture
def output(monkeypatch, tmp_path):
    """The one output of a part of widgets.py, with the state that a run notebook stores, and then as the site shows it."""
    monkeypatch.setattr(pages, "PICTURES", tmp_path)

    def output(draw) -> str:
        shown = []
        monkeypatch.setattr(widgets, "display", lambda data, raw, metadata: shown.append((data, metadata)))
        draw()
        (data, metadata), *_ = shown
        data = {
            kind: base64.b64encode(value).decode() if kind == "image/png" else value for kind, value in data.items()
        }
        state = dependency_state(list(_instances.values()), drop_defaults=False)
        made = pages.as_html(new_output("display_data", data=data, metadata=metadata), pages.Widgets(state))
        return made.data["text/html"]

    yield output
    ipywidgets.Widget.close_all()


def test_a_slider_over_frames_becomes_an_input_with_its_pictures_as_files(output, tmp_path):
    html = output(lambda: widgets.frames({n: Picture(f"it's {n}") for n in (1, 2, 4)}, label="number", start=2))
    slider = re.search(r'<label>number <input type="range" min="0" max="2" value="1" data-moves="(control-\d+)"', html)
    assert html.count(f'data-follows="{slider[1]}"') == 2, "the value in words, and the picture"
    frames = re.findall(r'<div( hidden|)><img src="../pictures/\w+.png" alt="it&#x27;s (\d)"', html)
    assert frames == [(" hidden", "1"), ("", "2"), (" hidden", "4")]
    assert len(list(tmp_path.iterdir())) == 3 and "data:image" not in html


def test_two_words_become_two_buttons(output):
    pictures = {(name, n): Picture(f"{name} {n}") for name in ("a", "b") for n in (1, 2)}
    html = output(lambda: widgets.frames(pictures, label=("kind", "number")))
    assert re.findall(r'type="radio" name="control-\d" value="(\d)" autocomplete="off"( checked|)> (\w)', html) == [
        ("0", " checked", "a"),
        ("1", "", "b"),
    ]


def test_what_needs_a_kernel_becomes_a_still_that_says_so(output):
    html = output(lambda: widgets.live(lambda x: Picture(f"x is {x}"), x=widgets.slider(0, 1, 0.5, "x")))
    assert 'alt="x is 0.5"' in html and "run this notebook to move it" in html and "<input" not in html
    html = output(
        lambda: widgets.train_live(lambda x: [], lambda runs, x: Picture("nothing yet"), x=widgets.slider(0, 1, 0, "x"))
    )
    assert "run this notebook to train" in html


def test_a_card_folds_its_answer(output):
    assert output(lambda: widgets.predict("How many?", 3, 0, 9)).startswith('<div class="shown"><details>')


def test_equal_pictures_share_a_file_and_a_width_keeps_its_proportions(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "PICTURES", tmp_path)
    png = Chart((0, 1), (0, 1), width=300, height=100).png()
    first, second = pages.picture(png, "one"), pages.picture(png, 'a "b"', 300)
    assert len(list(tmp_path.iterdir())) == 1
    assert 'width="600" height="200"' in first and 'alt="a &quot;b&quot;" width="300" height="100"' in second


def test_links_lead_to_pages_or_to_the_repository(monkeypatch):
    monkeypatch.setattr(pages.links, "repository", lambda: "https://example.org/srat")
    own = pages.ROOT / "docs" / "errata.md"
    notebook = next(path for path in pages.course() if path.name.startswith("05"))
    known = {own: "errata.md", notebook: f"notebooks/{notebook.name}"}
    text = f"[a](../notebooks/{notebook.name}#recap) [b](../README.md) [c](https://x.org) [d](#here) [e](../results)"
    assert pages.with_addresses(text, own, known) == (
        f"[a](notebooks/{notebook.name}#recap) [b](https://example.org/srat/blob/HEAD/README.md) [c](https://x.org) [d](#here)"
        " [e](https://example.org/srat/tree/HEAD/results)"
    )
    assert (
        pages.with_addresses("[x](errata.md)", notebook.parent.parent / "docs" / "errata.md", known) == "[x](errata.md)"
    )


def test_a_short_run_says_so_and_a_notebook_that_changed_is_stale(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "EXECUTED", tmp_path)
    cells = [new_markdown_cell("# A", id="a"), new_code_cell("1", id="b")]
    made = new_notebook(cells=cells, metadata={"papermill": {"parameters": {"mode": "quick"}, "end_time": "now"}})
    nbformat.write(made, tmp_path / "01_a.ipynb")
    page = pages.prepared(tmp_path / "01_a.ipynb")
    assert len(page.cells) == 3 and 'mode = "quick"' in page.cells[1].source
    source = tmp_path / "source" / "01_a.ipynb"
    source.parent.mkdir()
    nbformat.write(made, source)
    assert pages.is_fresh(source)
    made.cells[1].source = "2"
    nbformat.write(made, source)
    assert not pages.is_fresh(source)
    del made.metadata["papermill"]["end_time"]
    nbformat.write(made, tmp_path / "01_a.ipynb")
    assert not pages.is_fresh(source), "it was stopped"


def test_the_ledger_names_every_claim_and_the_list_every_question():
    claims = results.ledger().drop_duplicates(["section", "claim", "paper", "notebook"])
    assert len(claims) == pages.ledger().count("](notebooks/")
    assert pages.contents().count("?") >= len(pages.course())


def test_the_state_of_a_run_notebook_is_found_where_papermill_leaves_it(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "PICTURES", tmp_path)
    state = {"m": {"model_name": "HTMLModel", "state": {"value": "<b>hello</b>"}}}
    cell = new_code_cell("1", id="b", outputs=[new_output("display_data", data={WIDGET_VIEW: {"model_id": "m"}})])
    about = {"papermill": {"parameters": {"mode": "laptop"}}, "widgets": {WIDGET_STATE: {"state": state}}}
    nbformat.write(new_notebook(cells=[cell], metadata=about), tmp_path / "01_a.ipynb")
    (shown,) = pages.prepared(tmp_path / "01_a.ipynb").cells
    assert shown.outputs[0].data["text/html"] == '<div class="shown"><b>hello</b></div>'
