"""Optimizers of packages: those that take weights as vectors work, those that need a closure are refused."""

from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest
import torch
from torch import nn

from ncsnx.config import Experiment, Optimizer
from ncsnx.config.discovery import resolve
from ncsnx.data import open_data
from ncsnx.errors import NcsnxError
from ncsnx.runtime import Runtime
from ncsnx.training.optimizers import build_optimizer
from ncsnx.training.training_state import TrainingState
from ncsnx.training.training_step import TrainingStep
from tests.training.tiny import overrides


@attrs.frozen(kw_only=True)
class Normed(Optimizer):
    """Steps of one length along the gradient of each weight."""


@attrs.frozen(kw_only=True)
class Newton(Optimizer):
    """torch's L-BFGS."""


class NormedSteps(torch.optim.Optimizer):
    """Takes each weight as a vector, by `view`, as many optimizers of other packages do."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                gradient = weight.grad.view(-1)
                weight.view(-1).sub_(gradient / gradient.norm().clamp(min=1e-12), alpha=group["lr"])


@build_optimizer.register
def _(config: Normed, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return NormedSteps(parameters, {"lr": config.lr})


@build_optimizer.register
def _(config: Newton, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr=config.lr)


def experiment(optimizer: Optimizer) -> Experiment:
    return attrs.evolve(resolve("digits", overrides("snapshots=none")).experiment, optimizer=optimizer)


@pytest.mark.parametrize("plain", [False, True], ids=["channels_last", "contiguous"])
def test_an_optimizer_may_take_weights_as_vectors(plain: bool) -> None:
    config = experiment(Normed(lr=1e-3))
    state = TrainingState(config, Runtime(device=torch.device("cpu"), threads=1, plain=plain))
    data = open_data(config.data, Path()).train
    step = TrainingStep(state, data.value_range)
    before = {name: tensor.detach().clone() for name, tensor in state.network.named_parameters()}
    positions = torch.arange(config.batch_size)
    loss = step(data.read(positions).pixels, positions, lambda: False)
    assert loss is not None
    for name, weight in state.network.named_parameters():
        assert float((weight.detach() - before[name]).norm()) == pytest.approx(1e-3, rel=1e-3), name


def test_an_optimizer_that_needs_a_closure_is_refused_in_one_line() -> None:
    with pytest.raises(NcsnxError, match="LBFGS evaluates the loss several times per step, by a closure"):
        TrainingState(experiment(Newton()), Runtime(device=torch.device("cpu"), threads=1))
