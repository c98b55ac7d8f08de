"""All commands in Markdown, with arguments and options by panel, as `--help` has them."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from ncsnx.cli import app

NO_PANEL = "Commands"


def markdown() -> str:
    root: Any = typer.main.get_group(app)
    context = _context(root, "ncsnx")
    panels: dict[str, list[str]] = {}
    for name, command in root.commands.items():
        if not command.hidden:
            panel = getattr(command, "rich_help_panel", None) or NO_PANEL
            panels.setdefault(panel, []).extend(_sections(command, name, context))
    return "\n".join(line for panel, lines in panels.items() for line in (f"## {panel}", "", *lines))


def prose(text: str) -> str:
    """Help text as Markdown: code stays, and all else is literal."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<>\[\]\\])", r"\\\1", part) for part in parts)


def _sections(command: Any, name: str, parent: Any) -> Iterator[str]:
    """A command and, where it is a group, those within it."""
    context = _context(command, name, parent)
    path = context.command_path
    yield from (f"### `{path}`", "", f":::{{program}} {path}", ":::", "")
    yield from ("```text", f"{path} {' '.join(command.collect_usage_pieces(context))}", "```", "")
    yield from (prose(command.help or ""), "")
    panels: dict[str, list[Any]] = {}
    for parameter in command.get_params(context):
        if not getattr(parameter, "hidden", False) and "--help" not in parameter.opts:
            panel = parameter.rich_help_panel or ("Options" if _is_option(parameter) else "Arguments")
            panels.setdefault(panel, []).append(parameter)
    for panel, parameters in panels.items():
        yield from (f":::{{rubric}} {panel}", ":::", "")
        for parameter in parameters:
            yield from _entry(parameter, context)
    for inner, inner_command in getattr(command, "commands", {}).items():
        if not inner_command.hidden:
            yield from _sections(inner_command, inner, context)


def _entry(parameter: Any, context: Any) -> Iterator[str]:
    """A parameter with its help; options have an anchor each."""
    names, help_text = parameter.get_help_record(context)
    text = " ".join((help_text or "").split())
    if _is_option(parameter):
        yield from (f"::::{{option}} {names}", prose(text), "::::", "")
    else:
        yield from (f"`{parameter.metavar or names}`", f": {prose(text)}", "")


def _is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")


def _context(command: Any, name: str, parent: Any = None) -> Any:
    return command.context_class(command, info_name=name, parent=parent)
