"""The picture of a task: the measurement, its alternatives, their mean and spread, and the truth, with PSNR."""

import io
import statistics

import attrs
from torch import Tensor

from ncsnx.images import picture, to_uint8
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


def draw_task(task: Task, images: Tensor) -> bytes:
    """The picture as a PNG. images: (P·n, C, H, W) in [0, 1], with the alternatives of picture p from p·n on."""
    from matplotlib.figure import Figure

    alternatives = images.view(task.count, -1, *images.shape[1:]).float()
    truths = [None] * task.count if task.truth is None else task.truth
    shown = list(zip(task.shown(), alternatives, truths, strict=True))[:_ROWS]
    cells = [_row(*parts) for parts in shown]
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


def _row(given: Tensor, alternatives: Tensor, truth: Tensor | None) -> list[tuple[str, Tensor, str]]:
    """(title, image, PSNR) of each cell of a picture's row."""

    def cell(title: str, image: Tensor) -> tuple[str, Tensor, str]:
        return title, image, "" if truth is None else psnr_in_words(psnr(image[None], truth[None])[0])

    spread = alternatives.std(dim=0, correction=0)
    # the standard deviation of values in [0, 1] is at most ½
    ends = [cell("mean", alternatives.mean(dim=0)), ("spread × 2", 2 * spread, "")]
    shown = [cell(str(place), image) for place, image in enumerate(alternatives[:_COLUMNS])]
    return [("measured", given, ""), *shown, *ends, *([] if truth is None else [("truth", truth, "")])]


@attrs.frozen
class Quality:
    """PSNR of the images of a picture, in dB."""

    picture: str
    of_mean: float
    """PSNR of the mean of the alternatives."""
    of_one: float
    """Mean PSNR of the alternatives."""


def quality(task: Task, images: Tensor) -> list[Quality]:
    """Quality of each picture's images; empty without a truth. images: (P·n, C, H, W) in [0, 1]."""
    if task.truth is None:
        return []
    alternatives = images.view(task.count, -1, *images.shape[1:]).float()
    return [
        Quality(name, psnr(some.mean(dim=0, keepdim=True), truth[None])[0], statistics.fmean(psnr(some, truth[None])))
        for name, some, truth in zip(task.names, alternatives, task.truth, strict=True)
    ]


def largest_misfit(task: Task, images: Tensor) -> float:
    """Largest difference between Uᵀ y and its value for the images. images: (P·n, C, H, W) in [0, 1]."""
    wanted = task.values.repeat_interleave(len(images) // task.count, dim=0)
    away = task.operator.coefficients(images.double()) - wanted
    return float((task.operator.singular_values * away).abs().max())
