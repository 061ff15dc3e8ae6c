"""Run the course's notebooks through papermill, and fail where papermill would not.

    python ci/run_notebooks.py --mode quick                                  all notebooks
    python ci/run_notebooks.py notebooks/05_srat_training.ipynb -p epochs 3  one, with another parameter

papermill reports success after an exception in a widget callback, an unknown or mistyped parameter, a missing `parameters`
cell and `sys.exit(0)`.  `parameter_findings` and `execution_findings` are the guard against that.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from queue import Empty

import nbformat
from jupyter_client import AsyncKernelClient, AsyncKernelManager
from jupyter_client.channels import AsyncZMQSocketChannel
from traitlets import Type

ROOT = Path(__file__).resolve().parents[1]
MODES = ("quick", "laptop", "paper")
QUICK_SECONDS = 60
SIZE_LIMIT = 1_500_000
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
# What does not depend on the Python that ran it; `jupyter nbconvert --to script` asks for the ending and the exporter.
LANGUAGE = {
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
ADDED_BY_PAPERMILL = {"injected-parameters", "papermill-error-cell-tag"}
UNREADABLE = object()
MOVES = "Run this notebook to move it."
IN_WORDS = "In words"
BAR = re.compile(r"\d+%\|")


def course() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def shown(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def place(notebook, cell_id: str | None) -> str:
    """`cell 7 (id)`, counted as a reader counts: from one, without what papermill adds."""
    ids = [cell.get("id") for cell in notebook.cells if not tags(cell) & ADDED_BY_PAPERMILL]
    return f"cell {ids.index(cell_id) + 1} ({cell_id}): " if cell_id in ids else ""


# Before the run: the parameters


def parameter_defaults(notebook) -> dict[str, object] | None:
    """The names that the `parameters` cell assigns, with their values; None without such a cell."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and "parameters" in tags(cell)]
    if not cells:
        return None
    defaults = {}
    for node in ast.parse(cells[0].source).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            try:
                defaults[ast.unparse(target)] = ast.literal_eval(node.value)
            except (ValueError, TypeError):
                defaults[ast.unparse(target)] = UNREADABLE
    return defaults


def fits(value, default) -> bool:
    if default is None or default is UNREADABLE:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return type(value) is type(default)
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))


def parameter_findings(notebook, given: dict[str, object]) -> Iterator[str]:
    try:
        defaults = parameter_defaults(notebook)
    except SyntaxError as error:
        yield f"the `parameters` cell is not plain Python: {error}"
        return
    if defaults is None:
        yield "no code cell is tagged `parameters`, so no parameter would reach the notebook: tag the one that sets `mode`"
        return
    for name, value in given.items():
        if name not in defaults:
            yield f"unknown parameter {name!r}: the `parameters` cell sets {', '.join(defaults)}"
        elif not fits(value, defaults[name]):
            wanted, got = type(defaults[name]).__name__, type(value).__name__
            yield f"parameter {name} is {value!r} ({got}), but the `parameters` cell has {defaults[name]!r} ({wanted})"
        elif name == "mode" and value not in MODES:
            yield f"parameter mode is {value!r}: it is one of {', '.join(MODES)}"


# After the run: everything the notebook's cells and widgets show


def problem(output, warnings: bool = False) -> str | None:
    """What went wrong in an output, in one line."""
    if output["output_type"] == "error":
        return " ".join(f"{output['ename']}: {output['evalue']}".split())
    text = "".join(output.get("text", ""))
    if "Traceback (most recent call last)" in text:
        return "a traceback was printed: " + text.strip().splitlines()[-1]
    if warnings and output.get("name") == "stderr" and (warning := re.search(r"\w+Warning: .*", text)):
        return warning[0]
    return None


def widgets_shown(notebook, state: dict) -> dict[str, str]:
    """Widget model id → id of the cell that shows it, through the boxes that hold it."""
    owners = {}
    for cell in notebook.cells:
        found = [
            out.data[WIDGET_VIEW]["model_id"] for out in cell.get("outputs", []) if WIDGET_VIEW in out.get("data", {})
        ]
        while found:
            model = found.pop()
            if model not in owners and model in state:
                owners[model] = cell.get("id")
                found += re.findall(r"IPY_MODEL_(\w+)", json.dumps(state[model]))
    return owners


def execution_findings(notebook, warnings: bool = False) -> list[str]:
    findings, failed = [], False
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if message := problem(output, warnings):
                failed |= output["output_type"] == "error"
                findings.append(place(notebook, cell.get("id")) + message)
    if not failed:
        asleep = [
            cell
            for cell in notebook.cells
            if cell.cell_type == "code" and cell.source.strip() and not cell.execution_count
        ]
        if asleep:
            more = f", nor did {len(asleep) - 1} more" if len(asleep) > 1 else ""
            findings.append(f"{place(notebook, asleep[0].get('id'))}never ran{more}: the kernel ended early")
    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    owners = widgets_shown(notebook, state)
    for model, widget in state.items():
        for output in widget["state"].get("outputs", []):
            if message := problem(output, warnings):
                findings.append(f"{place(notebook, owners.get(model))}in a widget's callback: {message}")
    return findings


# The form in which notebooks are committed


def on_a_terminal(text: str) -> str:
    """The text with every progress bar at its last state."""

    def last(line: str) -> str:
        if "\r" not in line:
            return line
        seen = ""
        for part in line.split("\r"):
            seen = part + seen[len(part) :]
        return seen.rstrip()

    return "\n".join(last(line) for line in text.split("\n"))


def in_words(alt: str, moves: bool):
    """What stands below a committed picture: JupyterLab shows a PNG without its alt text."""
    summary = f"{MOVES} {IN_WORDS}" if moves else IN_WORDS
    html = f"<details><summary>{summary}</summary><p>{escape(alt)}</p></details>"
    return nbformat.v4.new_output("display_data", {"text/html": html, "text/plain": f"{summary}: {alt}"})


def is_in_words(output) -> bool:
    return bool(output) and f"{IN_WORDS}</summary>" in output.get("data", {}).get("text/html", "")


def canonical_outputs(outputs) -> list:
    """Text and pictures, and a picture's words; of a slider its still, which says that it is one; of a bar nothing."""
    kept = []
    for output, after in zip(outputs, [*outputs[1:], None], strict=False):
        if output.output_type == "stream":
            if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                kept[-1].text += output.text
            else:
                kept.append(output)
            continue
        moves = WIDGET_VIEW in output.get("data", {})
        if moves:
            del output.data[WIDGET_VIEW]
            # A widget's own text, `VBox(children=…`; a still picture's alt text stays.
            text = output.data.get("text/plain", "")
            if re.match(r"\w+\(", text) or BAR.search(text):
                del output.data["text/plain"]
        if "image/png" in output.get("data", {}):
            # The same picture again; GitHub may show only the PNG.
            output.data.pop("text/html", None)
            kept.append(output)
            if alt := not is_in_words(after) and output.metadata.get("image/png", {}).get("alt"):
                kept.append(in_words(alt, moves))
            continue
        if output.get("data", True):
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = on_a_terminal(output.text)
    return [output for output in kept if output.output_type != "stream" or output.text.strip()]


def canonical(notebook):
    """A copy with what a reader sees and nothing that changes from run to run or needs a kernel."""
    clean = copy.deepcopy(notebook)
    clean.metadata.pop("widgets", None)
    clean.metadata.pop("papermill", None)
    clean.metadata["kernelspec"] = nbformat.from_dict(
        {"display_name": "Python 3", "language": "python", "name": "python3"}
    )
    clean.metadata["language_info"] = nbformat.from_dict(LANGUAGE)
    clean.cells = [cell for cell in clean.cells if not tags(cell) & ADDED_BY_PAPERMILL]
    count = 0
    for cell in clean.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not tags(cell):
            cell.metadata.pop("tags", None)
        if cell.cell_type != "code":
            continue
        count += 1
        ran = cell.execution_count is not None
        cell.execution_count = count if ran else None
        cell.outputs = canonical_outputs(cell.outputs)
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
    return clean


def write_outputs(path: Path, executed) -> Iterator[str]:
    """Put the executed outputs into the notebook's own file, its sources untouched."""
    notebook = nbformat.read(path, as_version=4)
    ran = {cell.id: cell for cell in executed.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = ran[cell.id].outputs, ran[cell.id].execution_count
    text = nbformat.writes(canonical(notebook)) + "\n"
    if len(text.encode()) > SIZE_LIMIT:
        yield f"its outputs make it {len(text.encode()) / 1e6:.1f} MB, and {SIZE_LIMIT / 1e6} is the limit: fewer or smaller pictures"
    else:
        path.write_text(text, encoding="utf-8")


# One notebook, and all of them


class AttentiveChannel(AsyncZMQSocketChannel):
    """Looks again while it waits: a widget's message can swallow the news of the cell's reply (nbclient issue 312)."""

    async def get_msg(self, timeout=None):
        while timeout is None:
            try:
                return await super().get_msg(0.2)
            except Empty:
                continue
        return await super().get_msg(timeout)


class AttentiveClient(AsyncKernelClient):
    shell_channel_class = Type(AttentiveChannel)


class AttentiveManager(AsyncKernelManager):
    client_factory = Type(AttentiveClient)


@dataclass(frozen=True)
class Result:
    path: Path
    cells: int
    seconds: float
    findings: list[str]

    @property
    def verdict(self) -> str:
        return f"FAILED ({len(self.findings)})" if self.findings else "ok"


def run(path: Path, given: dict[str, object], folder: Path, *, write: bool = False, warnings: bool = False) -> Result:
    """Execute one notebook into `folder`, in the notebook's own directory, and collect what is wrong."""
    # papermill takes a second to import, and the lint shares this file.
    import papermill

    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    findings = list(parameter_findings(notebook, given))
    if not findings:
        folder.mkdir(parents=True, exist_ok=True)
        output = folder.resolve() / path.name
        output.unlink(missing_ok=True)
        stopped = None
        try:
            papermill.execute_notebook(
                path.resolve(), output, given, kernel_name="python3", cwd=path.resolve().parent, progress_bar=False,
                # The kernel's own chatter about its transport, once a notebook, is not for the reader.
                extra_arguments=["--log-level=40"], kernel_manager_class=AttentiveManager,
            )  # fmt: skip
        except Exception as error:
            stopped = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        executed = nbformat.read(output, as_version=4) if output.exists() else None
        findings = execution_findings(executed, warnings) if executed else []
        if stopped and not findings:
            findings = [stopped]
        if write and not findings:
            findings = list(write_outputs(path, executed))
    return Result(path, len(notebook.cells), time.perf_counter() - started, findings)


def table(results: list[Result], mode: str) -> str:
    width = max(len(result.path.stem) for result in results)
    lines = [f"{'notebook':{width}}  cells  seconds  verdict"]
    for result in results:
        slow = f", over {QUICK_SECONDS} s" if mode == "quick" and result.seconds > QUICK_SECONDS else ""
        lines.append(f"{result.path.stem:{width}}  {result.cells:5d}  {result.seconds:7.1f}  {result.verdict}{slow}")
    failed = sum(bool(result.findings) for result in results)
    verdict = f"{failed} of {len(results)} failed" if failed else "all ok"
    lines.append(
        f"{'total':{width}}  {sum(r.cells for r in results):5d}  {sum(r.seconds for r in results):7.1f}  {verdict}"
    )
    return "\n".join(lines)


def parsed(text: str):
    """A parameter as Python reads it, and a string where it reads nothing: 3, 0.5, True, None, [1, 2], step-25."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: notebooks/NN_*.ipynb")
    parser.add_argument("--mode", choices=MODES, default="laptop")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters")
    parser.add_argument(
        "--to", type=Path, default=ROOT / "build" / "notebooks", help="folder of the executed notebooks"
    )
    parser.add_argument("--write-outputs", action="store_true", help="put text and pictures back into the notebooks")
    parser.add_argument("--warnings", action="store_true", help="a Python warning is a failure, too")
    options = parser.parse_args(arguments)
    paths = options.notebooks or course()
    if missing := [str(path) for path in paths if not path.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    # A python3 kernel in the user's home must not take the place of this environment's.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    given = {"mode": options.mode} | {name: parsed(value) for name, value in options.parameters}
    results = []
    for path in paths:
        print(f"{shown(path)} … ", end="", flush=True)
        result = run(path, given, options.to, write=options.write_outputs, warnings=options.warnings)
        print(f"{result.verdict}, {result.seconds:.0f} s", flush=True)
        for finding in result.findings:
            print(f"  {shown(path)} {finding}", flush=True)
        results.append(result)
    print("\n" + table(results, options.mode))
    return int(any(result.findings for result in results))


if __name__ == "__main__":
    sys.exit(main())
