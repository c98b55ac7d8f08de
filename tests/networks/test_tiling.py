"""Pictures of any size in overlapping tiles."""

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import Digits, UNet
from ncsnx.errors import NcsnxError
from ncsnx.networks import Network
from ncsnx.networks.contract import NO_COND, Cond
from ncsnx.networks.tiling import MARGIN, TiledNetwork, WrappedNetwork, in_tiles, is_in_tiles, mirrored
from tests.config.examples import minimal
from tests.spaces import space_of, untrained

LOCAL = UNet(width=8, multipliers=(1, 1), blocks=1, attention=(), normalization="pixel", classes=3)


def network(model: UNet = LOCAL) -> Network:
    """A network whose tensors are all drawn."""
    made = untrained(attrs.evolve(minimal(), data=Digits(sigma_data=0.5), model=model)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return made.eval()


def tiled(side: int, inner: Network | None = None) -> TiledNetwork:
    return TiledNetwork(inner or network(), space_of(Digits()), side)


def noisy(height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((2, 1, height, width), generator=generator, dtype=torch.float64)
    return x, torch.tensor([0.2, 1.5], dtype=torch.float64)


@pytest.mark.parametrize("size", [(200, 130), (131, 257), (1, 300)])
@torch.no_grad()
def test_tiles_of_a_picture_are_the_whole_picture(size: tuple[int, int]) -> None:
    """This network sees 36 px around, less than the margin."""
    x, sigma = noisy(*size)
    whole, parts = (tiled(side).scaled_score(x, sigma, NO_COND) for side in (1000, 40))
    assert parts.shape == x.shape
    assert float((parts - whole).abs().max()) < 1e-12


@torch.no_grad()
def test_a_picture_that_the_stages_can_halve_is_evaluated_as_it_is() -> None:
    x, sigma = noisy(60, 80)
    inner, classes = network(), torch.tensor([2, 0])
    ours = tiled(256, inner)
    assert torch.equal(
        ours.scaled_score(x, sigma, ours.class_cond(classes)), inner.scaled_score(x, sigma, {"classes": classes})
    )


def test_sides_are_mirrored_to_a_multiple() -> None:
    assert mirrored(3, 4).tolist() == [0, 1, 2, 2]
    assert mirrored(1, 4).tolist() == [0, 0, 0, 0]
    assert mirrored(8, 4).tolist() == list(range(8))


def test_gradients_reach_a_picture_through_its_tiles() -> None:
    x, sigma = noisy(200, 8)
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(tiled(40).scaled_score(x, sigma, NO_COND).square().sum(), x)
    assert bool((slope != 0).all())


@pytest.mark.parametrize("model", [attrs.evolve(LOCAL, normalization="group"), attrs.evolve(LOCAL, attention=(8,))])
def test_a_network_that_sees_whole_images_has_no_tiles(model: UNet) -> None:
    with pytest.raises(NcsnxError, match="UNetNetwork depends on all of an image"):
        tiled(MARGIN, network(model))


class FlipAverage(WrappedNetwork):
    """The mean of a network's values for an image and its mirror image."""

    def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        one, other = self.network.scaled_score(x, sigma, cond), self.network.scaled_score(x.flip(-1), sigma, cond)
        return (one + other.flip(-1)) / 2


@torch.no_grad()
def test_wrappers_nest_in_either_order() -> None:
    x, sigma = noisy(200, 160)
    space = space_of(Digits())
    inside, around = tiled(40, FlipAverage(network(), space)), FlipAverage(tiled(40), space)
    assert float((inside.scaled_score(x, sigma) - around.scaled_score(x, sigma)).abs().max()) < 1e-12
    for one in (inside, around):
        assert one.tile_of(200, 160) == 40
        assert one.tile_of(16, 16) is None
        assert one.classes == 3
        assert is_in_tiles(one)
        one.require_size(1, 7)
    assert not is_in_tiles(network())
    assert in_tiles(tiled(40), space, 80).tile_of(300, 300) == 80
