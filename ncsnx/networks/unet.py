"""A residual U-Net that is conditional on σ, preconditioned for noise of any size.

The network is DDPM++ (Song et al. 2021, arXiv 2011.13456, appendix H), with the initialization, normalization and
preconditioning of Karras et al. 2022 (arXiv 2206.00364, tables 1 and 7): their published weights fit it.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncsnx.config.image_sizes import size_in_words
from ncsnx.config.model import UNet
from ncsnx.errors import Hint, NcsnxError
from ncsnx.networks.contract import Cond, Network, NetworkSpec, network
from ncsnx.networks.initialization import Constant, Initializer, Normal, UniformWeights
from ncsnx.networks.layers import ActivationLayer, Convolution
from ncsnx.networks.normalization import GroupNorm, NormalizationFactory, PixelNorm, at_least_float32
from ncsnx.quantities import counted
from ncsnx.randomness import Purpose, Stream

_GROUPS = 32
"""Most groups of a normalization; each has 4 channels or more, where there are as many."""
_EPSILON = 1e-6
_HALF_VARIANCE = math.sqrt(0.5)
"""Factor of a sum of two, which keeps their variance."""
_FOURIER_SCALE = 16.0
"""Standard deviation of Fourier frequencies, as in NCSN++ (Song et al. 2021)."""
_NEARLY_ZERO = 1e-5
"""Gain of the last convolution of each residual block, so that it begins as the identity, and of the network."""

L = TypeVar("L", Convolution, nn.Linear)


@network(UNet)
class UNetNetwork(Network):
    """D(x, σ) = c_skip x + c_out F(c_in x; ln σ), where x is measured from the middle of the images' range.

    F is the U-Net. With σ_data the root mean square of the images, F has inputs and targets of variance 1 at every σ.
    Without preconditioning it is σ times the score.
    """

    def __init__(self, model: UNet, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.halvings = len(model.multipliers) - 1
        self.require_size(spec.height, spec.width)
        is_local = model.normalization == "pixel" and not model.attention
        self.tile_unit = 2**self.halvings if is_local else None
        self.sigma_data = spec.space.known_sigma_data
        self.is_preconditioned = model.preconditioning == "edm"
        self.dropout, self.seed, self.classes = model.dropout, spec.seed, model.classes
        embedded, widths = 4 * model.width, [multiple * model.width for multiple in model.multipliers]
        self.embedding = NoiseEmbedding(model, embedded, spec.labels)
        self.begin = glorot(Convolution(spec.channels, model.width))
        normalization = group_norm if model.normalization == "group" else pixel_norm
        block = partial(UNetBlock, embedded=embedded, dropout=model.dropout, normalization=normalization)
        sides = [min(spec.height, spec.width) >> stage for stage in range(len(widths))]
        _require_stages(model.attention, sides)
        attends = [side in model.attention for side in sides]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skipped = model.width, [model.width]
        for stage, wider in enumerate(widths):
            if stage > 0:
                self.down.append(block(width, width, 0.5, attention=False))
                skipped.append(width)
            for _ in range(model.blocks):
                self.down.append(block(width, wider, 1.0, attends[stage]))
                width = wider
                skipped.append(width)
        self.middle = nn.ModuleList(block(width, width, 1.0, attention) for attention in (any(attends), False))
        for stage, narrower in reversed(list(enumerate(widths))):
            if stage < self.halvings:
                self.up.append(block(width, width, 2.0, attention=False))
            for number in range(model.blocks + 1):
                attention = attends[stage] and number == model.blocks
                self.up.append(block(width + skipped.pop(), narrower, 1.0, attention))
                width = narrower
        self.norm, self.activation = normalization(width), ActivationLayer("swish")
        self.end = glorot(Convolution(width, spec.channels), _NEARLY_ZERO)

    def require_size(self, height: int, width: int) -> None:
        """Raises NcsnxError for a size that the stages can't halve; any other is fine, whatever it was built for."""
        divisor = 2**self.halvings
        if height % divisor or width % divisor:
            raise NcsnxError(
                f"the U-Net takes only a height and width that are each a multiple of {divisor}, since it halves the "
                f"image {counted(self.halvings, 'time')}; found {size_in_words((height, width))}",
                Hint("choose another size, or a model of fewer stages"),
            )

    def training_cond(self, positions: Tensor, labels: Tensor | None) -> Cond:
        """`labels`, and the values that dropout keeps in each block: `kept0`, …, (B, C, H, W) bool."""
        cond = {} if labels is None else {"labels": labels}
        if not self.dropout:
            return cond
        shapes, scale = list[tuple[int, int, int]](), 1.0
        for block in (*self.down, *self.middle, *self.up):
            scale *= block.scale
            shapes.append((block.conv2.kernel().shape[1], int(scale * self.height), int(scale * self.width)))
        masks = Stream(self.seed, Purpose.DROPOUT).masks(positions, 1 - self.dropout, shapes, self.memory_format)
        return cond | {f"kept{number}": mask for number, mask in enumerate(masks)}

    def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        masks = [cond[name] for name in cond if name.startswith("kept")]
        x, scaled = x - self.center, (sigma / self.sigma_data).to(x.dtype).view(-1, 1, 1, 1)
        # in units of σ_data: c_skip = 1/(1 + σ²), c_out = σ/√(1 + σ²), c_in = 1/√(1 + σ²), and σ s = (D − x)/σ
        total = 1 + scaled**2
        # ln σ is that of data of σ_data = 0.5, as in the paper, whatever the units are
        embedded = self.embedding(0.25 * torch.log(0.5 * scaled.flatten()), cond)
        if not self.is_preconditioned:
            return self.body(x, embedded, masks)
        out = self.body(x / (self.sigma_data * total.sqrt()), embedded, masks)
        return out / total.sqrt() - x * (scaled / (self.sigma_data * total))  # few roundings of x, which is large

    def body(self, x: Tensor, embedded: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """F: noisy images, (B, C, H, W), and the embedded noise level, (B, E) → the shape of x.

        masks: values that dropout keeps in each block.
        """
        h, mask_of_next = self.begin(x), iter(masks)
        with self.autocast(x):
            skips = [h]
            for block in self.down:
                h = block(h, embedded, next(mask_of_next, None))
                skips.append(h)
            for block in self.middle:
                h = block(h, embedded, next(mask_of_next, None))
            for block in self.up:
                h = h if block.scale != 1 else torch.cat([h, skips.pop()], dim=1)
                h = block(h, embedded, next(mask_of_next, None))
        out: Tensor = self.end(self.norm(at_least_float32(h), None, self.activation))
        return out


class NoiseEmbedding(nn.Module):
    """Features of c_noise = ¼ ln σ, (B,), of labels, (B, A), and of classes, (B,) int64 → (B, E).

    Sines, then cosines, then two layers. Labels that are 0 add nothing; class −1, or none given, means no class.
    """

    frequencies: Tensor

    def __init__(self, model: UNet, width: int, labels: int) -> None:
        super().__init__()
        half = model.width // 2
        self.initializers: dict[str, Initializer] = {}
        if model.embedding == "fourier":
            self.register_buffer("frequencies", torch.empty(half))
            self.initializers["frequencies"] = Normal(0.0, 2 * math.pi * _FOURIER_SCALE)
        else:  # from 1 to 1/10,000, for inputs of the size of DDPM's steps
            exponents = torch.arange(half) / max(1, half - 1)
            self.register_buffer("frequencies", 10_000.0**-exponents, persistent=False)
        self.labels = glorot(nn.Linear(labels, 2 * half, bias=False)) if labels else None
        self.classes = glorot(nn.Linear(model.classes, 2 * half)) if model.classes else None
        self.first, self.second = glorot(nn.Linear(2 * half, width)), glorot(nn.Linear(width, width))

    def forward(self, noise: Tensor, cond: Cond) -> Tensor:
        angles = noise[:, None] * self.frequencies
        features = torch.cat([angles.sin(), angles.cos()], dim=1)
        if self.labels is not None and "labels" in cond:
            features = features + self.labels(cond["labels"])
        if self.classes is not None:
            count = self.classes.in_features
            known = torch.arange(count, device=noise.device)
            told = cond["classes"][:, None] == known if "classes" in cond else features.new_zeros(1, count)
            features = features + self.classes(math.sqrt(count) * told.to(features.dtype))
        out: Tensor = F.silu(self.second(F.silu(self.first(features))))
        return out


class UNetBlock(nn.Module):
    """A residual block, (B, in, H, W) → (B, out, scale · H, scale · W), with self-attention behind it if it attends.

    Normalization, SiLU, resampling, convolution; plus a bias from the noise level; normalization, SiLU, convolution;
    plus the resampled input, by a 1×1 convolution if the block resamples or changes the width.
    """

    def __init__(
        self,
        before: int,
        after: int,
        scale: float,
        attention: bool,
        *,
        embedded: int,
        dropout: float,
        normalization: NormalizationFactory,
    ) -> None:
        """scale: ½ halves height and width by the mean of 2×2 pixels, 2 repeats each pixel, 1 does neither."""
        super().__init__()
        self.scale, self.dropout, self.activation = scale, dropout, ActivationLayer("swish")
        self.norm1, self.norm2 = normalization(before), normalization(after)
        self.conv1 = glorot(Convolution(before, after))
        self.conv2 = glorot(Convolution(after, after), _NEARLY_ZERO)
        self.bias = glorot(nn.Linear(embedded, after))
        changes = before != after or scale != 1
        self.shortcut = glorot(Convolution(before, after, size=1)) if changes else nn.Identity()
        self.attention = Attention(after, normalization) if attention else nn.Identity()

    def forward(self, x: Tensor, embedded: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.conv1(self._resampled(self.norm1(x, None, self.activation)))
        h = self.norm2(h + self.bias(embedded)[:, :, None, None], None, self.activation)
        if mask is not None:
            h = h * mask / (1 - self.dropout)
        h = self.conv2(h) + self.shortcut(self._resampled(x))
        out: Tensor = self.attention(_HALF_VARIANCE * h)
        return out

    def _resampled(self, x: Tensor) -> Tensor:
        if self.scale == 1:
            return x
        return F.avg_pool2d(x, 2) if self.scale < 1 else F.interpolate(x, scale_factor=2.0, mode="nearest").to(x.dtype)


class Attention(nn.Module):
    """Self-attention of all places of an image, with one head, added to the input (B, C, H, W)."""

    def __init__(self, channels: int, normalization: NormalizationFactory) -> None:
        super().__init__()
        self.norm = normalization(channels)
        self.projections = glorot(Convolution(channels, 3 * channels, size=1), math.sqrt(0.2))
        self.end = glorot(Convolution(channels, channels, size=1), _NEARLY_ZERO)

    def forward(self, x: Tensor) -> Tensor:
        # (B, 3C, H, W) → three tensors (B, 1, places, C): fused kernels take four dimensions, channels side by side
        projected = self.projections(self.norm(x, None)).flatten(2).transpose(1, 2).contiguous()
        query, key, value = projected[:, None].chunk(3, dim=3)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(2, 3).reshape(x.shape)
        out: Tensor = _HALF_VARIANCE * (x + self.end(attended))
        return out


def _require_stages(attention: Sequence[int], sides: Sequence[int]) -> None:
    """Raises NcsnxError for a size in `model.attention` that is the shorter side of no stage."""
    if unknown := [side for side in attention if side not in sides]:
        raise NcsnxError(
            f"model.attention={','.join(map(str, unknown))}: the stages of this U-Net have shorter sides of "
            f"{', '.join(map(str, sides))} px",
            Hint("choose some of these, or no attention", adds="model.attention="),
        )


def group_norm(channels: int) -> GroupNorm:
    """The normalization of this many channels."""
    groups = max(groups for groups in range(1, min(_GROUPS, max(1, channels // 4)) + 1) if channels % groups == 0)
    return GroupNorm(groups=groups, channels=channels, epsilon=_EPSILON)


def pixel_norm(channels: int) -> PixelNorm:
    """The normalization of this many channels at each pixel."""
    return PixelNorm(channels, _EPSILON)


def glorot(layer: L, gain: float = 1.0) -> L:
    """The layer, initialized with uniform weights of variance gain² · 2/(fan-in + fan-out) and biases of 0.

    Source: Glorot & Bengio 2010, equation 16.
    """
    fan_out, fan_in, *size = layer.weight.shape
    bound = gain * math.sqrt(6 / ((fan_in + fan_out) * math.prod(size)))
    start: dict[str, Initializer] = {"weight": UniformWeights(-bound, bound), "bias": Constant(0.0)}
    layer.initializers = {name: start[name] for name, _ in layer.named_parameters()}  # type: ignore[assignment]
    return layer
