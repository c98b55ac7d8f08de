"""The benchmark: training steps and evaluations of several executions, with errors, memory and the convolution peak."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import attrs
import torch
from torch import Tensor

from ncsnx.benchmarking.convolution_peak import Convolutions
from ncsnx.benchmarking.executions import DEFAULT_EXECUTION, PLAIN, NamedExecution, chosen_executions
from ncsnx.benchmarking.hardware import machine_facts
from ncsnx.benchmarking.measured_network import (
    PARTS,
    MeasuredNetwork,
    OwnNetwork,
    PartClock,
    Probe,
    backward,
    probe_loss,
)
from ncsnx.benchmarking.published_code import PublishedNetwork
from ncsnx.benchmarking.random_images import with_random_pixels
from ncsnx.benchmarking.rounds import Spread, in_rounds
from ncsnx.benchmarking.sampling_times import SamplerTime, sampler_times
from ncsnx.benchmarking.tracing import kernel_count, peak_bytes, saved_bytes, shares_by_kind
from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import ImageSize, size_in_words, size_of_sides
from ncsnx.data import DataMissingError, open_data
from ncsnx.data.dataset import Dataset
from ncsnx.errors import NcsnxError, Stopped
from ncsnx.networks import ScoreFunction, build_network, meta_network
from ncsnx.randomness import Purpose, Stream
from ncsnx.work import Work

_SEED = 17  # of the probe
_WARM_UP = 2


@attrs.frozen(kw_only=True)
class BenchmarkSettings:
    """Choices of a benchmark."""

    sizes: tuple[ImageSize, ...] = ()
    """Image sizes; empty: the experiment's own."""
    batch_size: int = 8
    rounds: int = 5
    against: Path | None = None
    """A checkout of the published implementation, whose code is executed."""
    compiles: bool = True
    """Whether compiled executions are measured, which takes minutes."""


@attrs.frozen(kw_only=True)
class Deviation:
    """Difference from fp32 eager execution."""

    largest: float
    """max |a − b| / max |b|."""
    relative: float
    """‖a − b‖ / ‖b‖."""

    @classmethod
    def of(cls, found: Tensor, expected: Tensor) -> "Deviation":
        """The difference of two tensors of one shape."""
        off = (found - expected).abs().max() / expected.abs().max()
        return cls(largest=float(off), relative=float((found - expected).norm() / expected.norm()))


@attrs.frozen(kw_only=True)
class ExecutionResult:
    """One execution at one image size. Seconds are of a batch, one per round."""

    name: str
    evaluation_s: list[float]
    step_s: list[float]
    convolutions_s: list[float]
    """The convolutions of an evaluation by themselves."""
    training_convolutions_s: list[float]
    """The convolutions of a step by themselves, forward and backward."""
    convolution_operations: int
    """Floating-point operations of the convolutions of an evaluation."""
    training_convolution_operations: int
    parts_s: dict[str, float]
    """Seconds of the parts of a step: data, noise, network, update."""
    network_shares: dict[str, float]
    """Shares of the kinds of operations in the network's part."""
    evaluation_kernels: int | None
    """Kernels on a GPU; on CPUs the operators called, without views. None: unknown."""
    step_kernels: int | None
    saved_bytes_per_image: float
    """Bytes saved for the backward pass."""
    peak_bytes: int | None
    """Most memory of a step above what is held before it."""
    forward_error: Deviation
    gradient_error: Deviation


@attrs.frozen(kw_only=True)
class SizeResult:
    """All executions at one image size."""

    image_size: ImageSize
    batch_size: int
    parameters: int
    pixels: str
    """Source of the pixels: 'the data set' or 'random'."""
    baseline: str
    """Name of the execution that the ratios refer to."""
    executions: list[ExecutionResult]
    left_out: dict[str, str]
    """Name of an execution → why it wasn't measured."""
    samplers: list[SamplerTime]
    """Estimated for the default execution."""

    def of(self, name: str) -> ExecutionResult:
        """The execution of this name."""
        return next(one for one in self.executions if one.name == name)

    def evaluation_ratio(self, one: ExecutionResult) -> Spread:
        """How many times as fast as the baseline an evaluation is."""
        return Spread.of_ratios(self.of(self.baseline).evaluation_s, one.evaluation_s)

    def step_ratio(self, one: ExecutionResult) -> Spread:
        """How many times as fast as the baseline a training step is."""
        return Spread.of_ratios(self.of(self.baseline).step_s, one.step_s)


@attrs.frozen(kw_only=True)
class Benchmark:
    """All results."""

    experiment: str
    machine: dict[str, Any]
    rounds: int
    sizes: list[SizeResult]
    stopped: Stopped | None
    """The stop that ended the benchmark early; later sizes and rounds are missing."""

    def facts(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "experiment": self.experiment,
            "machine": self.machine,
            "rounds": self.rounds,
            "complete": self.stopped is None,
            "sizes": [_size_facts(size) for size in self.sizes],
        }


def run_benchmark(
    experiment: Experiment, settings: BenchmarkSettings, data_folder: Path, device: torch.device, work: Work
) -> Benchmark:
    """Measures an experiment's network on this machine, one pass per step, in each number format.

    A stop ends it early: what was measured in complete rounds is returned. Raises Stopped if that is nothing,
    UsageError and NcsnxError for a published checkout that can't be used.
    """
    machine = machine_facts(device)
    experiment = attrs.evolve(experiment, batch_size=settings.batch_size, accumulation=1, precision="fp32")
    sizes = settings.sizes or (_own_size(experiment),)
    for size in sizes:
        meta_network(with_random_pixels(experiment, size)[0])  # the network may not support a size
    results: list[SizeResult] = []
    stopped: Stopped | None = None
    for size in sizes:
        try:
            result, stopped = _measure_size(experiment, size, settings, data_folder, device, work)
        except Stopped as stop:
            if not results:
                raise
            stopped = stop
        else:
            results.append(result)
        if stopped is not None:
            break
    machine["load_after"] = machine_facts(device)["load"]
    return Benchmark(
        experiment=experiment.name, machine=machine, rounds=settings.rounds, sizes=results, stopped=stopped
    )


def _measure_size(
    experiment: Experiment, size: ImageSize, settings: BenchmarkSettings, folder: Path, device: torch.device, work: Work
) -> tuple[SizeResult, Stopped | None]:
    experiment, images, pixels = _images(experiment, size, folder, work)
    network = build_network(experiment).to(device)
    named, left_out = chosen_executions(device, compiles=settings.compiles)
    probe = _probe(network, experiment, device)
    measured: list[MeasuredNetwork] = []
    if settings.against is not None:
        published = PublishedNetwork(settings.against, network, experiment, images, device)
        off = published.require_agreement(network, probe)
        work.info(f"the outputs of the published code agree with ours to {off:.1e}")
        measured.append(published)
    for one in named:
        try:
            measured.append(OwnNetwork(one.name, one.experiment(experiment), one.runtime(device), images, work.info))
        except NcsnxError as error:  # the network may not support this execution
            left_out[one.name] = error.message
    facts = _facts_of(measured, probe, device, work)
    convolutions = _convolutions(measured, named, probe, device)
    label = f"{settings.rounds} rounds at {size_in_words(size)} px"
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        times, stopped = in_rounds(
            _jobs(measured, convolutions, probe),
            rounds=settings.rounds,
            warm_up=_WARM_UP,
            device=device,
            name=label,
            work=work,
        )
        results = [_result(one, times, convolutions[one.name], facts[one.name], device) for one in measured]
    result = SizeResult(
        image_size=size,
        batch_size=experiment.batch_size,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        pixels=pixels,
        baseline=measured[0].name,
        executions=results,
        left_out=left_out,
        samplers=[],
    )
    if stopped is None:
        evaluation = median(result.of(DEFAULT_EXECUTION).evaluation_s)
        samplers = sampler_times(experiment, evaluation, experiment.batch_size, device, work)
        result = attrs.evolve(result, samplers=samplers)
    return result, stopped


def _jobs(
    measured: Sequence[MeasuredNetwork], convolutions: Mapping[str, tuple[Convolutions, Convolutions]], probe: Probe
) -> dict[str, Callable[[], object]]:
    """The jobs of a round, in their order."""
    jobs: dict[str, Callable[[], object]] = {}
    for one in measured:
        forward, training = convolutions[one.name]
        jobs[f"{one.name} evaluation"] = partial(one.evaluate, probe)
        jobs[f"{one.name} step"] = one.step
        jobs[f"{one.name} convolutions"] = partial(_run_within, one, forward)
        jobs[f"{one.name} training convolutions"] = partial(_run_within, one, training)
    return jobs


def _result(
    one: MeasuredNetwork,
    times: Mapping[str, list[float]],
    convolutions: tuple[Convolutions, Convolutions],
    facts: Mapping[str, Any],
    device: torch.device,
) -> ExecutionResult:
    return ExecutionResult(
        name=one.name,
        evaluation_s=times[f"{one.name} evaluation"],
        step_s=times[f"{one.name} step"],
        convolutions_s=times[f"{one.name} convolutions"],
        training_convolutions_s=times[f"{one.name} training convolutions"],
        convolution_operations=convolutions[0].operations,
        training_convolution_operations=convolutions[1].operations,
        parts_s=_parts(one, device),
        **facts,
    )


def _own_size(experiment: Experiment) -> ImageSize:
    return size_of_sides(experiment.data.shape[1:])


def _images(experiment: Experiment, size: ImageSize, folder: Path, work: Work) -> tuple[Experiment, Dataset, str]:
    """The experiment at this size, its images, and where they come from."""
    if size == _own_size(experiment):
        try:
            return experiment, open_data(experiment.data, folder, work).train, "the data set"
        except DataMissingError:
            work.info(f"{experiment.name}'s data set is not here, so random pixels are used")
    experiment, images = with_random_pixels(experiment, size)
    return experiment, images, "random"


def _probe(network: ScoreFunction, experiment: Experiment, device: torch.device) -> Probe:
    """Noisy images at levels spread over the schedule."""
    count, shape = experiment.batch_size, experiment.data.shape
    numbers = torch.arange(count, device=device)
    levels = numbers * (len(network.noise_levels) - 1) // max(1, count - 1)
    noise = Stream(_SEED, Purpose.TRAINING_NOISE).normal(numbers, shape)
    clean = Stream(_SEED, Purpose.INITIAL_SAMPLE).uniform(numbers, shape)
    return Probe(clean + network.sigmas[levels].view(-1, 1, 1, 1) * noise, levels, noise)


def _facts_of(
    measured: Sequence[MeasuredNetwork], probe: Probe, device: torch.device, work: Work
) -> dict[str, dict[str, Any]]:
    """Errors, kernels, bytes and shares of every network, before any of them takes a step."""
    facts: dict[str, dict[str, Any]] = {}
    reference = next(one for one in measured if one.name == PLAIN)
    expected = _outputs(reference, probe)
    with work.progress("errors, memory and kernels", total=len(measured), unit="executions") as advance:
        for one in measured:
            work.check_stop()
            if one.is_compiled:
                work.info(f"compiling {one.name}, which takes a minute or more")
            with work.at_once():
                score, gradient = _outputs(one, probe)
                facts[one.name] = {
                    "forward_error": Deviation.of(score, expected[0]),
                    "gradient_error": Deviation.of(gradient, expected[1]),
                    **_work_of(one, probe, device),
                }
            advance()
    return facts


def _outputs(one: MeasuredNetwork, probe: Probe) -> tuple[Tensor, Tensor]:
    """The scaled score of the probe, and all gradients of its loss as one vector."""
    one.network.eval()
    with torch.no_grad():
        score = one.scaled_score(probe.x, probe.levels)
    backward(one, probe)
    gradients = one.gradients()
    flat = torch.cat([gradients[name].flatten() for name in sorted(gradients)])
    one.optimizer.zero_grad(set_to_none=True)
    return score, flat


def _work_of(one: MeasuredNetwork, probe: Probe, device: torch.device) -> dict[str, Any]:
    shares = shares_by_kind(lambda: backward(one, probe), device, is_compiled=one.is_compiled)
    return {
        "network_shares": shares,
        "evaluation_kernels": kernel_count(lambda: one.evaluate(probe), device, is_compiled=one.is_compiled),
        "step_kernels": kernel_count(one.step, device, is_compiled=one.is_compiled),
        "saved_bytes_per_image": saved_bytes(lambda: probe_loss(one, probe), one.network.parameters()) / len(probe.x),
        "peak_bytes": peak_bytes(one.step, device),
    }


def _convolutions(
    measured: Sequence[MeasuredNetwork], named: Sequence[NamedExecution], probe: Probe, device: torch.device
) -> dict[str, tuple[Convolutions, Convolutions]]:
    """Name → the convolutions of an evaluation and of a step; a compiled execution's are those of its eager twin."""
    found: dict[str, tuple[Convolutions, Convolutions]] = {}
    by_execution: dict[NamedExecution, tuple[Convolutions, Convolutions]] = {}
    executions = {one.name: one for one in named}
    for one in measured:
        eager = executions[one.name].as_eager() if one.name in executions else None
        if eager in by_execution:
            found[one.name] = by_execution[eager]
            continue
        found[one.name] = (
            Convolutions.of(partial(one.evaluate, probe), device),
            Convolutions.of(partial(backward, one, probe), device),
        )
        one.optimizer.zero_grad(set_to_none=True)
        if eager is not None:
            by_execution[eager] = found[one.name]
    return found


def _parts(one: MeasuredNetwork, device: torch.device) -> dict[str, float]:
    """Median seconds of the parts of three steps."""
    clock, seen = PartClock(device), []
    for _ in range(3):
        one.step(clock)
        seen.append(clock.seconds)
    return {part: median(seconds[part] for seconds in seen) for part in PARTS}


def _run_within(one: MeasuredNetwork, convolutions: Convolutions) -> None:
    with one.products():
        convolutions.run()


def _size_facts(size: SizeResult) -> dict[str, Any]:
    return {
        **attrs.asdict(size, filter=lambda field, value: field.name not in ("executions", "samplers")),
        "executions": [_execution_facts(size, one) for one in size.executions],
        "samplers": [attrs.asdict(one) for one in size.samplers],
    }


def _execution_facts(size: SizeResult, one: ExecutionResult) -> dict[str, Any]:
    evaluation, step = Spread.of(one.evaluation_s), Spread.of(one.step_s)
    images: Mapping[str, float] = {
        "evaluation_images_per_s": size.batch_size / evaluation.median,
        "step_images_per_s": size.batch_size / step.median,
    }
    return {
        **attrs.asdict(one),
        **images,
        "evaluation_ratio": attrs.asdict(size.evaluation_ratio(one)),
        "step_ratio": attrs.asdict(size.step_ratio(one)),
        "evaluation_peak_share": attrs.asdict(Spread.of_ratios(one.convolutions_s, one.evaluation_s)),
        "step_peak_share": attrs.asdict(Spread.of_ratios(one.training_convolutions_s, one.step_s)),
        "peak_flops": one.convolution_operations / median(one.convolutions_s),
        "training_peak_flops": one.training_convolution_operations / median(one.training_convolutions_s),
    }
