"""The loss and the average of weights: published numbers and definitions."""

import attrs
import pytest
import torch
from torch import nn

from ncsnx.config import NCSN, NCSNv2, ScoreMatching
from ncsnx.errors import NcsnxError
from ncsnx.networks import to_published
from ncsnx.samplers.state import score_of
from ncsnx.training.ema import WeightAverage
from ncsnx.training.losses import Weight, loss_weight, score_matching_loss
from tests.config.examples import minimal
from tests.golden_networks import NETWORKS, TOLERANCE, load_golden, relative_error, small_experiment
from tests.spaces import space_of, untrained

RATE = 0.999
TRACKED = ("begin_conv.weight", "normalizer.alpha")


def test_the_average_is_the_published_one() -> None:
    golden = load_golden("ncsnv2")
    ours = {published: name for name, published in to_published(golden.network).items()}
    parameters = dict(golden.network.named_parameters())

    def set_weights(moment: str) -> None:
        for name in TRACKED:
            parameters[ours[name]].data.copy_(golden.tensors[f"ema.{moment}.{name}"])

    set_weights("init")
    average = WeightAverage(golden.network, RATE)
    for step in range(1, 6):
        set_weights(f"step_{step}")
        average.update()
    for name in TRACKED:
        # The tolerance is relative to how far the average moved, which is small compared with the weights.
        start, final = golden.tensors[f"ema.init.{name}"], golden.tensors[f"ema.final.{name}"]
        rounding = 5 * torch.finfo(torch.float32).eps * float(final.abs().max())
        assert relative_error(average.state()[ours[name]], final) < TOLERANCE
        assert (average.state()[ours[name]] - final).abs().max() < rounding
        assert (final - start).abs().max() > 10 * rounding


@pytest.mark.parametrize("model", [NCSN(width=4, spectral_norm=True), NCSN(width=4, normalization="batch")])
def test_the_state_loads_strictly_and_takes_buffers_from_the_network(model: NCSN) -> None:
    network = untrained(small_experiment(model))
    average = WeightAverage(network, RATE)
    network(torch.rand(2, 1, 8, 8), network.sigmas[:2], {})  # changes the buffers, in training mode
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    state = average.state()
    other = untrained(small_experiment(model, seed=1))
    other.load_state_dict(state)
    live = network.state_dict()
    for name, _ in network.named_buffers():
        if name in live:
            assert torch.equal(state[name], live[name])
    for name, parameter in network.named_parameters():
        assert not torch.equal(state[name], parameter)


def test_a_shared_parameter_has_its_average_under_each_name() -> None:
    shared, tied = nn.Linear(2, 2), nn.Linear(2, 2)
    tied.weight = shared.weight
    network = nn.ModuleDict({"first": shared, "again": shared, "tied": tied})
    average = WeightAverage(network, 0.75)
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    average.update()
    state = average.state()
    assert len(state) == 6
    assert all(torch.allclose(state[name], start[name] + 0.25, atol=1e-6) for name in start)
    resumed = WeightAverage(network, 0.75)
    resumed.load(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in resumed.state().items())


def test_averages_of_bfloat16_lose_no_steps_and_integers_are_those_of_the_network() -> None:
    network = nn.Linear(2, 2).to(torch.bfloat16)
    network.table = nn.Parameter(torch.tensor([5, 7]), requires_grad=False)
    average = WeightAverage(network, RATE)
    start = network.weight.detach().double().clone()
    with torch.no_grad():
        network.weight.add_(1)
        network.table.add_(1)
    for _ in range(693):  # half of the way; bfloat16 would lose the single steps
        average.update()
    state = average.state()
    assert (state["weight"].dtype, state["table"].tolist()) == (torch.bfloat16, [6, 8])
    moved = state["weight"].double() - start
    torch.testing.assert_close(moved, torch.full_like(moved, 1 - RATE**693), rtol=0, atol=2e-2)


def test_averages_of_another_network_are_refused() -> None:
    average = WeightAverage(untrained(small_experiment(NCSNv2(width=4))), RATE)
    wider = untrained(small_experiment(NCSNv2(width=8))).state_dict()
    with pytest.raises(NcsnxError, match="another network"):
        average.load(wider)
    with pytest.raises(NcsnxError, match="is missing"):
        average.load({})


def weighted_by(power: float) -> Weight:
    return loss_weight(attrs.evolve(minimal(), loss=ScoreMatching(power=power)), space_of(minimal().data))


@pytest.mark.parametrize(("key", "power"), [("dsm.loss", 2.0), ("dsm.loss_power_1", 1.0)])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_loss_is_the_published_one(name: str, key: str, power: float) -> None:
    golden = load_golden(name)
    clean, levels, noise = (golden.tensors[f"dsm.{part}"] for part in ("clean", "labels", "noise"))
    sigma = golden.network.sigmas[levels]
    loss = score_matching_loss(golden.network, clean, sigma, noise, weight=weighted_by(power))
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
            score = score_of(network.scaled_score, (image + sigma * z)[None], sigma)[0]
            expected.append(0.5 * ((score + z / sigma) ** 2).sum() * sigma**power)
        loss = score_matching_loss(network, clean, network.sigmas[levels], noise, weight=weighted_by(power))
        assert relative_error(loss, torch.stack(expected)) < 1e-9


def test_the_state_is_a_copy() -> None:
    network = untrained(small_experiment(NCSNv2(width=4)))
    average = WeightAverage(network, RATE)
    state = average.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    average.update()
    assert all(torch.equal(state[name], before[name]) for name in state)
