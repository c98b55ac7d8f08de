"""Pools and resizing: mean pools whose gradient is wrong on CUDA if they pad, and operators of compiled code."""

from typing import Any

import attrs
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ncsnx.config import Model
from ncsnx.config.variants import variants
from ncsnx.networks import Execution, prepare, resampling
from ncsnx.networks.resampling import mean_pool
from tests.golden_networks import small_experiment
from tests.spaces import untrained

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


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("tag", [tag for tag in variants(Model) if tag not in ("deepinv", "diffusers")])
def test_no_network_leaves_the_padding_to_a_mean_pool(tag: str, fused: bool) -> None:
    model = attrs.evolve(variants(Model)[tag](), width=4)
    assert isinstance(model, Model)
    network = prepare(untrained(small_experiment(model)), Execution(memory_format="channels_last", fused=fused))
    x = torch.rand(2, network.channels, network.height, network.width)
    with PaddedMeanPools() as pools:
        network.scaled_score(x, network.sigmas[torch.tensor([0, 9])]).sum().backward()  # type: ignore[no-untyped-call]
    assert pools.found == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_mean_pool_equals_one_that_pads_to_the_bit(
    shape: tuple[int, ...], memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, upstream = (torch.randn(shape, generator=generator).to(dtype).to(memory_format=memory_format) for _ in range(2))
    pooled = mean_pool(x.requires_grad_())
    assert torch.equal(pooled, F.avg_pool2d(x, 5, stride=1, padding=2))
    assert pooled.is_contiguous(memory_format=memory_format)
    # the pool is linear and symmetric, so the gradient is the pool of the incoming gradient
    (gradient,) = torch.autograd.grad(pooled, x, upstream)
    expected = F.avg_pool2d(upstream.double(), 5, stride=1, padding=2)
    assert torch.allclose(gradient.double(), expected, atol=1e-2 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 1, 8, 8), (3, 5, 2, 2)])
def test_compiled_operators_tell_their_true_strides(shape: tuple[int, ...], memory_format: torch.memory_format) -> None:
    x = torch.rand(shape).to(memory_format=memory_format).requires_grad_()
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(resampling._max_pool, (x,), test_utils=checks)
    torch.library.opcheck(resampling._resize, (x, [5, 7]), test_utils=checks)
    _, places = resampling._max_pool(x.detach())
    torch.library.opcheck(resampling._max_pool_backward, (torch.rand(shape), x.detach(), places), test_utils=checks)
    resized = torch.rand(*shape[:2], 5, 7).to(memory_format=memory_format)
    torch.library.opcheck(resampling._resize_backward, (resized, [5, 7], list(shape)), test_utils=checks)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_operators_of_compiled_code_have_the_gradients_of_torch(memory_format: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((2, 4, 8, 8), generator=generator).to(memory_format=memory_format).requires_grad_()
    for ours, theirs in (
        (resampling._max_pool(x)[0], resampling.max_pool(x)),
        (resampling._resize(x, [5, 7]), resampling.resized(x, [5, 7])),
    ):
        upstream = torch.randn(theirs.shape, generator=generator)
        assert torch.equal(ours, theirs)
        assert torch.equal(*(torch.autograd.grad(out, x, upstream)[0] for out in (ours, theirs)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from the compiler's own imports
def test_compiled_resizing_has_a_gradient_at_every_batch_and_image_size() -> None:
    compiled = torch.compile(lambda x: resampling.resized(x, (5, 7)).square().sum(), backend="aot_eager", dynamic=True)
    for shape in [(3, 2, 8, 8), (5, 2, 8, 8), (5, 2, 6, 6)]:
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
        (expected,) = torch.autograd.grad(resampling.resized(x, (5, 7)).square().sum(), x)
        assert torch.allclose(torch.autograd.grad(compiled(x), x)[0], expected, rtol=1e-6)
