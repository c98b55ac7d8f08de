"""Results of commands: the console shows them, as JSON too, and a notebook draws them."""

from collections.abc import Sequence
from typing import Literal

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.notebooks import heading, html_table, picture_html, remark


@attrs.frozen
class Column:
    """Title of a column and alignment of its cells (right for numbers)."""

    title: str
    align: Literal["left", "right"] = "left"
    left_out: int = 0
    """Place in the order in which columns are left out where a terminal is too narrow for all; 0: never left out."""


@attrs.frozen(kw_only=True)
class Table:
    """Rows of text under titles."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    bold: Sequence[int] = ()
    """Indices of rows that stand out in a notebook."""

    def html(self) -> str:
        """The table for a notebook."""
        titles, align = [one.title for one in self.columns], [one.align for one in self.columns]
        return html_table(titles if any(titles) else (), self.rows, align, bold=self.bold)


class Result:
    """Result of a command."""

    def shown(self) -> Sequence[Table | str]:
        """Tables and lines of text, which standard output and notebooks show."""
        return ()

    def closing(self) -> Sequence[str]:
        """Messages after it: what was written, and what to type next."""
        return ()

    def problem(self) -> NcsnxError | None:
        """Why the command fails although it has a result, such as a checkpoint that couldn't be scored."""
        return None

    def to_json(self) -> object:
        """The result as values of JSON."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------- in a notebook

    def heading(self) -> tuple[str, str] | None:
        """A title and a remark behind it."""
        return None

    def picture(self) -> bytes | None:
        """A PNG."""
        return None

    def remarks(self) -> Sequence[str]:
        """Lines below, such as a protocol."""
        return ()

    def __repr__(self) -> str:
        title = self.heading() or (type(self).__name__, "")
        return "\n  ".join([": ".join(filter(None, title)), *self.remarks()])

    def _repr_html_(self) -> str:
        title, png = self.heading(), self.picture()
        parts = [] if title is None else [heading(*title)]
        parts += [] if png is None else [picture_html(png, "" if title is None else title[0])]
        parts += [one.html() if isinstance(one, Table) else remark(one) for one in self.shown()]
        return "".join([*parts, *map(remark, self.remarks())])


@attrs.frozen(repr=False)
class Lines(Result):
    """Lines of text or tables, and the same as JSON: the result of a command that needs no more."""

    lines: Sequence[Table | str]
    values: object
    messages: Sequence[str] = ()
    """Messages after the lines."""

    def shown(self) -> Sequence[Table | str]:
        return self.lines

    def closing(self) -> Sequence[str]:
        return self.messages

    def to_json(self) -> object:
        return self.values
