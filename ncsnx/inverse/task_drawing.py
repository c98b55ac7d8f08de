"""The picture of a task: the measurement, its alternatives, their mean and spread, and the truth, with PSNR.

Values are shown in the window of the data; complex ones as magnitude, in grey, beside the phase, in colours.
"""

import io
from collections.abc import Sequence

import attrs
from torch import Tensor

from ncsnx.images import UNIT, Window, picture, to_uint8
from ncsnx.inverse.alternatives import Alternatives
from ncsnx.inverse.image_quality import image_distances
from ncsnx.inverse.task import Task
from ncsnx.inverse.values import ValueRange
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


def draw_task(
    task: Task, images: Sequence[Alternatives], own: ValueRange | None = None, window: Window = UNIT
) -> bytes:
    """The picture as a PNG. images: of each picture of the task. own: the data's own values; default: 0 to 1.

    window: the values, as sampled, that are black and white.
    """
    from matplotlib.figure import Figure

    own = own or ValueRange()
    cells = [
        _Row(task.of(place), alternatives, own, window).cells() for place, alternatives in enumerate(images[:_ROWS])
    ]
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


@attrs.frozen(eq=False)
class _Row:
    """A row of the picture: what is shown of one picture of the task."""

    task: Task
    """The task of the picture alone."""
    alternatives: Alternatives
    own: ValueRange
    window: Window

    def cells(self) -> list[tuple[str, Tensor, str]]:
        """(title, picture in [0, 1], what stands below it) of each cell."""
        truth = self.task.truth
        shown = [self._cell(str(place), image) for place, image in enumerate(self.alternatives.first(_COLUMNS))]
        return [
            ("measurement", self._of_task(self.task.shown()), ""),
            *shown,
            self._cell("mean", self.alternatives.reduced(lambda values: values.mean(dim=0))),
            self._spread(),
            *([] if truth is None else [("truth", self._of_task(truth), "")]),
        ]

    def _cell(self, title: str, image: Tensor) -> tuple[str, Tensor, str]:
        """The cell of an image, as sampled, with its PSNR."""
        truth, below = self.task.truth, ""
        if truth is not None:
            known = self.own.compared(self.own.as_sampled(truth))
            reach = 1.0 if self.own.is_bounded else self.own.data_range(known)
            if reach > 0:
                found = image_distances(self.own.compared(image[None]), known, reach)
                below = psnr_in_words(float(found[0, 0]))
        return title, self.window.picture(image), below

    def _of_task(self, images: Tensor) -> Tensor:
        """The picture of the task's one image, in its values."""
        return self.window.picture(self.own.as_sampled(images)[0])

    def _spread(self) -> tuple[str, Tensor, str]:
        if self.own.is_bounded:  # the standard deviation of values in [0, 1] is at most ½
            return "spread × 2", 2 * self._deviation(correction=0), ""
        deviation = self._deviation(correction=min(1, self.alternatives.count - 1))  # as posterior.safetensors has it
        if self.own.is_complex:  # of the complex value: E |v − E v|² is the sum of both variances
            deviation = (deviation[0::2].square() + deviation[1::2].square()).sqrt()
        most = float(deviation.max())
        return "deviation", deviation / most if most > 0 else deviation, f"white: {number(most)}"

    def _deviation(self, correction: int) -> Tensor:
        return self.alternatives.reduced(lambda values: values.std(dim=0, correction=correction))
