"""`ncsnx restore`: images that agree with pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

import ncsnx
from ncsnx.data.decoding import fitted
from ncsnx.inverse import Masking, tasks_from_files
from ncsnx.inverse.task import Task
from ncsnx.inverse.tasks_from_files import register_task
from tests.cli.drawing import draw, drawn, error
from tests.training.tiny import files


@pytest.fixture
def photos(workplace: Path) -> Path:
    """A working folder with three digits, their middles, and a mask of their right half."""
    digits = torch.from_numpy(load_digits().images[:3] / 16)
    save(workplace / "digits", digits)
    save(workplace / "middles", digits[:, 1:6, 2:6])
    mask = torch.zeros(1, 8, 8)
    mask[:, :, 4:] = 1
    save(workplace / "masks", mask)
    return workplace


def save(folder: Path, pictures: Tensor) -> None:
    folder.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray((255 * picture.clamp(0, 1)).round().to(torch.uint8).numpy()).save(folder / f"{number}.png")


def pixels(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image))


def test_known_pixels_come_out_as_they_went_in_and_the_others_differ(photos: Path) -> None:
    words = ("--inpaint", "digits", "--mask", "masks/0.png", "--truth", "digits", "--n", "2", "sampler.steps=10")
    images = drawn(photos, *words)
    assert images.shape == (6, 1, 8, 8)
    out = photos / "out"
    names = {"protocol.json", "samples-00000.safetensors", "grid.png", "task.json"}
    names |= {f"mean-{number:05d}.png" for number in range(3)}
    assert set(files(out)) == names | {f"images/{number:05d}.png" for number in range(6)}
    for number in range(6):
        given = pixels(photos / f"digits/{number // 2}.png")
        assert torch.equal(pixels(out / f"images/{number:05d}.png")[:, :4], given[:, :4])
    assert not torch.equal(images[0], images[1])
    torch.testing.assert_close(images, drawn(photos, *words, "--batch-size", "1", out="parts"), atol=1e-3, rtol=0)
    record = json.loads((out / "protocol.json").read_text())
    assert (record["task"]["name"], record["made"]["pictures"]) == ("inpaint", ["0.png", "1.png", "2.png"])
    said = draw(photos, *words).err
    assert "6 images, 2 for each of 3 pictures" in said
    assert "2.png: PSNR" in said
    save(photos / "others", torch.rand(3, 8, 8))
    other = draw(photos, "--inpaint", "others", *words[2:])
    assert "holds samples of another protocol: task.values_sha256 is" in error(other)


def test_restore_takes_a_sampler_and_steps_that_reach_the_posterior_and_warns_of_others(photos: Path) -> None:
    words = ("--inpaint", "digits/0.png", "--mask", "masks/0.png", "--n", "1", "--noise", "0.1", "--overwrite")

    def said(*more: str) -> tuple[dict[str, Any], str]:
        result = draw(photos, *words, *more).done()
        return json.loads((photos / "out/protocol.json").read_text())["sampler"], result.err

    (default, warnings), (other, short), (few, too_few) = said(), said("sampler=dpmpp-sde"), said("sampler.steps=10")
    assert "1 image" in warnings
    assert "for each of" not in warnings
    assert (default["type"], default["steps"], default["eta"]) == ("cas", 100, 0.5)
    assert default["eta_min"] == pytest.approx(0.1), "the noise of the measurement"
    assert "warning" not in warnings
    assert (other["type"], other["steps"]) == ("dpmpp-sde", 100)
    assert "sampler=dpmpp-sde stays short of the posterior" in short
    assert few["eta"] == 1.0, "with so few levels, less would leave more noise than the next level has"
    assert "sampler.steps=10 is too few for a noisy measurement" in too_few
    assert said("sampler=ald", "--noise", "0")[0]["type"] == said("--rule", "langevin")[0]["type"] == "ald"


@pytest.mark.parametrize("more", ["digits/1.png", "digits"])
def test_a_second_picture_is_refused_with_the_advice_to_give_a_folder(photos: Path, more: str) -> None:
    refused = draw(photos, "--inpaint", "digits/0.png", more, "--mask", "masks/0.png")
    assert refused.code == 2
    assert f"expected one picture, or a folder of them, found also '{more}'" in error(refused)
    assert "for several, give their folder" in refused.err


def test_a_word_that_no_file_may_have_for_a_name_is_a_malformed_change(photos: Path) -> None:
    refused = draw(photos, "--inpaint", "digits/0.png", "a" * 300, "--mask", "masks/0.png")
    assert refused.code == 2
    assert "expected FIELD=VALUE" in error(refused)


QUICK = ("--n", "1", "sampler.steps=2", "--overwrite")


def test_a_rectangle_is_filled_in_from_left_and_top_up_to_right_and_bottom(photos: Path) -> None:
    truth = torch.from_numpy(load_digits().images[:3] / 16)[:, None]
    filled = drawn(photos, "--inpaint", "digits", "--mask", "5,0,8,2", *QUICK)
    changed = (filled - truth).abs() > 1 / 255
    assert changed[:, :, :2, 5:].any()
    changed[:, :, :2, 5:] = False
    assert not changed.any()
    refused = draw(photos, "--inpaint", "digits", "--mask", "5,0,9,2", *QUICK)
    assert "--mask 5,0,9,2: expected left, top, right and bottom of a part of 0,0,8,8" in error(refused)


def test_pictures_of_another_size_are_fitted_on_demand(photos: Path) -> None:
    large = torch.zeros(24, 20, dtype=torch.uint8)
    large[4:20, 2:18] = pixels(photos / "digits/0.png").repeat_interleave(2, 0).repeat_interleave(2, 1)
    right_half = (255 * (torch.arange(20) >= 10)).to(torch.uint8).expand(24, 20)
    for name, picture in (("large", large), ("large-mask", right_half)):
        Image.fromarray(picture.numpy()).save(photos / f"{name}.png")
    words = ("--inpaint", "large.png", "--mask", "large-mask.png", "--truth", "large.png", *QUICK)
    assert "--fit" in draw(photos, *words).err
    filled = drawn(photos, *words, "--fit")
    expected = torch.from_numpy(np.asarray(fitted(Image.fromarray(large.numpy()), 8)) / 255)
    torch.testing.assert_close(filled[0, 0, :, :4].double(), expected[:, :4], rtol=0, atol=1e-6)
    refused = draw(photos, "--outpaint", "middles", *QUICK, "--fit")
    assert "--fit goes with --inpaint, which is not given" in error(refused)


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (("--inpaint", "digits"), "--inpaint needs --mask, which is not given", 2),
        (("--at", "1,1", "--inpaint", "digits", "--mask", "masks"), "--at goes with --outpaint", 2),
        (("--colorize", "digits", "--deblur", "digits"), "--colorize and --deblur: give one task at a time", 2),
        (("--colorize", "digits"), "--colorize needs a model of images with 3 channels, but", 2),
        (("--inpaint", "digits", "--mask", "digits/0.png"), "expected black (known) and white (to be filled in)", 1),
        (("--inpaint", "digits", "--mask", "digits"), "expected one mask for all pictures, found 3", 2),
        (("--inpaint", "missing.png", "--mask", "masks"), "cannot read missing.png: No such file or directory", 2),
        (("--inpaint", "colored.png", "--mask", "masks"), "colored.png: expected a picture in gray", 1),
        (("--inpaint", "empty", "--mask", "masks"), "empty: expected a picture, or a folder of pictures", 1),
        (("--super-resolve", "digits", "--factor", "1"), "--factor must be at least 2", 2),
        (("--outpaint", "middles", "--at", "5"), "expected two whole numbers with a comma", 2),
        (("--deblur", "digits", "--blur", "1", "--noise", "-1"), "expected --noise >= 0", 2),
    ],
)
def test_mistakes_get_one_line(photos: Path, words: tuple[str, ...], told: str, code: int) -> None:
    (photos / "empty").mkdir()
    Image.new("RGB", (8, 8), (200, 20, 20)).save(photos / "colored.png")
    result = draw(photos, *words, "--n", "1")
    assert told in error(result)
    assert result.code == code
    assert not (photos / "out").exists()


def test_a_task_of_ones_own_is_registered_or_given_in_python(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = torch.zeros(1, 8, 8, dtype=torch.bool)
    known[:, :4] = True

    def top_half(path: Path, shape: tuple[int, int, int]) -> Task:
        operator = Masking(known)
        return Task(name="top-half", operator=operator, values=operator.coefficients(pixels(path)[None, None] / 255))

    monkeypatch.setattr(tasks_from_files, "_tasks", {})
    register_task("top-half")(top_half)
    images = drawn(photos, "--operator", "top-half", "--input", "digits/1.png", "--n", "3", "sampler=ald")
    given = pixels(photos / "digits/1.png") / 255
    torch.testing.assert_close(images[:, 0, :4], given[:4].expand(3, 4, 8), atol=1e-6, rtol=0)
    model = ncsnx.load(photos / "runs/digits")
    again = ncsnx.draw(model, n=3, task=top_half(photos / "digits/1.png", (1, 8, 8)), sampler=model.sampler)
    torch.testing.assert_close(images, again, atol=1e-3, rtol=0)


def test_what_a_package_raises_is_one_line_and_operators_differ(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def knows_a_row(path: Path, shape: tuple[int, int, int]) -> Task:
        known = torch.zeros(shape, dtype=torch.bool)
        known[:, rows[-1]] = True
        return Task(name="row", operator=Masking(known), values=torch.zeros(1, 8))

    monkeypatch.setattr(tasks_from_files, "_tasks", {})
    register_task("row")(knows_a_row)
    words = ("--operator", "row", "--input", "digits/1.png", "--n", "1")
    failed = draw(photos, *words)
    assert failed.code == 1
    assert "test_tasks.py:" in error(failed)
    assert "Traceback" not in failed.err
    rows.append(0)
    drawn(photos, *words)
    assert "already sampled" in draw(photos, *words).err
    rows.append(3)
    assert "another protocol" in error(draw(photos, *words))
