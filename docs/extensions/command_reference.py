"""All commands in Markdown, with arguments and options by panel, as `--help` has them."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from ncsnx.cli import app
from ncsnx.cli.help_pages import COMMANDS_PANEL, HelpRow, page_of


def markdown() -> str:
    root: Any = typer.main.get_group(app)
    context = _context(root, "ncsnx")
    panels: dict[str, list[str]] = {}
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        if not command.hidden:
            panel = getattr(command, "rich_help_panel", None) or COMMANDS_PANEL
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
    usage = f"{path} {' '.join(command.collect_usage_pieces(context))}"
    yield from ("```{code-block} text", ":class: usage", "", usage, "```", "")
    yield from (prose(command.help or ""), "")
    for panel, rows in page_of(command, context).parameters.items():
        shown = [row for row in rows if "--help" not in row.name]
        if shown:
            yield from (f":::{{rubric}} {panel}", ":::", "")
        for row in shown:
            yield from _entry(row)
    for inner, inner_command in getattr(command, "commands", {}).items():
        if not inner_command.hidden:
            yield from _sections(inner_command, inner, context)


def _entry(row: HelpRow) -> Iterator[str]:
    """A parameter with its help; options have an anchor each."""
    if row.name.startswith("-"):
        yield from (f"::::{{option}} {row.head}", prose(row.body), "::::", "")
    else:
        yield from (f"`{row.name}`", f": {prose(row.body)}", "")


def _context(command: Any, name: str, parent: Any = None) -> Any:
    return command.context_class(command, info_name=name, parent=parent)
