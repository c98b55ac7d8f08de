"""Measured frequencies in a .npz, as of magnetic resonance."""

import io
import math
import zipfile
import zlib
from functools import cache
from pathlib import Path

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.inverse.reading import NUMPY_MAGIC, ValueRange, read_file
from ncsnx.quantities import number
from ncsnx.runs.process import in_utf8

_SAVED = "save it with numpy.savez(FILE, kspace=…, mask=…)"


@attrs.frozen(eq=False)
class Frequencies:
    """What was measured of P images of one complex channel."""

    kspace: Tensor
    """(P, H, W) complex128, 0 where nothing was measured; of images in the data's own values."""
    mask: Tensor
    """(H, W) bool: where something was."""
    values: tuple[float, float]
    """Of these images, black and white."""


def read_frequencies(path: Path, shape: tuple[int, int, int], values: ValueRange) -> Frequencies:
    """The arrays of the file: `kspace`, `mask` and, in the place of `values`, `range`: black and white.

    kspace is complex, (H, W) or (P, H, W), in the order and scale of `numpy.fft.fft2(image, norm="ortho")`; what it
    holds outside of the mask is ignored. mask is (H, W), 1 where kspace was measured. shape: (C, H, W) of the images.
    Raises NcsnxError for anything else, and for values that no image between black and white is near to.
    """
    name = in_utf8(path)
    arrays = _arrays(path, name)
    if missing := {"kspace", "mask"} - set(arrays):
        raise NcsnxError(
            f"{name}: expected the arrays kspace and mask, found {', '.join(sorted(arrays)) or 'none'}; "
            f"{' and '.join(sorted(missing))} is missing"
        )
    kspace, mask = arrays["kspace"], arrays["mask"]
    if kspace.dtype.kind != "c" or kspace.shape[-2:] != shape[1:] or kspace.ndim not in (2, 3) or kspace.size == 0:
        raise NcsnxError(
            f"{name}: expected kspace to be complex, (H, W) or (P, H, W) for images of {shape[1]}×{shape[2]}; found "
            f"{kspace.dtype} {kspace.shape}"
        )
    if mask.dtype.kind not in "buif" or mask.shape != shape[1:] or not np.isin(mask, (0, 1)).all() or not mask.any():
        raise NcsnxError(f"{name}: expected mask to be {shape[1]}×{shape[2]}, 1 where kspace was measured and else 0")
    with np.errstate(all="ignore"):  # what overflows is infinite, and refused as such
        whole = np.where(mask.astype(bool), kspace.reshape(-1, *shape[1:]), 0).astype(np.complex128)
    black, white = _range(name, arrays["range"]) if "range" in arrays else values()
    if not np.isfinite(whole).all():
        raise NcsnxError(f"{name}: kspace holds values that aren't finite where mask is 1")
    found = Frequencies(torch.from_numpy(whole), torch.from_numpy(mask.astype(bool)), (black, white))
    _check_scale(name, found, shape[0])
    return found


def range_in(path: Path, values: ValueRange) -> ValueRange:
    """That of the file's array `range`, else `values`: for what comes with its measurement. Raises NcsnxError."""

    def found() -> tuple[float, float]:
        arrays = _arrays(path, in_utf8(path))
        return _range(in_utf8(path), arrays["range"]) if "range" in arrays else values()

    return cache(found)


def _arrays(path: Path, name: str) -> dict[str, NDArray[np.generic]]:
    content = read_file(path)
    if content.startswith(NUMPY_MAGIC):
        raise NcsnxError(f"{name}: expected a .npz of arrays, found a .npy, which holds one alone; {_SAVED}")
    if not content.startswith(b"PK"):
        raise NcsnxError(f"{name}: expected a .npz of arrays, and it is none; {_SAVED}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {key: np.asarray(arrays[key]) for key in ("kspace", "mask", "range") if key in arrays.files}
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise NcsnxError(f"{name}: expected a .npz of arrays; it is damaged ({error}): get it again") from error
    except Exception as error:  # numpy raises almost anything for a damaged file
        raise NcsnxError(f"{name}: expected a .npz of arrays: {' '.join(str(error).split())}") from error


def _range(name: str, array: NDArray[np.generic]) -> tuple[float, float]:
    """Black and white."""
    if array.dtype.kind in "buif" and array.shape == (2,):
        black, white = map(float, array)
        if 0 < white - black < math.inf:
            return black, white
    raise NcsnxError(f"{name}: expected range to be two numbers, black and, above it, white; found {str(array)[:80]!r}")


def _check_scale(name: str, found: Frequencies, channels: int) -> None:
    """A wrong scale tells itself: frequencies have the energy of values, and these lie between black and white.

    The images may go beyond those by as much as they are apart, in the mean as by noise: four times the energy that is
    possible without.
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
    others = parts.flatten(1, 2)[:, 1:]  # those that the level of black isn't in
    energies = others.square().sum(dim=(1, 2))
    most = channels * count * reach**2  # values about their mean have at most a quarter
    if bool((energies > most).any()):
        raise NcsnxError(
            f"{expected}frequencies whose squares sum up to {number(float(energies.max()))}, where those of images sum "
            f"up to {number(float(most) / 4)} at most"
        )
