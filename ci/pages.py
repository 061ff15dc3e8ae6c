"""Make the course's site in build/site: plain HTML that moves, and is searched, without a kernel and without a network.

python ci/pages.py    takes notebooks as `make course` ran them last; those that it did not, or that changed, run in quick mode

Pages are prepared in build/pages and made by Sphinx (docs/conf.py).  A slider over frames that were made beforehand becomes an
<input> that docs/static/sliders.js moves; of what needs a kernel the still picture is shown.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from html import escape, unescape
from itertools import count
from pathlib import Path

import links
import nbformat
import run_notebooks
from nbformat.v4 import new_markdown_cell, new_output
from run_notebooks import ROOT, WIDGET_STATE, WIDGET_VIEW, canonical, course

EXECUTED, PAGES, SITE = (ROOT / "build" / name for name in ("notebooks", "pages", "site"))
PICTURES = PAGES / "files" / "pictures"  # what lies in files/ is copied as it is
QUICK = """> These outputs come from a short run (`mode = "{mode}"`), which shows that the cells run. The text speaks of the numbers of
> `mode = "laptop"`, which the [notebook itself]({address}) holds."""

LEDGER = """# The ledger of claims

What the paper claims, and what our runs say of it. Each difference is taken so that it is positive where the paper says that
something rises; *up* and *down* are said where its 95 % interval, after Holm's correction, leaves 0 out.

## In short

{short}

## In full

`results/claims.csv` holds the same rows.

```{{raw}} html
<div class="shown">{full}</div>
```
"""
# In docs/index.md, where the list of notebooks goes.
CONTENTS = "<!-- the notebooks and their questions -->"

# Notebooks


def is_fresh(path: Path) -> bool:
    """Whether the notebook was run to its end, as it is now and with the package and the results as they are now."""
    executed = EXECUTED / path.name
    if not executed.exists():
        return False
    made = nbformat.read(executed, as_version=4)
    about = made.metadata.get("papermill", {})
    sources = [[cell.source for cell in canonical(each).cells] for each in (made, nbformat.read(path, as_version=4))]
    used = [
        *(ROOT / "srat_utils").rglob("*.py"),
        *(ROOT / "results").rglob("*.csv"),
        *(ROOT / "results").rglob("*.npz"),
    ]
    changed = max(file.stat().st_mtime for file in used)
    complete = bool(about.get("end_time")) and not about.get("exception")
    return complete and sources[0] == sources[1] and executed.stat().st_mtime > changed


def prepared(path: Path):
    """An executed notebook as a page: pictures as files with their alt text, sliders as plain HTML."""
    notebook = nbformat.read(path, as_version=4)
    mode = notebook.metadata["papermill"]["parameters"].get("mode")
    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    widgets = Widgets(state)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [as_html(output, widgets) for output in cell.outputs]
    page = canonical(notebook)
    page.cells = [cell for cell in page.cells if cell.id not in (links.COLAB, links.NEIGHBOURS)]
    if mode != "laptop":
        address = f"{links.repository()}/blob/HEAD/notebooks/{path.name}"
        page.cells.insert(1, new_markdown_cell(QUICK.format(mode=mode, address=address)))
    return page


def as_html(output, widgets: Widgets):
    data = output.get("data", {})
    if WIDGET_VIEW in data and (moving := widgets.html(data[WIDGET_VIEW]["model_id"])):
        html = moving
    elif "image/png" in data:
        about = output.metadata.get("image/png", {})
        html = picture(base64.b64decode(data["image/png"]), about.get("alt", ""), about.get("width"))
        if WIDGET_VIEW in data:
            html = f"<figure>{html}<figcaption>A still: run this notebook to {widgets.use(data[WIDGET_VIEW]['model_id'])}.</figcaption></figure>"
    elif "text/html" in data:
        html = data["text/html"]
    else:
        return output
    return new_output("display_data", data={"text/html": f'<div class="shown">{html}</div>'})


def picture(png: bytes, alt: str, width: int | None = None) -> str:
    """An <img> of a file that equal pictures share; browsers load it when it comes into view."""
    name = hashlib.sha256(png).hexdigest()[:16] + ".png"
    (PICTURES / name).write_bytes(png)
    across, down = (int.from_bytes(png[place : place + 4], "big") for place in (16, 20))
    size = f'width="{width or across}" height="{round(down * (width or across) / across)}"'
    return f'<img src="../pictures/{name}" alt="{escape(alt)}" {size} loading="lazy">'


class NeedsKernel(Exception):
    """A control that nothing in the page answers."""


class Widgets:
    """The stored widgets of a notebook, as HTML that moves where a link inside the browser moves them."""

    def __init__(self, state: dict):
        self.state = state
        pairs = [model["state"] for model in state.values() if model["model_name"] == "LinkModel"]
        self.follows = {inside(pair["target"][0]): inside(pair["source"][0]) for pair in pairs}
        self.names = dict(zip(dict.fromkeys(self.follows.values()), map("control-{}".format, count(1)), strict=False))

    def html(self, model: str) -> str | None:
        """None where it would need a kernel."""
        try:
            return self.part(model) if model in self.state else None
        except NeedsKernel:
            return None

    def use(self, model: str) -> str:
        return "train" if "Train" in self.words(model) else "move it"

    def words(self, model: str) -> set[str]:
        traits = self.state.get(model, {}).get("state", {})
        own = {traits.get("description", "")}
        return own.union(*(self.words(inside(child)) for child in traits.get("children", [])))

    def part(self, model: str) -> str:
        kind, traits = self.state[model]["model_name"], self.state[model]["state"]
        parts = [self.part(inside(child)) for child in traits.get("children", [])]
        if kind in ("VBoxModel", "HBoxModel"):
            return f'<div class="{kind[:4].lower()}">{"".join(parts)}</div>'
        if kind == "HTMLModel":
            return with_files(traits["value"])
        if kind == "StackModel":
            chosen = traits["selected_index"]
            frames = "".join(
                f"<div{'' if place == chosen else ' hidden'}>{frame}</div>" for place, frame in enumerate(parts)
            )
            return f'<div data-follows="{self.names[self.follows[model]]}">{frames}</div>'
        if model not in self.names:
            raise NeedsKernel(kind)
        name, words = self.names[model], escape(traits["description"])
        if kind == "IntSliderModel":
            sizes = " ".join(f'{bound}="{traits[bound]}"' for bound in ("min", "max", "value"))
            return f'<label>{words} <input type="range" {sizes} data-moves="{name}" autocomplete="off"></label>'
        choices = "".join(
            f'<label><input type="radio" name="{name}" value="{place}" autocomplete="off"'
            f"{' checked' if place == traits['index'] else ''}> {escape(option)}</label> "
            for place, option in enumerate(traits["_options_labels"])
        )
        return f'<fieldset data-moves="{name}"><legend>{words}</legend>{choices}</fieldset>'


def inside(reference: str) -> str:
    return reference.removeprefix("IPY_MODEL_")


def with_files(html: str) -> str:
    """Pictures that lie in the HTML itself, as files."""

    def file(tag: re.Match) -> str:
        return picture(base64.b64decode(tag[1]), unescape(tag[2]))

    return re.sub(r'<img src="data:image/png;base64,([^"]*)" alt="([^"]*)"[^>]*>', file, html)


# Pages


def with_addresses(text: str, source: Path, pages: dict[Path, str]) -> str:
    """Links between pages lead to where the pages lie, and links to other files of the project to its repository."""

    def readdressed(link: re.Match) -> str:
        target, _, anchor = link[1].partition("#")
        path = (source.parent / target).resolve()
        if not target or ":" in target or not path.exists():
            return link[0]
        if path.suffix == ".png":
            shutil.copy(path, PAGES / path.name)
            address = os.path.relpath(path.name, Path(pages[source]).parent)
        elif path in pages:
            address = os.path.relpath(pages[path], Path(pages[source]).parent)
        else:
            address = f"{links.repository()}/{'tree' if path.is_dir() else 'blob'}/HEAD/{path.relative_to(ROOT)}"
        return f"]({address}{'#' * bool(anchor)}{anchor})"

    return re.sub(r"\]\(([^)\s]+)\)", readdressed, text)


def ledger() -> str:
    import pandas as pd

    from srat_utils.course import tables

    rows = pd.read_csv(ROOT / "results" / "claims.csv", dtype=str, keep_default_na=False)
    files = {path.name[:2]: path.name for path in course()}
    stages = list(rows["stage"].unique())
    lines = ["| | claim | the paper says | " + " | ".join(stages) + " | |", "|---" * (len(stages) + 4) + "|"]
    for (section, claim, said, number), own in rows.groupby(["section", "claim", "paper", "notebook"], sort=False):
        found = [counted(own[own["stage"] == stage]) for stage in stages]
        cells = [section, claim, said, *found, f"[{number}](notebooks/{files[number]})"]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    parts = []
    for number, own in rows.groupby("notebook"):
        shown = tables.in_full(own.drop(columns="notebook").set_index(["section", "claim"])).html
        parts.append(f"<details><summary>Every difference of notebook {number} ({len(own)})</summary>{shown}</details>")
    return LEDGER.format(short="\n".join(lines), full="".join(parts))


def counted(rows) -> str:
    """`PGD-20: 2 up, 1 undecided`, for each attack."""
    if set(rows["verdict"]) == {"not measured"}:
        return "not measured"
    return "; ".join(
        f"{'clean' if attack == 'none' else attack}: " + ", ".join(f"{n} {word}" for word, n in words.value_counts().items())
        for attack, words in rows.groupby("attack", sort=False)["verdict"]
    )  # fmt: skip


def reference() -> dict[str, str]:
    """File name → text: a page for each module of the science, and one that names the rooms of the course."""
    science = sorted({f"srat_utils.{module.stem}" for module in (ROOT / "srat_utils").glob("[a-z]*.py")})
    science += ["srat_utils.attacks"]
    texts = {f"reference/{name}.rst": titled(name, f".. automodule:: {name}\n   :members:\n") for name in science}
    rooms = sorted(module.stem for module in (ROOT / "srat_utils" / "course").glob("[a-z]*.py"))
    lines = []
    for name in [f"srat_utils.course.{room}" for room in rooms]:
        words = (inspect.getdoc(importlib.import_module(name)) or "").partition("\n\n")[0]
        lines.append(f"``{name}``\n    {' '.join(words.split())}\n")
    texts["reference/course.rst"] = titled("srat_utils.course", "What only the notebooks need.\n\n" + "\n".join(lines))
    contents = ".. toctree::\n   :maxdepth: 1\n\n" + "".join(f"   {name}\n" for name in (*sorted(science), "course"))
    texts["reference/index.rst"] = titled("Reference", "The package, a page a module.\n\n" + contents)
    return texts


def contents() -> str:
    """A table of the notebooks and the question that each answers, which its first cell has in bold."""
    lines = ["| notebook | question |", "|---|---|"]
    for path in course():
        first = nbformat.read(path, as_version=4).cells[0].source
        question = re.search(r"\*\*(.+?)\*\*", first, re.DOTALL)[1]
        lines.append(f"| [{first.splitlines()[0].removeprefix('# ')}](notebooks/{path.name}) | {question} |")
    return "\n".join(lines)


def titled(title: str, text: str) -> str:
    return f"{title}\n{'=' * len(title)}\n\n{text}"


def stage() -> None:
    """Everything that Sphinx reads, in build/pages."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    own = {path: path.name for path in (ROOT / "docs").glob("*.md")}
    pages = own | {path: f"notebooks/{path.name}" for path in course()}
    texts = {name: with_addresses(path.read_text(encoding="utf-8"), path, pages) for path, name in own.items()}
    texts["index.md"] = texts["index.md"].replace(CONTENTS, contents())
    for path in course():
        page = prepared(EXECUTED / path.name)
        for cell in (cell for cell in page.cells if cell.cell_type == "markdown"):
            cell.source = with_addresses(cell.source, path, pages)
        texts[pages[path]] = nbformat.writes(page)
    for name, text in (texts | {"claims.md": ledger()} | reference()).items():
        (PAGES / name).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / name).write_text(text, encoding="utf-8")


def main() -> int:
    stale = [path for path in course() if not is_fresh(path)]
    if stale and (failed := run_notebooks.main([*map(str, stale), "--mode", "quick"])):
        return failed
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    places = ["-c", str(ROOT / "docs"), "-d", str(ROOT / "build" / "doctrees"), str(PAGES), str(SITE)]
    made = subprocess.run([sys.executable, "-m", "sphinx", "-q", "-j", "auto", *places], check=False).returncode
    if not made:
        size = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file())
        print(f"{run_notebooks.shown(SITE)}/index.html: {len(list(SITE.rglob('*.html')))} pages, {size / 1e6:.1f} MB")
    return made


if __name__ == "__main__":
    sys.exit(main())
