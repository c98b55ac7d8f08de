"""Normalization with its activation as one: values, gradients, what it keeps, and what it refuses."""

import weakref
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ncsnx.config import NCSNv2
from ncsnx.config.discovery import resolve
from ncsnx.config.model import Activation as ActivationName
from ncsnx.config.model import Normalization
from ncsnx.networks import Execution, NetworkSpec, construct, prepare
from ncsnx.networks.fused_normalization import (
    FusedActivation,
    FusedInstanceNorm,
    FusedInstanceNormPlus,
    FusedVarianceNorm,
)
from ncsnx.networks.initialization import initialize
from ncsnx.networks.layers import ActivationLayer
from ncsnx.networks.normalization import NormalizationLayer, conditional, unconditional
from tests.benchmarks.operations import as_on_cuda, counted_step

FUSED = {"instance++": FusedInstanceNormPlus, "instance": FusedInstanceNorm, "variance": FusedVarianceNorm}
NAMES = get_args(ActivationName)
FORMATS = [torch.contiguous_format, torch.channels_last]
LEVELS = torch.tensor([0, 1])


def layer(name: Normalization, *, fused: bool, by_level: bool) -> NormalizationLayer:
    built = conditional(name, 5, levels=2) if by_level else unconditional(name, 5, epsilon=0.1)
    initialize(built, seed=0)
    if fused:
        built.__class__ = FUSED[name]
    return built


def image(memory_format: torch.memory_format = torch.contiguous_format, dtype: torch.dtype = torch.float64) -> Tensor:
    x = 3 * torch.randn(2, 5, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    return x.to(dtype).to(memory_format=memory_format).requires_grad_()


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("activation", [None, *NAMES])
@pytest.mark.parametrize("by_level", [False, True])
@pytest.mark.parametrize("name", FUSED)
def test_values_and_gradients_are_those_of_the_separate_operations(
    name: Normalization, by_level: bool, activation: str | None, memory_format: torch.memory_format
) -> None:
    then = None if activation is None else ActivationLayer(activation)
    found = []
    for fused in (False, True):
        norm, x = layer(name, fused=fused, by_level=by_level).double(), image(memory_format)
        out = norm(x, LEVELS, then=then)
        upstream = torch.linspace(-1, 2, out.numel(), dtype=torch.float64).view_as(out)
        found.append([out, *torch.autograd.grad(out, [x, *norm.parameters()], upstream)])
    assert found[1][0].is_contiguous(memory_format=memory_format)
    for expected, ours in zip(*found, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_an_activation_has_the_values_and_gradients_of_the_papers_function(name: str) -> None:
    meant = {"elu": F.elu, "relu": F.relu, "leaky_relu": lambda x: F.leaky_relu(x, 0.2), "swish": F.silu}
    fused = ActivationLayer(name)
    fused.__class__ = FusedActivation
    x = image()
    ours, expected = fused(x), meant[name](x)
    for found in (ours, ActivationLayer(name)(x), fused.activation.in_place(x.detach().clone())):
        assert torch.equal(found, expected)
    (gradient,), (true_gradient,) = (
        torch.autograd.grad(ours.square().sum(), x),
        torch.autograd.grad(expected.square().sum(), x),
    )
    assert torch.allclose(gradient, true_gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["elu", "swish"])
@pytest.mark.parametrize("name", FUSED)
def test_gradients_can_be_differentiated_again(name: Normalization, activation: str) -> None:
    norm = layer(name, fused=True, by_level=True).double()
    alone = ActivationLayer(activation)
    alone.__class__ = FusedActivation
    x = image()[:, :, :2].detach().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: alone(norm(x, LEVELS, then=ActivationLayer(activation))), x)


class LiveMemory(TorchDispatchMode):
    """Within this context, counts the bytes of tensors that operators allocate and that are still held."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in before | self._known:
                self._follow(leaf.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self.bytes += size
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size


def held_after_a_forward_pass(execution: Execution) -> int:
    """Bytes that the forward pass of one image of 32 px keeps, without casts of weights."""
    network = construct(
        NCSNv2(width=16), NetworkSpec(channels=3, image_size=32, sigmas=(2.0, 1.0), centered_input=True)
    )
    initialize(network, seed=0)
    prepare(network, execution)
    x = torch.rand(1, 3, 32, 32)
    with LiveMemory() as live:
        out = network.scaled_score(x, network.sigmas[torch.tensor([0])])
        held = live.bytes
    del out
    return held


def test_training_keeps_two_thirds_fused_and_a_seventh_with_checkpointing() -> None:
    plain = held_after_a_forward_pass(Execution())
    fused = Execution(memory_format="channels_last", fused=True)
    checkpointed = Execution(memory_format="channels_last", fused=True, checkpointing=True)
    # 63, 42 and 9 MB at width 128; everything but the images themselves is proportional to the width
    assert 63.3e6 / 8 * 0.95 < plain < 63.3e6 / 8 * 1.1
    assert held_after_a_forward_pass(fused) < 0.70 * plain
    assert held_after_a_forward_pass(checkpointed) < 0.16 * plain


def test_a_step_on_a_gpu_takes_no_more_operations_fused_than_plain() -> None:
    config = resolve("digits", ["model.width=4", "snapshots=none"]).experiment
    with as_on_cuda():
        fused, plain = (
            sum(part.operations["all"] for part in counted_step(config, plain=plain).values())
            for plain in (False, True)
        )
    assert fused <= plain
