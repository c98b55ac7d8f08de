"""Pictures for `ncsnx restore`: numbers with any number of channels, names, and how well the images agree."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from ncsnx.inverse import psnr
from ncsnx.inverse.posterior.image_quality import image_distances
from ncsnx.inverse.posterior.maps import read_posterior
from ncsnx.sampling.sample_folder import samples_in
from tests.cli import drawing
from tests.cli.drawing import error
from tests.inverse.examples import blurred
from tests.training.tiny import CPU, Result, command, files, training

LOW, HIGH = -5.0, 3.0


@pytest.fixture(scope="module")
def trained_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, `digits`, of images with two channels and values from LOW to HIGH."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCSNX_CACHE", str(folder / "cache"))
        np.save(folder / "two.npy", LOW + (HIGH - LOW) * np.random.default_rng(0).random((60, 8, 8, 2)))
        words = ("data=arrays", "data.path=two.npy", "data.image_size=8", "data.channels=2", f"data.low={LOW}")
        trained = command(*training(*words, f"data.high={HIGH}", "steps=4"), folder=folder)
    assert trained.code == 0, trained.err
    return folder


@pytest.fixture(scope="module")
def trained_of_packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, `digits`, of packed images with values from 0 to 16."""
    folder = tmp_path_factory.mktemp("packed")
    command("data", "pack", "digits", "--out", "d.pack", folder=folder).done()
    words = ("data=packed", "data.path=d.pack", "data.image_size=8", "data.channels=1", "steps=4")
    command(*training(*words), folder=folder).done()
    return folder


@pytest.fixture
def two(trained_of_two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy with three images in pictures/, as .npy, beside another file, and a mask of their right half."""
    place = Path(shutil.copytree(trained_of_two, tmp_path / "work"))
    monkeypatch.setenv("NCSNX_CACHE", str(place / "cache"))
    save(place / "pictures", given(place, 3))
    (place / "pictures" / "notes.txt").write_text("no picture")
    np.save(place / "mask.npy", np.arange(8) * np.ones((8, 1)) >= 4)
    return place


@pytest.fixture
def packed(trained_of_packed: Path, tmp_path: Path) -> Path:
    """A copy with a digit in its own values, as .npy, and its Fourier transform."""
    place = Path(shutil.copytree(trained_of_packed, tmp_path / "work"))
    np.save(place / "digit.npy", load_digits().images[7])
    mask = np.zeros((8, 8))
    mask[:3] = 1
    np.savez(place / "kspace.npz", kspace=np.fft.fft2(load_digits().images[7], norm="ortho"), mask=mask)
    right_half(place / "mask.png")
    return place


def given(place: Path, count: int) -> Tensor:
    """(count, 8, 8, 2)"""
    return torch.from_numpy(np.load(place / "two.npy")[:count])


def save(folder: Path, pictures: Tensor) -> None:
    folder.mkdir()
    for number, picture in enumerate(pictures):
        np.save(folder / f"{number}.npy", picture.numpy())


def right_half(path: Path) -> None:
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(path)


def draw(folder: Path, *words: str, out: str = "out") -> Result:
    return drawing.draw(folder, "--n", "2", "sampler.steps=10", *words, out=out)


def drawn(folder: Path, *words: str, out: str = "out") -> Tensor:
    return drawing.drawn(folder, "--n", "2", "sampler.steps=10", *words, out=out)


def unit(numbers: Tensor) -> Tensor:
    """(P, H, W, 2) in the data's values → (2 · P, 2, H, W) in [0, 1], each twice."""
    return ((numbers.double() - LOW) / (HIGH - LOW)).permute(0, 3, 1, 2).repeat_interleave(2, 0)


def test_numbers_of_any_channels_are_pictures_in_the_datas_own_values(two: Path) -> None:
    truth = given(two, 3)
    images = drawn(two, "--inpaint", "pictures", "--mask", "mask.npy", "--truth", "pictures").double()
    torch.testing.assert_close(images[..., :4], unit(truth)[..., :4], atol=1e-6, rtol=0)
    small = truth.view(3, 4, 2, 4, 2, 2).mean(dim=(2, 4))
    save(two / "small", small)
    images = drawn(two, "--super-resolve", "small", "--factor", "2", out="large").double()
    torch.testing.assert_close(images.view(6, 2, 4, 2, 4, 2).mean(dim=(3, 5)), unit(small), atol=2e-3, rtol=0)
    np.save(two / "middle.npy", truth[0, 1:6, 2:6].float())
    np.save(two / "around.npy", truth[0])
    images = drawn(two, "--outpaint", "middle.npy", "--at", "2,1", "--truth", "around.npy", out="outer").double()
    torch.testing.assert_close(images[:, :, 1:6, 2:6], unit(truth[:1])[:, :, 1:6, 2:6], atol=1e-6, rtol=0)
    save(two / "blurred", blurred(0.6, truth[:1].permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    assert len(drawn(two, "--deblur", "blurred", "--blur", "0.6", out="sharp")) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--inpaint", "gray.png", "--mask", "mask.npy"), "give a .npy of H×W×2 numbers"),
        (("--inpaint", "objects.npy", "--mask", "mask.npy"), "Python objects"),
        (("--inpaint", "eight.npy", "--mask", "mask.npy"), "found 0 to 255"),
        (("--super-resolve", "pictures", "--factor", "2"), "enlarged by 2 of 4×4 pixels (height × width), found 8×8"),
    ],
)
def test_numbers_that_fit_no_image_get_one_line(two: Path, words: tuple[str, ...], told: str) -> None:
    Image.new("L", (8, 8)).save(two / "gray.png")
    np.save(two / "eight.npy", np.tile(np.array([255, 0], dtype=np.uint8), (8, 8, 1)))
    np.save(two / "objects.npy", np.zeros((8, 8, 2)).astype(object), allow_pickle=True)
    result = draw(two, *words)
    assert told in error(result)
    assert result.code == 1
    assert not (two / "out").exists()


def test_the_values_of_packed_data_are_those_of_the_file(packed: Path) -> None:
    digit = torch.from_numpy(load_digits().images[7] / 16)
    images = drawn(packed, "--inpaint", "digit.npy", "--mask", "mask.png")
    torch.testing.assert_close(images[:, 0, :, :4], digit[:, :4].float().expand(2, 8, 4), atol=1e-6, rtol=0)
    images = drawn(packed, "--measure", "kspace.npz", "--truth", "digit.npy", out="measured").double()
    wanted = torch.fft.fft2(digit, norm="ortho")[:3]
    found = torch.fft.fft2(images[:, 0], norm="ortho")[:, :3]
    torch.testing.assert_close(found, wanted.expand(2, 3, 8), atol=3e-2, rtol=0)
    with np.load(packed / "kspace.npz") as arrays:
        np.savez(packed / "kspace.npz", kspace=arrays["kspace"], mask=arrays["mask"].T)
    assert "task.mask_sha256 is" in error(draw(packed, "--measure", "kspace.npz", out="measured"))


def test_a_run_keeps_black_and_white_of_its_packed_file(packed: Path) -> None:
    (packed / "d.pack").rename(packed / "other.pack")
    digit = torch.from_numpy(load_digits().images[7] / 16)
    images = drawn(packed, "--inpaint", "digit.npy", "--mask", "mask.png")
    torch.testing.assert_close(images[:, 0, :, :4], digit[:, :4].float().expand(2, 8, 4), atol=1e-6, rtol=0)


def test_truths_go_with_the_pictures_of_the_same_names(two: Path) -> None:
    words = ("--inpaint", "pictures", "--mask", "mask.npy", "--truth")
    truths = Path(shutil.copytree(two / "pictures", two / "truths"))
    (truths / "0.npy").rename(truths / "a.npy")
    refused = draw(two, *words, "truths")
    assert "--truth truths: expected one true picture for each input, of the same name" in error(refused)
    assert refused.code == 2
    (two / "pictures" / "0.npy").rename(two / "pictures" / "a.npy")
    shutil.copy(truths / "a.npy", truths / "a.NPY")
    assert "of a there are 1 input and 2 true pictures" in error(draw(two, *words, "truths"))
    assert "--truth truths/a.npy: 1 picture for 3 inputs" in error(draw(two, *words, "truths/a.npy"))
    (truths / "a.npy").unlink()
    assert draw(two, *words, "truths").code == 0


WORDS = ("--inpaint", "digits", "--mask", "mask.png")


@pytest.fixture
def place(workplace: Path) -> Path:
    """A working folder with two digits as numbers, and a mask of their right half."""
    (workplace / "digits").mkdir()
    for number, digit in enumerate(digits()):
        np.save(workplace / "digits" / f"{number}.npy", digit.numpy())
    right_half(workplace / "mask.png")
    return workplace


def digits() -> Tensor:
    return torch.from_numpy(load_digits().images[:2] / 16)


def recorded(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "out" / "task.json").read_text()))


def test_psnrs_and_misfit_are_recorded_and_printed_as_json(place: Path) -> None:
    result = draw(place, *WORDS, "--truth", "digits", "--n", "3", "--json").done()
    record = recorded(place)
    assert json.loads(result.out)["agreement"] == record
    images = drawn(place, *WORDS, "--truth", "digits", "--n", "3")
    truth = digits()[:, None].repeat_interleave(3, 0)
    assert (record["task"], record["misfit"]) == ("inpaint", pytest.approx(0, abs=1e-6))
    for number, picture in enumerate(record["pictures"]):
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
    words = (*WORDS, "--truth", "digits", "--n", "3", "--posterior")
    result = draw(place, *words).done()
    lines = result.out.splitlines()
    assert lines[0].split() == ["central", "expected", "truths", "inside"]
    assert lines[1].split()[:4] == ["50", "%", "50.0", "%"]
    assert lines[3].split() == ["95", "%", "needs", "39", "alternatives"]
    assert "calibration: " in result.err
    assert "left out: " in result.err
    out = place / "out"
    maps = read_posterior(out / "posterior.safetensors")
    images = samples_in(out).read("samples").view(2, 3, 1, 8, 8)
    torch.testing.assert_close(maps.mean, images.mean(dim=1))
    torch.testing.assert_close(maps.deviation, images.std(dim=1), atol=1e-5, rtol=0)
    assert (maps.low, maps.high) == (0, 1)
    assert recorded(place)["posterior_sha256"] == sha256((out / "posterior.safetensors").read_bytes()).hexdigest()
    with Image.open(out / "calibration.png") as plot:
        assert min(plot.size) > 200
    kept = files(out)
    assert draw(place, *words).out == result.out
    assert files(out) == kept
    assert draw(place, *WORDS, "--n", "3").code == 0
    assert not (out / "calibration.png").exists(), "the truth that is named last counts"
    assert "psnr_of_mean" not in json.dumps(recorded(place))
    assert files(out)["grid.png"] != kept["grid.png"]
    (place / "others").mkdir()
    for number in range(2):
        np.save(place / "others" / f"{number}.npy", np.zeros((8, 8)))
    assert draw(place, *WORDS, "--n", "3", "--truth", "others").code == 0
    assert files(out)["task.json"] != kept["task.json"]


def test_the_page_shows_calibration_and_damaged_maps_are_found(place: Path) -> None:
    words = (*WORDS, "--truth", "digits", "--n", "3", "--posterior", "sampler.steps=10", "--quiet", *CPU)
    command("restore", "digits", *words, folder=place).done()
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
