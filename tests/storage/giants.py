"""Small files that declare, or unpack to, much more than their size."""

import io
import json
import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK = bytes(2**22)


def header(shape: tuple[int, ...], dtype: str, *, fortran_order: bool = False) -> bytes:
    """The header of a `.npy`, possibly with an impossible shape."""
    stream = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": fortran_order, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


def sparse_npy(path: Path, shape: tuple[int, ...], dtype: str) -> Path:
    """Writes a sparse `.npy` of zeros, which takes no disk space."""
    begin = header(shape, dtype)
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(len(begin) + math.prod(shape) * np.dtype(dtype).itemsize)
    return path


def zeros_npz(path: Path, **arrays: tuple[tuple[int, ...], str]) -> Path:
    """Writes compressed arrays of zeros, a thousandth of their unpacked size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (shape, dtype) in arrays.items():
            left = math.prod(shape) * np.dtype(dtype).itemsize
            with archive.open(f"{name}.npy", "w") as file:
                file.write(header(shape, dtype))
                while left > 0:
                    file.write(_BLOCK[:left])
                    left -= len(_BLOCK)
    return path


def sparse_safetensors(path: Path, values: int) -> Path:
    """Writes a valid sparse safetensors file of one tensor of so many float32, which takes no disk space."""
    entry: dict[str, Any] = {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}
    begin = json.dumps({"weight": entry}).encode()
    begin += b" " * (-len(begin) % 8)
    with path.open("wb") as file:
        file.write(len(begin).to_bytes(8, "little") + begin)
        file.truncate(8 + len(begin) + 4 * values)
    return path


def forged_zip(path: Path, begin: bytes = b"PK\x03\x04") -> Path:
    """Writes a sparse zip of 4 GiB whose list of members fills the file."""
    size = 2**32 - 2**16
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, size - 4, 4, 0))
    return path
