"""Reference statistics that others computed: a `.npz` file with `mu` (D,) and `sigma` (D, D), as FID codes exchange it.

Nothing in such a file is ever executed: arrays of objects, which are pickles, are refused.
"""

import hashlib
import io
import warnings
import zipfile
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.quantities import number

SUFFIX = ".npz"
ROUNDING = 1e-5
"""What passes for rounding, since some files are float32: of |Σ − Σᵀ|, relative to the largest entry of Σ; of a
negative eigenvalue, relative to the largest, which rounding moves by at most 2⁻²⁴ √D, 3e-6 for 2,048 features."""


@attrs.frozen(eq=False)
class StatisticsFile:
    """Mean (D,) and covariance (D, D), float64, and the sha256 (hexadecimal) of the file."""

    mean: Tensor
    covariance: Tensor
    sha256: str


def read_statistics(path: Path, dimensions: int, features: str) -> StatisticsFile:
    """Reads and checks a file of statistics of `dimensions` features by the network named `features`.

    Raises NcsnxError for a file that can't be read, isn't such a file, or doesn't fit the features.
    """
    content = _content(path)
    mean, covariance = _array(path, content, "mu"), _array(path, content, "sigma")
    _check(path, mean, covariance, dimensions, features)
    symmetric = (covariance + covariance.T) / 2
    return StatisticsFile(mean, symmetric, hashlib.sha256(content).hexdigest())


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise NcsnxError(f"{path}: expected a file with mu and sigma, found {'a folder' if path.is_dir() else 'none'}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise NcsnxError(f"{path}: can't be read: {error.strerror}") from error


def _array(path: Path, content: bytes, name: str) -> Tensor:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise NcsnxError(f"{path}: expected a .npz file with mu and sigma, found something else")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that Python 2 wrote, which are read all the same
            with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
                values = loaded.get(name)
    except Exception as error:  # a damaged file makes zipfile and NumPy raise almost anything
        raise NcsnxError(f"{path}: expected a plain array {name}, but: {error}") from error
    if not isinstance(values, np.ndarray):
        raise NcsnxError(f"{path}: expected the arrays mu and sigma, found no {name}")
    if values.dtype.kind not in "fiu":
        raise NcsnxError(f"{path}: expected real numbers in {name}, found {values.dtype}")
    return torch.from_numpy(values.astype(np.float64))


def _check(path: Path, mean: Tensor, covariance: Tensor, dimensions: int, features: str) -> None:
    found = tuple(mean.shape), tuple(covariance.shape)
    if found != ((dimensions,), (dimensions, dimensions)):
        raise NcsnxError(
            f"{path}: expected mu ({dimensions},) and sigma ({dimensions}, {dimensions}) for the features "
            f"({features}), found {found[0]} and {found[1]}; choose the features that it was made with by --features"
        )
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise NcsnxError(f"{path}: expected finite numbers, found nan or infinity")
    asymmetry = float((covariance - covariance.T).abs().max())
    if asymmetry > ROUNDING * float(covariance.abs().max()):
        raise NcsnxError(f"{path}: expected a symmetric sigma, found entries that differ by {number(asymmetry)}")
    if not covariance.any():
        raise NcsnxError(f"{path}: expected a covariance, found only zeros in sigma")
    eigenvalues = torch.linalg.eigvalsh((covariance + covariance.T) / 2)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    if smallest < -ROUNDING * largest:
        raise NcsnxError(
            f"{path}: expected a covariance, whose eigenvalues aren't negative; sigma has eigenvalues from "
            f"{number(smallest)} to {number(largest)}, which no images give"
        )
