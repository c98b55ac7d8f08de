"""How well the images of `ncsnx restore` agree with the measurement: reported, recorded, and shown."""

import json
import os
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import Tensor

from ncsnx.inverse import psnr
from ncsnx.inverse.image_quality import image_distances
from ncsnx.inverse.posterior_maps import read_posterior
from tests.cli.drawing import error
from tests.cli.test_task_inputs import draw, drawn, right_half
from tests.forked import fork
from tests.training.tiny import CPU, command

WORDS = ("--inpaint", "digits", "--mask", "mask.png")


@pytest.fixture
def place(workplace: Path) -> Path:
    """A working folder with two digits as numbers, and a mask of their right half."""
    (workplace / "digits").mkdir()
    for number, digit in enumerate(digits()):
        np.save(workplace / "digits" / f"{number}.npy", digit.numpy())
    right_half(workplace / "mask.png")
    return workplace


def digits(count: int = 2) -> Tensor:
    return torch.from_numpy(load_digits().images[:count] / 16)


def recorded(folder: Path) -> dict[str, object]:
    found = json.loads((folder / "out" / "task.json").read_text())
    assert isinstance(found, dict)
    return found


def test_psnrs_and_misfit_are_recorded_and_printed_as_json(place: Path) -> None:
    result = draw(place, *WORDS, "--truth", "digits", "--n", "3", "--json")
    assert result.code == 0, result.err
    record = recorded(place)
    assert json.loads(result.out)["agreement"] == record
    images = drawn(place, *WORDS, "--truth", "digits", "--n", "3")
    truth = digits()[:, None].repeat_interleave(3, 0)
    assert (record["task"], record["misfit"]) == ("inpaint", pytest.approx(0, abs=1e-6))
    for number, picture in enumerate(recorded(place)["pictures"]):  # type: ignore[arg-type]
        assert (picture["picture"], picture["images"]) == (f"{number}.npy", [3 * number, 3 * number + 3])
        some = slice(3 * number, 3 * number + 3)
        assert picture["psnr_of_one"] == pytest.approx(np.mean(psnr(images[some], truth[some])))
        mean = images[some].mean(dim=0, keepdim=True)
        assert picture["psnr_of_mean"] == pytest.approx(psnr(mean, truth[some][:1])[0])
        assert picture["range"] == 1
        distances = [image_distances(one, truth[some][:1], 1.0).mean(dim=0) for one in (mean, images[some])]
        for place, name in enumerate(("ssim", "nmse"), start=1):
            found = [picture[f"{name}_of_mean"], picture[f"{name}_of_one"]]
            assert found == pytest.approx([float(one[place]) for one in distances])


def test_maps_and_calibration_stand_beside_the_samples(place: Path) -> None:
    words = (*WORDS, "--truth", "digits", "--n", "3")
    result = draw(place, *words)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].split() == ["central", "expected", "truths", "inside"]
    assert lines[1].split()[:4] == ["50", "%", "50.0", "%"]
    assert lines[3].split() == ["95", "%", "needs", "39", "alternatives"]
    assert "calibration: " in result.err
    assert "left out: " in result.err
    out = place / "out"
    maps = read_posterior(out / "posterior.safetensors")
    images = load_file(out / "samples.safetensors")["samples"].view(2, 3, 1, 8, 8)
    torch.testing.assert_close(maps.mean, images.mean(dim=1))
    torch.testing.assert_close(maps.deviation, images.std(dim=1), atol=1e-5, rtol=0)
    assert (maps.low, maps.high) == (0, 1)
    assert recorded(place)["posterior_sha256"] == sha256((out / "posterior.safetensors").read_bytes()).hexdigest()
    with Image.open(out / "calibration.png") as plot:
        assert min(plot.size) > 200
    kept = {path.name: path.read_bytes() for path in out.glob("*.*")}
    assert draw(place, *words).out == result.out
    assert {path.name: path.read_bytes() for path in out.glob("*.*")} == kept
    assert draw(place, *words, "--overwrite", "--seed", "1").code == 0
    assert (out / "posterior.safetensors").read_bytes() != kept["posterior.safetensors"]


def test_the_page_shows_calibration_and_damaged_maps_are_found(place: Path) -> None:
    drawn = command("restore", "digits", *WORDS, "--truth", "digits", "--n", "3", "--quiet", *CPU, folder=place)
    assert drawn.code == 0, drawn.err
    assert command("report", "digits", folder=place).code == 0
    page = (place / "runs/digits/report.html").read_text()
    assert all(words in page for words in ("Truths within the central part", "needs 39 alternatives", ", SSIM "))
    assert page.count("Calibration: ") == 2, "a caption and the picture's text"
    (maps,) = (place / "runs/digits/samples").glob("*/posterior.safetensors")
    maps.write_bytes(maps.read_bytes()[:-1] + b"x")
    examined = command("doctor", "digits", folder=place)
    assert examined.code == 1
    assert "posterior.safetensors is damaged: its sha256 is not the one" in examined.out
    assert "repeat the same `ncsnx restore`" in examined.out


def test_grid_and_record_show_the_truth_that_was_named_last(place: Path) -> None:
    words = (*WORDS, "--n", "3")
    assert draw(place, *words).code == 0
    without, plain = (place / "out/grid.png").read_bytes(), recorded(place)
    assert not (place / "out/calibration.png").exists()
    assert "psnr_of_mean" not in json.dumps(plain)
    assert draw(place, *words, "--truth", "digits").code == 0
    with_truth, record = (place / "out/grid.png").read_bytes(), recorded(place)
    assert without != with_truth
    assert (place / "out/calibration.png").exists()
    assert draw(place, *words).code == 0
    assert ((place / "out/grid.png").read_bytes(), recorded(place)) == (without, plain)
    assert not (place / "out/calibration.png").exists()
    (place / "others").mkdir()
    for number in range(2):
        np.save(place / "others" / f"{number}.npy", np.zeros((8, 8)))
    assert draw(place, *words, "--truth", "others").code == 0
    assert recorded(place) != record


@pytest.mark.parametrize("n", ["5000001", "0", "-3"])
def test_a_number_of_alternatives_is_refused_as_it_was_typed(place: Path, n: str) -> None:
    refused = draw(place, *WORDS, "--n", n)
    assert f"--n must be between 1 and 5,000,000 alternatives of each of 2 pictures, not {n}" in error(refused)
    assert refused.code == 2


def test_a_pipe_is_no_picture_and_blocks_nothing(place: Path) -> None:
    os.mkfifo(place / "pipe.png")
    words = ("--inpaint", "pipe.png", "--mask", "mask.png", "--n", "1", "--out", "out", *CPU)
    process = fork("restore", "digits", *words, folder=place)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, "pipe.png: is not a regular file" in told) == (1, True), told
    assert not (place / "out").exists()
