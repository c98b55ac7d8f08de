from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ncsnx.capturing import CapturedFunction, Recording
from ncsnx.config import NCSN, NCSNv2
from ncsnx.networks import Execution, build_network, prepare
from ncsnx.randomness import Purpose, Stream
from tests.golden_networks import relative_error, small_experiment

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def record_trace(function: Callable[..., Tensor], inputs: Sequence[Tensor | None]) -> Recording:
    """A recording by tracing. Like a CUDA graph it repeats operations and has every number of Python in it."""
    trace = make_fx(function)(*inputs)
    result = trace(*inputs).clone()
    return result, lambda: result.copy_(trace(*inputs))


def scaled(x: Tensor, factor: float | Tensor) -> Tensor:
    return x * factor


def captured(function: Callable[..., Tensor], report: Callable[[str], None]) -> CapturedFunction:
    return CapturedFunction(function, "the test", report=report, record=record_trace)


def refuse(line: str) -> None:
    pytest.fail(line)


def test_a_replay_takes_its_arguments_and_gives_results_that_stay() -> None:
    calls = []

    def function(x: Tensor, factor: float | Tensor) -> Tensor:
        calls.append(factor)
        return x * factor

    replayed = captured(function, refuse)
    x = torch.arange(3.0)
    results = [replayed(x + number, float(number)) for number in range(6)]
    assert [result.tolist() for result in results] == [
        [number * (element + number) for element in range(3)] for number in range(6)
    ]
    # two calls, the recording of the third and its check; the later ones replay
    assert len(calls) == 4


def test_another_shape_is_another_graph() -> None:
    replayed = captured(scaled, refuse)
    for size in (2, 3, 4, 5, 6, 2):
        for number in range(4):
            assert torch.equal(replayed(torch.ones(size), float(number)), torch.full((size,), float(number)))


def test_a_number_that_would_be_part_of_the_graph_is_noticed() -> None:
    lines: list[str] = []
    taken: list[float] = []

    def function(x: Tensor, factor: float | Tensor) -> Tensor:
        if isinstance(factor, float):
            taken.append(factor)
        return x * taken[-1]  # in a recording, the number of an earlier call

    replayed = captured(function, lines.append)
    results = [replayed(torch.ones(1), float(number)).item() for number in range(1, 6)]
    assert results == [1, 2, 3, 4, 5]
    assert len(lines) == 1
    assert lines[0].startswith("the test runs without CUDA graphs: a graph's result differs")


def test_what_cannot_be_recorded_runs_as_it_is_and_says_so_once() -> None:
    lines: list[str] = []
    replayed = captured(lambda x: x * x.sum().item(), lines.append)
    results = [replayed(torch.full((2,), float(number))).tolist() for number in range(5)]
    assert results == [[2.0 * number**2] * 2 for number in range(5)]
    assert len(lines) == 1


def test_recording_leaves_no_trace_in_what_a_call_changes() -> None:
    total = torch.zeros(())

    def function(x: Tensor) -> Tensor:
        total.add_(x.sum())
        return total * 1

    replayed = CapturedFunction(function, "the test", changes=lambda: [total], report=refuse, record=record_trace)
    assert [replayed(torch.tensor([1.0, float(number)])).item() for number in range(6)] == [1, 3, 6, 10, 15, 21]


@torch.no_grad()
@pytest.mark.parametrize("model", [NCSNv2(width=4), NCSN(width=4)])
def test_no_sigma_and_no_level_becomes_part_of_a_traced_network(model: NCSN | NCSNv2) -> None:
    network = prepare(
        build_network(small_experiment(model)).eval(), Execution(memory_format="channels_last", fused=True)
    )
    x, other = torch.rand(2, 2, 1, 8, 8).unbind()
    if network.any_sigma:
        trace = make_fx(lambda x, sigma: network.score(x, sigma))(x, torch.tensor(3.0))
        assert relative_error(trace(other, torch.tensor(0.1)), network.score(other, 0.1)) < 1e-6
    else:
        sigma, others = network.sigmas[[0, 3]], network.sigmas[[5, 8]]
        trace = make_fx(lambda x, sigma: network.scaled_score(x, sigma))(x, sigma)
        assert relative_error(trace(other, others), network.scaled_score(other, others)) < 1e-6


def test_no_step_number_becomes_part_of_traced_noise() -> None:
    stream, positions = Stream(7, Purpose.SAMPLER_NOISE), torch.arange(3)
    trace = make_fx(lambda positions, step: stream.normal(positions, (1, 4, 4), step=step))(positions, torch.tensor(5))
    again = trace(positions + 2**33, torch.tensor(2**32 - 1))
    assert torch.equal(again, stream.normal(positions + 2**33, (1, 4, 4), step=2**32 - 1))


@needs_cuda
@torch.no_grad()
@pytest.mark.parametrize("model", [NCSNv2(width=4), NCSN(width=4)])
def test_a_network_as_a_graph_gives_its_scores_without_a_wait(model: NCSN | NCSNv2) -> None:
    network = prepare(build_network(small_experiment(model)).eval().cuda(), Execution(graphs=True))
    x = torch.rand(2, 1, 8, 8, device="cuda")
    for level in range(4):
        network.score(x, network.noise_levels[level])
    assert network._graph is not None
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [network.score(x, sigma) for sigma in network.noise_levels]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    network._graph = None
    for score, sigma in zip(found, network.noise_levels, strict=True):
        assert relative_error(score, network.score(x, sigma)) < 1e-5
