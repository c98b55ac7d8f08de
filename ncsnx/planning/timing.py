"""Timing of a network evaluation and a training step on this machine, including random draws and updates.

Images of more than 64×64 pixels are timed at about that size and scaled, since the work of these networks is
proportional to the pixels.
"""

import math
import os
import statistics
import time
from collections.abc import Callable

import attrs
import torch
from torch import Tensor, nn

from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import size_in_words
from ncsnx.networks import ScoreFunction, empty_network, prepare
from ncsnx.quantities import counted
from ncsnx.randomness import Purpose, Stream
from ncsnx.runtime import Runtime, has_fast_bf16
from ncsnx.spelling import argument
from ncsnx.training.ema import WeightAverage
from ncsnx.training.optimizers import checked_optimizer, training_execution
from ncsnx.training.score_matching import add_gradients, score_matching_loss
from ncsnx.training.snapshots import BATCH_SIZE
from ncsnx.training.steps.training_step import update_weights
from ncsnx.work import Work

TIMED_PIXELS = 64
"""Side of the largest square that is timed; rectangles are timed with at most as many pixels."""
_TIMED_MULTIPLE = 32
"""A side that is a multiple can be halved and is still fit for every built-in network."""
_AIM_S = 1.0
"""Aim for the duration of a timed call, long enough that the clock and the start of a call don't matter."""
_MOST_S = 4 * _AIM_S
"""Calls that are expected to take longer aren't made."""
_REPEATS = 3
_QUICK_S = 0.3
"""Aim for the duration of a call that is compared with one in another precision."""
_ROUNDS = 3
"""Alternating calls in each precision."""
LEAST_BF16_SPEEDUP = 1.1
"""Ratio of times from which bf16 is proposed, in every round."""
_BUSY = 1.5
"""Load per processor from which a machine counts as busy."""


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
    seconds_per_update: float
    """Training step: constant seconds, mostly the update of the weights and of their average."""
    batch_size: int
    """Batch size of the timed experiment."""
    parameters: int
    """Number of the network's parameters."""
    timed: str
    """Description of what was timed."""
    device: str
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


def time_experiment(experiment: Experiment, runtime: Runtime, work: Work) -> Timing:
    """Times an evaluation and a training step.

    Raises NcsnxError if the network doesn't suit the images, and UsageError if its precision needs another device.
    """
    runtime.for_training(experiment)
    network = _filled(experiment).to(runtime.device)
    size = timed_size(experiment)
    scale = math.prod(experiment.data.shape[1:]) / math.prod(size)
    network = prepare(network.eval(), training_execution(experiment.optimizer, runtime.execution(experiment)))
    evaluation = _line(_evaluating(experiment, network, size, runtime), BATCH_SIZE, work)
    most = experiment.batch_size // experiment.accumulation
    training = _line(_learning(experiment, network, size, runtime), most, work)
    update = _updating(experiment, network)
    pixels = f"{size_in_words(size)} px"
    if scale > 1:
        pixels += f", scaled to {size_in_words(experiment.data.shape[1:])}"
    return Timing(
        seconds_per_evaluation=evaluation.slope * scale,
        seconds_per_call=evaluation.constant,
        seconds_per_training_image=training.slope * scale,
        seconds_per_update=training.constant * experiment.accumulation + _median(update),
        batch_size=experiment.batch_size,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        timed=f"batches of {evaluation.batch} (evaluation) and {training.batch} (training) at {pixels}, "
        f"on {runtime.device}",
        device=runtime.device.type,
    )


def timed_size(experiment: Experiment) -> tuple[int, int]:
    """(height, width) of the images that are timed: the experiment's, or smaller ones that the networks can halve.

    Squares above 64 px are timed at 64 px. Longer sides of rectangles are halved until no more pixels are left than
    that, as long as the network can take it.
    """
    height, width = experiment.data.shape[1:]
    if height == width:
        return min(height, TIMED_PIXELS), min(width, TIMED_PIXELS)
    while height * width > TIMED_PIXELS**2 and max(height, width) % _TIMED_MULTIPLE == 0:
        height, width = (height // 2, width) if height >= width else (height, width // 2)
    return height, width


def bf16_speedups(experiment: Experiment, runtime: Runtime, timing: Timing, work: Work) -> tuple[float, ...]:
    """Time of a step's passes in fp32, relative to bf16, in each of a few rounds of alternating calls.

    Empty for an experiment in another precision, where the device has no fast bf16, and on a busy machine.
    """
    if experiment.precision != "fp32" or not has_fast_bf16(runtime.device):
        return ()
    network = _filled(experiment).to(runtime.device)
    size = timed_size(experiment)
    learn = _learning(experiment, network, size, runtime)
    share = math.prod(experiment.data.shape[1:]) / math.prod(size)
    fitting = int(_QUICK_S * share / max(timing.seconds_per_training_image, 1e-9))
    count = min(max(1, fitting), experiment.batch_size // experiment.accumulation)
    executions = [attrs.evolve(runtime.execution(experiment), precision=precision) for precision in ("fp32", "bf16")]
    ratios = []
    for _ in range(1 + _ROUNDS):
        seconds = []
        for execution in executions:
            work.check_stop()
            prepare(network, execution)
            seconds.append(_seconds(lambda: learn(count)))
        ratios.append(seconds[0] / seconds[1])
    is_busy = runtime.device.type == "cpu" and why_slow(runtime.threads) is not None
    return () if is_busy else tuple(ratios[1:])  # the first calls are slower


def why_slow(threads: int) -> str | None:
    """A warning that other work slows this machine and its timings down; None if the machine isn't busy."""
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load < _BUSY * processors:
        return None
    advice = f", and try {argument('threads', 1)}, here and in training" if threads > 1 else ""
    return (
        f"other work keeps this machine busy (load {load:.1f} on {counted(processors, 'processor')}), so these times "
        f"are unreliable; wait until that work ends{advice}"
    )


def _evaluating(
    experiment: Experiment, network: ScoreFunction, size: tuple[int, int], runtime: Runtime
) -> Callable[[int], None]:
    """The job of a sampler step: an evaluation, and noise for each image."""
    stream = Stream(0, Purpose.SAMPLER_NOISE)

    @torch.no_grad()
    def evaluate(count: int) -> None:
        x = _images(experiment, count, size, runtime.device)
        network.eval()
        score = network.score(x, network.noise_levels[0])
        noise = stream.normal(torch.arange(count, device=runtime.device), tuple(x.shape[1:]))
        _finish(x + score + noise)

    return evaluate


def _learning(
    experiment: Experiment, network: ScoreFunction, size: tuple[int, int], runtime: Runtime
) -> Callable[[int], None]:
    """The job of computing gradients, including the noise for each image."""
    stream = Stream(0, Purpose.TRAINING_NOISE)

    def learn(count: int) -> None:
        images = _images(experiment, count, size, runtime.device)
        levels = torch.zeros(count, dtype=torch.int64, device=runtime.device)
        network.train()
        noise = stream.normal(torch.arange(count, device=runtime.device), tuple(images.shape[1:]))
        add_gradients(network, score_matching_loss(network, images, levels, noise, experiment.loss.power).mean())
        _finish(next(network.parameters()).grad)

    return learn


def _updating(experiment: Experiment, network: ScoreFunction) -> Callable[[], None]:
    """The job of updating the weights and their average; gradients must exist."""
    optimizer = checked_optimizer(experiment.optimizer, network.parameters())
    average = None if experiment.ema is None else WeightAverage(network, experiment.ema.rate)

    def update() -> None:
        update_weights(network, optimizer, average, experiment.clip_norm)
        _finish(next(network.parameters()))

    return update


@attrs.frozen
class _Line:
    """Seconds of a job on n images, as constant + n · slope."""

    constant: float
    slope: float
    batch: int
    """The largest n that was timed."""


def _line(job: Callable[[int], None], most: int, work: Work) -> _Line:
    """Times a job on one image, and on more (up to `most`) until it takes about `_AIM_S`."""
    one = _median(lambda: job(1))
    line = _Line(0.0, one, 1)
    while line.batch < most:
        batch = min(4 * line.batch, most)
        if line.constant + batch * line.slope > _MOST_S:
            break
        work.check_stop()
        seconds = _median(lambda: job(batch))  # noqa: B023 (called at once)
        slope = max(0.0, seconds - one) / (batch - 1)
        line = _Line(max(0.0, seconds - batch * slope), slope, batch)
        if seconds > _AIM_S:
            break
    return line


def _median(job: Callable[[], None]) -> float:
    """Median seconds of a job, without the slower first call.

    A single disturbance doesn't affect the median; constant other work does.
    """
    first = _seconds(job)
    times = [_seconds(job)]
    while len(times) < _REPEATS and first + sum(times) < _AIM_S:
        times.append(_seconds(job))
    return statistics.median(times)


def _seconds(job: Callable[[], None]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def _finish(result: Tensor | None) -> None:
    """Waits for the device."""
    if result is not None:
        _ = result.sum().item()


def _images(experiment: Experiment, count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """(count, C, *size) of arbitrary values."""
    shape = (count, experiment.data.channels, *size)
    return torch.arange(math.prod(shape), device=device).sin().reshape(shape)


def _filled(experiment: Experiment) -> ScoreFunction:
    """The experiment's network with weights of a usual magnitude, filled faster than by initialization.

    Uninitialized memory could hold subnormal numbers, which slow processors down.
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
