"""The functions of `import ncsnx` that are commands, in Markdown, with their parameters."""

import inspect
from collections.abc import Iterator
from typing import Any

import attrs
from command_reference import prose

import ncsnx
from ncsnx.commands.command import Command, ordered_fields
from ncsnx.docstrings import field_docstring


def markdown() -> str:
    found = {name: getattr(getattr(ncsnx, name), "__wrapped__", None) for name in ncsnx.__all__}
    commands = {name: one for name, one in found.items() if isinstance(one, type) and issubclass(one, Command)}
    return "\n".join(line for name, kind in commands.items() for line in _entry(name, kind))


def _entry(name: str, kind: type[Command[Any]]) -> Iterator[str]:
    """A function with its signature, its text and its parameters."""
    fields = ordered_fields(kind)
    positional = [field for field in fields if not field.kw_only]
    keywords = [field for field in fields if field.kw_only]
    signature = ", ".join([*map(_declared, positional), *(["*"] if keywords else []), *map(_declared, keywords)])
    yield from (f":::{{py:function}} ncsnx.{name}({signature})", "", prose(inspect.cleandoc(kind.__doc__ or "")), "")
    for field in (*positional, *keywords):
        yield f"- **{field.name}**: {prose(' '.join(field_docstring(kind, field.name).split()))}"
    yield from (":::", "")


def _declared(field: Any) -> str:
    return field.name if field.default is attrs.NOTHING else f"{field.name}={field.default!r}"
