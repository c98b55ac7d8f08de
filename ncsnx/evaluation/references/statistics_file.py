"""Reference statistics that others computed: a `.npz` file with `mu` (D,) and `sigma` (D, D), as FID codes exchange it.

Nothing in such a file is ever executed: arrays of objects, which are pickles, are refused.
"""

from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.quantities import number
from ncsnx.spelling import argument
from ncsnx.storage.numpy_files import ExpectedArray, array_file_sha256, read_arrays, require_arrays

SUFFIX = ".npz"
_HOW = "save it with numpy.savez(FILE, mu=…, sigma=…)"
OTHERS = ("mu_s", "sigma_s", "arr_0")
"""What the reference batches of ADM (Dhariwal & Nichol 2021) hold beside the two: spatial statistics, and images."""
_ROUNDING = 1e-5
"""What passes for rounding, since some files are float32: of |Σ − Σᵀ|, relative to the largest entry of Σ; of a
negative eigenvalue, relative to the largest, which rounding moves by at most 2⁻²⁴ √D, 3e-6 for 2,048 features."""


@attrs.frozen(eq=False)
class StatisticsFile:
    """Mean (D,) and covariance (D, D), float64, and the sha256 (hexadecimal) of the file."""

    mean: Tensor
    covariance: Tensor
    sha256: str


def check_statistics(path: Path) -> None:
    """Sees by names and headers whether a file holds statistics, of whatever features; no value is read.

    Raises NcsnxError.
    """
    file = require_arrays(path, _expected("D", copies=0), _HOW, ignored=OTHERS)
    dimensions = min(file.header(name).shape[0] for name in ("mu", "sigma"))  # what is larger is named
    require_arrays(path, _expected(dimensions), _HOW, ignored=OTHERS)


def read_statistics(path: Path, dimensions: int, features: str) -> StatisticsFile:
    """Reads and checks a file of statistics of `dimensions` features by the network named `features`.

    Raises NcsnxError for a file that can't be read, isn't such a file, or doesn't fit the features.
    """
    advice = f"; choose the features that it was made with by {argument('features')}, here {features}"
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
            f"{path}: expected a covariance, whose eigenvalues are not negative; sigma has eigenvalues from "
            f"{number(smallest)} to {number(largest)}, which no images give"
        )
