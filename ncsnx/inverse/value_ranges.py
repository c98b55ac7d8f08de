"""The values of black and white in a model's data, for the numbers of tasks; of unbounded data 0 and the scale."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Self

import attrs

from ncsnx.config.data_sets import Arrays, Data, Packed, Volumes
from ncsnx.data.places import data_folder, own_path, require_own
from ncsnx.data.readers.packed import PackedFolder
from ncsnx.data.transforms import scale_of
from ncsnx.errors import Hint, NcsnxError
from ncsnx.runs.model_source import Source
from ncsnx.spelling import A_DIR, argument

ValueRange = Callable[[], tuple[float, float]]
"""Returns the values of black and white, when numbers are read; raises NcsnxError if they aren't known."""


def unit_range() -> tuple[float, float]:
    """0 and 1."""
    return 0.0, 1.0


@attrs.frozen
class OwnRange:
    """A `ValueRange` that also says which numbers are accepted."""

    find: ValueRange
    is_bounded: bool = True
    """Whether values lie between black and white. Other numbers aren't limited, and image files are refused."""
    is_complex: bool = False
    """Whether pairs of channels are real and imaginary parts, so that complex numbers are accepted."""

    def __call__(self) -> tuple[float, float]:
        return self.find()

    @classmethod
    def of(cls, values: ValueRange) -> Self:
        """The range itself, or that of bounded real data."""
        return values if isinstance(values, cls) else cls(values)


def value_range(data: Data, folder: Path | str | None = None, source: Source | None = None) -> tuple[float, float]:
    """The values of black and white in a model's data; of unbounded data 0 and the scale.

    Arrays and volumes declare them, packed data sets contain them, and all other data have 0 and 1. folder: the data
    folder; default: NCSNX_DATA, else ./data. source: the run or exported model; a packed data set must be the one that
    it was trained on. Raises NcsnxError for a packed data set that is missing or another one, and for an unknown scale.
    """
    if not data.is_bounded:
        return 0.0, scale_of(data)
    if isinstance(data, Arrays | Volumes):
        return data.low, data.high
    if not isinstance(data, Packed):
        return unit_range()
    try:
        record = _packed(data, data_folder(None if folder is None else Path(folder)), source).record
    except NcsnxError as error:
        raise NcsnxError(
            f"the values of black and white are in the packed data set, which cannot be used: {error.message}",
            Hint("say where it is", adds=argument("data", A_DIR)),
            Hint("or add the two values to a .npz as the array range, or give pictures as PNGs"),
        ) from error
    return record.low, record.high


def range_of(data: Data, folder: Path | None, source: Source) -> OwnRange:
    """`value_range`, looked up at the first call and cached."""
    return OwnRange(cache(lambda: value_range(data, folder, source)), data.is_bounded, data.is_complex)


def _packed(data: Packed, folder: Path, source: Source | None) -> PackedFolder:
    fingerprint = None if source is None else source.data_fingerprint()
    if source is not None:
        require_own(data, fingerprint, source.path)
    file = PackedFolder.open(own_path(data.path, folder))
    if fingerprint not in (None, file.fingerprint):
        raise NcsnxError(f"{file.path} is not the data set that the model was trained on")
    return file
