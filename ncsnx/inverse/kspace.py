"""Order and scale of measured frequencies, as `ncsnx.inverse.measured_files` describes them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncsnx.errors import Hint, NcsnxError
from ncsnx.inverse.values import ValueRange, non_finite_in_words
from ncsnx.quantities import number
from ncsnx.spelling import argument

_SHARE = 8
"""One part in this many of the frequencies, on each side, is compared around both places."""
_CLEARLY = 9.0
"""Ratio of energies that images don't have the wrong way round."""


def known_frequencies(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """The mask as booleans. Raises NcsnxError unless it has ones, and else zeros."""
    others = mask[~np.isin(mask, (0, 1))]
    if others.size or not mask.any():
        found = str(others[0]) if others.size else "only zeros"
        raise NcsnxError(f"expected mask to be 1 where kspace was measured and else 0, found {found}")
    return mask.astype(bool)


def measured_frequencies(kspace: NDArray[Any], known: NDArray[np.bool_], dtype: "np.dtype[Any]") -> NDArray[Any]:
    """kspace with 0 where it isn't known, in a complex type. known: of a shape that broadcasts to that of kspace.

    Raises NcsnxError for NaN and infinity where it is known.
    """
    with np.errstate(all="ignore"):  # overflow gives infinity, which is refused
        measured = np.where(known, kspace, 0).astype(dtype)
    place = f" in kspace of shape {kspace.shape} where mask is 1"
    if (wrong := non_finite_in_words(torch.from_numpy(measured), place)) is not None:
        raise NcsnxError(f"{wrong}, or set mask to 0 there")
    return measured


def in_fft_order(kspace: NDArray[Any], mask: NDArray[Any], centred: bool | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """kspace (…, H, W) and mask with frequency 0 first; a mask of columns, (W,) or (1, W), becomes (H, W).

    centred: whether frequency 0 is in the middle; None: it is first. Raises NcsnxError if the energy says otherwise.
    """
    size = kspace.shape[-2:]
    if mask.ndim == 1 or mask.shape == (1, size[1]):
        mask = np.broadcast_to(mask, size)
    if centred:
        return _moved(kspace), np.fft.ifftshift(mask, axes=(-2, -1))
    if centred is None and min(size) >= _SHARE and _is_in_the_middle(kspace, mask):
        raise NcsnxError(
            "expected frequency 0 of kspace first, as numpy.fft.fft2 has it; found the energy in the middle",
            Hint("if frequency 0 is in the middle, as in fastMRI's files", adds=argument("centred", True)),
            Hint("if it is not", adds=argument("centred", False)),
        )
    return kspace, mask


def _moved(kspace: NDArray[Any]) -> NDArray[Any]:
    """Frequencies of the image itself, frequency 0 first, from those of the image with its middle as the origin."""
    moved = np.fft.ifftshift(kspace, axes=(-2, -1))
    with np.errstate(all="ignore"):  # NaN where nothing was measured
        for axis in (-2, -1):
            size = moved.shape[axis]
            turn = np.exp(-2j * np.pi * np.arange(size) * (size // 2) / size)
            moved = moved * (turn[:, None] if axis == -2 else turn)
    return moved


def _is_in_the_middle(kspace: NDArray[Any], mask: NDArray[Any]) -> bool:
    """Whether measured frequencies around the middle have far more energy than those around the first."""
    near = [np.arange(-(length // _SHARE), length // _SHARE + 1) for length in kspace.shape[-2:]]

    def energy(down: int, across: int) -> float:
        rows, columns = (near[0] + down) % kspace.shape[-2], (near[1] + across) % kspace.shape[-1]
        known = mask[..., rows[:, None], columns].astype(bool)
        known = known[:, None] if known.ndim == 3 and kspace.ndim == 4 else known
        with np.errstate(all="ignore"):
            squares = np.square(np.abs(kspace[..., rows[:, None], columns].astype(np.complex128)))
            return float(np.where(known, squares, 0).sum())

    return energy(kspace.shape[-2] // 2, kspace.shape[-1] // 2) > _CLEARLY * energy(0, 0)


def require_scale(kspace: Tensor, most: float, values: ValueRange, image: str) -> None:
    """Raises NcsnxError for kspace (P, …) of another scale: its energy is at most that of images of bounded values.

    most: images with values of magnitude 1 have at most this sum of squares. Values may exceed black and white by up to
    white − black on average, by noise. image: what is transformed, in numpy.
    """
    if not values.is_bounded:
        return
    low, high = values.ends
    most *= (max(abs(low), abs(high)) + (high - low)) ** 2
    energies = torch.view_as_real(kspace).double().square().flatten(1).sum(dim=1)
    if bool((energies > most).any()):
        raise NcsnxError(
            f'expected kspace in the scale of numpy.fft.fft2({image}, norm="ortho"), of images with values from '
            f"{low:g} to {high:g}; found a sum of squares of {number(float(energies.max()))}, where images have at "
            f"most {number(most)}"
        )
