"""Tables on standard output: drawn on a terminal, aligned plain text elsewhere."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import attrs

from ncsnx.console.messages import Messages, rich_console
from ncsnx.console.text import visible

if TYPE_CHECKING:
    from rich.table import Table


@attrs.frozen
class Column:
    """The head of a column, and the side its cells are aligned to (numbers read best on the right)."""

    title: str
    align: Literal["left", "right"] = "left"


def table(messages: Messages, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to standard output; control characters in cells are made visible.

    On a terminal, long cells are folded, never cut. Elsewhere each row is one line, its cells two or more
    spaces apart, without box drawing or escape codes.

    Raises:
        ValueError: a row has another number of cells than there are columns.
        NcsnxError: standard output takes no more (a full disk).
    """
    titles = [visible(column.title) for column in columns]
    cells = [[visible(cell) for cell in row] for row in rows]
    for row in cells:
        if len(row) != len(columns):
            raise ValueError(f"a row of {len(columns)} cells was expected, not {row}")
    if messages.stdout.is_terminal:
        rich_console(messages.stdout).print(_drawn(columns, titles, cells))
    else:
        messages.data("\n".join(aligned(columns, [titles, *cells])))


def aligned(columns: Sequence[Column], lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of plain text whose cells stand below each other, two or more spaces apart."""
    from rich.cells import cell_len  # East Asian characters take two columns

    widths = [max(cell_len(line[index]) for line in lines) for index in range(len(columns))]

    def padded(cell: str, width: int, column: Column) -> str:
        space = " " * (width - cell_len(cell))
        return space + cell if column.align == "right" else cell + space

    return ["  ".join(map(padded, line, widths, columns)).rstrip() for line in lines]


def _drawn(columns: Sequence[Column], titles: Sequence[str], cells: Sequence[Sequence[str]]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column, title in zip(columns, titles, strict=True):
        drawn.add_column(Text(title), justify=column.align, overflow="fold")
    for row in cells:
        drawn.add_row(*map(Text, row))
    return drawn
