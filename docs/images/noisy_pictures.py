"""Pictures as people have them, beside what `ncsnx restore photographs` makes of them.

    pip install scikit-image
    python docs/images/noisy_pictures.py     # writes noisy-pictures.png beside it

A gray picture with noise of 25 of 255, one with shot noise of 30 counts at white, and a JPEG of quality 10: centers of
128×128 pixels, which the network wasn't trained on.
"""

import tempfile
from pathlib import Path

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image

import ncsnx
from ncsnx.images import captioned_grid
from ncsnx.inverse import psnr

SIDE = 128


def center(name: str) -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = getattr(skimage.data, name)()
    top, left = ((size - SIDE) // 2 for size in picture.shape[:2])
    part = picture[top : top + SIDE, left : left + SIDE]
    return part if part.ndim == 3 else np.repeat(part[..., None], 3, axis=2)


def tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(3, H, W) uint8."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def row(task: str, file: Path, truth: NDArray[np.uint8], what: str) -> dict[str, list[tuple[torch.Tensor, str]]]:
    with tempfile.TemporaryDirectory() as out:
        made = ncsnx.restore("photographs", **{task: file}, out=Path(out) / "made", progress=False)
        restored = (255 * torch.Tensor(made.means())[0]).round().to(torch.uint8)
    given, true = tensor(np.asarray(Image.open(file).convert("RGB"))), tensor(truth)

    def gain(of: torch.Tensor) -> str:
        return f"{psnr(of[None] / 255, true[None] / 255)[0]:.1f} dB"

    return {
        "given": [(given, f"{what}: {gain(given)}")],
        "restored": [(restored, gain(restored))],
        "truth": [(true, "")],
    }


def main() -> None:
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gray = center("camera")
        noisy = gray[..., 0] + 25 * random.standard_normal((SIDE, SIDE))
        Image.fromarray(noisy.clip(0, 255).round().astype(np.uint8)).save(folder / "gray.png")
        colors = center("chelsea")
        counted = random.poisson(30 * (colors / 255)) / 30 + 0.02 * random.standard_normal(colors.shape)
        Image.fromarray((255 * counted).clip(0, 255).round().astype(np.uint8)).save(folder / "counts.png")
        blocks = center("coffee")
        Image.fromarray(blocks).save(folder / "blocks.jpg", quality=10)
        rows = [
            row("denoise", folder / "gray.png", gray, "gray"),
            row("denoise", folder / "counts.png", colors, "shot noise"),
            row("jpeg", folder / "blocks.jpg", blocks, "JPEG"),
        ]
    Path(__file__).with_name("noisy-pictures.png").write_bytes(captioned_grid(rows))


if __name__ == "__main__":
    main()
