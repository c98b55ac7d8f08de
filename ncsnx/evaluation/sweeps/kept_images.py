"""Images of a checkpoint as PNGs: beside its unfinished parts at first, moved to their folder when complete."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from ncsnx.images import save_png
from ncsnx.storage.atomic import remove_tree, reporting


def unfinished_images(parts: Path) -> Path:
    """The folder of images beside unfinished parts."""
    return parts / "images"


def write_images(folder: Path, indices: Sequence[int], pixels: Tensor) -> None:
    """Writes (B, C, H, W) uint8 images durably. Raises NcsnxError."""
    with reporting(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for index, image in zip(indices, pixels, strict=True):
        save_png(_file(folder, index), image)


def has_images(folder: Path, indices: Iterable[int]) -> bool:
    """Whether the images of all indices exist."""
    return all(_file(folder, index).is_file() for index in indices)


def finish_images(folder: Path, place: Path) -> None:
    """Moves the folder of images to `place`, replacing what exists there. Raises NcsnxError."""
    with reporting(place):
        place.parent.mkdir(exist_ok=True)
        if place.exists():
            remove_tree(place)
        folder.rename(place)


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.png"
