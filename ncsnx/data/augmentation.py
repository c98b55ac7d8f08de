"""Random geometric transformations of training images, and the labels that tell the network of them.

The network learns to see the transformations in the labels, so that samples, whose labels are 0, don't show them: the
non-leaking augmentation of Karras et al. 2020 (arXiv 2006.06676) as in Karras et al. 2022 (arXiv 2206.00364, appendix
F.2), with their strengths. Theirs filters images while it resamples them; this one interpolates bicubically.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ncsnx.randomness import Purpose, Stream

LABELS = 9
"""Labels of an image: mirrored, upside down, log2 of the scale, rotation (cos − 1, sin), log2 of the aspect times
(cos, sin) of twice its direction, and translation (x, y) as a share of the sides."""
_SCALE, _ASPECT, _TRANSLATION = 0.2, 0.2, 0.125
"""Standard deviations of log2 of the scale, of log2 of the aspect, and of the translation."""


def augmented(x: Tensor, positions: Tensor, seed: int, probability: float) -> tuple[Tensor, Tensor]:
    """(transformed images, labels (B, 9) float32) of images (B, C, H, W) at positions of the training stream, (B,).

    probability: of each of six transformations. An image with none of them keeps its values.
    """
    stream = Stream(seed, Purpose.AUGMENTATION)
    happens = (stream.uniform(positions, (6,)) < probability).float()
    uniforms, normals = stream.uniform(positions, (4,), step=1), stream.normal(positions, (4,), step=2)
    mirrored, upside_down = ((uniforms[:, :2] < 0.5).float() * happens[:, :2]).unbind(dim=1)
    scale = _SCALE * normals[:, 0] * happens[:, 2]
    angle = math.pi * (2 * uniforms[:, 2] - 1) * happens[:, 3]
    aspect, direction = _ASPECT * normals[:, 1] * happens[:, 4], math.pi * (2 * uniforms[:, 3] - 1)
    shift = _TRANSLATION * normals[:, 2:] * happens[:, 5:]
    along = (aspect * (2 * direction).cos(), aspect * (2 * direction).sin())
    labels = torch.stack([mirrored, upside_down, scale, angle.cos() - 1, angle.sin(), *along, *shift.T], dim=1)

    # from places of the result to places of the image, in pixels from its centre
    places = _diagonal(1 - 2 * mirrored, 1 - 2 * upside_down)
    places = places @ _rotation(direction) @ _diagonal(2**-aspect, 2**aspect) @ _rotation(-direction)
    places = places @ _rotation(-angle) * (2**-scale).view(-1, 1, 1)
    _, _, height, width = x.shape
    sides = torch.tensor([width, height], dtype=torch.float32, device=x.device)
    places = torch.cat([places * (sides / sides[:, None]), 2 * shift[..., None]], dim=2)  # in half sides
    grid = F.affine_grid(places, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return torch.where((labels == 0).all(dim=1).view(-1, 1, 1, 1), x, moved), labels


def _rotation(angle: Tensor) -> Tensor:
    """(B, 2, 2) rotations by angles (B,) in radians."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)


def _diagonal(first: Tensor, second: Tensor) -> Tensor:
    """(B, 2, 2) diagonal matrices."""
    return torch.diag_embed(torch.stack([first, second], dim=1))
