"""Adaptive solver of ordinary differential equations in σ, with steps of its own for each image.

The explicit Runge–Kutta method of order 5 of Dormand & Prince 1980 (J. Comput. Appl. Math. 6, 19–26, table 2). The
error of a step is estimated by the embedded method of order 4 of Shampine 1986 (Math. Comp. 46, 135–150), which gives
two thirds of the original estimate. First step and step size control are from Hairer, Nørsett & Wanner 1993 (Solving
Ordinary Differential Equations I), section II.4, "Starting Step Size" and equations 4.11 to 4.13.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ncsnx.errors import DivergedError
from ncsnx.quantities import counted

METHOD = "dopri5"
"""The Dormand–Prince method of order 5, with step size control by the embedded method of order 4."""
MOST_EVALUATIONS = 50_000
"""Most evaluations of an image in one call; more means that the solver makes no progress."""

Slope: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(σ (B',), y (B', …), rows (B',) int64) → dy/dσ of the images `rows` of the batch, each at its own σ."""
Norm: TypeAlias = Callable[[Tensor], Tensor]
"""Errors (B', …) → their norm (B',) for each image."""

_NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
_WEIGHTS = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
_ERRORS = tuple(
    2 / 3 * difference for difference in (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
)
_ORDER = 5
_SAFETY, _LEAST_FACTOR, _MOST_FACTOR = 0.9, 0.2, 10.0


@torch.no_grad()
def solve(
    slope: Slope, y: Tensor, start: float, end: float, *, tolerance: float, norm: Norm, first: Tensor | None = None
) -> Tensor:
    """y(end), where y(start) = y and dy/dσ = slope(σ, y).

    y: (B, …) float64, since rounding in float32 would limit the tolerance. first: the slope at `start`, if known. norm:
    norm of the estimated errors in units of tolerance · (1 + |y|); a step of an image is accepted if its norm is at
    most 1. Each image has its own steps, so that it doesn't depend on its batch. Every evaluation is that of all images
    that haven't arrived at `end`. Raises DivergedError if a slope isn't finite or the steps become too small.
    """
    images = _Images(_checked(slope), y, start, end, tolerance, norm)
    final = torch.empty_like(y)
    images.begin(first)
    while len(images.rows):
        arrived = images.advance()
        if bool(arrived.any()):
            final[images.rows[arrived]] = images.y[arrived]
            images.keep(~arrived)
    return final


def in_float64(x: Tensor) -> Tensor:
    """x in float64: on its device, or on the CPU if the device has no float64 (MPS)."""
    return x.cpu().double() if x.device.type == "mps" else x.double()


def rms_error(errors: Tensor) -> Tensor:
    """Root mean square of each image's errors, (B,). errors: (B, …)."""
    return errors.flatten(1).square().mean(dim=1).sqrt()


class _Images:
    """The images that are still under way: their σ, y, slope and next step, one row each."""

    def __init__(self, slope: Slope, y: Tensor, start: float, end: float, tolerance: float, norm: Norm) -> None:
        self._slope, self._end, self._tolerance, self._norm = slope, end, tolerance, norm
        self.rows = torch.arange(len(y), device=y.device)
        self.y = y
        self._sigma = y.new_full((len(y),), start)
        self._step = y.new_full((len(y),), end - start)
        self._slopes = y

    def begin(self, first: Tensor | None) -> None:
        """Evaluates the slope at the start, unless it is known, and chooses the first step."""
        self._slopes = self._slope(self._sigma, self.y, self.rows) if first is None else first
        if len(self.rows):
            self._step = self._first_step(self._step)

    def advance(self) -> Tensor:
        """Tries a step of every image: (B',) bool, whether it arrived at the end."""
        left = self._end - self._sigma
        last = self._step.abs() >= left.abs()
        step = torch.where(last, left, self._step)
        self._require_progress(self._sigma + step)
        reached, slope, error = self._tried(step)
        scale = self._tolerance * (1 + torch.maximum(self.y.abs(), reached.abs()))
        ratio = self._norm(error / scale)
        accepted = ratio <= 1  # False for NaN
        self._sigma = torch.where(accepted, torch.where(last, self._end, self._sigma + step), self._sigma)
        self.y = torch.where(_each(accepted, self.y), reached, self.y)
        self._slopes = torch.where(_each(accepted, slope), slope, self._slopes)
        self._step = step * _factor(ratio)
        return accepted & last

    def keep(self, which: Tensor) -> None:
        """Continues with some of the images. which: (B',) bool."""
        self.rows, self.y, self._slopes = self.rows[which], self.y[which], self._slopes[which]
        self._sigma, self._step = self._sigma[which], self._step[which]

    def _tried(self, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(y at the end of the step, the slope there, the estimated error)."""
        slopes, h = [self._slopes], _each(step, self.y)
        for node, weights in zip(_NODES, _STAGES, strict=True):
            y = self.y + h * _combined(weights, slopes)
            slopes.append(self._slope(self._sigma + node * step, y, self.rows))
        reached = self.y + h * _combined(_WEIGHTS, slopes)
        slopes.append(self._slope(self._sigma + step, reached, self.rows))
        return reached, slopes[-1], h * _combined(_ERRORS, slopes)

    def _first_step(self, whole: Tensor) -> Tensor:
        """Size of the first step, with its sign. whole: (B,), from the start to the end."""
        scale = self._tolerance * (1 + self.y.abs())
        size, steepness = self._norm(self.y / scale), self._norm(self._slopes / scale)
        small = (size < 1e-5) | (steepness < 1e-5)
        trial = torch.where(small, 1e-6, 0.01 * size / steepness).minimum(whole.abs())
        h = trial * whole.sign()
        there = self._slope(self._sigma + h, self.y + _each(h, self.y) * self._slopes, self.rows)
        curvature = self._norm((there - self._slopes) / scale) / trial
        most = torch.maximum(steepness, curvature)
        flat = torch.maximum(torch.full_like(trial, 1e-6), 1e-3 * trial)
        found = torch.where(most <= 1e-15, flat, (0.01 / most) ** (1 / _ORDER))
        return torch.minimum(100 * trial, found) * whole.sign()

    def _require_progress(self, ends: Tensor) -> None:
        stuck = (ends == self._sigma) & (self._sigma != self._end)
        if bool(stuck.any()):
            raise DivergedError(
                f"the tolerance {self._tolerance:g} cannot be kept: steps become too small at "
                f"σ = {float(self._sigma[stuck][0]):.3g}; try a larger one"
            )


def _factor(ratio: Tensor) -> Tensor:
    """Factor of the next step, (B',), at least 1 after an accepted one. ratio: error in units of the tolerance."""
    least = torch.where(ratio < 1, 1.0, _LEAST_FACTOR)
    wanted = (_SAFETY / ratio ** (1 / _ORDER)).nan_to_num(nan=_LEAST_FACTOR)
    return wanted.maximum(least).clamp(max=_MOST_FACTOR)


def _combined(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        if weight != 0:
            total = total.add_(slope, alpha=weight)
    return total


def _each(values: Tensor, like: Tensor) -> Tensor:
    """Values (B,) in the shape (B, 1, …) that broadcasts with `like`."""
    return values.view(-1, *(1 for _ in like.shape[1:]))


def _checked(slope: Slope) -> Slope:
    """The slope, which raises DivergedError after too many evaluations or where it isn't finite."""
    taken = 0

    def checked(sigma: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        nonlocal taken
        taken += 1
        if taken > MOST_EVALUATIONS:
            raise DivergedError(
                f"the solver is only at σ = {float(sigma[0]):.3g} after {counted(MOST_EVALUATIONS, 'evaluation')}; try "
                "a larger tolerance"
            )
        found = slope(sigma, y, rows)
        finite = torch.isfinite(found).flatten(1).all(dim=1)
        if not bool(finite.all()):
            raise DivergedError(
                f"the slope of the flow is not finite at σ = {float(sigma[~finite][0]):.3g}; try a smaller tolerance, "
                "or another checkpoint"
            )
        return found

    return checked
