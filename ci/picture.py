"""Save one cell's picture as a file:  python ci/picture.py NOTEBOOK CELL_ID OUT.png"""

import base64
import sys
from pathlib import Path

import nbformat


def picture(notebook, cell_id: str) -> bytes:
    cell = next(cell for cell in notebook.cells if cell.get("id") == cell_id)
    encoded = next(output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {}))
    return base64.b64decode(encoded)


if __name__ == "__main__":
    path, cell_id, out = sys.argv[1:]
    Path(out).parent.mkdir(exist_ok=True)
    Path(out).write_bytes(picture(nbformat.read(path, as_version=4), cell_id))
