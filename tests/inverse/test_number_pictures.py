"""Numbers as pictures of tasks: complex arrays, several pictures in a file, and data without bounds."""

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ncsnx.config import Arrays
from ncsnx.errors import NcsnxError
from ncsnx.inverse.task_pictures import read_pictures
from ncsnx.space import Space
from tests.spaces import space_of

SIZE = (4, 6)
REAL = space_of(Arrays(path="x", image_size=SIZE, range="unbounded", scale=2.0))
COMPLEX = attrs.evolve(REAL, complex=True)
X = 50 * np.random.default_rng(0).normal(size=(3, *SIZE, 2)).view(np.complex128)[..., 0]


def saved(folder: Path, array: NDArray[Any]) -> Path:
    np.save(folder / "x.npy", array)
    return folder / "x.npy"


@pytest.mark.parametrize(
    ("array", "channels", "own"),
    [
        (X[0], 2, COMPLEX),
        (X[0, ..., None], 2, COMPLEX),
        (np.stack([X[0].real, X[0].imag], axis=-1), 2, COMPLEX),
        (X, 2, COMPLEX),
        (X[..., None], 2, COMPLEX),
        (X.astype("c8"), 2, COMPLEX),
        (np.stack([X.real, X.imag], axis=-1), 2, COMPLEX),
        (X.real, 1, REAL),
        (np.stack([X.real, X.imag], axis=-1), 2, REAL),
    ],
)
def test_one_picture_or_several_in_a_file_are_their_real_and_imaginary_parts_over_the_scale(
    tmp_path: Path, array: NDArray[Any], channels: int, own: Space
) -> None:
    found = read_pictures(saved(tmp_path, array), own.at((channels, *SIZE)))
    if len(array) == len(X):
        assert found.names == ("x.npy[0]", "x.npy[1]", "x.npy[2]")
    else:
        assert found.names == ("x.npy",)
    parts = [X.real, X.imag][:channels]
    expected = torch.stack([torch.from_numpy(part.copy()) for part in parts], dim=1)[: len(found.names)] / 2
    torch.testing.assert_close(found.pixels, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("array", "channels", "own", "complaint"),
    [
        (X[0], 1, REAL, "expected a picture as H×W or H×W×1 numbers, since the model's data is real, found complex128"),
        (X[0], 2, REAL, "expected a picture as H×W×2 numbers, since the model's data is real, found complex128 4×6"),
        (X[0].real, 2, COMPLEX, "expected a picture as complex H×W, or real H×W×2, numbers, found float64 4×6"),
        (X[:, :3], 2, COMPLEX, "found complex128 3×3×6"),
        (np.ones(24), 1, REAL, "expected a picture as H×W or H×W×1 numbers, found float64 24"),
        (X[0] * np.inf, 2, COMPLEX, "NaN, infinite or too large value"),
        (X[0, :3], 2, COMPLEX, "found 3×6"),
    ],
)
def test_other_numbers_are_refused(
    tmp_path: Path, array: NDArray[Any], channels: int, own: Space, complaint: str
) -> None:
    with np.errstate(invalid="ignore"), pytest.raises(NcsnxError, match=complaint):
        read_pictures(saved(tmp_path, array), own.at((channels, *SIZE)))


def test_image_files_are_refused_where_data_has_no_black_and_white(tmp_path: Path) -> None:
    Image.new("L", (6, 4)).save(tmp_path / "x.png")
    with pytest.raises(
        NcsnxError, match=r"this model's data is unbounded; give a \.npy in the data's own values, as H×W or H×W×1"
    ):
        read_pictures(tmp_path / "x.png", REAL)
