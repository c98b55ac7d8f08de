"""Distances of images to the truth: PSNR, SSIM and NMSE.

SSIM is Wang et al. 2004 (IEEE Trans. Image Process. 13, 600–612) as `skimage.metrics.structural_similarity` computes it
by default: uniform windows of 7×7 pixels, K₁ = 0.01, K₂ = 0.03, sample covariances (divided by 48), the mean over the
windows that lie inside the image, and over channels. NMSE is ‖x − t‖² / ‖t‖², as in fastMRI (arXiv 1811.08839).
"""

import math
from typing import Self

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from ncsnx.images import complex_parts
from ncsnx.space import Space

WINDOW = 7
"""Height and width of the windows of SSIM, in pixels."""
_K1, _K2 = 0.01, 0.03


@attrs.frozen(eq=False)
class Comparison:
    """The truth of one picture, with which samples are compared in the data's own values."""

    space: Space
    truth: Tensor
    """(1, C, H, W), as it is compared: of complex images the magnitudes."""
    data_range: float
    """Range of the values for PSNR and SSIM: that of the data; for unbounded or complex data, the truth's largest
    magnitude."""

    @classmethod
    def of(cls, truth: Tensor | None, space: Space) -> Self | None:
        """The comparison with a task's truth; None without one, and for one of zeros that has no range."""
        if truth is None:
            return None
        compared = _compared(space, truth.double() * space.span)
        limited = space.bounded and not space.complex
        data_range = space.own[1] - space.own[0] if limited else float(compared.abs().max())
        return cls(space, compared, data_range) if data_range > 0 else None

    def distances(self, samples: Tensor) -> Tensor:
        """`image_distances` of samples (B, C, H, W) to the truth."""
        return image_distances(_compared(self.space, samples), self.truth, self.data_range)


def _compared(space: Space, values: Tensor) -> Tensor:
    """The real images to compare, (B, C, H, W), in own numbers; of complex values magnitudes."""
    own = space.own_numbers(values)
    return torch.hypot(*complex_parts(own)) if space.complex else own


def image_distances(images: Tensor, truth: Tensor, data_range: float) -> Tensor:
    """PSNR (dB, infinite for an equal image), SSIM and NMSE of each image, (B, 3) float64.

    SSIM is NaN for images smaller than a window, NMSE is infinite or NaN for a truth of zeros. images: (B, C, H, W);
    truth: (1, C, H, W); data_range: difference between the largest and the smallest possible value, positive.
    """
    images, truth = images.double(), truth.double()
    peaks = torch.tensor(psnr(images, truth, data_range), dtype=torch.float64)
    errors = _squared_errors(images, truth) / truth.square().mean()
    return torch.stack([peaks, ssim(images, truth, data_range), errors], dim=1)


def psnr(images: Tensor, truth: Tensor, data_range: float = 1.0) -> list[float]:
    """Peak signal-to-noise ratio of each image in dB, infinite for equal images.

    Both (B, C, H, W), or one truth for all; data_range: as in `image_distances`, 1 for images in [0, 1].
    """
    errors = _squared_errors(images, truth).tolist()
    return [math.inf if error == 0 else -10 * math.log10(error / data_range**2) for error in errors]


def _squared_errors(images: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of each image, (B,) float64."""
    return (images.double() - truth.double()).square().flatten(1).mean(dim=1)


def ssim(images: Tensor, truth: Tensor, data_range: float) -> Tensor:
    """Structural similarity of each image, (B,) float64; arguments as in `image_distances`."""
    if min(images.shape[2:]) < WINDOW:
        return torch.full((len(images),), math.nan, dtype=torch.float64)
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    x, t = images.double(), truth.double()
    mean_x, mean_t = _windows(x), _windows(t)
    variance_x = unbiased * (_windows(x * x) - mean_x * mean_x)
    variance_t = unbiased * (_windows(t * t) - mean_t * mean_t)
    covariance = unbiased * (_windows(x * t) - mean_x * mean_t)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance = (2 * mean_x * mean_t + c1) / (mean_x**2 + mean_t**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_t + c2)
    return (luminance * structure).flatten(1).mean(dim=1)


def _windows(x: Tensor) -> Tensor:
    """The mean in each window inside the images."""
    rows = functional.avg_pool2d(x, (WINDOW, 1), stride=1)  # in two steps, of 7 values each instead of 49
    return functional.avg_pool2d(rows, (1, WINDOW), stride=1)
