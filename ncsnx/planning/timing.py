"""What an experiment will take on this machine, from an evaluation and a training step that are timed.

Large images are timed on a smaller one of at most 64 px: the work of these networks is proportional to the pixels.
"""

import math
import time
from collections.abc import Callable

import attrs
import torch
from torch import Tensor, nn

from ncsnx.config.experiment import Experiment
from ncsnx.networks import ScoreNetwork, empty_network, prepare
from ncsnx.runtime import Runtime
from ncsnx.training.loss import score_matching_loss
from ncsnx.training.optimizers import build_optimizer
from ncsnx.work import Work

TIMED_PIXELS = 64
"""Side of the largest image that is timed."""
_LARGEST_BATCH = 64
_AIM_S = 1.0
"""What a timed call should take: then the clock and the start of a call count for nothing."""


@attrs.frozen(kw_only=True)
class Timing:
    """Seconds that were measured here, with a network that isn't trained."""

    seconds_per_evaluation: float
    """Of the network, for one image in a batch."""
    seconds_per_step: float
    """Of training, for a batch of the experiment's size."""
    timed: str
    """What was timed, in words."""


def time_experiment(experiment: Experiment, runtime: Runtime, work: Work) -> Timing:
    """Times an evaluation and a training step. Raises NcsnxError where the network doesn't fit the images."""
    network = _filled(experiment).to(runtime.device)
    side = min(experiment.data.image_size, TIMED_PIXELS)
    scale = (experiment.data.image_size / side) ** 2
    network = prepare(network.eval(), runtime.execution(experiment))

    def evaluate(count: int) -> None:
        with torch.no_grad():
            _finish(network.score(_images(experiment, count, side, runtime.device), network.noise_levels[0]))

    batch, seconds = _per_image(evaluate, _LARGEST_BATCH, work)
    part, image_seconds, update_seconds = _training(experiment, network.train(), runtime, side, work)
    size = f"{side} px, scaled to {experiment.data.image_size}" if scale > 1 else f"{side} px"
    return Timing(
        seconds_per_evaluation=seconds * scale,
        seconds_per_step=image_seconds * experiment.batch_size * scale + update_seconds,
        timed=f"batches of {batch} (evaluation) and {part} (training) at {size}, on {runtime.device}",
    )


def _training(
    experiment: Experiment, network: ScoreNetwork, runtime: Runtime, side: int, work: Work
) -> tuple[int, float, float]:
    """The batch that was timed; the seconds that an image's gradients take, and those of an update of the weights."""
    optimizer = build_optimizer(experiment.optimizer, network.parameters())

    def learn(count: int) -> None:
        images = _images(experiment, count, side, runtime.device)
        levels = torch.zeros(count, dtype=torch.int64, device=runtime.device)
        losses = score_matching_loss(network, images, levels, images, experiment.loss.power)
        losses.mean().backward()  # type: ignore[no-untyped-call]
        _finish(next(network.parameters()).grad)

    def update() -> None:
        optimizer.step()
        _finish(next(network.parameters()))

    batch, seconds = _per_image(learn, experiment.batch_size // experiment.accumulation, work)
    update()  # the first makes room for the moments
    return batch, seconds, _seconds(update)


def _per_image(job: Callable[[int], None], most: int, work: Work) -> tuple[int, float]:
    """The batch, of at most `most` images, at which `job` takes about `_AIM_S`; the seconds for each of its images."""
    batch = 1
    job(batch)
    while (seconds := _seconds(job, batch)) < _AIM_S / 4 and batch < most:
        work.check_stop()
        batch = min(4 * batch, most)
        job(batch)  # the first of a size is slower
    if seconds < _AIM_S:  # other work can only slow one down
        seconds = min(seconds, _seconds(job, batch))
    return batch, seconds / batch


def _seconds(job: Callable[..., None], *arguments: int) -> float:
    start = time.perf_counter()
    job(*arguments)
    return time.perf_counter() - start


def _finish(result: Tensor | None) -> None:
    """Waits for the device."""
    if result is not None:
        _ = result.sum().item()


def _images(experiment: Experiment, count: int, side: int, device: torch.device) -> Tensor:
    """(count, C, side, side) of some values or other."""
    shape = (count, experiment.data.channels, side, side)
    return torch.arange(math.prod(shape), device=device).sin().reshape(shape)


def _filled(experiment: Experiment) -> ScoreNetwork:
    """The experiment's network with weights of a usual size, made faster than those it would be trained from.

    Whatever the memory held could be numbers so small that processors slow down.
    """
    network = empty_network(experiment)
    with torch.no_grad():
        for parameter in network.parameters():
            _fill(parameter)
        for name, buffer in network.named_buffers():
            if name != "sigmas" and buffer.is_floating_point():
                buffer.fill_(1.0)
    return network


def _fill(parameter: nn.Parameter) -> None:
    if parameter.dim() < 2:
        parameter.fill_(0.5)
        return
    values = torch.arange(parameter.numel(), dtype=torch.float32).sin_().reshape(parameter.shape)
    parameter.copy_(values.div_(math.sqrt(parameter[0].numel())))
