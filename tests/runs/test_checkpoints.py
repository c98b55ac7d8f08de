"""Tensors, and the state of optimizers, come back from a checkpoint exactly as they were saved, or are refused."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as bytes_of
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer, RMSprop

from ncsnx.errors import NcsnxError
from ncsnx.runs import checkpoint
from ncsnx.runs.checkpoint import HostCopy, TensorFile, load_optimizer_state, optimizer_state
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError

TYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(4, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last),
        "bias": torch.randn(4, generator=generator).to(torch.bfloat16),
        "step": torch.tensor(7.0),
        "nothing": torch.zeros(0),
        "mask": torch.tensor([True, False]),
    }


def save(run: Run, step: int = 5) -> Path:
    return checkpoint.save(run, step, tensors(), {"weight": torch.ones(3)}, {"exp_avg/w": torch.zeros(2)}, {"seen": 40})


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_a_checkpoint_comes_back_as_it_was_saved(run: Run) -> None:
    found = checkpoint.read_checkpoint(save(run))
    assert_equal(found.model, tensors())
    assert found.ema is not None
    assert_equal(found.ema, {"weight": torch.ones(3)})
    assert_equal(found.optimizer, {"exp_avg/w": torch.zeros(2)})
    assert found.step == 5
    assert found.state == {"step": 5, "seen": 40}


def test_equal_contents_give_equal_bytes_in_whatever_order(run: Run) -> None:
    turned = dict(reversed(tensors().items()))
    one = checkpoint.save(run, 5, tensors(), None, {}, {"a": 1, "b": 2})
    one = one.rename(one.with_name("kept"))
    other = checkpoint.save(run, 5, turned, None, {}, {"b": 2, "a": 1})
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def test_only_what_is_asked_for_is_read(run: Run) -> None:
    folder = save(run)
    (folder / "model.safetensors").write_bytes(b"damaged")
    found = checkpoint.read_checkpoint(folder, ["ema"])
    assert found.ema is not None
    assert found.model == {}
    with pytest.raises(UnsoundError, match=r"model\.safetensors has 7 bytes instead of"):
        checkpoint.read_checkpoint(folder)


def test_the_bytes_are_those_of_safetensors() -> None:
    tensors: dict[str, Tensor] = {
        f'{"ba"[number % 2]}/ü"\n{number}': torch.arange(3 * number + 3).reshape(3, -1).to(getattr(torch, dtype))
        for number, dtype in enumerate(TYPES)
    }
    tensors |= {"step": torch.tensor(7.0), "nothing": torch.zeros(0, 3), "also": torch.ones(3)}
    assert b"".join(TensorFile(tensors)) == bytes_of(tensors)
    assert len(TensorFile(tensors)) == len(bytes_of(tensors))
    assert b"".join(TensorFile({})) == bytes_of({})


def test_a_memory_format_changes_no_byte_and_shared_memory_is_written_twice() -> None:
    image = torch.randn(2, 3, 4, 4)
    turned = {"image": image.to(memory_format=torch.channels_last), "part": image[1], "odd": image.mT}
    plain = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in turned.items()}
    assert b"".join(TensorFile(turned)) == bytes_of(plain)


def test_pieces_are_the_memory_of_the_tensors() -> None:
    tensor = torch.zeros(4)
    _, piece = TensorFile({"weight": tensor})
    tensor.fill_(1.0)
    assert bytes(piece) == torch.ones(4).numpy().tobytes()


def test_a_host_copy_keeps_what_was_there_and_its_memory_serves_again() -> None:
    weight = torch.arange(96.0).reshape(2, 3, 4, 4).to(memory_format=torch.channels_last)
    parts = {"model": {"weight": weight, "step": torch.tensor(3.0)}, "ema": {"weight": weight}}
    copy = HostCopy()
    first = copy.take(parts)
    before = weight.clone()
    weight.zero_()
    assert torch.equal(first["model"]["weight"], before)
    assert torch.equal(first["ema"]["weight"], before)
    assert first["model"]["weight"].is_contiguous(memory_format=torch.channels_last)
    assert first["model"]["step"] == 3
    again = copy.take(parts)
    assert again["model"]["weight"].data_ptr() == first["model"]["weight"].data_ptr()
    assert torch.equal(again["model"]["weight"], weight)
    wider = copy.take({"model": {"weight": torch.ones(5)}})
    assert torch.equal(wider["model"]["weight"], torch.ones(5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_host_copy_from_cuda_waits_only_when_asked_and_holds_the_values_of_its_time() -> None:
    weight = torch.ones(1 << 24, device="cuda")
    copy = HostCopy()
    copy.take({"model": {"weight": weight}})  # gets the memory
    weight.fill_(2.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        taken = copy.take({"model": {"weight": weight}})
    finally:
        torch.cuda.set_sync_debug_mode("default")
    weight.fill_(3.0)
    copy.wait()
    assert taken["model"]["weight"].is_pinned()
    assert torch.equal(taken["model"]["weight"], torch.full((1 << 24,), 2.0))


MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]

OPTIMIZERS: dict[str, MakeOptimizer] = {
    "adam with amsgrad and decay": lambda parameters: Adam(parameters, lr=1e-2, amsgrad=True, weight_decay=0.1),
    "adam fused": lambda parameters: Adam(parameters, lr=1e-2, fused=True),
    "rmsprop with everything": lambda parameters: RMSprop(parameters, lr=1e-3, momentum=0.9, centered=True),
    "sgd with momentum": lambda parameters: SGD(parameters, lr=1e-2, momentum=0.9),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Fixes the number of threads, since bits may depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ELU(), nn.Conv2d(4, 3, 3, padding=1))
    network.register_parameter("frozen", nn.Parameter(torch.ones(2), requires_grad=False))
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def train(network: nn.Module, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("stop", [0, 3])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_goes_on_bit_equal_after_saving_and_loading(run: Run, make: MakeOptimizer, stop: int) -> None:
    uninterrupted = small_network()
    train(uninterrupted, make(uninterrupted.parameters()), range(6))

    network = small_network()
    optimizer = make(network.parameters())
    train(network, optimizer, range(stop))
    folder = checkpoint.save(run, stop, network.state_dict(), None, optimizer_state(optimizer, network), {})

    resumed = small_network()
    resumed_optimizer = make(resumed.parameters())
    found = checkpoint.read_checkpoint(folder)
    resumed.load_state_dict(found.model)
    load_optimizer_state(resumed_optimizer, resumed, found.optimizer)
    for state in resumed_optimizer.state.values():
        images = (value for value in state.values() if torch.is_tensor(value) and value.ndim == 4)
        assert all(value.is_contiguous(memory_format=torch.channels_last) for value in images)
    train(resumed, resumed_optimizer, range(stop, 6))

    for name, parameter in uninterrupted.named_parameters():
        assert torch.equal(resumed.get_parameter(name), parameter), name


def test_state_is_found_by_name_whatever_the_order_and_settings_stay_those_of_the_new_optimizer() -> None:
    network = small_network()
    optimizer = Adam(network.parameters())
    train(network, optimizer, range(2))
    turned = Adam(list(network.parameters())[::-1], lr=0.5)
    load_optimizer_state(turned, network, optimizer_state(optimizer, network))
    for parameter in network.parameters():
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(turned.state[parameter][key], value)
    assert turned.param_groups[0]["lr"] == 0.5


def test_names_that_do_not_fit_are_listed_and_change_nothing() -> None:
    network = small_network()
    optimizer = Adam(network.parameters())
    train(network, optimizer, range(2))
    tensors = optimizer_state(optimizer, network)
    fresh = Adam(network.parameters())
    for names, complaint in (
        (tensors.keys() - {"untouched/frozen"}, "only one of them has frozen"),
        (tensors.keys() | {"exp_avg/9.weight"}, r"only one of them has 9\.weight"),
    ):
        with pytest.raises(NcsnxError, match=complaint):
            load_optimizer_state(fresh, network, {name: tensors.get(name, torch.zeros(1)) for name in names})
    with pytest.raises(NcsnxError, match=r"0\.weight has shape \(5, 3\) and type .*, its parameter \(4, 3, 3, 3\)"):
        load_optimizer_state(fresh, network, {**tensors, "exp_avg/0.weight": torch.zeros(5, 3)})
    assert not fresh.state
