"""Random geometric transformations of training images, and the labels that tell the network of them.

The network learns which changes the labels announce, so that samples, whose labels are 0, need not show them: the
augmentation of Karras et al. 2020 (arXiv 2006.06676) with labels as in Karras et al. 2022 (arXiv 2206.00364, appendix
F.2), with their strengths for CIFAR-10. Two details differ: images are interpolated bicubically instead of filtered,
and the labels of a stretching turn with twice its direction, so that equal stretchings have equal labels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ncsnx.randomness import Purpose, Stream

LABELS = 9
"""Labels of an image: mirrored, upside down, scale, rotation (cos − 1, sin), stretching (times cos and sin of twice its
direction), and translation (x, y). Those of scale, stretching and translation are standard normal where they happen."""
_SCALE, _ASPECT, _TRANSLATION = 0.2, 0.2, 0.125
"""Standard deviations of log2 of the scale, of log2 of the aspect, and of the translation as a share of the sides."""


WORDS = {(Purpose.AUGMENTATION, 0): 5, (Purpose.AUGMENTATION, 1): 4, (Purpose.AUGMENTATION, 2): 4}
"""Words of each image, by (purpose, step)."""


def augmented(x: Tensor, positions: Tensor, stream: Stream, probability: float) -> tuple[Tensor, Tensor]:
    """(transformed images, labels (B, 9) float32) of images (B, C, H, W) at positions of the training stream, (B,).

    Half of the images are mirrored. probability: of each of the five other transformations. An image whose labels are
    all 0 keeps its values.
    """
    chosen = (stream.uniform(positions, (5,)) < probability).float()
    uniforms, normals = stream.uniform(positions, (4,), step=1), stream.normal(positions, (4,), step=2)
    mirrored = (uniforms[:, 0] < 0.5).float()
    upside_down = (uniforms[:, 1] < 0.5).float() * chosen[:, 0]
    scale = normals[:, 0] * chosen[:, 1]
    angle = math.pi * (2 * uniforms[:, 2] - 1) * chosen[:, 2]
    aspect, direction = normals[:, 1] * chosen[:, 3], math.pi * (2 * uniforms[:, 3] - 1)
    shift = normals[:, 2:] * chosen[:, 4:]
    stretching = aspect * (2 * direction).cos(), aspect * (2 * direction).sin()
    labels = torch.stack([mirrored, upside_down, scale, angle.cos() - 1, angle.sin(), *stretching, *shift.T], dim=1)

    # from places of the result to places of the image, in pixels from its centre
    log_aspect = _ASPECT * aspect
    places = _diagonal(1 - 2 * mirrored, 1 - 2 * upside_down)
    places = places @ _rotation(direction) @ _diagonal(2**-log_aspect, 2**log_aspect) @ _rotation(-direction)
    places = places @ _rotation(-angle) * (2 ** (-_SCALE * scale)).view(-1, 1, 1)
    height, width = x.shape[2:]
    places[:, 0, 1] *= height / width  # F.affine_grid counts in half sides
    places[:, 1, 0] *= width / height
    places = torch.cat([places, 2 * _TRANSLATION * shift[..., None]], dim=2)
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
