"""The space of a model's images: what the numbers that a network sees mean.

There are two kinds of numbers. *Values* are those of samples and results: in [0, 1] for bounded data (0 is black, 1 is
white), the data's own for unbounded data. *x* is what noise is added to and networks see, in the range that the
experiment declares (`data.transform`): value = offset + scale · x, or of logits value = 1/(1 + e^−x). σ is in units of
x. Of counts (`data.gain`), offset + scale · x isn't the value but its *form* (see `ncsnx.shot_noise`); of other data,
each value is its own form.

A space is measured once, when a run starts, and saved in the run as a fact beside the fingerprint of its data; an
`Experiment` contains only what a person declared. This module imports no torch.
"""

import math
from typing import TYPE_CHECKING, Self

import attrs

from ncsnx.config.data_sets import Data, NumericData
from ncsnx.config.variants import OMITTED
from ncsnx.errors import Hint, NcsnxError
from ncsnx.shot_noise import ShotNoise

if TYPE_CHECKING:
    from torch import Tensor

    from ncsnx.images import Window

NOISE_TOLERANCE = 1e-5
"""Relative difference below which a σ is that of the data's noise, which people type with six digits."""
LOGIT_MARGIN = 1e-6
"""λ in u = λ + (1 − 2λ)v: keeps the logit finite."""


@attrs.frozen(kw_only=True)
class Space:
    """The space of images of one shape. Facts of a run or an exported model."""

    shape: tuple[int, int, int]
    """(C, H, W) of an image."""
    offset: float
    """Value of x = 0; of logits 0."""
    scale: float
    """Value per unit of x; of logits 1."""
    bounded: bool
    """Whether values lie between 0 and 1."""
    complex: bool
    """Whether channels 2k and 2k + 1 are real and imaginary part of one value."""
    logit: bool
    """Whether x is the logit of the values."""
    signed: bool
    """Whether values may be negative. Without negative ones, pictures begin at 0."""
    window: tuple[float, float]
    """The values that pictures show as black and white."""
    own: tuple[float, float]
    """The data's own numbers of black and white; of unbounded data 0 and the value that is 1 in the units of tasks."""
    center: float
    """x of the middle of the values: of ½, or of 0 in unbounded data."""
    mean: tuple[float, ...]
    """Mean of x in each channel, around which samplers start that start from normal noise."""
    mean_image: str | None = attrs.field(default=None, metadata=OMITTED)
    """Mean of x in each pixel, C·H·W numbers separated by spaces, which is used in place of `mean`. None: not known."""
    sigma_data: float | None
    """Root mean square of x around `center`: σ_data of Karras et al. 2022. None: not known."""
    noise: float = attrs.field(default=0.0, metadata=OMITTED)
    """σ_n, the standard deviation of the noise in the training images (`data.noise`), in units of x: the least σ that
    a network of them knows. 0: they are clean."""
    shot: ShotNoise | None = attrs.field(default=None, metadata=OMITTED)
    """Noise of the training images that grows with values / `span` (`data.gain`); `noise` is that of the form then."""
    class_names: tuple[str, ...] = attrs.field(default=(), metadata=OMITTED)
    """Names of the classes of the images, in the order of their numbers; empty without classes."""

    @classmethod
    def of(
        cls,
        data: Data,
        *,
        scale: float | None = None,
        signed: bool = True,
        own: tuple[float, float] | None = None,
        sigma_data: float | None = None,
    ) -> Self:
        """The space of a data set, by what it declares and, where it leaves that open, by what was measured.

        scale: of unbounded values. signed: whether some of these are negative. own: of bounded data. sigma_data: see
        the field. The mean is the middle. Raises NcsnxError for unbounded data without a scale.
        """
        black, white = own or (getattr(data, "low", 0.0), getattr(data, "high", 1.0))
        span = 1.0 if data.is_bounded else getattr(data, "scale", None) or scale
        if span is None:
            raise NcsnxError(
                "the scale of the unbounded data is not known",
                Hint("declare it, 1 for a network that takes the values as they are", adds="data.scale=1"),
            )
        rescaled, logit = data.transform == "rescaled", data.transform == "logit"
        offset, factor = (span / 2, span / 2) if rescaled else (0.0, span)
        middle = 0.5 if data.is_bounded else 0.0
        center = 0.0 if logit else (middle - offset) / factor
        unit = (white - black if isinstance(data, NumericData) and data.is_bounded else 1.0) * span
        shot = ShotNoise(data.gain / unit, data.noise / unit) if data.gain else None
        noise = data.noise / unit if shot is None else shot.in_form
        return cls(
            shape=data.shape,
            offset=offset,
            scale=factor,
            bounded=data.is_bounded,
            complex=data.is_complex,
            logit=logit,
            signed=signed and not data.is_bounded,
            window=(0.0, 1.0) if data.is_bounded else _window(data, span, signed=signed),
            own=(black, white) if data.is_bounded else (0.0, span),
            center=center,
            mean=(center,) * data.channels,
            sigma_data=data.sigma_data or sigma_data,
            noise=span * noise / factor,
            shot=shot,
        )

    @classmethod
    def with_ends(cls, shape: tuple[int, int, int], ends: tuple[float, float] | None) -> Self:
        """The space of pictures (C, H, W) that are black and white where x has these ends.

        None: values are x itself, without limits, and pictures show −1 to 1.
        """
        low, high = (0.0, 1.0) if ends is None else ends
        center = 0.0 if ends is None else (low + high) / 2
        return cls(
            shape=shape,
            offset=-low / (high - low),
            scale=1 / (high - low),
            bounded=ends is not None,
            complex=False,
            logit=False,
            signed=ends is None,
            window=(-1.0, 1.0) if ends is None else (0.0, 1.0),
            own=(0.0, 1.0),
            center=center,
            mean=(center,) * shape[0],
            sigma_data=None,
        )

    @classmethod
    def unmeasured(cls, data: Data) -> Self:
        """A space for what depends on shapes alone, such as the speed of a network; its numbers mean nothing."""
        return cls.of(data, scale=1.0, sigma_data=1.0)

    def at(self, shape: tuple[int, int, int]) -> Self:
        """The space of images of another size, of which no mean image is known."""
        return self if shape == self.shape else attrs.evolve(self, shape=shape, mean_image=None)

    def shown_as(self, data: Data) -> Self:
        """The space with the window that its data set declares now, or with the measured one."""
        return self if self.bounded else attrs.evolve(self, window=_window(data, self.span, signed=self.signed))

    @property
    def span(self) -> float:
        """The value that is 1 in the units of tasks, in which black is 0: 1, or the scale of unbounded data."""
        return 1.0 if self.bounded else self.own[1]

    @property
    def noise_in_form(self) -> float:
        """σ_n in the units of tasks, in which black is 0 and white, or the scale of unbounded data, is 1."""
        return self.noise * self.scale / self.span

    @property
    def ends(self) -> tuple[float, float]:
        """x of black and white: of the values 0 and `span`. Of logits those of the margin."""
        if self.logit:
            return -math.log(1 / LOGIT_MARGIN - 1), math.log(1 / LOGIT_MARGIN - 1)
        return -self.offset / self.scale, (self.span - self.offset) / self.scale

    @property
    def gain(self) -> float:
        """Factor from x − center to numbers from −1 to 1, which networks without preconditioning take.

        Logits are left as they are.
        """
        return 1.0 if self.logit else 2 * self.scale / self.span

    @property
    def known_sigma_data(self) -> float:
        """`sigma_data`. Raises NcsnxError if it isn't known."""
        if self.sigma_data is None:
            raise NcsnxError(
                "the root mean square of the training images is not known", Hint("give it", adds="data.sigma_data=0.5")
            )
        return self.sigma_data

    @property
    def pictures(self) -> "Window":
        """The window of pictures."""
        from ncsnx.images import Window  # imports torch

        return Window(*self.window, self.complex)

    def encode(self, values: "Tensor") -> "Tensor":
        """Values → x."""
        return self.from_form(values if self.shot is None else self.span * self.shot.form(values / self.span))

    def decode(self, x: "Tensor") -> "Tensor":
        """x → values, clamped to [0, 1] if they are bounded; x of counts is taken as a mean (see `ShotNoise.mean`)."""
        form = self.to_form(x)
        if self.shot is None:
            return form
        values = (self.span * self.shot.mean(form / self.span)).to(form)
        return values.clamp(0, 1) if self.bounded else values

    def from_form(self, form: "Tensor") -> "Tensor":
        """The form of values → x."""
        if not self.logit:
            return (form - self.offset) / self.scale
        # Gaussian dequantization leaves [0, 1], outside of which there is no logit
        u = (LOGIT_MARGIN + (1 - 2 * LOGIT_MARGIN) * form).clamp(LOGIT_MARGIN, 1 - LOGIT_MARGIN)
        return u.log() - (-u).log1p()

    def to_form(self, x: "Tensor") -> "Tensor":
        """x → the form of values, clamped to [0, 1] if they are bounded.

        The logit's margin is ignored, as published.
        """
        form = x.sigmoid() if self.logit else self.offset + self.scale * x
        return form.clamp(0, 1) if self.bounded else form

    def own_numbers(self, values: "Tensor") -> "Tensor":
        """Values → the data's own numbers, float64."""
        black, white = self.own
        return black + (white - black) * values.double() if self.bounded else values.double()

    def uniform(self, u: "Tensor") -> "Tensor":
        """u in [0, 1) → x from black to white; of unbounded data as wide, around the middle."""
        return self.encode(u) if self.bounded else self.center + (u - 0.5) * (self.span / self.scale)

    def log_slope(self, values: "Tensor") -> "Tensor":
        """(B,): ln |det ∂x/∂value|, in nats, of images (B, …) of values."""
        slopes = values.new_full(values.shape, 1 / self.scale).log()
        if self.logit:
            u = LOGIT_MARGIN + (1 - 2 * LOGIT_MARGIN) * values
            slopes = math.log1p(-2 * LOGIT_MARGIN) - u.log() - (-u).log1p()
        if self.shot is not None:
            slopes = slopes + self.shot.slope(values / self.span).log()
        return slopes.flatten(1).sum(dim=1)

    def start_mean(self) -> "Tensor":
        """The mean that samplers start around, float32 on the CPU: (C, H, W) where the image is known, else (C, 1, 1).

        σ_1 is only about the largest distance between two images, so that noise of σ_1 does not hide where it is
        centered: a deterministic solver keeps a share of the offset between the start and the data.
        """
        import torch

        if self.mean_image is None:
            return torch.tensor(self.mean).view(-1, 1, 1)
        numbers = [float(number) for number in self.mean_image.split()]
        return torch.tensor(numbers).view(self.shape)


def _window(data: Data, span: float, *, signed: bool) -> tuple[float, float]:
    """The values of unbounded data that are black and white: from 0 if there are no negative ones, else from −span."""
    low, high = (getattr(data, name, None) for name in ("window_low", "window_high"))
    if low is None:
        from_zero = data.is_complex or (not signed and (high is None or high > 0))
        low = 0.0 if from_zero else -span
        low = low if high is None or low < high else high - span
    if high is None:
        high = span if low < span else low + span
    return low, high
