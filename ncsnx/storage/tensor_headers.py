"""Headers of safetensors files that anybody may have made, read without mapping the file: it may be a sparse giant."""

import json
import math
import os
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.checks import quoted
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage.reading import HEADER_LIMIT, opened

_LENGTH_BYTES = 8
_MOST_AXES = 64


@attrs.frozen
class TensorHeader:
    """What a file declares of a tensor."""

    dtype: str
    """As safetensors names it, such as F32."""
    shape: tuple[int, ...]


def tensor_headers(path: Path) -> dict[str, TensorHeader]:
    """The tensors of a safetensors file by name.

    Raises NcsnxError for what isn't such a header, or declares more or less than the file has; OSError.
    """
    with opened(path, follows_links=True) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > min(HEADER_LIMIT, size - _LENGTH_BYTES):
            raise _damaged(path, f"its header can't have {counted(length, 'byte')}")
        try:
            content = json.loads(file.read(length))
            entries = {name: entry for name, entry in content.items() if name != "__metadata__"}
            end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
            found = {name: TensorHeader(str(entry["dtype"]), _shape(entry["shape"])) for name, entry in entries.items()}
        except (ValueError, RecursionError, AttributeError, TypeError, LookupError) as error:
            raise _damaged(path, "its header can't be read") from error
    end += _LENGTH_BYTES + length
    if end != size:
        first = [f"{quoted(name)} {one.dtype} of shape {one.shape}" for name, one in list(found.items())[:3]]
        declared = ", ".join(first) or "no tensors"
        raise _damaged(path, f"it declares {declared}, which end at byte {end:,} of {counted(size, 'byte')}")
    return found


def _shape(declared: Any) -> tuple[int, ...]:
    if type(declared) is list and len(declared) <= _MOST_AXES and all(type(axis) is int for axis in declared):
        shape: tuple[int, ...] = tuple(declared)
        if all(0 <= axis < 2**63 for axis in shape) and math.prod(shape) < 2**63:
            return shape
    raise ValueError("a shape that no tensor has")


def _damaged(path: Path, reason: str) -> NcsnxError:
    return NcsnxError(f"{path}: is not a valid safetensors file: {reason}; get a complete copy, or save it again")
