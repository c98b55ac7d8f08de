"""`ncsnx restore --measure` of coils, rays and matrices, and of complex, unbounded data in its own values."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

import ncsnx
from ncsnx.data.readers.phantoms import phantoms
from ncsnx.inverse import Radon, simulated_maps
from ncsnx.inverse.posterior.maps import read_posterior
from ncsnx.sampling.sample_folder import samples_in
from tests.cli.drawing import draw, drawn, error
from tests.storage.matlab import matlab_73
from tests.training.tiny import CPU, command, training

NOISE = 0.02
QUICK = ("--n", "1", "sampler.steps=20")


@pytest.fixture
def measured(workplace: Path) -> Path:
    """A working folder with measurements of two digits."""
    digits = load_digits().images[:2] / 16
    maps = simulated_maps((8, 8), 3).numpy()
    mask = np.zeros((8, 8))
    mask[:, [0, 1, 2, 3, -1, -2, -3]] = 1
    kspace = np.fft.fft2(maps * digits[:, None], norm="ortho") * mask
    rays = Radon((1, 8, 8), [0.0, 45.0, 90.0, 135.0])
    sinogram = rays.apply(torch.from_numpy(digits)[:, None])[:, 0].numpy()
    matrix = np.random.default_rng(0).normal(size=(30, 64)) / 8
    np.savez(workplace / "coils.npz", kspace=kspace, mask=mask, maps=maps.astype(">c8"))
    np.savez(workplace / "no-maps.npz", kspace=kspace, mask=mask)
    np.save(workplace / "maps.npy", maps)
    np.savez(workplace / "few.npz", kspace=kspace, mask=mask, maps=maps[:2])
    np.savez(workplace / "nan.npz", kspace=np.where(mask == 1, np.nan, kspace), mask=mask, maps=maps)
    np.savez(workplace / "own-masks.npz", kspace=kspace[:, 0], mask=np.ones((2, 8, 8)))
    np.savez(workplace / "large.npz", kspace=1000 * kspace, mask=mask)
    np.savez(workplace / "rays.npz", sinogram=sinogram, angles=np.array([0.0, 45.0, 90.0, 135.0]))
    np.savez(workplace / "matrix.npz", matrix=matrix, y=digits.reshape(2, 64) @ matrix.T)
    matlab_73(workplace / "columns.mat", {"matrix": matrix, "y": matrix @ digits[0].reshape(64, 1)})
    np.savez(workplace / "zeros.npz", kspace=kspace, mask=0 * mask, maps=maps)
    np.savez(workplace / "tall.npz", kspace=np.tile(kspace, (1, 1, 2, 1)), mask=mask, maps=maps)
    return workplace


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("coils.npz", "--noise", NOISE), "cg"),
        (("no-maps.npz", "--maps", "maps.npy", "--noise", NOISE, "--rule", "dps"), "dps"),
        (("matrix.npz",), None),
    ],
    ids=str,
)
def test_images_agree_with_what_was_measured(measured: Path, words: tuple[object, ...], rule: str | None) -> None:
    """The network is barely trained, so only the measurement tells the images apart."""
    result = command("restore", "digits", "--measure", *map(str, words), *QUICK, "--json", *CPU, folder=measured).done()
    assert ("rule: " in result.err) == (rule is not None)
    found = json.loads(result.out)
    assert found["task"].get("rule") == rule
    assert len(found["agreement"]["pictures"]) == 2
    plain = ncsnx.load(measured / "runs/digits")
    truth = torch.from_numpy(load_digits().images[:2] / 16).float()
    images = ncsnx.draw(plain, n=2)[:, 0]
    samples = samples_in(measured / found["folder"]).read("samples")
    assert float((samples[:, 0] - truth).square().mean()) < float((images - truth).square().mean())


def test_a_column_of_matlab_is_a_measurement(measured: Path) -> None:
    found = drawn(measured, "--measure", "columns.mat", *QUICK)
    assert len(found) == 1
    torch.testing.assert_close(found, drawn(measured, "--measure", "matrix.npz", *QUICK, out="two")[:1])


def test_frequencies_with_0_in_the_middle_give_the_same_images(measured: Path) -> None:
    digits, axes = load_digits().images[:2] / 16, (-2, -1)
    centered = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(digits, axes=axes), norm="ortho"), axes=axes)
    np.savez(measured / "first.npz", kspace=np.fft.fft2(digits, norm="ortho"), mask=np.ones((8, 8)))
    np.savez(measured / "middle.npz", kspace=centered, mask=np.ones((8, 8)))
    result = draw(measured, "--measure", "first.npz", *QUICK)
    assert "if the first axis is that of coils, give their --maps" in result.err
    images = samples_in(measured / "out").read("samples")
    again = drawn(measured, "--measure", "middle.npz", "--centered", *QUICK, out="centered")
    torch.testing.assert_close(images, again, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["rays", "coils", "own-masks-are-one", "matrix"])
def test_a_noise_for_each_value_is_read_and_an_even_one_is_as_one_for_all(measured: Path, name: str) -> None:
    """A matrix mixes values, so its noisy values are followed by another rule."""
    digits = load_digits().images[:2] / 16
    if name == "own-masks-are-one":
        kspace = np.fft.fft2(digits, norm="ortho")
        np.savez(measured / f"{name}.npz", kspace=kspace, mask=np.ones((8, 8)))
    arrays = dict(np.load(measured / f"{name}.npz"))
    y = next(arrays[key] for key in ("sinogram", "kspace", "y") if key in arrays)
    np.savez(measured / "even.npz", **arrays, noise=np.full(y.shape[1:], NOISE))
    np.savez(measured / "uneven.npz", **arrays, noise=np.random.default_rng(0).uniform(0.02, 0.2, y.shape))
    rule = ("--rule", "cg") if name == "matrix" else ()
    one = drawn(measured, "--measure", f"{name}.npz", "--noise", str(NOISE), *rule, *QUICK)
    even = drawn(measured, "--measure", "even.npz", *rule, *QUICK, out="even")
    assert float((even - one).abs().median()) < 2e-3, "few pixels of a barely trained network depend on rounding"
    told = draw(measured, "--measure", "uneven.npz", *QUICK, "--json", out="uneven")
    noise = json.loads(told.out)["task"]["noise"]
    assert 0.02 < noise["least"] < noise["largest"] < 0.2
    both = draw(measured, "--measure", "even.npz", "--noise", "0.1", *QUICK, out="both")
    assert "has the noise of each value; leave --noise out" in error(both)


@pytest.mark.parametrize(
    ("shape", "value", "told"),
    [
        ((2, 8, 8), -0.1, "expected noise above 0, and finite, where mask is 1"),
        ((8, 8), 0.0, "expected noise above 0, and finite, where mask is 1"),
        ((3, 8, 8), 0.1, "kspace is of 2 pictures, noise of 3"),
        ((4, 4), 0.1, "noise"),
    ],
    ids=str,
)
def test_noise_that_does_not_fit_frequencies_is_refused(
    measured: Path, shape: tuple[int, ...], value: float, told: str
) -> None:
    kspace = np.fft.fft2(load_digits().images[:2] / 16, norm="ortho")
    np.savez(measured / "odd.npz", kspace=kspace, mask=np.ones((8, 8)), noise=np.full(shape, value))
    assert told in error(draw(measured, "--measure", "odd.npz", *QUICK))


def test_masks_of_pictures_go_with_the_noise_of_one(measured: Path) -> None:
    arrays = dict(np.load(measured / "coils.npz"))
    masks = np.stack([arrays["mask"], arrays["mask"]])
    np.savez(measured / "each.npz", **(arrays | {"mask": masks}), noise=np.full((3, 8, 8), NOISE))
    assert len(drawn(measured, "--measure", "each.npz", *QUICK)) == 2


def test_kspace_in_another_scale_is_warned_of(measured: Path) -> None:
    told = draw(measured, "--measure", "large.npz", *QUICK).err
    assert "warning: largest difference from the measurement: " in told
    assert "check the values and the scale of the measurement" in told
    assert "coil maps: estimated from the fully sampled center" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--measure", "few.npz"), "expected values (P, 2, 8, 8) for Sense, found (2, 3, 8, 8)"),
        (("--measure", "own-masks.npz"), "expected zeros and ones of shape (8, 8) or (8,) or (1, 8), found"),
        (("--measure", "nan.npz"), "where mask is 1: found"),
        (("--measure", "tall.npz"), "; for images of that size add --size 16,8"),
        (("--measure", "zeros.npz"), "expected mask to be 1 where kspace was measured and else 0, found only zeros"),
        (("--measure", "rays.npz", "--maps", "maps.npy"), "--maps goes with frequencies (kspace)"),
        (("--measure", "coils.npz", "--rule", "langevin", "sampler=cas"), "cannot be used with rule langevin"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_one_line(measured: Path, words: tuple[str, ...], told: str) -> None:
    assert told in error(draw(measured, *words, *QUICK))
    assert not (measured / "out").exists()


FAST = ("--n", "3", "sampler=cas", "sampler.steps=3")
LITTLE_NOISE = 0.01
COLUMNS = [0, 1, 2, 3, 5, 8, 11, 13, 14, 15]


def truths() -> NDArray[np.complex128]:
    """Two held-out phantoms, (2, 16, 16)."""
    real, imaginary = phantoms(torch.tensor([15, 31]), 16, 16, 0).double().numpy().swapaxes(0, 1)
    return real + 1j * imaginary


@pytest.fixture(scope="module")
def trained_of_phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, `digits`, of complex phantoms, and measurements of two more by three coils."""
    folder = tmp_path_factory.mktemp("phantoms")
    words = ("data=phantoms", "data.image_size=16", "data.count=32", "steps=1", "snapshots=none")
    command(*training(*words), folder=folder).done()
    maps = simulated_maps((16, 16), 3).numpy()
    mask = np.zeros(16, bool)
    mask[COLUMNS] = True
    kspace = np.fft.fft2(maps * truths()[:, None], norm="ortho")
    np.save(folder / "truth.npy", truths())
    np.savez(folder / "k.npz", kspace=np.where(mask, kspace, np.nan), mask=np.tile(mask, (16, 1)), maps=maps)
    return folder


@pytest.fixture
def complex_place(trained_of_phantoms: Path, tmp_path: Path) -> Path:
    """A copy of the folder."""
    return Path(shutil.copytree(trained_of_phantoms, tmp_path / "work"))


def test_coils_give_maps_distances_and_calibration_in_own_values(complex_place: Path) -> None:
    words = ["--measure", "k.npz", "--noise", f"{LITTLE_NOISE}", "--truth", "truth.npy", "--posterior", *FAST]
    result = draw(complex_place, *words)
    assert result.code == 0, result.err
    assert "in the data's own values" in result.err
    record = json.loads((complex_place / "out" / "task.json").read_text())
    samples = samples_in(complex_place / "out").read("samples").double().view(2, 3, 2, 16, 16)
    stored = load_file(complex_place / "out" / "posterior.safetensors")
    posterior = read_posterior(complex_place / "out" / "posterior.safetensors")
    assert posterior.magnitude is not None
    torch.testing.assert_close(posterior.magnitude.mean, stored["magnitude_mean"])
    magnitudes, truth = torch.hypot(samples[:, :, 0], samples[:, :, 1]), np.abs(truths())
    torch.testing.assert_close(stored["mean"].double(), samples.mean(dim=1), atol=1e-6, rtol=1e-5)
    for name, expected in (("mean", magnitudes.mean(dim=1)), ("deviation", magnitudes.std(dim=1))):
        torch.testing.assert_close(stored[f"magnitude_{name}"][:, 0].double(), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(stored["magnitude_quantile_50"][:, 0].double(), magnitudes.median(dim=1).values)
    for number, found in enumerate(record["pictures"]):
        assert found["range"] == pytest.approx(truth[number].max())
        image = torch.hypot(*samples[number].mean(dim=0)).numpy()
        mean_square = np.square(image - truth[number]).mean()
        assert found["psnr_of_mean"] == pytest.approx(10 * np.log10(truth[number].max() ** 2 / mean_square), abs=1e-3)
    means = np.mean([found["psnr_of_mean"] for found in record["pictures"]])
    assert f"mean of 2 pictures: PSNR {means:.1f} dB, SSIM" in result.err
    assert record["calibration"]["values"] == 2 * 2 * 16 * 16
    maps = simulated_maps((16, 16), 3).numpy()
    images = torch.complex(*samples.unbind(2)).numpy()
    kspace = np.fft.fft2(maps * images[:, :, None], norm="ortho")
    known = np.fft.fft2(maps * truths()[:, None], norm="ortho")[:, None]
    away = np.abs(kspace - known)[..., COLUMNS]
    assert record["misfit"] == pytest.approx(away.max(), rel=1e-3)
    with Image.open(complex_place / "out" / "grid.png") as grid:
        assert grid.width > 6 * 2 * 128
        assert np.asarray(grid.convert("HSV"))[..., 1].max() > 200  # the phase is colored
