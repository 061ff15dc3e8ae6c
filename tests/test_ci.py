"""The notebook runner's guard and the lint catch what they are there for, each planted in a tiny notebook."""

import asyncio
import json
import time

import lint_notebooks
import nbformat
import pytest
import run_notebooks
import zmq.asyncio
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import Session
from nbconvert.exporters import ScriptExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from run_notebooks import canonical, execution_findings, on_a_terminal, parameter_findings, parsed

KERNEL = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": run_notebooks.LANGUAGE,
}
PARAMETERS = 'mode = "laptop"\nfast = True\nrate = 0.1\nepochs = None'


def notebook(*sources, parameters=PARAMETERS):
    """Code cells from strings, after a `parameters` cell."""
    cells = [new_code_cell(source, id=f"code-{number}") for number, source in enumerate(sources, 2)]
    if parameters is not None:
        cells.insert(0, new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}))
    return new_notebook(cells=cells, metadata=KERNEL)


def executed(*outputs, source="1"):
    made = notebook(source)
    for number, cell in enumerate(made.cells, 1):
        cell.execution_count = number
    made.cells[-1].outputs = list(outputs)
    return made


@pytest.fixture
def run(tmp_path):
    def run(*sources, **options):
        path = tmp_path / "90_planted.ipynb"
        nbformat.write(notebook(*sources), path)
        return run_notebooks.run(path, {"mode": "quick"}, tmp_path / "build", **options)

    return run


# The guard: parameters


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("nonsense", "1", "unknown parameter 'nonsense'"),
        ("fast", "false", "'false' (str), but the `parameters` cell has True (bool)"),
        ("fast", "1", "1 (int)"),
        ("rate", "low", "'low' (str)"),
        ("mode", "3", "3 (int)"),
        ("mode", "fast", "one of quick, laptop, paper"),
    ],
)
def test_a_parameter_that_papermill_would_swallow(name, value, says):
    (finding,) = parameter_findings(notebook(), {"mode": "quick", name: parsed(value)})
    assert says in finding


@pytest.mark.parametrize(("name", "value"), [("fast", "False"), ("rate", "1"), ("epochs", "3"), ("epochs", "many")])
def test_a_parameter_that_fits(name, value):
    assert list(parameter_findings(notebook(), {"mode": "quick", name: parsed(value)})) == []


def test_a_missing_parameters_cell():
    (finding,) = parameter_findings(notebook("1", parameters=None), {"mode": "quick"})
    assert "no code cell is tagged `parameters`" in finding


# The guard: what happened


def test_a_good_notebook_passes_and_its_outputs_go_back_without_what_changes(run, tmp_path):
    bar = "from tqdm.std import tqdm\nfor _ in tqdm(range(3)): pass"
    widget = "import ipywidgets\nipywidgets.interact(lambda x: print(x), x=3);"
    result = run("print(mode)", bar, widget, "1 + 1", write=True)
    assert result.findings == [] and result.cells == 5
    written = nbformat.read(tmp_path / "90_planted.ipynb", as_version=4)
    assert [cell.source for cell in written.cells] == [PARAMETERS, "print(mode)", bar, widget, "1 + 1"]
    _, mode, progress, interact, two = (cell.outputs for cell in written.cells)
    assert mode[0].text == "quick\n" and two[0].data == {"text/plain": "2"} and interact == []
    assert progress[0].text.startswith("100%") and progress[0].text.count("\n") == 1
    assert set(written.metadata) == {"kernelspec", "language_info"}
    assert "papermill" not in json.dumps(written)


@pytest.mark.parametrize(
    ("source", "place", "says"),
    [
        ("import ipywidgets\nipywidgets.interact(lambda x: 1 / 0, x=3);", "cell 3 (code-3)", "callback: ZeroDivision"),
        ("import sys\nsys.exit(0)", "cell 3 (code-3)", "SystemExit"),
        # Whether the killing cell itself still counts as begun is a race.
        ("import os\nos._exit(0)", "cell ", "never ran"),
        ("undefined", "cell 3 (code-3)", "NameError: name 'undefined' is not defined"),
    ],
    ids=["widget callback", "early exit", "dead kernel", "cell error"],
)
def test_a_failure_is_one_line_with_its_cell(run, source, place, says):
    (finding,) = run("1", source, "print('after')").findings
    assert finding.startswith(place) and says in finding and "\n" not in finding


def test_an_error_in_a_box_of_widgets_names_the_cell_that_shows_the_box():
    view = {"model_id": "b0", "version_major": 2, "version_minor": 0}
    shown = executed(new_output("display_data", data={run_notebooks.WIDGET_VIEW: view}))
    error = new_output("error", ename="ValueError", evalue="two\nlines")
    state = {"b0": {"state": {"children": ["IPY_MODEL_b1"]}}, "b1": {"state": {"outputs": [error]}}}
    shown.metadata["widgets"] = nbformat.from_dict({run_notebooks.WIDGET_STATE: {"state": state}})
    assert execution_findings(shown) == ["cell 2 (code-2): in a widget's callback: ValueError: two lines"]


def test_a_printed_traceback_is_a_failure_and_a_warning_only_when_asked():
    trace = "Traceback (most recent call last):\n  …\nKeyError: 'a'\n"
    (finding,) = execution_findings(executed(new_output("stream", name="stderr", text=trace)))
    assert finding.endswith("KeyError: 'a'")
    warned = executed(new_output("stream", name="stderr", text="x.py:1: UserWarning: old\n"))
    assert execution_findings(warned) == []
    assert len(execution_findings(warned, warnings=True)) == 1


def test_the_command_fails_when_one_notebook_does_and_says_which(tmp_path, capsys):
    for name, parameters in (("01_good", PARAMETERS), ("02_bare", None)):
        nbformat.write(notebook("1", parameters=parameters), tmp_path / f"{name}.ipynb")
    paths = [str(path) for path in sorted(tmp_path.glob("*.ipynb"))]
    assert run_notebooks.main([*paths, "--mode", "quick", "--to", str(tmp_path / "build")]) == 1
    said = capsys.readouterr().out
    assert "02_bare.ipynb no code cell is tagged" in said and "1 of 2 failed" in said


def test_a_reply_is_not_lost_when_a_widget_sends_while_it_arrives():
    async def exchange():
        context, session = zmq.asyncio.Context(), Session(key=b"key")
        kernel = zmq.Context.shadow(context.underlying).socket(zmq.ROUTER)
        client = context.socket(zmq.DEALER)
        client.connect(f"tcp://127.0.0.1:{kernel.bind_to_random_port('tcp://127.0.0.1')}")
        channel = run_notebooks.AttentiveChannel(client, session)
        channel.send(session.msg("execute_request"))
        peer = kernel.recv_multipart()[0]
        reply = asyncio.ensure_future(channel.get_msg(timeout=None))
        await asyncio.sleep(0.1)
        session.send(kernel, "execute_reply", {}, ident=peer)
        # Blocks the loop on purpose: the reply must be there, unseen, when the next message leaves.
        time.sleep(0.1)
        channel.send(session.msg("comm_msg"))
        try:
            return (await asyncio.wait_for(reply, 5))["msg_type"]
        finally:
            client.close(0)
            kernel.close(0)

    assert asyncio.run(exchange()) == "execute_reply"


# What is committed


def test_canonical_keeps_the_still_picture_and_drops_the_widget():
    view = {run_notebooks.WIDGET_VIEW: {"model_id": "b0"}}
    picture = {"image/png": "iVBOR", "text/plain": "Bars, one for each class."}
    made = executed(
        new_output("display_data", data=view | {"text/plain": "VBox(children=(…"}),
        new_output("display_data", data=view | {"text/plain": "3 of 4 runs:  75%|███   | 3/4 [00:01<00:00]"}),
        new_output(
            "display_data",
            data=view | picture | {"text/html": "<img alt='Bars'>"},
            metadata={"image/png": {"alt": "Bars"}},
        ),
        new_output("stream", name="stderr", text="\r  0%"),
        new_output("stream", name="stderr", text="\r100%\nsaved\n"),
    )
    made.cells.insert(1, new_code_cell("mode = 'quick'", metadata={"tags": ["injected-parameters"]}))
    made.cells[-1].metadata = nbformat.from_dict(
        {"papermill": {"duration": 1}, "execution": {"iopub.status.idle": "…"}}
    )
    before = json.dumps(made)
    once = canonical(made)
    assert json.dumps(made) == before, "the given notebook is left alone"
    still, note, text = once.cells[-1].outputs
    said = "<summary>Run this notebook to move it. In words</summary><p>Bars</p>"
    assert note.data["text/html"] == f"<details>{said}</details>"
    assert still.data == picture and still.metadata == {"image/png": {"alt": "Bars"}}
    assert text.text == "100%\nsaved\n"
    assert [cell.id for cell in once.cells] == ["parameters", "code-2"] and once.cells[-1].metadata == {}
    assert canonical(once) == once


@pytest.mark.parametrize("path", run_notebooks.course(), ids=lambda path: path.stem)
def test_a_notebook_becomes_a_python_script(path):
    for made in (nbformat.read(path, as_version=4), canonical(nbformat.read(path, as_version=4))):
        body, resources = ScriptExporter().from_notebook_node(made)
        assert resources["output_extension"] == ".py" and 'mode = "laptop"' in body
        compile(body, path.stem, "exec")


def test_a_bar_that_clears_itself_leaves_nothing():
    assert on_a_terminal("\r 50%|###\r         \r") == ""
    assert on_a_terminal("\rlong line\rshort\nnext") == "shortline\nnext"


@given(st.text(alphabet="ab \r\n"))
def test_a_terminal_shows_the_same_twice(text):
    assert on_a_terminal(on_a_terminal(text)) == on_a_terminal(text)


# The lint

WORDS = "One reads here what the figure above shows, and why that is so in our case. "


def course(tmp_path, change=lambda cells: None, name="01_model.ipynb", metadata=KERNEL):
    """The findings on a notebook that keeps every rule, after `change`."""
    texts = [
        "# A title\n\n**What is the question?**",
        "**In this notebook you will** " + WORDS + "**Prerequisites:** none. **Time:** 1 minute.",
        "## Predict first\n\n" + WORDS,
        "## Ours beside the paper\n\n" + WORDS,
        "## Exercise 1 (1 minute)\n\n" + WORDS,
        "## Recap\n\n" + WORDS,
    ]
    cells = [new_markdown_cell(text, id=f"text-{number}") for number, text in enumerate(texts)]
    cells.insert(3, new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]}))
    cells.insert(4, new_code_cell("from srat_utils.course import plots\nplots.Picture(*picture)", id="figure"))
    change(cells)
    path = tmp_path / name
    # Neither new_notebook(cells=…) nor nbformat.writes would leave a doubled id alone.
    made = new_notebook(metadata=metadata)
    made.cells = cells
    path.write_text(nbformat.v4.writes(made))
    return lint_notebooks.lint(path)


def picture(**metadata):
    return new_output("display_data", data={"image/png": "iVBOR"}, metadata=metadata)


def change(index, **fields):
    return lambda cells: cells[index].update(nbformat.from_dict(fields))


def test_a_notebook_that_keeps_the_rules_has_no_findings(tmp_path):
    assert course(tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        (change(0, source="A title"), "the one question"),
        (change(1, source=WORDS * 2), "the card near the top lacks"),
        (change(2, source="## Guess\n\n" + WORDS), "no heading says 'predict'"),
        (change(5, source="## Ours\n\n" + WORDS), "no heading says 'beside the paper'"),
        (change(6, source="```\n# Exercise\n```\n" + WORDS), "no heading says 'exercise'"),
        (change(7, source=WORDS), "no heading says 'recap'"),
        (change(3, metadata={}), "0 cells are tagged `parameters`"),
        (change(3, source="fast = True"), "sets mode to one of"),
        (change(3, source=PARAMETERS + "\npath = '/home/me/data'"), "a path of one machine, /home/"),
        (change(4, outputs=[new_output("stream", text="in /tmp/x.py")]), "a path of one machine, /tmp/"),
        (change(4, id="parameters"), "an id of its own"),
        (change(4, outputs=[picture()]), "a figure without alt text"),
        (change(4, outputs=[new_output("error", ename="E", evalue="e")]), "a stored error, E"),
        (change(4, metadata={"papermill": {}}), "papermill metadata"),
        (change(5, source="## Ours beside the paper"), "a figure that no sentence reads"),
        (change(5, source="![](figure.png) " + WORDS + "\n## beside the paper"), "a picture without alt text"),
        (change(7, source="## Recap\n\n" + "word " * 121), "122 words: at most 120"),
        (lambda cells: cells.insert(3, new_code_cell("1", id="third")), "the third code cell in a row"),
        (lambda cells: cells.insert(6, new_code_cell("x = 1\n" * 26, id="long")), "26 lines: at most 25"),
        (
            lambda cells: cells.insert(6, new_code_cell("x = " + "1" * 85, id="wide")),
            "a line of 89 columns: at most 88",
        ),
        (lambda cells: cells.insert(6, new_code_cell("x = 1\n" * 24, id="code")), "words of prose a line of code"),
        (lambda cells: cells.extend(new_markdown_cell("a", id=f"m-{n}") for n in range(53)), "61 cells: at most 60"),
    ],
)
@pytest.mark.filterwarnings("ignore:Non-unique cell id")
def test_the_lint_finds(tmp_path, planted, says):
    failures, _ = course(tmp_path, planted)
    assert any(says in finding for finding in failures), failures


def test_the_lint_notes_a_long_cell_without_failing(tmp_path):
    def plant(cells):
        cells[5:5] = [new_markdown_cell(WORDS * 7, id="more"), new_code_cell("x = 1\n" * 16, id="long")]

    failures, (note,) = course(tmp_path, plant)
    assert failures == [] and "cell 7 (long): note: 16 lines" in note


def test_the_lint_finds_another_kernel_a_widget_state_and_no_notebook_at_all(tmp_path):
    spec = {"kernelspec": {"name": "srat", "display_name": "srat"}, "widgets": {}}
    failures, _ = course(tmp_path, metadata=spec)
    said = ("python3", "language_info is incomplete", "widget state")
    assert [part in failure for part, failure in zip(said, failures, strict=True)] == [True] * 3
    path = tmp_path / "02_broken.ipynb"
    path.write_text("{")
    assert "no valid notebook" in lint_notebooks.lint(path)[0][0]


def test_notebook_00_needs_neither_exercises_nor_a_comparison(tmp_path):
    def plant(cells):
        del cells[6]
        cells[5].source = WORDS

    assert course(tmp_path, plant, name="00_start.ipynb")[0] == []
    assert len(course(tmp_path, plant, name="01_start.ipynb")[0]) == 2


def test_prose_counts_what_is_read():
    text = "Two words, $x$ and $$y z$$ `code` [a link](https://example.org) <b>bold</b>\n| a | table |\n<details>no</details>"
    assert lint_notebooks.prose(text) == ["Two", "words", "and", "a", "link", "bold"]
