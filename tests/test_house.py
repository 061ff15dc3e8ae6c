"""How the rooms of the package lie: imports run one way, and the science does not know the course."""

import ast
from pathlib import Path

import srat_utils

PACKAGE = Path(srat_utils.__file__).parent
# From the ground floor up: a room imports from rooms before it.
SCIENCE = """images imbalance records devices arrays pictures places progress sources data weights losses models attacks batches
    terms budgets inner updates methods config training estimates evaluation checks features provenance store checkpoints
    cards runs trainer sweeps effects selection""".split()  # noqa: SIM905
COURSE = """svg plots paper tables compare theory planted trust panels shipped widgets exercises stages results exhibits studies choice compose
    evidence paper_claims claims after""".split()  # noqa: SIM905


def imports(path: Path, inside: tuple[str, ...]) -> set[str]:
    """The rooms that a file names, as `room` or `course.room`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            at = list(inside)[: len(inside) + 1 - node.level]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {".".join([*at, name]) for name in names}
    return found


def rooms() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE).parent.parts
        name = inside[0] if inside == ("attacks",) else ".".join([*inside, path.stem])
        found.setdefault(name, set()).update(imports(path, inside))
    return found


def test_no_import_runs_upward_and_science_never_imports_course():
    order = [*SCIENCE, *(f"course.{room}" for room in COURSE)]
    place = {room: number for number, room in enumerate(order)}
    faces = {"__init__", "course.__init__"}
    drawn = rooms()
    assert set(drawn) - faces == set(place)
    upward = [
        f"{room} imports {other}"
        for room in place
        for other in sorted(
            {name.removeprefix("attacks.") if name.startswith("attacks.") else name for name in drawn[room]}
        )
        if other in place and other != room and place[other] >= place[room]
    ]
    assert not upward


def test_an_import_that_runs_upward_would_be_seen(tmp_path):
    (tmp_path / "a.py").write_text("from . import sweeps\nfrom .course import plots\nfrom .runs import Run")
    (tmp_path / "b.py").write_text("from .. import weights\nfrom ..config import Config\nfrom .plots import png")
    assert imports(tmp_path / "a.py", ()) == {"sweeps", "course", "runs"}
    assert imports(tmp_path / "b.py", ("course",)) == {"weights", "config", "course.plots"}
