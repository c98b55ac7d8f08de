"""Work of a network counted without running it, compared with what runs."""

import attrs
import pytest
import torch

from ncsnx.benchmarking.convolution_peak import Convolutions
from ncsnx.benchmarking.tracing import kernel_count
from ncsnx.config.discovery import resolve
from ncsnx.errors import NcsnxError
from ncsnx.networks import Execution, build_network, prepare
from ncsnx.planning.network_work import network_work
from ncsnx.runtime import Runtime
from ncsnx.training.score_matching import add_gradients
from ncsnx.training.steps.training_step import TrainingStep
from ncsnx.training.training_state import TrainingState

CPU = torch.device("cpu")


@pytest.mark.parametrize("words", [["digits"], ["cifar10_ncsn", "data.image_size=32"]], ids=str)
def test_work_is_that_of_an_evaluation(words: list[str]) -> None:
    experiment = resolve(words[0], ["model.width=8"]).experiment
    network = prepare(build_network(experiment).eval(), Execution(memory_format="channels_last", fused=True))
    x = torch.zeros(1, network.channels, network.image_size, network.image_size)

    @torch.no_grad()
    def evaluate() -> torch.Tensor:
        return network.score(x, network.noise_levels[0])

    found = network_work(experiment)
    assert found.operations == Convolutions.of(evaluate, CPU).operations
    assert found.operators == kernel_count(evaluate, CPU, is_compiled=False)
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert found.other_bytes > 4 * 8 * network.image_size**2  # at least one map of activations


@pytest.mark.parametrize("name", ["digits", "cifar10_ncsn"])
def test_a_step_has_the_operators_of_its_passes(name: str) -> None:
    experiment = resolve(name, ["model.width=8", "batch_size=2"]).experiment
    state = TrainingState(experiment, Runtime(device=CPU, threads=1))
    step = TrainingStep(state, (0.0, 1.0), graphs=False, report=pytest.fail)
    x, levels = torch.rand(2, *experiment.data.shape), torch.zeros(2, dtype=torch.int64)

    def add() -> None:
        add_gradients(state.network, step.loss_at(x, levels, torch.zeros_like(x)))

    passes = kernel_count(add, CPU, is_compiled=False)
    assert passes is not None
    update = network_work(experiment).step_operators - passes
    assert 2 < update < 40, "counted on one parameter"


def test_bytes_grow_with_the_pixels_and_operators_do_not() -> None:
    small = resolve("celeba64", ["model.width=8"]).experiment
    large = resolve("celeba64", ["model.width=8", "data.image_size=128"]).experiment
    one, four = network_work(small), network_work(large)
    assert four.operations == 4 * one.operations
    assert four.other_bytes == pytest.approx(4 * one.other_bytes, rel=0.05)
    assert four.operators == one.operators


def test_an_image_size_that_the_network_does_not_take_is_refused() -> None:
    experiment = resolve("celeba64", ["model.width=8"]).experiment
    with pytest.raises(NcsnxError, match="image"):
        network_work(attrs.evolve(experiment, data=attrs.evolve(experiment.data, image_size=31)))
