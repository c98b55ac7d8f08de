"""Headers of untrusted safetensors files, read without mapping the file, which may be huge and sparse."""

import json
import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from ncsnx.config.checks import quoted
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage.reading import HEADER_LIMIT, opened

_LENGTH_BYTES = 8
_MOST_AXES = 64
_BITS = {
    "F4": 4,
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Bits per number, by safetensors type."""


@attrs.frozen
class TensorHeader:
    """Type, shape and place of a tensor, as declared by its file."""

    dtype: str
    """Type name of safetensors, such as F32."""
    shape: tuple[int, ...]
    begin: int = attrs.field(default=0, eq=False)
    """Place of the first byte in the file."""


def tensor_headers(path: Path) -> dict[str, TensorHeader]:
    """Headers of a safetensors file's tensors by name.

    Raises NcsnxError for an invalid header, or one that doesn't match the file's size; OSError.
    """
    with opened(path, follows_links=True) as file:
        return headers_in(file, os.fstat(file.fileno()).st_size, path)


def headers_in(file: BinaryIO, size: int, path: Path) -> dict[str, TensorHeader]:
    """`tensor_headers` of an open file of `size` bytes, by what it begins with. path: named in errors."""
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > min(HEADER_LIMIT, size - _LENGTH_BYTES):
        raise _damaged(path, f"its header cannot have {counted(length, 'byte')}")
    begin = _LENGTH_BYTES + length
    try:
        content = json.loads(file.read(length))
        entries = {name: entry for name, entry in content.items() if name != "__metadata__"}
        spans = {name: _span(entry["data_offsets"]) for name, entry in entries.items()}
        found = {
            name: TensorHeader(str(entry["dtype"]), _shape(entry["shape"]), begin + spans[name][0])
            for name, entry in entries.items()
        }
    except (ValueError, RecursionError, AttributeError, TypeError, LookupError) as error:
        raise _damaged(path, "its header cannot be read") from error
    end = max((end for _, end in spans.values()), default=0) + begin
    if end != size:
        first = [f"{quoted(name)} {quoted(one.dtype)} of shape {one.shape}" for name, one in list(found.items())[:3]]
        declared = ", ".join(first) or "no tensors"
        raise _damaged(path, f"it declares {declared} up to byte {end:,}, but has {counted(size, 'byte')}")
    for name, one in found.items():
        if (reason := _misfit(one, *spans[name])) is not None:
            raise _damaged(path, f"{quoted(name)} {reason}")
    return found


def _misfit(tensor: TensorHeader, begin: int, end: int) -> str | None:
    """Why a tensor's declaration doesn't match its byte range, as a phrase after its name; None if it does."""
    if tensor.dtype not in _BITS:
        return f"has the type {quoted(tensor.dtype)}; expected one of {', '.join(_BITS)}"
    if math.prod(tensor.shape) * _BITS[tensor.dtype] != 8 * (end - begin):
        return f"is declared as {tensor.dtype} of shape {tensor.shape}, but has {counted(end - begin, 'byte')}"
    return None


def _span(declared: Any) -> tuple[int, int]:
    if type(declared) is list and len(declared) == 2 and all(type(place) is int for place in declared):
        begin, end = declared
        if 0 <= begin <= end < 2**63:
            return begin, end
    raise ValueError("an impossible byte range")


def _shape(declared: Any) -> tuple[int, ...]:
    if type(declared) is list and len(declared) <= _MOST_AXES and all(type(axis) is int for axis in declared):
        shape: tuple[int, ...] = tuple(declared)
        if all(0 <= axis < 2**63 for axis in shape) and math.prod(shape) < 2**63:
            return shape
    raise ValueError("an impossible shape")


def _damaged(path: Path, reason: str) -> NcsnxError:
    return NcsnxError(f"{path}: is not a valid safetensors file: {reason}; get a complete copy, or save it again")
