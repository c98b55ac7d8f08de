import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import ncsnx
from ncsnx import bounded_reads
from ncsnx.config import AnnealedLangevin
from ncsnx.data import open_data
from ncsnx.errors import NcsnxError
from ncsnx.randomness import Purpose, Stream
from ncsnx.runs.folder import Run
from ncsnx.runs.writer_lock import folder_lock
from ncsnx.sampling.sample_folder import SAMPLES, samples_in
from tests.training.tiny import CPU, Result, command, damage, files, training

ROOT = "runs/digits"


def draw(folder: Path, *words: str, out: str = "out") -> Result:
    return command("sample", "digits", "--out", out, *words, *CPU, folder=folder)


def drawn(folder: Path, *words: str, out: str = "out") -> Tensor:
    """The images of a sampling into `out`, (n, C, H, W) in [0, 1]."""
    assert draw(folder, *words, out=out).code == 0
    return samples_in(folder / out).read("samples")


def gray_levels(first: Tensor, second: Tensor) -> int:
    """The largest difference between two sets of images, in gray levels of 8 bits."""
    assert first.shape == second.shape
    return int(((first * 255).round() - (second * 255).round()).abs().max())


def picture(path: Path) -> Tensor:
    with Image.open(path) as shown:
        return torch.from_numpy(np.array(shown))


def message(result: Result) -> str:
    """The error and the hints below it."""
    _, error = result.err.split("error: ")
    return error


def test_a_sampling_is_pngs_a_grid_tensors_and_their_protocol(workplace: Path) -> None:
    images = drawn(workplace, "--n", "5", "--batch-size", "2", "--seed", "7", "--ckpt", "8")
    assert images.shape == (5, 1, 8, 8)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    out = workplace / "out"
    batches = {f"samples-0000{first}.safetensors" for first in (0, 2, 4)}
    assert set(files(out)) == {"protocol.json", "grid.png", *batches, *(f"images/{i:05d}.png" for i in range(5))}
    for number, image in enumerate(images):
        assert torch.equal(picture(out / f"images/{number:05d}.png"), (image[0] * 255).round().to(torch.uint8))
    protocol = json.loads((out / "protocol.json").read_text())
    assert {"type": "ald", "step_size": 2.4e-05, "denoise": True}.items() <= protocol["sampler"].items()
    expected = {"run": "digits", "step": 8, "weights": "ema", "evaluations": 5, "seed": 7, "n": 5, "complete": True}
    assert expected.items() <= protocol.items()
    manifest = json.loads((workplace / ROOT / "checkpoints/step-00000008/manifest.json").read_text())
    assert protocol["samples"] == {name: bounded_reads.sha256_of(out / name) for name in sorted(batches)}
    assert protocol["weights_sha256"] == manifest["files"]["ema.safetensors"]["sha256"]


def test_standard_output_has_the_protocol_on_request_and_nothing_else(workplace: Path) -> None:
    result = draw(workplace, "--n", "1", "--json")
    protocol = json.loads(result.out)
    assert (protocol["folder"], protocol["n"], protocol["step"]) == ("out", 1, 12)
    assert "ncsnx compare digits" in result.err, "to find a sampler of less bias"
    again = draw(workplace, "--n", "1", "--quiet")
    assert (again.out, again.err) == ("", "")


def test_python_makes_the_images_of_the_command(workplace: Path) -> None:
    images = drawn(workplace, "--n", "5", "--batch-size", "2", "--seed", "3", "--ckpt", "0.008k")
    model = ncsnx.load("digits", ckpt="0.008k", runs=workplace / "runs")
    assert (model.checkpoint.step, model.checkpoint.weights) == (8, "ema")
    assert "; on cpu, " in repr(model)
    before = torch.get_rng_state()
    assert torch.equal(ncsnx.draw(model, n=5, seed=3, batch_size=2), images)
    assert torch.equal(torch.get_rng_state(), before)
    by_path = ncsnx.load(workplace / ROOT, ckpt=model.checkpoint.step)
    assert torch.equal(ncsnx.draw(by_path, n=5, seed=3, batch_size=2), images)
    assert gray_levels(ncsnx.draw(by_path, n=5, seed=4), images) > 10


def test_the_model_gives_the_score_of_its_averaged_weights(trained: Path) -> None:
    model = ncsnx.load(trained / ROOT)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    score = model.score(x, 0.5)
    assert score.shape == x.shape
    assert not score.requires_grad
    averaged = load_file(trained / ROOT / "checkpoints/step-00000012/ema.safetensors")
    assert all(torch.equal(averaged[name], tensor) for name, tensor in model.network.state_dict().items())
    mark = model.checkpoint.weights_sha256[:8]
    assert repr(model).startswith(f"Model of {trained / ROOT}, step 12, EMA weights {mark}\n")


def test_rows_of_an_interpolation_start_with_the_plain_sample(workplace: Path) -> None:
    result = draw(workplace, "--n", "3", "--interpolate", "4", "--batch-size", "8", "--seed", "2", "--film").done()
    assert "3 rows of 4" in result.err
    rows = samples_in(workplace / "out").read("samples")
    assert rows.shape == (12, 1, 8, 8)
    plain = drawn(workplace, "--n", "3", "--seed", "2", out="plain")
    assert gray_levels(rows.view(3, 4, 1, 8, 8)[:, 0], plain) <= 1
    assert gray_levels(rows.view(3, 4, 1, 8, 8)[:, 3], plain) > 10
    model = ncsnx.load(workplace / ROOT)
    assert gray_levels(ncsnx.draw(model, n=3, seed=2, interpolate=4), rows) <= 1
    words = ("--n", "2", "--interpolate", "2", "sampler=dpmpp", "sampler.steps=3")
    without_noise = drawn(workplace, *words, out="without").view(2, 2, 1, 8, 8)
    assert gray_levels(without_noise[:, 0], without_noise[:, 1]) > 1, "their starts differ"
    # a cell of 66 pixels for each image, three rows of four
    with Image.open(workplace / "out/grid.png") as grid:
        assert grid.size == (4 * 66 + 2, 3 * 66 + 2)


@pytest.mark.parametrize("sampler", [("sampler.denoise=true",), ("sampler=cas", "sampler.steps=5")])
def test_the_ends_between_two_seeds_are_their_images(workplace: Path, sampler: tuple[str, ...]) -> None:
    seeds = ("--seed", "3", "--between", "17")
    rows = drawn(workplace, *seeds, "--interpolate", "4", "--n", "2", "--film", *sampler).view(2, 4, 1, 8, 8)
    for seed, column in (("3", 0), ("17", 3)):
        ends = drawn(workplace, "--n", "2", "--seed", seed, *sampler, out=f"of-{seed}")
        assert gray_levels(rows[:, column], ends) <= 1
    assert all(gray_levels(rows[:, column], rows[:, column + 1]) > 1 for column in range(3))
    with Image.open(workplace / "out/film.gif") as film:
        assert film.n_frames == 7
    assert json.loads((workplace / "out/protocol.json").read_text())["between"] == 17


def test_frames_go_from_noise_to_the_final_grid(workplace: Path) -> None:
    assert draw(workplace, "--n", "2", "--batch-size", "1", "--frames", "3", "--film").code == 0
    out = workplace / "out"
    assert sorted(path.name for path in (out / "frames").iterdir()) == ["000.png", "001.png", "002.png"]
    assert torch.equal(picture(out / "frames/002.png"), picture(out / "grid.png"))
    # enlarged eightfold behind a rule of two pixels: the start of image 0, uniform noise
    start_of_0 = Stream(0, Purpose.INITIAL_SAMPLE).uniform(torch.tensor([0]), (1, 8, 8))[0, 0]
    assert torch.equal(picture(out / "frames/000.png")[2:66:8, 2:66:8], (start_of_0 * 255).round().to(torch.uint8))
    with Image.open(out / "film.gif") as film:
        assert (film.n_frames, film.size) == (3, (2 * 66 + 2, 66 + 2))
    assert picture(out / "images/00000.png").shape == (8, 8), "the images keep their size"


def test_the_sampler_can_be_changed_and_nothing_else(workplace: Path) -> None:
    images = drawn(workplace, "--n", "2", "sampler.steps_per_level=3", "sampler.denoise=false")
    protocol = json.loads((workplace / "out/protocol.json").read_text())
    assert (protocol["sampler"]["steps_per_level"], protocol["evaluations"]) == (3, 12)
    model = ncsnx.load(workplace / ROOT)
    sampler = AnnealedLangevin(step_size=2.4e-5, steps_per_level=3, denoise=False)
    assert torch.equal(ncsnx.draw(model, n=2, sampler=sampler), images)
    refused = draw(workplace, "optimizer.lr=1", out="other")
    assert refused.code == 2
    assert "optimizer.lr" in message(refused)
    assert not (workplace / "other").exists()


def test_the_adaptive_solver_says_what_it_took_and_has_a_frame_of_each_level(workplace: Path) -> None:
    result = draw(workplace, "--n", "3", "--batch-size", "2", "--frames", "9", "sampler=ode", "sampler.steps=3").done()
    assert "an adaptive number of evaluations (tolerance 0.001) each" in result.err
    (taken,) = re.findall(r"(\d+) evaluations per image, averaged over the images just drawn", result.err)
    assert int(taken) > 10
    assert len([*(workplace / "out/frames").iterdir()]) == 4
    assert json.loads((workplace / "out/protocol.json").read_text())["evaluations"] is None


def test_images_can_start_from_training_images_but_not_from_other_data(workplace: Path) -> None:
    still = ("sampler.data_init=true", "sampler.step_size=1e-20", "sampler.denoise=false")
    images = drawn(workplace, "--n", "6", "--seed", "1", *still)
    digits = open_data(Run(workplace / ROOT).experiment().data, workplace).train
    positions = torch.arange(6)
    chosen = Stream(1, Purpose.SAMPLE_DATA).integers(positions, 1498)
    noise = Stream(1, Purpose.INITIAL_SAMPLE).normal(positions, (1, 8, 8))
    expected = (digits.read(chosen).pixels / 16 + 5 * noise).clamp(0, 1)
    assert gray_levels(images, expected) <= 1
    config = workplace / ROOT / "config.json"
    config.write_text(config.read_text().replace(str(Run(workplace / ROOT).data_fingerprint()), "0" * 64))
    assert "the data is not that of " in message(draw(workplace, "--n", "1", *still, out="other"))


def test_samples_of_another_protocol_are_never_overwritten_unasked(workplace: Path) -> None:
    drawn(workplace, "--n", "2")
    before = files(workplace / "out")
    for words in (["--ckpt", "8"], ["sampler.step_size=1e-6"]):
        result = draw(workplace, "--n", "2", *words)
        assert result.code == 1
        assert "--overwrite" in message(result)
        assert files(workplace / "out") == before
    again = draw(workplace, "--n", "2")
    assert "already sampled" in again.err
    assert files(workplace / "out") == before
    assert draw(workplace, "--n", "2", "--seed", "1", "--overwrite").code == 0
    assert json.loads((workplace / "out/protocol.json").read_text())["seed"] == 1


def test_without_a_place_each_protocol_has_a_folder_of_its_own_in_the_run(workplace: Path) -> None:
    for words in ([], ["--seed", "1"], ["--ckpt", "8"], ["--film"], ["sampler.denoise=false"], []):
        assert command("sample", "digits", "--n", "1", *words, *CPU, folder=workplace).code == 0
    made = sorted((workplace / ROOT / "samples").iterdir())
    assert len(made) == 5
    assert made[0].name.startswith("step-00000008-n1-seed0-ald-")
    other = command("sample", "digits", "--n", "1", "sampler=dpmpp", "sampler.steps=2", *CPU, folder=workplace)
    assert "samples/step-00000012-n1-seed0-dpmpp-" in other.err


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--ckpt", "9"], 2, "no checkpoint of step 9; nearest: 4, 8, 12"),
        (["--ckpt", "late"], 2, "latest or best"),
        (["--ckpt", "best"], 1, "no scores yet"),
        (["--frames", "1"], 2, "--frames must be between 2"),
        (["--precision", "tf32"], 2, "--precision tf32 runs on CUDA only"),
        (["--between", "1"], 2, "--between needs the number of columns"),
        (["sampler.step_size=1e38"], 1, "the sampler diverged"),
    ],
)
def test_a_request_that_makes_no_sense_is_one_line(workplace: Path, words: list[str], code: int, expected: str) -> None:
    result = draw(workplace, *words)
    assert result.code == code
    assert expected in message(result)
    assert not [*(workplace / "out").glob(SAMPLES)]


def test_an_unsound_latest_checkpoint_is_refused(workplace: Path) -> None:
    damage(workplace / ROOT / "checkpoints/step-00000012/ema.safetensors")
    result = draw(workplace, "--n", "1")
    assert result.code == 1
    assert "unsound" in message(result)
    assert result.err.rstrip().endswith("--ckpt 8")
    assert draw(workplace, "--n", "1", "--ckpt", "8").code == 0
    damage(workplace / ROOT / "checkpoints/step-00000008/ema.safetensors")
    assert draw(workplace, "--n", "1", "--ckpt", "8", out="other").code == 1
    with pytest.raises(NcsnxError, match="damaged"):
        ncsnx.load(workplace / ROOT, ckpt=8)


def test_a_model_is_loaded_by_reading_its_weights_once(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, opened = list[str](), bounded_reads.opened
    monkeypatch.setattr(bounded_reads, "opened", lambda path: read.append(path.name) or opened(path))
    model = ncsnx.load(workplace / ROOT)
    assert sorted(name for name in read if name not in ("config.json", "manifest.json")) == [
        "ema.safetensors",
        "state.json",
    ]
    damage(workplace / ROOT / "checkpoints/step-00000012/optimizer.safetensors")
    assert ncsnx.load(workplace / ROOT).checkpoint.weights_sha256 == model.checkpoint.weights_sha256


def test_weights_of_another_experiment_are_refused(workplace: Path) -> None:
    path = workplace / ROOT / "config.json"
    path.write_text(path.read_text().replace('"seed": 1234', '"seed": 1'))
    result = draw(workplace, "--n", "1")
    assert result.code == 1
    assert "trained by another experiment" in message(result)


def test_an_experiment_without_an_average_is_sampled_raw(tmp_path: Path) -> None:
    changes = (
        "model=ncsn",
        "model.spectral_norm=true",
        "ema=none",
        "data.transform=logit",
        "steps=3",
        "snapshots=none",
    )
    assert command(*training(*changes), folder=tmp_path).code == 0
    images = drawn(tmp_path, "--n", "3")
    assert json.loads((tmp_path / "out/protocol.json").read_text())["weights"] == "raw"
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    model = ncsnx.load(tmp_path / ROOT)
    assert model.checkpoint.weights == "raw"
    with pytest.raises(NcsnxError, match="levels"):
        model.score(images, 0.123)


@pytest.mark.parametrize(
    "words", [("sample", "digits"), ("restore", "digits", "--inpaint", "gray.png", "--mask", "0,0,4,4")]
)
def test_a_folder_that_another_process_fills_is_not_cleared(workplace: Path, words: tuple[str, ...]) -> None:
    Image.new("L", (8, 8)).save(workplace / "gray.png")
    assert draw(workplace, "--n", "2").code == 0
    before = files(workplace / "out")
    with folder_lock(workplace / "out", "the samples"):
        result = command(*words, "--n", "1", "--out", "out", "--overwrite", *CPU, folder=workplace)
    assert result.code == 1
    assert "out is being written by process " in message(result)
    assert files(workplace / "out") == before
