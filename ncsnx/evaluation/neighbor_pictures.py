"""Figures on nearest training images: a grid of samples with their neighbours, and distributions of distances."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import attrs
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ncsnx.evaluation import plots
from ncsnx.evaluation.memorizing import NEAR_QUANTILE
from ncsnx.images import enlargement, picture
from ncsnx.quantities import percent
from ncsnx.storage.atomic import write_bytes

_GAP, _TEXT_PIXELS, _FONT_PIXELS = 4, 14, 11
_ROWS_OF_A_PANEL = 8
"""Most rows of the grid in one panel; more are split into two panels side by side."""
_INK = "#333333"


@attrs.frozen(eq=False)
class Neighbor:
    """A near training image."""

    image: Tensor
    """(C, H, W) uint8, as in the data set."""
    distance: float
    flipped: bool
    """Whether its mirror image is the neighbour; the grid then shows that."""


@attrs.frozen(eq=False)
class GridRow:
    """A sample and its neighbours."""

    number: int
    """Index of the sample."""
    sample: Tensor
    """(C, H, W) uint8."""
    neighbors: Mapping[str, Sequence[Neighbor]]
    """Neighbours by space, nearest first; equally many in every row."""


def draw_grid(path: Path, rows: Iterable[GridRow]) -> None:
    """Writes a PNG atomically. A row shows a sample with its number, and its neighbours in each space with distances.

    Mirror images are marked with ↔. Raises NcsnxError.
    """
    rows = list(rows)
    half = len(rows) if len(rows) <= _ROWS_OF_A_PANEL else math.ceil(len(rows) / 2)
    panels = [_panel(rows[start : start + half]) for start in range(0, len(rows), half)]
    width = sum(panel.width for panel in panels) + 4 * _GAP * (len(panels) - 1)
    whole = Image.new("RGB", (width, panels[0].height), "white")
    left = 0
    for panel in panels:
        whole.paste(panel, (left, 0))
        left += panel.width + 4 * _GAP
    content = io.BytesIO()
    whole.save(content, format="PNG")
    write_bytes(path, content.getvalue())


def _panel(rows: Sequence[GridRow]) -> Image.Image:
    first = picture(rows[0].sample)
    columns = 1 + sum(len(group) for group in rows[0].neighbors.values())
    factor = enlargement(first.height, first.width, rows=len(rows), columns=columns)
    width, height = first.width * factor + _GAP, first.height * factor + _TEXT_PIXELS + _GAP
    groups = len(rows[0].neighbors)
    panel = Image.new("RGB", (columns * width + groups * 2 * _GAP + _GAP, len(rows) * height + 20), "white")
    pen = ImageDraw.Draw(panel)

    def put(image: Tensor, left: int, top: int, text: str) -> None:
        shown = picture(image)
        panel.paste(shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST), (left, top))
        pen.text((left, top + shown.height * factor), text, fill=_INK, font=_font())

    for line, row in enumerate(rows):
        left, top = _GAP, 20 + line * height
        if line == 0:
            pen.text((left, 3), "sample", fill=_INK, font=_font())
        put(row.sample, left, top, str(row.number))
        left += width + 2 * _GAP
        for space, group in row.neighbors.items():
            if line == 0:
                pen.text((left, 3), f"nearest in {space}", fill=_INK, font=_font())
            for one in group:
                image = one.image.flip(-1) if one.flipped else one.image
                put(image, left, top, f"{_short(one.distance)}{' ↔' if one.flipped else ''}")
                left += width
            left += 2 * _GAP
    return panel


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


def _short(distance: float) -> str:
    """A distance with three significant digits, to fit below an image."""
    return f"{distance:#.3g}".rstrip(".") if distance < 1e4 else f"{distance:.0e}"


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Matplotlib's own font, so that grids look the same everywhere."""
    from matplotlib.font_manager import findfont

    return ImageFont.truetype(findfont("DejaVu Sans"), _FONT_PIXELS)
