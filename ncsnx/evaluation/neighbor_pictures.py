"""Figures on nearest training images: a grid of samples with their neighbours, and distributions of distances."""

import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ncsnx.evaluation import plots
from ncsnx.evaluation.memorizing import NEAR_QUANTILE
from ncsnx.images import enlargement, picture
from ncsnx.quantities import percent
from ncsnx.storage.atomic import write_bytes

_GAP, _TEXT_PIXELS, _FONT_PIXELS, _HEAD_PIXELS = 4, 14, 11, 20
_INK = "#333333"

GridRow = Mapping[str, Sequence[tuple[Tensor, str]]]
"""Images (C, H, W) uint8 with their captions, by the title of their group; equally many in every row."""


def draw_grid(path: Path, rows: Sequence[GridRow]) -> None:
    """Writes a PNG atomically: a line of images for each row, with captions, below the titles of the groups.

    Raises NcsnxError.
    """
    groups = list(rows[0].values())
    columns, first = sum(map(len, groups)), picture(groups[0][0][0])
    factor = enlargement(first.height, first.width, rows=len(rows), columns=columns)
    width, height = first.width * factor + _GAP, first.height * factor + _TEXT_PIXELS + _GAP
    size = columns * width + (2 * len(groups) - 1) * _GAP, len(rows) * height + _HEAD_PIXELS
    grid = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(grid)
    for line, row in enumerate(rows):
        left, top = _GAP, _HEAD_PIXELS + line * height
        for title, group in row.items():
            if line == 0:
                pen.text((left, 3), title, fill=_INK, font=_font())
            for image, caption in group:
                shown = picture(image).resize((width - _GAP, height - _TEXT_PIXELS - _GAP), Image.Resampling.NEAREST)
                grid.paste(shown, (left, top))
                pen.text((left, top + shown.height), caption, fill=_INK, font=_font())
                left += width
            left += 2 * _GAP
    content = io.BytesIO()
    grid.save(content, format="PNG")
    write_bytes(path, content.getvalue())


def plot_distances(stem: Path, spaces: Mapping[str, tuple[Tensor, Tensor]], *, title: str, caption: str) -> None:
    """Draws cumulative distributions of distances into `stem`.png and `stem`.svg, one panel per space.

    spaces: (n,) distances of samples and (m,) of held-out images, m ≥ 0, by name of the space. A dotted line marks the
    quantile NEAR_QUANTILE of the held-out distances. For the rest see `plot_scores`. Raises NcsnxError.
    """
    with plots.style():
        figure = plots.new_figure(3.2 * len(spaces) + 0.2, 3.5, title, caption)
        panels = figure.subplots(1, len(spaces), squeeze=False)[0]
        for axes, (name, (samples, held_out)) in zip(panels, spaces.items(), strict=True):
            if len(held_out):
                label = f"held out ({len(held_out):,})"
                axes.ecdf(held_out.numpy(), color=plots.GREY, linestyle=plots.DASHED, label=label)
                limit = float(held_out.quantile(NEAR_QUANTILE))
                label = f"nearest {percent(NEAR_QUANTILE)} of held out"
                axes.axvline(limit, color=plots.GREY, linewidth=0.7, linestyle=":", label=label)
            axes.ecdf(samples.numpy(), color=plots.VERMILION, label=f"samples ({len(samples):,})")
            axes.set_xlim(left=0)
            axes.set_xlabel(f"distance in {name}")
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1))  # above the axes, where it covers no curve
        panels[0].set_ylabel("cumulative share of images")
        plots.write(stem, figure)


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Matplotlib's own font, so that grids look the same everywhere."""
    from matplotlib.font_manager import findfont

    return ImageFont.truetype(findfont("DejaVu Sans"), _FONT_PIXELS)
