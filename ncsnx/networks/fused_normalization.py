"""Normalizations as one multiplication and addition, together with the activation that follows.

y = f(x · scale + shift), with scale and shift for each channel of each image. The backward pass needs x, the mean and
variance of its channels, and y; the following convolution keeps y anyway. So nothing else of the image's size is kept.
In bfloat16, x and y are bfloat16, and what lies between is computed as without fusion.
"""

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

    def forward(self, x: Tensor, levels: Tensor | None, then: ActivationLayer | None = None) -> Tensor:
        factors = self.factors(levels)
        activation = None if then is None else then.activation
        if torch.compiler.is_compiling():  # which decides by itself what it keeps
            return self.separately(x, activation, *factors)
        return cast(Tensor, _Normalized.apply(x, self, activation, *factors))  # type: ignore[no-untyped-call]

    def separately(self, x: Tensor, activation: ActivationFunction | None, *factors: Tensor) -> Tensor:
        """The same by operations that autograd and compilers see."""
        wide = at_least_float32(x)
        scale, shift = self.coefficients(*channel_moments(wide, self.correction), *factors)
        normalized = torch.addcmul(shift, wide, scale).to(x.dtype)
        return normalized if activation is None else activation.function(normalized)

    def coefficients(self, mean: Tensor, variance: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift, (B, C, 1, 1) each, from the moments of each channel and the factors."""
        raise NotImplementedError


class FusedInstanceNormPlus(FusedNormalization, InstanceNormPlus):
    """InstanceNorm++ as x · scale + shift; computes the channel means only once."""

    def coefficients(self, mean: Tensor, variance: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor]:
        gamma, alpha, beta = factors
        scale = gamma * torch.rsqrt(variance + EPSILON)
        return scale, gamma * (alpha * relative_means(mean)) - scale * mean + beta


class FusedInstanceNorm(FusedNormalization, InstanceNorm):
    """InstanceNorm as x · scale + shift."""

    def coefficients(self, mean: Tensor, variance: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor]:
        scale = torch.rsqrt(variance + self.epsilon)
        if not factors:
            return scale, -scale * mean
        gamma, beta = factors
        return gamma * scale, beta - gamma * scale * mean


class FusedVarianceNorm(FusedNormalization, VarianceNorm):
    """VarianceNorm as x · scale."""

    correction = 1

    def coefficients(self, mean: Tensor, variance: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor]:
        (alpha,) = factors
        return alpha * torch.rsqrt(variance + EPSILON), torch.zeros_like(mean)


def channel_moments(x: Tensor, correction: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of each image, (B, C, 1, 1): x is (B, C, H, W).

    On CPUs in channels_last, torch.var_mean takes 20 times as long, and torch.linalg.vector_norm 4 times.
    """
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
        scale, shift = layer.coefficients(mean, variance, *factors)
        y = torch.addcmul(shift, wide, scale).to(x.dtype)
        if activation is not None:
            y = activation.in_place(y)
        ctx.layer, ctx.activation = layer, activation
        kept = y if activation is not None and activation.from_result else None
        ctx.save_for_backward(x, kept, mean, variance, *factors)
        return y

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, y, *small = ctx.saved_tensors
        if torch.is_grad_enabled():  # these gradients will be differentiated again
            return _differentiable_gradients(ctx, upstream, x, *small[2:])
        wide = at_least_float32(x)
        with torch.enable_grad():
            mean, variance, *factors = small = [tensor.detach().requires_grad_() for tensor in small]
            scale, shift = ctx.layer.coefficients(mean, variance, *factors)
        if ctx.activation is not None:
            argument = torch.addcmul(shift.detach(), wide, scale.detach()).to(x.dtype) if y is None else y
            upstream = ctx.activation.gradient(upstream, argument)
        upstream = at_least_float32(upstream)
        by_scale = (upstream * wide).sum(dim=(2, 3), keepdim=True)
        by_shift = upstream.sum(dim=(2, 3), keepdim=True)
        outputs = [(out, by) for out, by in ((scale, by_scale), (shift, by_shift)) if out.requires_grad]
        by_mean, by_variance, *by_factors = torch.autograd.grad(
            [out for out, _ in outputs], small, [by for _, by in outputs], materialize_grads=True
        )
        # d mean / dx = 1/n and d variance / dx = 2 (x − mean)/(n − correction)
        pixels = x.shape[2] * x.shape[3]
        slope = 2 * by_variance / (pixels - ctx.layer.correction)
        constant = by_mean / pixels - slope * mean.detach()
        by_x = torch.addcmul(constant, upstream, scale.detach()).addcmul_(wide, slope).to(x.dtype)
        return by_x, None, None, *by_factors


def _differentiable_gradients(ctx: Any, upstream: Tensor, x: Tensor, *factors: Tensor) -> tuple[Tensor | None, ...]:
    """The result of `_Normalized.backward` as a function that autograd can differentiate."""
    needed = [tensor for tensor in (x, *factors) if tensor.requires_grad]
    out = ctx.layer.separately(x, ctx.activation, *factors)
    found = dict(zip(map(id, needed), torch.autograd.grad(out, needed, upstream, create_graph=True), strict=True))
    by_x, *by_factors = (found.get(id(tensor)) for tensor in (x, *factors))
    return by_x, None, None, *by_factors
