"""Shot noise, as that of counted photons, and the form of images in which it is white.

The form is the generalized Anscombe transform f(v) = 2/g √(g v + ⅜ g² + r²) of values v with the variance g v + r²
(Starck, Murtagh & Bijaoui 1998), after which the noise has the standard deviation 1, rescaled so that 0 stays 0 and 1
stays 1. This module imports no torch.
"""

import math
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class ShotNoise:
    """Noise whose variance is gain · v + read² where the image without noise has the value v."""

    gain: float
    """Variance per value: 1/a if white, 1, means a counted photons on average. Positive."""
    read: float
    """Standard deviation of the noise that does not depend on the value, at least 0."""

    @property
    def in_form(self) -> float:
        """Standard deviation of the noise in the form."""
        return 1 / (self._f(1.0) - self._f(0.0))

    @property
    def steepest(self) -> float:
        """Slope of the form at black, where it is steepest."""
        return self.in_form / math.sqrt(self._offset)

    def explains(self, least: float) -> bool:
        """Whether values can be as small: darker than black by little more than read noise, or by what leaves the
        variance positive."""
        return least >= -max(6 * self.read, self.read**2 / self.gain) - self.gain

    def form(self, values: "Tensor") -> "Tensor":
        """The form of values, of any shape."""
        f = 2 / self.gain * (self.gain * values + self._offset).clamp(min=0).sqrt()
        form: Tensor = self.in_form * (f - self._f(0.0))
        return form

    def values(self, form: "Tensor") -> "Tensor":
        """The inverse of `form`."""
        f = self._unscaled(form).clamp(min=0)
        return self.gain * (f**2 / 4 - 3 / 8) - self.read**2 / self.gain

    def mean(self, form: "Tensor") -> "Tensor":
        """The values v such that the mean of the form of v with noise is this, float64: f is curved.

        In the closed form of Mäkitalo & Foi 2013 (IEEE Transactions on Image Processing 22, 91), equation 12, from its
        zero on: the mean of f at black is below f(0), for read noise counts as (r/g)² further photons.
        """
        root = math.sqrt(3 / 2)
        f = self._unscaled(form.double()).clamp(min=root)
        photons = f**2 / 4 + root / (4 * f) - 11 / (8 * f**2) + 5 * root / (8 * f**3) - 1 / 8
        return self.gain * photons - self.read**2 / self.gain

    def slope(self, values: "Tensor") -> "Tensor":
        """Derivative of the form at values."""
        return self.in_form / (self.gain * values + self._offset).clamp(min=0).sqrt()

    @property
    def _offset(self) -> float:
        return 3 / 8 * self.gain**2 + self.read**2

    def _f(self, value: float) -> float:
        return 2 / self.gain * math.sqrt(self.gain * value + self._offset)

    def _unscaled(self, form: "Tensor") -> "Tensor":
        """f of a form."""
        return self._f(0.0) + form / self.in_form
