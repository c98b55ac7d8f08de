"""Random geometric transformations of training images, and the labels that tell the network of them.

The network learns which changes the labels announce, so that samples, whose labels are 0, need not show them: the
augmentation of Karras et al. 2020 (arXiv 2006.06676) with labels as in Karras et al. 2022 (arXiv 2206.00364, appendix
F.2), in their order and with their strengths for CIFAR-10. Only the interpolation differs: it is bicubic instead of
filtered by wavelets, and images are mirrored at the edges of their outer pixels, not at the centers.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ncsnx.randomness import Purpose, Stream

LABELS = 9
"""Labels of an image: mirrored, upside down, scale, rotation (cos − 1, sin), stretching (times cos and sin of its
direction), and translation (x, y). Those of scale, stretching and translation are standard normal where they happen."""
_SCALE, _ASPECT, _TRANSLATION = 0.2, 0.2, 0.125
"""Standard deviations of log2 of scale and stretching, and of the translation as a share of the sides."""
WORDS = {(Purpose.AUGMENTATION, 0): 10, (Purpose.AUGMENTATION, 1): 4}
"""Words of each image, by (purpose, step)."""


def augmented(x: Tensor, positions: Tensor, stream: Stream, probability: float) -> tuple[Tensor, Tensor]:
    """(transformed images, labels (B, 9) float32) of images (B, C, H, W) at positions of the training stream, (B,).

    Half of the images are mirrored. Then, each with this probability: half of the chosen ones are turned upside down;
    images are scaled, rotated, stretched along one direction and shrunk across it, half of them along the rows, and
    shifted, in this order. An image whose labels are all 0 keeps its values.
    """
    uniforms, normals = stream.uniform(positions, (10,)), stream.normal(positions, (4,), step=1)
    chosen, coins = (uniforms[:, :5] < probability).float(), (uniforms[:, 5:8] < 0.5).float()
    mirrored, upside_down = coins[:, 0], coins[:, 1] * chosen[:, 0]
    angle, direction = (math.pi * (2 * uniforms[:, 8:] - 1)).unbind(dim=1)
    angle, direction = angle * chosen[:, 2], direction * coins[:, 2]
    scale, stretching, shift = (
        normals[:, 0] * chosen[:, 1],
        normals[:, 1] * chosen[:, 3],
        normals[:, 2:] * chosen[:, 4:],
    )
    along = stretching * direction.cos(), stretching * direction.sin()
    labels = torch.stack([mirrored, upside_down, scale, angle.cos() - 1, angle.sin(), *along, *shift.T], dim=1)

    # from places of the result to places of the image, in pixels from its center
    flips = torch.stack([1 - 2 * mirrored, 1 - 2 * upside_down], dim=1) * torch.exp2(-_SCALE * scale)[:, None]
    shrinking = torch.exp2(_ASPECT * torch.stack([-stretching, stretching], dim=1))
    places = flips[:, :, None] * _rotation(angle - direction) * shrinking[:, None] @ _rotation(direction)
    height, width = x.shape[2:]
    places[:, 0, 1] *= height / width  # F.affine_grid counts in half sides
    places[:, 1, 0] *= width / height
    places = torch.cat([places, places @ shift[..., None] * (-2 * _TRANSLATION)], dim=2)
    grid = F.affine_grid(places, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return torch.where((labels == 0).all(dim=1).view(-1, 1, 1, 1), x, moved), labels


def _rotation(angle: Tensor) -> Tensor:
    """(B, 2, 2) rotations by angles (B,) in radians."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
