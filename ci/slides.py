"""Slides of the course for a lecture: the cells named here, from the notebooks' committed outputs, in build/slides.

    python ci/slides.py

nbconvert's pages load reveal.js, require.js and MathJax over the network.  For a room without one, print them to PDF
before, by `?print-pdf` at the end of the address.
"""

from __future__ import annotations

import nbformat
from nbconvert.exporters import SlidesExporter
from run_notebooks import ROOT, course, tags
from traitlets.config import Config

# Notebook → its slides, each the ids of its cells.  A cell with the tag `slide` is a slide of its own as well.
SLIDES = {
    "00": ("title", "first-picture", "predict", "slider-text slider", "slider-notice", "pgd-text", "pgd", "both both-notice", "recap"),
    "01": ("title", "predict", "counts-text", "accuracy-text", "figure", "figure-notice", "claims-text", "recap"),
    "02": ("title", "predict", "weight-text", "weight weight-notice", "slider", "slider-notice", "recap"),
    "03": ("title", "predict", "network-text", "tsne-two", "tsne-two-notice", "numbers-text", "table-notice", "recap"),
    "04": ("title", "predict", "model-text", "lemma-text", "explorer", "explorer-notice", "reweighter-text reweighter",
           "adversary-text", "bridge-figure", "bridge-notice", "recap"),
    "05": ("title", "predict", "sep-text", "weights-text", "schedule", "losses-text", "losses-curve", "step-text step",
           "figure", "figure-notice", "lambda", "lambda-notice", "verdict-notice", "recap"),
    "06": ("title", "predict", "tables-notice", "wins-text", "wins-notice", "classes", "classes-notice", "ranks-figure",
           "ranks-notice", "recap"),
    "07": ("title", "predict", "ratios-notice", "lambda-step", "switch-text", "switch-figure", "switch-notice", "recap"),
    "08": ("title", "predict", "opening", "opening-read", "build", "ladder-figure", "ladder-read", "lemma", "scale-frames",
           "scale-read", "checklist", "recap"),
    "09": ("title", "predict", "prior-text", "lemma-text", "positives", "budgets", "comparison", "comparison-figure",
           "which", "recap"),
    "10": ("title", "predict", "look", "eps", "choose-notice", "test-figure", "test-notice", "yours", "recap"),
}  # fmt: skip


def marked(notebook: nbformat.NotebookNode, slides: tuple[str, ...]) -> nbformat.NotebookNode:
    """The notebook with nbconvert's own marks: where a slide begins, what goes on with it, and what is left out."""
    begins = {slide.split()[0] for slide in slides}
    goes_on = {name for slide in slides for name in slide.split()[1:]}
    for cell in notebook.cells:
        kind = "slide" if cell.id in begins or "slide" in tags(cell) else "-" if cell.id in goes_on else "skip"
        cell.metadata["slideshow"] = {"slide_type": kind}
        # Of a figure the audience needs the picture.
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            cell.metadata["tags"] = [*tags(cell), "figure"]
    return notebook


def main() -> None:
    folder = ROOT / "build/slides"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"reveal_scroll": True, "reveal_number": "c/t", "reveal_transition": "none"}
    settings |= {"exclude_input_prompt": True, "exclude_output_prompt": True}
    hidden = {"enabled": True, "remove_input_tags": {"figure"}}
    make = SlidesExporter(config=Config({"SlidesExporter": settings, "TagRemovePreprocessor": hidden}))
    for path in course():
        notebook = marked(nbformat.read(path, as_version=4), SLIDES.get(path.name[:2], ()))
        page, _ = make.from_notebook_node(notebook, {"metadata": {"name": path.stem}})
        written = (folder / path.name).with_suffix(".html")
        written.write_text(page, encoding="utf-8")
        print(written.relative_to(ROOT))


if __name__ == "__main__":
    main()
