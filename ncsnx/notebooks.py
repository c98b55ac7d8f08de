"""HTML for notebooks: tables and pictures, with all text escaped, in the colors of the page around them."""

import base64
import html
from collections.abc import Sequence

from ncsnx.errors import printable

_LINE = "1px solid rgba(128, 128, 128, 0.4)"
"""Visible on light and on dark pages."""
_DIM = "opacity: 0.7"
_CELL = f"padding: 0.15em 0.8em 0.15em 0; border: 0; border-bottom: {_LINE}; vertical-align: top"
Align = str
"""'left' or 'right' (for numbers)."""


def escaped(text: str) -> str:
    """Text for HTML: markup stays text, and unprintable characters become readable escapes."""
    return html.escape(printable(text))


def heading(text: str, remark: str = "") -> str:
    """A line in bold, with a remark behind it."""
    behind = f' <span style="{_DIM}">{escaped(remark)}</span>' if remark else ""
    return f"<div><b>{escaped(text)}</b>{behind}</div>"


def remark(text: str) -> str:
    """A paragraph in a dim color, such as a caption."""
    return f'<div style="{_DIM}; max-width: 60em">{escaped(text)}</div>'


def html_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[Align], *, bold: Sequence[int] = ()
) -> str:
    """A table. titles: may be empty. bold: indices of rows that stand out."""
    head = "".join(_cell("th", title, side) for title, side in zip(titles, align, strict=True)) if titles else ""
    lines = [f"<tr>{head}</tr>"] if head else []
    for place, row in enumerate(rows):
        cells = "".join(_cell("td", cell, side) for cell, side in zip(row, align, strict=True))
        weight = ' style="font-weight: bold; background: none"' if place in bold else ' style="background: none"'
        lines.append(f"<tr{weight}>{cells}</tr>")
    return f'<table style="border-collapse: collapse; margin: 0.3em 0">{"".join(lines)}</table>'


def picture_html(png: bytes, description: str) -> str:
    """A PNG within the page. description: for those who can't see it."""
    data = base64.b64encode(png).decode("ascii")
    style = "max-width: 100%; image-rendering: pixelated"
    return f'<img style="{style}" alt="{escaped(description)}" src="data:image/png;base64,{data}">'


def _cell(tag: str, text: str, align: Align) -> str:
    return f'<{tag} style="{_CELL}; text-align: {align}">{escaped(text)}</{tag}>'
