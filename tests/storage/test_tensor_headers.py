"""Headers of safetensors files, valid and forged."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ncsnx.errors import NcsnxError
from ncsnx.storage.tensor_headers import TensorHeader, tensor_headers
from tests.storage.giants import sparse_safetensors


def forged(path: Path, header: Any, length: int | None = None) -> Path:
    content = json.dumps(header).encode()
    path.write_bytes((len(content) if length is None else length).to_bytes(8, "little") + content + bytes(8))
    return path


def test_names_types_and_shapes_are_read(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(0, dtype=torch.uint8)}, tmp_path / "x", {"made": "by us"})
    assert tensor_headers(tmp_path / "x") == {"a": TensorHeader("F32", (2, 3)), "b": TensorHeader("U8", (0,))}
    assert tensor_headers(sparse_safetensors(tmp_path / "y", 2**36))["weight"].shape == (2**36,)


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"a": 1},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [10**30, 0], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}},
        *(
            {"a": {"dtype": "F32", "shape": [2], "data_offsets": offsets}}
            for offsets in (
                [0, 8.0],
                [0, math.inf],
                [0, math.nan],
                [0, True],
                [0, 2**63],
                [-8, 8],
                [9, 8],
                [0, 4, 8],
                8,
            )
        ),
    ],
)
def test_an_invalid_tensor_header_is_one_line(tmp_path: Path, header: Any) -> None:
    with pytest.raises(NcsnxError, match="x: is not a valid safetensors file: its header cannot be read; get a compl"):
        tensor_headers(forged(tmp_path / "x", header))


def test_declared_bytes_must_exist(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}
    told = r"it declares 'a' 'F32' of shape \(274877906944,\) up to byte 1,099,511,627,\d+, but has \d+ bytes"
    with pytest.raises(NcsnxError, match=told):
        tensor_headers(forged(tmp_path / "x", {"a": entry}))
    with pytest.raises(NcsnxError, match="its header cannot have 1,152,921,504,606,846,976 bytes"):
        tensor_headers(forged(tmp_path / "x", {}, length=2**60))


@pytest.mark.parametrize(
    ("dtype", "shape", "told"),
    [
        ("F32", [3], r"'a' is declared as F32 of shape \(3,\), but has 8 bytes;"),
        ("F32", [], r"'a' is declared as F32 of shape \(\), but has 8 bytes;"),
        ("F4", [15], r"'a' is declared as F4 of shape \(15,\), but has 8 bytes;"),
        ("F\n\x1b[2J", [2], r"'a' has the type 'F\\n\\x1b\[2J'; expected one of F4, F6_E2M3, .*, F64, C64;"),
    ],
)
def test_a_tensor_has_the_bytes_that_its_type_and_shape_take(
    tmp_path: Path, dtype: str, shape: list[int], told: str
) -> None:
    with pytest.raises(NcsnxError, match=told):
        tensor_headers(forged(tmp_path / "x", {"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, 8]}}))


@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.int64, torch.complex64, torch.float8_e5m2])
def test_type_sizes_are_those_that_safetensors_writes(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"a": torch.zeros(3, 2).to(dtype)}, tmp_path / "x")
    assert tensor_headers(tmp_path / "x")["a"].shape == (3, 2)
