"""Run the course headless, with a guard for what papermill lets pass.

    python ci/run_notebooks.py [--mode quick|laptop|paper] [-p NAME VALUE]… [NOTEBOOK]…

Executed notebooks go to build/notebooks/.  papermill exits with 0 after an exception inside a widget's callback, an unknown
parameter, a missing `parameters` cell, a parameter of the wrong type and `sys.exit(0)`; each is a failure here.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import io
import json
import logging
import re
import sys
import time
from pathlib import Path

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpecManager
from papermill.exceptions import PapermillExecutionError

ROOT = Path(__file__).resolve().parent.parent
MODES = ("quick", "laptop", "paper")
MOST_BYTES = 1_500_000
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class Refused(Exception):
    """A notebook that failed; the message is one line."""


def defaults(notebook) -> dict:
    """Names and values assigned in the one cell tagged `parameters`."""
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise Refused(f"{len(tagged)} cells are tagged 'parameters'; exactly one must be")
    values = {}
    for statement in ast.parse(tagged[0].source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            values[statement.targets[0].id] = ast.literal_eval(statement.value)
    return values


def check_parameters(given: dict, known: dict) -> None:
    """Refuse names that the notebook lacks and values of another type than its default's (None takes any)."""
    for name, value in given.items():
        if name not in known:
            raise Refused(f"unknown parameter {name!r}; it has {', '.join(known)}")
        default = known[name]
        same = type(value) is type(default) or (type(default) is float and type(value) is int)
        if default is not None and not same:
            raise Refused(
                f"parameter {name} must be {type(default).__name__} like its default {default!r}, not {type(value).__name__} {value!r}"
            )
    if given.get("mode", "quick") not in MODES:
        raise Refused(f"mode must be one of {', '.join(MODES)}, not {given['mode']!r}")


def planted_errors(value) -> list[str]:
    """Every error output anywhere inside a JSON value: widget state hides them in Output widgets."""
    if isinstance(value, dict):
        own = [f"{value.get('ename')}: {value.get('evalue')}"] if value.get("output_type") == "error" else []
        return own + [error for part in value.values() for error in planted_errors(part)]
    return [error for part in value for error in planted_errors(part)] if isinstance(value, list) else []


def check_executed(notebook) -> None:
    """Refuse an executed notebook with a cell that did not run or an error that did not stop it."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        where = f"cell {number} ({cell.get('id')})"
        if cell.execution_count is None:
            raise Refused(f"{where} did not run: the kernel ended early")
        for output in cell.outputs:
            if output.output_type == "error":
                raise Refused(f"{where}: {output.ename}: {output.evalue}")
            text = output.get("text", "") if output.output_type == "stream" else ""
            if "Traceback (most recent call last)" in text:
                raise Refused(f"{where} printed a traceback: {text.strip().splitlines()[-1]}")
    hidden = planted_errors(dict(notebook.metadata.get("widgets", {})))
    if hidden:
        raise Refused(f"a widget's callback failed: {hidden[0]}")


def run(path: Path, parameters: dict, output: Path) -> nbformat.NotebookNode:
    """Execute one notebook in its own folder; returns it executed, or raises Refused."""
    notebook = nbformat.read(path, as_version=4)
    check_parameters(parameters, defaults(notebook))
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            papermill.execute_notebook(
                str(path),
                str(output),
                parameters=parameters,
                cwd=str(path.parent),
                kernel_name="python3",
                progress_bar=False,
            )
    except PapermillExecutionError as error:
        raise Refused(f"cell {error.cell_index} [{error.exec_count}]: {error.ename}: {error.evalue}") from None
    except Exception as error:  # a kernel that dies, a file that cannot be read
        raise Refused(f"{type(error).__name__}: {str(error).splitlines()[0]}") from None
    executed = nbformat.read(output, as_version=4)
    check_executed(executed)
    return executed


def canonical(source, executed) -> nbformat.NotebookNode:
    """The source notebook with the executed one's text and pictures: no widget state, no timestamps, no injected cell."""
    result = copy.deepcopy(source)
    outputs = {cell.get("id"): cell.get("outputs", []) for cell in executed.cells}
    count = 0
    for cell in result.cells:
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        kept = []
        for output in copy.deepcopy(outputs.get(cell.get("id"), [])):
            if output.output_type == "stream":
                # A progress bar rewrites its line; a reader wants its end.
                output.text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in output.text.split("\n"))
                output.text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output.text)
            if "data" in output:
                output.data.pop(WIDGET_VIEW, None)
                if not output.data:
                    continue
            if "execution_count" in output:
                output.execution_count = count
            output.pop("transient", None)
            kept.append(output)
        cell.outputs = kept
    result.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of notebooks/NN_*.ipynb")
    parser.add_argument("--mode", choices=MODES, default="quick")
    parser.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="VALUE as JSON or text",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "notebooks")
    parser.add_argument(
        "--write-outputs", action="store_true", help="put text and pictures into the notebooks themselves"
    )
    options = parser.parse_args(arguments)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    # A user-wide python3 kernel would run the course outside its environment.
    KernelSpecManager.ensure_native_kernel = True
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = {"mode": options.mode} | {name: parse(value) for name, value in options.parameter}
    rows = []
    for path in options.notebooks or sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        started, verdict, cells = time.perf_counter(), "ok", 0
        print(f"{path.name} …", end="", flush=True)
        try:
            source = nbformat.read(path, as_version=4)
            cells = sum(cell.cell_type == "code" for cell in source.cells)
            executed = run(path.resolve(), parameters, options.output / path.name)
            if options.write_outputs:
                result = canonical(source, executed)
                if len(nbformat.writes(result).encode()) > MOST_BYTES:
                    raise Refused(f"with its outputs it is over {MOST_BYTES / 1e6} MB")
                nbformat.write(result, path)
        except Refused as failure:
            verdict = f"FAILED: {failure}"
        rows.append((path.name, cells, time.perf_counter() - started, verdict))
        print(f" {rows[-1][2]:.0f} s, {verdict}", flush=True)
    print(f"\n{'notebook':34} {'cells':>5} {'seconds':>8}  verdict")
    for name, cells, seconds, verdict in rows:
        print(f"{name:34} {cells:5} {seconds:8.1f}  {verdict}")
    failed = sum(verdict != "ok" for *_, verdict in rows)
    print(
        f"{len(rows) - failed} of {len(rows)} notebooks ran in {options.mode} mode; executed copies are in {options.output}"
    )
    return 1 if failed or not rows else 0


def parse(text: str):
    """JSON where it is JSON (numbers, true, null, lists), else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


if __name__ == "__main__":
    sys.exit(main())
