"""A JupyterLab of its own, with settings, trust and runs apart from the user's, read by a headless Chromium."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.sign import NotebookNotary

ROOT = Path(__file__).resolve().parents[2]
COURSE = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Without a display, and without the services that look for a network: a build machine may have neither.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Lab keeps only the cells in view in the page, and asks the network for news, unless it is told otherwise.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
PATIENCE = 300  # seconds; a busy machine is no failure

CELLS_DRAWN = """() => {
    const panel = window.jupyterapp?.shell.currentWidget, cells = panel?.content?.model?.cells;
    return cells?.length > 0 && panel.context.isReady && panel.revealed !== undefined
        && panel.node.querySelectorAll('.jp-Cell').length === cells.length;
}"""
RUN_ALL = """async () => {
    const panel = jupyterapp.shell.currentWidget;
    await panel.sessionContext.ready;
    await jupyterapp.commands.execute('notebook:run-all-cells');
    const outputs = panel.content.model.toJSON().cells.flatMap(cell => cell.outputs ?? []);
    window.widgetsExpected = outputs.filter(output => output.data?.['application/vnd.jupyter.widget-view+json']).length;
    window.allRan = true;
}"""
END_KERNEL = """async () => {
    const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
    // One that is still starting cannot be ended, and would stay; one that asks for a kernel never starts.
    await Promise.race([session?.ready, new Promise(resolve => setTimeout(resolve, 30000))]);
    await session?.shutdown();
}"""
# A widget, and a picture in it, is drawn some time after its cell is done.
AT_REST = """() => window.allRan && jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'
    && document.querySelectorAll('.jp-OutputArea-output > .jupyter-widgets').length >= window.widgetsExpected
    && [...document.images].every(image => image.complete)"""

TRUSTED = """() => [...jupyterapp.shell.currentWidget.content.model.cells]
    .filter(cell => cell.type === 'code').every(cell => cell.trusted)"""


def missing() -> str | None:
    """What is not there to open a browser, and how to get it."""
    if not importlib.util.find_spec("playwright"):
        return "playwright is not installed: pip install -r ci/requirements.txt"
    if not CHROMIUM:
        return "no Chromium found: install it (Debian: apt-get install chromium)"
    return None


@dataclass(frozen=True)
class Lab:
    folder: Path
    address: str
    token: str
    context: object  # a browser context of Playwright

    def copy(self, path: Path, name: str, *, mode: str | None = None, trusted: bool = False) -> str:
        """A notebook under a new name.  mode: the mode to run it in, without old outputs; None: as it is committed."""
        notebook = nbformat.read(path, as_version=4)
        # Trust goes by content, so that two copies of the same content would share it.
        notebook.metadata["copy"] = name
        if mode:
            for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
                cell.outputs, cell.execution_count = [], None
                if "parameters" in cell.metadata.get("tags", []):
                    cell.source, found = re.subn(r'^mode = "\w+"$', f'mode = "{mode}"', cell.source, flags=re.M)
                    assert found == 1, f"{path.name} has no line `mode = …` in its parameters"
        target = self.folder / "notebooks" / name
        target.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, target)
        if trusted:
            NotebookNotary(data_dir=str(self.folder / "data")).sign(nbformat.read(target, as_version=4))
        return name

    @contextmanager
    def open(self, name: str, width: int = 1280, height: int = 1400) -> Iterator:
        """The page with a notebook in it, and `errors`, a list that fills with what the console calls an error."""
        page = self.context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.set_default_timeout(1000 * PATIENCE)
        page.errors = []
        page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        try:
            page.goto(f"{self.address}/lab/tree/{name}?reset&token={self.token}")
            page.wait_for_function(CELLS_DRAWN)
            page.evaluate("() => jupyterapp.shell.currentWidget.revealed")
            yield page
        finally:
            page.evaluate(END_KERNEL)
            page.close()


def run_all(page) -> nbformat.NotebookNode:
    """Run all cells, wait until the kernel and the widgets are at rest, and return the notebook as Lab then holds it."""
    page.evaluate(f"() => {{ ({RUN_ALL})(); }}")
    page.wait_for_function(AT_REST)
    return nbformat.from_dict(page.evaluate("() => jupyterapp.shell.currentWidget.content.model.toJSON()"))


@contextmanager
def browsing() -> Iterator:
    from playwright.sync_api import sync_playwright  # may be missing, and the tests then say so

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def serving(browser, runs: Path = ROOT / "build" / "browser-runs") -> Iterator[Lab]:
    """A server.  runs: the store that the notebooks take their trained networks from, and put them into."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        server(Path(folder), runs) as (address, token),
    ):
        yield Lab(Path(folder), address, token, browser.new_context())


@contextmanager
def server(folder: Path, runs: Path) -> Iterator[tuple[str, str]]:
    for name, settings in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    for own in ("notebooks", "data"):
        (folder / own).mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address, token = f"http://127.0.0.1:{free.getsockname()[1]}", secrets.token_hex()
    command = [sys.executable, "-m", "jupyter", "lab", "--allow-root", "--no-browser", "--ip=127.0.0.1"]
    command += [f"--port={address.rpartition(':')[2]}", "--LabApp.expose_app_in_browser=True"]
    command += [f"--ServerApp.root_dir={folder / 'notebooks'}"]
    places = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    places |= {f"JUPYTERLAB_{kind}_DIR": str(folder / kind.lower()) for kind in ("SETTINGS", "WORKSPACES")}
    own = places | {"SRAT_RUNS": str(runs), "JUPYTER_TOKEN": token, "JUPYTER_PREFER_ENV_PATH": "1"}
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=os.environ | own, stdout=output, stderr=output)
    try:
        wait_for(address, process, log)
        yield address, token
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(2 * PATIENCE):
        try:
            return urllib.request.urlopen(f"{address}/api", timeout=5).close()
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.5)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")
