"""Tensors are loaded exactly as they were saved, or refused."""

import random
import stat
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ncsnx.runs import checkpoint
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError, verify


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


def test_the_documented_files_are_there_with_the_mode_of_the_umask(run: Run) -> None:
    folder = save(run)
    assert sorted(path.name for path in folder.iterdir()) == [
        "ema.safetensors",
        "manifest.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    expected = stat.S_IMODE(run.config_path.stat().st_mode)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {expected}


def test_equal_contents_give_equal_bytes_in_whatever_order(run: Run) -> None:
    turned = dict(reversed(tensors().items()))
    one = checkpoint.save(run, 5, tensors(), None, {}, {"a": 1, "b": 2})
    one = one.rename(one.with_name("kept"))
    other = checkpoint.save(run, 5, turned, None, {}, {"b": 2, "a": 1})
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def test_a_run_without_an_average_has_none(run: Run) -> None:
    found = checkpoint.read_checkpoint(checkpoint.save(run, 5, tensors(), None, {}, {}))
    assert found.ema is None
    assert found.optimizer == {}


def test_only_what_is_asked_for_is_read(run: Run) -> None:
    folder = save(run)
    (folder / "model.safetensors").write_bytes(b"damaged")
    found = checkpoint.read_checkpoint(folder, ["ema"])
    assert found.ema is not None
    assert found.model == {}
    with pytest.raises(UnsoundError, match=r"model\.safetensors has 7 bytes instead of"):
        checkpoint.read_checkpoint(folder)


def test_flipped_bits_and_truncations_of_any_file_are_refused_by_loading_and_verifying(run: Run) -> None:
    folder = save(run)
    generator = random.Random(1)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        damaged = [whole[: generator.randrange(len(whole) - 1)] for _ in range(10)]
        for _ in range(50):
            flipped = bytearray(whole)
            flipped[generator.randrange(len(whole) - 1)] ^= 1 << generator.randrange(8)
            damaged.append(bytes(flipped))
        for content in damaged:
            path.write_bytes(content)
            with pytest.raises(UnsoundError):
                checkpoint.read_checkpoint(folder)
            with pytest.raises(UnsoundError):
                verify(folder)
        path.write_bytes(whole)
    checkpoint.read_checkpoint(folder)


def test_what_is_saved_is_a_copy_made_at_once(run: Run) -> None:
    model = tensors()
    folder = checkpoint.save(run, 5, model, model, {}, {})
    for tensor in model.values():
        tensor.zero_()
    assert_equal(checkpoint.read_checkpoint(folder).model, tensors())


def test_tensors_that_share_memory_are_saved_each_whole(run: Run) -> None:
    base = torch.arange(6.0)
    found = checkpoint.read_checkpoint(checkpoint.save(run, 5, {"a": base, "b": base[2:4]}, None, {}, {}))
    assert_equal(found.model, {"a": base, "b": base[2:4]})


def test_loaded_tensors_can_be_trained_on(run: Run) -> None:
    folder = save(run)
    checkpoint.read_checkpoint(folder).model["weight"].add_(1)
    assert_equal(checkpoint.read_checkpoint(folder).model, tensors())
