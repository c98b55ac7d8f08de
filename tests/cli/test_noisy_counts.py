"""Commands on images of counted photons: what a run of them says, restores and refuses."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ncsnx.config import Arrays
from ncsnx.config.discovery import resolve
from ncsnx.errors import UsageError
from ncsnx.space import Space
from tests.cli.command import run
from tests.cli.test_noisy_images import QUIETLY, fields, new
from tests.training.tiny import CPU, command, overrides

PHOTON, SPAN = 3.0, 60.0
SIGMA = Space.of(Arrays(path="x.npy", image_size=8, range="unbounded", scale=SPAN, gain=PHOTON)).noise
DATA = ("data=arrays", "data.path=x.npy", "data.image_size=8", "data.range=unbounded", f"data.scale={SPAN}")


def counts(count: int, side: int, seed: int) -> np.ndarray:
    """Fields of 7 to 19 photons, each of the value 3, (count, side, side) float32."""
    photons = np.random.default_rng(seed).poisson(fields(count, side, 0, seed) / 10)
    return (PHOTON * photons).astype("f4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with x.npy, 400 images of counts, y.npy, another one, and the run digits trained on x."""
    folder = tmp_path_factory.mktemp("counts")
    np.save(folder / "x.npy", counts(400, 8, seed=0))
    np.save(folder / "y.npy", counts(1, 8, seed=1)[0])
    words = overrides(*DATA, f"data.gain={PHOTON}", f"schedule.sigma_min={SIGMA:.6g}", "snapshots=none", "steps=4")
    command("train", "digits", *words, *QUIETLY, folder=folder).done()
    return folder


def test_counts_are_denoised_and_drawn_in_their_own_values(copied: Path) -> None:
    denoised = run("restore", "digits", "--denoise", "y.npy", "-o", "out.npy", *CPU).done()
    assert "noise: variance 3 · value, as in the training images\n" in denoised.err, "and no other is to be had"
    y, out = np.load("y.npy"), np.load("out.npy")
    assert abs(out.mean() - y.mean()) < 0.15 * y.mean()
    sampled = run("sample", "digits", "--n", "2", "--out", "drawn", *CPU).done()
    assert f"images with noise of σ = {SIGMA:.4g} in its range, where samples end" in sampled.err
    samples = load_file("drawn/samples-00000.safetensors")["samples"]
    assert samples.shape == (2, 1, 8, 8)
    assert 0 < samples.mean() < 3 * SPAN
    assert samples.max() > 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--denoise", "y.npy", "--noise", "2"), "denoises those with the same gain; leave out --noise and --gain"),
        (("--denoise", "y.npy", "--gain", "2"), "denoises those with the same gain; leave out --noise and --gain"),
        (("--inpaint", "y.npy", "--mask", "0,0,4,4"), "works on a form of counts (data.gain)"),
    ],
)
def test_what_a_model_of_counts_cannot_restore_is_refused(copied: Path, words: tuple[str, ...], said: str) -> None:
    refused = run("restore", "digits", *words, *CPU)
    assert refused.code in (1, 2)
    assert said in " ".join(refused.err.split())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("data.gain=-1",), "data.gain: must be a finite number >= 0"),
        (("data.gain=30", f"schedule.sigma_min={3 * SIGMA}"), "data.gain=30 is more than the images have, at most"),
        (("data.gain=3", "data.path=dark.npy"), "would have a negative variance with data.gain=3; subtract the offset"),
        (("data.gain=3", "data.range=bounded", "data.transform=logit"), "data.gain: must be 0 for transform=logit"),
        (("data.gain=3", "data.range=bounded", "data.low=-9", "data.scale=none"), "data.gain: counts from 0, not from"),
    ],
)
def test_a_gain_that_cannot_be_is_refused_in_a_sentence(copied: Path, changes: tuple[str, ...], said: str) -> None:
    np.save("dark.npy", np.load("x.npy") - 100)
    refused = run("train", "digits", *overrides(*DATA, "snapshots=none", *changes), "--run", "other", *QUIETLY)
    assert refused.code in (1, 2)
    assert said in " ".join(refused.err.split())
    assert "Traceback" not in refused.err


def test_an_experiment_on_counts_has_their_gain_and_the_reason(here: Path) -> None:
    """Of 24 pictures of 64×64, the estimated gain has an error of at most 10 %."""
    np.save("x.npy", counts(24, 64, seed=0))
    new("given", "--from", "x.npy", "--gain", "3")
    data = resolve("given").experiment.data
    assert (data.gain, data.noise) == (3, 0)
    reason = " ".join(Path("experiments/given.py").read_text().replace("#", "").split())
    assert "have noise, data.gain=3 (as given)" in reason
    assert "generalized Anscombe transform" in reason
    said = new("found", "--from", "x.npy", "--noise", "auto")
    found = resolve("found").experiment.data
    assert found.gain == pytest.approx(3, rel=0.1)
    assert f"noise: variance {found.gain:g} · value" in said
    dark = np.random.default_rng(0).normal(0, 5, (24, 64, 64))  # read noise, below 0 too
    np.save("whole.npy", np.rint(np.load("x.npy") + dark).astype("i2"))
    new("whole", "--from", "whole.npy", "--gain", "3", "--noise", "5")
    of_integers = resolve("whole").experiment.data
    assert (of_integers.is_bounded, of_integers.gain, of_integers.noise) == (False, 3, 5)
    refused = run("new", "both", "--from", "x.npy", "--noise", "auto", "--gain", "3", "--no-timing")
    assert refused.code == UsageError.exit_code
    assert "estimates shot noise too, so it takes no --gain" in refused.err
