"""The images of a checkpoint as PNGs: beside its unfinished parts until all are there, then in their place."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from ncsnx.images import save_png
from ncsnx.storage.atomic import reporting
from ncsnx.storage.reading import refuse_links


def beside(parts: Path) -> Path:
    """Where they are until then. Raises NcsnxError where that leads elsewhere."""
    folder = parts / "images"
    refuse_links(folder)
    return folder


def write_images(folder: Path, indices: Sequence[int], pixels: Tensor) -> None:
    """Writes (B, C, H, W) uint8, durably. Raises NcsnxError."""
    with reporting(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for index, image in zip(indices, pixels, strict=True):
        save_png(_file(folder, index), image)


def has_images(folder: Path, indices: Iterable[int]) -> bool:
    """Whether all of them are there."""
    return all(_file(folder, index).is_file() for index in indices)


def finish_images(folder: Path, place: Path) -> None:
    """Moves them to their place, instead of what is there. Raises NcsnxError."""
    with reporting(place):
        place.parent.mkdir(exist_ok=True)
        if place.exists():
            shutil.rmtree(place)
        folder.rename(place)


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.png"
