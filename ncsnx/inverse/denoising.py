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
import torch
from torch import Tensor

from ncsnx.errors import Hint, UsageError
from ncsnx.inverse.measurement_map import NoisyPicture
from ncsnx.inverse.noise_level import ShotNoise, estimated_noise, estimated_noise_of_jpeg, estimated_shot_noise
from ncsnx.inverse.operators import GrayPicture, Identity
from ncsnx.inverse.task import Task
from ncsnx.inverse.task_pictures import Pictures, read_pictures
from ncsnx.space import Space
from ncsnx.spelling import argument, parameter

_OWN = f", as in the training images; estimate that of the picture:  {argument('noise', 'auto')}"
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
    noise = space.noise_of_values if is_own else None if noise == "auto" else noise
    found = (
        FoundNoise.of(pictures, y, least_noise, any_sigma=any_sigma)
        if noise is None and gain is None
        else FoundNoise.said(noise or 0.0, gain)
    )
    if found.shot is not None and not found.is_estimated:
        _require_shot_noise(found.shot, y, space, any_sigma=any_sigma)
    if not found.largest > 1e-9:  # NaN too
        raise UsageError(f"{parameter('denoise')} {path}: expected noise above 0, found {found.largest:g}")
    picture = GrayPicture(space.shape) if gray else Identity(space.shape)
    fields: dict[str, Any] = {
        "name": "denoise",
        "inputs": y.float().expand(-1, space.shape[0], -1, -1),  # half the memory
        "pictures": pictures.names,
        "remarks": (found.in_words(space) + (_OWN if is_own else ""),),
    }
    if found.shot is None:
        return Task.of_measurement(picture, y, noise=found.white, **fields)
    counted = Counted(picture, found.shot, signed=not space.bounded)
    facts = {"gain": found.shot.gain, "read_noise": found.shot.read}
    return Task(operator=counted, values=counted.seen(y).flatten(1), noise=counted.white_noise, facts=facts, **fields)


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
                if _explains(shot, y) and Counted(Identity((1, 1, 1)), shot).white_noise >= least:
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


def _explains(shot: ShotNoise, y: Tensor) -> bool:
    """Whether values of shot noise can be as small as those of y: darker than black by little more than read noise, or
    by what leaves the variance positive."""
    return float(y.min()) >= -max(6 * shot.read, shot.read**2 / shot.gain) - shot.gain


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
    if not _explains(shot, y):
        raise UsageError(
            f"{parameter('gain')}: values down to {space.span * float(y.min()):.3g} would have a negative variance; "
            f"expected values from 0 on, but for a read noise, which {parameter('noise')} says"
        )


@attrs.frozen(eq=False)
class Counted(NoisyPicture):
    """A picture whose noise grows with its values, as that of counted photons, by a form in which it doesn't.

    The form is the generalized Anscombe transform f(v) = 2/g √(g v + ⅜ g² + r²) of values with the variance g v + r²
    (Starck, Murtagh & Bijaoui 1998), after which the noise has the standard deviation 1, rescaled so that black stays 0
    and white 1.
    """

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
        gain, read = self.shot.gain, self.shot.read
        return self.picture.norm * self.white_noise / math.sqrt(3 / 8 * gain**2 + read**2)

    @property
    def white_noise(self) -> float:
        """The standard deviation of the noise in the form."""
        black, white = self._stabilized(torch.tensor([0.0, 1.0]).double()).tolist()
        return 1 / float(white - black)

    def seen(self, y: Tensor) -> Tensor:
        """The form of values in which black is 0 and white 1, of any shape."""
        black = self._stabilized(y.new_zeros(()))
        seen: Tensor = self.white_noise * (self._stabilized(y) - black)
        return seen

    def apply(self, x: Tensor) -> Tensor:
        """The form of pictures: (B, C, H, W) → (B, M)."""
        return self.seen(self.picture.apply(x))

    def noisy(self, values: Tensor, noise: float | Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """The form of noisy pictures."""
        coefficients = values / self.picture.singular_values.to(values)
        return self.picture.noisy(coefficients, noise, draw)

    def deviation(self, noise: float | Tensor) -> float:
        """That of the picture in the form."""
        return self.picture.deviation(noise)

    def finished(self, images: Tensor, values: Tensor) -> Tensor:
        """Pictures from forms, by the inverse of f(v)'s mean rather than of f: f is curved.

        Its closed form is that of Mäkitalo & Foi 2013 (IEEE Transactions on Image Processing 22, 91), equation 12, from
        its zero on: the mean of f at black is below f(0), for read noise counts as (r/g)² further photons.
        """
        form, root = self.picture.finished(images, values).double(), math.sqrt(3 / 2)
        f = self._unscaled(form).clamp(min=root)
        photons = f**2 / 4 + root / (4 * f) - 11 / (8 * f**2) + 5 * root / (8 * f**3) - 1 / 8
        found = self.shot.gain * photons - self.shot.read**2 / self.shot.gain
        return (found if self.signed else found.clamp(min=0)).to(images)

    def as_values(self, y: Tensor) -> Tensor:
        """The values of forms, by the inverse of f."""
        gain, read = self.shot.gain, self.shot.read
        return gain * (self._unscaled(y).clamp(min=0) ** 2 / 4 - 3 / 8) - read**2 / gain

    def noise_of_values(self, noise: float) -> float:
        """The standard deviation of the noise at white."""
        return math.hypot(math.sqrt(self.shot.gain), self.shot.read)

    def _unscaled(self, form: Tensor) -> Tensor:
        """f of a form."""
        return self._stabilized(form.new_zeros(())) + form / self.white_noise

    def _stabilized(self, v: Tensor) -> Tensor:
        gain, read = self.shot.gain, self.shot.read
        stabilized: Tensor = 2 / gain * (gain * v + 3 / 8 * gain**2 + read**2).clamp(min=0).sqrt()
        return stabilized
