"""`--precision`: how a trained network runs, beside the precision that it was trained in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import ncsnx
from tests.training.tiny import CPU, Result, command, training

QUICK = ("--n", "12", "features.steps=30", "features.width=8", *CPU)


def rows(folder: Path, name: str, *words: str) -> tuple[dict[str, Any], Result]:
    """The row of the last checkpoint by a sweep, and what the command said."""
    result = command(name, "digits", "--range", "latest", "--json", *words, folder=folder)
    assert result.code == 0, result.err
    (row,) = json.loads(result.out)
    return dict(row), result


def sampled(folder: Path, *words: str) -> tuple[Path, torch.Tensor, Result]:
    result = command("sample", "digits", "--n", "3", "--json", *words, *CPU, folder=folder)
    assert result.code == 0, result.err
    place = folder / json.loads(result.out)["folder"]
    return place, load_file(place / "samples.safetensors")["samples"], result


def test_training_in_tf32_without_cuda_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    result = command(*training("precision=tf32"), folder=tmp_path)
    assert result.code == 2
    assert "precision=tf32 runs on CUDA only, and the device is cpu" in result.err
    assert "precision=fp32" in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words", [("sample",), ("fid",), ("loss",), ("compare",), ("neighbors",), ("export", "--out", "out")], ids=" ".join
)
def test_running_in_tf32_without_cuda_is_refused_before_anything_is_written(
    workplace: Path, words: tuple[str, ...]
) -> None:
    before = sorted(workplace.rglob("*"))
    name, *others = words
    result = command(name, "digits", *others, "--precision", "tf32", *CPU, folder=workplace)
    assert result.code == 2
    assert "--precision tf32 runs on CUDA only, and the device is cpu" in result.err
    assert "--precision fp32" in result.err
    assert sorted(workplace.rglob("*")) == before


def test_an_unknown_format_is_refused_with_the_known_ones(workplace: Path) -> None:
    result = command("sample", "digits", "--precision", "fp16", folder=workplace)
    assert result.code == 2
    assert "--precision: 'fp16' is not one of 'fp32', 'bf16', 'tf32'" in result.err


def test_samples_in_bf16_are_other_samples_in_a_folder_of_their_own(workplace: Path) -> None:
    place, images, own = sampled(workplace)
    place_again, _, _ = sampled(workplace, "--precision", "fp32")
    other, rounded, said = sampled(workplace, "--precision", "bf16")
    assert place == place_again != other
    assert json.loads((place / "protocol.json").read_text())["precision"] == "fp32"
    assert json.loads((other / "protocol.json").read_text())["precision"] == "bf16"
    assert 0 < float((images - rounded).abs().mean()) < 0.1
    assert "on cpu, in bf16\n" in said.err
    assert ", in " not in own.err


def test_a_restoration_in_bf16_says_so(workplace: Path) -> None:
    np.save(workplace / "given.npy", np.full((4, 4, 1), 0.5, dtype=np.float32))
    words = ("--super-resolve", "given.npy", "--factor", "2", "--n", "1", "--precision", "bf16")
    result = command("restore", "digits", *words, "--json", *CPU, folder=workplace)
    assert result.code == 0, result.err
    assert json.loads(result.out)["precision"] == "bf16"


def test_scores_in_bf16_are_other_rows_and_say_so(workplace: Path) -> None:
    own, _ = rows(workplace, "fid", *QUICK)
    other, said = rows(workplace, "fid", "--precision", "bf16", *QUICK)
    assert own["score"] != other["score"]
    assert (own["protocol"]["precision"], other["protocol"]["precision"]) == ("fp32", "bf16")
    assert "EMA weights, in bf16, sampler" in other["protocol"]["caption"]
    assert "in bf16" in said.err
    assert "EMA weights, sampler" in own["protocol"]["caption"]
    assert len(list((workplace / "runs/digits/fid").iterdir())) == 2


def test_losses_in_bf16_are_other_rows_and_say_so(workplace: Path) -> None:
    own, _ = rows(workplace, "loss", "--passes", "1", *CPU)
    other, _ = rows(workplace, "loss", "--passes", "1", "--precision", "bf16", *CPU)
    assert 0 < abs(own["score"] - other["score"]) < 0.05 * own["score"]
    assert (own["protocol"]["precision"], other["protocol"]["precision"]) == ("fp32", "bf16")
    assert "EMA weights, in bf16" in other["protocol"]["caption"]


def test_a_comparison_in_bf16_says_so(workplace: Path) -> None:
    words = ("--samplers", "cas", "--evaluations", "2", "--seeds", "1", "--precision", "bf16")
    result = command("compare", "digits", *words, *QUICK, folder=workplace)
    assert result.code == 0, result.err
    assert "EMA weights, in bf16, 12 images" in result.err
    (place,) = (path for path in (workplace / "runs/digits/compare").iterdir() if path.is_dir())
    assert json.loads((place / "results.json").read_text())["protocol"]["precision"] == "bf16"


def test_neighbors_and_exports_in_bf16_say_so(workplace: Path) -> None:
    words = ("--features", "none", "--n", "3", "--precision", "bf16", *CPU)
    result = command("neighbors", "digits", "--json", *words, folder=workplace)
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["protocol"]["precision"] == "bf16"
    assert "EMA weights, in bf16, 3 samples" in found["caption"]
    result = command("export", "digits", "--out", "out", "--grid", "2", "--precision", "bf16", *CPU, folder=workplace)
    assert result.code == 0, result.err
    assert "drawn by the sampler below, in bf16." in (workplace / "out/README.md").read_text()


def test_python_loads_in_another_precision(workplace: Path) -> None:
    model = ncsnx.load(workplace / "runs/digits", precision="bf16")
    assert model.precision == model.network.precision == "bf16"
    assert ", in bf16" in repr(model)
    own = ncsnx.load(workplace / "runs/digits")
    assert own.precision == own.network.precision == "fp32"
    assert not torch.equal(ncsnx.draw(model, 1), ncsnx.draw(own, 1))
