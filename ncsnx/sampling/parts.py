"""The finished batches of an unfinished sampling: one safetensors file each, whole or not there at all."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ncsnx.runs.atomic import write_bytes


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
    """Adds a part to the folder, durably and atomically."""
    folder.mkdir(exist_ok=True)
    name = f"{int(part.indices[0]):08d}-{int(part.indices[-1]):08d}.safetensors"
    tensors = {"indices": part.indices, "images": part.images, "frames": part.frames}
    write_bytes(folder / name, safetensors.torch.save({key: t.contiguous() for key, t in tensors.items()}))


def read_parts(folder: Path) -> Iterator[Part]:
    """The parts of the folder, one at a time."""
    for path in sorted(folder.glob("*.safetensors")):
        yield Part(**safetensors.torch.load_file(path))


def done_indices(folder: Path, image_shape: Sequence[int]) -> set[int]:
    """The indices of all parts. A part that is torn or of another shape isn't done, and is removed.

    image_shape: (columns, C, H, W).
    """
    done: set[int] = set()
    for path in sorted(folder.glob("*.safetensors")):
        indices = _sound_indices(path, list(image_shape))
        if indices is None:
            path.unlink()
        else:
            done.update(indices)
    return done


def _sound_indices(path: Path, image_shape: list[int]) -> list[int] | None:
    try:
        with safe_open(path, framework="pt") as file:  # refuses a file whose size isn't what its header says
            indices: Tensor = file.get_tensor("indices")
            shape = file.get_slice("images").get_shape()
    except (SafetensorError, OSError):
        return None
    if indices.dtype != torch.int64 or shape != [len(indices), *image_shape]:
        return None
    return [int(index) for index in indices]
