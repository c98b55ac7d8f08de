"""Where each value of an experiment was written: remembered while an experiment file is executed.

Every configuration object reports its construction; the call that constructed it is found by the position of the
running instruction, and its keywords give the line of each field. `attrs.evolve(base, …)` passes the fields that it
doesn't change on from `base`, origins included.
"""

import ast
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import attrs

from ncsnx.storage import reading

DEFAULT = "default"
COMMAND_LINE = "command line"

_LARGEST = 2**20  # bytes of a source file; those of a larger one aren't looked at
_CONFIG_FOLDER = f"{Path(__file__).parent}{os.sep}"
_ATTRS_FOLDER = f"{Path(attrs.__file__).parent.parent / 'attr'}{os.sep}"


class Provenance:
    """Constructions seen so far: for each object its fields' origins, `FILE:LINE` or `default`."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[object, dict[str, str]]] = {}  # the object is held, so its id stays its own
        self._calls: dict[str, dict[tuple[int, int, int, int], ast.Call]] = {}

    def add(self, instance: Any, frame: FrameType | None) -> None:
        """Notes the origins of `instance`, which the code of `frame` (or of a caller) is constructing."""
        base, is_written = None, True
        while frame is not None and _is_machinery(frame.f_code):
            if frame.f_code.co_name == "evolve":
                base = frame.f_locals.get("inst")
            if frame.f_code.co_name == "__init__" and frame.f_locals.get("self") is not instance:
                is_written = False  # a default of another object, whose keywords say nothing of this one
            frame = frame.f_back
        if frame is None:
            return
        file, inherited, lines = (
            frame.f_code.co_filename,
            self.of(base),
            self._keyword_lines(frame) if is_written else {},
        )
        where = f"{file}:{frame.f_lineno}"
        origins: dict[str, str] = {}
        for field in attrs.fields(type(instance)):
            value = getattr(instance, field.name)
            if field.name in lines:
                origins[field.name] = f"{file}:{lines[field.name]}"
            elif field.name in inherited and value is getattr(base, field.name):
                origins[field.name] = inherited[field.name]
            else:
                # no keyword says it: a default, or it came through a `**` or a partial whose names can't be told
                origins[field.name] = DEFAULT if is_default(field, value) else where
        self._seen[id(instance)] = (instance, origins)

    def of(self, instance: object) -> dict[str, str]:
        """Field → origin of an object seen before; empty for others."""
        return self._seen.get(id(instance), (None, {}))[1]

    def _keyword_lines(self, frame: FrameType) -> dict[str, int]:
        """Keyword → line for the call that `frame` is executing."""
        call = self._calls_of(frame.f_code.co_filename).get(_running_position(frame))
        lines: dict[str, int] = {}
        for keyword in call.keywords if call is not None else ():
            lines |= _starred(keyword.value, frame) if keyword.arg is None else {keyword.arg: keyword.value.lineno}
        return lines

    def _calls_of(self, filename: str) -> dict[tuple[int, int, int, int], ast.Call]:
        if filename not in self._calls:
            try:
                tree = ast.parse(reading.read_bytes(Path(filename), _LARGEST, follows_links=True))
            except (OSError, SyntaxError, ValueError):
                tree = ast.Module([], [])
            self._calls[filename] = {
                (node.lineno, node.end_lineno or 0, node.col_offset, node.end_col_offset or 0): node
                for node in ast.walk(tree)
                if isinstance(node, ast.Call)
            }
        return self._calls[filename]


def is_in_file(code: CodeType) -> bool:
    """Whether code comes from a file: that of `exec`, and what attrs generates, has a name in angle brackets."""
    return not code.co_filename.startswith("<")


def is_default(field: "attrs.Attribute[Any]", value: object) -> bool:
    """Whether a value is what the field has when nothing is said."""
    default: Any = field.default
    factory = getattr(default, "factory", None)  # of an attrs.Factory
    expected = default if factory is None else factory()
    return type(value) is type(expected) and value == expected


def _starred(value: ast.expr, frame: FrameType) -> dict[str, int]:
    """Keyword → line for a `**` argument, where that can be told without running it again."""
    if isinstance(value, ast.Dict):
        pairs = zip(value.keys, value.values, strict=True)
        return {str(key.value): held.lineno for key, held in pairs if isinstance(key, ast.Constant)}
    if isinstance(value, ast.Name):
        passed = frame.f_locals.get(value.id, frame.f_globals.get(value.id))
        return dict.fromkeys(passed, value.lineno) if isinstance(passed, dict) else {}
    return {}


def _is_machinery(code: CodeType) -> bool:
    return code.co_filename.startswith((_CONFIG_FOLDER, _ATTRS_FOLDER)) or not is_in_file(code)


def _running_position(frame: FrameType) -> tuple[int, int, int, int]:
    positions = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    line, end_line, column, end_column = (value if value is not None else -1 for value in positions)
    return line, end_line, column, end_column


_active: ContextVar[Provenance | None] = ContextVar("provenance", default=None)


@contextmanager
def recording() -> Iterator[Provenance]:
    """While it is entered, constructions of configuration objects are noted in the Provenance that it gives."""
    provenance = Provenance()
    token = _active.set(provenance)
    try:
        yield provenance
    finally:
        _active.reset(token)


def is_recording() -> bool:
    """Whether an experiment file is being executed."""
    return _active.get() is not None


def record(instance: Any) -> None:
    """Called by every configuration object at the end of its construction."""
    provenance = _active.get()
    if provenance is not None:
        provenance.add(instance, sys._getframe(1))
