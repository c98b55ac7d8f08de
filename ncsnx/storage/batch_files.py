"""Results for images by index in files that are read as one; finished ones survive an interruption of the job."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ncsnx.bounded_reads import reading
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage.atomic import make_folder, reporting, write_bytes

Tensors: TypeAlias = Mapping[str, Tensor]
"""Results for some indices by name, (B, …) each."""
Fits: TypeAlias = Callable[[int, Mapping[str, list[int]]], bool]
"""(first index of a file, shapes of its tensors by name) → whether it is of this job."""


@attrs.frozen
class BatchFiles:
    """Files STEM-FIRST.safetensors in a folder: tensors, (B, …) each, for B consecutive indices from FIRST on."""

    folder: Path
    stem: str = "part"
    fits: Fits = lambda first, shapes: True
    """Which files are of this job."""

    def files(self) -> dict[int, Path]:
        """The files by their first index, ascending."""
        name = re.compile(rf"{self.stem}-(\d{{5,}})\.safetensors")
        named = ((name.fullmatch(path.name), path) for path in self.folder.glob(f"{self.stem}-*"))
        return dict(sorted((int(match[1]), path) for match, path in named if match is not None))

    def add(self, first: int, tensors: Tensors, metadata: dict[str, str] | None = None) -> None:
        """Writes a file, durably and atomically. metadata: at most one entry. Raises NcsnxError."""
        content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
        write_bytes(make_folder(self.folder) / f"{self.stem}-{first:05d}.safetensors", content)

    def done(self, count: int) -> dict[Path, range]:
        """The indices, in 0 … count − 1, of each file that is whole and fits; of files that overlap, of the first."""
        done: dict[Path, range] = {}
        end = 0
        for first, path in self.files().items():
            try:
                # an error of the disk or the network is no reason to remove the file, which may be whole
                with reading(path), safe_open(path, framework="pt") as file:
                    shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            except SafetensorError:
                continue
            stop = first + min((shape[0] for shape in shapes.values()), default=0)
            if end <= first < stop <= count and self.fits(first, shapes):
                done[path], end = range(first, stop), stop
        return done

    def missing(self, count: int) -> list[int]:
        """Indices, in 0 … count − 1, that no file has, ascending. Several processes may write the files."""
        done = {index for indices in self.done(count).values() for index in indices}
        return [index for index in range(count) if index not in done]

    def prune(self, count: int) -> None:
        """Removes the files that aren't `done`. Raises NcsnxError."""
        for path in set(self.files().values()) - self.done(count).keys():
            with reporting(path):
                path.unlink()

    def read(
        self, name: str, first: int = 0, count: int | None = None, files: Mapping[int, Path] | None = None
    ) -> Tensor:
        """One of the tensors for `count` indices from `first` on, by default for all that follow.

        files: as `files` gives them, for many calls.
        """
        files = self.files() if files is None else files
        stop, pieces = math.inf if count is None else first + count, list[Tensor]()
        for begin, after in zip(files, [*files, math.inf][1:], strict=True):
            if begin < stop and after > first:
                with safe_open(files[begin], framework="pt") as file:
                    stored = file.get_slice(name)
                    pieces.append(stored[max(0, first - begin) : min(stop - begin, stored.get_shape()[0])])
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def assembled(self, count: int) -> dict[str, Tensor]:
        """All tensors by name, (count, …) each. Raises NcsnxError unless the files have each index once."""
        files, done = self.files(), self.done(count)
        held = sum(map(len, done.values()))
        if held != count or len(files) != len(done):
            found = counted(held, "image")
            raise NcsnxError(f"{self.folder} holds {found} instead of {count:,}; remove it and repeat the command")
        with safe_open(next(iter(files.values())), framework="pt") as file:
            return {name: self.read(name, files=files) for name in file.keys()}  # noqa: SIM118
