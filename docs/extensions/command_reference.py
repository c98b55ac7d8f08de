"""All commands in Markdown, with arguments and options by panel, as `--help` has them."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from ncsnx.cli import app


def markdown() -> str:
    root: Any = typer.main.get_group(app)
    context = _context(root, "ncsnx")
    panels: dict[str, list[str]] = {}
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        if not command.hidden:
            panel = getattr(command, "rich_help_panel", None) or "Commands"
            panels.setdefault(panel, []).extend(_sections(command, name, context))
    return "\n".join(line for panel, lines in panels.items() for line in (f"## {panel}", "", *lines))


def prose(text: str) -> str:
    """Help text as Markdown: code stays, and all else is literal."""
    text = re.sub(r"\\(\[[^\[]*?\])", r"\1", text)  # which rich would take for markup
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<>\[\]\\])", r"\\\1", part) for part in parts)


def _sections(command: Any, name: str, parent: Any) -> Iterator[str]:
    """A command and, where it is a group, those within it."""
    context = _context(command, name, parent)
    path = context.command_path
    yield from (f"### `{path}`", "", f":::{{program}} {path}", ":::", "")
    usage = f"{path} {' '.join(command.collect_usage_pieces(context))}"
    yield from ("```{code-block} text", ":class: usage", "", usage, "```", "")
    yield from (prose(command.help or ""), "")
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        default_panel = "Arguments" if parameter.param_type_name == "argument" else "Options"
        panels.setdefault(parameter.rich_help_panel or default_panel, []).append(parameter)
    for panel, parameters in panels.items():
        yield from (f":::{{rubric}} {panel}", ":::", "")
        for parameter in parameters:
            yield from _entry(parameter)
    for inner, inner_command in getattr(command, "commands", {}).items():
        if not inner_command.hidden:
            yield from _sections(inner_command, inner, context)


def _entry(parameter: Any) -> Iterator[str]:
    """A parameter with its help; options have an anchor each."""
    metavar = parameter.metavar or parameter.name.upper()
    if parameter.param_type_name == "argument":
        yield from (f"`{metavar}{'...' if parameter.nargs != 1 else ''}`", f": {prose(parameter.help or '')}", "")
        return
    names = " / ".join(
        ", ".join(sorted(names, key=lambda name: name.startswith("--")))
        for names in (parameter.opts, parameter.secondary_opts)
        if names
    )
    text = parameter.help or ""
    if parameter.required:
        text += " [required]"
    elif isinstance(parameter.show_default, str):
        text += f" [default: {parameter.show_default}]"
    elif parameter.show_default and parameter.default not in (None, "") and not isinstance(parameter.default, bool):
        text += f" [default: {parameter.default}]"
    yield from (f"::::{{option}} {names}{'' if parameter.is_flag else f' {metavar}'}", prose(text), "::::", "")


def _context(command: Any, name: str, parent: Any = None) -> Any:
    return command.context_class(command, info_name=name, parent=parent)
