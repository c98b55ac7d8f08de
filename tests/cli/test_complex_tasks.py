"""`ncsnx restore` on complex, unbounded data: from measured frequencies and arrays to maps in the data's own values."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

import ncsnx
from ncsnx.data.readers.phantoms import phantoms
from ncsnx.inverse.coils import simulated_maps
from tests.cli.drawing import draw, drawn, error
from tests.training.tiny import command, training

FAST = ("--n", "3", "sampler=cas", "sampler.steps=3")
NOISE = 0.01
COLUMNS = [0, 1, 2, 3, 5, 8, 11, 13, 14, 15]


def truths() -> NDArray[np.complex128]:
    """Two held-out phantoms, (2, 16, 16)."""
    real, imaginary = phantoms(torch.tensor([15, 31]), 16, 16, 0).double().numpy().swapaxes(0, 1)
    return real + 1j * imaginary


def centred(images: NDArray[Any]) -> NDArray[Any]:
    """fastMRI's Fourier transform of images."""
    axes = (-2, -1)
    spectrum = np.fft.fft2(np.fft.ifftshift(images, axes=axes), norm="ortho")
    return np.fft.fftshift(spectrum, axes=axes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, `digits`, of complex phantoms, and measurements of two more by three coils."""
    folder = tmp_path_factory.mktemp("phantoms")
    words = ("data=phantoms", "data.image_size=16", "data.count=32", "steps=1", "snapshots=none")
    found = command(*training(*words), folder=folder)
    assert found.code == 0, found.err
    maps = simulated_maps((16, 16), 3).numpy()
    mask = np.zeros(16, bool)
    mask[COLUMNS] = True
    kspace = np.fft.fft2(maps * truths()[:, None], norm="ortho")
    np.save(folder / "truth.npy", truths())
    np.save(folder / "maps.npy", maps)
    np.savez(folder / "k.npz", kspace=kspace, mask=np.tile(mask, (16, 1)), maps=maps)
    np.savez(folder / "one.npz", kspace=np.fft.fft2(truths(), norm="ortho"), mask=mask)
    np.savez(folder / "maps.npz", kspace=kspace, mask=mask, maps=maps[:, :12])
    np.savez(folder / "zeros.npz", kspace=kspace, mask=mask, maps=0 * maps)
    np.save(folder / "real.npy", truths()[0].real)
    Image.fromarray(np.tile(np.repeat(np.array([0, 255], "u1"), 8), (16, 1))).save(folder / "hole.png")
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """A copy of the folder."""
    return Path(shutil.copytree(trained, tmp_path / "work"))


def test_coils_give_maps_distances_and_calibration_in_own_values(place: Path) -> None:
    result = draw(place, "--measure", "k.npz", "--noise", f"{NOISE}", "--truth", "truth.npy", *FAST)
    assert result.code == 0, result.err
    assert "in the data's own values" in result.err
    record = json.loads((place / "out" / "task.json").read_text())
    samples = load_file(place / "out" / "samples.safetensors")["samples"].double().view(2, 3, 2, 16, 16)
    maps = load_file(place / "out" / "posterior.safetensors")
    magnitudes, truth = torch.hypot(samples[:, :, 0], samples[:, :, 1]), np.abs(truths())
    torch.testing.assert_close(maps["mean"].double(), samples.mean(dim=1), atol=1e-6, rtol=1e-5)
    for name, expected in (("mean", magnitudes.mean(dim=1)), ("deviation", magnitudes.std(dim=1))):
        torch.testing.assert_close(maps[f"magnitude_{name}"][:, 0].double(), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(maps["magnitude_quantile_50"][:, 0].double(), magnitudes.median(dim=1).values)
    for number, found in enumerate(record["pictures"]):
        assert found["range"] == pytest.approx(truth[number].max())
        image = torch.hypot(*samples[number].mean(dim=0)).numpy()
        mean_square = np.square(image - truth[number]).mean()
        assert found["psnr_of_mean"] == pytest.approx(10 * np.log10(truth[number].max() ** 2 / mean_square), abs=1e-3)
    means = np.mean([found["psnr_of_mean"] for found in record["pictures"]])
    assert f"mean of 2 pictures: PSNR {means:.1f} dB, SSIM" in result.err
    assert record["calibration"]["values"] == 2 * 2 * 16 * 16
    kspace = np.fft.fft2(simulated_maps((16, 16), 3).numpy() * _complex(samples)[:, :, None], norm="ortho")
    known = np.fft.fft2(simulated_maps((16, 16), 3).numpy() * truths()[:, None], norm="ortho")[:, None]
    away = np.abs(kspace - known)[..., COLUMNS]
    assert record["misfit"] == pytest.approx(away.max(), rel=1e-3)
    with Image.open(place / "out" / "grid.png") as grid:
        assert grid.width > 2 * 200 * 6 * 0.8
        assert np.asarray(grid.convert("HSV"))[..., 1].max() > 200  # the phase is coloured


def _complex(samples: torch.Tensor) -> NDArray[np.complex128]:
    real, imaginary = samples.unbind(-3)
    return torch.complex(real, imaginary).numpy()


@pytest.mark.slow
def test_a_file_in_the_layout_of_fastmri_gives_the_same_images(place: Path) -> None:
    h5py = pytest.importorskip("h5py")
    mask = np.zeros(16, bool)
    mask[COLUMNS] = True
    maps = simulated_maps((16, 16), 3).numpy()
    with h5py.File(place / "f.h5", "w") as file:
        file["kspace"] = centred(maps * truths()[:, None])
        file["mask"] = np.fft.fftshift(mask)
        file["reconstruction_rss"] = np.abs(truths())
        file["ismrmrd_header"] = "<x/>"
    words = ("--noise", f"{NOISE}", *FAST)
    theirs = drawn(place, "--measure", "f.h5", "--centred", "--maps", "maps.npy", *words)
    ours = drawn(place, "--measure", "k.npz", *words, out="ours")
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    estimated = draw(place, "--measure", "f.h5", "--centred", *words, out="estimated")
    assert "coil maps: estimated from the fully sampled centre" in estimated.err


def test_complex_pictures_are_inpainted(place: Path) -> None:
    words = ("--inpaint", "truth.npy", "--mask", "hole.png", "--truth", "truth.npy", *FAST)
    images = drawn(place, *words).view(2, 3, 2, 16, 16)
    known = torch.view_as_real(torch.from_numpy(truths())).movedim(-1, 1).float()[:, None].expand(-1, 3, -1, -1, -1)
    torch.testing.assert_close(images[..., :8], known[..., :8], atol=1e-5, rtol=1e-5)
    protocol = json.loads((place / "out" / "protocol.json").read_text())
    assert protocol["values"] == "own"


def test_python_restores_and_reads_the_magnitudes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    found = ncsnx.restore(
        "digits", measure="one.npz", noise=NOISE, n=2, sampler=ncsnx.config.ConsistentAnnealed(steps=4), progress=False
    )
    magnitude = found.maps().magnitude
    assert magnitude is not None
    assert magnitude.mean.shape == (2, 1, 16, 16)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--measure", "maps.npz"), "array maps: expected complex numbers of shape (coils, 16, 16)"),
        (("--measure", "zeros.npz"), "measures nothing"),
        (
            ("--inpaint", "hole.png", "--mask", "hole.png"),
            "this model's data is unbounded; give a .npy in the data's own",
        ),
        (
            ("--inpaint", "real.npy", "--mask", "hole.png"),
            "complex H×W, or real H×W×2, numbers, found float64 16×16",
        ),
        (("--measure", "k.npz", "--truth", "real.npy"), "expected a true picture as complex H×W"),
        (("--measure", "k.npz", "--noise", "-1"), "expected --noise >= 0, the standard deviation, found -1"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_what_does_not_fit_is_refused_in_one_line(place: Path, words: tuple[str, ...], complaint: str) -> None:
    result = draw(place, *words, *FAST)
    assert result.code in (1, 2)
    assert complaint in error(result)
    assert not (place / "out").exists()
