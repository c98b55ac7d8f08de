"""The picture of a task: the measurement, its alternatives, their mean and spread, and the truth, with PSNR.

Values are shown in the window of the data; complex ones as magnitude, in grey, beside the phase, in colours.
"""

import io

import torch
from torch import Tensor

from ncsnx.images import Window, picture, to_uint8
from ncsnx.inverse.image_quality import Comparison
from ncsnx.inverse.task import Task
from ncsnx.inverse.values import LazyStack, ValueRange
from ncsnx.quantities import counted, number

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


def draw_task(task: Task, alternatives: LazyStack, own: ValueRange, window: Window) -> bytes:
    """The picture as a PNG. alternatives: images of each picture, (P, n, C, H, W). own: the data's own values.

    window: the values, as sampled, that are black and white.
    """
    from matplotlib.figure import Figure

    shown = range(min(task.count, _ROWS))
    cells = [_row(task.of(place), alternatives.make(place), own, window) for place in shown]
    cell_in = 2 * _CELL_IN if window.is_complex else _CELL_IN
    width, height = len(cells[0]) * (cell_in + _GAP_IN), len(cells) * (_CELL_IN + 1.6 * _GAP_IN)
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


def _row(task: Task, images: Tensor, own: ValueRange, window: Window) -> list[tuple[str, Tensor, str]]:
    """(title, picture in [0, 1], text below it) of each cell, for a task with one picture."""
    truth, comparison = task.truth, Comparison.of(task.truth, own)

    def cell(title: str, sample: Tensor) -> tuple[str, Tensor, str]:
        below = "" if comparison is None else psnr_in_words(float(comparison.distances(sample[None])[0, 0]))
        return title, window.picture(sample), below

    def of_task(title: str, known: Tensor) -> tuple[str, Tensor, str]:
        return title, window.picture(own.as_sampled(known)[0]), ""

    return [
        of_task("measurement", task.shown()),
        *(cell(str(place), sample) for place, sample in enumerate(images[:_COLUMNS])),
        cell("mean", images.mean(dim=0)),
        _spread(images, own),
        *([] if truth is None else [of_task("truth", truth)]),
    ]


def _spread(images: Tensor, own: ValueRange) -> tuple[str, Tensor, str]:
    """The cell of the standard deviation."""
    # of values in [0, 1] it is at most ½; else with n − 1 in the denominator, as in posterior.safetensors
    correction = 0 if own.is_bounded else min(1, len(images) - 1)
    deviation = images.std(dim=0, correction=correction)
    if own.is_bounded:
        return "spread × 2", 2 * deviation, ""
    if own.is_complex:  # of the complex value: E |v − E v|² is the sum of both variances
        deviation = torch.hypot(deviation[0::2], deviation[1::2])
    most = float(deviation.max())
    return "deviation", deviation / most if most > 0 else deviation, f"white: {number(most)}"
