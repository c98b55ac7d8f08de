"""Interpolation between two sources of noise, as in Song & Ermon 2020 (arXiv 2006.09011).

Column k of K gets the noise cos θ_k · p + sin θ_k · q, which is unit normal, with θ_k from 0 to π/2 in equal steps.
"""

import math
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from ncsnx.randomness import Purpose
from ncsnx.samplers.state import Noise
from ncsnx.sampling.draws import Draws
from ncsnx.sampling.noise_sources import SeededNoise


@attrs.frozen(eq=False)
class InterpolatedNoise:
    """Noise from p to q in `columns` equal steps of angle. p and q give (R, C, H, W), one draw per row."""

    p: Noise
    q: Noise
    columns: int

    def __call__(self, k: int) -> Tensor:
        """(R·columns, C, H, W), flattened as row · columns + column. Column 0 is p exactly."""
        return slerp_rows(self.p(k), self.q(k), self.columns)


_Start = Callable[[Tensor], Tensor]
"""(R,) int64 indices of rows → their initial states, (R, C, H, W)."""


def repeat_rows(x: Tensor, columns: int) -> Tensor:
    """(R, C, H, W) → (R·columns, C, H, W), each row repeated: all columns of a row start from one x, as published."""
    return x.repeat_interleave(columns, dim=0)


def slerp_rows(x: Tensor, y: Tensor, columns: int, middle: Tensor | float = 0.0) -> Tensor:
    """x and y, both (R, C, H, W) → (R·columns, C, H, W): from x to y in equal steps of angle around `middle`.

    Normal noise around the middle keeps its distribution. The first column is x exactly.
    """
    middle = torch.as_tensor(middle, device=x.device)
    angles = torch.linspace(0, math.pi / 2, columns, dtype=x.dtype, device=x.device)
    theta = angles.view(1, -1, *[1] * (x.dim() - 1))
    between = theta.cos() * (x - middle).unsqueeze(1) + theta.sin() * (y - middle).unsqueeze(1) + middle
    between[:, 0] = x
    return between.flatten(0, 1)


def interpolated(
    draws: Draws,
    q: Callable[[Tensor], Noise],
    columns: int,
    *,
    other: _Start | None = None,
    middle: Tensor | float = 0.0,
) -> Draws:
    """Draws whose rows go from the noise of `draws` (column 0) to the noise of q (last column), in `columns` columns.

    q: (R,) int64 indices of rows → their noise. other: initial states of the last column; None: all columns start from
    the same state, as published. middle: mean of the data, around which initial states are interpolated.
    """

    def initial(rows: Tensor) -> Tensor:
        x = draws.initial(rows)
        return repeat_rows(x, columns) if other is None else slerp_rows(x, other(rows), columns, middle)

    return Draws(
        initial=initial,
        noise=lambda rows: InterpolatedNoise(draws.noise(rows), q(rows), columns),
        columns=draws.columns * columns,
    )


def second_noise(seed: int, shape: tuple[int, ...]) -> Callable[[Tensor], Noise]:
    """The noise q of an interpolation under one seed: separate for each row, and independent of the samplers' noise."""
    return lambda rows: SeededNoise(seed, rows, shape, Purpose.INTERPOLATION_NOISE)
