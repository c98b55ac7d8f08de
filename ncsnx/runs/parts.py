"""The finished batches of an unfinished sampling: one safetensors file each, whole or not there at all."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ncsnx.runs.atomic import reporting, write_bytes

_OURS = re.compile(r"\d{8,}-\d{8,}\.safetensors")


@attrs.frozen(eq=False)
class Part:
    """One batch."""

    indices: Tensor
    """(B,) int64."""
    images: Tensor
    """(B, columns, C, H, W) float32 in [0, 1]."""
    frames: Tensor
    """(F, b, columns, C, H, W) uint8 of those b ≤ B images that the grid shows; F = 0 without frames."""


def write_part(folder: Path, part: Part) -> None:
    """Adds a part to the folder, durably and atomically. Raises NcsnxError."""
    with reporting(folder):
        folder.mkdir(exist_ok=True)
    name = f"{int(part.indices[0]):08d}-{int(part.indices[-1]):08d}.safetensors"
    tensors = {"indices": part.indices, "images": part.images, "frames": part.frames}
    write_bytes(folder / name, safetensors.torch.save({key: t.contiguous() for key, t in tensors.items()}))


def read_parts(folder: Path) -> Iterator[Part]:
    """The parts of the folder, one at a time."""
    for path in _parts(folder):
        yield Part(**safetensors.torch.load_file(path))


def done_indices(folder: Path, count: int, shown: int, frames: int, image_shape: Sequence[int]) -> set[int]:
    """The indices of all parts. A part that is torn or doesn't fit isn't done, and is removed.

    count: indices must be below it; those below `shown` come with `frames` frames. image_shape: (columns, C, H, W).
    """
    done: set[int] = set()
    for path in _parts(folder):
        found = _read_head(path)
        if found is not None and found.indices and min(found.indices) >= 0 and max(found.indices) < count:
            with_frames = sum(index < shown for index in found.indices)
            images_fit = found.images == [len(found.indices), *image_shape]
            if images_fit and found.frames == [frames, with_frames, *image_shape]:
                done.update(found.indices)
                continue
        with reporting(path):
            path.unlink()
    return done


@attrs.frozen
class _Head:
    """What a part holds: its indices, and the shapes of its images and frames."""

    indices: list[int]
    images: list[int]
    frames: list[int]


def _parts(folder: Path) -> list[Path]:
    """Our files in the folder, and no others, whatever else is there."""
    return sorted(path for path in folder.glob("*.safetensors") if _OURS.fullmatch(path.name))


def _read_head(path: Path) -> _Head | None:
    if path.is_symlink():
        return None
    try:
        with safe_open(path, framework="pt") as file:  # refuses a file whose size isn't what its header says
            indices: Tensor = file.get_tensor("indices")
            images, frames = (file.get_slice(name).get_shape() for name in ("images", "frames"))
    except (SafetensorError, OSError):
        return None
    whole = indices.dtype == torch.int64 and indices.dim() == 1
    return _Head(indices.tolist(), images, frames) if whole else None
