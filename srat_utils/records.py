"""Frozen records of settings that check themselves: what a Config and the terms of a method are made of."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import math
import numbers
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

import numpy as np


class ConfigError(ValueError):
    """A setting that cannot be run; the message says which and what would do."""


def checked(default, need: str, holds: Callable[[object], bool]):
    """A field whose value must satisfy `holds`; None, where its type allows it, always does."""
    return field(default=default, metadata={"need": need, "holds": holds})


def at_least(low: float, default=None):
    return checked(default, f"{low:g} or more", lambda value: value >= low)


def above(low: float, default=None):
    return checked(default, f"above {low:g}", lambda value: value > low)


def fraction(default=None):
    """A share of something, or several of them."""
    return checked(default, "a fraction, 0 to 1", lambda value: all(0 <= part <= 1 for part in np.atleast_1d(value)))


def one_of(*allowed: str, default=...):
    """One of a few words, the first unless another default is given."""
    default = allowed[0] if default is ... else default
    return checked(default, f"one of {', '.join(allowed)}", lambda value: value in allowed)


def among(known: dict, *, default=None):
    """The name of one that is known when it is asked for, one of one's own, too."""
    return checked(default, f"one of {', '.join(known)}", lambda value: value in known)


PLAIN = (bool, int, float, str, tuple, type(None))
TOLD = "__code_of__"  # an attribute that goes with a class to other processes: (process, `code_of` there)


@dataclass(frozen=True)
class Record:
    """A frozen dataclass whose fields take the form of their type and are checked once, when it is made.

    1 and 1.0, a list and a tuple become the same value.  Raises ConfigError that names field, value and remedy.
    """

    def __post_init__(self):
        for each in dataclasses.fields(self):
            value = canonical(each.name, each.type, getattr(self, each.name))
            if value is not None and not each.metadata.get("holds", lambda value: True)(value):
                raise ConfigError(f"{each.name} must be {each.metadata['need']}, not {value!r}")
            object.__setattr__(self, each.name, value)

    def __str__(self) -> str:
        """The name, and the settings that are not the record's own defaults."""
        own = ", ".join(f"{name}={value}" for name, value in self.changed().items())
        return f"{type(self).__name__}({own})" if own else type(self).__name__

    @classmethod
    @cache
    def names(cls) -> tuple[str, ...]:
        return tuple(each.name for each in dataclasses.fields(cls))

    def items(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.names()}

    def changed(self) -> dict[str, object]:
        """The settings that are not the record's own defaults."""
        return {e.name: value for e in dataclasses.fields(self) if (value := getattr(self, e.name)) != e.default}

    @classmethod
    def of(cls, settings: dict[str, object]) -> Record:
        """The record with those of the settings that it has, and its own defaults."""
        return cls(**{name: settings[name] for name in cls.names() if name in settings})

    def having(self, settings: dict[str, object]) -> Record:
        """A copy with those of the settings that this record has."""
        return dataclasses.replace(self, **{name: settings[name] for name in self.names() if name in settings})


def code_of(kind: type | Callable) -> str:
    """A hash of what a class or function written elsewhere does: of its functions' source, or of their code where that is not at hand.

    With it the classes, functions and plain values (numbers, text, tuples of them; lists and dicts may be changed as they are used)
    that it names or inherits from, if they stand in its module or notebook.  A worker process has no notebook to read, and is told
    by the process that sent the class.
    """
    told = getattr(kind, "__dict__", {}).get(TOLD)
    if told and told[0] != os.getpid():
        return told[1]
    digest, seen, written = hashlib.sha256(), set(), kind
    while isinstance(written, functools.partial):
        written = written.func

    def instructions(code) -> str:
        # A set's order changes with the process.
        parts = [sorted(part, key=repr) if isinstance(part, frozenset) else part for part in code.co_consts]
        inner = [instructions(part) if inspect.iscode(part) else repr(part) for part in parts]
        return f"{code.co_code.hex()} {code.co_names} {inner}"

    def named(code) -> set[str]:
        return {*code.co_names, *code.co_freevars}.union(
            *(named(part) for part in code.co_consts if inspect.iscode(part))
        )

    def add(name: str, member) -> None:
        if isinstance(member, functools.partial):
            for part in (member.func, *member.args, *member.keywords.items()):
                add(name, part)
            return
        for inside in ("fget", "__func__", "func"):  # of a property, a class's method, a cached property
            member = getattr(member, inside, None) or member
        if isinstance(member, PLAIN):
            digest.update(f"{name} = {member!r}".encode())
        elif id(member) in seen or getattr(member, "__module__", None) != written.__module__:
            return
        elif inspect.isclass(member):
            seen.add(id(member))
            for base in member.__mro__[1:]:
                add(base.__name__, base)
            for own in sorted(vars(member)):
                if not own.startswith("__") or own in ("__call__", "__init__"):
                    add(own, vars(member)[own])
        elif inspect.isfunction(member):
            seen.add(id(member))
            try:
                digest.update(inspect.getsource(member).encode())
            except (OSError, TypeError):
                digest.update(instructions(member.__code__).encode())
            around = inspect.getclosurevars(member).nonlocals
            for other in sorted(named(member.__code__)):
                add(other, around.get(other, member.__globals__.get(other)))

    add(getattr(written, "__name__", ""), kind)
    code = digest.hexdigest()[:12]
    with suppress(
        AttributeError, TypeError
    ):  # Python's own types take no attribute, and every process reads them alike
        setattr(kind, TOLD, (os.getpid(), code))
    return code


def canonical(name: str, kind: str | type, value):
    """A value in the declared type, written as a string or a type."""
    kind = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    if value is None and "None" in kind:
        return None
    if kind == "bool":
        if not isinstance(value, (bool, np.bool_)):  # "false" is a true string
            raise ConfigError(f"{name} must be True or False, not {value!r}")
        return bool(value)
    if kind.startswith("int"):
        if not (is_number(value) and value == int(value)):
            raise ConfigError(f"{name} must be a whole number, not {value!r}")
        return int(value)
    if kind.startswith("float"):
        if not is_number(value):
            raise ConfigError(f"{name} must be a number, not {value!r}")
        return float(value)
    if kind.startswith("tuple"):
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} must be a list of several values, not {value!r}")
        return tuple(canonical(name, kind.removeprefix("tuple["), part) for part in value)
    if kind.startswith("str"):
        if is_number(value):  # a class named "8"
            return str(value)
        if not isinstance(value, str):
            raise ConfigError(f"{name} must be text, not {value!r}")
    return value


def is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
