"""The start of sampling, chosen by a level and an image: the command line types them, and Python passes them.

Imports no torch, so that a choice that makes no sense is refused at once.
"""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ncsnx.errors import Hint, UsageError
from ncsnx.quantities import counted
from ncsnx.spelling import argument, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from ncsnx.inverse.task import Task
    from ncsnx.inverse.values import ValueRange
    from ncsnx.sampling.score_model import ScoreModel

ADJOINT = "adjoint"
"""The image of the measurement alone."""


@attrs.frozen(kw_only=True)
class StartOptions:
    """A level to start at and an image to start from; None: not given."""

    sigma: float | None = None
    """σ in the network's range."""
    image: str | None = None
    """'adjoint', or the file or folder of a picture."""

    def check(self, *, measured: bool) -> None:
        """Raises UsageError for one without the other. measured: whether there is a measurement."""
        start, sigma = parameter("start"), parameter("start_sigma")
        if self.sigma is None:
            if self.image is not None:
                raise UsageError(f"{start} needs {sigma}, which is not given", _level_hint())
            return
        if not isfinite(self.sigma) or self.sigma <= 0:
            raise UsageError(f"{sigma} must be above 0, not {self.sigma:g}")
        if not measured and self.image in (None, ADJOINT):
            raise UsageError(f"{sigma} needs {start} with a picture, since there is no measurement to start from")

    def applied(self, model: "ScoreModel", task: "Task | None", values: "ValueRange | None" = None) -> "ScoreModel":
        """The model with this start. values: of numbers in .npy files; default: 0 to 1. Raises NcsnxError."""
        if self.sigma is None:
            return model
        from ncsnx.inverse.task_pictures import read_pictures
        from ncsnx.inverse.values import UNIT
        from ncsnx.sampling.draws import StartImages

        if self.image in (None, ADJOINT):
            assert task is not None, "check"
            task.require_fit(model.experiment.data, model.shape)
            start = StartImages(sigma=self.sigma, images=task.adjoint_images(), facts={"image": ADJOINT})
            return model.starting(start)
        what = "a picture to start from"
        pixels = read_pictures(Path(str(self.image)), model.shape, values or UNIT, what=what).pixels
        if task is not None and len(pixels) not in (1, task.count):
            raise UsageError(
                f"{parameter('start')} {self.image}: expected one picture, or one for each of "
                f"{counted(task.count, 'input')}, found {len(pixels)}"
            )
        return starting_from(pixels, self.sigma, model)


def starting_from(images: "Tensor", sigma: float, model: "ScoreModel") -> "ScoreModel":
    """The model whose samples start at σ from images (P, C, H, W), where black is 0 and white 1. Raises UsageError."""
    from ncsnx.inverse.values import LazyStack
    from ncsnx.sampling.draws import StartImages

    facts = {"images_sha256": LazyStack.of(images, "start").sha256}
    return model.starting(StartImages(sigma=sigma, images=images, facts=facts))


def _level_hint() -> Hint:
    return Hint("say how much noise it gets", adds=argument("start_sigma", 1.0))
