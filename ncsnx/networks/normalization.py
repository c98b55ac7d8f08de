"""Normalizations, unconditional and conditional on the noise level.

InstanceNorm++ is from appendix A of Song & Ermon 2019 (arXiv 1907.05600). Each normalization transforms the image and
then applies factors per channel: constants, or rows of a table with one row for each level. Statistics and factors are
in float32 or wider; the result has the type of the input.
"""

from collections.abc import Mapping
from typing import Protocol

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncsnx.networks.initialization import Columns, Constant, Initializer, Normal, UniformWeights
from ncsnx.networks.layers import ActivationLayer

EPSILON = 1e-5

_NEAR_ONE = Normal(1.0, 0.02)
_ZERO = Constant(0.0)
_ONE = Constant(1.0)
_UNIT = UniformWeights(0.0, 1.0)


class PerChannel(nn.Module):
    """Factors that are the same at every level: one vector per name."""

    def __init__(self, channels: int, initializers: Mapping[str, Initializer]) -> None:
        super().__init__()
        self.initializers = dict(initializers)
        for name in initializers:
            self.register_parameter(name, nn.Parameter(torch.empty(channels)))

    def forward(self, levels: Tensor | None) -> tuple[Tensor, ...]:
        """One (1, C, 1, 1) tensor per name."""
        return tuple(self.get_parameter(name).view(1, -1, 1, 1) for name in self.initializers)


class PerLevel(nn.Module):
    """Factors that depend on the level: a table with one row per level, in which the names are concatenated."""

    def __init__(self, levels: int, channels: int, initializers: Mapping[str, Initializer]) -> None:
        super().__init__()
        self.initializers = {"rows": Columns(tuple(initializers.values()))}
        self.names = len(initializers)
        self.rows = nn.Parameter(torch.empty(levels, len(initializers) * channels))

    def forward(self, levels: Tensor | None) -> tuple[Tensor, ...]:
        """One (B, C, 1, 1) tensor per name. levels: (B,) int64."""
        if levels is None:
            raise TypeError("a conditional network needs the level of each image, not None")
        return F.embedding(levels, self.rows)[:, :, None, None].chunk(self.names, dim=1)


class NormalizationLayer(nn.Module):
    """Base class: `forward(x, levels, then)` keeps the shape (B, C, H, W) and the type.

    then: the activation that follows, if any. It is part of the call so that both can be executed as one.
    """

    def __init__(self, channels: int, factors: PerChannel | PerLevel, epsilon: float = EPSILON) -> None:
        super().__init__()
        self.factors = factors
        self.epsilon = epsilon

    def forward(self, x: Tensor, levels: Tensor | None, then: ActivationLayer | None = None) -> Tensor:
        normalized = self.transform(at_least_float32(x), *self.factors(levels)).to(x.dtype)
        return normalized if then is None else then(normalized)

    def transform(self, x: Tensor, *factors: Tensor) -> Tensor:
        """The normalization itself, in float32 or wider."""
        raise NotImplementedError


class InstanceNormPlus(NormalizationLayer):
    """γ · (instance_norm(x) + α · (μ − m)/√(v + ε)) + β.

    It adds back the channel means μ, which instance normalization removes, normalized by their mean m and unbiased
    variance v over channels.
    """

    def transform(self, x: Tensor, *factors: Tensor) -> Tensor:
        gamma, alpha, beta = factors
        relative, _ = relative_means(x.mean(dim=(2, 3), keepdim=True))
        return gamma * (F.instance_norm(x) + alpha * relative) + beta


class InstanceNorm(NormalizationLayer):
    """(x − mean)/√(variance + ε) per channel and image; then · γ + β if conditional."""

    def transform(self, x: Tensor, *factors: Tensor) -> Tensor:
        return _affine(F.instance_norm(x, eps=self.epsilon), factors)


class VarianceNorm(NormalizationLayer):
    """α · x/√(unbiased variance + ε) per channel and image."""

    def transform(self, x: Tensor, *factors: Tensor) -> Tensor:
        (alpha,) = factors
        return alpha * (x / torch.sqrt(x.var(dim=(2, 3), keepdim=True) + EPSILON))


class GroupNorm(NormalizationLayer):
    """(x − mean)/√(variance + ε) per group of channels and image; then · γ + β (Wu & He 2018, arXiv 1803.08494)."""

    def __init__(self, channels: int, groups: int, epsilon: float) -> None:
        super().__init__(channels, PerChannel(channels, {"gamma": _ONE, "beta": _ZERO}), epsilon)
        self.groups = groups

    def transform(self, x: Tensor, *factors: Tensor) -> Tensor:
        gamma, beta = factors
        return F.group_norm(x, self.groups, gamma.flatten(), beta.flatten(), self.epsilon)


class PixelNorm(NormalizationLayer):
    """(x − mean)/√(variance + ε) over the channels of each pixel; then · γ + β (Ba et al. 2016, arXiv 1607.06450).

    A pixel's value depends on no statistics of the image, so that a part of an image is normalized as the whole one.
    """

    def __init__(self, channels: int, epsilon: float) -> None:
        super().__init__(channels, PerChannel(channels, {"gamma": _ONE, "beta": _ZERO}), epsilon)

    def transform(self, x: Tensor, *factors: Tensor) -> Tensor:
        gamma, beta = (factor.flatten() for factor in factors)
        return F.layer_norm(x.movedim(1, 3), gamma.shape, gamma, beta, self.epsilon).movedim(3, 1)


class BatchNorm(NormalizationLayer):
    """Batch normalization, then · γ + β."""

    initializers: Mapping[str, Initializer] = {
        "statistics.running_mean": _ZERO,
        "statistics.running_var": _ONE,
        "statistics.num_batches_tracked": _ZERO,
    }

    def __init__(self, channels: int, factors: PerChannel | PerLevel, epsilon: float = EPSILON) -> None:
        super().__init__(channels, factors, epsilon)
        self.statistics = nn.BatchNorm2d(channels, eps=epsilon, affine=False)

    def transform(self, x: Tensor, *factors: Tensor) -> Tensor:
        return _affine(self.statistics(x), factors)


class NoNormalization(NormalizationLayer):
    """The identity; x · γ + β if conditional."""

    def forward(self, x: Tensor, levels: Tensor | None, then: ActivationLayer | None = None) -> Tensor:
        if isinstance(self.factors, PerLevel):
            return super().forward(x, levels, then)
        return x if then is None else then(x)  # without a detour through float32

    def transform(self, x: Tensor, *factors: Tensor) -> Tensor:
        return _affine(x, factors)


class NormalizationFactory(Protocol):
    """Builds the normalization for a number of channels."""

    def __call__(self, channels: int) -> NormalizationLayer: ...


@attrs.frozen
class _Kind:
    """A normalization, with the factors of its unconditional and its conditional form, in order."""

    build: type[NormalizationLayer]
    constants: Mapping[str, Initializer]
    columns: Mapping[str, Initializer]


_KINDS = {
    "instance++": _Kind(
        InstanceNormPlus,
        {"gamma": _NEAR_ONE, "alpha": _NEAR_ONE, "beta": _ZERO},
        {"gamma": _NEAR_ONE, "alpha": _NEAR_ONE, "beta": _ZERO},
    ),
    "instance": _Kind(InstanceNorm, {}, {"gamma": _UNIT, "beta": _ZERO}),
    "variance": _Kind(VarianceNorm, {"alpha": _NEAR_ONE}, {"alpha": _NEAR_ONE}),
    "batch": _Kind(BatchNorm, {"gamma": _ONE, "beta": _ZERO}, {"gamma": _UNIT, "beta": _ZERO}),
    "none": _Kind(NoNormalization, {}, {"gamma": _UNIT, "beta": _ZERO}),
}


def unconditional(name: str, channels: int, *, epsilon: float = EPSILON) -> NormalizationLayer:
    """The normalization called `name` in a model's configuration. Only InstanceNorm and BatchNorm use `epsilon`."""
    kind = _KINDS[name]
    return kind.build(channels, PerChannel(channels, kind.constants), epsilon)


def conditional(name: str, channels: int, *, levels: int) -> NormalizationLayer:
    """The same, with factors for each of `levels` levels."""
    kind = _KINDS[name]
    return kind.build(channels, PerLevel(levels, channels, kind.columns))


def no_normalization(channels: int) -> NormalizationLayer:
    """The identity, for networks without a normalization in this place."""
    return unconditional("none", channels)


def relative_means(means: Tensor) -> tuple[Tensor, Tensor]:
    """Channel means (B, C, 1, 1), standardized over channels with the unbiased variance, and by what: (B, 1, 1, 1)."""
    variance, mean = torch.var_mean(means, dim=1, keepdim=True)
    deviation = torch.sqrt(variance + EPSILON)
    return (means - mean) / deviation, deviation


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or in its own type if that is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _affine(x: Tensor, factors: tuple[Tensor, ...]) -> Tensor:
    if not factors:
        return x
    gamma, beta = factors
    return gamma * x + beta
