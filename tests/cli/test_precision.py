"""`--precision`: how a trained network runs, beside the precision that it was trained in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ncsnx
from ncsnx.sampling.sample_folder import samples_in
from tests.training.tiny import CPU, Result, command

QUICK = ("--n", "12", "features.steps=30", "features.width=8", *CPU)


def rows(folder: Path, name: str, *words: str) -> tuple[dict[str, Any], Result]:
    """The row of the last checkpoint by a sweep, and what the command said."""
    result = command(name, "digits", "--range", "latest", "--json", *words, folder=folder)
    assert result.code == 0, result.err
    shown = json.loads(result.out)
    (row,) = shown.pop("rows")
    return {**shown, **row}, result


def sampled(folder: Path, *words: str) -> tuple[Path, torch.Tensor, Result]:
    result = command("sample", "digits", "--n", "3", "--json", *words, *CPU, folder=folder)
    assert result.code == 0, result.err
    place = folder / json.loads(result.out)["folder"]
    return place, samples_in(place).read("samples"), result


def test_samples_in_bf16_are_other_samples_in_a_folder_of_their_own(workplace: Path) -> None:
    place, images, own = sampled(workplace)
    other, rounded, said = sampled(workplace, "--precision", "bf16")
    assert place != other
    assert json.loads((place / "protocol.json").read_text())["precision"] == "fp32"
    assert json.loads((other / "protocol.json").read_text())["precision"] == "bf16"
    assert 0 < float((images - rounded).abs().mean()) < 0.1
    assert "on cpu, in bf16\n" in said.err
    assert ", in " not in own.err
    model = ncsnx.load(workplace / "runs/digits", precision="bf16")
    assert model.precision == model.network.precision == "bf16"


def test_scores_in_bf16_are_other_rows_and_say_so(workplace: Path) -> None:
    own, _ = rows(workplace, "fid", *QUICK)
    other, said = rows(workplace, "fid", "--precision", "bf16", *QUICK)
    assert own["score"] != other["score"]
    assert (own["protocol"]["precision"], other["protocol"]["precision"]) == ("fp32", "bf16")
    assert "EMA weights in bf16, sampler=ald" in other["caption"]
    assert "in bf16" in said.err
    assert "EMA weights, sampler=ald" in own["caption"]
    assert len(list((workplace / "runs/digits/fid").iterdir())) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("loss", "digits", "--passes", "1", "--range", "latest"),
        ("neighbors", "digits", "--features", "none", "--n", "3"),
        ("restore", "digits", "--inpaint", "half.npy", "--mask", "0,0,4,4", "--n", "1", "sampler.steps=2"),
    ],
    ids=lambda words: words[0],
)
def test_results_in_bf16_say_so(workplace: Path, words: tuple[str, ...]) -> None:
    np.save(workplace / "half.npy", np.full((8, 8, 1), 0.5, dtype=np.float32))
    result = command(*words, "--precision", "bf16", "--json", *CPU, folder=workplace)
    assert result.code == 0, result.err
    found = json.loads(result.out)
    record = found[0] if isinstance(found, list) else found
    assert record.get("protocol", record)["precision"] == "bf16"
    assert "in bf16" in result.out + result.err
