"""Normalizations as one multiplication and addition, together with the activation that follows.

y = f(x · scale + shift), with scale and shift for each channel of each image. The backward pass needs x, the mean and
variance of its channels, and y; the following convolution keeps y anyway. So nothing else of the image's size is kept.
In bfloat16, x and y are bfloat16, and what lies between is computed as without fusion.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ncsnx.networks.layers import ActivationFunction, ActivationLayer
from ncsnx.networks.normalization import (
    EPSILON,
    InstanceNorm,
    InstanceNormPlus,
    NormalizationLayer,
    VarianceNorm,
    at_least_float32,
    relative_means,
)

Kept = Sequence[Tensor]
Gradients = tuple[Tensor, ...]


class FusedActivation(ActivationLayer):
    """An activation that keeps its result for the backward pass, not its argument."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not self.activation.from_result:
            return self.activation.function(x)
        return cast(Tensor, _ActivationOfResult.apply(x, self.activation))  # type: ignore[no-untyped-call]


class FusedNormalization(NormalizationLayer):
    """Base class: x · scale + shift, then the activation."""

    correction = 0
    """Taken off the number of pixels in the variance; 1 gives the unbiased one."""
    is_centered = True
    """Whether the mean is subtracted before scaling."""

    def forward(self, x: Tensor, levels: Tensor | None, then: ActivationLayer | None = None) -> Tensor:
        factors = self.factors(levels)
        activation = None if then is None else then.activation
        if torch.compiler.is_compiling():  # which decides by itself what it keeps
            return self.separately(x, activation, *factors)
        return cast(Tensor, _Normalized.apply(x, self, activation, *factors))  # type: ignore[no-untyped-call]

    def separately(self, x: Tensor, activation: ActivationFunction | None, *factors: Tensor) -> Tensor:
        """The same by operations that autograd and compilers see."""
        wide = at_least_float32(x)
        scale, shift, _ = self.coefficients(*channel_moments(wide, self.correction), *factors)
        normalized = torch.addcmul(shift, wide, scale).to(x.dtype)
        return normalized if activation is None else activation.function(normalized)

    def coefficients(self, mean: Tensor, variance: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor, Kept]:
        """Scale and shift, (B, C, 1, 1) each, from the moments of each channel and the factors; and what their
        gradients take: first 1/√(variance + ε), to which the scale is proportional, then that of the class."""
        raise NotImplementedError

    def gradients(self, by_scale: Tensor, sums: Tensor, scale: Tensor, kept: Kept, *factors: Tensor) -> Gradients:
        """Gradients by the mean and by each factor.

        by_scale: the gradient by the scale, times 1/√(variance + ε). sums: (3, B, C, 1, 1), first the gradient by the
        shift; the others are free.
        """
        raise NotImplementedError


class FusedInstanceNormPlus(FusedNormalization, InstanceNormPlus):
    """InstanceNorm++ as x · scale + shift; computes the channel means only once."""

    def coefficients(self, mean: Tensor, variance: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor, Kept]:
        gamma, alpha, beta = factors
        inverse = torch.rsqrt(variance + EPSILON)
        scale = gamma * inverse
        relative, deviation = relative_means(mean)
        return scale, gamma * (alpha * relative) - scale * mean + beta, (inverse, relative, deviation)

    def gradients(self, by_scale: Tensor, sums: Tensor, scale: Tensor, kept: Kept, *factors: Tensor) -> Gradients:
        (gamma, alpha, _), (relative, deviation), channels = factors, kept, scale.shape[1]
        torch.mul(relative, sums[0], out=sums[1])
        torch.addcmul(by_scale, alpha, sums[1], out=sums[2])
        by_beta, by_alpha, by_gamma = sums.sum_to_size(3, *gamma.shape)
        # by the relative means r, and times r; d r_i = (dμ_i − dm − r_i Σ_j r_j dμ_j / (C − 1)) / deviation
        products = sums[:2] * (gamma * alpha)
        of_middle, of_deviation = products.sum(dim=2, keepdim=True)
        by_mean = products[0].sub_(of_middle, alpha=1 / channels)
        by_mean = by_mean.addcmul_(relative, of_deviation, value=-1 / max(channels - 1, 1)).div_(deviation)
        return by_mean.addcmul_(scale, sums[0], value=-1), by_gamma, gamma * by_alpha, by_beta


class FusedInstanceNorm(FusedNormalization, InstanceNorm):
    """InstanceNorm as x · scale + shift."""

    def coefficients(self, mean: Tensor, variance: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor, Kept]:
        inverse = torch.rsqrt(variance + self.epsilon)
        if not factors:
            return inverse, -inverse * mean, (inverse,)
        gamma, beta = factors
        return gamma * inverse, beta - gamma * inverse * mean, (inverse,)

    def gradients(self, by_scale: Tensor, sums: Tensor, scale: Tensor, kept: Kept, *factors: Tensor) -> Gradients:
        by_factors = [by.sum_to_size(factor.shape) for by, factor in zip((by_scale, sums[0]), factors, strict=False)]
        return -scale * sums[0], *by_factors


class FusedVarianceNorm(FusedNormalization, VarianceNorm):
    """VarianceNorm as x · scale."""

    correction, is_centered = 1, False

    def coefficients(self, mean: Tensor, variance: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor, Kept]:
        inverse = torch.rsqrt(variance + EPSILON)
        return factors[0] * inverse, torch.zeros_like(mean), (inverse,)

    def gradients(self, by_scale: Tensor, sums: Tensor, scale: Tensor, kept: Kept, *factors: Tensor) -> Gradients:
        return torch.zeros_like(scale), by_scale.sum_to_size(factors[0].shape)


def channel_moments(x: Tensor, correction: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of each image, (B, C, 1, 1): x is (B, C, H, W).

    On CPUs in channels_last, torch.var_mean takes 20 times as long, and torch.linalg.vector_norm 4 times.
    """
    if x.device.type != "cpu":
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=correction, keepdim=True)
        return mean, variance
    pixels = x.shape[2] * x.shape[3]
    mean = x.mean(dim=(2, 3), keepdim=True)
    return mean, (x - mean).square_().sum(dim=(2, 3), keepdim=True) / (pixels - correction)


class _ActivationOfResult(torch.autograd.Function):
    """y = f(x), which keeps y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: ActivationFunction) -> Tensor:
        y = activation.function(x)
        ctx.activation = activation
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return ctx.activation.gradient(upstream, y), None


class _Normalized(torch.autograd.Function):
    """y = f(x · scale + shift), with coefficients from the moments of x and from the layer's factors."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layer: FusedNormalization, activation: ActivationFunction | None, *factors: Tensor
    ) -> Tensor:
        wide = at_least_float32(x)
        mean, variance = channel_moments(wide, layer.correction)
        scale, shift, small = layer.coefficients(mean, variance, *factors)
        y = torch.addcmul(shift, wide, scale).to(x.dtype)
        if activation is not None:
            y = activation.in_place(y)
        ctx.layer, ctx.activation = layer, activation
        kept = (y, None) if activation is not None and activation.from_result else (None, shift)
        ctx.save_for_backward(x, *kept, *factors, mean, scale, *small)
        return y

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.needs_input_grad) - 3
        x, y, shift, *small = ctx.saved_tensors
        factors, (mean, scale, inverse, *kept) = small[:count], small[count:]
        if torch.is_grad_enabled():  # these gradients will be differentiated again
            return _differentiable_gradients(ctx, upstream, x, *factors)
        wide = at_least_float32(x)
        if ctx.activation is not None:
            argument = torch.addcmul(shift, wide, scale).to(x.dtype) if y is None else y
            upstream = ctx.activation.gradient(upstream, argument)
        upstream = at_least_float32(upstream)
        sums = mean.new_empty(3, *mean.shape)
        torch.sum(upstream, dim=(2, 3), keepdim=True, out=sums[0])
        by_scale = (upstream * wide).sum(dim=(2, 3), keepdim=True)
        if ctx.layer.is_centered:  # the shift has −scale · mean
            by_scale = by_scale.addcmul_(mean, sums[0], value=-1)
        by_scale = by_scale.mul_(inverse)
        by_mean, *by_factors = ctx.layer.gradients(by_scale, sums, scale, kept, *factors)
        # d mean / dx = 1/n and d inverse / dx = −inverse³ (x − mean)/(n − correction)
        pixels = x.shape[2] * x.shape[3]
        slope = (by_scale * scale).mul_(inverse).mul_(-1 / (pixels - ctx.layer.correction))
        constant = (by_mean / pixels).addcmul_(slope, mean, value=-1)
        by_x = torch.addcmul(constant, upstream, scale).addcmul_(wide, slope).to(x.dtype)
        return by_x, None, None, *by_factors


def _differentiable_gradients(ctx: Any, upstream: Tensor, x: Tensor, *factors: Tensor) -> tuple[Tensor | None, ...]:
    """The result of `_Normalized.backward` as a function that autograd can differentiate."""
    needed = [tensor for tensor in (x, *factors) if tensor.requires_grad]
    out = ctx.layer.separately(x, ctx.activation, *factors)
    found = dict(zip(map(id, needed), torch.autograd.grad(out, needed, upstream, create_graph=True), strict=True))
    by_x, *by_factors = (found.get(id(tensor)) for tensor in (x, *factors))
    return by_x, None, None, *by_factors
