"""One gradient of a compiled network is checked before it trains."""

import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, fx

from ncsnx.config import NCSN
from ncsnx.errors import NcsnxError
from ncsnx.runtime import Runtime
from ncsnx.training.compiled_gradient import require_equal_gradient
from ncsnx.training.training_state import TrainingState
from tests.golden_networks import small_experiment


def state_compiled_by(backend: Callable[..., Any]) -> TrainingState:
    """A state whose network changes its buffers at every evaluation (power iterations)."""
    experiment = attrs.evolve(small_experiment(NCSN(width=4, spectral_norm=True)), ema=None)
    state = TrainingState(experiment, Runtime(device=torch.device("cpu"), threads=1))
    state.network.compile(backend=backend)
    return state


def loss(state: TrainingState) -> Callable[[], Tensor]:
    x = torch.rand(2, state.network.channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return lambda: state.network.scaled_score(x, state.network.sigmas[[0, 9]]).square().sum()


def right(graph: fx.GraphModule, inputs: object) -> Callable[..., Any]:
    return graph.forward


def doubled(graph: fx.GraphModule, inputs: object) -> Callable[..., Any]:
    """The right values with twice the gradient."""

    def run(*arguments: Any) -> Any:
        return [2 * out - out.detach() if out.requires_grad else out for out in graph.forward(*arguments)]

    return run


@pytest.mark.slow
def test_an_equal_gradient_passes_and_leaves_the_state_as_it_was() -> None:
    state = state_compiled_by(right)
    before = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}

    assert require_equal_gradient(state, loss(state)) < 1e-6

    assert all(torch.equal(tensor, before[name]) for name, tensor in state.network.state_dict().items())
    assert all(parameter.grad is None for parameter in state.network.parameters())


@pytest.mark.slow
def test_a_wrong_gradient_is_refused_before_anything_is_trained() -> None:
    state = state_compiled_by(doubled)

    told = "the compiled gradient differs from the eager one by 1 of its norm"
    with pytest.raises(NcsnxError, match=re.escape(told)):
        require_equal_gradient(state, loss(state))
