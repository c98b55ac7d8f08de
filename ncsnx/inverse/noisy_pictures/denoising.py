"""Denoising: pictures with white noise, in colors or gray, JPEGs, and counts with shot noise, whose noise is estimated.

One evaluation of the network at the right σ takes most of what can be had from each of these, once the picture is in a
form whose noise is white (`NoisyPicture`).
"""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Self

import attrs
from torch import Tensor

from ncsnx.errors import Hint, UsageError
from ncsnx.inverse.noisy_pictures.noise_level import estimated_noise, estimated_noise_of_jpeg, estimated_shot_noise
from ncsnx.inverse.operators.measurement_map import NoisyPicture
from ncsnx.inverse.operators.pixels import GrayPicture, Identity
from ncsnx.inverse.task import Task
from ncsnx.inverse.task_pictures import Pictures, read_pictures
from ncsnx.shot_noise import ShotNoise
from ncsnx.space import Space
from ncsnx.spelling import argument, parameter

_OWN_GAIN = ", as in the training images"
_OWN = f"{_OWN_GAIN}; estimate that of the picture:  {argument('noise', 'auto')}"
_SEEN = 2 / 255
"""Noise below which a picture counts as clean."""


def denoise(
    path: Path,
    space: Space,
    noise: float | Literal["auto"] | None = None,
    gain: float | None = None,
    *,
    least_noise: float = 0.0,
    any_sigma: bool = True,
) -> Task:
    """Removal of noise from pictures.

    noise: its standard deviation, where black is 0 and white 1, or for unbounded data `space.span`; 'auto': estimated,
    the same for all pictures; None: that of the training images, or if they are clean, estimated. gain: the variance
    grows by it with the value, from that of `noise`, by default 0. least_noise: of what is estimated. any_sigma:
    whether the model knows any noise, as shot noise needs. Gray pictures of a model of colors are denoised in gray.
    Raises UsageError for noise of 0, for gray and colored pictures together, and for shot noise that the model or the
    values don't allow.
    """
    pictures = read_pictures(path, space)
    y, gray = pictures.pixels, all(pictures.gray)
    if any(pictures.gray) and not gray:
        colored, colorless = (pictures.names[pictures.gray.index(one)] for one in (False, True))
        raise UsageError(f"{path}: {colorless} is gray and {colored} is colored; restore them by a command each")
    y = y.mean(dim=1, keepdim=True) if gray else y
    is_own = noise is None and gain is None and space.noise > 0
    if is_own:
        found = FoundNoise(white=space.noise_in_form, shot=space.shot, is_estimated=False)
    elif space.shot is not None:
        options = f"{parameter('noise')} and {parameter('gain')}"
        raise UsageError(f"this model learned from counts, and denoises those with the same gain; leave out {options}")
    elif gain is not None or isinstance(noise, int | float):
        found = FoundNoise.said(noise if isinstance(noise, int | float) else 0.0, gain)
    else:
        found = FoundNoise.of(pictures, y, least_noise, any_sigma=any_sigma)
    if found.shot is not None and not found.is_estimated:
        _require_shot_noise(found.shot, y, space, any_sigma=any_sigma)
    if not found.largest > 1e-9:  # NaN too
        raise UsageError(f"{parameter('denoise')} {path}: expected noise above 0, found {found.largest:g}")
    remark = found.in_words(space)
    if is_own:
        remark += _OWN if space.shot is None else _OWN_GAIN
    picture = GrayPicture(space.shape) if gray else Identity(space.shape)
    fields: dict[str, Any] = {
        "name": "denoise",
        "inputs": y.float().expand(-1, space.shape[0], -1, -1),  # half the memory
        "pictures": pictures.names,
        "remarks": (remark,),
    }
    if found.shot is None:
        return Task.of_measurement(picture, y, noise=found.white, **fields)
    shot, facts = found.shot, {"gain": found.shot.gain, "read_noise": found.shot.read}
    counted = Counted(picture, shot, signed=not space.bounded)
    return Task(operator=counted, values=shot.form(y).flatten(1), noise=shot.in_form, facts=facts, **fields)


def estimated_white_noise(pictures: Pictures, y: Tensor) -> tuple[float, float | None]:
    """Standard deviation of white noise, the mean of the pictures' estimates; and, if all are JPEGs, the part of it
    that their tables imply.

    y: the pictures, (P, C, H, W), gray ones of a model of colors with one channel.
    """
    arrays = [one.numpy() for one in y]
    if all(pictures.jpegs):
        rest = fmean(map(estimated_noise_of_jpeg, arrays))
        tables = fmean(jpeg.sigma for jpeg in pictures.jpegs if jpeg is not None)
        return math.hypot(tables, rest), tables
    return fmean(map(estimated_noise, arrays)), None


@attrs.frozen(kw_only=True)
class FoundNoise:
    """The noise of pictures, as it was said or estimated."""

    white: float = 0.0
    """Standard deviation of white noise."""
    shot: ShotNoise | None = None
    """Noise that grows with the values, in place of white noise."""
    tables: float | None = None
    """Of JPEGs, the part of `white` that their tables imply."""
    is_estimated: bool = True
    stretch: float = 1.0
    """Factor by which values can be multiplied up to white, where less noise was estimated than the model knows and
    that makes it visible; else 1."""

    @classmethod
    def said(cls, noise: float, gain: float | None) -> Self:
        """What a person said. Raises UsageError for what no noise has."""
        for name, value in (("noise", noise), ("gain", gain or 0.0)):
            if not 0 <= value < math.inf:
                raise UsageError(f"expected {parameter(name)} >= 0, found {value:g}")
        return cls(white=noise, shot=ShotNoise(gain, noise) if gain else None, is_estimated=False)

    @classmethod
    def of(cls, pictures: Pictures, y: Tensor, least: float, *, any_sigma: bool = True) -> Self:
        """The noise of pictures (P, C, H, W), gray ones with one channel: the mean of their estimates, or `least`.

        any_sigma: as in `denoise`.
        """
        if any_sigma and not all(pictures.jpegs):
            shots = [shot for one in y if (shot := estimated_shot_noise(one.numpy())) is not None]
            if len(shots) == len(y):
                shot = ShotNoise(fmean(shot.gain for shot in shots), fmean(shot.read for shot in shots))
                if shot.explains(float(y.min())) and shot.in_form >= least:
                    return cls(shot=shot)
        white, tables = estimated_white_noise(pictures, y)
        room = 1 / max(float(y.max()), 1e-9)
        is_hidden = white < least and room * white > _SEEN
        return cls(white=max(white, least), tables=tables, stretch=room if is_hidden else 1.0)

    @property
    def largest(self) -> float:
        """That of the largest value in [0, 1]."""
        return self.at(1.0)

    def at(self, value: float) -> float:
        """That of a value in [0, 1]."""
        return self.white if self.shot is None else math.hypot(math.sqrt(self.shot.gain * value), self.shot.read)

    def in_words(self, space: Space) -> str:
        """What was found, and what to type if it looks wrong. space: whose numbers are said."""
        span, shot = space.span, self.shot
        if shot is not None:
            read = f" + ({shot.read * span:.3g})²" if shot.read else ""
            words, other = f"variance {shot.gain * span:.3g} · value{read}", shot_options(shot, span)
        else:
            of_255 = f" ({255 * self.white:.1f} of 255)" if space.bounded else ""
            words, other = f"{self.white * span:.3g}{of_255}", argument("noise", short(self.white * span))
        if not self.is_estimated:
            return f"noise: {words}"
        if self.stretch > 1 and space.bounded:
            return (
                f"noise: less than the {words} that this model knows, so most of it stays; the values reach only "
                f"{1 / self.stretch:.2g} of white: multiply those of the picture by {self.stretch:.2g}"
            )
        if shot is None and self.tables is None and self.white < _SEEN:
            return (
                f"noise: none to be seen ({words}), so the picture is left nearly as it is; if it has some, say how "
                f"much:  {argument('noise', 0.05)}"
            )
        advice = f"if the result is smeared, type less, if it is noisy, more:  {other}"
        return estimate_in_words(words, self.tables, advice)


def estimate_in_words(noise: str, tables: float | None, advice: str) -> str:
    """What was estimated, and what to type if it looks wrong. tables: the part that those of JPEGs imply."""
    part = "" if tables is None else f", {tables:.3g} of it by the tables of the JPEG"
    return f"noise: {noise}, estimated{part}; {advice}"


def shot_options(shot: ShotNoise, span: float) -> str:
    """What to type for shot noise. span: of the values that are typed."""
    given = {"gain": shot.gain, "noise": shot.read}
    return " ".join(argument(name, short(value * span)) for name, value in given.items() if value)


def short(value: float) -> float:
    """Two significant digits."""
    return float(f"{value:.2g}")


def _require_shot_noise(shot: ShotNoise, y: Tensor, space: Space, *, any_sigma: bool) -> None:
    """Raises UsageError for shot noise that can't be removed."""
    if not any_sigma:
        raise UsageError(
            f"{parameter('gain')}: this model knows noise of its trained levels only, and cannot remove shot noise",
            Hint("remove white noise instead", adds=argument("noise", 0.1)),
        )
    if space.bounded and shot.gain > 1:
        raise UsageError(
            f"{parameter('gain')} {shot.gain:g}: expected at most 1, a single count at white",
            Hint(f"for {shot.gain:g} counts at white", adds=argument("gain", float(f"{1 / shot.gain:.3g}"))),
        )
    if not shot.explains(float(y.min())):
        raise UsageError(
            f"{parameter('gain')}: values down to {space.span * float(y.min()):.3g} would have a negative variance; "
            f"expected values from 0 on, but for a read noise, which {parameter('noise')} says"
        )


@attrs.frozen(eq=False)
class Counted(NoisyPicture):
    """A picture whose noise grows with its values, as that of counted photons, by its form (see `ncsnx.shot_noise`)."""

    picture: Identity | GrayPicture
    """The map without noise."""
    shot: ShotNoise
    signed: bool = attrs.field(default=False, kw_only=True)
    """Whether pictures have values below black, as unbounded data may."""

    @property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        return self.picture.shape

    @property
    def measured_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.picture.measured_shape

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return self.picture.evaluations

    @property
    def norm(self) -> float:
        """The slope of the form at black, where it is steepest."""
        return self.picture.norm * self.shot.steepest

    def apply(self, x: Tensor) -> Tensor:
        """The form of pictures: (B, C, H, W) → (B, M)."""
        return self.shot.form(self.picture.apply(x))

    def noisy(self, values: Tensor, noise: float | Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """The form of noisy pictures."""
        coefficients = values / self.picture.singular_values.to(values)
        return self.picture.noisy(coefficients, noise, draw)

    def deviation(self, noise: float | Tensor) -> float:
        """That of the picture in the form."""
        return self.picture.deviation(noise)

    def finished(self, images: Tensor, values: Tensor) -> Tensor:
        """Pictures from forms, by `ShotNoise.mean`."""
        found = self.shot.mean(self.picture.finished(images, values))
        return (found if self.signed else found.clamp(min=0)).to(images)

    def as_values(self, y: Tensor) -> Tensor:
        """The values of forms."""
        return self.shot.values(y)

    def noise_of_values(self, noise: float) -> float:
        """The standard deviation of the noise at white."""
        return math.hypot(math.sqrt(self.shot.gain), self.shot.read)
