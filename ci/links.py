"""Write the links that lead from notebook to notebook, and into Colab and Binder; a second time changes nothing.

python ci/links.py [--check]     --check: write nothing, and fail where something would change
"""

from __future__ import annotations

import copy
import re
import sys
import tomllib
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell
from run_notebooks import ROOT, course, shown

COLAB, NEIGHBOURS = "colab", "neighbours"  # the ids of the cells that are written here
OPEN = re.compile(r"\s*\[Open in Colab\]\(.*\Z", re.DOTALL)
# Where a number is no mention, or is linked already.
PROTECTED = re.compile(
    r"(```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|!?\[[^\]]*\]\([^)]*\)|<!--.*?-->|<[^>]+>|^#[^\n]*$)",
    re.DOTALL | re.MULTILINE,
)
MENTION = re.compile(
    r"\b[Nn]otebooks?\s\d\d\b(?:(?:,|,? and|,? or| to|–)\s?\d\d\b)*|(?<=^\| )\d\d(?= \|)", re.MULTILINE
)


def repository() -> str:
    """The address that pyproject.toml gives."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def openers(name: str, address: str) -> str:
    place = address.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{name}"
    binder = f"https://mybinder.org/v2/gh/{place}/HEAD?urlpath=lab/tree/notebooks/{name}"
    return f"[Open in Colab]({colab}) · [Launch Binder]({binder})"


def installer(address: str) -> str:
    return f"""import sys

if "google.colab" in sys.modules:  # anywhere else the course is there already
    !git clone -q --depth 1 {address} /content/srat
    %cd -q /content/srat
    %pip install -q . -r requirements/course.txt"""


def with_mentions(text: str, own: str, files: dict[str, str]) -> str:
    """Every `notebook 05` as a link.  own: the number of the notebook that the text is in.  files: number → file name."""

    def link(mention: re.Match) -> str:
        whole, numbers = mention[0], re.findall(r"\d\d", mention[0])
        if len(numbers) == 1:
            return f"[{whole}]({files[numbers[0]]})" if numbers[0] != own and numbers[0] in files else whole
        return re.sub(r"\d\d", lambda n: f"[{n[0]}]({files[n[0]]})" if n[0] != own and n[0] in files else n[0], whole)

    # split() puts what is protected at the odd places.
    parts = PROTECTED.split(text)
    return "".join(part if place % 2 else MENTION.sub(link, part) for place, part in enumerate(parts))


def title(notebook) -> str:
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


def linked(notebook, name: str, titles: dict[str, str], address: str):
    """A copy with all links.  titles: file name → title, of the whole course in its order."""
    made = copy.deepcopy(notebook)
    files = {each[:2]: each for each in titles}
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = with_mentions(cell.source, name[:2], files)
    made.cells[0].source = OPEN.sub("", made.cells[0].source) + "\n\n" + openers(name, address)
    own = {cell.id: cell for cell in made.cells if cell.id in (COLAB, NEIGHBOURS)}
    colab = own.get(COLAB) or new_code_cell(id=COLAB)
    colab.source = installer(address)
    colab.metadata = nbformat.from_dict({"tags": [COLAB], "jupyter": {"source_hidden": True}})
    names = list(titles)
    place = names.index(name)
    sides = (("Before", names[place - 1 : place]), ("Next", names[place + 1 : place + 2]))
    words = " · ".join(f"{word}: [{titles[other]}]({other})" for word, found in sides for other in found)
    neighbours = own.get(NEIGHBOURS) or new_markdown_cell(id=NEIGHBOURS)
    neighbours.source = words
    kept = [cell for cell in made.cells if cell.id not in own]
    made.cells = [kept[0], colab, *kept[1:], neighbours]
    return made


def main(check: bool = False, paths: list[Path] | None = None) -> int:
    paths = paths or course()
    notebooks = {path: nbformat.read(path, as_version=4) for path in paths}
    titles = {path.name: title(notebook) for path, notebook in notebooks.items()}
    changed = 0
    for path, notebook in notebooks.items():
        text = nbformat.writes(linked(notebook, path.name, titles, repository())) + "\n"
        if text != path.read_text(encoding="utf-8"):
            changed += 1
            print(f"{shown(path)}: {'its links are not up to date: run `make links`' if check else 'links written'}")
            if not check:
                path.write_text(text, encoding="utf-8")
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
