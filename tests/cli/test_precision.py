"""`--precision`: how a trained network runs, beside the precision that it was trained in."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import ncsnx
from ncsnx.sampling.sample_folder import samples_in
from tests.training.tiny import CPU, Result, command


def sampled(folder: Path, *words: str) -> tuple[Path, torch.Tensor, Result]:
    result = command("sample", "digits", "--n", "3", "--json", *words, *CPU, folder=folder).done()
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


@pytest.mark.parametrize(
    "words",
    [
        ("loss", "digits", "--passes", "1", "--range", "latest"),
        ("fid", "digits", "--range", "latest", "--n", "12", "features.steps=30", "features.width=8"),
        ("neighbors", "digits", "--features", "none", "--n", "3"),
        ("restore", "digits", "--inpaint", "half.npy", "--mask", "0,0,4,4", "--n", "1", "sampler.steps=2"),
    ],
    ids=lambda words: words[0],
)
def test_results_in_bf16_say_so(workplace: Path, words: tuple[str, ...]) -> None:
    np.save(workplace / "half.npy", np.full((8, 8, 1), 0.5, dtype=np.float32))
    result = command(*words, "--precision", "bf16", "--json", *CPU, folder=workplace).done()
    found = json.loads(result.out)
    record = found[0] if isinstance(found, list) else found
    assert record.get("protocol", record)["precision"] == "bf16"
    assert "in bf16" in result.out + result.err
