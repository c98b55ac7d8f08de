"""`ncsnx restore`: images that agree with pictures."""

import json
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

import ncsnx
from ncsnx.config import ConsistentAnnealed
from ncsnx.data.decoding import fitted
from ncsnx.inverse import Masking, tasks_from_files
from ncsnx.inverse.task import Task
from ncsnx.inverse.tasks_from_files import register_task
from tests.cli.drawing import draw, drawn, error
from tests.inverse.examples import blurred
from tests.training.tiny import CPU, command, files, overrides


@pytest.fixture
def photos(workplace: Path) -> Path:
    """A working folder with three digits, a mask of their right half, and what was measured of them."""
    digits = torch.from_numpy(load_digits().images[:3] / 16)
    save(workplace / "digits", digits)
    save(workplace / "small", digits.view(3, 4, 2, 4, 2).mean(dim=(2, 4)))
    save(workplace / "middles", digits[:, 1:6, 2:6])
    save(workplace / "blurred", blurred(0.7, digits[:, None])[:, 0])
    mask = torch.zeros(1, 8, 8)
    mask[:, :, 4:] = 1
    save(workplace / "masks", mask)
    measured = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    kspace = torch.fft.fft2(digits, norm="ortho") * measured
    np.savez(workplace / "kspace.npz", kspace=kspace.numpy(), mask=measured.numpy())
    return workplace


def save(folder: Path, pictures: Tensor) -> None:
    folder.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray((255 * picture.clamp(0, 1)).round().to(torch.uint8).numpy()).save(folder / f"{number}.png")


def pixels(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image))


def test_known_pixels_come_out_as_they_went_in_and_the_others_differ(photos: Path) -> None:
    words = ("--inpaint", "digits", "--mask", "masks/0.png", "--truth", "digits", "--n", "2", "--batch-size", "4")
    images = drawn(photos, *words)
    assert images.shape == (6, 1, 8, 8)
    out = photos / "out"
    assert set(files(out)) == {
        "protocol.json",
        "samples.safetensors",
        "grid.png",
        "task.json",
        "posterior.safetensors",
        *(f"images/{number:05d}.png" for number in range(6)),
    }
    for number in range(6):
        given = pixels(photos / f"digits/{number // 2}.png")
        assert torch.equal(pixels(out / f"images/{number:05d}.png")[:, :4], given[:, :4])
    assert not torch.equal(images[0], images[1])
    record = json.loads((out / "protocol.json").read_text())
    assert (record["task"]["name"], record["made"]["pictures"]) == ("inpaint", ["0.png", "1.png", "2.png"])
    said = draw(photos, *words).err
    assert "6 images, 2 for each of 3 pictures" in said
    assert "2.png: PSNR" in said
    with Image.open(out / "grid.png") as grid:
        assert min(grid.size) > 200


def test_restore_takes_a_sampler_and_steps_that_reach_the_posterior_and_warns_of_others(photos: Path) -> None:
    words = ("--inpaint", "digits/0.png", "--mask", "masks/0.png", "--n", "1", "--noise", "0.1", "--overwrite")

    def said(*more: str) -> tuple[str, int | None, str]:
        result = draw(photos, *words, *more)
        assert result.code == 0, result.err
        sampler = json.loads((photos / "out/protocol.json").read_text())["sampler"]
        return sampler["type"], sampler.get("steps"), result.err

    default, other = said(), said("sampler=dpmpp-sde")
    assert default[:2] == ("cas", 100)
    assert "warning" not in default[2]
    assert other[:2] == ("dpmpp-sde", 100)
    assert "sampler=dpmpp-sde does not reach the posterior" in other[2]
    assert "sampler.steps=10 is too few for a noisy measurement" in said("sampler.steps=10")[2]
    assert said("sampler=ald", "--noise", "0")[0] == said("--rule", "langevin")[0] == "ald"


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


def test_an_alternative_depends_on_its_place_alone_and_other_pictures_are_another_protocol(photos: Path) -> None:
    words = ("--inpaint", "digits", "--mask", "masks/0.png", "--n", "2")
    whole = drawn(photos, *words)
    parts = drawn(photos, *words, "--batch-size", "1", out="parts")
    torch.testing.assert_close(whole, parts, atol=1e-3, rtol=0)
    save(photos / "others", torch.rand(3, 8, 8))
    refused = draw(photos, "--inpaint", "others", "--mask", "masks/0.png", "--n", "2")
    assert refused.code == 1
    assert "holds samples of another protocol: task.values_sha256 is" in error(refused)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("--super-resolve", "small", "--factor", "2"), 3),
        (("--outpaint", "middles", "--at", "2,1"), 3),
        (("--measure", "kspace.npz"), 3),
        (("--deblur", "blurred", "--blur", "0.7"), 3),
        (("--deblur", "blurred/1.png", "--blur", "0.7", "--noise", "0.05", "sampler=dpmpp-sde"), 1),
    ],
)
def test_what_was_measured_is_so_again(photos: Path, words: tuple[str, ...], count: int) -> None:
    images = drawn(photos, *words, "--n", "2").double()
    assert len(images) == 2 * count
    if words[0] == "--super-resolve":
        small = torch.stack([pixels(photos / f"small/{number // 2}.png") for number in range(6)])
        torch.testing.assert_close(
            images.view(6, 4, 2, 4, 2).mean(dim=(2, 4)), (small / 255).double(), atol=2e-3, rtol=0
        )
    if words[0] == "--outpaint":
        middles = torch.stack([pixels(photos / f"middles/{number // 2}.png") for number in range(6)])
        torch.testing.assert_close(images[:, 0, 1:6, 2:6], (middles / 255).double(), atol=1e-6, rtol=0)
    if words[0] == "--measure":
        with np.load(photos / "kspace.npz") as arrays:
            kspace, mask = torch.from_numpy(arrays["kspace"]), torch.from_numpy(arrays["mask"])
        again = torch.fft.fft2(images[:, 0], norm="ortho")[:, mask]
        # a hardly trained network leaves the range far behind, and comes back by so many projections
        torch.testing.assert_close(again, kspace.repeat_interleave(2, 0)[:, mask], atol=3e-2, rtol=0)


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        ((), "expected one task, found none: give --inpaint, --outpaint, --super-resolve, --colorize, --deblur, ", 2),
        (("--inpaint", "digits"), "--inpaint needs --mask, which is not given", 2),
        (("--mask", "masks"), "--mask goes with --inpaint, which is not given", 2),
        (("--truth", "digits"), "expected one task, found none", 2),
        (("--at", "1,1", "--inpaint", "digits", "--mask", "masks"), "--at goes with --outpaint", 2),
        (("--colorize", "digits", "--deblur", "digits"), "--colorize and --deblur: give one task at a time", 2),
        (
            ("--colorize", "digits"),
            "--colorize needs a model of images with 3 channels, but this model's images have 1",
            2,
        ),
        (("--inpaint", "nothing.png", "--mask", "masks"), "cannot read nothing.png: No such file", 1),
        (("--inpaint", "small", "--mask", "masks"), "expected a picture of 8×8 pixels (height × width), found 4×4", 1),
        (("--inpaint", "digits", "--mask", "digits/0.png"), "expected black (known) and white (to be filled in)", 1),
        (("--inpaint", "coloured.png", "--mask", "masks"), "coloured.png: expected a picture in grey", 1),
        (("--inpaint", "text.png", "--mask", "masks"), "text.png: is not a picture of a known format", 1),
        (("--inpaint", "empty", "--mask", "masks"), "empty: expected a picture, or a folder of pictures", 1),
        (("--super-resolve", "small", "--factor", "3"), "a factor of 3 does not divide images of 8×8 pixels", 1),
        (("--super-resolve", "small", "--factor", "1"), "--factor must be at least 2", 2),
        (("--outpaint", "digits"), "expected a picture smaller than 8×8", 1),
        (("--outpaint", "middles", "--at", "5,5"), "--at 5,5: a picture of 5×4 pixels does not fit there", 2),
        (("--outpaint", "middles", "--at", "5"), "expected two whole numbers with a comma", 2),
        (("--deblur", "blurred", "--blur", "0"), "a blur of 0 pixels", 1),
        (("--deblur", "blurred", "--blur", "9"), "expected more than 0 and less than 8", 1),
        (("--inpaint", "digits", "--mask", "coloured.png"), "expected a mask in grey, found colours", 1),
        (("--deblur", "blurred", "--blur", "1", "--noise", "-1"), "expected --noise >= 0", 2),
        (("--measure", "text.png"), "text.png: expected a .npy, .npz, safetensors, HDF5, MATLAB 7.3 or NIfTI file", 1),
        (("--measure", "other.npz"), "expected the arrays kspace and mask", 1),
        (("--measure", "real.npz"), "array kspace: expected complex numbers of shape (8, 8) or (P, 8, 8)", 1),
        (("--measure", "nan.npz"), "where mask is 1: found", 1),
        (("--operator", "mine", "--input", "digits"), "--operator 'mine': unknown task", 2),
        (
            ("--inpaint", "digits", "--mask", "masks", "--truth", "masks"),
            "--truth masks: expected one true picture for each input, of the same name",
            2,
        ),
    ],
)
def test_mistakes_get_one_line(photos: Path, words: tuple[str, ...], told: str, code: int) -> None:
    (photos / "text.png").write_text("no picture")
    (photos / "empty").mkdir()
    Image.new("RGB", (8, 8), (200, 20, 20)).save(photos / "coloured.png")
    ones = np.ones((8, 8))
    np.savez(photos / "other.npz", x=ones)
    np.savez(photos / "real.npz", kspace=ones, mask=ones)
    np.savez(photos / "nan.npz", kspace=ones * complex("nan"), mask=ones)
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
    again = ncsnx.draw(model, n=3, task=top_half(photos / "digits/1.png", (1, 8, 8)))
    torch.testing.assert_close(images, again, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda task: None, "to return a Task, found NoneType"),
        (lambda task: 1 / 0, "test_tasks.py:"),
        (lambda task: attrs.evolve(task, facts={"mask": torch.ones(2)}), "expected facts that are JSON"),
        (lambda task: attrs.evolve(task, name="../../x"), "expected a task's name of letters"),
    ],
)
def test_what_a_package_makes_wrongly_is_told_in_one_line(
    photos: Path, monkeypatch: pytest.MonkeyPatch, made: Callable[[Task], object], told: str
) -> None:
    def maker(path: Path, shape: tuple[int, int, int]) -> object:
        operator = Masking(torch.ones(shape, dtype=torch.bool))
        return made(Task(name="all", operator=operator, values=torch.zeros(1, 64)))

    monkeypatch.setattr(tasks_from_files, "_tasks", {})
    register_task("mine")(maker)  # type: ignore[type-var]
    result = draw(photos, "--operator", "mine", "--input", "digits/1.png", "--n", "1")
    assert told in error(result)
    assert result.code == 1
    assert "Traceback" not in result.err
    assert not (photos / "out").exists()


def test_another_operator_of_the_same_tag_and_values_is_another_protocol(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def knows(row: int) -> None:
        known = torch.zeros(1, 8, 8, dtype=torch.bool)
        known[:, row] = True
        task = Task(name="row", operator=Masking(known), values=torch.zeros(1, 8))
        monkeypatch.setattr(tasks_from_files, "_tasks", {})
        register_task("row")(lambda path, shape: task)

    words = ("--operator", "row", "--input", "digits/1.png", "--n", "1")
    knows(0)
    drawn(photos, *words)
    assert "already sampled" in draw(photos, *words).err
    knows(3)
    assert "another protocol" in error(draw(photos, *words))


def test_a_folder_that_sample_began_when_it_had_the_tasks_is_taken_up(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--inpaint", "digits", "--mask", "masks/0.png", "--n", "1")
    monkeypatch.setattr("sys.argv", ["ncsnx", "sample", "digits", *words])
    drawn(photos, *words)
    assert json.loads((photos / "out/protocol.json").read_text())["made"]["command"].startswith("ncsnx sample")
    monkeypatch.setattr("sys.argv", ["ncsnx", "restore", "digits", *words])
    assert "already sampled" in draw(photos, *words).err


def test_values_that_no_image_has_are_warned_of(photos: Path) -> None:
    np.save(photos / "dark.npy", np.full((8, 8), -0.9))
    told = draw(photos, "--inpaint", "dark.npy", "--mask", "masks/0.png", "--n", "1").err
    assert "warning: largest difference from the measurement: 0.9000, where black is 0 and white 1\n" in told


@pytest.mark.slow
def test_half_erased_digits_are_recovered_far_above_chance(here: Path) -> None:
    """Nearest neighbours see the filled half alone: whatever they know of the class comes through the network.

    Whatever doesn't depend on the known half is right in a tenth, with a standard error of 0.03 in 100 digits. The true
    halves are recognized in 0.85, and after half a minute of training the filled ones in 0.37.
    """
    words = ("model.width=16", "batch_size=64", "steps=400", "checkpoint_every=400", "eval_every=400", "log_every=400")
    fields = overrides(*words, "snapshots=none", "schedule.levels=12", "ema.rate=0.98")
    trained = command("train", "digits", *fields, *CPU, folder=here)
    assert trained.code == 0, trained.err
    data = load_digits()
    images, labels = torch.from_numpy(data.images / 16).float(), torch.from_numpy(data.target)
    model = ncsnx.load(here / "runs/digits")
    sampler = ConsistentAnnealed(steps=120)
    model = attrs.evolve(model, experiment=attrs.evolve(model.experiment, sampler=sampler))
    held_out = torch.arange(1498, 1797)[:100]
    known = torch.zeros(1, 8, 8, dtype=torch.bool)
    known[:, :, :4] = True
    operator = Masking(known)
    task = Task(name="inpaint", operator=operator, values=operator.coefficients(images[held_out, None]))
    filled = ncsnx.draw(model, n=2, batch_size=200, task=task)
    classifier = KNeighborsClassifier(1).fit(images[:1498, :, 4:].flatten(1).numpy(), labels[:1498].numpy())
    guessed = torch.from_numpy(classifier.predict(filled[:, 0, :, 4:].flatten(1).numpy())).view(100, 2)
    right = float((guessed == labels[held_out][:, None]).double().mean())
    assert right > 0.1 + 5 * 0.03
    assert float((filled[::2] - filled[1::2]).abs().amax(dim=(1, 2, 3)).min()) > 0.05, "alternatives differ"
