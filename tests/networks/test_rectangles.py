"""Networks on rectangles give the scores of the published architectures, computed by plain torch."""

import pytest
import torch

from ncsnx.config import Arrays, Model, NCSNv2, NCSNv2Deeper, NCSNv2Deepest
from ncsnx.errors import NcsnxError
from ncsnx.networks import Cond, Network, NetworkSpec, construct, to_published
from ncsnx.samplers.state import score_of
from tests.golden_networks import TOLERANCE, relative_error, small_experiment
from tests.plain_ncsnv2 import STAGES, plain_score
from tests.spaces import spec_of, untrained


@pytest.mark.parametrize("model", [NCSNv2(width=4), NCSNv2Deeper(width=4), NCSNv2Deepest(width=4)], ids=str)
@pytest.mark.parametrize("size", [(16, 48), (32, 16)])
@torch.no_grad()
def test_a_rectangle_has_the_published_score(model: Model, size: tuple[int, int]) -> None:
    sigma = torch.tensor([5.0, 0.3])
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(2, 2, *size, generator=generator)
    for built in (size, (16, 16)):
        experiment = small_experiment(model, Arrays(path="x.npy", image_size=built, channels=2))
        network = untrained(experiment).eval()
        network.require_size(*size)
        names = to_published(network)
        weights = {names[name]: tensor for name, tensor in network.state_dict().items()}
        expected = plain_score(type(model).__name__, weights, x, sigma)
        assert type(model).__name__ in STAGES
        assert relative_error(score_of(network.scaled_score, x, sigma.view(-1, 1, 1, 1)), expected) < TOLERANCE


def spec(height: int, width: int) -> NetworkSpec:
    return spec_of(1, height, width, sigmas=(1.0, 0.1))


@pytest.mark.parametrize(
    ("model", "size", "near"),
    [
        (NCSNv2(width=4), (8, 9), "choose size 8 or 8,10"),
        (NCSNv2(width=4), (27, 27), "choose size 26 or 28"),
        (NCSNv2Deeper(width=4), (30, 48), "choose size 28,48 or 32,48"),
        (NCSNv2Deepest(width=4), (8, 20), "choose size 16 or 16,24"),
    ],
    ids=str,
)
def test_a_size_that_cannot_be_halved_is_refused_with_what_fits(model: Model, size: tuple[int, int], near: str) -> None:
    found = "×".join(map(str, dict.fromkeys(size)))
    with pytest.raises(NcsnxError, match=f"a multiple of .* found {found};.*{near}"):
        construct(model, spec(*size))


def test_a_network_that_does_not_say_so_takes_only_its_own_size() -> None:
    class Foreign(Network):
        def forward(self, x: torch.Tensor, sigma: torch.Tensor, cond: Cond) -> torch.Tensor:
            return x

    network = Foreign(spec(8, 12))
    assert (network.height, network.width) == (8, 12)
    network.require_size(8, 12)
    with pytest.raises(NcsnxError, match="Foreign takes only images of 8×12 pixels, for which it was built, not 8×8"):
        network.require_size(8, 8)
