"""`ncsnx restore --measure` of coils, rays and matrices, rules, and samples that start below the first level."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import ncsnx
from ncsnx.inverse import Radon, simulated_maps
from tests.cli.drawing import draw, drawn, error
from tests.storage.matlab import matlab_73
from tests.training.tiny import CPU, command

NOISE = 0.02


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
    np.savez(workplace / "coils.npz", kspace=kspace, mask=mask, maps=maps)
    np.savez(workplace / "no-maps.npz", kspace=kspace, mask=mask)
    np.save(workplace / "maps.npy", maps)
    np.savez(workplace / "narrow.npz", kspace=kspace, mask=mask, maps=maps[:, :6])
    np.savez(workplace / "few.npz", kspace=kspace, mask=mask, maps=maps[:2])
    np.savez(workplace / "other-mask.npz", kspace=kspace, mask=mask[:6], maps=maps)
    np.savez(workplace / "nan.npz", kspace=np.where(mask == 1, np.nan, kspace), mask=mask, maps=maps)
    np.savez(workplace / "large.npz", kspace=1000 * kspace, mask=mask, maps=maps)
    np.savez(workplace / "rays.npz", sinogram=sinogram, angles=np.array([0.0, 45.0, 90.0, 135.0]))
    np.savez(workplace / "few-angles.npz", sinogram=sinogram, angles=np.array([0.0, 45.0]))
    np.savez(workplace / "matrix.npz", matrix=matrix, y=digits.reshape(2, 64) @ matrix.T)
    matlab_73(workplace / "columns.mat", {"matrix": matrix, "y": matrix @ digits[0].reshape(64, 1)})
    np.savez(workplace / "turned.npz", sinogram=sinogram.swapaxes(-1, -2), angles=np.array([0.0, 45.0, 90.0, 135.0]))
    np.savez(workplace / "wide-maps.npz", kspace=kspace, mask=mask, maps=maps.astype(">c8"))
    np.savez(workplace / "zeros.npz", matrix=0 * matrix, y=digits.reshape(2, 64) @ matrix.T)
    np.savez(workplace / "tall.npz", kspace=np.tile(kspace, (1, 1, 2, 1)), mask=mask, maps=maps)
    np.savez(workplace / "axes.npz", kspace=kspace[0].transpose(1, 2, 0), mask=mask)
    matlab_73(workplace / "rows.mat", {"kspace": kspace, "mask": np.ones((8, 1))})
    np.savez(workplace / "rows.npz", matrix=matrix, y=digits.reshape(2, 64)[:, :5])
    (workplace / "truth").mkdir()
    for number, digit in enumerate(digits):
        np.save(workplace / f"truth/{number}.npy", digit)
    return workplace


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("coils.npz", "--noise", NOISE), "cg"),
        (("no-maps.npz", "--maps", "maps.npy", "--noise", NOISE, "--rule", "dps"), "dps"),
        (("rays.npz", "--noise", NOISE), "cg"),
        (("matrix.npz",), None),
        (("matrix.npz", "--rule", "langevin", "--noise", NOISE), "langevin"),
    ],
    ids=str,
)
def test_images_agree_with_what_was_measured(measured: Path, words: tuple[object, ...], rule: str | None) -> None:
    """The network is barely trained, so only the measurement tells the images apart."""
    result = command("restore", "digits", "--measure", *map(str, words), "--n", "1", "--json", *CPU, folder=measured)
    assert result.code == 0, result.err
    assert ("rule: " in result.err) == (rule is not None)
    found = json.loads(result.out)
    assert found["task"].get("rule") == rule
    assert len(found["agreement"]["pictures"]) == 2
    plain = ncsnx.load(measured / "runs/digits")
    truth = torch.from_numpy(load_digits().images[:2] / 16).float()
    images = ncsnx.draw(plain, n=2)[:, 0]
    samples = torch.from_numpy(_samples(measured / found["folder"] / "samples.safetensors"))
    assert float((samples[:, 0] - truth).square().mean()) < float((images - truth).square().mean())


def _samples(path: Path) -> "np.typing.NDArray[np.float32]":
    from safetensors.numpy import load_file

    return load_file(path)["samples"]


def test_a_column_of_matlab_is_a_measurement(measured: Path) -> None:
    found = drawn(measured, "--measure", "columns.mat", "--n", "1")
    assert len(found) == 1
    torch.testing.assert_close(found, drawn(measured, "--measure", "matrix.npz", "--n", "1", out="two")[:1])


def test_maps_of_any_complex_type_are_the_same_maps(measured: Path) -> None:
    words = ("--noise", "0.1", "--n", "1")
    found = drawn(measured, "--measure", "wide-maps.npz", *words)
    torch.testing.assert_close(found, drawn(measured, "--measure", "coils.npz", *words, out="usual"))


def test_several_pictures_of_one_coil_may_be_several_coils(measured: Path) -> None:
    kspace = np.fft.fft2(load_digits().images[:2] / 16, norm="ortho")
    np.savez(measured / "two.npz", kspace=kspace, mask=np.ones((8, 8)))
    result = draw(measured, "--measure", "two.npz", "--n", "1")
    assert (
        "kspace: 2 pictures of one coil; if the first axis is that of coils, give their --maps, or --maps" in result.err
    )
    np.savez(measured / "own.npz", kspace=kspace, mask=np.ones((2, 8, 8)))
    refused = draw(measured, "--measure", "own.npz", "--n", "1", out="own")
    assert "array mask: expected zeros and ones of shape (8, 8) or (8,) or (1, 8), found" in error(refused)


def test_kspace_in_another_scale_is_warned_of(measured: Path) -> None:
    told = draw(measured, "--measure", "large.npz", "--n", "1").err
    assert "warning: largest difference from the measurement: " in told
    assert "check the values and the scale of the measurement" in told


def test_estimated_coil_maps_are_said(measured: Path) -> None:
    result = draw(measured, "--measure", "no-maps.npz", "--n", "1", "--noise", "0.1")
    assert result.code == 0
    assert "coil maps: estimated from the fully sampled centre" in result.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--measure", "narrow.npz"), r"expected complex numbers of shape (coils, 8, 8) or (P, coils, 8, 8), found"),
        (
            ("--measure", "few.npz"),
            "expected values (P, 2, 8, 8) for Sense, found (2, 3, 8, 8)",
        ),
        (("--measure", "other-mask.npz"), "of shape (8, 8) or (8,) or (1, 8) or (P, 8, 8), found"),
        (("--measure", "nan.npz"), "where mask is 1: found"),
        (("--measure", "few-angles.npz"), "expected values (P, 1, 2, 8) for Radon, found (2, 1, 4, 8)"),
        (("--measure", "turned.npz"), "expected values (P, 1, 4, 4) for Radon, found (2, 1, 8, 4)"),
        (
            ("--measure", "axes.npz", "--maps", "maps.npy"),
            "array kspace: expected complex numbers of shape",
        ),
        (("--measure", "rows.mat", "--maps", "maps.npy"), "array mask: expected zeros and ones of shape"),
        (("--measure", "tall.npz"), "; for images of that size add --size 16,8"),
        (("--measure", "zeros.npz"), "zeros.npz: a matrix of zeros measures nothing"),
        (("--measure", "rows.npz"), "matrix has 30 rows, but y has 5 values"),
        (("--measure", "rays.npz", "--maps", "maps.npy"), "--maps goes with frequencies (kspace)"),
        (("--measure", "coils.npz", "--rule", "exact"), "rule exact does not fit a linear map"),
        (("--measure", "coils.npz", "--rule", "best"), "--rule best does not fit a linear map"),
        (("--measure", "coils.npz", "--rule", "langevin", "sampler=cas"), "cannot be used with rule langevin"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_one_line(measured: Path, words: tuple[str, ...], told: str) -> None:
    assert told in error(draw(measured, *words, "--n", "1"))
    assert not (measured / "out").exists()
