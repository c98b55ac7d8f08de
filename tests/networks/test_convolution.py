import pytest
import torch

from ncsnx.networks.initialization import initialize
from ncsnx.networks.layers import SpectralConvolution


@pytest.fixture
def convolution() -> SpectralConvolution:
    convolution = SpectralConvolution(4, 6)
    initialize(torch.nn.ModuleDict({"conv": convolution}), seed=0)
    return convolution


def test_power_iteration_brings_the_largest_singular_value_to_one(convolution: SpectralConvolution) -> None:
    for _ in range(500):
        convolution(torch.rand(1, 4, 5, 5))
    largest = torch.linalg.matrix_norm(convolution.kernel().detach().flatten(1), 2)
    assert float(largest) == pytest.approx(1, abs=1e-4)


def test_each_evaluation_in_training_is_one_power_iteration_and_none_otherwise(
    convolution: SpectralConvolution,
) -> None:
    u, matrix = convolution.weight_u.clone(), convolution.weight_orig.detach().flatten(1)
    convolution(torch.rand(1, 4, 5, 5))
    v = matrix.T @ u
    expected = matrix @ (v / v.norm())
    assert torch.allclose(convolution.weight_u, expected / expected.norm(), atol=1e-6)
    convolution.eval()
    stored = convolution.weight_u.clone()
    convolution(torch.rand(1, 4, 5, 5))
    assert torch.equal(convolution.weight_u, stored)


def test_two_evaluations_before_the_backward_pass_are_allowed(convolution: SpectralConvolution) -> None:
    x = torch.rand(1, 4, 5, 5)
    (convolution(x) + convolution(x)).sum().backward()
    assert convolution.weight_orig.grad is not None


def test_it_equals_the_spectral_normalization_of_torch(convolution: SpectralConvolution) -> None:
    theirs = torch.nn.utils.spectral_norm(torch.nn.Conv2d(4, 6, 3, padding=1))
    theirs.load_state_dict(convolution.state_dict())
    x = torch.rand(2, 4, 5, 5)
    for _ in range(3):
        assert torch.allclose(convolution(x), theirs(x), atol=1e-6)
    convolution(x).square().sum().backward()
    theirs(x).square().sum().backward()
    expected = theirs.get_parameter("weight_orig").grad
    assert expected is not None
    assert convolution.weight_orig.grad is not None
    assert torch.allclose(convolution.weight_orig.grad, expected, rtol=1e-4, atol=1e-5)
