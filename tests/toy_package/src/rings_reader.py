"""Reader of the rings: synthetic images for tests."""

import hashlib
from pathlib import Path

import torch
from rings_config import Rings

from ncsnx.data import InMemory, Splits, StoredImages, data_set
from ncsnx.work import Work


@data_set(Rings)
def read_rings(data: Rings, folder: Path, work: Work) -> Splits:
    """Draws the rings; one in ten is held out."""
    number = torch.arange(data.count)
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    radius = 1 + 3 * number / data.count
    away = ((x - 3.5).square() + (y - 3.5).square()).sqrt() - radius[:, None, None]
    pixels = (255 * (1 - away.abs()).clamp(min=0)).to(torch.uint8)[:, None]
    whole = InMemory(StoredImages(pixels, labels=torch.full((data.count,), -1), ids=number), value_range=(0, 255))
    fingerprint = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
    return Splits(whole.subset(number % 10 > 0), whole.subset(number % 10 == 0), fingerprint)
