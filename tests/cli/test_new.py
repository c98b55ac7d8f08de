"""`ncsnx new`: a file that loads, says why, is never overwritten, and that nobody's file names can break out of."""

import ast
import hashlib
import json
import re
import tempfile
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ncsnx.config import (
    AnnealedLangevin,
    Arrays,
    CosineDecay,
    DPMSolverPP,
    Experiment,
    Images,
    LogNormal,
    NCSNv2,
    NCSNv2Deeper,
    NCSNv2Deepest,
    Packed,
    UNet,
)
from ncsnx.config.codec import flatten
from ncsnx.config.converter import unstructure
from ncsnx.config.discovery import resolve
from ncsnx.config.image_sizes import ImageSize
from ncsnx.config.loading import load_file
from ncsnx.data import read_ahead
from ncsnx.data.places import declared
from ncsnx.planning import budget
from ncsnx.planning.budget import Fit
from ncsnx.planning.experiment_proposal import (
    Network,
    Scale,
    draft,
    fitting_size,
    propose,
    quick_sampler,
    rounded_up,
    unet_for,
    usual_steps,
)
from ncsnx.planning.survey import Distances, Survey
from ncsnx.planning.timing import Timing
from ncsnx.planning.writing import experiment_source
from ncsnx.runtime import Runtime
from ncsnx.samplers.state import score_of
from ncsnx.schedules.techniques import NoisePlan, plan_noise
from ncsnx.work import Work
from tests.cli.command import run
from tests.cli.test_plan import write_pictures
from tests.data.pictures import save
from tests.spaces import untrained
from tests.training.tiny import Result


def new(*words: str) -> Result:
    return run("new", *words, "--no-timing", "--threads", "1", "--device", "cpu")


def made(name: str, *words: str) -> Experiment:
    """The experiment that a command writes."""
    outcome = new(name, *words).done()
    assert outcome.out == f"experiments/{name}.py\n"
    return resolve(name).experiment


@pytest.mark.parametrize(("words", "timed", "threads"), [((), [2, 1, 1, 1], 1), (("--threads", "2"), [2, 2, 2], 2)])
def test_one_thread_is_timed_too_and_taken_where_it_is_faster(
    here: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], timed: list[int], threads: int
) -> None:
    seen: list[int] = []

    def time_of(experiment: Experiment, runtime: Runtime, work: Work) -> Timing:
        seen.append(runtime.threads)
        return Timing(
            seconds_per_evaluation=1e-3,
            seconds_per_training_image=runtime.threads * 1e-3,
            seconds_per_update=0.0,
            timed="",
            threads=runtime.threads,
        )

    write_pictures(here / "photos", 40)
    monkeypatch.setattr(budget, "time_experiment", time_of)
    monkeypatch.setattr(read_ahead, "processors", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        outcome = run("new", "mine", "--from", "photos", "--size", "16", "--budget", "1h", "--device", "cpu", *words)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert outcome.code == 0, outcome.err
    assert seen[: len(timed)] == timed[: len(seen)]
    assert f"next: ncsnx train mine{' --threads 1' if threads == 1 else ''}\n" in outcome.err
    assert "loss=consistency --from mine --run mine-fast" in outcome.err.splitlines()[-1]


def survey(data: Images | Arrays | Packed, name: str = "own", images: int = 900, network: Network = "ncsnv2") -> Survey:
    """A made-up survey of a data set. Of more than 20,000 images some are compared."""
    plan = plan_noise(data.channels * data.image_size**2, 23.456)
    compared = min(images, 20_000)
    distances = Distances(
        largest=plan.sigma_max, names=("a.png", "b.png"), images=images, compared=compared, quantile=20.0, seed=0
    )
    experiment = propose(name, data, plan, images, network=network)
    return Survey(experiment=experiment, plan=plan, distances=distances, held_out=100)


def loaded(text: str, folder: Path) -> Experiment:
    """The one experiment that a text registers."""
    path = folder / "written.py"
    path.write_text(text, encoding="utf-8")
    (registered,) = load_file(path).registered
    return registered.experiment


# --------------------------------------------------------------------------------------------- the whole way


def test_a_folder_of_mixed_pictures_becomes_an_experiment_that_trains_and_samples(here: Path) -> None:
    for place, mode in (("a/one", "L"), ("a/two", "RGB"), ("b", "RGBA")):
        write_pictures(here / "photos" / place, 12, mode=mode, seed=len(place))
    experiment = made("photos", "--from", "photos")
    assert experiment.data == Images(root="photos", image_size=12, channels=3, transform="rescaled")
    small = ("model.width=4", "schedule.levels=3", "sampler.steps=2", "snapshots.n=1", "batch_size=4")
    trained = run("train", "photos", *small, "steps=2", "--workers", "2", "--threads", "1", "--device", "cpu")
    assert "--workers has no effect: the training images are in memory" in trained.err
    assert trained.code == 0, trained.err
    run("sample", "photos", "--n", "2", "--threads", "1", "--device", "cpu").done()
    assert len(list((here / "runs" / "photos" / "samples").rglob("*.png"))) >= 2


def test_patches_are_suggested_where_pictures_are_large_and_an_experiment_on_them_resumes(here: Path) -> None:
    write_pictures(here / "photos", 5, size=70)
    assert "at least 8 times the height and width of the images" in new("whole", "--from", "photos", "--size", "8").err
    assert "--patches" not in new("larger", "--from", "photos", "--size", "10").err
    outcome = new("mine", "--from", "photos", "--size", "8", "--patches")
    assert "--patches" not in outcome.err
    assert "data.random_crop" not in outcome.err
    experiment = resolve("mine").experiment
    assert experiment.data == Images(root="photos", image_size=8, patches=True, transform="rescaled")
    assert isinstance(experiment.model, UNet)
    assert experiment.model.attention == ()
    for number in range(5):
        save(here / "wide" / f"{number}.png", number, (100, 80))
    wide = made("wide", "--from", "wide", "--patches")
    assert (wide.data.image_size, type(wide.model)) == (64, UNet)
    assert draft("wide", wide.data, "unet", width=64).model.attention == ()  # type: ignore[attr-defined]

    small = ("data.scales=1,0.5", "model.width=4", "schedule.levels=3", "snapshots=none", "batch_size=5", "--no-report")
    for name, steps in (("once", (4,)), ("twice", (2, 4))):
        for step in steps:
            words = ("--run", name, f"steps={step}", "--threads", "1", "--device", "cpu")
            outcome = run("train", "mine", *small, "decay.steps=4", "warmup_steps=0", *words).done()
    assert outcome.err.endswith("next: ncsnx restore twice --ckpt latest --denoise PICTURE\n")
    once, twice = (here / "runs" / name / "checkpoints" / "step-00000004" for name in ("once", "twice"))
    assert (once / "ema.safetensors").read_bytes() == (twice / "ema.safetensors").read_bytes()


def test_the_model_of_photographs_is_suggested_for_clean_pictures_that_have_room_for_its_patches(here: Path) -> None:
    for folder, size in (("large", (400, 384)), ("small", (400, 380))):
        for number in range(3):
            save(here / folder / f"{number}.png", number, size)
    command = "ncsnx train photographs --from photographs --run large-photographs data.root=large"
    assert command in new("large", "--from", "large", "--size", "8", "--patches").err
    assert "train photographs" not in new("small", "--from", "small", "--size", "8", "--patches").err
    assert "train photographs" not in new("noisy", "--from", "large", "--size", "8", "--patches", "--noise", "0.1").err


def test_one_picture_is_enough_for_patches_and_none_is_said_to_be_held_out(here: Path) -> None:
    name = next(name for name in map("{}.png".format, range(99)) if hashed_share(name) < 0.1)
    save(here / "photos" / name, 0, (70, 70))
    outcome = new("mine", "--from", "photos", "--size", "8", "--patches").done()
    assert "64 training images of 3×8×8, 0 held out" in outcome.err
    assert "no image is held out, so no held-out loss will show it: add pictures" in outcome.err
    assert "ncsnx loss" not in outcome.err
    written = (here / "experiments" / "mine.py").read_text(encoding="utf-8")
    assert "64 training images; none is held out." in written
    assert "watch the held-out loss" not in written


def hashed_share(name: str) -> float:
    """The share of held-out images from which on this name is held out."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def test_the_file_has_the_values_of_the_plan(here: Path) -> None:
    write_pictures(here / "photos", 40)
    planned = json.loads(run("plan", "photos", "--json", "--no-timing").out)
    outcome = new("photos2", "--from", "photos", "--model", "ncsnv2").done()
    assert "next: ncsnx train photos2\n" in outcome.err
    assert "a network may memorize so few training images (3" in outcome.err
    experiment = resolve("photos2").experiment
    schedule = experiment.schedule
    assert schedule.levels == planned["levels"]
    assert schedule.sigma_max == planned["sigma_max"]
    text = (here / "experiments/photos2.py").read_text()
    for reason in ("σ_1 (technique 1)", "99.9", "L (technique 2)", "T (technique 4)", "memorize"):
        assert reason in text
    (words,) = re.findall("# (sampler=ald .*)", text)
    published = resolve("photos2", words.split()).experiment.sampler
    assert isinstance(published, AnnealedLangevin)
    assert published.step_size == pytest.approx(planned["step_size"], rel=5e-3)
    assert published.steps_per_level == planned["steps_per_level"]
    assert experiment.sampler == quick_sampler(schedule.sigma_max, schedule.sigma_min)
    same = json.loads(run("plan", "photos2", "--json", "--no-timing").out)
    assert [same[name] for name in ("sigma_max", "levels")] == [schedule.sigma_max, schedule.levels]


CPU = ("--threads", "1", "--device", "cpu")


def test_a_training_is_timed_and_fitted_to_the_budget(here: Path) -> None:
    write_pictures(here / "photos", 8, size=8)
    outcome = run("new", "photos", "--from", "photos", "--budget", "300d", *CPU).done()
    assert "training takes about" in outcome.err
    assert (resolve("photos").experiment.steps, "instead of" in outcome.err) == (5_000, False)


def test_steps_that_exceed_the_budget_are_kept_with_a_warning(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Timing(seconds_per_evaluation=1.0, seconds_per_training_image=1.0, seconds_per_update=0.0, timed="")
    monkeypatch.setattr(budget, "time_experiment", lambda *_: slow)
    write_pictures(here / "photos", 8, size=8)
    outcome = run("new", "photos", "--from", "photos", "--budget", "1h", "--steps", "5000", *CPU)
    assert "warning: the training exceeds the budget of 1h; for one that fits, leave out --steps" in outcome.err
    assert resolve("photos").experiment.steps == 5_000


def test_without_a_timing_a_small_training_is_written_and_that_is_said(here: Path) -> None:
    write_pictures(here / "my photos", 60, size=32)
    outcome = new("small", "--from", "my photos")
    assert outcome.err.count("nothing was timed (--no-timing)") == 1
    text = (here / "experiments" / "small.py").read_text()
    assert "width 32 instead of 128, steps 3,000 instead of 5,000" in text
    small = resolve("small").experiment
    assert (small.model.width, small.steps, small.batch_size) == (32, 3_000, 32)
    words = ("new", "small-published", "--from", "my photos", "--budget", "none", "--no-timing", *CPU)
    assert run(*words).code == 0
    published = resolve("small-published").experiment
    assert (published.model.width, published.steps) == (128, 5_000)


# --------------------------------------------------------------------------------------------- what it looks at


@pytest.mark.parametrize(("sides", "expected"), [([31] * 10, 30), ([200] * 19 + [20], 64), ([200] * 8 + [20] * 2, 20)])
def test_the_size_is_that_of_nearly_all_pictures_and_64_at_most(here: Path, sides: list[int], expected: int) -> None:
    for number, side in enumerate(sides):
        write_pictures(here / "photos" / str(number), 1, size=side, seed=number)
    data = made("photos", "--from", "photos").data
    assert data.image_size == expected


def test_arrays_get_their_range_and_a_size_that_the_network_takes(here: Path) -> None:
    pixels = np.random.default_rng(0).integers(-1000, 3131, (60, 27, 27), dtype=np.int16)
    np.savez(here / "x.npz", pictures=pixels, labels=np.arange(len(pixels)))
    data = made("x", "--from", "x.npz").data
    assert isinstance(data, Arrays)
    assert (data.low, data.high, data.image_size, data.random_crop) == (-1000.0, 3130.0, 26, 27)


def test_broken_pictures_are_all_named_or_skipped_and_what_is_not_read_is_written_down(here: Path) -> None:
    write_pictures(here / "photos", 12)
    Image.new("P", (12, 12)).save(here / "photos" / "a.gif")
    (here / "photos" / "logo.svg").write_bytes(b"<svg/>")
    for name in ("bad.png", "cut.webp"):
        (here / "photos" / name).write_bytes(b"no picture")
    outcome = new("photos", "--from", "photos")
    assert outcome.code == 1
    for name in ("bad.png", "cut.webp", "--on-error skip"):
        assert name in outcome.err
    assert not (here / "experiments").exists()
    outcome = new("photos", "--from", "photos", "--on-error", "skip").done()
    assert outcome.err.count("2 of 15 pictures cannot be used") == 1
    data = resolve("photos").experiment.data
    assert data == Images(root="photos", image_size=12, transform="rescaled", on_error="skip", gif=True)
    assert "# In the folder or zip, 1 file was not read: 1 .svg.\n" in (here / "experiments/photos.py").read_text()


# --------------------------------------------------------------------------------------------- what is refused


def test_nothing_is_overdeclared(here: Path) -> None:
    write_pictures(here / "photos", 8)
    (here / "experiments").mkdir()
    (here / "experiments" / "mine.py").write_text("mine = 1\n")
    for name in ("mine", "digits"):
        outcome = new(name, "--from", "photos")
        assert (outcome.code, outcome.out) == (2, "")
        assert "already" in outcome.err
    assert (here / "experiments" / "mine.py").read_text() == "mine = 1\n"
    (here / "out").mkdir()
    (here / "out" / "link.py").symlink_to("nowhere.py")
    assert "already exists" in new("link", "--from", "photos", "--out", "out").err
    assert not (here / "out" / "nowhere.py").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("mine", "--from", "nowhere"), "--from nowhere does not exist, here or in data"),
        (("mine", "--from", "photos", "--size", "9"), "a multiple of 2, such as 8 or 10"),
        (("mine", "--from", "nowhere", "--budget", "1h30m"), "expected a time such as 90s, 30m, 2h or 1d"),
        (("mine", "--from", "photos", "--overlap", "1"), "--overlap must be"),
        (("../mine", "--from", "photos"), "cannot name an experiment"),
        (("mine", "--from", "array.npy", "--patches"), "--patches does not apply to arrays; leave it out"),
    ],
)
def test_what_cannot_be_is_one_clear_line(here: Path, words: tuple[str, ...], expected: str) -> None:
    write_pictures(here / "photos", 4)
    np.save(here / "array.npy", np.zeros((4, 8, 8), np.uint8))
    outcome = new(*words)
    assert outcome.code == 2
    assert expected in outcome.err
    assert outcome.err.count("error: ") == 1
    assert not (here / "experiments").exists()


# --------------------------------------------------------------------------------------------- the text

PRINTABLE = st.characters(exclude_categories=("C", "Z"), include_characters=" ")


@settings(deadline=None, max_examples=30)
@given(st.text(PRINTABLE | st.sampled_from("\"'\\#(){}"), min_size=1, max_size=400), st.booleans())
def test_no_name_of_a_file_changes_what_is_registered(name: str, exact: bool) -> None:
    data = Images(root=name, image_size=28)
    found = survey(data, images=900 if exact else 60_000)
    hostile = attrs.evolve(found.distances, names=(name, f"x\n)\nimport os  # {name}"))
    text = experiment_source(attrs.evolve(found, distances=hostile))
    with tempfile.TemporaryDirectory() as folder:
        assert unstructure(loaded(text, Path(folder))) == unstructure(found.experiment)
    assert [type(node).__name__ for node in ast.parse(text).body] == ["Expr", "ImportFrom", "Assign"]


@pytest.mark.parametrize(("size", "images", "name"), [(8, 2, "2cats"), (28, 60_000, "class"), (256, 3_000_000, "a.b")])
@pytest.mark.parametrize("network", ["ncsnv2", "unet"])
def test_what_was_proposed_is_written(size: int, images: int, name: str, network: Network, tmp_path: Path) -> None:
    for data in (
        Images(root="photos", image_size=size, random_crop=size + 8, on_error="skip"),
        Arrays(path="x.npy", image_size=size, channels=7, low=-1024.0, high=3071.5),
        Packed(path="p.ncsnx", image_size=size, channels=1),
    ):
        usual = survey(data, name, images, network)
        for found in (usual, reduced(usual, network, 0), reduced(usual, network, 30)):
            text = experiment_source(found)
            assert dict(flatten(unstructure(loaded(text, tmp_path)))) == dict(flatten(unstructure(found.experiment)))


def reduced(found: Survey, network: Network, steps: int) -> Survey:
    """The survey of a smaller training; steps: 0 for an untimed one."""
    data = found.experiment.data
    assert isinstance(data, Images | Arrays | Packed)
    scale = Scale(width=16, batch_size=2, steps=steps or 3_000)
    experiment = propose(found.experiment.name, data, found.plan, 900, scale, network)
    budget_s = 7_200.0 if steps else None
    made_from = Fit(data=data, scale=scale, budget_s=budget_s, reductions=[("width", "16", "128")])
    return attrs.evolve(found, experiment=experiment, fit=made_from)


# --------------------------------------------------------------------------------------------- the choices


@pytest.mark.parametrize(
    ("size", "model", "width", "batch"),
    [
        (28, NCSNv2, 32, 128),
        (32, NCSNv2, 128, 128),
        (64, NCSNv2, 128, 128),
        (68, NCSNv2Deeper, 128, 128),
        (128, NCSNv2Deeper, 128, 128),
        (136, NCSNv2Deepest, 128, 32),
        ((200, 8), NCSNv2Deeper, 128, 32),  # the deepest one halves its images more often
        ((4, 200), NCSNv2, 128, 32),
    ],
)
def test_network_and_batch_follow_the_size(size: ImageSize, model: type, width: int, batch: int) -> None:
    experiment = propose("x", Images(root="x", image_size=size), plan(64), 50_000)
    assert (type(experiment.model), experiment.model.width, experiment.batch_size) == (model, width, batch)


def test_small_images_get_a_preconditioned_unet_unless_the_published_network_is_asked_for(here: Path) -> None:
    write_pictures(here / "photos", 12, size=16)
    outcome, experiment = new("photos", "--from", "photos"), resolve("photos").experiment
    assert isinstance(experiment.model, UNet)
    assert isinstance(experiment.schedule, LogNormal)
    assert "sampler=dpmpp with steps=17 gives Gaussian data 104 to 108 % of its variance" in outcome.err
    assert (experiment.loss.weighting, experiment.data.transform) == ("edm", "rescaled")
    assert experiment.decay == CosineDecay(steps=experiment.steps)
    assert isinstance(experiment.sampler, DPMSolverPP)
    assert experiment.sampler.grid.sigma_max == experiment.schedule.sigma_max  # type: ignore[attr-defined]
    assert isinstance(made("published", "--from", "photos", "--model", "ncsnv2").model, NCSNv2)
    write_pictures(here / "large", 3, size=40)
    assert isinstance(made("large", "--from", "large").model, NCSNv2)


def test_folders_become_classes_where_each_has_enough_pictures(here: Path) -> None:
    for name in ("cats", "dogs"):
        write_pictures(here / "photos" / name, 120, size=8)
        write_pictures(here / "few" / name, 12, size=8)
    outcome = new("photos", "--from", "photos")
    assert resolve("photos").experiment.model.classes == 2
    assert "conditional on 2 classes; without: model.classes=0" in outcome.err
    assert "the data has 2 classes, not used" in new("few", "--from", "few").err
    assert resolve("few").experiment.model.classes == 0


@pytest.mark.parametrize("width", [4, 48])
@pytest.mark.parametrize("size", [(1, 1), (12, 20), (31, 32), (64, 48)])
def test_a_proposed_unet_takes_images_of_its_size(size: tuple[int, int], width: int) -> None:
    scale = Scale(width=width, batch_size=1, steps=1)
    experiment = propose("x", Images(root="x", image_size=size), plan(32), 900, scale, "unet")
    network = untrained(experiment)
    assert score_of(network.scaled_score, torch.zeros(1, 3, *size), 0.5).isfinite().all()


def test_a_wide_unet_has_the_published_stages() -> None:
    assert unet_for((32, 32), 128) == UNet(width=128, multipliers=(2, 2, 2), blocks=4, attention=(16,))
    assert unet_for((64, 64), 128) == UNet(width=128, multipliers=(1, 2, 2, 2), blocks=4, attention=(16,))
    assert [unet_for((side, 96), 128).attention for side in (28, 40, 33)] == [(14,), (10,), ()]


def plan(size: int) -> NoisePlan:
    return plan_noise(3 * size**2, 50.0)


def test_published_sets_get_their_published_steps_and_small_ones_fewer_and_batches_that_they_fill() -> None:
    assert usual_steps(32, 50_000, 128) == 300_000
    assert usual_steps(96, 126_227, 128) == 200_000
    assert usual_steps(256, 63_000, 32) == 80_000
    experiment = propose("x", Images(root="x", image_size=28), plan(28), 1_800)
    assert experiment.steps == 11_000  # 768 times 1,800 images in batches of 128: 10,800
    assert propose("x", Images(root="x", image_size=28), plan(28), 50).batch_size == 32


@given(st.floats(1e-3, 1e4))
def test_a_rounded_sigma_is_never_below_the_distance(value: float) -> None:
    assert value <= rounded_up(value, 4) <= value * 1.001


@given(st.integers(1, 300))
def test_a_fitting_size_is_one_that_its_network_takes(size: int) -> None:
    fitting = fitting_size(size)
    assert fitting == fitting_size(fitting)
    assert size - 8 < fitting <= max(size, 4)


def test_a_path_is_relative_within_the_current_folder_only(here: Path) -> None:
    assert declared(Path("a/../b")) == "b"
    assert declared(here / "photos") == "photos"
    assert declared(Path("..")) == str(here.parent)
    assert declared(Path("~odd")) == "./~odd"  # which isn't the home of a user `odd`
    assert declared(Path()) == "."
