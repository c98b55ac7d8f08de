"""Where each value of an experiment was written: remembered while an experiment file is executed.

Every configuration object reports its construction; the call that constructed it is found by the position of the
running instruction, and its keywords give the line of each field. `attrs.evolve(base, …)` passes the fields that it
doesn't change on from `base`, origins included.
"""

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import attrs

DEFAULT = "default"
COMMAND_LINE = "command line"

_CONFIG_FOLDER = str(Path(__file__).parent)
_ATTRS_FOLDER = str(Path(attrs.__file__).parent.parent / "attr")


class Provenance:
    """Constructions seen so far: for each object its fields' origins, `FILE:LINE` or `default`."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[object, dict[str, str]]] = {}  # the object is held, so its id stays its own
        self._calls: dict[str, dict[tuple[int, int, int, int], ast.Call]] = {}

    def add(self, instance: Any, frame: FrameType | None) -> None:
        """Notes the origins of `instance`, which the code of `frame` (or of a caller) is constructing."""
        base = None
        while frame is not None and _is_machinery(frame.f_code):
            if frame.f_code.co_name == "evolve":
                base = frame.f_locals.get("inst")
            frame = frame.f_back
        if frame is None:
            return
        inherited = self.of(base) if base is not None else {}
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        keywords = self._keyword_lines(frame)
        origins: dict[str, str] = {}
        for field in attrs.fields(type(instance)):
            if keywords is None:  # a call that can't be found in the source: its line is the best there is
                origins[field.name] = where
            elif field.name in keywords:
                origins[field.name] = f"{frame.f_code.co_filename}:{keywords[field.name]}"
            elif base is not None:
                origins[field.name] = inherited.get(field.name, where)
            else:
                origins[field.name] = where if None in keywords else DEFAULT
        self._seen[id(instance)] = (instance, origins)

    def of(self, instance: object) -> dict[str, str]:
        """Field → origin of an object seen before; empty for others."""
        return self._seen.get(id(instance), (None, {}))[1]

    def _keyword_lines(self, frame: FrameType) -> dict[str | None, int] | None:
        """Keyword → line of the call that `frame` is executing; the key None stands for a `**` argument."""
        call = self._calls_of(frame.f_code.co_filename).get(_running_position(frame))
        if call is None:
            return None
        return {keyword.arg: keyword.value.lineno for keyword in call.keywords}

    def _calls_of(self, filename: str) -> dict[tuple[int, int, int, int], ast.Call]:
        if filename not in self._calls:
            try:
                tree = ast.parse(Path(filename).read_bytes())
            except (OSError, SyntaxError, ValueError):
                tree = ast.Module([], [])
            self._calls[filename] = {
                (node.lineno, node.end_lineno or 0, node.col_offset, node.end_col_offset or 0): node
                for node in ast.walk(tree)
                if isinstance(node, ast.Call)
            }
        return self._calls[filename]


def _is_machinery(code: CodeType) -> bool:
    name = code.co_filename
    return name.startswith((_CONFIG_FOLDER, _ATTRS_FOLDER, "<attrs generated"))


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


def record(instance: Any) -> None:
    """Called by every configuration object at the end of its construction."""
    provenance = _active.get()
    if provenance is not None:
        provenance.add(instance, sys._getframe(1))
