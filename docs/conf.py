"""Sphinx's settings for the site; `make site` prepares the pages and calls it.  Nothing here may need a network to be read."""

import re
import unicodedata
from pathlib import Path

import ziamath
from docutils.nodes import SkipNode
from latex2mathml.converter import convert

project = "Robust models from imbalanced images"
html_title = "SRAT: a course"
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["files"]
default_role = "literal"

nb_execution_mode = "off"
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

html_theme = "furo"
# With the font, formulas look the same in every browser.
html_static_path = [
    str(Path(__file__).parent / "static"),
    str(Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"),
]
html_extra_path = [str(Path(__file__).parents[1] / "build" / "pages" / "files")]
html_theme_options = {"light_css_variables": {"code-font-size": "75%"}}
html_css_files = ["site.css"]
html_js_files = [("sliders.js", {"defer": ""})]
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_show_search_summary = False  # it would fetch the pages, which a browser refuses for pages on disk
html_math_renderer = "mathml"


def mathml(tex: str, display: str) -> str:
    # The converter does not know \arg, and leaves no space between log and x.
    made = convert(tex.replace(r"\arg", r"\operatorname{arg}"), display=display)
    made = re.sub(r"(?<=<mi>)(log|ln|exp|max|min)</mi>(?=<m(?!o))", r'\1</mi><mspace width="0.17em"/>', made)
    return re.sub(r' mathvariant="(bold|script|double-struck)">(\w)<', lambda m: f">{styled(m[2], m[1])}<", made)


def styled(letter: str, style: str) -> str:
    """A letter or digit as a character of its own; browsers no longer read `mathvariant`."""
    name = re.sub("LATIN |LETTER ", "", f"{style.upper()} {unicodedata.name(letter)}")
    try:
        return unicodedata.lookup(f"MATHEMATICAL {name}")
    except KeyError:  # ℝ and a few more were there before the others
        return unicodedata.lookup(name)


def formula(display: str):
    """Formulas as MathML, which browsers and screen readers know by themselves: no script."""

    def visit(translator, node) -> None:
        made = mathml(node.astext(), display)
        translator.body.append(made if display == "inline" else f'<div class="formula">{made}</div>')
        raise SkipNode

    return visit, None


def setup(app) -> dict:
    app.add_html_math_renderer("mathml", formula("inline"), formula("block"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
