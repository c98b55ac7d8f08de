"""Folders and zips of small pictures, like those of users."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, value: int = 0, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> Path:
    """A picture of noise seeded by `value`; size: (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(value)
    noise = generator.integers(0, 256, (size[1], size[0], 4 if mode == "RGBA" else 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def mixed(folder: Path, count: int, size: tuple[int, int] = (6, 5)) -> list[str]:
    """Writes `count` pictures of four kinds into nested folders; returns their sorted names."""
    names = []
    for number in range(count):
        kind, mode = [(".png", "RGB"), (".JPG", "RGB"), (".png", "RGBA"), (".webp", "L")][number % 4]
        name = f"{'ab'[number % 2]}/{number % 3}/{number:03d}{kind}"
        save(folder / name, number, size, mode)
        names.append(name)
    return sorted(names)


def zipped(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Writes a zip of these members, whatever their names."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def zip_of(path: Path, folder: Path) -> Path:
    """Writes a zip of the files in a folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return zipped(path, {str(file.relative_to(folder)): file.read_bytes() for file in files})
