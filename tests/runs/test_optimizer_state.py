"""An optimizer that was saved and loaded continues as if it had never stopped."""

from collections.abc import Callable, Iterable, Iterator

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer, RMSprop

from ncsnx.errors import NcsnxError
from ncsnx.runs import checkpoint
from ncsnx.runs.checkpoint import load_optimizer_state, optimizer_state
from ncsnx.runs.folder import Run

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]

OPTIMIZERS: dict[str, MakeOptimizer] = {
    "adam": lambda parameters: Adam(parameters, lr=1e-2),
    "adam with amsgrad and decay": lambda parameters: Adam(parameters, lr=1e-2, amsgrad=True, weight_decay=0.1),
    "adam fused": lambda parameters: Adam(parameters, lr=1e-2, fused=True),
    "rmsprop": lambda parameters: RMSprop(parameters, lr=1e-3),
    "rmsprop with everything": lambda parameters: RMSprop(parameters, lr=1e-3, momentum=0.9, centered=True),
    "sgd": lambda parameters: SGD(parameters, lr=1e-2),
    "sgd with momentum": lambda parameters: SGD(parameters, lr=1e-2, momentum=0.9),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Fixes the number of threads, since bits may depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_network(memory_format: torch.memory_format) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ELU(), nn.Conv2d(4, 3, 3, padding=1))
    network.register_parameter("frozen", nn.Parameter(torch.ones(2), requires_grad=False))
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)
    return network


def train(network: nn.Module, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("stop", [0, 3])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_goes_on_bit_equal_after_saving_and_loading(
    run: Run, make: MakeOptimizer, stop: int, memory_format: torch.memory_format
) -> None:
    uninterrupted = small_network(memory_format)
    train(uninterrupted, make(uninterrupted.parameters()), range(6))

    network = small_network(memory_format)
    optimizer = make(network.parameters())
    train(network, optimizer, range(stop))
    folder = checkpoint.save(run, stop, network.state_dict(), None, optimizer_state(optimizer, network), {})

    resumed = small_network(memory_format)
    resumed_optimizer = make(resumed.parameters())
    found = checkpoint.read_checkpoint(folder)
    resumed.load_state_dict(found.model)
    load_optimizer_state(resumed_optimizer, resumed, found.optimizer)
    train(resumed, resumed_optimizer, range(stop, 6))

    for name, parameter in uninterrupted.named_parameters():
        assert torch.equal(resumed.get_parameter(name), parameter), name


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_tensor_of_the_state_comes_back_in_the_layout_of_its_parameter(make: MakeOptimizer) -> None:
    network = small_network(torch.channels_last)
    optimizer = make(network.parameters())
    train(network, optimizer, range(3))
    saved = {name: tensor.contiguous() for name, tensor in optimizer_state(optimizer, network).items()}
    fresh = make(network.parameters())
    load_optimizer_state(fresh, network, saved)
    found = optimizer_state(fresh, network)
    assert found.keys() == saved.keys()
    for entry, tensor in saved.items():
        assert torch.equal(found[entry], tensor)
        assert found[entry].dtype == tensor.dtype
        if tensor.ndim == 4:
            assert found[entry].is_contiguous(memory_format=torch.channels_last)


def test_settings_stay_those_of_the_new_optimizer() -> None:
    network = small_network(torch.contiguous_format)
    optimizer = Adam(network.parameters(), lr=1.0)
    train(network, optimizer, range(2))
    fresh = Adam(network.parameters(), lr=0.5)
    load_optimizer_state(fresh, network, optimizer_state(optimizer, network))
    assert fresh.param_groups[0]["lr"] == 0.5


def test_state_is_found_by_name_whatever_the_order_of_the_parameters() -> None:
    network = small_network(torch.contiguous_format)
    optimizer = Adam(network.parameters())
    train(network, optimizer, range(2))
    turned = Adam(list(network.parameters())[::-1])
    load_optimizer_state(turned, network, optimizer_state(optimizer, network))
    for parameter in network.parameters():
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(turned.state[parameter][key], value)


@pytest.mark.parametrize(
    ("lose", "add", "complaint"),
    [
        ("untouched/frozen", None, "only one of them has frozen"),
        (None, "exp_avg/9.weight", r"only one of them has 9\.weight"),
    ],
)
def test_names_that_do_not_fit_are_listed_and_change_nothing(lose: str | None, add: str | None, complaint: str) -> None:
    network = small_network(torch.contiguous_format)
    optimizer = Adam(network.parameters())
    train(network, optimizer, range(2))
    tensors = optimizer_state(optimizer, network)
    if lose is not None:
        del tensors[lose]
    if add is not None:
        tensors[add] = torch.zeros(1)
    fresh = Adam(network.parameters())
    with pytest.raises(NcsnxError, match=complaint):
        load_optimizer_state(fresh, network, tensors)
    assert not fresh.state


def test_a_wrong_shape_is_refused() -> None:
    network = small_network(torch.contiguous_format)
    optimizer = Adam(network.parameters())
    train(network, optimizer, range(1))
    tensors = optimizer_state(optimizer, network)
    tensors["exp_avg/0.weight"] = torch.zeros(5, 3)
    with pytest.raises(NcsnxError, match=r"0\.weight has shape \(5, 3\) and type .*, its parameter \(4, 3, 3, 3\)"):
        load_optimizer_state(Adam(network.parameters()), network, tensors)
