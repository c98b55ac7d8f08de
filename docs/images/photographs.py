"""How well a prior of photographs denoises by D in one evaluation, on standard pictures that it wasn't trained on.

    python docs/images/photographs.py RUN [CHECKPOINT]     # pip install scikit-image

prints the PSNR of the noisy and the denoised centres, 256×256, of astronaut, chelsea, coffee and rocket at σ 15, 25 and
50 of 255: evaluated whole, and in tiles of the size of the training's patches. Tiles overlap, and only their middles
are used. The network normalizes by statistics of all that it sees, so that the two differ.
"""

import sys
from pathlib import Path

import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

import ncsnx
from ncsnx.inverse.image_quality import psnr
from ncsnx.sampling.model import Model

PICTURES = ("astronaut", "chelsea", "coffee", "rocket")
SIDE, SIGMAS, SEED = 256, (15, 25, 50), 0
MARGIN = 8
"""Pixels at each side of a tile that are computed, but not used."""


def main(run: str, checkpoint: str = "latest") -> None:
    model = ncsnx.load(Path(run), checkpoint, precision="fp32")
    truth = torch.stack([centre(name) for name in PICTURES])
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(SEED))
    print(f"{run}, checkpoint {checkpoint}, PSNR in dB\n{'σ':>3}  {'':8}{'  '.join(PICTURES)}     mean")
    for sigma in SIGMAS:
        noisy = truth + sigma / 255 * noise
        rows = {
            "noisy": noisy,
            "whole": denoised(model, noisy, sigma / 255),
            "tiles": in_tiles(model, noisy, sigma / 255),
        }
        for name, images in rows.items():
            found = psnr(images.clamp(0, 1), truth)
            cells = "  ".join(f"{value:{len(of)}.2f}" for of, value in zip(PICTURES, found, strict=True))
            print(f"{sigma:>3}  {name:8}{cells}  {sum(found) / len(found):7.2f}", flush=True)


def centre(name: str) -> Tensor:
    """(3, SIDE, SIDE) in [0, 1]."""
    picture = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1) / 255
    top, left = ((side - SIDE) // 2 for side in picture.shape[1:])
    return picture[:, top : top + SIDE, left : left + SIDE]


@torch.no_grad()
def denoised(model: Model, noisy: Tensor, sigma: float) -> Tensor:
    """The mean of the pictures (B, C, H, W) given themselves with noise of σ, in one evaluation of the network."""
    return model.from_network(model.denoise(model.to_network(noisy), sigma / model.space.scale))


def in_tiles(model: Model, noisy: Tensor, sigma: float) -> Tensor:
    """The same, evaluated in overlapping tiles of the size of the model's images, picture by picture."""
    side = model.space.shape[-1]
    step = side - 2 * MARGIN
    padded = F.pad(noisy, [MARGIN, -SIDE % step + MARGIN] * 2, mode="reflect")
    tiles = padded.unfold(2, side, step).unfold(3, side, step).permute(0, 2, 3, 1, 4, 5)  # (B, rows, columns, C, h, w)
    made = torch.stack([denoised(model, of_one.flatten(0, 1), sigma) for of_one in tiles])
    middles = made[..., MARGIN:-MARGIN, MARGIN:-MARGIN].unflatten(1, tiles.shape[1:3])
    whole = middles.permute(0, 3, 1, 4, 2, 5)  # (B, C, rows, h, columns, w)
    return whole.flatten(4, 5).flatten(2, 3)[..., :SIDE, :SIDE]


if __name__ == "__main__":
    main(*sys.argv[1:])
