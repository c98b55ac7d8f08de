"""The start of sampling, chosen by a level and an image: the command line types them, and Python passes them.

Imports no torch, so that a choice that makes no sense is refused at once.
"""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ncsnx.config.checks import quoted
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
class StartChoice:
    """A level to start at and an image to start from; None: not given."""

    sigma: float | None = None
    """σ in the network's range."""
    image: "Path | str | Tensor | None" = None
    """'adjoint', the file or folder of a picture, or images (P, C, H, W) in [0, 1], or own values of unbounded data."""

    def check(self, *, measured: bool) -> None:
        """Raises UsageError for one without the other. measured: whether there is a measurement."""
        start, sigma = parameter("start"), parameter("start_sigma")
        if self.sigma is None:
            if self.image is not None:
                raise UsageError(f"{start} needs {sigma}, which is not given", _level_hint())
            return
        if not isfinite(self.sigma) or self.sigma <= 0:
            raise UsageError(f"{sigma} must be above 0, not {self.sigma:g}")
        if not measured and self._is_adjoint:
            raise UsageError(f"{sigma} needs {start} with a picture, since there is no measurement to start from")

    @property
    def _is_adjoint(self) -> bool:
        return self.image is None or (isinstance(self.image, str) and self.image == ADJOINT)

    def applied(self, model: "ScoreModel", task: "Task | None", values: "ValueRange | None" = None) -> "ScoreModel":
        """The model with this start. values: of numbers in .npy files; default: 0 to 1. Raises NcsnxError."""
        if self.sigma is None:
            return model
        from ncsnx.inverse.task_pictures import read_pictures
        from ncsnx.inverse.values import UNIT, LazyStack
        from ncsnx.sampling.draws import StartImages

        if self._is_adjoint:
            assert task is not None, "check"
            task.require_fit(model.experiment.data, model.shape)
            start = StartImages(sigma=self.sigma, images=task.adjoint_images(), facts={"image": ADJOINT})
            return model.starting(start)
        if isinstance(self.image, Path | str):
            what = "a picture to start from"
            pixels = read_pictures(Path(self.image), model.shape, values or UNIT, what=what).pixels
        else:
            pixels = _as_pixels(self.image, model)
        if task is not None and len(pixels) not in (1, task.count):
            raise UsageError(
                f"{parameter('start')} {self.image if isinstance(self.image, Path | str) else ''}: expected one "
                f"picture, or one for each of {counted(task.count, 'input')}, found {len(pixels)}"
            )
        facts = {"images_sha256": LazyStack.of(pixels, "start").sha256}
        return model.starting(StartImages(sigma=self.sigma, images=pixels, facts=facts))


def _as_pixels(given: object, model: "ScoreModel") -> "Tensor":
    """Images of a model, (P, C, H, W), where black is 0 and white 1. Raises UsageError."""
    import torch

    from ncsnx.data.transforms import scale_of

    if not isinstance(given, torch.Tensor):
        raise UsageError(f"{parameter('start')} must be a path, a tensor of images or 'adjoint', not {quoted(given)}")
    images = given if given.dim() == 4 else given[None]
    if tuple(images.shape[1:]) != tuple(model.shape):
        raise UsageError(
            f"{parameter('start')} must have the shape (P, {', '.join(map(str, model.shape))}), not "
            f"{tuple(given.shape)}"
        )
    data = model.experiment.data
    return images.cpu() if data.is_bounded else images.cpu() / scale_of(data)


def _level_hint() -> Hint:
    return Hint("say how much noise it gets", adds=argument("start_sigma", 1.0))
