import attrs
import pytest
import torch

from ncsnx.config import ScoreMatching
from ncsnx.training.loss import Weight, loss_weight, score_matching_loss
from tests.config.examples import minimal
from tests.golden_networks import NETWORKS, TOLERANCE, load_golden, relative_error


def weighted_by(power: float) -> Weight:
    return loss_weight(attrs.evolve(minimal(), loss=ScoreMatching(power=power)))


@pytest.mark.parametrize(("key", "power"), [("dsm.loss", 2.0), ("dsm.loss_power_1", 1.0)])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_loss_is_the_published_one(name: str, key: str, power: float) -> None:
    golden = load_golden(name)
    clean, levels, noise = (golden.tensors[f"dsm.{part}"] for part in ("clean", "labels", "noise"))
    sigma = golden.network.sigmas[levels]
    loss = score_matching_loss(golden.network, clean, sigma, noise, weighted_by(power))
    assert loss.shape == (3,)
    assert relative_error(loss.mean().reshape(1), golden.tensors[key]) < TOLERANCE


@pytest.mark.parametrize("name", ["ncsn", "ncsnv2"])
@torch.no_grad()
def test_the_loss_is_the_textbook_expression_at_any_power(name: str) -> None:
    golden = load_golden(name)
    clean, levels, noise = (golden.tensors[f"dsm.{part}"].double() for part in ("clean", "labels", "noise"))
    network = golden.network.double()
    levels = levels.long()
    for power in (0.0, 1.5, 2.0, 3.0):
        expected = []
        for image, level, z in zip(clean, levels, noise, strict=True):
            sigma = float(network.sigmas[level])
            score = network.score((image + sigma * z)[None], sigma)[0]
            expected.append(0.5 * ((score + z / sigma) ** 2).sum() * sigma**power)
        loss = score_matching_loss(network, clean, network.sigmas[levels], noise, weighted_by(power))
        assert relative_error(loss, torch.stack(expected)) < 1e-9


def test_the_gradient_reaches_every_parameter() -> None:
    golden = load_golden("ncsn_spectral")
    clean, levels, noise = (golden.tensors[f"dsm.{part}"] for part in ("clean", "labels", "noise"))
    loss = score_matching_loss(golden.network, clean, golden.network.sigmas[levels], noise).mean()
    gradients = torch.autograd.grad(loss, list(golden.network.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)
