"""Initial states, and noise sources that return the k-th draw.

All are functions of (seed, image index) and, for noise, of k. They don't depend on the batch of an image.
"""

from collections.abc import Callable

import attrs
from torch import Tensor

from ncsnx.randomness import Purpose, Stream


@attrs.frozen(eq=False)
class SeededNoise:
    """Noise of the images `indices` under `seed`."""

    seed: int
    indices: Tensor
    """(B,) int64, on the device of the noise."""
    shape: tuple[int, ...]
    """Shape of an image: (C, H, W)."""
    purpose: Purpose = Purpose.SAMPLER_NOISE
    compiled: bool = False
    """Whether one compiled kernel draws it; see `Stream.compiled`."""

    def __call__(self, k: int | Tensor) -> Tensor:
        """(B, C, H, W) float32, unit normal. k: a number, or a 0-dim int64 tensor on the device of the noise."""
        return Stream(self.seed, self.purpose, self.compiled).normal(self.indices, self.shape, step=k)


@attrs.frozen(eq=False)
class RecordedNoise:
    """Replays recorded draws."""

    draws: Tensor
    """(K, B, C, H, W), in the order of use."""

    def __call__(self, k: int) -> Tensor:
        """(B, C, H, W). Raises IndexError past the last draw."""
        return self.draws[k]


def initial_uniform(
    seed: int, indices: Tensor, shape: tuple[int, ...], from_unit: Callable[[Tensor], Tensor]
) -> Tensor:
    """x ~ U[0, 1) through the data transform, as published: (B, C, H, W) float32 on the device of `indices`.

    indices: (B,) int64 of the images. from_unit: the data transform, from [0, 1] to the network's range.
    """
    return from_unit(Stream(seed, Purpose.INITIAL_SAMPLE).uniform(indices, shape))


def initial_normal(seed: int, indices: Tensor, shape: tuple[int, ...], *, mean: Tensor | float, sigma: float) -> Tensor:
    """mean + σ z: (B, C, H, W) float32 on the device of `indices`, (B,) int64 of the images. mean: one or (C, 1, 1)."""
    return mean + sigma * Stream(seed, Purpose.INITIAL_SAMPLE).normal(indices, shape)


def initial_from_data(
    seed: int,
    indices: Tensor,
    shape: tuple[int, ...],
    *,
    sigma_max: float,
    data_size: int,
    data: Callable[[Tensor], Tensor],
) -> Tensor:
    """Training images + σ_1 z ('data_init'): (B, C, H, W) float32 on the device of `indices`.

    data: (B,) int64 positions in [0, data_size) → (B, C, H, W), transformed, on the device of the positions.
    """
    chosen = Stream(seed, Purpose.SAMPLE_DATA).integers(indices, data_size)
    return data(chosen) + sigma_max * Stream(seed, Purpose.INITIAL_SAMPLE).normal(indices, shape)
