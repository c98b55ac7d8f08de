"""Frequencies with 0 in the middle become those of the image itself, for even and odd sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ncsnx.errors import NcsnxError
from ncsnx.inverse.measured_files import in_fft_order, reconstruct
from ncsnx.inverse.operators import Fourier

AXES = (-2, -1)


def images(size: tuple[int, int], seed: int) -> NDArray[np.complex128]:
    """Two images of two coils."""
    generator = np.random.default_rng(seed)
    return 1 + 0.3 * (generator.normal(size=(2, 2, *size)) + 1j * generator.normal(size=(2, 2, *size)))


def centred(x: NDArray[Any]) -> NDArray[Any]:
    """fastMRI's transform."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes=AXES), norm="ortho"), axes=AXES)


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(0, 1_000))
def test_centred_frequencies_and_masks_are_put_in_order(size: tuple[int, int], seed: int) -> None:
    x = images(size, seed)
    mask = np.random.default_rng(seed).random(size) < 0.5
    given_kspace = np.where(np.fft.fftshift(mask), centred(x), 0)
    kspace, known = in_fft_order(given_kspace, np.fft.fftshift(mask), True)
    assert np.array_equal(known, mask)
    np.testing.assert_allclose(kspace[..., mask], np.fft.fft2(x, norm="ortho")[..., mask], atol=1e-12)


@pytest.mark.parametrize("shape", [(8,), (1, 8)])
def test_a_mask_of_columns_holds_for_all_rows(tmp_path: Path, shape: tuple[int, ...]) -> None:
    columns = np.arange(8) < 3
    kspace = np.fft.fft2(images((9, 8), 0)[:, 0], norm="ortho")
    np.savez(tmp_path / "k.npz", kspace=kspace, mask=columns.reshape(shape))
    operator = reconstruct(tmp_path / "k.npz", (2, 9, 8)).operator
    assert isinstance(operator, Fourier)
    assert np.array_equal(operator.measured.numpy(), np.tile(columns, (9, 1)))


def test_energy_in_the_middle_is_refused_unless_the_order_is_said() -> None:
    kspace, mask = centred(images((16, 12), 0)), np.ones((2, 16, 12))
    with pytest.raises(NcsnxError, match=r"expected frequency 0 of kspace first.*in the middle") as refused:
        in_fft_order(kspace, mask, None)
    assert [hint.adds for hint in refused.value.hints] == ["centred=True", "centred=False"]
    assert in_fft_order(kspace, mask, False)[0] is kspace
