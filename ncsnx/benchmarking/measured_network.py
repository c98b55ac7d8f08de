"""A network with its training step, as the benchmark runs it: ours in one execution, or the published one."""

import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import attrs
import torch
from torch import Tensor, nn

from ncsnx.benchmarking.rounds import wait_for
from ncsnx.config.experiment import Experiment
from ncsnx.data import TrainingBatches
from ncsnx.data.dataset import Dataset
from ncsnx.networks import ScoreFunction
from ncsnx.runtime import Runtime
from ncsnx.training.score_matching import add_gradients
from ncsnx.training.steps.training_step import TrainingStep
from ncsnx.training.training_state import TrainingState

PARTS = ("data", "noise", "network", "update")
"""Parts of a training step. 'network': forward and backward; 'update': clipping, optimizer and moving average."""


@attrs.frozen(eq=False)
class Probe:
    """Fixed inputs, the same for every network."""

    x: Tensor
    """(B, C, H, W) float32: noisy images."""
    levels: Tensor
    """(B,) int64."""
    noise: Tensor
    """(B, C, H, W) float32."""


class MeasuredNetwork(Protocol):
    """A network with everything that the benchmark needs."""

    name: str
    is_compiled: bool

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the steps."""

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


def probe_loss(network: MeasuredNetwork, probe: Probe) -> Tensor:
    """The mean loss of the probe, the same formula for every network."""
    residual = network.scaled_score(probe.x, probe.levels) + probe.noise
    return 0.5 * residual.square().flatten(1).sum(dim=1).mean()


def backward(network: MeasuredNetwork, probe: Probe) -> None:
    """A forward and a backward pass on the probe, with the gradients before them discarded."""
    network.optimizer.zero_grad(set_to_none=True)
    loss = probe_loss(network, probe)
    with network.products():
        loss.backward()  # type: ignore[no-untyped-call]


class OwnNetwork:
    """Our network under the choices of a runtime, with the steps of the training loop."""

    def __init__(
        self,
        name: str,
        experiment: Experiment,
        runtime: Runtime,
        images: Dataset,
        report: Callable[[str], None] = warnings.warn,
    ) -> None:
        """The weights follow from the experiment's seed. report: called with one line if steps can't be captured.

        Raises NcsnxError if the network can't run so.
        """
        self.name, self.is_compiled, self.device = name, runtime.compile, runtime.device
        self.state = TrainingState(experiment, runtime)
        self.batches = TrainingBatches(images, experiment.batch_size, experiment.seed)
        self.training_step = TrainingStep(
            self.state, images.value_range, graphs=runtime.graphs, compiled=runtime.compile, report=report
        )

    @property
    def network(self) -> ScoreFunction:
        return self.state.network

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.state.optimizer

    def scaled_score(self, x: Tensor, levels: Tensor) -> Tensor:
        return self.network.scaled_score(x, levels)

    @torch.no_grad()
    def evaluate(self, probe: Probe) -> Tensor:
        self.network.eval()
        return self.network.score(probe.x, self.network.noise_levels[0])

    def step(self, clock: PartClock | None = None) -> None:
        """A step of the training loop; with a clock, its parts one by one, without a CUDA graph."""
        self.network.train()
        if clock is not None:
            clock.start()
        batch = self.batches.at(self.state.step)
        positions = batch.positions.to(self.device, non_blocking=True)
        pixels = batch.images.pixels.to(self.device, non_blocking=True)
        if clock is None:
            self.training_step(pixels, positions, lambda: False)
            return
        step = self.training_step
        x = step.images(pixels, positions)
        clock.end("data")
        levels, noise = step.noise(positions)
        clock.end("noise")
        add_gradients(self.network, step.loss_at(x, levels, noise))
        clock.end("network")
        step.update(step.learning_rate)
        self.state.step += 1
        clock.end("update")

    def products(self) -> AbstractContextManager[object]:
        return self.network.products()

    def gradients(self) -> dict[str, Tensor]:
        return {name: tensor.grad for name, tensor in self.network.named_parameters() if tensor.grad is not None}
