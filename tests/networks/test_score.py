import pytest
import torch

from ncsnx.config import NCSN, Digits, NCSNv2
from ncsnx.errors import NcsnxError
from ncsnx.networks import build_network
from tests.golden_networks import small_experiment


@torch.no_grad()
def test_ncsnv2_takes_any_sigma_since_it_only_divides() -> None:
    network = build_network(small_experiment(NCSNv2(width=4)))
    x = torch.rand(2, 1, 8, 8)
    assert torch.allclose(
        network.score(x, 0.123) * 0.123, network.scaled_score(x, network.sigmas[torch.tensor([0, 5])])
    )


@torch.no_grad()
def test_ncsn_takes_its_own_levels_after_a_round_trip_through_float32() -> None:
    network = build_network(small_experiment(NCSN(width=4)))
    x = torch.rand(2, 1, 8, 8)
    for level, sigma in enumerate(network.sigmas.tolist()):
        scaled = network.scaled_score(x, network.sigmas[torch.full((2,), level)])
        assert torch.allclose(network.score(x, sigma) * sigma, scaled)


def test_ncsn_refuses_a_sigma_between_its_levels() -> None:
    network = build_network(small_experiment(NCSN(width=4)))
    with pytest.raises(NcsnxError, match=r"10 levels .*from 5 to 0\.01; σ = 0\.02 is not one"):
        network.score(torch.rand(1, 1, 8, 8), 0.02)


@torch.no_grad()
def test_images_between_zero_and_one_are_centred_first_and_transformed_ones_are_not() -> None:
    plain = build_network(small_experiment(NCSNv2(width=4), Digits()))
    rescaled = build_network(small_experiment(NCSNv2(width=4), Digits(transform="rescaled")))
    logit = build_network(small_experiment(NCSNv2(width=4), Digits(transform="logit")))
    x = torch.rand(2, 1, 8, 8)
    expected = rescaled.score(2 * x - 1, 1.0)
    assert torch.allclose(plain.score(x, 1.0), expected, atol=1e-6)
    assert torch.equal(logit.score(2 * x - 1, 1.0), expected)


def test_levels_are_no_part_of_the_state() -> None:
    assert not [name for name in build_network(small_experiment(NCSN(width=4))).state_dict() if "sigmas" in name]


def test_the_score_can_be_differentiated_by_the_image() -> None:
    network = build_network(small_experiment(NCSNv2(width=4)))
    x = torch.rand(2, 1, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.score(x, 0.5).sum(), x)
    assert gradient.abs().max() > 0
