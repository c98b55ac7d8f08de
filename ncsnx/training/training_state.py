"""The state of training (network, moving average, optimizer, step), saved to and loaded from checkpoints."""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ncsnx.config.codec import identity
from ncsnx.config.experiment import Experiment
from ncsnx.errors import Hint, NcsnxError
from ncsnx.networks import Network, build_network, load_weights, prepare
from ncsnx.runs import checkpoint
from ncsnx.runtime import Runtime
from ncsnx.space import Space
from ncsnx.spelling import A_NAME, argument
from ncsnx.training.ema import WeightAverage
from ncsnx.training.initial_weights import InitialWeights
from ncsnx.training.optimizers import checked_optimizer, training_execution


class TrainingState:
    """The state of one training after `step` updates."""

    def __init__(self, experiment: Experiment, runtime: Runtime, space: Space) -> None:
        """The state before the first step. Raises UsageError if the experiment's precision needs another device."""
        execution = runtime.for_training(experiment).execution(experiment)
        self.experiment, self.runtime, self.space = experiment, runtime, space
        self.step = 0
        self.imported: Mapping[str, Any] | None = None
        """The imported checkpoint that training started from, if any; every later checkpoint records it."""
        network = build_network(experiment, space).to(runtime.device)
        evaluation = attrs.evolve(execution, checkpointing=False)
        self._evaluation = prepare(copy.deepcopy(network).eval().requires_grad_(False), evaluation)
        self.network = prepare(network.train(), training_execution(experiment.optimizer, execution))
        self.optimizer = checked_optimizer(experiment.optimizer, self.network.parameters())
        self.average = None if experiment.ema is None else WeightAverage(self.network, experiment.ema.rate)

    def evaluation_network(self) -> Network:
        """The network for evaluation and sampling: averaged weights (raw ones without EMA), evaluation mode."""
        weights = self.network.state_dict() if self.average is None else self.average.tensors()
        self._evaluation.load_state_dict(weights)
        return self._evaluation

    def parts(self) -> dict[str, Mapping[str, Tensor]]:
        """The tensors of a checkpoint of this step, by part and name; not copied, so the next step changes them."""
        return {
            "model": self.network.state_dict(),
            **({} if self.average is None else {"ema": self.average.tensors()}),
            "optimizer": checkpoint.optimizer_state(self.optimizer, self.network),
        }

    def facts(self) -> dict[str, Any]:
        """The values that a checkpoint of this step records beside its tensors, as JSON."""
        return {
            "identity": identity(self.experiment),
            "images": self.step * self.experiment.batch_size,
            **({} if self.imported is None else {"imported": self.imported}),
        }

    def load(self, folder: Path) -> None:
        """Loads a checkpoint and verifies every file. Raises NcsnxError if it belongs to another experiment."""
        saved = checkpoint.read_checkpoint(folder)
        if saved.state.get("identity") != identity(self.experiment):
            raise NcsnxError(f"{folder} belongs to another experiment: its identity is not this run's")
        load_weights(self.network, saved.model, str(folder))
        if self.average is not None:
            if saved.ema is None:
                raise NcsnxError(f"{folder} holds no averaged weights, but the experiment has EMA (ema)")
            self.average.load(saved.ema)
        self.imported = saved.state.get("imported")
        source = checkpoint.ImportedFrom.of(saved.state)
        if saved.optimizer or source is None or source.is_start or source.step != saved.step:  # an import has none
            checkpoint.load_optimizer_state(self.optimizer, self.network, saved.optimizer)
        self.step = saved.step

    def start_from(self, initial: InitialWeights) -> None:
        """Takes the weights that a new training starts from. Raises NcsnxError if they don't fit."""
        load_weights(self.network, initial.tensors, initial.record.file)
        if self.average is not None:
            self.average = WeightAverage(self.network, self.average.rate)
        self.imported = attrs.asdict(initial.record)

    def saved_buffers(self) -> list[Tensor]:
        """The buffers that a checkpoint holds. The others follow from the configuration, so no pass changes them."""
        saved = self.network.state_dict(keep_vars=True)
        return [buffer for name, buffer in self.network.named_buffers() if name in saved]

    def take_back(self, buffers: Sequence[Tensor], before: Sequence[Tensor]) -> None:
        """Undoes the passes of an incomplete step: discards their gradients and restores the buffers."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)

    def finite_norm(self) -> float:
        """Sum of the norms of the weights. Raises NcsnxError if one is NaN or infinite, since it must not be saved."""
        norms = [torch.linalg.vector_norm(parameter.detach()) for parameter in self.network.parameters()]
        norm = float(torch.stack(norms).cpu().double().sum())  # MPS has no float64
        if not math.isfinite(norm):
            raise non_finite("a weight", self.step, self.experiment)
        return norm


def non_finite(what: str, step: int, experiment: Experiment) -> NcsnxError:
    """The error for a training that diverged."""
    steadier = "warmup_steps=1000" if experiment.clip_norm is not None else "clip_norm=1"
    return NcsnxError(
        f"{what} is not finite at step {step:,}; it was not saved, and earlier checkpoints are unchanged",
        Hint(
            f"try optimizer.lr={experiment.optimizer.lr / 10:g} or {steadier} in a new run ({argument('name', A_NAME)})"
        ),
    )
