"""Finished parts of an interrupted job: one safetensors file per batch of indices, written atomically."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage.atomic import reporting, write_bytes
from ncsnx.storage.reading import opened

_OURS = re.compile(r"\d{8,}-\d{8,}\.safetensors")
_INDICES = "indices"
_TYPES = ("F32", "U8")
"""Tensor types of parts: images, features, frames."""

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
    with reporting(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tensors = {_INDICES: part.indices, **part.tensors}
    path = part_path(folder, int(part.indices[0]), int(part.indices[-1]))
    write_bytes(path, safetensors.torch.save({key: t.contiguous() for key, t in tensors.items()}))


def part_path(folder: Path, first: int, last: int) -> Path:
    """The file of the part with these first and last indices."""
    return folder / f"{first:08d}-{last:08d}.safetensors"


def is_part(name: str) -> bool:
    """Whether a file of this name is a part."""
    return _OURS.fullmatch(name) is not None


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


def done_indices(folder: Path, count: int, fits: Fits) -> set[int]:
    """The indices, in 0 … count − 1, of all parts. Parts that are torn or don't fit are removed."""
    done: set[int] = set()
    for path in _parts(folder):
        found = _read_head(path, count)
        within = found is not None and found.indices and min(found.indices) >= 0 and max(found.indices) < count
        if found is not None and within and fits(found.indices, found.shapes):
            done.update(found.indices)
            continue
        with reporting(path):
            path.unlink()
    return done


@attrs.frozen(eq=False)
class PartRows:
    """One tensor of all parts, (count, …) in the order of the indices, of which only the chosen rows are read."""

    paths: list[Path]
    places: Tensor
    """(count, 2) int64: of each row the part, and the row in it."""
    name: str

    @classmethod
    def of(cls, folder: Path, count: int, name: str) -> Self:
        """The tensor `name` of the parts in a folder. Raises NcsnxError if indices are missing, beyond
        `count`, or occur twice."""
        paths, places = _parts(folder), torch.zeros(count, 2, dtype=torch.int64)
        times = torch.zeros(count, dtype=torch.int64)
        for number, path in enumerate(paths):
            indices = _indices(path)
            _require_within(folder, indices, count)
            places[indices] = torch.stack([torch.full_like(indices, number), torch.arange(len(indices))], dim=1)
            times[indices] += 1
        _require_all(folder, times)
        return cls(paths, places, name)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        """The rows of a slice, or at indices (n,): at least one."""
        places = self.places[chosen]
        rows: Tensor | None = None
        for number in places[:, 0].unique().tolist():  # type: ignore[no-untyped-call]
            here = places[:, 0] == number
            with safe_open(self.paths[number], framework="pt") as file:
                found = file.get_tensor(self.name)[places[here, 1]]
            rows = found.new_empty((len(places), *found.shape[1:])) if rows is None else rows
            rows[here] = found
        assert rows is not None
        return rows


class NewParts:
    """Looks for the parts that processes write into a folder, and reads each once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: set[Path] = set()

    def indices(self) -> list[int]:
        """The indices of all parts that have appeared since the last call."""
        new = [path for path in _parts(self._folder) if path not in self._seen]
        self._seen.update(new)
        return [index for path in new for index in _indices(path).tolist()]


def assembled(folder: Path, count: int) -> dict[str, Tensor]:
    """The tensors of all parts, (count, …) each, in the order of the indices. Holds them once, and one part.

    Raises NcsnxError if indices are missing, beyond `count`, or occur twice, or if values aren't finite, as in a folder
    that was tampered with.
    """
    whole: dict[str, Tensor] = {}
    times = torch.zeros(count, dtype=torch.int64)
    finite = True
    for part in read_parts(folder):
        _require_within(folder, part.indices, count)
        for name, tensor in part.tensors.items():
            if name not in whole:
                whole[name] = tensor.new_empty((count, *tensor.shape[1:]))
            whole[name][part.indices] = tensor
            finite = finite and bool(torch.isfinite(tensor).all())
        times[part.indices] += 1
    _require_all(folder, times)
    if not finite:
        raise NcsnxError(f"{folder} holds values that are not finite; remove it and repeat the command")
    return whole


def _require_within(folder: Path, indices: Tensor, count: int) -> None:
    """Raises NcsnxError for an index outside 0 … count − 1."""
    beyond = indices[(indices < 0) | (indices >= count)]
    if len(beyond):
        raise NcsnxError(
            f"{folder} holds image {int(beyond[0]):,}, but the images are 0 to {count - 1:,}; remove it and repeat the "
            "command"
        )


def _require_all(folder: Path, times: Tensor) -> None:
    """Raises NcsnxError unless each index occurs in one part. times: (count,) int64."""
    if not bool((times == 1).all()):
        raise NcsnxError(
            f"{folder} holds {counted(int(times.sum()), 'image')} instead of {len(times):,}; remove it and repeat the "
            "command"
        )


@attrs.frozen
class _Head:
    """Indices of a part, and shapes of its tensors."""

    indices: list[int]
    shapes: dict[str, list[int]]


def _parts(folder: Path) -> list[Path]:
    """The files of parts in the folder, sorted; other files are ignored."""
    return sorted(path for path in folder.glob("*.safetensors") if is_part(path.name))


def _indices(path: Path) -> Tensor:
    """The indices of a part, (B,) int64."""
    with safe_open(path, framework="pt") as file:
        indices: Tensor = file.get_tensor(_INDICES)
    return indices


def _read_head(path: Path, count: int) -> _Head | None:
    """Indices and shapes of a part; None if it is torn or has more than `count` indices."""
    try:
        with opened(path):  # refuses pipes, on which safetensors would wait forever
            pass
        with safe_open(path, framework="pt") as file:  # refuses a file whose size doesn't match its header
            names = set(file.keys()) - {_INDICES}
            if math.prod(file.get_slice(_INDICES).get_shape()) > count:
                return None
            indices: Tensor = file.get_tensor(_INDICES)
            slices = {name: file.get_slice(name) for name in names}
            shapes = {name: found.get_shape() for name, found in slices.items()}
            known = all(found.get_dtype() in _TYPES for found in slices.values())
    except (SafetensorError, OSError, RuntimeError):  # torch raises RuntimeError if the file doesn't fit in memory
        return None
    whole = known and indices.dtype == torch.int64 and indices.dim() == 1
    return _Head(indices.tolist(), shapes) if whole else None
