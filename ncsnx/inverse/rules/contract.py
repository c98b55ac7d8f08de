"""The contract of rules: how samplers use a measurement, and how such a rule is written and registered.

    @rule("mine", fits=LinearMap)
    class Mine(LikelihoodRule):
        def scores(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
            '''(score, likelihood score) at x, for images in which black is 0 and white 1.'''

Another kind of rule derives from `ncsnx.samplers.state.Rule`, which says what a rule may do with a sampler, and has a
class method `under` that makes the rule of a batch from a `Measured`. What restoring takes from a rule besides, such as
its sampler, are arguments of the decorator: see `Definition`.

A package names the module of its rule by an entry point of the group `ncsnx.runtime`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import torch
from torch import Tensor

from ncsnx.config.sampler import ConsistentAnnealed, GridSampler
from ncsnx.config.variants import load_plugins
from ncsnx.errors import UsageError
from ncsnx.inverse.operators.linear_operator import LinearOperator
from ncsnx.inverse.operators.measurement_map import MeasurementMap, in_single_precision
from ncsnx.registering import import_modules_of
from ncsnx.samplers.state import Noise, Rule
from ncsnx.space import Space
from ncsnx.spelling import parameter

AUTO, EXACT, REVERSE = "auto", "exact", "reverse"
RESTORING = ConsistentAnnealed(steps=100, eta=0.5)
"""The sampler of restorations, with `eta_min` at the noise of the measurement. On Gaussian data, the mean is away by 2
to 9 % of the way to the data's; η = 1 halves that, but gives wrong weights to alternatives that differ as a whole."""


@attrs.frozen(eq=False, kw_only=True)
class Measured:
    """Measurements of the images of a batch, which a rule is made of: of images whose black is 0 and white 1."""

    map: MeasurementMap
    """The map of each image."""
    values: Tensor
    """y of each image, (B, *map.measured_shape); of a `LinearOperator`, Σ⁻¹ Uᵀ y. On the CPU, as given."""
    noise: float | Tensor
    """γ, the standard deviation of the noise in y: one for all values, or (B or 1, *map.measured_shape), above 0."""
    norm: float
    """‖A‖ of the whole task."""
    space: Space
    """Of the images that the network knows."""
    lowest: float
    """σ of the last level."""
    device: torch.device
    """Of the images."""
    draws: Noise
    """Noise of the shape of the images, independent of the sampler's."""

    @property
    def y(self) -> Tensor:
        """y as the map gives it, of a `LinearOperator` Uᵀ y: (B, *map.measured_shape), in float32 or complex64, on the
        device."""
        return in_single_precision(measured_by(self.map, self.values)).to(self.device)


def measured_by(map: MeasurementMap, values: Tensor) -> Tensor:
    """y as the map gives it: Σ c for the coefficients c of an operator, in float64."""
    return map.singular_values * values.double() if isinstance(map, LinearOperator) else values


def is_noisy(noise: float | Tensor) -> bool:
    """Whether a measurement with this noise is noisy; a noise of each value is above 0."""
    return isinstance(noise, Tensor) or noise > 0


def rows_of(noise: float | Tensor, rows: slice | Tensor) -> float | Tensor:
    """The noise of some of the images. rows: a slice, or indices (B',) int64."""
    return noise[rows] if isinstance(noise, Tensor) and len(noise) > 1 else noise


def on_device(noise: float | Tensor, device: torch.device) -> float | Tensor:
    """The noise in float32."""
    return noise.float().to(device) if isinstance(noise, Tensor) else noise


K = TypeVar("K", bound=type[Any])


@attrs.define(eq=False, kw_only=True)
class Definition:
    """A rule as it is declared. It is the decorator `rule`, which registers the class.

    The decorator raises ValueError for a second rule of a name.
    """

    name: str = attrs.field(kw_only=False)
    """What `rule` is called by."""
    fits: type[Any]
    """The kind of `MeasurementMap` that it serves. A map's default rule is that of the most specific kind."""
    any_noise: bool = True
    """Whether each value may have a noise of its own."""
    sampler: GridSampler | None = RESTORING
    """The sampler of restorations; None: the model's own."""
    begins_at_noise: bool = False
    """Whether samplers begin at the noise of the measurement."""
    shortfall: tuple[int, int] | None = (27, 58)
    """How far samplers that don't renew noise stay from the posterior's mean of Gaussian data at most, in per cent of
    the way from the data's: by exact and by noisy measurements. None: they reach it, or are refused."""
    under: Callable[[Measured], Rule] = attrs.field(init=False)
    """The class's function of that name, which makes the rule of a batch."""

    def __call__(self, kind: K) -> K:
        """Registers the class, and returns it unchanged."""
        if self.name in _definitions or self.name == AUTO:
            raise ValueError(f"a rule {self.name!r} already exists")
        self.under = kind.under
        _definitions[self.name] = self
        return kind


rule = Definition
_definitions: dict[str, Definition] = {}


def rules() -> dict[str, Definition]:
    """Rules by name, also those of installed packages."""
    import_modules_of("ncsnx.inverse.rules")
    load_plugins("ncsnx.runtime")
    return dict(_definitions)


def rules_of(operator: MeasurementMap, *, any_noise: bool) -> list[Definition]:
    """The rules that fit a map, the default first. any_noise: whether values have a noise of their own."""
    kinds = type(operator).__mro__
    fitting = [one for one in rules().values() if one.fits in kinds and (one.any_noise or not any_noise)]
    return sorted(fitting, key=lambda one: kinds.index(one.fits))


def chosen_rule(name: str, operator: MeasurementMap, *, any_noise: bool = False) -> Definition:
    """The rule of this name; for 'auto' the default of the map.

    `exact` for an operator with singular values, `reverse` for a noisy picture, from which the reverse diffusion
    begins. `cg` for a linear map: of Gaussian data seen by coils it is nearest to the posterior with every sampler
    (docs/project/inverse-problems.md), and it takes no gradient of the network; of masks and averages, `dps` with `cas`
    has the nearer mean. `dps` for any other map. any_noise: whether values have a noise of their own. Raises UsageError
    for an unknown rule and for one that doesn't fit.
    """
    fitting = rules_of(operator, any_noise=any_noise)
    found = fitting[0] if name == AUTO else next((one for one in fitting if one.name == name), None)
    if found is None:
        own = " whose values have a noise of their own" if any_noise else ""
        raise UsageError(
            f"{parameter('rule')} {name[:40]} does not fit {operator.in_words}{own}; expected one of "
            f"{', '.join((AUTO, *(one.name for one in fitting)))}"
        )
    return found
