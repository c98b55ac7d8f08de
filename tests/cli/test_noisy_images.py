"""Commands on noisy images: what a run of them says, knows and refuses."""

import json
from pathlib import Path

import attrs
import numpy as np
import pytest
from PIL import Image

import ncsnx
from ncsnx.config import NCSN, Arrays, Augmentation, CelebA, Digits, Images, Loss, UNet
from ncsnx.config.checks import FieldError
from ncsnx.config.discovery import resolve
from ncsnx.config.loading import load_file
from ncsnx.runs.folder import Run
from tests.cli.command import run
from tests.config.examples import minimal
from tests.training.tiny import CPU, command, overrides

NOISE = 51
DATA = ("data=arrays", "data.path=x.npy", "data.image_size=8", "data.transform=rescaled", f"data.noise={NOISE}")
RANGE = ("data.low=-200", "data.high=455")
SIGMA = 2 * NOISE / 655
"""The noise in the range of the network."""
ENDS = (f"schedule.sigma_min={SIGMA:.6g}", "snapshots=none")
QUIETLY = ("--no-report", *CPU)


def fields(count: int, side: int, noise: float, seed: int = 0) -> np.ndarray:
    """Smooth fields from 67 to 187 with noise, (count, side, side)."""
    generator = np.random.default_rng(seed)
    phases = generator.uniform(0, 2 * np.pi, (count, 2, 1, 1))
    rows, columns = 4 * np.mgrid[:side, :side] / side
    clean = 127 + 60 * np.sin(rows + phases[:, 0]) * np.cos(columns / 2 + phases[:, 1])
    return clean + noise * generator.standard_normal(clean.shape)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with x.npy, 400 fields with noise of 51 of 255, y.npy, one of them, and the run digits trained on x."""
    folder = tmp_path_factory.mktemp("noisy")
    noisy = np.rint(fields(400, 8, NOISE)).clip(-200, 455)
    np.save(folder / "x.npy", noisy.astype("i2"))
    np.save(folder / "y.npy", fields(1, 8, NOISE, seed=1)[0].clip(0, 255).astype("f4"))
    command("train", "digits", *overrides(*DATA, *RANGE, *ENDS, "steps=4"), *QUIETLY, folder=folder).done()
    return folder


def test_a_run_of_noisy_images_has_their_noise_in_its_space_and_its_model_ends_there(copied: Path) -> None:
    run_of = Run(copied / "runs" / "digits")
    assert run_of.space().noise == pytest.approx(SIGMA)
    assert f"of it σ = {SIGMA:.4g} is in the data, and the rest is added" in run_of.log_path.read_text()
    sampled = run("sample", "digits", "--n", "2", *CPU).done()
    assert f"images with noise of σ = {SIGMA:.4g} in its range, where samples end: each is the mean" in sampled.err
    as_they_are = run("sample", "digits", "--n", "2", "sampler.denoise=false", *CPU).done()
    assert "where samples end: they have that noise" in as_they_are.err
    for below in ("sampler=heun", "sampler=cas"):
        refused = run("sample", "digits", "--n", "2", below, "sampler.grid.sigma_min=0.01", *CPU)
        assert refused.code == 1
        assert "so it knows no σ below: not 0.01.\n  let the sampler end there:" in refused.err
    exported = run("export", "digits", "--out", "model", *CPU).done()
    assert exported.code == 0
    card = (copied / "model" / "README.md").read_text()
    assert "Noisy images: the model learned from images with noise" in card
    assert ncsnx.load(copied / "model").space.noise == pytest.approx(SIGMA)


def test_a_picture_is_denoised_by_one_evaluation_at_the_noise_of_the_data(copied: Path) -> None:
    denoised = run("restore", "digits", "--denoise", "y.npy", *CPU).done()
    noise = f"{NOISE / 655:.3g} ({255 * NOISE / 655:.1f} of 255)"
    assert f"noise: {noise}, as in the training images; estimate that of the picture:" in denoised.err
    assert denoised.err.endswith("1 evaluation\n"), "no alternatives are offered"
    with_noise = run("restore", "digits", "--denoise", "y.npy", "--noise", "0.03", *CPU)
    assert with_noise.code == 2
    assert f"this model knows noise from {NOISE / 655:.3g} to" in with_noise.err
    estimated = run("restore", "digits", "--denoise", "y.npy", "--noise", "auto", *CPU).done()
    assert "estimated" in estimated.err
    several = run("restore", "digits", "--denoise", "y.npy", "--n", "2", *CPU)
    assert "a picture with just that noise has a mean, but no alternatives:" in several.err


def test_losses_and_likelihoods_say_that_they_are_of_noisy_images_and_distances_are_refused(copied: Path) -> None:
    loss = json.loads(run("loss", "digits", "--json", *CPU).done().out)
    assert f"with noise of σ = {SIGMA:.4g} of their own" in json.dumps(loss, ensure_ascii=False)
    assert all(np.isfinite(value) for value in loss["rows"][0]["levels"])
    likelihood = run("likelihood", "digits", "--n", "2", *CPU).done()
    assert f"with noise of σ = {SIGMA:.4g}, a density of noisy images" in likelihood.err + likelihood.out
    distance = run("fid", "digits", "--n", "10", "--features", "classifier", *CPU)
    assert distance.code == 2
    assert "samples have none" in distance.err
    assert "compare with clean images:" in distance.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("data.noise=-1",), "data.noise: must be a finite number >= 0, not -1.0"),
        (("data.noise=0.2",), "data.noise=0.2 is more than the images have, at most 0.1: they are clean"),
        (("data.noise=0.2", "data.transform=logit"), "data.noise: must be 0 for transform=logit"),
        (("data.noise=0.05",), "is σ = 0.05 in the range of the network, below which nothing can be learned"),
        (("data.noise=0.05", "schedule.sigma_max=0.04"), "expected less than σ_1, schedule.sigma_max=0.04"),
        (("data.noise=0.05", "model=ncsn"), "model: must take any σ for noisy images"),
    ],
)
def test_noise_that_cannot_be_is_refused_in_a_sentence(here: Path, words: tuple[str, ...], said: str) -> None:
    refused = run("train", "digits", *overrides("snapshots=none", *words), *QUIETLY)
    assert refused.code in (1, 2)
    assert said in " ".join(refused.err.split())
    assert "Traceback" not in refused.err


def test_what_changes_noise_is_refused_with_it() -> None:
    pictures = Images(root="x", image_size=8, patches=True, noise=0.1)
    with pytest.raises(FieldError, match=r"noise must be 0 for pictures that are resized.*found 0.1;.*patches=true"):
        attrs.evolve(pictures, patches=False)
    with pytest.raises(FieldError, match=r"gain must be 0 for pictures that are resized.*found 2"):
        CelebA(gain=2)
    with pytest.raises(FieldError, match=r"scales must be 1 with noise=0.1"):
        attrs.evolve(pictures, scales=(1.0, 0.5))
    with pytest.raises(FieldError, match=r"augmentation must be none for noisy images"):
        attrs.evolve(minimal(), data=Digits(noise=0.1), model=UNet(width=4), augmentation=Augmentation())
    with pytest.raises(FieldError, match=r"model must take any σ for noisy images"):
        attrs.evolve(minimal(), data=Digits(noise=0.1), model=NCSN(width=4))


def test_a_loss_that_does_not_take_account_of_noise_is_refused_with_it() -> None:
    class Squared(Loss):
        """Inherits what `Loss` says."""

    with pytest.raises(FieldError, match=r"loss needs clean images; of noisy ones only score-matching learns"):
        attrs.evolve(minimal(), data=Digits(noise=0.1), loss=Squared())


def new(*words: str) -> str:
    outcome = run("new", *words, "--no-timing", "--threads", "1", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    return outcome.err


def test_an_experiment_on_noisy_images_has_their_noise_and_the_reason(here: Path) -> None:
    """For 24 pictures of 64×64, the estimate of the noise has an error of at most 3 %."""
    np.save("x.npy", fields(24, 64, 20).astype("f4"))
    new("given", "--from", "x.npy", "--noise", "20")
    experiment = resolve("given").experiment
    assert isinstance(experiment.data, Arrays)
    assert experiment.data.noise == 20
    scale = experiment.data.scale
    assert scale is not None
    assert experiment.schedule.sigma_min == pytest.approx(20 / scale, rel=1e-5)
    assert "have noise, data.noise=20 (as given)" in " ".join(
        Path("experiments/given.py").read_text().replace("#", "").split()
    )
    np.save("few.npy", fields(3, 32, 20).astype("f4"))
    assert "estimated from 2 images; if" in new("few", "--from", "few.npy", "--noise", "auto"), "no error is known"
    said = new("found", "--from", "x.npy", "--noise", "auto")
    data = resolve("found").experiment.data
    assert data.noise == pytest.approx(20, rel=0.05)
    assert f"noise: {data.noise:g}, estimated from 23 images, with a standard error of 0.0" in said
    assert "without their noise" in said
    planned = run("plan", "given", "--no-timing").done()
    assert f"to σ_L = {experiment.schedule.sigma_min:g}" in planned.out


def test_noisy_pictures_are_cut_into_patches_and_clean_ones_have_no_noise(here: Path) -> None:
    for name, noise in (("noisy", 12.0), ("clean", 0.0)):
        Path(name).mkdir()
        for number, field in enumerate(fields(12, 96, noise)):
            Image.fromarray(np.rint(field).astype("u1")).save(f"{name}/{number}.tif")
    new("pictures", "--from", "noisy", "--noise", "auto", "--size", "32")
    (registered,) = load_file(Path("experiments/pictures.py")).registered
    data, model = registered.experiment.data, registered.experiment.model
    assert isinstance(data, Images)
    assert isinstance(model, UNet)
    assert model.dropout == 0.1
    assert data.patches
    assert data.noise == pytest.approx(12 / 255, rel=0.05)
    refused = run("new", "none", "--from", "clean", "--noise", "auto", "--no-timing")
    assert refused.code == 2
    assert "no noise is seen in the images" in refused.err
    assert "if they have some, say how much:  --noise STD" in refused.err
    negative = run("new", "none", "--from", "clean", "--noise", "-1", "--no-timing")
    assert "--noise must be a finite number >= 0, not -1.0" in negative.err
