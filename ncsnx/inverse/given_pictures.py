"""Pictures that Python has as objects, as the files that tasks read."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from ncsnx.config.checks import quoted
from ncsnx.errors import UsageError
from ncsnx.inverse.values import UNIT, ValueRange
from ncsnx.spelling import parameter

GivenPictures: TypeAlias = Path | str | Tensor | NDArray[Any] | Image
"""A file or a folder; a Pillow image; an array as in a .npy, (H, W), (H, W, C) or (P, H, W, C) in the data's own
values; or a tensor as `ncsnx.draw` returns it, (H, W), (C, H, W) or (P, C, H, W)."""


def as_file(name: str, given: object, folder: Path, values: ValueRange = UNIT) -> Path:
    """The pictures of a parameter as a file: the path that was given, or a new file in `folder`.

    values: black and white in the data's own values. Raises UsageError for anything else.
    """
    match given:
        case Path() | str():
            return Path(given)
        case Image():
            try:
                given.save(folder / f"{name}.png")
            except OSError as error:
                raise UsageError(f"{parameter(name)}: {error}") from error
            return folder / f"{name}.png"
        case Tensor():
            array = _as_numbers(given.detach().cpu(), values)
        case np.ndarray():
            array = given
        case _:
            raise UsageError(
                f"{parameter(name)} must be a path, a Pillow image, an array or a tensor, not {quoted(given)}"
            )
    np.save(folder / f"{name}.npy", array)
    return folder / f"{name}.npy"


def _as_numbers(images: Tensor, values: ValueRange) -> NDArray[Any]:
    """Images with channels first, as `ncsnx.draw` returns them, as an array in the data's own values."""
    if values.is_bounded:
        black, white = values.ends
        images = black + (white - black) * images.double()
    array: NDArray[Any] = (images.movedim(-3, -1) if images.dim() > 2 else images).numpy()
    return array
