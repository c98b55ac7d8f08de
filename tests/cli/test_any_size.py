"""`ncsnx restore` with a model of patches: pictures of any size, in tiles, and noisy ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import ncsnx
from ncsnx.errors import NcsnxError
from ncsnx.exports import exported
from ncsnx.inverse import Task, restoring
from ncsnx.inverse.operators.pixels import Masking
from ncsnx.inverse.restored_folder import RestoredFolder
from ncsnx.inverse.restoring import RestoredImages, posterior_means
from ncsnx.networks.tiling import TiledNetwork
from ncsnx.runs import selection
from ncsnx.runs.writer_lock import is_being_written
from ncsnx.sampling.sample_folder import samples_in
from tests.training.tiny import CPU, Result, command

MODEL = ["model=unet", "model.width=8", "model.multipliers=1,1", "model.blocks=1", "model.attention="]
HEIGHT, WIDTH = 37, 150


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run `photos` of patches, a picture, a part of it, and a mask."""
    folder = tmp_path_factory.mktemp("photos")
    smooth = np.random.default_rng(0).random((6, 16, 3))
    (folder / "pictures").mkdir()
    for number in range(4):
        rolled = Image.fromarray((255 * np.roll(smooth, number, 0)).astype(np.uint8))
        rolled.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(folder / "pictures" / f"{number}.png")
    data = ["data=images", "data.root=pictures", "data.image_size=16", "data.patches=true", "data.held_out=0.25"]
    training = ["steps=3", "batch_size=4", "snapshots=none", "schedule=lognormal", "schedule.sigma_max=5"]
    words = [*data, "data.transform=rescaled", *MODEL, "model.normalization=pixel", *training, "checkpoint_every=3"]
    command("train", "digits", *words, "--run", "photos", *CPU, folder=folder).done()
    with Image.open(folder / "pictures" / "0.png") as picture:
        picture.save(folder / "given.png")
        picture.reduce(2).crop((0, 0, 60, 17)).save(folder / "small.png")
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[5:20, 30:90] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.new("RGB", (40, 30), (200, 90, 40)).save(folder / "flat.png")
    Image.new("RGB", (40, 30), (9, 7, 4)).save(folder / "dark.png")
    np.save(folder / "two.npy", np.full((2, 20, 24, 3), 0.5))
    np.save(folder / "empty.npy", np.zeros((0, 5, 3)))
    return folder


def pixels(path: Path) -> Tensor:
    """(C, H, W) in [0, 1]."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def restored(folder: Path, *words: str, out: str = "out") -> Result:
    return command("restore", "photos", "--out", out, "--overwrite", *words, *CPU, folder=folder)


def images(folder: Path, *words: str, out: str = "out") -> Tensor:
    result = restored(folder, *words, out=out).done()
    assert "look at them" not in result.err
    return samples_in(folder / out).read("samples")


def test_pictures_are_restored_at_their_own_size(made: Path) -> None:
    filled = images(made, "--inpaint", "given.png", "--mask", "mask.png", "--quick", "sampler.steps=3")
    assert filled.shape == (1, 3, HEIGHT, WIDTH)
    assert float((filled[0] - pixels(made / "given.png"))[:, 20:].abs().max()) < 1e-5
    assert pixels(made / "out" / "mean.png").shape == (3, HEIGHT, WIDTH)
    enlarged = images(made, "--super-resolve", "small.png", "--factor", "2", "--n", "2", "sampler.steps=3")
    assert enlarged.shape == (2, 3, 34, 120)


@pytest.mark.parametrize(
    ("task", "eta"),
    [
        (["--inpaint", "small.png", "--mask", "hole.png"], 1.0),
        (["--outpaint", "small.png", "--size", "24,64"], 1.0),
        (["--super-resolve", "small.png", "--factor", "2"], 0.5),
    ],
)
def test_holes_are_filled_with_fresh_noise_in_each_step(made: Path, task: list[str], eta: float) -> None:
    Image.fromarray(np.tri(17, 60, dtype=np.uint8) * 255).save(made / "hole.png")
    images(made, *task, "--n", "1", "sampler.steps=40")
    assert json.loads((made / "out" / "protocol.json").read_text())["sampler"]["eta"] == eta


def test_a_task_in_python_has_holes_by_what_it_measures(made: Path) -> None:
    known = torch.ones(3, 8, 8, dtype=torch.bool)
    known[:, 2:5] = False
    operator = Masking(known)
    task = Task(name="scratches", operator=operator, values=operator.coefficients(torch.full((1, 3, 8, 8), 0.5)))
    model = ncsnx.load(made / "runs/photos")
    ncsnx.restore(model, "sampler.steps=40", task=task, n=1, out=made / "python", progress=False)
    assert json.loads((made / "python" / "protocol.json").read_text())["sampler"]["eta"] == 1


def test_tiles_give_the_whole_picture_and_are_in_the_protocol(made: Path) -> None:
    words = ["--inpaint", "given.png", "--mask", "mask.png", "--n", "1", "sampler.steps=4"]
    whole, parts = images(made, *words, out="whole"), images(made, *words, "--tile", "16", out="parts")
    assert float((whole - parts).abs().max()) < 1e-4
    assert json.loads((made / "parts" / "protocol.json").read_text())["tile"] == 16
    assert "tile" not in json.loads((made / "whole" / "protocol.json").read_text())


def test_a_noisy_picture_has_the_mean_of_one_evaluation_and_alternatives_that_differ(made: Path) -> None:
    told = " ".join(
        restored(
            made, "--denoise", "given.png", "--noise", "0.1", "--n", "3", "--posterior", "sampler.steps=4"
        ).err.split()
    )
    drawn = samples_in(made / "out").read("samples")
    model = ncsnx.load(made / "runs" / "photos").in_tiles(256)
    assert isinstance(model.network, TiledNetwork)
    misfit = float((drawn - pixels(made / "given.png")).abs().max())
    assert f"where black is 0 and white 1; {misfit / 0.1:.1f} times its noise" in told
    expected = model.from_network(model.denoise(model.to_network(pixels(made / "given.png")[None]), 0.2))
    mean = load_file(made / "out" / "posterior.safetensors")["mean"]
    assert mean.dtype == torch.float32
    assert float((mean - expected).abs().max()) < 1e-5
    assert float((drawn[0] - drawn[1]).abs().max()) > 0.01
    protocol = json.loads((made / "out" / "protocol.json").read_text())
    assert protocol["task"]["rule"] == "reverse"
    assert protocol["sampler"]["grid"]["sigma_max"] == pytest.approx(0.2)


def test_a_noisy_picture_has_its_mean_before_any_alternative_and_alone_by_default(made: Path) -> None:
    told = restored(made, "--denoise", "given.png", "--noise", "0.1", "--truth", "given.png").done().err
    assert "1 evaluation; 4 alternatives take about" in told
    assert ":  --n 4" in told
    assert "single image" not in told
    assert {path.name for path in (made / "out").iterdir() if path.suffix} == {
        "mean.png",
        "grid.png",
        "task.json",
        "protocol.json",
    }
    alone = pixels(made / "out" / "mean.png")
    told = restored(made, "--denoise", "given.png", "--noise", "0.1", "--n", "1", "sampler.steps=2").done().err
    assert told.index("mean:") < told.index("sampling:")
    assert torch.equal(pixels(made / "out" / "mean.png"), alone)
    found = ncsnx.restore("photos", runs=made / "runs", denoise=made / "given.png", noise=0.1, out=made / "of python")
    assert (found.images, found.samples, found.calibration) == ((), (), None)
    assert float((found.means()[0] - alone).abs().max()) < 1 / 255
    again = ncsnx.restore("photos", runs=made / "runs", denoise=made / "given.png", noise=0.1, out=made / "of python")
    assert torch.equal(again.means(), found.means())


def test_a_gray_picture_gives_gray_files_and_counts_as_gray_in_three_channels(made: Path) -> None:
    with Image.open(made / "given.png") as picture:
        picture.convert("L").save(made / "gray.png")
        picture.convert("L").convert("RGB").save(made / "equal.png")
    for name in ("gray", "equal"):
        told = restored(made, "--denoise", f"{name}.png", "--noise", "0.1", "--n", "1", "sampler.steps=2").done().err
        assert "denoising: 4 evaluations" in told
        for made_file in ("mean.png", "images/00000.png"):
            with Image.open(made / "out" / made_file) as found:
                assert found.mode == "L"


def test_a_restored_picture_is_one_file_and_nothing_else(made: Path) -> None:
    before = set(made.rglob("*"))
    restored_to = ["restore", "photos", "--denoise", "given.png", "--noise", "0.1", "-o", "better.png", *CPU]
    told = command(*restored_to, folder=made).done().err
    assert "saved:  better.png" in told
    assert {path.name for path in set(made.rglob("*")) - before} == {"better.png"}
    assert "better.png already exists" in command(*restored_to, folder=made).err
    filled = ["--inpaint", "given.png", "--mask", "mask.png", "--n", "2", "sampler.steps=2", "-o", "filled.png"]
    restored(made, *filled).done()
    assert torch.equal(pixels(made / "filled.png"), pixels(made / "out" / "mean.png"))
    assert not (made / "out" / "posterior.safetensors").exists()


def test_the_pictures_of_a_folder_have_sizes_of_their_own_and_one_that_is_broken_stops_no_other(made: Path) -> None:
    (made / "several").mkdir()
    with Image.open(made / "given.png") as picture:
        picture.crop((0, 0, 40, 20)).save(made / "several" / "a.png")
        picture.crop((0, 0, 30, 30)).convert("L").save(made / "several" / "c.jpg")
    (made / "several" / "b.png").write_bytes(b"no picture")
    words = ["restore", "photos", "--denoise", "several", "--noise", "0.1", "--save", "better", *CPU]
    result = command(*words, folder=made)
    assert result.code == 1
    assert "1 picture of 3 not restored: several/b.png: is not a picture" in result.err
    assert pixels(made / "better" / "a.png").shape == (3, 20, 40)
    with Image.open(made / "better" / "c.jpg") as gray:
        assert (gray.mode, gray.size) == ("L", (30, 30))
    (made / "several" / "b.png").unlink()
    (made / "better" / "c.jpg").unlink()
    again = command(*words, folder=made).done()
    assert "better/a.png already exists" in again.err
    assert (made / "better" / "c.jpg").is_file()
    nothing = command(*words, "--json", folder=made).done()
    assert "all restored pictures already exist; replace them:  --overwrite" in nothing.err
    assert json.loads(nothing.out) == {"restored": [], "skipped": ["several/a.png", "several/c.jpg"], "failed": []}


@pytest.fixture
def several(made: Path, tmp_path: Path) -> Path:
    """A folder of three pictures, of which two have the same name but for the suffix."""
    with Image.open(made / "given.png") as picture:
        for name, size in (("a.png", (40, 20)), ("a.jpg", (30, 30)), ("c.png", (20, 24))):
            picture.crop((0, 0, *size)).save(tmp_path / name)
    return tmp_path


def test_a_folder_gives_a_result_of_each_picture_in_a_folder_of_its_own(made: Path, several: Path) -> None:
    found = ncsnx.restore("photos", runs=made / "runs", denoise=several, noise=0.1, out=made / "each")
    assert isinstance(found, RestoredFolder)
    assert [one.means().shape[2:] for one in found.restored] == [(30, 30), (20, 40), (24, 20)]
    assert [one.folder for one in found.restored] == [made / "each" / name for name in ("a.jpg", "a.png", "c")]
    assert (found.skipped, found.failed) == ((), {})


@pytest.mark.parametrize("broken", ["a.jpg", "a.png", "c.png"])
def test_a_picture_without_its_truth_stops_no_other_wherever_it_is(broken: str, made: Path, several: Path) -> None:
    truth = several / "truth"
    truth.mkdir()
    for name in {"a.jpg", "a.png", "c.png"} - {broken}:
        shutil.copy(several / name, truth / f"{Path(name).stem}.{name[-3:]}")
    if broken.startswith("a"):  # which the other one's truth would fit
        (several / broken).rename(several / f"b{broken[1:]}")
    given = {"denoise": several, "truth": truth, "noise": 0.1, "out": made / f"without {broken}"}
    found = ncsnx.restore("photos", runs=made / "runs", **given)
    assert isinstance(found, RestoredFolder)
    assert (len(found.restored), len(found.failed)) == (2, 1)
    assert "truth: expected one picture with the name of" in str(found.problem()).replace(f" {truth}", "")


def test_a_mistake_in_what_is_typed_is_one_error_for_a_folder(made: Path, several: Path) -> None:
    result = command("restore", "photos", "--denoise", str(several), "--noise", "30", *CPU, folder=made)
    assert result.code == 2
    assert result.err.count("warning") == 1
    assert "for 30 of 255:  --noise 0.118" in result.err


def test_a_folder_of_pictures_is_not_replaced_by_the_restored_ones(made: Path, several: Path) -> None:
    words = ["--denoise", str(several), "--noise", "0.1", "--overwrite", "-o", f"{several}/../{several.name}"]
    result = command("restore", "photos", *words, *CPU, folder=made)
    assert result.code == 2
    assert "is the folder of the given pictures, which are kept" in result.err
    assert "give another folder:  --save DIR" in result.err


def test_a_result_of_which_one_file_is_kept_says_so(made: Path) -> None:
    given = {"denoise": made / "given.png", "noise": 0.1, "save": made / "kept.png"}
    found = ncsnx.restore("photos", runs=made / "runs", **given)
    assert isinstance(found, RestoredImages)
    assert (found.images, found.samples, found.picture()) == ((), (), None)
    for read in (lambda: found.folder, lambda: found.grid, lambda: found.posterior):
        with pytest.raises(NcsnxError, match=r"only .*kept\.png was kept; keep a folder too: out=DIR"):
            read()
    with pytest.raises(NcsnxError, match=r"no alternatives were drawn, only means\(\); draw some: n=4"):
        found.tensor()
    values = found.to_json()
    assert isinstance(values, dict)
    assert ("folder" in values, "sampler" in values, values["evaluations"]) == (False, False, 1)
    assert values["saved"] == str(made / "kept.png")


def test_a_hole_is_not_judged_by_the_pixels_around_it(made: Path) -> None:
    told = restored(made, "--inpaint", "given.png", "--mask", "mask.png", "--quick", "sampler.steps=3").done().err
    assert "it says nothing about what was filled in" in told
    assert "warning" not in told
    told = restored(made, "--inpaint", "given.png", "--mask", "5,2,95,35", "--quick", "sampler.steps=3").done().err
    assert "a hole is 34 pixels across where it is thickest" in told
    assert "mask only what is damaged" in told
    told = restored(made, "--colorize", "mask.png", "--quick", "sampler.steps=3").done().err
    assert "filled in" not in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--denoise", "given.png", "--noise", "0"], "--denoise given.png: expected noise above 0, found 0"),
        (["--denoise", "given.png", "--noise", "some"], "such as 0.1 or 25/255, or auto, found 'some'"),
        (["--denoise", "given.png", "--noise", "0.1", "--gain", "-1"], "expected --gain >= 0, found -1"),
        (["--denoise", "given.png", "--noise", "auto", "--gain", "0.01"], "--noise auto estimates shot noise too"),
        (["--denoise", "given.png", "--gain", "60/1"], "for 60 counts at white:  --gain 0.0167"),
        (["--denoise", "given.png", "--gain", "some"], "such as 0.1 or 25/255, found 'some'"),
        (["--denoise", "given.png", "--noise", "0", "-o", "flat.png"], "expected noise above 0, found 0"),
        (["--denoise", "given.png", "--gain", "1/9e9"], "in its form; this model knows noise from 0.005 to"),
        (["--denoise", "dark.png", "--noise", "0.0025"], "multiply the picture's values and its noise by 2 or more"),
        (["--denoise", "two.npy", "--noise", "0.1", "-o", "two.png"], "--save takes one picture, found 2"),
        (["--deblur", "given.png"], "needs --blur, which is not given.\n  half the width in pixels"),
        (["--inpaint", "given.png", "--gain", "1"], "--gain goes with --denoise, which is not given"),
        (
            ["--inpaint", "given.png", "--mask", "mask.png", "--n", "0"],
            "--n must be at least 1; 0, for the mean alone, is for --denoise and --jpeg",
        ),
        (
            ["--inpaint", "given.png", "--mask", "mask.png", "--noise", "auto"],
            "expected a number, or 'auto' with --denoise",
        ),
        (["--denoise", "given.png", "--noise", "0.1", "sampler=ald"], "doesn't follow the reverse diffusion"),
        (["--denoise", "given.png", "--noise", "0.1", "sampler.eta=3"], "doesn't follow the reverse diffusion"),
        (["--denoise", "given.png", "--noise", "0.1", "sampler.grid=levels"], "doesn't begin at the noise of a pict"),
        (["--denoise", "given.png", "--noise", "0.0001"], "--noise 0.0001: this model knows noise from 0.005 to"),
        (["--denoise", "given.png", "--noise", "30"], "at most 1: black is 0 and white 1.\n  for 30 of 255:"),
        (["--denoise", "empty.npy", "--noise", "0.1"], "empty.npy: expected a picture of numbers, found 0×5×3"),
        (["--super-resolve", "given.png", "--factor", "1000"], "89,478,485 pixels, found 37000×150000"),
        (["--inpaint", "given.png", "--mask", "mask.png", "--tile", "2"], "--tile must be between 8 and 65,536"),
    ],
)
def test_mistakes_get_one_sentence(words: list[str], told: str, made: Path) -> None:
    result = restored(made, *words, out="refused")
    assert result.code in (1, 2)
    assert told in result.err
    assert not (made / "refused").exists()


@pytest.mark.parametrize("before", ["drawn", "already sampled"])
def test_the_folder_is_locked_from_the_first_image_to_the_record(
    before: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out, entered = ncsnx.load(made / "runs/photos"), made / f"locked {before}", list[bool]()
    given: dict[str, Any] = {"denoise": made / "given.png", "noise": 0.1, "n": 1, "out": out}
    if before == "already sampled":
        ncsnx.restore(model, "sampler.steps=2", **given)

    def watched(*arguments: Any) -> Any:
        entered.append(is_being_written(out))
        return posterior_means(*arguments)

    monkeypatch.setattr(restoring, "posterior_means", watched)
    ncsnx.restore(model, "sampler.steps=2", **given)
    assert entered == [True]
    assert not is_being_written(out)


def test_a_network_that_sees_whole_pictures_restores_them_whole(made: Path) -> None:
    """A run of patches with group normalization; a typed side of tiles is refused."""
    data = ["data=images", "data.root=pictures", "data.image_size=16", "data.patches=true", "data.transform=rescaled"]
    words = [*data, *MODEL, "steps=1", "batch_size=4", "snapshots=none", "checkpoint_every=1"]
    assert command("train", "digits", *words, "--run", "grouped", *CPU, folder=made).code == 0
    words = ["--super-resolve", "small.png", "--factor", "2", "--quick", "sampler.steps=2", *CPU]
    result = command("restore", "grouped", *words, "--out", "grouped", folder=made).done()
    assert "look at them before you rely on them" in result.err
    result = command("restore", "grouped", *words, "--tile", "64", "--out", "refused", folder=made)
    assert "--tile: UNetNetwork depends on all of an image" in result.err


def test_a_model_comes_along_unless_a_run_has_its_name(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command("export", "photos", "--half", "--out", "shipped/along", "--grid", "0", *CPU, folder=made).done()
    for module in (selection, exported):
        monkeypatch.setattr(module, "SHIPPED", made / "shipped")
    words = ["--denoise", "given.png", "--noise", "0.1", "--quick", "sampler.steps=2", "--out"]
    result = command("restore", "along", *words, "a", *CPU, folder=made).done()
    assert "from along, step 3 (ema)" in result.err
    assert json.loads((made / "a" / "protocol.json").read_text())["weights"] == "ema"
    rounded, exact = ncsnx.load("along", runs=made / "runs"), ncsnx.load("photos", runs=made / "runs")
    x = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    assert 0 < float((rounded.denoise(x, 0.3) - exact.denoise(x, 0.3)).abs().max()) < 1e-3
    sizes = (made / "shipped/along/model.safetensors").stat().st_size, len(exact.to_safetensors())
    halved = 2 * sum(one.numel() for one in exact.network.state_dict().values())
    assert sizes[1] - sizes[0] == pytest.approx(halved, abs=200)  # the headers differ
    shutil.copytree(made / "runs" / "photos", made / "runs" / "along")
    assert ncsnx.load("along", runs=made / "runs").checkpoint.run == "along"
