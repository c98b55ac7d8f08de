"""The content of a safetensors file, made piece by piece while it is written.

`safetensors.torch.save` makes all of it in memory, and no other thread runs Python meanwhile: for a gigabyte, training
would stand still for seconds while a checkpoint is written in the background.
"""

import json
from collections.abc import Iterator, Mapping

import torch
from safetensors.torch import save
from torch import Tensor

_LENGTH_BYTES = 8


class TensorFile:
    """The bytes that `safetensors.torch.save` gives for the same tensors, which may have any device and memory format.

    `len` is their number; the pieces are made as they are read. The tensors must not change before.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        empty = save({name: torch.empty(0, dtype=tensor.dtype) for name, tensor in tensors.items()})
        entries = _header(empty)  # in the order of the file, and with the names of their types
        end = 0
        for name, entry in entries.items():
            start, end = end, end + tensors[name].nbytes
            entry |= {"shape": list(tensors[name].shape), "data_offsets": [start, end]}
        self._header = header_bytes(entries)
        self._size = len(self._header) + end
        self._tensors = [tensors[name] for name in entries]

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield self._header
        for tensor in self._tensors:
            plain = tensor.detach().to("cpu").contiguous()
            yield plain.reshape(-1).view(torch.uint8).numpy().data


def header_bytes(entries: Mapping[str, Mapping[str, object]]) -> bytes:
    """Length and header of a file. entries: by name in the order of the file, metadata first."""
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _header(content: bytes) -> dict[str, dict[str, object]]:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    entries: dict[str, dict[str, object]] = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    return entries
