import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn

from ncsnx.config import CIFAR10, NCSN, Digits, Experiment, Model, NCSNDeeper, NCSNv2, NCSNv2Deeper, NCSNv2Deepest
from ncsnx.errors import NcsnxError
from ncsnx.networks import Cond, Network, NetworkSpec, construct, contract
from ncsnx.networks.initialization import initialize
from ncsnx.networks.layers import SpectralConvolution
from tests.golden_networks import small_experiment
from tests.spaces import spec_of, untrained

EVERY_MODEL: list[Model] = [
    *(NCSNv2(width=4, normalization=n) for n in ("instance++", "instance", "variance", "batch", "none")),
    *(NCSN(width=4, normalization=n) for n in ("instance++", "instance", "variance", "batch", "none")),
    NCSN(width=4, spectral_norm=True),
    NCSNv2Deeper(width=4),
    NCSNv2Deepest(width=4),
    NCSNDeeper(width=4),
]


@pytest.mark.parametrize(
    ("model", "levels", "parameters"),
    [
        (NCSNv2(), 232, 29_694_083),
        (NCSNv2Deeper(), 1086, 83_445_379),
        (NCSNv2Deepest(), 2311, 94_132_611),
        (NCSN(), 10, pytest.approx(30.12e6, abs=5e3)),
    ],
)
def test_networks_have_the_published_number_of_parameters(model: Model, levels: int, parameters: int) -> None:
    spec = spec_of(3, 32, 32, sigmas=tuple(range(levels, 0, -1)))
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in construct(model, spec).parameters()) == parameters


def test_weights_depend_on_the_seed_alone_and_no_global_generator_moves() -> None:
    model = NCSN(width=4, spectral_norm=True)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    network = untrained(small_experiment(model, seed=3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = untrained(small_experiment(model, seed=3)).state_dict()
    other = untrained(small_experiment(model, seed=4)).state_dict()
    state = network.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in state.items())
    assert not torch.equal(other["begin.weight"], state["begin.weight"])


def test_convolutions_start_as_those_of_torch() -> None:
    network = untrained(small_experiment(NCSNv2(width=32), CIFAR10()))
    for name, tensor in network.state_dict().items():
        if name.endswith("conv1.weight"):
            bound = 1 / math.sqrt(tensor[0].numel())
            assert tensor.abs().max() <= bound
            n = tensor.numel()  # squares of U(−b, b) have mean b²/3 and variance 4b⁴/45
            assert abs(tensor.square().mean() - bound**2 / 3) < 5 * bound**2 * math.sqrt(4 / 45 / n)
            assert abs(tensor.mean()) < 5 * bound / math.sqrt(3 * n)
    bias = network.get_parameter("begin.bias").abs().max()
    assert 0.5 / math.sqrt(27) < bias <= 1 / math.sqrt(27)


def test_factors_of_normalizations_start_by_their_laws() -> None:
    levels, width = 50, 32
    state = untrained(small_experiment(NCSN(width=width), levels=levels)).state_dict()
    gamma, alpha, beta = state["norm.factors.rows"].chunk(3, dim=1)
    for near_one in (gamma, alpha):
        assert abs(near_one.mean() - 1) < 5 * 0.02 / math.sqrt(levels * width)
        assert abs(near_one.std() - 0.02) < 5 * 0.02 / math.sqrt(2 * levels * width)
    assert (beta == 0).all()
    assert abs(((gamma - 1) * (alpha - 1)).mean()) < 5 * 0.02**2 / math.sqrt(levels * width)
    model = NCSN(width=width, normalization="batch")
    state = untrained(small_experiment(model, levels=levels)).state_dict()
    gamma, beta = state["norm.factors.rows"].chunk(2, dim=1)
    assert gamma.min() >= 0
    assert abs(gamma.mean() - 0.5) < 5 * math.sqrt(1 / 12 / (levels * width))
    assert (beta == 0).all()
    assert (state["norm.statistics.running_var"] == 1).all()


@attrs.frozen(kw_only=True)
class Foreign(Model):
    """The configuration of `made_by`."""


def made_by(monkeypatch: pytest.MonkeyPatch, change: Callable[[Network], Any]) -> Experiment:
    """An experiment whose network's constructor ends with this change."""

    class ForeignNetwork(Network):
        def __init__(self, model: Foreign, spec: NetworkSpec) -> None:
            super().__init__(spec)
            change(self)

        def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
            return x

    monkeypatch.setitem(contract._makers, Foreign, ForeignNetwork)
    return small_experiment(Foreign(), Digits())


def test_complex_parameters_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(network: Network) -> None:
        network.filters = nn.Parameter(torch.zeros(2, dtype=torch.complex64))

    told = "the network ForeignNetwork has a complex parameter, 'filters'; store its real and imaginary parts as"
    with pytest.raises(NcsnxError, match=told):
        untrained(made_by(monkeypatch, change))


def test_a_constructor_that_asks_for_numbers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    told = r"^the network of Foreign cannot be constructed on torch's meta device, where tensors have shapes but no val"
    with pytest.raises(NcsnxError, match=rf"{told}ues: RuntimeError: .*item\(\).*$"):
        untrained(made_by(monkeypatch, lambda network: torch.linspace(0, 1, 4).max().item()))


def test_spectral_normalization_equals_that_of_torch() -> None:
    """Several evaluations may precede a backward pass in training; one in evaluation changes nothing."""
    convolution = SpectralConvolution(4, 6)
    initialize(nn.ModuleDict({"conv": convolution}), seed=0)
    theirs = torch.nn.utils.spectral_norm(torch.nn.Conv2d(4, 6, 3, padding=1))
    theirs.load_state_dict(convolution.state_dict())
    x = torch.rand(2, 4, 5, 5)
    for _ in range(3):
        assert torch.allclose(convolution(x), theirs(x), atol=1e-6)
    (convolution(x) + convolution(x)).square().sum().backward()
    (theirs(x) + theirs(x)).square().sum().backward()
    expected = theirs.get_parameter("weight_orig").grad
    assert expected is not None
    assert convolution.weight_orig.grad is not None
    assert torch.allclose(convolution.weight_orig.grad, expected, rtol=1e-4, atol=1e-5)
    convolution.eval()
    theirs.eval()
    for _ in range(2):
        assert torch.allclose(convolution(x), theirs(x), atol=1e-6)
    assert torch.allclose(convolution.weight_u, theirs.state_dict()["weight_u"], atol=1e-6)
