"""The picture of a task: the measurement, its alternatives, their mean and spread, and the truth, with PSNR."""

import io
from collections.abc import Sequence

from torch import Tensor

from ncsnx.images import picture, to_uint8
from ncsnx.inverse.alternatives import Alternatives
from ncsnx.inverse.task import Task, psnr
from ncsnx.quantities import counted

_ROWS, _COLUMNS = 12, 6
"""Most pictures, and most alternatives of each, that are shown."""
_CELL_IN, _GAP_IN, _POINTS, _DOTS_PER_INCH = 0.8, 0.2, 6.5, 200


def psnr_in_words(decibels: float | None) -> str:
    """Peak signal-to-noise ratio as text; None is infinite."""
    return "exact" if decibels in (None, float("inf")) else f"{decibels:.1f} dB"


def shown_in_words(task: Task, alternatives: int) -> str | None:
    """The part of the task that the picture shows, as text; None if it shows all."""
    parts = [f"the first {counted(_ROWS, 'picture')}"] if task.count > _ROWS else []
    parts += [f"the first {counted(_COLUMNS, 'alternative')}"] if alternatives > _COLUMNS else []
    return " and ".join(parts) or None


def draw_task(task: Task, images: Sequence[Alternatives]) -> bytes:
    """The picture as a PNG. images: of each picture of the task."""
    from matplotlib.figure import Figure

    cells = [_row(task.of(picture), alternatives) for picture, alternatives in enumerate(images[:_ROWS])]
    width, height = len(cells[0]) * (_CELL_IN + _GAP_IN), len(cells) * (_CELL_IN + 1.6 * _GAP_IN)
    figure = Figure(figsize=(width, height + _GAP_IN), dpi=_DOTS_PER_INCH)
    places = figure.subplots(len(cells), len(cells[0]), squeeze=False).flat
    for axes, (title, image, below) in zip(places, [cell for row in cells for cell in row], strict=True):
        axes.imshow(picture(to_uint8(image)), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(title, fontsize=_POINTS, pad=2)
        axes.text(0.5, -0.03, below, transform=axes.transAxes, ha="center", va="top", fontsize=_POINTS)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.94, bottom=0.06, wspace=0.1, hspace=0.4)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _row(task: Task, alternatives: Alternatives) -> list[tuple[str, Tensor, str]]:
    """(title, image, PSNR) of each cell of a picture's row."""
    truth = task.truth

    def cell(title: str, image: Tensor) -> tuple[str, Tensor, str]:
        return title, image, "" if truth is None else psnr_in_words(psnr(image[None], truth)[0])

    spread = alternatives.reduced(lambda values: values.std(dim=0, correction=0))
    mean = alternatives.reduced(lambda values: values.mean(dim=0))
    # the standard deviation of values in [0, 1] is at most ½
    ends = [cell("mean", mean), ("spread × 2", 2 * spread, "")]
    shown = [cell(str(place), image) for place, image in enumerate(alternatives.first(_COLUMNS))]
    return [("measured", task.shown()[0], ""), *shown, *ends, *([] if truth is None else [("truth", truth[0], "")])]
