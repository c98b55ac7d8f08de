"""Time of a data-parallel training on several GPUs, on paper: work per GPU, all-reduced gradients, efficiency.

Every GPU computes the gradient of its share of the batch. The gradients, in float32, are summed by a ring all-reduce in
buckets, a first one of 1 MiB and others of 25 MiB, as DistributedDataParallel does (Li et al. 2020,
https://arxiv.org/abs/2006.15704, section 3.2), which begins while the backward pass still computes the gradients of
earlier layers.
"""

import math
from collections.abc import Iterator
from typing import Any

import attrs

from ncsnx.config.codec import unstructure
from ncsnx.config.experiment import Experiment, Precision
from ncsnx.config.sampler import Sampler
from ncsnx.errors import Hint, UsageError
from ncsnx.planning.cards import Card
from ncsnx.planning.cost import Cost, cost_of
from ncsnx.planning.experiment_proposal import quick_sampler
from ncsnx.planning.network_work import NetworkWork
from ncsnx.planning.timing import Timing
from ncsnx.quantities import percent
from ncsnx.samplers.building import expected_evaluations
from ncsnx.training.snapshots import BATCH_SIZE
from ncsnx.training.steps.batch_gradients import BUCKET_BYTES, most_ranks, require_enough_images

FIRST_BUCKET_BYTES = 2**20
"""Gradients that DistributedDataParallel sums first, before buckets of `BUCKET_BYTES`."""
LINK_SHARE = 0.5
"""Share of a link's bandwidth that an all-reduce of one bucket reaches; assumed."""
LINK_LATENCY_S, NETWORK_LATENCY_S = 30e-6, 60e-6
"""Time of an all-reduce of nothing, within a machine and between machines; assumed."""
PEAK_SHARE, MEMORY_SHARE = 0.5, 0.8
"""Shares of a card's peak that convolutions reach, and of its memory bandwidth that other operators reach; assumed."""
LAUNCH_S, GAP_S = 5e-6, 1e-6
"""Time for which Python launches a kernel, and during which a GPU is idle between two; assumed. The first limits small
batches, unless CUDA graphs are used; for the second, see https://developer.nvidia.com/blog/cuda-graphs/, where a kernel
of 2.9 µs takes 3.8 µs."""
BACKWARD_WORK = 2
"""Work of a backward pass relative to the forward pass: gradients of the inputs and of the weights."""
GOOD_EFFICIENCY = 0.9
SCORED_IMAGES = 50_000
"""Images of a published FID score."""


@attrs.frozen(kw_only=True)
class PassTime:
    """Seconds of a pass: `gap_s` + images · `image_s`, and at least `least_s`, for which its kernels are launched."""

    image_s: float
    gap_s: float = 0.0
    least_s: float = 0.0

    def of(self, images: float) -> float:
        """Seconds of a pass of so many images."""
        return max(self.least_s, self.gap_s + images * self.image_s)


@attrs.frozen(kw_only=True)
class GpuSpeed:
    """The speed of one GPU."""

    training: PassTime
    """Forward and backward pass."""
    evaluation: PassTime
    update_s: float
    """Update of the weights and of their average, once per step."""
    source: str
    """Origin of the speed, in words."""

    @classmethod
    def of_card(cls, card: Card, work: NetworkWork, precision: Precision) -> "GpuSpeed":
        """The speed that a card's data sheet promises, at the assumed shares. Raises UsageError without that format."""
        peak = card.peaks.get(precision)
        if peak is None:
            known = " or ".join(card.peaks)
            raise UsageError(f"{card.title} does not compute in {precision}", Hint(f"take precision={known}"))
        other_bytes = work.other_bytes / (2 if precision == "bf16" else 1)
        memory = MEMORY_SHARE * card.memory_bytes_per_s
        image_s = work.operations / (PEAK_SHARE * peak) + other_bytes / memory
        return cls(
            training=_kernels(work.step_operators, (1 + BACKWARD_WORK) * image_s),
            evaluation=_kernels(work.operators, image_s),
            # Adam reads weights, gradients and two moments, and writes all but the gradients; EMA reads two, writes one
            update_s=10 * 4 * work.parameters / memory,
            source=f"{card.title}: convolutions at {percent(PEAK_SHARE)} of {peak / 1e12:g} TFLOP/s ({precision}), "
            f"all else at {percent(MEMORY_SHARE)} of {card.memory_bytes_per_s / 1e12:g} TB/s; a kernel takes "
            f"{LAUNCH_S * 1e6:g} µs to launch (without CUDA graphs), and {GAP_S * 1e6:g} µs more than its work",
        )

    @classmethod
    def measured(cls, timing: Timing) -> "GpuSpeed":
        """The measured speed of this machine's GPU."""
        return cls(
            training=PassTime(image_s=timing.seconds_per_training_image),
            evaluation=PassTime(image_s=timing.seconds_per_evaluation, gap_s=timing.seconds_per_call),
            update_s=timing.seconds_per_update,
            source=f"measured here: {timing.timed}",
        )


def _kernels(count: int, image_s: float) -> PassTime:
    return PassTime(image_s=image_s, gap_s=count * GAP_S, least_s=count * LAUNCH_S)


@attrs.frozen(kw_only=True)
class Machines:
    """Machines with GPUs, and the bandwidths between them in bytes per second, in one direction."""

    gpus: int
    """GPUs per machine."""
    nodes: int
    link: float
    """Bandwidth of a ring of GPUs within a machine."""
    network: float
    """Bandwidth of a ring that leaves the machine."""

    @classmethod
    def of_card(cls, card: Card, gpus: int, nodes: int) -> "Machines":
        """Machines with a card, whose links reach the assumed share of their bandwidth."""
        link, network = LINK_SHARE * card.link_bytes_per_s, LINK_SHARE * card.network_bytes_per_s
        return cls(gpus=gpus, nodes=nodes, link=link, network=min(link, network))

    @property
    def world(self) -> int:
        """Number of GPUs."""
        return self.gpus * self.nodes

    def bucket_seconds(self, size: float, world: int) -> float:
        """Seconds of a ring all-reduce of `size` bytes among so many GPUs, which fill machine after machine."""
        if world == 1:
            return 0.0
        bandwidth, latency = (self.link, LINK_LATENCY_S) if world <= self.gpus else (self.network, NETWORK_LATENCY_S)
        return latency + 2 * (world - 1) / world * size / bandwidth


@attrs.frozen(kw_only=True)
class StepTime:
    """Seconds of a training step on each of several GPUs."""

    work_s: float
    """Passes and update."""
    all_reduce_s: float
    exposed_s: float
    """The part of the all-reduce after the backward pass."""

    @property
    def seconds(self) -> float:
        """Seconds of the step."""
        return self.work_s + self.exposed_s

    @property
    def hidden_share(self) -> float:
        """Share of the all-reduce that the backward pass hides; 1 without communication."""
        return 1 - self.exposed_s / self.all_reduce_s if self.all_reduce_s else 1.0


def bucket_sizes(size: int) -> Iterator[int]:
    """Bytes of the buckets of `size` bytes of gradients, in the order in which they are reduced."""
    most = FIRST_BUCKET_BYTES
    while size > 0:
        yield min(size, most)
        size, most = size - most, BUCKET_BYTES


def step_time(speed: GpuSpeed, machines: Machines, parameters: int, batch: int, passes: int, world: int) -> StepTime:
    """The step of a batch in so many passes, shared among `world` GPUs.

    The GPU with the largest share of the images determines the time. The gradients of the last pass become ready evenly
    during its backward pass, and each bucket is reduced as soon as it is ready and the one before it is done.
    """
    per_pass = speed.training.of(math.ceil(batch / world) / passes)
    backward = per_pass * BACKWARD_WORK / (1 + BACKWARD_WORK)
    all_reduce = behind = 0.0  # behind: time by which the reduction lags behind the backward pass
    for size in bucket_sizes(4 * parameters):
        each = machines.bucket_seconds(size, world)
        all_reduce += each
        behind = max(0.0, behind - backward * size / (4 * parameters)) + each
    return StepTime(work_s=passes * per_pass + speed.update_s, all_reduce_s=all_reduce, exposed_s=behind)


@attrs.frozen(kw_only=True)
class SamplingTime:
    """The cost of sampling `SCORED_IMAGES` images."""

    sampler: Sampler
    evaluations: int
    """Evaluations per image."""
    gpu_seconds: float


@attrs.frozen(kw_only=True)
class GpuPlan:
    """A training on several GPUs, on paper."""

    experiment: Experiment
    speed: GpuSpeed
    machines: Machines
    parameters: int
    steps: tuple[StepTime, ...]
    """The step on 1, 2, … GPUs, up to one image per GPU and pass."""
    cost: Cost
    """The cost of a training on one GPU."""
    sampling: tuple[SamplingTime, ...]

    @property
    def step(self) -> StepTime:
        """The step on all GPUs."""
        return self.steps[self.machines.world - 1]

    def efficiency(self, world: int | None = None) -> float:
        """Speed-up over one GPU, divided by the number of GPUs; by default of all."""
        count = world or self.machines.world
        return self.steps[0].seconds / (count * self.steps[count - 1].seconds)

    @property
    def fastest_world(self) -> int:
        """The largest number of GPUs that is faster than any smaller one."""
        return min(range(1, len(self.steps) + 1), key=lambda world: self.steps[world - 1].seconds)

    @property
    def efficient_world(self) -> int:
        """The largest number of GPUs with an efficiency of at least `GOOD_EFFICIENCY`."""
        worlds = range(1, len(self.steps) + 1)
        return max(world for world in worlds if self.efficiency(world) >= GOOD_EFFICIENCY)

    @property
    def training_s(self) -> float:
        """Seconds of the training's steps."""
        return self.experiment.steps * self.step.seconds

    @property
    def other_s(self) -> float:
        """Seconds of checkpoints, by one GPU, and of grids of samples and held-out losses, which all GPUs share."""
        return self.cost.checkpoints + (self.cost.snapshots + self.cost.held_out) / self.machines.world

    @property
    def leaves_machine(self) -> bool:
        """Whether the training or the numbers of GPUs in the answer need more than one machine."""
        return max(self.machines.world, self.fastest_world, self.efficient_world) > self.machines.gpus

    def facts(self) -> dict[str, Any]:
        """The plan as JSON values."""
        step, world = self.step, self.machines.world
        return {
            "experiment": self.experiment.name,
            "gpus": world,
            "nodes": self.machines.nodes,
            "speed": self.speed.source,
            "link_bytes_per_s": self.machines.link,
            "network_bytes_per_s": self.machines.network if self.leaves_machine else None,
            "batch_size": self.experiment.batch_size,
            "seconds_per_step": step.seconds,
            "seconds_per_step_on_one_gpu": self.steps[0].seconds,
            "gradient_bytes": 4 * self.parameters,
            "seconds_of_all_reduce": step.all_reduce_s,
            "hidden_share": step.hidden_share,
            "efficiency": self.efficiency(),
            "fastest_gpus": self.fastest_world,
            "efficient_gpus": self.efficient_world,
            "seconds_of_steps": self.training_s,
            "seconds_of_other_work": self.other_s,
            "gpu_hours_of_steps": world * self.training_s / 3600,
            "sampled_images": SCORED_IMAGES,
            "sampling": [
                {
                    "sampler": unstructure(one.sampler),
                    "evaluations": one.evaluations,
                    "gpu_hours": one.gpu_seconds / 3600,
                    "seconds": one.gpu_seconds / world,
                }
                for one in self.sampling
            ],
        }


def plan_gpus(experiment: Experiment, speed: GpuSpeed, machines: Machines, parameters: int) -> GpuPlan:
    """The plan for an experiment. Raises UsageError if its batch has fewer images than the GPUs need."""
    require_enough_images(experiment, machines.world)
    batch, worlds = experiment.batch_size, range(1, most_ranks(experiment) + 1)
    steps = tuple(step_time(speed, machines, parameters, batch, experiment.accumulation, world) for world in worlds)
    timing = Timing(
        seconds_per_evaluation=speed.evaluation.of(BATCH_SIZE) / BATCH_SIZE,
        seconds_per_training_image=steps[0].work_s / batch,
        seconds_per_update=0.0,
        batch_size=batch,
        parameters=parameters,
        timed=speed.source,
        device="cuda",
    )
    samplers = dict.fromkeys(
        (experiment.sampler, quick_sampler(experiment.schedule.sigma_max, experiment.schedule.sigma_min))
    )
    return GpuPlan(
        experiment=experiment,
        speed=speed,
        machines=machines,
        parameters=parameters,
        steps=steps,
        cost=cost_of(experiment, timing, held_out=batch),
        sampling=tuple(_sampling(experiment, sampler, timing) for sampler in samplers),
    )


def _sampling(experiment: Experiment, sampler: Sampler, timing: Timing) -> SamplingTime:
    evaluations = expected_evaluations(sampler, experiment.schedule.levels)
    gpu_seconds = timing.evaluations_of(SCORED_IMAGES, evaluations)
    return SamplingTime(sampler=sampler, evaluations=evaluations, gpu_seconds=gpu_seconds)
