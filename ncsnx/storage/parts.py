"""Finished parts of an interrupted job: one safetensors file per batch of indices, written atomically."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage.atomic import make_folder, reporting, write_bytes

_NAME = re.compile(r"\d{8,}-\d{8,}\.safetensors")  # first and last index
_INDICES = "indices"

Fits = Callable[[list[int], Mapping[str, list[int]]], bool]
"""(indices of a part, shapes of its tensors by name) → whether it is a part of this job."""


@attrs.frozen(eq=False)
class Part:
    """Results for one batch of indices."""

    indices: Tensor
    """(B,) int64."""
    tensors: Mapping[str, Tensor]


def write_part(folder: Path, part: Part) -> None:
    """Adds a part to the folder, durably and atomically. Raises NcsnxError."""
    make_folder(folder)
    tensors = {_INDICES: part.indices, **part.tensors}
    path = folder / f"{int(part.indices[0]):08d}-{int(part.indices[-1]):08d}.safetensors"
    write_bytes(path, safetensors.torch.save({key: t.contiguous() for key, t in tensors.items()}))


def read_parts(folder: Path) -> Iterator[Part]:
    """The parts of the folder, one at a time."""
    for path in _parts(folder):
        tensors = safetensors.torch.load_file(path)
        yield Part(tensors.pop(_INDICES), tensors)


def read_row(folder: Path, name: str, row: int, below: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(indices of a part, tensor `name` at `row` of its first axis) of the parts that begin below an index.

    Reads nothing else of the parts.
    """
    for path in _parts(folder):
        if int(path.name.partition("-")[0]) < below:
            with safe_open(path, framework="pt") as file:
                yield file.get_tensor(_INDICES), file.get_slice(name)[row]


def done_indices(folder: Path, count: int, fits: Fits = lambda indices, shapes: True) -> set[int]:
    """The indices, in 0 … count − 1, of all parts. Parts that are torn or don't fit are removed."""
    done: set[int] = set()
    for path in _parts(folder):
        try:
            indices, shapes = _head(path)
        except (SafetensorError, OSError):
            indices, shapes = [], {}
        if indices and min(indices) >= 0 and max(indices) < count and fits(indices, shapes):
            done.update(indices)
            continue
        with reporting(path):
            path.unlink()
    return done


def are_whole(folder: Path, count: int) -> bool:
    """Whether the parts, which several processes write, have all of `count` indices."""
    return len({index for path in _parts(folder) for index in _head(path)[0]}) >= count


def assembled(folder: Path, count: int) -> dict[str, Tensor]:
    """The tensors of all parts, (count, …) each, in the order of the indices. Holds them once, and one part.

    Raises NcsnxError unless the parts have each index once.
    """
    whole: dict[str, Tensor] = {}
    times = torch.zeros(count, dtype=torch.int64)
    for part in read_parts(folder):
        for name, tensor in part.tensors.items():
            if name not in whole:
                whole[name] = tensor.new_empty((count, *tensor.shape[1:]))
            whole[name][part.indices] = tensor
        times[part.indices] += 1
    if not bool((times == 1).all()):
        held = counted(int(times.sum()), "image")
        raise NcsnxError(f"{folder} holds {held} instead of {count:,}; remove it and repeat the command")
    return whole


def _parts(folder: Path) -> list[Path]:
    """The files of parts in the folder, sorted; other files are ignored."""
    return sorted(path for path in folder.glob("*.safetensors") if _NAME.fullmatch(path.name))


def _head(path: Path) -> tuple[list[int], dict[str, list[int]]]:
    """(indices, shape of each other tensor) of a part. Raises SafetensorError for a torn file."""
    with safe_open(path, framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys() if name != _INDICES}  # noqa: SIM118
        return file.get_tensor(_INDICES).tolist(), shapes
