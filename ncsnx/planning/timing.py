"""Timing of a network on this machine, and the estimated duration of a training.

Images of more than 64×64 pixels are timed at about that size and scaled, since the work of these networks is
proportional to the pixels.
"""

import math
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import size_in_words
from ncsnx.errors import NcsnxError
from ncsnx.networks import Network, empty_network, meta_network, prepare
from ncsnx.networks.contract import NO_COND
from ncsnx.randomness import Purpose, Stream
from ncsnx.runtime import Runtime, fastest_s
from ncsnx.samplers.building import expected_evaluations
from ncsnx.space import Space
from ncsnx.training.ema import WeightAverage
from ncsnx.training.losses import add_gradients, build_loss
from ncsnx.training.optimizers import checked_optimizer, training_execution
from ncsnx.training.snapshots import BATCH_SIZE, snapshot_sampler
from ncsnx.training.training_step import update_weights
from ncsnx.work import Work

TIMED_PIXELS = 64
"""Side of the largest square that is timed, if the network takes smaller images."""
_AIM_S = 1.0
"""Aim for the duration of a timed call, long enough that the clock and the start of a call don't matter."""


@attrs.frozen(kw_only=True)
class Timing:
    """Seconds measured on this machine with an untrained network."""

    seconds_per_evaluation: float
    """Network evaluation: seconds per image."""
    seconds_per_training_image: float
    """Training step: seconds per image."""
    seconds_per_update: float
    """Training step: constant seconds, which are most of a small network's."""
    timed: str
    """Description of what was timed."""
    threads: int | None = None
    """CPU threads, where the processors were timed."""

    def step_of(self, batch_size: int) -> float:
        """Seconds per training step at a batch size."""
        return self.seconds_per_update + batch_size * self.seconds_per_training_image


def training_seconds(experiment: Experiment, timing: Timing) -> float:
    """Seconds of a training's steps and grids of samples, which take nearly all of its time.

    A grid is taken to be drawn as fast per image as a large batch.
    """
    seconds = experiment.steps * timing.step_of(experiment.batch_size)
    if experiment.snapshots is None:
        return seconds
    per_image = expected_evaluations(snapshot_sampler(experiment), experiment.schedule.levels)
    return seconds + grids(experiment) * experiment.snapshots.n * per_image * timing.seconds_per_evaluation


def steps_within(seconds: float, experiment: Experiment, timing: Timing) -> int:
    """Number of steps, at least 1, that take so many seconds with their grids of samples."""
    step_s = timing.step_of(experiment.batch_size)
    grid_s = training_seconds(attrs.evolve(experiment, steps=1), timing) - step_s
    steps_per_grid = experiment.checkpoint_every * (experiment.snapshots.every if experiment.snapshots else 1)
    return max(1, int((seconds - grid_s) / (step_s + grid_s / steps_per_grid)))


def grids(experiment: Experiment) -> int:
    """Number of grids of samples that a training draws: every `snapshots.every` checkpoints, and at the end."""
    if experiment.snapshots is None:
        return 0
    return math.ceil(experiment.steps / (experiment.checkpoint_every * experiment.snapshots.every))


def time_experiment(experiment: Experiment, runtime: Runtime, work: Work) -> Timing:
    """Times an evaluation and a training step by a few calls each.

    Raises NcsnxError if the network doesn't suit the images, and UsageError if its precision needs another device.
    """
    runtime.for_training(experiment)
    size, shape, device = timed_size(experiment), experiment.data.shape, runtime.device
    network, loss_of = _filled_network(experiment).to(device), build_loss(experiment, Space.unmeasured(experiment.data))
    prepare(network, training_execution(experiment.optimizer, runtime.execution(experiment)))
    optimizer = checked_optimizer(experiment.optimizer, network.parameters())
    average = None if experiment.ema is None else WeightAverage(network, experiment.ema.rate)

    def noise(count: int) -> Tensor:
        return Stream(0, Purpose.TRAINING_NOISE).normal(torch.arange(count, device=device), (shape[0], *size))

    @torch.no_grad()
    def evaluate(count: int) -> None:
        network.eval().scaled_score(noise(count), network.sigmas[:1].expand(count)).sum().item()  # waits for the device

    def learn(count: int) -> None:
        cond = NO_COND
        if size == shape[1:]:  # masks have the size of the images
            cond = network.training_cond(torch.arange(count, device=device), None)
        x, sigma = noise(count), network.sigmas[:1].expand(count)
        loss = loss_of(network.train(), x, sigma, x, cond).mean()
        add_gradients(network, loss)
        loss.item()

    def update() -> None:
        update_weights(network, optimizer, average, experiment.clip_norm)
        next(network.parameters()).sum().item()

    work.check_stop()
    call, evaluation, evaluated = _line(evaluate, BATCH_SIZE)
    work.check_stop()
    step, image, trained = _line(learn, experiment.batch_size // experiment.accumulation)
    update_s, scale = fastest_s(update, times=2), math.prod(shape[1:]) / math.prod(size)
    pixels = f"{size_in_words(size)} px" + (f", scaled to {size_in_words(shape[1:])}" if scale > 1 else "")
    return Timing(
        seconds_per_evaluation=(evaluation + call / evaluated) * scale,
        seconds_per_training_image=image * scale,
        seconds_per_update=step * experiment.accumulation + update_s,
        timed=f"batches of {evaluated} (evaluation) and {trained} (training) at {pixels}, on {device}",
        threads=runtime.threads if device.type == "cpu" else None,
    )


def timed_size(experiment: Experiment) -> tuple[int, int]:
    """(height, width) of the images that are timed: the experiment's, halved as far as they are large and it works."""
    network, (height, width) = meta_network(experiment), experiment.data.shape[1:]
    while height * width > TIMED_PIXELS**2:
        try:
            network.require_size(height // 2, width // 2)
        except NcsnxError:
            break
        height, width = height // 2, width // 2
    return height, width


@torch.no_grad()
def _filled_network(experiment: Experiment) -> Network:
    """The network with weights of a usual magnitude: uninitialized memory could hold subnormal, slow numbers."""
    network = empty_network(experiment, Space.unmeasured(experiment.data))
    for parameter in network.parameters():
        values = torch.arange(parameter.numel(), dtype=torch.float32).sin_().reshape(parameter.shape)
        parameter.copy_(values.div_(math.sqrt(max(1, parameter[0].numel()))))
    for name, buffer in network.named_buffers():
        if name != "sigmas" and buffer.is_floating_point():
            buffer.fill_(1.0)
    return network


def _line(work: Callable[[int], None], most: int) -> tuple[float, float, int]:
    """Seconds of work on n images as (constant, seconds per image), and the larger n that was timed, at most `most`."""
    single = fastest_s(lambda: work(1), times=2)
    count = max(1, min(most, int(_AIM_S / single)))
    if count == 1:
        return 0.0, single, 1
    many = fastest_s(lambda: work(count), times=2)
    slope = (many - single) / (count - 1) if many > single else many / count  # other work made the first call slower
    return max(0.0, many - count * slope), slope, count
