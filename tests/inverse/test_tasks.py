"""A task has the measurement of a known truth: from pictures up to 8-bit rounding, from numbers exactly.

Frequencies with 0 in the middle become those of the image itself, for even and odd sizes.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ncsnx.errors import NcsnxError
from ncsnx.inverse import Task, colorize, deblur, inpaint, outpaint, reconstruct, super_resolve, with_truth
from ncsnx.inverse.measured_files import in_fft_order
from ncsnx.inverse.operators.coils import Sense
from ncsnx.inverse.operators.frequencies import Fourier
from ncsnx.space import Space
from tests.inverse.examples import blurred
from tests.spaces import unit_space

HALF_A_STEP = 0.5 / 255 + 1e-9
EXACT = 1e-6

Range = tuple[float, float]
Pixels = NDArray[np.float64]


def truths(channels: int, count: int, seed: int) -> Tensor:
    """Random pictures, (count, channels, 6, 8) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, 6, 8, dtype=torch.float64, generator=generator)


@contextmanager
def written(pictures: Tensor, values: Range | None) -> Iterator[Path]:
    """A folder of pictures (P, C, H, W) in [0, 1]: as PNGs, or as numbers with these values of black and white."""
    with tempfile.TemporaryDirectory() as name:
        for number, picture in enumerate(pictures):
            save(Path(name) / f"{number}", picture.permute(1, 2, 0).squeeze(2).numpy(), values)
        yield Path(name)


def save(path: Path, pixels: Pixels, values: Range | None) -> None:
    """Writes (H, W) or (H, W, C) in [0, 1] as a PNG, or as numbers with these values of black and white."""
    if values is None:
        Image.fromarray((255 * pixels).round().astype(np.uint8)).save(path.with_suffix(".png"))
    else:
        np.save(path.with_suffix(".npy"), values[0] + (values[1] - values[0]) * pixels)


def differences(task: Task, truth: Tensor) -> Tensor:
    """Absolute errors of the task's values, (P, M)."""
    return (task.values - task.operator.coefficients(truth)).abs()


each = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10_000)
counts = st.integers(1, 3)
ranges = st.sampled_from([None, (0.0, 1.0), (0.0, 16.0), (-5.0, 3.0)])


def channels_of(values: Range | None) -> st.SearchStrategy[int]:
    """Numbers of channels: 1 or 3 for PNGs, any for numbers."""
    return st.sampled_from([1, 3] if values is None else [1, 2, 3, 5])


def known(values: Range | None, truth: Tensor) -> Space:
    channels, height, width = truth.shape[1:]
    return attrs.evolve(unit_space(channels, height, width), own=values or (0.0, 1.0))


@each
@given(st.data(), ranges, counts, seeds)
def test_inpainting_holds_the_known_pixels(data: st.DataObject, values: Range | None, count: int, seed: int) -> None:
    truth = truths(data.draw(channels_of(values)), count, seed)
    hole = np.random.default_rng(seed).random((6, 8)) < 0.5
    with written(truth, values) as folder, tempfile.TemporaryDirectory() as other:
        mask = Path(other) / "mask"
        save(mask, hole.astype(float), values and (0.0, 1.0))
        suffix = ".png" if values is None else ".npy"
        task = inpaint(folder, mask.with_suffix(suffix), known(values, truth))
        task = with_truth(task, folder, known(values, truth), folder)
    assert float(differences(task, truth).max()) <= (HALF_A_STEP if values is None else EXACT)
    assert torch.equal(task.operator.images(torch.ones_like(task.values)).bool()[0, 0], torch.from_numpy(~hole))
    assert task.truth is not None
    torch.testing.assert_close(task.truth, truth.float(), atol=HALF_A_STEP, rtol=0)


def luma(truth: Tensor) -> Tensor:
    return 0.299 * truth[:, :1] + 0.587 * truth[:, 1:2] + 0.114 * truth[:, 2:]


TASKS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Path, Space], Task]]] = {
    "outpaint": (lambda x: x[:, :, 2:, 1:6], lambda folder, space: outpaint(folder, (1, 2), space)),
    "super-resolve": (lambda x: avg_pool2d(x, 2), lambda folder, space: super_resolve(folder, 2, space)),
    "colorize": (luma, colorize),
    **{
        f"deblur, {sigma}": (partial(blurred, sigma), lambda folder, space, sigma=sigma: deblur(folder, sigma, space))
        for sigma in (0.4, 0.8, 1.7)
    },
}
"""Measured pictures of a truth, and the task that is read from them."""


@pytest.mark.parametrize("name", TASKS)
@each
@given(st.data(), ranges, counts, seeds)
def test_a_task_has_a_measurement(name: str, data: st.DataObject, values: Range | None, count: int, seed: int) -> None:
    truth = truths(3 if name == "colorize" else data.draw(channels_of(values)), count, seed)
    measure, read = TASKS[name]
    pictures = measure(truth)
    with written(pictures, values) as folder:
        task = read(folder, known(values, truth))
    # a frequency sums the rounding errors of all pixels with weights whose squares sum to 1
    pixels = 6 * 8 if name.startswith("deblur") else 1
    rounding = HALF_A_STEP * math.sqrt(pixels) if values is None else EXACT
    assert bool((differences(task, truth) <= rounding / task.operator.singular_values).all())
    assert task.values.numel() == pictures.numel() or name == "deblur, 1.7", "which leaves no high frequencies"


@each
@given(st.sampled_from([(0.0, 1.0), (0.0, 16.0), (-5.0, 3.0)]), st.sampled_from([1, 2]), counts, seeds)
def test_measuring_holds_the_frequencies(values: Range, channels: int, count: int, seed: int) -> None:
    truth = truths(channels, count, seed)
    numbers = values[0] + (values[1] - values[0]) * truth.numpy()
    images = numbers[:, 0] + 1j * numbers[:, 1] if channels == 2 else numbers[:, 0]
    mask = np.random.default_rng(seed).random((6, 8)) < 0.4
    mask[2, 3] = True
    kspace = np.where(mask, np.fft.fft2(images, norm="ortho"), np.nan)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "kspace.npz"
        np.savez(path, kspace=kspace, mask=mask)
        task = reconstruct(path, known(values, truth))
    assert task.values.shape[0] == count
    assert float(differences(task, truth).max()) <= EXACT
    assert task.values.shape[1] >= channels * int(mask.sum())


AXES = (-2, -1)


def coil_images(size: tuple[int, int], seed: int) -> NDArray[np.complex128]:
    """Two images of two coils."""
    generator = np.random.default_rng(seed)
    return 1 + 0.3 * (generator.normal(size=(2, 2, *size)) + 1j * generator.normal(size=(2, 2, *size)))


def centered(x: NDArray[Any]) -> NDArray[Any]:
    """fastMRI's transform."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes=AXES), norm="ortho"), axes=AXES)


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(0, 1_000))
def test_centered_frequencies_and_masks_are_put_in_order(size: tuple[int, int], seed: int) -> None:
    x = coil_images(size, seed)
    mask = np.random.default_rng(seed).random(size) < 0.5
    given_kspace = np.where(np.fft.fftshift(mask), centered(x), 0)
    kspace, known = in_fft_order(given_kspace, np.fft.fftshift(mask), True)
    assert np.array_equal(known, mask)
    np.testing.assert_allclose(kspace[..., mask], np.fft.fft2(x, norm="ortho")[..., mask], atol=1e-12)


@pytest.mark.parametrize("shape", [(8,), (1, 8)])
def test_a_mask_of_columns_holds_for_all_rows(tmp_path: Path, shape: tuple[int, ...]) -> None:
    columns = np.arange(8) < 3
    kspace = np.fft.fft2(coil_images((9, 8), 0)[:, 0], norm="ortho")
    np.savez(tmp_path / "k.npz", kspace=kspace, mask=columns.reshape(shape))
    operator = reconstruct(tmp_path / "k.npz", unit_space(2, 9, 8)).operator
    assert isinstance(operator, Fourier)
    assert np.array_equal(operator.measured.numpy(), np.tile(columns, (9, 1)))


def test_each_picture_may_have_a_mask_of_its_own(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((3, 9, 8)) < 0.5
    kspace = np.fft.fft2(np.concatenate([coil_images((9, 8), seed)[:, 0] for seed in range(3)])[:3], norm="ortho")
    coils = np.repeat(kspace[:, None], 2, axis=1)
    maps = np.full((2, 9, 8), 0.5**0.5, dtype=np.complex64)
    np.savez(tmp_path / "k.npz", kspace=coils, mask=masks, maps=maps)
    operator = reconstruct(tmp_path / "k.npz", unit_space(2, 9, 8)).operator
    assert isinstance(operator, Sense)
    assert np.array_equal(operator.mask.numpy(), masks)
    np.savez(tmp_path / "k.npz", kspace=coils, mask=masks[:2], maps=maps)
    with pytest.raises(NcsnxError, match="kspace is of 3 pictures, mask of 2"):
        reconstruct(tmp_path / "k.npz", unit_space(2, 9, 8))


def test_energy_in_the_middle_is_refused_unless_the_order_is_said() -> None:
    kspace, mask = centered(coil_images((16, 12), 0)), np.ones((2, 16, 12))
    with pytest.raises(NcsnxError, match=r"expected frequency 0 of kspace first.*in the middle") as refused:
        in_fft_order(kspace, mask, None)
    assert [hint.adds for hint in refused.value.hints] == ["centered=True", "centered=False"]
    assert in_fft_order(kspace, mask, False)[0] is kspace


def of_a_photograph(noise: float, sigma: float) -> NDArray[np.uint8]:
    """A blurred picture of smooth shapes with edges, (96, 96, 3)."""
    rows, columns = np.indices((96, 96)) / 96
    bands = [0.3 + 0.3 * rows + 0.3 * ((columns - 0.5) ** 2 + (rows - 0.4) ** 2 < 0.01 * k) for k in (5, 7, 9)]
    picture = blurred(sigma, torch.from_numpy(np.stack(bands))[None])[0].permute(1, 2, 0).numpy()
    noisy = picture + noise * np.random.default_rng(0).standard_normal(picture.shape)
    return (255 * noisy.clip(0, 1)).round().astype(np.uint8)


@pytest.mark.parametrize("noise", [0, 3, 8])
def test_deblurring_finds_the_noise_of_the_blurred_picture(tmp_path: Path, noise: float) -> None:
    Image.fromarray(of_a_photograph(noise / 255, 2)).save(tmp_path / "blurred.png")
    task = deblur(tmp_path / "blurred.png", 2, unit_space(3, 96, 96))
    assert task.noise == pytest.approx(max(noise, 1 / math.sqrt(12)) / 255, rel=0.15)
    assert "estimated" in task.remarks[0]
    assert f"{255 * task.largest_noise:.1f} of 255" in task.remarks[0]


def test_deblurring_a_jpeg_counts_what_its_tables_lose(tmp_path: Path) -> None:
    file = tmp_path / "blurred.jpg"
    noises = []
    for quality in (95, 85, 60):
        Image.fromarray(of_a_photograph(0, 2)).save(file, quality=quality)
        task = deblur(file, 2, unit_space(3, 96, 96))
        noises.append(task.largest_noise)
        assert "by the tables of the JPEG" in task.remarks[0]
    assert 1 / 255 < noises[0] < noises[1] < noises[2] < 0.05


def test_deblurring_takes_the_noise_that_is_said(tmp_path: Path) -> None:
    Image.fromarray(of_a_photograph(3 / 255, 2)).save(tmp_path / "blurred.png")
    task = deblur(tmp_path / "blurred.png", 2, unit_space(3, 96, 96), noise=0.02)
    assert (task.noise, task.remarks) == (0.02, ())
    np.save(tmp_path / "blurred.npy", of_a_photograph(3 / 255, 2) / 255)
    unbounded = attrs.evolve(unit_space(3, 96, 96), bounded=False)
    assert deblur(tmp_path / "blurred.npy", 2, unbounded).noise == 0
