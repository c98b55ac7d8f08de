"""Commands that take a model from the Hub: an exported folder, uploaded as it is."""

import json
import sys
from pathlib import Path

import pytest
import torch

import ncsnx
from tests.cli.drawing import error
from tests.hub.local_hub import LocalHub
from tests.training.tiny import CPU, command, files

EXPORT = ("export", "digits", "--grid", "0", *CPU)


def test_an_uploaded_folder_gives_the_images_of_its_run(hub: LocalHub, workplace: Path) -> None:
    result = command(*EXPORT, "--license", "mit", "--json", folder=workplace).done()
    assert json.loads(result.out)["folder"] == "digits-model"
    repository = hub.repository("ada/digits", files(workplace / "digits-model"))
    address = f"hf://ada/digits@{repository.head}"

    drawn = command("sample", "hf://ada/digits", "--n", "2", "--seed", "3", *CPU, "--json", folder=workplace).done()
    assert f"downloading {address} (" in drawn.err
    assert f"2 images, from {address}, step 12 (ema)" in drawn.err
    protocol = json.loads(drawn.out)
    assert protocol["source"] == address
    assert protocol["folder"].startswith("samples/digits/step-00000012-n2-seed3-")
    model = ncsnx.load(address)
    assert repr(model).startswith(f"Model of {address}, step 12")
    original = ncsnx.load(workplace / "runs/digits")
    assert torch.equal(ncsnx.draw(model, n=2, seed=3), ncsnx.draw(original, n=2, seed=3))
    again = command("sample", address, "--n", "2", "--seed", "3", *CPU, folder=workplace)
    assert "already sampled" in again.err
    shown = command("show", "hf://ada/digits@main", folder=workplace)
    assert f"from      {address}" in shown.out
    assert "no value differs" in command("diff", address, "runs/digits", folder=workplace).out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sample", "hf://ada", *CPU], "'hf://ada' is not the address of a model on the Hub"),
        (["train", "https://huggingface.co/ada/digits/tree/v1", *CPU], "hf://ada/digits@v1 is an exported model,"),
        (["sample", "hf://ada/digits", *CPU], "does not give ada/digits: "),
        (["train", "hf://ada/digits", *CPU], "hf://ada/digits is an exported model, which holds nothing to resume"),
        (["fid", "hf://ada/digits", *CPU], "hf://ada/digits is an exported model, not a run"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: list[str], expected: str, hub: LocalHub, workplace: Path) -> None:
    before = files(workplace)
    result = command(*words, folder=workplace)
    assert (result.code, result.out) == (2, "")
    assert expected in error(result)
    assert files(workplace) == before


def test_without_the_extra_its_name_is_said(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    result = command("sample", "hf://ada/digits", *CPU, folder=workplace)
    assert result.code == 2
    assert "models on the Hugging Face Hub need the extra hub" in error(result)
    assert "install it, in a clone of ncsnx:  pip install '.[hub]'" in result.err
