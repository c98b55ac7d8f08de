"""The networks reproduce the numbers of the published implementation."""

import pytest
import torch

from tests.golden_networks import NETWORKS, TOLERANCE, load_golden, relative_error


def test_every_golden_network_is_here() -> None:
    assert len(NETWORKS) == 15


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_scaled_score_over_sigma_is_the_published_score(name: str) -> None:
    golden = load_golden(name)
    x, levels = golden.tensors["x"], golden.tensors["labels"]
    sigma = golden.network.sigmas[levels]
    score = golden.network.scaled_score(x, sigma) / sigma.view(-1, 1, 1, 1)
    assert relative_error(score, golden.tensors["score"]) < TOLERANCE


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_score_at_a_sigma_is_the_published_score_at_its_level(name: str) -> None:
    golden = load_golden(name)
    x, levels = golden.tensors["x"], golden.tensors["labels"]
    sigmas = [golden.network.noise_levels[level] for level in levels.tolist()]
    score = torch.stack([golden.network.score(x, sigma)[image] for image, sigma in enumerate(sigmas)])
    assert relative_error(score, golden.tensors["score"]) < TOLERANCE


@pytest.mark.parametrize("name", NETWORKS)
def test_the_levels_are_the_published_ones(name: str) -> None:
    golden = load_golden(name)
    assert relative_error(golden.network.sigmas, golden.tensors["sigmas"]) < TOLERANCE
    assert ((golden.network.sigmas / golden.tensors["sigmas"] - 1).abs() < TOLERANCE).all()
