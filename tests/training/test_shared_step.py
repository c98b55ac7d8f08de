"""Captured steps of several ranks, here in a group of one process that has the whole batch."""

from collections.abc import Iterator

import attrs
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import HashStore

from ncsnx import capturing
from ncsnx.errors import NcsnxError
from ncsnx.ranks.rank_group import RankGroup
from ncsnx.runtime import Runtime
from ncsnx.training.steps import shared_step
from ncsnx.training.steps.shared_step import captures_shared_step
from ncsnx.training.steps.summed_gradients import SummedGradients
from ncsnx.training.training_state import TrainingState
from tests.training.recorded import build_optimizers_as_on_cuda, call_again, refuse
from tests.training.test_training_step import CPU, EVERYTHING, experiment, steps_of_training

RANKS = RankGroup(HashStore(), 0, 2)


@pytest.fixture(autouse=True)
def _group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    build_optimizers_as_on_cuda(monkeypatch)
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def require_equal_bits(found: TrainingState, expected: TrainingState) -> None:
    parts, expected_parts = found.parts(), expected.parts()
    assert parts.keys() == expected_parts.keys()
    for name, part in parts.items():
        assert part.keys() == expected_parts[name].keys()
        assert all(torch.equal(tensor, expected_parts[name][key]) for key, tensor in part.items()), name


@pytest.mark.parametrize(
    "changes",
    [EVERYTHING, ("model=ncsn", "model.spectral_norm=true", "optimizer=rmsprop")],
)
def test_a_step_of_two_recordings_trains_bit_for_bit(changes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(*changes)
    expected, expected_losses = steps_of_training(config, CPU, 4)
    recorded = []

    def record(*call: object) -> capturing.Recording:
        recorded.append(call[0])
        return call_again(*call)  # type: ignore[arg-type]

    monkeypatch.setattr(capturing, "record_cuda_graph", record)
    found, losses = steps_of_training(config, CPU, 4, graphs=True, ranks=RANKS)
    assert len(recorded) == 2
    assert torch.equal(torch.stack(losses), torch.stack(expected_losses))
    require_equal_bits(found, expected)


def test_a_rank_whose_recordings_fail_trains_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(*EVERYTHING)
    expected, _ = steps_of_training(config, CPU, 4)
    reported: list[str] = []
    monkeypatch.setattr(capturing, "record_cuda_graph", refuse)
    monkeypatch.setattr(pytest, "fail", reported.append)
    found, _ = steps_of_training(config, CPU, 4, graphs=True, ranks=RANKS)
    require_equal_bits(found, expected)
    assert reported == [
        f"the {part} of a training step runs without CUDA graphs: operation not permitted when stream is capturing"
        for part in ("backward pass", "update")
    ]


class _Branches(nn.Module):
    """A network of which one branch is used at a time, and weights in both memory orders."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.other = nn.Conv2d(3, 4, 3).double()
        self.which = "one"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = getattr(self, self.which)
        found: torch.Tensor = branch(x.to(branch.weight.dtype))
        return found


def test_weights_without_a_gradient_have_none_and_the_others_keep_their_memory_order() -> None:
    network, x = _Branches(), torch.ones(1, 3, 4, 4)
    gradients = SummedGradients(network)
    for _ in range(2):
        gradients.reset()
        network(x).sum().backward()
        gradients.add_up()
        assert network.other.weight.grad is None
        found = network.one.weight.grad
        assert found is not None
        assert found.stride() == network.one.weight.stride()
        assert torch.equal(found, torch.full_like(found, 4.0))
        assert found.untyped_storage().data_ptr() == gradients.tensors[0].untyped_storage().data_ptr()
    gradients.reset()
    network.which = "other"
    network(x).sum().backward()
    with pytest.raises(NcsnxError, match="had no gradient in the first step"):
        gradients.add_up()


def test_each_type_of_number_is_summed_by_itself() -> None:
    network = _Branches()
    gradients = SummedGradients(network)
    gradients.reset()
    for network.which in ("one", "other"):
        network(torch.ones(1, 3, 4, 4)).sum().backward()
    gradients.add_up()
    assert [tensor.dtype for tensor in gradients.tensors] == [torch.float32, torch.float64]


def test_ranks_capture_where_the_gradients_fit_a_bucket_or_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    state = TrainingState(experiment(), Runtime(device=CPU, threads=1))
    runtime = Runtime(device=CPU, threads=1, ranks=2, graphs=True)
    assert captures_shared_step(state, runtime, None)
    assert not captures_shared_step(state, attrs.evolve(runtime, graphs=False), False)
    assert not captures_shared_step(state, attrs.evolve(runtime, ranks=1), True), "it is one graph then"
    monkeypatch.setattr(shared_step, "BUCKET_BYTES", 1000)
    assert not captures_shared_step(state, runtime, None)
    assert captures_shared_step(state, runtime, True)
    monkeypatch.undo()
    assert not captures_shared_step(TrainingState(experiment(), Runtime(device=CPU, threads=1)), runtime, True)
