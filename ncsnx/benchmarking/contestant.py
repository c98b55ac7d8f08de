"""A network with its training step, as the benchmark runs it: ours in one execution, or the published one."""

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import attrs
import torch
from torch import Tensor, nn

from ncsnx.benchmarking.rounds import wait_for
from ncsnx.config.experiment import Experiment
from ncsnx.data import Preprocessing, TrainingBatches
from ncsnx.data.dataset import Dataset
from ncsnx.networks import Execution, ScoreFunction, prepare
from ncsnx.randomness import Purpose, Stream
from ncsnx.training.ema import WeightAverage
from ncsnx.training.optimizers import build_optimizer, learning_rate
from ncsnx.training.score_matching import score_matching_loss

PARTS = ("data", "noise", "network", "update")
"""Parts of a training step. 'network': forward and backward; 'update': clipping, optimizer and moving average."""


@attrs.frozen(eq=False)
class Probe:
    """Fixed inputs, the same for every contestant."""

    x: Tensor
    """(B, C, H, W) float32: noisy images."""
    levels: Tensor
    """(B,) int64."""
    noise: Tensor
    """(B, C, H, W) float32."""


class Contestant(Protocol):
    """A network with everything that the benchmark needs."""

    name: str
    is_compiled: bool
    optimizer: torch.optim.Optimizer

    @property
    def network(self) -> nn.Module:
        """The network itself."""

    def scaled_score(self, x: Tensor, levels: Tensor) -> Tensor:
        """σ · s(x, σ), (B, C, H, W) float32."""

    def evaluate(self, probe: Probe) -> Tensor:
        """One evaluation as a sampler makes it."""

    def step(self, clock: "PartClock | None" = None) -> None:
        """One complete training step."""

    def products(self) -> AbstractContextManager[object]:
        """Context of a backward pass, and of convolutions by themselves: TF32 if the execution has it."""

    def gradients(self) -> dict[str, Tensor]:
        """The gradients now, by our names of the parameters."""


class PartClock:
    """Seconds of the parts of the last training step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._since = time.perf_counter()

    def start(self) -> None:
        """The step begins."""
        wait_for(self.device)
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._since = time.perf_counter()

    def end(self, part: str) -> None:
        """A part ends, and the next begins."""
        wait_for(self.device)
        now = time.perf_counter()
        self.seconds[part] += now - self._since
        self._since = now


def probe_loss(contestant: Contestant, probe: Probe) -> Tensor:
    """The mean loss of the probe, the same formula for every contestant."""
    residual = contestant.scaled_score(probe.x, probe.levels) + probe.noise
    return 0.5 * residual.square().flatten(1).sum(dim=1).mean()


def backward(contestant: Contestant, probe: Probe) -> None:
    """A forward and a backward pass on the probe, with the gradients before them discarded."""
    contestant.optimizer.zero_grad(set_to_none=True)
    loss = probe_loss(contestant, probe)
    with contestant.products():
        loss.backward()  # type: ignore[no-untyped-call]


class OwnContestant:
    """Our network in one execution, with a step as the training loop makes it."""

    def __init__(
        self,
        name: str,
        execution: Execution,
        network: ScoreFunction,
        experiment: Experiment,
        images: Dataset,
        device: torch.device,
    ) -> None:
        """network: on the device; it is copied."""
        self.name, self.is_compiled = name, execution.compile
        self.network: ScoreFunction = prepare(copy.deepcopy(network), execution)
        self.experiment, self.device = experiment, device
        self.optimizer = build_optimizer(experiment.optimizer, self.network.parameters())
        self.average = None if experiment.ema is None else WeightAverage(self.network, experiment.ema.rate)
        self.batches = TrainingBatches(images, experiment.batch_size, experiment.seed)
        self.preprocessing = Preprocessing(experiment.data, images.value_range, experiment.seed)
        self.levels = Stream(experiment.seed, Purpose.NOISE_LEVEL)
        self.noise = Stream(experiment.seed, Purpose.TRAINING_NOISE, compiled=execution.compile)
        self.number = 0

    def scaled_score(self, x: Tensor, levels: Tensor) -> Tensor:
        return self.network.scaled_score(x, levels)

    @torch.no_grad()
    def evaluate(self, probe: Probe) -> Tensor:
        self.network.eval()
        return self.network.score(probe.x, self.network.noise_levels[0])

    def step(self, clock: PartClock | None = None) -> None:
        experiment = self.experiment
        end: Callable[[str], None] = (lambda part: None) if clock is None else clock.end
        self.network.train()
        if clock is not None:
            clock.start()
        batch = self.batches.at(self.number)
        positions = batch.positions.to(self.device, non_blocking=True)
        x = self.preprocessing.training(batch.images.pixels.to(self.device, non_blocking=True), positions)
        end("data")
        levels = self.levels.integers(positions, experiment.schedule.levels)
        noise = self.noise.normal(positions, experiment.data.shape)
        end("noise")
        losses = score_matching_loss(self.network, x, levels, noise, experiment.loss.power)
        with self.products():
            losses.mean().backward()  # type: ignore[no-untyped-call]
        end("network")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(experiment.optimizer, self.number, experiment.warmup_steps)
        if experiment.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), experiment.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()
        self.number += 1
        end("update")

    def products(self) -> AbstractContextManager[object]:
        return self.network.products()

    def gradients(self) -> dict[str, Tensor]:
        return {name: tensor.grad for name, tensor in self.network.named_parameters() if tensor.grad is not None}
