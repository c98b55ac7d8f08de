"""Activation checkpointing: the same bits, the same buffers, and a refusal where there is nothing to recompute."""

import copy

import pytest
import torch

from ncsnx.config import NCSN, Model, NCSNv2
from ncsnx.errors import NcsnxError
from ncsnx.networks import Execution, NetworkSpec, ScoreFunction, prepare
from ncsnx.networks.execution import RECOMPUTED
from tests.networks.test_execution import built, evaluated

DEFAULT = Execution(memory_format="channels_last", fused=True)
CHECKPOINTED = Execution(memory_format="channels_last", fused=True, checkpointing=True)
MODELS: list[Model] = [
    NCSNv2(width=4),
    NCSNv2(width=4, normalization="batch"),
    NCSN(width=4),
    NCSN(width=4, spectral_norm=True),
    NCSN(width=4, normalization="batch"),
]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_two_steps_have_equal_bits_and_leave_equal_buffers(model: Model) -> None:
    network, checkpointed = prepare(copy.deepcopy(built(model)), DEFAULT), copy.deepcopy(built(model))
    prepare(checkpointed, CHECKPOINTED)
    for _ in range(2):  # in the second step the vectors and statistics of the first one count
        for ours, expected in zip(evaluated(checkpointed), evaluated(network), strict=True):
            assert torch.equal(ours, expected)
        for after, true_after in zip(checkpointed.buffers(), network.buffers(), strict=True):
            assert torch.equal(after, true_after)


def test_every_kind_of_block_is_recomputed_and_can_go_back() -> None:
    network = prepare(copy.deepcopy(built(NCSNv2(width=4))), CHECKPOINTED)
    names = list(network.state_dict())
    assert set(RECOMPUTED.values()) <= {type(module) for module in network.modules()}
    prepare(network, DEFAULT)
    assert not set(RECOMPUTED.values()) & {type(module) for module in network.modules()}
    assert list(network.state_dict()) == names


def test_a_network_without_such_blocks_is_refused() -> None:
    class Plain(ScoreFunction):
        def forward(self, x: torch.Tensor, levels: torch.Tensor | None) -> torch.Tensor:
            return x

    spec = NetworkSpec(channels=1, image_size=8, sigmas=(1.0,), centered_input=False)
    with pytest.raises(NcsnxError, match="Plain has none of the blocks"):
        prepare(Plain(spec), CHECKPOINTED)
