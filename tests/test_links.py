"""The links between notebooks are those that `make links` writes, and it knows what is a mention."""

import links
import lint_notebooks
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from run_notebooks import course

FILES = {"01": "01_a.ipynb", "02": "02_b.ipynb", "05": "05_c.ipynb"}


def test_the_course_has_all_its_links(capsys):
    assert links.main(check=True) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("in notebook 05's loop", "in [notebook 05](05_c.ipynb)'s loop"),
        ("Notebook\n02 tries it", "[Notebook\n02](02_b.ipynb) tries it"),
        ("notebooks 02 and 05.", "notebooks [02](02_b.ipynb) and [05](05_c.ipynb)."),
        ("notebooks 01, 02 and 05", "notebooks 01, [02](02_b.ipynb) and [05](05_c.ipynb)"),
        ("| 05 | What? |", "| [05](05_c.ipynb) | What? |"),
        *[(same, same) for same in (
            "this notebook 01", "notebook 77", "`notebook 05`", "```\nnotebook 05\n```", "## As in notebook 05",
            "[notebook 05](05_c.ipynb)", "$notebook 05$", "notebook 2", "notebook 050",
        )],
    ],
)  # fmt: skip
def test_a_mention_becomes_a_link_once(text, becomes):
    assert links.with_mentions(text, "01", FILES) == becomes
    assert links.with_mentions(becomes, "01", FILES) == becomes


def test_a_second_time_changes_nothing_and_a_new_address_all(tmp_path, monkeypatch, capsys):
    paths = []
    for name in FILES.values():
        cells = [new_markdown_cell(f"# {name}\n\n**Why?**", id="title"), new_code_cell("1", id="code")]
        cells[1].execution_count = 1
        paths.append(tmp_path / name)
        nbformat.write(new_notebook(cells=cells), paths[-1])
    assert links.main(check=True, paths=paths) == 1 and links.main(paths=paths) == 0
    assert links.main(check=True, paths=paths) == 0
    cells = nbformat.read(paths[1], as_version=4).cells
    assert [cell.id for cell in cells] == ["title", links.COLAB, "code", links.NEIGHBOURS]
    assert cells[-1].source == "Before: [01_a.ipynb](01_a.ipynb) · Next: [05_c.ipynb](05_c.ipynb)"
    monkeypatch.setattr(links, "repository", lambda: "https://github.com/someone/else")
    links.main(paths=paths)
    text = paths[1].read_text()
    assert text.count("someone/else/") == 2 and text.count("OWNER") == 0 and text.count("Open in Colab") == 1
    assert len(nbformat.read(paths[1], as_version=4).cells) == 4


def test_the_cell_for_colab_is_silent_elsewhere(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    assert InteractiveShell.instance().run_cell(links.installer("https://example.org/x")).success
    assert capsys.readouterr().out == ""


def test_what_is_written_keeps_the_rules_of_the_lint(tmp_path):
    notebooks = {path: nbformat.read(path, as_version=4) for path in course()}
    titles = {path.name: links.title(notebook) for path, notebook in notebooks.items()}
    for path, notebook in notebooks.items():
        made = links.linked(notebook, path.name, titles, "https://github.com/OWNER/srat")
        for rule in (lint_notebooks.order, lint_notebooks.rhythm, lint_notebooks.committed):
            before = {message for _, message in rule(notebook, path.name[:2])}
            assert {message for _, message in rule(made, path.name[:2])} <= before, path.name
