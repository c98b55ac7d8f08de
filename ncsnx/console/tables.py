"""Tables on standard output: drawn on a terminal, aligned plain text elsewhere."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ncsnx.console.messages import Messages, rich_console
from ncsnx.errors import printable
from ncsnx.quantities import counted
from ncsnx.results import Column

if TYPE_CHECKING:
    from rich.table import Table

_GAP = 2
"""Spaces between two columns."""


def table(messages: Messages, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Writes a table to standard output; control characters in cells are escaped.

    On a terminal that is too narrow, columns are left out in their order, and the rest is folded. Elsewhere each row is
    one line with two or more spaces between cells, without box drawing or escape codes. Raises ValueError unless every
    row has as many cells as there are columns, NcsnxError if standard output can't be written (a full disk).
    """
    titles = [printable(column.title) for column in columns]
    cells = [[printable(cell) for cell in row] for row in rows]
    for row in cells:
        if len(row) != len(columns):
            raise ValueError(f"expected a row of {counted(len(columns), 'cell')}, found {row}")
    if messages.stdout.is_terminal:
        console = rich_console(messages.stdout)
        console.print(_drawn(columns, titles, cells, console.width))
    else:
        messages.data("\n".join(aligned(columns, [titles, *cells])))


def aligned(columns: Sequence[Column], lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of plain text with aligned columns, two or more spaces apart."""
    columns_of: Callable[[str], int] = len
    if not all(cell.isascii() for line in lines for cell in line):
        from rich.cells import cell_len as columns_of  # East Asian characters take two columns

    widths = [max(columns_of(line[index]) for line in lines) for index in range(len(columns))]

    def padded(cell: str, width: int, column: Column) -> str:
        space = " " * (width - columns_of(cell))
        return space + cell if column.align == "right" else cell + space

    return ["  ".join(map(padded, line, widths, columns)).rstrip() for line in lines]


def _drawn(columns: Sequence[Column], titles: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> "Table":
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    widths = [max(map(cell_len, column)) for column in zip(titles, *cells, strict=True)]
    shown = list(range(len(columns)))
    for index in sorted(shown, key=lambda index: columns[index].left_out):
        needed = sum(widths[one] for one in shown) + _GAP * (len(shown) - 1)
        if columns[index].left_out and needed > width:
            shown.remove(index)
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for index in shown:
        drawn.add_column(Text(titles[index]), justify=columns[index].align, overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(row[index]) for index in shown))
    return drawn
