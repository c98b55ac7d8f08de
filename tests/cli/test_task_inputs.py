"""Pictures for `ncsnx restore`: numbers with any number of channels, in the data's own values, and names."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from tests.cli import drawing
from tests.cli.drawing import error
from tests.inverse.examples import blurred
from tests.storage.giants import sparse_npy
from tests.training.tiny import Result, command, training

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
    packed = command("data", "pack", "digits", "--out", "d.pack", folder=folder)
    assert packed.code == 0, packed.err
    words = ("data=packed", "data.path=d.pack", "data.image_size=8", "data.channels=1", "steps=4")
    trained = command(*training(*words), folder=folder)
    assert trained.code == 0, trained.err
    return folder


@pytest.fixture
def two(trained_of_two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy with three images in pictures/, as .npy, and a mask of their right half."""
    place = Path(shutil.copytree(trained_of_two, tmp_path / "work"))
    monkeypatch.setenv("NCSNX_CACHE", str(place / "cache"))
    save(place / "pictures", given(place, 3))
    right_half(place / "mask.png")
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
    return drawing.draw(folder, "--n", "2", *words, out=out)


def drawn(folder: Path, *words: str, out: str = "out") -> Tensor:
    return drawing.drawn(folder, "--n", "2", *words, out=out)


def unit(numbers: Tensor) -> Tensor:
    """(P, H, W, 2) in the data's values → (2 · P, 2, H, W) in [0, 1], each twice."""
    return ((numbers.double() - LOW) / (HIGH - LOW)).permute(0, 3, 1, 2).repeat_interleave(2, 0)


def test_numbers_of_any_channels_are_pictures_in_the_datas_own_values(two: Path) -> None:
    truth = given(two, 3)
    images = drawn(two, "--inpaint", "pictures", "--mask", "mask.png", "--truth", "pictures").double()
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
        (("--inpaint", "grey.png", "--mask", "mask.png"), "give a .npy of H×W×2 numbers"),
        (("--inpaint", "flat.npy", "--mask", "mask.png"), "expected a picture as H×W×2 numbers, found float64 8×8"),
        (("--inpaint", "first.npy", "--mask", "mask.png"), "as H×W×2 numbers, found float64 2×8×8"),
        (("--inpaint", "complex.npy", "--mask", "mask.png"), "found complex128 8×8×2"),
        (("--inpaint", "words.npy", "--mask", "mask.png"), "found <U1 8×8×2"),
        (("--inpaint", "objects.npy", "--mask", "mask.png"), "holds Python objects, which are never unpickled"),
        (("--inpaint", "cut.npy", "--mask", "mask.png"), "(61,440 bytes), but holds 872 bytes; get a complete copy"),
        (
            ("--inpaint", "text.npy", "--mask", "mask.png"),
            "text.npy: expected a .npy, .npz, safetensors, HDF5, MATLAB 7.3 or NIfTI file",
        ),
        (("--inpaint", "several.npy", "--mask", "mask.png"), "expected a .npy of H×W×2 numbers, found a .npz"),
        (("--inpaint", "large.npy", "--mask", "mask.png"), "of 8×8 pixels (height × width), found 80000×40000"),
        (("--inpaint", "pipe.png", "--mask", "mask.png"), "cannot read pipe.png: is not a regular file"),
        (("--inpaint", "empty.npy", "--mask", "mask.png"), "found float64 0×0×2"),
        (("--inpaint", "nan.npy", "--mask", "mask.png"), "NaN, infinite or too large value"),
        (("--inpaint", "huge.npy", "--mask", "mask.png"), "NaN, infinite or too large values; replace them"),
        (("--inpaint", "eight.npy", "--mask", "mask.png"), "found 0 to 255"),
        (("--inpaint", "pictures", "--mask", "nan.npy"), "expected a mask as H×W or H×W×1 numbers"),
        (("--inpaint", "pictures", "--mask", "mask.png", "--truth", "flat.npy"), "expected a true picture as H×W×2"),
        (("--super-resolve", "pictures", "--factor", "2"), "enlarged by 2 of 4×4 pixels (height × width), found 8×8"),
    ],
)
def test_numbers_that_fit_no_image_get_one_line(two: Path, words: tuple[str, ...], told: str) -> None:
    Image.new("L", (8, 8)).save(two / "grey.png")
    whole = np.zeros((8, 8, 2))
    arrays = {
        "flat": whole[..., 0],
        "first": whole.transpose(2, 0, 1),
        "complex": whole.astype(complex),
        "words": whole.astype(str).astype("<U1"),
        "empty": whole[:0, :0],
        "nan": np.where(np.arange(2) == 0, np.nan, whole),
        "huge": whole + 1e300,
        "eight": np.where(np.arange(2) == 0, 255, whole).astype(np.uint8),
    }
    for name, array in arrays.items():
        np.save(two / f"{name}.npy", array)
    np.save(two / "objects.npy", whole.astype(object), allow_pickle=True)
    (two / "cut.npy").write_bytes((two / "two.npy").read_bytes()[:1000])
    (two / "text.npy").write_text("no numbers")
    (two / "several.npy").write_bytes(b"PK\5\6" + bytes(18))
    sparse_npy(two / "large.npy", (80_000, 40_000, 2), "f8")
    os.mkfifo(two / "pipe.png")
    result = draw(two, *words)
    assert told in error(result)
    assert result.code == 1
    assert not (two / "out").exists()


def test_a_mask_of_numbers_and_folders_within_a_folder(two: Path) -> None:
    np.save(two / "mask.npy", np.arange(8) * np.ones((8, 1)) >= 4)
    (two / "pictures" / "sub.png").mkdir()
    (two / "pictures" / "notes.txt").write_text("no picture")
    images = drawn(two, "--inpaint", "pictures", "--mask", "mask.npy")
    again = drawn(two, "--inpaint", "pictures", "--mask", "mask.png")
    assert torch.equal(images, again)


def test_the_values_of_packed_data_are_those_of_the_file(packed: Path) -> None:
    digit = torch.from_numpy(load_digits().images[7] / 16)
    images = drawn(packed, "--inpaint", "digit.npy", "--mask", "mask.png")
    torch.testing.assert_close(images[:, 0, :, :4], digit[:, :4].float().expand(2, 8, 4), atol=1e-6, rtol=0)
    images = drawn(packed, "--measure", "kspace.npz", "--truth", "digit.npy", out="measured").double()
    wanted = torch.fft.fft2(digit, norm="ortho")[:3]
    torch.testing.assert_close(
        torch.fft.fft2(images[:, 0], norm="ortho")[:, :3], wanted.expand(2, 3, 8), atol=3e-2, rtol=0
    )


def test_without_the_packed_file_numbers_count_as_from_0_to_1(packed: Path) -> None:
    images = drawn(packed, "--measure", "kspace.npz")
    (packed / "elsewhere").mkdir()
    (packed / "d.pack").rename(packed / "elsewhere" / "d.pack")
    assert torch.equal(images, drawn(packed, "--measure", "kspace.npz", "--data", "elsewhere"))
    measured = draw(packed, "--measure", "kspace.npz", out="measured").err
    assert "check the values and the scale of the measurement" in measured, "this file has others"
    told = draw(packed, "--inpaint", "digit.npy", "--mask", "mask.png", out="new").err
    assert "values from 0" in told, "this file has others"
    for warning in (measured, told):
        assert "data set cannot be used: your data is not at" in warning
        assert "--data DIR" in warning
    assert not (packed / "new").exists()
    Image.new("L", (8, 8)).save(packed / "grey.png")
    assert len(drawn(packed, "--inpaint", "grey.png", "--mask", "mask.png", out="grey")) == 2


def test_another_packed_file_says_nothing(packed: Path) -> None:
    np.save(packed / "other.npy", np.arange(9 * 8 * 8, dtype=np.uint8).reshape(9, 8, 8))
    other = command("data", "pack", "other.npy", "--size", "8", "--out", "d.pack", "--overwrite", folder=packed)
    assert other.code == 0, other.err
    assert "is not the data set that the model was trained on" in draw(packed, "--measure", "kspace.npz").err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("one.npy", "expected the arrays kspace and mask, found one array without a name"),
        ("cut.npz", "cut.npz: is not a valid .npy or .npz"),
        ("nan.npz", "where mask is 1: found"),
        ("huge.npz", "where mask is 1: found 24 NaN, infinite or too large values"),
        ("coils.npz", "array maps: expected complex numbers of shape (coils, 8, 8)"),
        ("two.npz", "array kspace: expected complex numbers of shape (8, 8) or (P, 8, 8), found complex128 of shape"),
        ("zeros.npz", "expected mask to be 1 where kspace was measured and else 0, found only zeros"),
        ("mask.npz", "array mask: expected zeros and ones of shape (8, 8) or (8,) or (1, 8), found <U32"),
    ],
)
def test_frequencies_that_are_none_get_one_line(packed: Path, words: str, told: str) -> None:
    kspace, mask = (np.load(packed / "kspace.npz")[name] for name in ("kspace", "mask"))
    np.save(packed / "one.npy", kspace)
    (packed / "cut.npz").write_bytes((packed / "kspace.npz").read_bytes()[:-40])
    np.savez(packed / "nan.npz", kspace=np.where(mask, np.nan, kspace), mask=mask)
    np.savez(packed / "huge.npz", kspace=np.full((8, 8), 1e300j), mask=mask)
    np.savez(packed / "mask.npz", kspace=kspace, mask=mask.astype(str))
    coils = np.stack([kspace] * 4)
    np.savez(packed / "coils.npz", kspace=coils, mask=mask, maps=np.ones((4, 8, 8)))
    np.savez(packed / "two.npz", kspace=coils[None, None], mask=mask)
    np.savez(packed / "zeros.npz", kspace=kspace, mask=0 * mask)
    assert told in error(draw(packed, "--measure", words))
    assert not (packed / "out").exists()


def test_what_kspace_holds_outside_of_the_mask_is_nothing(packed: Path) -> None:
    kspace, mask = (np.load(packed / "kspace.npz")[name] for name in ("kspace", "mask"))
    images = drawn(packed, "--measure", "kspace.npz")
    np.savez(packed / "undefined.npz", kspace=np.where(mask == 1, kspace, np.nan), mask=mask)
    assert torch.equal(images, drawn(packed, "--measure", "undefined.npz"))
    task = json.loads((packed / "out" / "protocol.json").read_text())["task"]
    assert len(task["mask_sha256"]) == 64


def test_truths_go_with_the_pictures_of_the_same_names(two: Path) -> None:
    truth = given(two, 3)
    (two / "truths").mkdir()
    (two / "inputs").mkdir()
    for place, name in enumerate(("b.c", "a", "z")):
        np.save(two / "inputs" / f"{name}.npy", truth[place])
        shutil.copy(two / "inputs" / f"{name}.npy", two / "truths" / f"{name}.NPY")
    words = ("--inpaint", "inputs", "--mask", "mask.png", "--truth", "truths")
    assert draw(two, *words).code == 0
    (two / "truths" / "z.NPY").rename(two / "truths" / "y.npy")
    refused = draw(two, *words)
    assert "--truth truths: expected one true picture for each input, of the same name" in error(refused)
    assert refused.code == 2
    np.save(two / "truths" / "z.npy", truth[0])
    assert "of y there are 0 inputs and 1 true picture" in error(draw(two, *words))
    (two / "truths" / "y.npy").unlink()
    np.save(two / "truths" / "a.npy", truth[0])
    assert "of a there are 1 input and 2 true pictures" in error(draw(two, *words))
    one = ("--inpaint", "inputs/a.npy", "--mask", "mask.png", "--truth", "truths/z.npy")
    assert draw(two, *one, out="one").code == 0
    several = ("--inpaint", "inputs", "--mask", "mask.png", "--truth", "truths/z.npy")
    assert "--truth truths/z.npy: 1 picture for 3 inputs" in error(draw(two, *several, out="several"))


def test_a_renamed_picture_is_the_same_one_and_another_mask_another(two: Path) -> None:
    words = ("--inpaint", "pictures", "--mask", "mask.png")
    images = drawn(two, *words)
    (two / "pictures" / "1.npy").rename(two / "pictures" / "1st.npy")
    assert torch.equal(images, drawn(two, *words))
    record = json.loads((two / "out" / "protocol.json").read_text())
    assert record["made"]["pictures"] == ["0.npy", "1.npy", "2.npy"]
    assert "0.npy" not in json.dumps({**record, "made": None})
    with Image.open(two / "mask.png") as mask:
        mask.rotate(180).save(two / "mask.png")
    assert "task.mask_sha256 is" in error(draw(two, *words))


def test_another_frequency_mask_is_another_protocol(packed: Path) -> None:
    kspace, mask = (np.load(packed / "kspace.npz")[name] for name in ("kspace", "mask"))
    np.savez(packed / "kspace.npz", kspace=np.zeros_like(kspace), mask=mask)
    assert draw(packed, "--measure", "kspace.npz").code == 0
    np.savez(packed / "kspace.npz", kspace=np.zeros_like(kspace), mask=mask.T)
    assert "task.mask_sha256 is" in error(draw(packed, "--measure", "kspace.npz"))


def test_names_that_are_no_utf_8_are_escaped(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = os.fsdecode(b"b\xff")
    try:
        (two / "pictures" / "1.npy").rename(two / "pictures" / f"{odd}.npy")
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    shutil.copytree(two / "pictures", two / odd)
    (two / "link").symlink_to(two / odd)
    words = ("--mask", "mask.png", "--truth", "pictures")
    monkeypatch.setattr("sys.argv", ["ncsnx", "restore", odd])
    images = drawn(two, "--inpaint", "pictures", *words)
    assert torch.equal(images, drawn(two, "--inpaint", "link", *words))
    made = json.loads((two / "out" / "protocol.json").read_text())["made"]
    assert (made["pictures"], made["command"]) == (["0.npy", "2.npy", "b\\xff.npy"], "ncsnx restore 'b\\xff'")
