"""Reference statistics from other programs: a `.npz` file with `mu` (D,) and `sigma` (D, D), as is common for FID.

Nothing in such a file is ever executed: object arrays, which are pickles, are refused.
"""

from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.quantities import number
from ncsnx.spelling import argument
from ncsnx.storage.array_files import ExpectedArray, array_file_sha256, read_arrays, require_arrays

SUFFIX = ".npz"
_HOW = "save it with numpy.savez(FILE, mu=…, sigma=…)"
OTHERS = ("mu_s", "sigma_s", "arr_0")
"""Other arrays in the reference batches of ADM (Dhariwal & Nichol 2021): spatial statistics, and images."""
_ROUNDING = 1e-5
"""Tolerance for rounding, since some files are float32: for |Σ − Σᵀ| relative to the largest entry of Σ, and for
negative eigenvalues relative to the largest. Rounding moves an eigenvalue by at most 2⁻²⁴ √D, 3e-6 for D = 2,048."""


@attrs.frozen(eq=False)
class StatisticsFile:
    """The statistics in a file, and its hash."""

    mean: Tensor
    """(D,) float64."""
    covariance: Tensor
    """(D, D) float64, symmetric."""
    sha256: str
    """sha256 of the file, in hexadecimal."""


def check_statistics(path: Path) -> None:
    """Checks by names and headers whether a file holds statistics of any features; reads no values.

    Raises NcsnxError.
    """
    file = require_arrays(path, _expected("D", copies=0), _HOW, ignored=OTHERS)
    dimensions = min(file.header(name).shape[0] for name in ("mu", "sigma"))  # the error names the larger array
    require_arrays(path, _expected(dimensions), _HOW, ignored=OTHERS)


def read_statistics(path: Path, dimensions: int, features: str) -> StatisticsFile:
    """Reads and checks statistics of `dimensions` features by the network named `features`.

    Raises NcsnxError for an unreadable or invalid file, and for one that doesn't match the features.
    """
    advice = f"; the features here are {features}: choose those of the file with {argument('features')}"
    arrays = read_arrays(path, _expected(dimensions, advice), _HOW, ignored=OTHERS)
    mean, covariance = (torch.from_numpy(arrays[name].astype(np.float64)) for name in ("mu", "sigma"))
    _check(path, mean, covariance)
    symmetric = (covariance + covariance.T) / 2
    return StatisticsFile(mean, symmetric, array_file_sha256(path))


def _expected(dimensions: int | str, advice: str = "", copies: int = 1) -> dict[str, ExpectedArray]:
    shapes = {"mu": (dimensions,), "sigma": (dimensions, dimensions)}
    return {
        name: ExpectedArray("real numbers", "iuf", (shape,), advice=advice, copies=copies)
        for name, shape in shapes.items()
    }


def _check(path: Path, mean: Tensor, covariance: Tensor) -> None:
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise NcsnxError(f"{path}: expected finite numbers, found nan or infinity")
    asymmetry = float((covariance - covariance.T).abs().max())
    if asymmetry > _ROUNDING * float(covariance.abs().max()):
        raise NcsnxError(f"{path}: expected a symmetric sigma, found entries that differ by {number(asymmetry)}")
    if not covariance.any():
        raise NcsnxError(f"{path}: expected a covariance, found only zeros in sigma")
    eigenvalues = torch.linalg.eigvalsh((covariance + covariance.T) / 2)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    if smallest < -_ROUNDING * largest:
        raise NcsnxError(
            f"{path}: sigma is not a covariance, since its eigenvalues are from {number(smallest)} to "
            f"{number(largest)}; expected none below 0"
        )
