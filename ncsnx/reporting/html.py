"""Parts of a page as HTML: text, commands, tables and pictures. Values are escaped, and parts stay as they are."""

import base64
import io
from collections.abc import Iterable, Sequence
from typing import Literal

from markupsafe import Markup
from PIL import Image

from ncsnx.errors import NcsnxError

_LARGE_BYTES = 400_000
"""Size above which a picture is embedded as a smaller JPEG."""
_LONGEST_SIDE = 1_600


def joined(parts: Iterable[Markup]) -> Markup:
    """Parts one after the other."""
    return Markup("").join(parts)


def paragraph(text: str) -> Markup:
    """A paragraph of plain text."""
    return Markup("<p>{}</p>\n").format(text)


def commands(label: str, lines: Iterable[str]) -> Markup:
    """Command lines to copy, each once, under what they do; empty without lines."""
    shown = joined(Markup("<pre>{}</pre>\n").format(line) for line in dict.fromkeys(lines))
    return Markup("<div><p>{}:</p>\n{}</div>\n").format(label, shown) if shown else shown


def details(summary: str, text: str) -> Markup:
    """Long text that is shown on request."""
    return Markup("<details><summary>{}</summary><pre>{}</pre></details>\n").format(summary, text)


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table whose first column names its rows, and which scrolls where it is too wide; empty without rows."""
    titles = joined(Markup('<th scope="col">{}</th>').format(title) for title in head)
    lines = joined(
        Markup('<tr><th scope="row">{}</th>{}</tr>\n').format(
            first, joined(Markup("<td>{}</td>").format(cell) for cell in rest)
        )
        for first, *rest in rows
    )
    if not lines:
        return lines
    return Markup(
        '<div class="scroll" tabindex="0" role="group" aria-label="{caption}"><table>\n<caption>{caption}</caption>\n'
        "<thead><tr>{titles}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table></div>\n"
    ).format(caption=caption, titles=titles, lines=lines)


def figure(content: bytes, caption: str, style: Literal["images", "plot"]) -> Markup:
    """A PNG with a caption: a plot in 128 colours, or images, large ones as a smaller JPEG.

    Raises NcsnxError for an incomplete picture.
    """
    kind, reduced = "png", io.BytesIO()
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if style == "plot":
                image.convert("RGB").quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
                    reduced, format="PNG"
                )
            elif len(content) > _LARGE_BYTES:
                kind = "jpeg"
                image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
                image.convert("RGB").save(reduced, format="JPEG", quality=85)
            else:
                image.load()
                reduced.write(content)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NcsnxError(f"not a complete picture: {error}") from error
    encoded = base64.b64encode(reduced.getvalue()).decode("ascii")
    return Markup(
        '<figure><img class="{style}" src="data:image/{kind};base64,{encoded}" alt="{caption}">\n'
        "<figcaption>{caption}</figcaption></figure>\n"
    ).format(style=style, kind=kind, encoded=encoded, caption=caption)


def beside(figures: Iterable[Markup], style: Literal["plots", "strip"]) -> Markup:
    """Plots side by side where there is room, or figures in a row that scrolls; empty without any."""
    shown = joined(figures)
    scrolls = Markup(' tabindex="0"') if style == "strip" else ""  # by the keyboard too
    return Markup('<div class="{}"{}>\n{}</div>\n').format(style, scrolls, shown) if shown else shown


def section(title: str, part: Markup) -> Markup:
    """A part of the page under a heading, with an identifier for links."""
    return Markup('<section id="{}">\n<h2>{}</h2>\n{}</section>\n').format(identifier(title), title, part)


def identifier(title: str) -> str:
    """The identifier of a section in the page."""
    return title.lower().replace(" ", "-")
