"""`ncsnx export`, and what reads its result: in this process, and in fresh ones far from the run."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import ncsnx
from ncsnx.config import Digits
from ncsnx.errors import UsageError
from ncsnx.exchange.card import text
from ncsnx.exports.exported import Export, write_export
from ncsnx.images import grid, png_bytes, to_uint8
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger, lowest
from tests.cli.drawing import error
from tests.spaces import space_of
from tests.training.tiny import CPU, Result, command, files, training

RUN = "runs/digits"
SCORING = ("--n", "20", "--range", "4:8", "features.steps=30", "features.width=8", *CPU)


def export(folder: Path, *words: str, run: str = "digits", out: str = "model") -> Result:
    return command("export", run, "--out", out, *words, *CPU, folder=folder)


@pytest.fixture(scope="module")
def scored(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run two of whose checkpoints have scores, and the best of them exported to `model`."""
    folder = tmp_path_factory.mktemp("scored")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    assert command("fid", "digits", *SCORING, folder=folder).code == 0
    assert command("loss", "digits", "--range", "8", "--passes", "1", *CPU, folder=folder).code == 0
    export(folder, "--ckpt", "best", "--license", "cc-by-4.0").done()
    return folder


def best_row(folder: Path) -> dict[str, float]:
    (series,) = Ledger.read(Run(folder / RUN)).series("fid")
    best = lowest(series.entries, series.score_of)
    assert best is not None
    return {"step": best.step, **best.values}


def test_the_folder_holds_the_averaged_weights_as_the_hub_expects_them(scored: Path) -> None:
    model = scored / "model"
    assert set(files(model)) == {"README.md", "config.json", "model.safetensors", "samples.png"}
    images = ncsnx.draw(ncsnx.load(scored / RUN, ckpt="best"), n=16, seed=0)
    assert (model / "samples.png").read_bytes() == png_bytes(grid(to_uint8(images), 4))
    step = best_row(scored)["step"]
    averaged = load_file(scored / RUN / f"checkpoints/step-{step:08d}/ema.safetensors")
    passed_on = load_file(model / "model.safetensors")
    assert passed_on.keys() == averaged.keys()
    assert all(torch.equal(passed_on[name], averaged[name]) for name in averaged)
    with safe_open(model / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    config = Export(model).config()
    assert (config.run, config.step, config.weights) == ("digits", step, "ema")
    assert config.ncsnx_version == ncsnx.__version__
    assert config.data_fingerprint == Run(scored / RUN).data_fingerprint()


def test_the_card_has_the_scores_of_these_weights_and_no_others(scored: Path) -> None:
    card = (scored / "model/README.md").read_text()
    row = best_row(scored)
    assert 'license: "cc-by-4.0"' in card
    assert "| FD (digits classifier " in card
    sampler = "sampler=ald sampler.step_size=2.4e-05 sampler.steps_per_level=1, 5 evaluations per image"
    assert f"Protocol: {text(f'EMA weights, {sampler}, seed 0; 20 images')}" in card
    assert '"evaluations": 5' in card
    assert '"n": 20,' in card
    assert ("held-out loss" in card) == (row["step"] == 8)


def test_a_model_gives_the_images_of_its_run_to_the_bit(workplace: Path) -> None:
    assert export(workplace, "--ckpt", "8", "--grid", "0").code == 0
    model, original = ncsnx.load(workplace / "model"), ncsnx.load(workplace / RUN, ckpt="8")
    assert (model.checkpoint.step, model.checkpoint.weights) == (8, "ema")
    assert torch.equal(ncsnx.draw(model, n=5, seed=3), ncsnx.draw(original, n=5, seed=3))
    assert torch.equal(ncsnx.draw(model, n=2, interpolate=3), ncsnx.draw(original, n=2, interpolate=3))
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.score(x, 0.5), original.score(x, 0.5))
    rescaled = attrs.evolve(model, space=space_of(Digits(transform="rescaled")))
    assert torch.equal(rescaled.to_network(x), 2 * x - 1)


def test_the_cards_code_works_without_the_run(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = shutil.copytree(scored / "model", tmp_path / "copied")
    monkeypatch.chdir(tmp_path)
    before = files(place)
    (code,) = re.findall(r"```python\n(.*?)```", (place / "README.md").read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    exec(code.replace("path/to/this/folder", str(place)), found)
    assert torch.equal(found["images"], ncsnx.draw(ncsnx.load(scored / RUN, ckpt="best"), n=16, seed=0))
    assert found["score"].shape == found["images"].shape
    assert files(place) == before


def test_a_run_without_an_average_passes_its_raw_weights_on_and_says_so(tmp_path: Path) -> None:
    assert command(*training("ema=none", "steps=1", "snapshots=none"), folder=tmp_path).code == 0
    result = export(tmp_path, "--grid", "0")
    assert "step 1: raw weights, since the run has no EMA" in result.err
    assert "next: ncsnx sample ./model --n 16" in result.err, "a path and no run"
    assert Export(tmp_path / "model").config().weights == "raw"
    raw = load_file(tmp_path / RUN / "checkpoints/step-00000001/model.safetensors")
    passed_on = load_file(tmp_path / "model/model.safetensors")
    assert all(torch.equal(passed_on[name], raw[name]) for name in raw)
    assert "raw weights (no EMA)" in (tmp_path / "model/README.md").read_text()


def test_json_says_what_was_exported(scored: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(scored, tmp_path / "work"))
    result = export(folder, "--ckpt", "best", "--grid", "2", "--precision", "bf16", "--json", out="new/place")
    found = json.loads(result.out)
    config = Export(folder / "new/place").config()
    assert (found["folder"], found["run"], found["step"]) == ("new/place", "digits", config.step)
    assert (found["model_sha256"], found["license"], found["grid"]) == (config.model_sha256, "unknown", 2)
    assert "drawn by the sampler below, in bf16." in (folder / "new/place/README.md").read_text()
    row = best_row(folder)
    (score,) = [score for score in found["scores"] if score["protocol"]["measure"] == "fid"]
    metric = f"FD (digits classifier {score['protocol']['features']['sha256'][:8]})"
    assert score["measured"][metric] == {"value": row["score"], "error": row["error"]}
    assert "license: unknown" in result.err


def test_a_folder_that_exists_is_refused_before_minutes_of_work_and_left_alone(workplace: Path) -> None:
    before = files(workplace)
    result = export(workplace, out="runs")
    assert (result.code, "sampling" in result.err) == (1, False)
    assert "runs already exists, and nothing is overwritten" in error(result)
    assert files(workplace) == before


def test_a_picture_that_cannot_be_drawn_says_how_to_do_without(workplace: Path) -> None:
    config = workplace / RUN / "config.json"
    config.write_text(config.read_text().replace('"step_size": 2.4e-05', '"step_size": 1e38'))
    result = export(workplace)
    assert "the sampler diverged" in error(result)
    assert "or export without a picture:" in result.err


def test_an_exported_model_has_one_checkpoint_and_is_no_run(scored: Path) -> None:
    result = command("sample", "model", "--ckpt", "best", *CPU, folder=scored)
    assert result.code == 2
    assert "model is an exported model with one checkpoint" in error(result)
    assert "leave --ckpt out" in error(result)
    with pytest.raises(UsageError, match="with one checkpoint"):
        ncsnx.load(scored / "model", ckpt=12)
    fast = command("sample", "model", "sampler=fast", *CPU, folder=scored)
    assert "sampler=fast needs a run" in error(fast)
    refused = command("train", "./model", folder=scored)
    assert refused.code == 1
    assert "model is an exported model, which holds nothing to resume training from" in error(refused)
    assert "no value differs" in command("diff", "./model", RUN, folder=scored).out
    rows = json.loads(command("list", "--json", "--runs", ".", folder=scored).out)["runs"]
    step = Export(scored / "model").config().step
    assert [(row["state"], row["step"]) for row in rows if row["run"] == "model"] == [("exported model", step)]


def test_samples_are_never_written_into_the_exported_folder_unasked(scored: Path) -> None:
    before = files(scored / "model")
    result = command("sample", ".", "--n", "1", *CPU, folder=scored / "model")
    assert result.code == 2
    assert "is an exported model, which is never changed, so samples cannot go there" in error(result)
    assert files(scored / "model") == before


def test_weights_that_do_not_fit_the_network_are_one_line(scored: Path, tmp_path: Path) -> None:
    config = Export(scored / "model").config()
    junk = b"\x08\0\0\0\0\0\0\0{}      " + bytes(config.model_bytes - 16)
    forged = attrs.evolve(config, model_sha256=hashlib.sha256(junk).hexdigest())
    write_export(tmp_path / "junk", forged, junk, "# card\n")
    result = command("sample", "junk", *CPU, folder=tmp_path)
    assert result.code == 1
    assert "model.safetensors is not a safetensors file" in error(result)
