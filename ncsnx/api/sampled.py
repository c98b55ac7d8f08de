"""Draws images from Python, as tensors."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import attrs
import torch

from ncsnx.api.arguments import image_size_of, require_kind, require_sampler
from ncsnx.api.choices import experiment_with
from ncsnx.api.python_call import PythonMessages
from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import ImageSize
from ncsnx.config.sampler import Sampler
from ncsnx.console.progress import progress as shown_progress
from ncsnx.console.working import work_of
from ncsnx.data.transforms import scale_of, window_of
from ncsnx.errors import UsageError
from ncsnx.images import ImageBatch
from ncsnx.jobs.start_choice import ADJOINT, StartOptions, starting_from
from ncsnx.sampling.drawing import Drawing, count_images
from ncsnx.sampling.request import SampleRequest, images_at_once
from ncsnx.sampling.score_model import ScoreModel
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.inverse.task import Task


def sample(
    model: ScoreModel,
    n: int = 16,
    seed: int = 0,
    *,
    batch_size: int | None = None,
    sampler: Sampler | Literal["fast"] | None = None,
    interpolate: int | None = None,
    between: int | None = None,
    task: "Task | None" = None,
    size: ImageSize | None = None,
    start: "torch.Tensor | Literal['adjoint'] | None" = None,
    start_sigma: float | None = None,
    data: Path | str | None = None,
    progress: bool | None = None,
) -> ImageBatch:
    """n images, (n, C, H, W) float32 in [0, 1] on the CPU; image i depends only on the model, the sampler, seed and i.

    A model of unbounded data gives the data's own values, without limits. In a notebook images show themselves as a
    grid, in the window of the data.

    batch_size: images at once, which change an image by rounding at most; default: 64, and more below 16 px.
    sampler: default: the experiment's; 'fast': the one that `compare` stored.
    interpolate: number of columns K; then n counts rows, and the result is (n·K, C, H, W), flattened as
    row · K + column. between: seed of the rows' other ends.
    task: measurements of P pictures; then n counts alternatives of each, and the result is (P·n, C, H, W), flattened as
    picture · n + alternative.
    size: height and width of the images, one number or (height, width): any that the network's stages can halve;
    default: those of the model. A warning says what it was trained on.
    start_sigma: begin at this level instead of the first, from images `start` (P, C, H, W) with noise of it, in [0, 1]
    or, for a model of unbounded data, in the data's own values: image i begins with start[i % P], or those of a picture
    with the one of its place. 'adjoint', the default with a task: an image of the measurement alone.
    data: folder of the data sets, for a sampler that starts from training images; default: NCSNX_DATA, else ./data.
    progress: whether to show it; default: in notebooks and on terminals.
    Raises NcsnxError.
    """
    require_kind("model", model, ScoreModel, "a ScoreModel, such as ncsnx.load('digits')")
    messages = PythonMessages(progress)
    if sampler is not None:
        model = attrs.evolve(model, experiment=_with_sampler(messages, model, sampler))
    if size is not None:
        model = model.at_size(image_size_of(size))
        if (remark := model.size_remark) is not None:
            messages.warning(remark)
    count = count_images(n, task)
    at_once = images_at_once(model.experiment.data, batch_size, model.size)
    model = _starting(model, start, start_sigma, task)
    request = SampleRequest(n=count, seed=seed, batch_size=at_once, interpolate=interpolate, between=between)
    drawing = Drawing(model=model, request=request, task=task, data=None if data is None else Path(data))
    with shown_progress(messages, "sampling", total=drawing.states(), unit="sampler steps") as advance:
        batches = drawing.batches(on_state=lambda batch, state: advance())
        images = torch.cat([images.cpu() for _, images in batches])
        return ImageBatch.of(images, window_of(model.experiment.data))


def _starting(
    model: ScoreModel, start: "torch.Tensor | str | None", start_sigma: float | None, task: "Task | None"
) -> ScoreModel:
    """The model with this start. Raises UsageError."""
    options = StartOptions(sigma=start_sigma, image="a tensor" if isinstance(start, torch.Tensor) else start)
    options.check(measured=task is not None)
    if not isinstance(start, torch.Tensor):
        if start not in (None, ADJOINT):
            raise UsageError(f"{parameter('start')} must be a tensor of images or 'adjoint', not {start!a}")
        return options.applied(model, task)
    images = start if start.dim() == 4 else start[None]
    if tuple(images.shape[1:]) != tuple(model.shape):
        raise UsageError(
            f"{parameter('start')} must have the shape (P, {', '.join(map(str, model.shape))}), not "
            f"{tuple(start.shape)}"
        )
    assert start_sigma is not None, "options.check"
    data = model.experiment.data
    pixels = images.cpu() if data.is_bounded else images.cpu() / scale_of(data)
    return starting_from(pixels, start_sigma, model)


def _with_sampler(messages: PythonMessages, model: ScoreModel, sampler: Sampler | Literal["fast"]) -> Experiment:
    """The model's experiment with another sampler."""
    if sampler == "fast":
        return experiment_with(work_of(messages), model.source, sampler)
    require_sampler(sampler)
    return attrs.evolve(model.experiment, sampler=sampler)
