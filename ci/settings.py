"""Write docs/settings.md: every setting of `Config` with its default, what it takes and the reason beside it in the code.

python ci/settings.py
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from srat_utils.config import PRESETS, RECORDS, Config
from srat_utils.methods import METHODS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
HEAD = """# Settings

What `Config(…)` takes, as `ci/settings.py` reads it from the code. `Config().to_dict()` has all values of a config, `plan(config)` what they cost. *preset*: the data set decides, see the first table. A method ignores settings that it does not have; its row in `srat_utils/methods.py` may set other defaults than these.
"""
PLAIN = {"method": "one of METHODS: a row of terms", "adversarial": "False: natural training", "seed": "decides subset, initial weights, order, augmentation and random starts", "device": "auto, cpu, cuda, …", "threads": "of the CPU; None: 1 for small-cnn, else torch's own number"}  # fmt: skip


def comments(record: type) -> dict[str, str]:
    """Field → the comment beside it."""
    source = textwrap.dedent(inspect.getsource(record))
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body[0].body:
        if isinstance(node, ast.AnnAssign):
            said = [re.search(r"  # (?!fmt)(.*)", line) for line in lines[node.lineno - 1 : node.end_lineno]]
            found[node.target.id] = next((one[1] for one in said if one), "")
    return found


def rows(record: type) -> Iterable[tuple[str, str, str]]:
    """Name, default, and what it takes and means, of a record's own fields."""
    said = comments(record)
    for each in dataclasses.fields(record):
        if each.name not in said:  # inherited: in another table
            continue
        preset = any(each.name in changes for changes in PRESETS.values())
        default = "preset" if preset else f"`{each.default!r}`"
        words = re.sub(r"(; )?preset$", "", said[each.name])
        yield each.name, default, "; ".join(filter(None, (each.metadata.get("need", ""), words)))


def table(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, body)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def page() -> str:
    names = list(dict.fromkeys(name for changes in PRESETS.values() for name in changes))
    presets = [[f"`{name}`", *(shown(changes.get(name)) for changes in PRESETS.values())] for name in names]
    config = Config()
    plain = [(f"`{name}`", f"`{getattr(config, name)!r}`", words) for name, words in PLAIN.items()]
    parts = [HEAD, "## Presets\n", table(["setting", *PRESETS], presets)]
    parts += ["\n## Every run\n", table(["setting", "default", "what it is"], plain)]
    seen, head = set(), ("setting", "default", "what it is")
    records = {name: [record] for name, record in RECORDS.items()}
    records["terms, weights and steps of methods"] = list(
        dict.fromkeys(
            base
            for row in METHODS.values()
            for record in row.records()
            for base in reversed(type(record).__mro__)
            if dataclasses.is_dataclass(base)
        )
    )
    for title, own in records.items():
        body = []
        for record in own:
            for name, default, words in rows(record):
                if (name, default, words) not in seen:
                    seen.add((name, default, words))
                    owner = f"{record.__name__}: " if len(own) > 1 else ""
                    body.append((f"`{name}`", default, f"{owner}{words}"))
        parts += [f"\n## {title.capitalize()}\n", table(head, body)]
    return "\n".join(parts) + "\n"


def shown(value: object) -> str:
    """In levels of 255 where it is a few of them: ε and step of photographs."""
    levels = 255 * value if isinstance(value, float) else 0
    few = levels in (1, 2, 8)
    return "–" if value is None else f"`{levels:g}/255`" if few else f"`{value!r}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
