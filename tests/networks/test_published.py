"""The networks reproduce the numbers of the published implementation."""

import pytest
import torch

from ncsnx.errors import NcsnxError
from ncsnx.networks import from_published, to_published
from ncsnx.samplers.state import score_of
from tests.golden_networks import NETWORKS, TOLERANCE, load_golden, relative_error


def published_state(name: str) -> dict[str, torch.Tensor]:
    tensors = load_golden(name).tensors
    return {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}


@pytest.mark.parametrize("name", NETWORKS)
def test_names_map_one_to_one_onto_the_published_ones(name: str) -> None:
    network = load_golden(name).network
    names = to_published(network)
    assert list(names) == list(network.state_dict())
    assert len(set(names.values())) == len(names)
    extra = {"sigmas"} if name.startswith("ncsnv2") else set()
    assert set(names.values()) | extra == set(published_state(name))


def test_weights_with_a_name_missing_or_left_over_are_refused() -> None:
    network, state = load_golden("ncsnv2").network, published_state("ncsnv2")
    state["surplus"] = state.pop("end_conv.bias")
    with pytest.raises(NcsnxError, match=r"end_conv\.bias\) missing, 1 name \(surplus\) surplus"):
        from_published(network, state)


def test_weights_of_another_width_or_schedule_are_refused() -> None:
    network, state = load_golden("ncsnv2").network, published_state("ncsnv2")
    for name, value, told in (
        ("begin_conv.weight", torch.zeros(8, 3, 3, 3), r"begin_conv\.weight has shape \(8, 3, 3, 3\)"),
        ("sigmas", 1.001 * state["sigmas"], "10 levels from"),
    ):
        with pytest.raises(NcsnxError, match=told):
            from_published(network, {**state, name: value})


def test_every_golden_network_is_here() -> None:
    assert len(NETWORKS) == 15


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_score_at_a_sigma_is_the_published_score_at_its_level(name: str) -> None:
    golden = load_golden(name)
    x, levels = golden.tensors["x"], golden.tensors["labels"]
    sigmas = [golden.network.noise_levels[level] for level in levels.tolist()]
    score = torch.stack([score_of(golden.network.scaled_score, x, sigma)[image] for image, sigma in enumerate(sigmas)])
    assert relative_error(score, golden.tensors["score"]) < TOLERANCE
