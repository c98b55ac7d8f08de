"""Timing of a network on this machine, and the estimated duration of a training.

Images of more than 64×64 pixels are timed at about that size and scaled, since the work of these networks is
proportional to the pixels.
"""

import math
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from ncsnx.config import Adam
from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import size_in_words
from ncsnx.errors import NcsnxError
from ncsnx.networks import ScoreFunction, empty_network, meta_network, prepare
from ncsnx.randomness import Purpose, Stream
from ncsnx.runtime import Runtime, fastest_s
from ncsnx.samplers.building import expected_evaluations
from ncsnx.training.ema import WeightAverage
from ncsnx.training.loss import add_gradients, loss_weight, score_matching_loss
from ncsnx.training.optimizers import checked_optimizer, training_execution
from ncsnx.training.snapshots import BATCH_SIZE, snapshot_sampler
from ncsnx.training.training_step import update_weights
from ncsnx.work import Work

TIMED_PIXELS = 64
"""Side of the largest square that is timed, if the network takes smaller images."""
_AIM_S = 1.0
"""Aim for the duration of a timed call, long enough that the clock and the start of a call don't matter."""
CHECKPOINT_S, CHECKPOINT_BYTES_PER_S = 0.1, 100e6
"""Assumed cost of a checkpoint: constant seconds, and bytes copied, hashed and written per second."""


@attrs.frozen(kw_only=True)
class Timing:
    """Seconds measured on this machine with an untrained network.

    A batch takes a constant plus a time per image; small networks spend most of their time on the constant.
    """

    seconds_per_evaluation: float
    """Network evaluation: seconds per image."""
    seconds_per_call: float = 0.0
    """Network evaluation: constant seconds per batch."""
    seconds_per_training_image: float
    """Training step: seconds per image."""
    seconds_per_update: float = 0.0
    """Training step: constant seconds, mostly the update of the weights and of their average."""
    batch_size: int = 128
    """Batch size of the timed experiment."""
    parameters: int = 0
    """Number of the network's parameters."""
    timed: str = "nothing"
    """Description of what was timed."""
    device: str = "none"
    """Type of the device."""

    @property
    def seconds_per_step(self) -> float:
        """Seconds per training step at the experiment's batch size."""
        return self.step_of(self.batch_size)

    def step_of(self, batch_size: int) -> float:
        """Seconds per training step at a batch size."""
        return self.seconds_per_update + batch_size * self.seconds_per_training_image

    def evaluations_of(self, images: int, evaluations: int, at_once: int = BATCH_SIZE) -> float:
        """Seconds for so many evaluations per image, in batches of `at_once` images."""
        calls = math.ceil(images / at_once)
        return evaluations * (calls * self.seconds_per_call + images * self.seconds_per_evaluation)


@attrs.frozen(kw_only=True)
class Cost:
    """Seconds that a training takes, by activity, estimated from a timing of the network."""

    steps: float
    snapshots: float
    checkpoints: float
    held_out: float

    @property
    def total(self) -> float:
        """Seconds from the first step to the end."""
        return self.steps + self.snapshots + self.checkpoints + self.held_out

    def parts(self) -> dict[str, float]:
        """Activity → seconds, for activities that take at least 1 % of the total."""
        named = {name.replace("held_out", "held-out losses"): seconds for name, seconds in attrs.asdict(self).items()}
        return {name: seconds for name, seconds in named.items() if seconds >= self.total / 100}


def cost_of(experiment: Experiment, timing: Timing, held_out: int) -> Cost:
    """The cost of training the experiment. held_out: number of held-out images."""
    images, steps, grid_s = min(held_out, experiment.batch_size), experiment.steps, 0.0
    if experiment.snapshots is not None:
        evaluations = expected_evaluations(snapshot_sampler(experiment), experiment.schedule.levels)
        grid_s = timing.evaluations_of(experiment.snapshots.n, evaluations)
    # a checkpoint holds weights, their average and the optimizer's state, in float32
    copies = 1 + (experiment.ema is not None) + (2 if isinstance(experiment.optimizer, Adam) else 1)
    checkpoint_s = CHECKPOINT_S + 4 * copies * timing.parameters / CHECKPOINT_BYTES_PER_S
    return Cost(
        steps=steps * timing.step_of(experiment.batch_size),
        snapshots=grids(experiment) * grid_s,
        checkpoints=math.ceil(steps / experiment.checkpoint_every) * checkpoint_s,
        held_out=steps // experiment.eval_every * timing.evaluations_of(images, 1, at_once=images) if images else 0.0,
    )


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
    network, weight = _filled_network(experiment).to(device), loss_weight(experiment)
    prepare(network, training_execution(experiment.optimizer, runtime.execution(experiment)))
    optimizer = checked_optimizer(experiment.optimizer, network.parameters())
    average = None if experiment.ema is None else WeightAverage(network, experiment.ema.rate)

    def noise(count: int) -> Tensor:
        return Stream(0, Purpose.TRAINING_NOISE).normal(torch.arange(count, device=device), (shape[0], *size))

    @torch.no_grad()
    def evaluate(count: int) -> None:
        network.eval().score(noise(count), network.noise_levels[0]).sum().item()  # the sum waits for the device

    def learn(count: int) -> None:
        drawn: tuple[Tensor | None, ...] = ()
        if size == shape[1:]:  # masks have the size of the images
            drawn = network.training_inputs(torch.arange(count, device=device), None)
        x, sigma = noise(count), network.sigmas[:1].expand(count)
        loss = score_matching_loss(network.train(), x, sigma, x, weight, drawn).mean()
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
        seconds_per_evaluation=evaluation * scale,
        seconds_per_call=call,
        seconds_per_training_image=image * scale,
        seconds_per_update=step * experiment.accumulation + update_s,
        batch_size=experiment.batch_size,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        timed=f"batches of {evaluated} (evaluation) and {trained} (training) at {pixels}, on {device}",
        device=device.type,
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
def _filled_network(experiment: Experiment) -> ScoreFunction:
    """The network with weights of a usual magnitude: uninitialized memory could hold subnormal, slow numbers."""
    network = empty_network(experiment)
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
