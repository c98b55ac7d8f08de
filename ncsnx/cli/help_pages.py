"""Help pages: commands, arguments and options in panels, drawn on a terminal and plain text elsewhere.

Panels are Typer's `rich_help_panel`, and look as people know them. Typer's own drawing isn't used: it takes brackets in
help texts for markup, keeps the line breaks of docstrings, writes boxes into logs, and imports a Markdown parser.
"""

import inspect
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from typer.core import TyperCommand, TyperGroup

ARGUMENTS_PANEL, COMMANDS_PANEL, OPTIONS_PANEL = "Arguments", "Commands", "Options"
"""Panels of parameters and commands that name none."""
HELP_PANEL = "Output"
"""The panel of --help, in a command that has this panel."""
_COLUMNS, _MOST_COLUMNS = 80, 100
"""Columns of plain text, and the maximum for drawn panels."""
_MOST_NAME_COLUMNS = 28
_ASCII = str.maketrans({"×": "x", "σ": "sigma", "…": "...", "≤": "<=", "–": "-", "’": "'"})


@attrs.frozen
class HelpRow:
    """A parameter or a command in a panel."""

    name: str
    value: str
    """The value that an option takes, such as DIR."""
    text: str
    remark: str = ""
    """The default, or 'required'."""

    @property
    def head(self) -> str:
        """The name and the value."""
        return f"{self.name} {self.value}".rstrip()

    @property
    def body(self) -> str:
        """The text and the remark."""
        return f"{self.text} [{self.remark}]".strip() if self.remark else self.text


@attrs.frozen
class HelpPage:
    """A help page."""

    usage: str
    paragraphs: list[str]
    commands: dict[str, list[HelpRow]]
    """Rows by panel."""
    parameters: dict[str, list[HelpRow]]


class _Helped:
    """The help and usage of a command or a group, whose parameters convert only values that were given."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, with --help."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in parameters:
            one.process_value = partial(_converted, one)
        return parameters

    def get_help(self, ctx: Any) -> str:
        """The help page, for standard output."""
        from ncsnx.console.streams import Outlet

        page = page_of(self, ctx, _encodable)
        return _drawn(page) if Outlet(sys.stdout).is_terminal else plain(page, _width())

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words after the command in its usage."""
        command: Any = self
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        words = [one.metavar or one.name.upper() for one in arguments]
        pieces = [
            (word if one.required else f"[{word}]") + ("..." if one.nargs != 1 else "")
            for one, word in zip(arguments, words, strict=True)
        ]
        return [*pieces, *(["COMMAND"] if hasattr(command, "commands") else []), "[OPTIONS]"]


class HelpCommand(_Helped, TyperCommand):
    """A command with a help page in panels. With `FIELD=?` among its arguments it says what the field accepts."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command, or answers `FIELD=?`."""
        if any("=?" in word for value in ctx.params.values() for word in _words_of(value)):
            from ncsnx.cli.session import FROM_THE_START, session
            from ncsnx.config.reference.questions import answer, asked_path

            arguments = [one.name for one in self.params if one.param_type_name == "argument"]
            words = [word for name in arguments for word in _words_of(ctx.params.get(name))]
            if paths := [path for word in words if (path := asked_path(word)) is not None]:
                with session(FROM_THE_START) as messages:
                    for path in paths:
                        messages.data("\n".join(answer(path)))
                return None
        return super().invoke(ctx)


class HelpGroup(_Helped, TyperGroup):
    """A group of commands with a help page in panels."""


def _words_of(value: object) -> list[str]:
    """The words that a parameter was given, where it takes text."""
    values = value if isinstance(value, list | tuple) else [value]
    return [word for word in values if isinstance(word, str)]


def _converted(parameter: Any, ctx: Any, value: Any) -> Any:
    """A parameter's value, converted by Typer; without a value, its import of pydantic would double the start."""
    is_list = parameter.multiple and parameter.default is not None
    if value not in (None, ()) or parameter.required or is_list or parameter.nargs != 1:
        return type(parameter).process_value(parameter, ctx, value)
    return None if parameter.callback is None else parameter.callback(ctx, parameter, None)


def page_of(command: Any, ctx: Any, spell: Callable[[str], str] = str) -> HelpPage:
    """The help page of a command or a group, as Typer built it. spell: applied to every text."""
    commands: dict[str, list[HelpRow]] = {}
    for name in command.list_commands(ctx) if hasattr(command, "commands") else ():
        one = command.get_command(ctx, name)
        if not one.hidden:
            row = HelpRow(name, "", spell(summary(one)))
            commands.setdefault(one.rich_help_panel or COMMANDS_PANEL, []).append(row)
    shown = [one for one in command.get_params(ctx) if not one.hidden]
    with_output = any(one.rich_help_panel == HELP_PANEL for one in shown)
    parameters: dict[str, list[HelpRow]] = {}
    for one in shown:
        panel = ARGUMENTS_PANEL if one.param_type_name == "argument" else OPTIONS_PANEL
        if one.name == "help" and with_output:
            panel = HELP_PANEL
        parameters.setdefault(one.rich_help_panel or panel, []).append(_row(one, spell))
    usage = spell(" ".join([ctx.command_path, *command.collect_usage_pieces(ctx)]))
    paragraphs = [" ".join(spell(part).split()) for part in inspect.cleandoc(command.help or "").split("\n\n")]
    return HelpPage(usage, [part for part in paragraphs if part], commands, parameters)


def summary(command: Any) -> str:
    """The first sentence of a command's help, with its full stop."""
    text = command.short_help or inspect.cleandoc(command.help or "").partition("\n\n")[0]
    return re.split(r"(?<=\.)\s", " ".join(text.split()))[0]


def plain(page: HelpPage, columns: int) -> str:
    """The page as text of at most `columns` columns, without boxes and escape codes."""
    lines = textwrap.wrap(
        f"Usage: {page.usage}", columns, subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False
    )
    for paragraph in page.paragraphs:
        lines += ["", *_wrapped(paragraph, columns, "  ")]
    for panels in (page.commands, page.parameters):
        for title, rows in panels.items():
            lines += ["", f"{title}:", *_rows(rows, _name_columns(panels), columns)]
    return "\n".join(lines)


def _rows(rows: list[HelpRow], name_columns: int, columns: int) -> list[str]:
    indent = " " * (name_columns + 4)
    lines: list[str] = []
    for row in rows:
        text = _wrapped(row.body, columns, indent)
        if text and len(row.head) <= name_columns:
            text[0] = f"  {row.head}{text[0][len(row.head) + 2 :]}"
            lines += text
        else:
            lines += [f"  {row.head}", *text]
    return lines


def _name_columns(panels: dict[str, list[HelpRow]]) -> int:
    """Columns of the names, the same in all panels. Longer names get a line of their own."""
    lengths = [len(row.head) for rows in panels.values() for row in rows]
    return max((length for length in lengths if length <= _MOST_NAME_COLUMNS), default=_MOST_NAME_COLUMNS)


def _row(parameter: Any, spell: Callable[[str], str]) -> HelpRow:
    metavar, text = spell(parameter.metavar or parameter.name.upper()), spell(parameter.help or "")
    if parameter.param_type_name == "argument":
        return HelpRow(metavar + ("..." if parameter.nargs != 1 else ""), "", text)
    both = [_short_first(names) for names in (parameter.opts, parameter.secondary_opts) if names]
    return HelpRow(" / ".join(both), "" if parameter.is_flag else metavar, text, spell(_default(parameter)))


def _short_first(names: list[str]) -> str:
    return ", ".join(sorted(names, key=lambda name: name.startswith("--")))


def _default(option: Any) -> str:
    """'required', or the default in words; empty without a default."""
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return f"default: {option.show_default}"
    default = option.default
    if not option.show_default or default is None or isinstance(default, bool) or callable(default) or default == "":
        return ""
    return f"default: {default}"


def _wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    """Lines of at most `columns` columns. Code in backticks isn't broken."""
    kept = re.sub(r"`[^`]+`", lambda code: code[0].replace(" ", "\xa0"), text)
    lines = textwrap.wrap(kept, columns, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def _width() -> int:
    return max(50, min(_COLUMNS, shutil.get_terminal_size().columns))


def _drawn(page: HelpPage) -> str:
    """The page in rounded panels, with colours unless NO_COLOR is set."""
    from rich import box
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from ncsnx.console.messages import rich_console
    from ncsnx.console.streams import Outlet

    console = rich_console(Outlet(sys.stdout))
    console.width = min(console.width, _MOST_COLUMNS)

    def panel(title: str, rows: list[HelpRow], name_columns: int) -> Panel:
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(width=name_columns, overflow="fold")
        table.add_column(ratio=1, overflow="fold")
        for row in rows:
            name = Text.assemble((row.name, "bold cyan"), (row.head[len(row.name) :], "yellow"))
            table.add_row(name, Text.assemble(row.text, (row.body[len(row.text) :], "dim")))
        return Panel(table, title=Text(title), title_align="left", border_style="dim", box=box.ROUNDED)

    with console.capture() as capture:
        console.print(Padding(Text.assemble(("Usage: ", "yellow"), (page.usage, "bold")), (1, 1, 0, 1)))
        for place, paragraph in enumerate(page.paragraphs):
            text = "\n".join(_wrapped(paragraph, console.width - 2))
            console.print(Padding(Text(text, "dim" if place else ""), (1, 1, 0, 1)))
        console.print()
        for panels in (page.commands, page.parameters):
            for title, rows in panels.items():
                console.print(panel(title, rows, _name_columns(panels)))
    return capture.get().rstrip("\n")


def _encodable(text: str) -> str:
    """The text, in similar ASCII characters where standard output can't encode it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        separate = unicodedata.normalize("NFKD", text.translate(_ASCII))
        bare = "".join(character for character in separate if not unicodedata.combining(character))
        return bare.encode(encoding, "backslashreplace").decode(encoding)
    return text
