"""Requests for samples."""

import pytest

from ncsnx.config import Images
from ncsnx.sampling.request import images_at_once


@pytest.mark.parametrize(("size", "images"), [(1, 256), (8, 256), (10, 163), (15, 72), (16, 64), (17, 64), (256, 64)])
def test_the_default_batch_is_larger_for_images_below_16_px(size: int, images: int) -> None:
    data = Images(root="pictures", image_size=size)
    assert images_at_once(data) == images
    assert images_at_once(data, 1) == 1
    assert images == 64 or images * size**2 <= 64 * 16**2, "no more memory than 64 images of 16 px take"
