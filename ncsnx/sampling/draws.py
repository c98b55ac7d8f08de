"""All random parts of sampling, as functions of the image indices."""

from collections.abc import Callable
from functools import partial

import attrs
from torch import Tensor

from ncsnx.capturing import CapturedFunction
from ncsnx.samplers.state import Constrain, Noise
from ncsnx.sampling.noise_sources import SeededNoise, initial_uniform


@attrs.frozen(eq=False, kw_only=True)
class Draws:
    """Initial states and noise of images. Indices are (B,) int64 on the device of the results."""

    initial: Callable[[Tensor], Tensor]
    """indices → initial x, (B·columns, C, H, W)."""
    noise: Callable[[Tensor], Noise]
    """indices → noise source of that shape."""
    condition: Callable[[Tensor], Constrain] | None = None
    """indices → measurement of those images."""
    columns: int = 1
    """Images per index; more than one for interpolation, where an index is a row."""


def seeded_draws(
    seed: int,
    shape: tuple[int, ...],
    from_unit: Callable[[Tensor], Tensor],
    *,
    graphs: bool = False,
    compiled: bool = False,
) -> Draws:
    """Draws of plain sampling: the uniform initial x and the noise of image i are functions of (seed, i).

    shape: (C, H, W). from_unit: the data transform, from [0, 1] to the network's range. graphs: whether the noise is
    replayed as a CUDA graph; then indices must be on a CUDA device. compiled: whether one compiled kernel draws it.
    """

    def initial(indices: Tensor) -> Tensor:
        return initial_uniform(seed, indices, shape, from_unit)

    def draw(indices: Tensor, k: int | Tensor) -> Tensor:
        return SeededNoise(seed, indices, shape, compiled=compiled)(k)

    if not graphs:
        return Draws(initial=initial, noise=lambda indices: partial(draw, indices))
    replayed = CapturedFunction(draw, "the sampler's noise")
    return Draws(initial=initial, noise=lambda indices: partial(replayed, indices))
