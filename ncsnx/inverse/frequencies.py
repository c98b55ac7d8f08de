"""Measured frequencies (magnetic resonance) in a .npz, HDF5 or MATLAB 7.3 file."""

import math
from functools import cache
from pathlib import Path

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.inverse.kspace_order import in_fft_order, known_frequencies, measured_frequencies, size_advice
from ncsnx.inverse.value_ranges import OwnRange, ValueRange
from ncsnx.quantities import number
from ncsnx.storage.array_files import COMPLEX, REAL, ExpectedArray, open_array_file, read_arrays
from ncsnx.storage.process import in_utf8

_SAVED = "save it with numpy.savez(FILE, kspace=…, mask=…)"
RANGE = ExpectedArray("real numbers (black, white)", REAL, ((2,),), optional=True)
"""The array `range` of a measurement."""
_COPIES = 8  # copies of kspace in memory while it is read: in double precision, masked, and as coefficients


@attrs.frozen(eq=False)
class Frequencies:
    """Measured frequencies of P images."""

    kspace: Tensor
    """(P, H, W) complex128, 0 outside the mask; frequencies of images in the data's own values."""
    mask: Tensor
    """Mask of the measured frequencies, (H, W) bool."""
    values: tuple[float, float]
    """Values of black and white in these images."""


def read_frequencies(
    path: Path,
    shape: tuple[int, int, int],
    values: ValueRange,
    *,
    centred: bool | None = None,
    bounded: bool = True,
) -> Frequencies:
    """Reads the arrays `kspace` and `mask` of a file, and the optional `range` (black, white), else `values`.

    kspace is complex, (H, W) or (P, H, W), in the order and scale of `numpy.fft.fft2(image, norm="ortho")`; values
    outside the mask are ignored. mask is (H, W), 1 where kspace was measured, or (W,) for whole columns. shape: (C, H,
    W) of the images. centred: whether frequency 0 is in the middle (`in_fft_order`). bounded: whether the images lie
    between black and white. Raises NcsnxError for other arrays, and for frequencies that no such image can have.
    """
    name, size = in_utf8(path), shape[1:]
    if shape[0] not in (1, 2):
        raise NcsnxError(
            f"{name}: kspace is of complex images, with 2 channels, or of real ones, with 1; the model's images have "
            f"{shape[0]}"
        )
    file = open_array_file(path)
    has_own_masks = "mask" in (file.names or ()) and len(file.header("mask").shape) == 3
    own_masks = "; for a mask of each picture give kspace (P, 1, H, W) with maps (1, H, W) of ones"
    expected = {
        "kspace": ExpectedArray(
            "complex numbers", COMPLEX, (size, ("P", *size)), copies=_COPIES, advice=size_advice(file, shape)
        ),
        "mask": ExpectedArray(
            "zeros and ones", REAL, (size, (size[1],), (1, size[1])), advice=own_masks if has_own_masks else ""
        ),
        "range": RANGE,
    }
    arrays = read_arrays(path, expected, _SAVED)
    kspace, mask = in_fft_order(arrays["kspace"], arrays["mask"], centred, name)
    known = known_frequencies(mask, name)
    black, white = _range(name, arrays["range"]) if "range" in arrays else values()
    whole = measured_frequencies(kspace.reshape(-1, *size), known, np.dtype(np.complex128), name)
    measured = Frequencies(torch.from_numpy(whole), torch.from_numpy(known), (black, white))
    if bounded:
        _check_scale(name, measured, shape[0])
    return measured


def range_in(path: Path, values: ValueRange) -> ValueRange:
    """The range in the file's array `range`, else `values`; for pictures that belong to the file, such as the truth.

    Raises NcsnxError.
    """

    def found() -> tuple[float, float]:
        file = open_array_file(path)
        if "range" not in (file.names or ()):
            return values()
        RANGE.require(file.header("range"))
        return _range(in_utf8(path), file.read("range"))

    return attrs.evolve(OwnRange.of(values), find=cache(found))


def _range(name: str, array: NDArray[np.generic]) -> tuple[float, float]:
    """Black and white, checked."""
    black, white = map(float, array)
    if 0 < white - black < math.inf:
        return black, white
    raise NcsnxError(
        f"{name}: expected range to be two numbers (black, white) with white above black, found {str(array)[:80]!r}"
    )


def _check_scale(name: str, found: Frequencies, channels: int) -> None:
    """Raises NcsnxError for kspace in another scale: its energy is that of the images' values, which is bounded.

    With noise, values may exceed black and white by up to white − black on average; that allows four times the energy.
    """
    low, high = found.values
    reach, count = high - low, found.mask.numel()
    root = math.sqrt(count)
    expected = (
        f'{name}: expected kspace in the scale of numpy.fft.fft2(image, norm="ortho"), of images with values from '
        f"{low:g} to {high:g}; found "
    )
    parts = torch.view_as_real(found.kspace)  # (P, H, W, 2)
    if bool(found.mask[0, 0]):
        means = parts[:, 0, 0, :channels] / root
        far = means[(means < low - reach) | (means > high + reach)]
        if len(far):
            raise NcsnxError(f"{expected}an image with a mean of {number(float(far[0]))}")
    others = parts.flatten(1, 2)[:, 1:]  # all but frequency 0, which black shifts
    energies = others.square().sum(dim=(1, 2))
    most = channels * count * reach**2  # four times the most that values around their mean have
    if bool((energies > most).any()):
        raise NcsnxError(
            f"{expected}a sum of squares of {number(float(energies.max()))}, where images have at most "
            f"{number(float(most) / 4)}"
        )
