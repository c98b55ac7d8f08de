"""The law of a sampler's images of Gaussian data: exact mean and covariance, without Monte Carlo.

With the exact score and a linear measurement, an image is an affine function of all draws of noise. So one image of
no noise is the mean, and one image for each unit impulse in a draw gives the covariance.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ncsnx.samplers.state import Noise

Source = Callable[[str], Noise]
"""Name of an independent source of noise → its draws (B, C, H, W)."""


def law(drawn: Callable[[int, Source], Tensor], shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean (N,) and covariance (N, N) of images. drawn: (count, source) → images (count, N), with draws of `shape`."""
    used: dict[tuple[str, int], int] = {}

    def silent(name: str) -> Noise:
        def draw(k: int) -> Tensor:
            used.setdefault((name, k), len(used))
            return torch.zeros(1, *shape, dtype=torch.float64)

        return draw

    mean, size = drawn(1, silent)[0], torch.Size(shape).numel()
    count = 1 + len(used) * size

    def impulses(name: str) -> Noise:
        def draw(k: int) -> Tensor:
            noise, first = torch.zeros(count, size, dtype=torch.float64), 1 + used[name, k] * size
            noise[first : first + size] = torch.eye(size)
            return noise.view(count, *shape)

        return draw

    response = drawn(count, impulses)[1:] - mean
    return mean, response.T @ response
