"""Files of tensors are written from the tensors' own memory, with the bytes that safetensors gives."""

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from ncsnx.runs.checkpoint import HostCopy, TensorFile

TYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]


def test_the_bytes_are_those_of_safetensors() -> None:
    tensors: dict[str, Tensor] = {
        f'{"ba"[number % 2]}/ü"\n{number}': torch.arange(3 * number + 3).reshape(3, -1).to(getattr(torch, dtype))
        for number, dtype in enumerate(TYPES)
    }
    tensors |= {"step": torch.tensor(7.0), "nothing": torch.zeros(0, 3), "also": torch.ones(3)}
    assert b"".join(TensorFile(tensors)) == save(tensors)
    assert len(TensorFile(tensors)) == len(save(tensors))
    assert b"".join(TensorFile({})) == save({})


def test_a_memory_format_changes_no_byte_and_shared_memory_is_written_twice() -> None:
    image = torch.randn(2, 3, 4, 4)
    turned = {"image": image.to(memory_format=torch.channels_last), "part": image[1], "odd": image.mT}
    plain = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in turned.items()}
    assert b"".join(TensorFile(turned)) == save(plain)


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
