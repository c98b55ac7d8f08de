"""The picture of a task: what was given, its alternatives, their mean and spread, and the truth, with PSNR."""

import io
from collections.abc import Sequence

import torch
from torch import Tensor

from ncsnx.images import picture, to_uint8
from ncsnx.inverse.task import Task

ROWS, COLUMNS = 12, 6
"""At most so many pictures, and alternatives of each, are shown."""
_CELL_IN, _GAP_IN, _POINTS, _DOTS_PER_INCH = 0.8, 0.2, 6.5, 200


def psnr_in_words(decibels: float) -> str:
    """Peak signal to noise."""
    return "exact" if decibels == float("inf") else f"{decibels:.1f} dB"


def draw_task(task: Task, images: Tensor) -> bytes:
    """A PNG. images: (P·n, C, H, W) in [0, 1], those of picture p from p·n on."""
    from matplotlib.figure import Figure

    alternatives = images.view(task.count, -1, *images.shape[1:]).float()
    cells = [_row(task, number, alternatives[number]) for number in range(min(task.count, ROWS))]
    width, height = len(cells[0]) * (_CELL_IN + _GAP_IN), len(cells) * (_CELL_IN + 1.6 * _GAP_IN)
    figure = Figure(figsize=(width, height + _GAP_IN), dpi=_DOTS_PER_INCH)
    places = figure.subplots(len(cells), len(cells[0]), squeeze=False).flat
    for axes, (title, image, below) in zip(places, [cell for row in cells for cell in row], strict=True):
        shown = picture(to_uint8(image))
        axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(title, fontsize=_POINTS, pad=2)
        axes.text(0.5, -0.03, below, transform=axes.transAxes, ha="center", va="top", fontsize=_POINTS)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.94, bottom=0.06, wspace=0.1, hspace=0.4)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _row(task: Task, number: int, alternatives: Tensor) -> list[tuple[str, Tensor, str]]:
    """(title, image, PSNR) of each cell of a picture's row."""
    mean = alternatives.mean(dim=0)
    spread = alternatives.std(dim=0, correction=0)
    shown = alternatives[:COLUMNS]
    truth = None if task.truth is None else task.truth[number]
    cells = [("given", task.shown()[number], "")]
    cells += [(str(place), image, _quality(task, number, image)) for place, image in enumerate(shown)]
    # a spread of half the range is the most that values in [0, 1] can have
    cells += [("mean", mean, _quality(task, number, mean)), ("spread × 2", 2 * spread, "")]
    return cells if truth is None else [*cells, ("truth", truth, "")]


def _quality(task: Task, number: int, image: Tensor) -> str:
    if task.truth is None:
        return ""
    alone = Task(name=task.name, operator=task.operator, values=task.values[:1], truth=task.truth[number : number + 1])
    (decibels,) = alone.psnr(image[None]) or [0.0]
    return psnr_in_words(decibels)


def quality(task: Task, images: Tensor) -> Sequence[dict[str, float | str | None]]:
    """Of each picture: its name, the PSNR of the mean and the mean PSNR of its alternatives; None without a truth."""
    alternatives = images.view(task.count, -1, *images.shape[1:]).float()
    means = task.psnr(alternatives.mean(dim=1))
    single = [task.psnr(alternatives[:, place]) for place in range(alternatives.shape[1])]
    names = task.pictures or tuple(str(number) for number in range(task.count))
    return [
        {
            "picture": name,
            "psnr_of_mean": None if means is None else means[number],
            "mean_psnr": None if means is None else sum(values[number] for values in single if values) / len(single),
        }
        for number, name in enumerate(names)
    ]


def misfit(task: Task, images: Tensor) -> float:
    """The largest difference between a measured coefficient and that of its images, (P·n, C, H, W) in [0, 1]."""
    alternatives = images.view(task.count, -1, *images.shape[1:])
    found = [task.operator.coefficients(alternatives[:, place].double()) for place in range(alternatives.shape[1])]
    return float(torch.stack([(one - task.values).abs() for one in found]).max())
