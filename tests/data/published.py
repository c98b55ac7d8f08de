"""Reference pixels by torchvision's transforms."""

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ncsnx.data.dataset import NO_LABEL, Dataset


def expected(content: bytes, transform: Callable[[Image.Image], Image.Image]) -> Tensor:
    """(3, H, W) uint8: the picture decoded by Pillow, converted to RGB and transformed."""
    image = transform(Image.open(io.BytesIO(content)).convert("RGB"))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def check(
    split: Dataset, pictures: Sequence[bytes], ids: Sequence[int], transform: Callable[[Image.Image], Image.Image]
) -> None:
    """Asserts that `split` has exactly these pictures and ids, in order, with equal pixels and no labels."""
    assert len(split) == len(pictures) == len(ids)
    images = split.read(torch.arange(len(split)))
    assert (images.pixels.dtype, split.value_range) == (torch.uint8, (0, 255))
    assert images.pixels.shape[1:] == split.shape
    assert images.ids.tolist() == list(ids)
    assert images.labels.tolist() == [NO_LABEL] * len(ids)
    for pixels, content in zip(images.pixels, pictures, strict=True):
        assert torch.equal(pixels, expected(content, transform))
