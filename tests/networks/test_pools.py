"""The 5×5 mean pool of the conditional networks, whose gradient is wrong on CUDA if the pool itself pads."""

from typing import Any

import attrs
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ncsnx.config import Model
from ncsnx.config.variants import variants
from ncsnx.networks import Execution, build_network, prepare
from ncsnx.networks.blocks import mean_pool
from tests.golden_networks import small_experiment

FORMATS = [torch.contiguous_format, torch.channels_last]
SHAPES = [(2, 16, 8, 8), (3, 5, 2, 2), (1, 4, 7, 5)]


class PaddedMeanPools(TorchDispatchMode):
    """Records mean pools that pad by themselves, however they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # avg_pool2d(x, kernel, stride, padding, …)
        if func.overloadpacket is torch.ops.aten.avg_pool2d and len(args) > 3 and any(args[3]):
            self.found.append(args[1:])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("call", [lambda x: F.avg_pool2d(x, 5, 1, 2), torch.nn.AvgPool2d(5, padding=2)])
def test_a_mean_pool_that_pads_is_noticed(call: Any) -> None:
    with PaddedMeanPools() as pools:
        call(torch.rand(1, 1, 8, 8))
        F.avg_pool2d(torch.rand(1, 1, 8, 8), 2)
    assert len(pools.found) == 1


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("tag", variants(Model))
def test_no_network_leaves_the_padding_to_a_mean_pool(tag: str, fused: bool) -> None:
    model = attrs.evolve(variants(Model)[tag](), width=4)
    assert isinstance(model, Model)
    network = prepare(build_network(small_experiment(model)), Execution(memory_format="channels_last", fused=fused))
    x = torch.rand(2, network.channels, network.image_size, network.image_size)
    with PaddedMeanPools() as pools:
        network.scaled_score(x, torch.tensor([0, 9])).sum().backward()  # type: ignore[no-untyped-call]
    assert pools.found == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_mean_pool_equals_one_that_pads_to_the_bit(
    shape: tuple[int, ...], memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype).to(memory_format=memory_format)
    pooled = mean_pool(x)
    assert torch.equal(pooled, F.avg_pool2d(x, 5, stride=1, padding=2))
    assert pooled.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_the_mean_pool_is_the_same_in_both_memory_formats(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, upstream = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    # The pool is linear and symmetric, so the gradient is the pool of the incoming gradient.
    expected = F.avg_pool2d(upstream.double(), 5, stride=1, padding=2)
    for memory_format in FORMATS:
        gradient = _gradient(x.to(memory_format=memory_format), upstream.to(memory_format=memory_format))
        assert torch.allclose(gradient.double(), expected, atol=1e-6)


def _gradient(x: Tensor, upstream: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mean_pool(x), x, upstream)
    return gradient
