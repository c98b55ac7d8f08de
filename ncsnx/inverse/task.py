"""A task: measurements of pictures, and sampling of images that agree with them."""

import json
import math
from collections.abc import Callable
from typing import Any, Self

import attrs
import torch
from attrs.converters import optional
from torch import Tensor

from ncsnx.errors import NcsnxError, UsageError, quoted
from ncsnx.inverse.operators.linear_operator import LinearOperator
from ncsnx.inverse.operators.measurement_map import (
    LinearMap,
    MeasurementMap,
    NoisyPicture,
    applied_precisely,
    in_single_precision,
    inner,
    require_finite,
    require_norm,
    sha256_of_values,
)
from ncsnx.inverse.operators.pixels import without_colors
from ncsnx.inverse.rules.contract import AUTO, EXACT, Definition, Measured, chosen_rule, measured_by, rows_of
from ncsnx.quantities import counted
from ncsnx.randomness import Purpose
from ncsnx.runs.names import names_a_file_everywhere
from ncsnx.samplers.state import Rule
from ncsnx.sampling.generation import SeededNoise
from ncsnx.space import Space
from ncsnx.spelling import A_FILE, argument, parameter

MEASURE = "measure"
"""Name of the task of a file of measurements."""

_TESTED = {
    *(f"ncsnx.inverse.operators.{name}" for name in ("linear_operator", "pixels", "frequencies", "matrix")),
    *(f"ncsnx.inverse.noisy_pictures.{name}" for name in ("denoising", "jpeg_picture")),
}
"""Modules whose maps aren't checked when they are used, which takes much memory: tests check them."""


def _as_noise(noise: float | Tensor) -> float | Tensor:
    """A number, or a tensor of several in float64. Raises NcsnxError for what is neither."""
    if isinstance(noise, int | float):
        return noise
    try:
        found = torch.as_tensor(noise)
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None or found.is_complex():
        raise NcsnxError(f"expected a number or an array of real numbers as noise, found {quoted(noise)}")
    return found.double() if found.dim() else float(found)


@attrs.frozen(eq=False, kw_only=True)
class Task:
    """Measurements of P pictures, with values of images in [0, 1]: 0 is black, 1 is white.

    Images of unbounded data have values v / scale instead, wherever [0, 1] stands here.

    Raises NcsnxError for values, noise or pictures that don't match, and for NaN and infinity in them.
    """

    name: str
    """Name of the task: 'inpaint', 'super-resolve', …"""
    operator: MeasurementMap
    """A: an operator of rank M, or another map of images with values from 0 to 1."""
    values: Tensor = attrs.field(converter=torch.as_tensor)
    """Measured coefficients Σ⁻¹ Uᵀ y, (P, M), real and finite; `of_measurement` computes them from y. For another map,
    y itself, (P, *measured_shape)."""
    noise: float | Tensor = attrs.field(default=0.0, converter=_as_noise)
    """γ, the standard deviation of the noise in y, finite and >= 0; of complex values, that of each part. One for all
    values, or independent noise of each, above 0, (P or 1, *operator.measured_shape): of an operator, that of Uᵀ y."""
    rule: str = AUTO
    """How samplers use the measurement: 'exact', 'reverse', 'cg', 'langevin', 'dps' or the rule of a package (see
    `ncsnx.inverse.rules`); 'auto': the default of the operator."""
    inputs: Tensor | None = attrs.field(default=None, converter=optional(torch.as_tensor))
    """Measurements as pictures, (P, C, H, W) in [0, 1]. None: the pseudo-inverse."""
    truth: Tensor | None = attrs.field(default=None, converter=optional(torch.as_tensor))
    """True pictures, (P, C, H, W) in [0, 1], if known."""
    pictures: tuple[str, ...] = ()
    """Names of the P pictures, or empty."""
    facts: dict[str, Any] = attrs.field(factory=dict)
    """Further JSON values that determine the images, for the protocol."""
    is_gray: bool = False
    """Whether the pictures are gray though images have colors: images get the mean of their channels."""
    remarks: tuple[str, ...] = ()
    """How the measurement was understood, a line each, which is said before images are drawn."""

    def __attrs_post_init__(self) -> None:
        if not names_a_file_everywhere(self.name):
            raise NcsnxError(
                f"expected a task's name of letters, digits, - and _, since it names a folder; found {self.name!a}"
            )
        try:
            json.dumps(self.facts, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise NcsnxError(f"{self.name}: expected facts that are JSON: {error}") from error
        if not isinstance(self.operator, MeasurementMap):
            kind = type(self.operator).__name__
            raise NcsnxError(f"{self.name}: expected a MeasurementMap, such as a LinearOperator, not {kind}")
        self._check_values()
        self._check_noise()
        object.__setattr__(self, "rule", self._rule(self.rule).name)

    def _rule(self, name: str) -> Definition:
        return chosen_rule(name, self.operator, any_noise=isinstance(self.noise, Tensor))

    @property
    def how(self) -> Definition:
        """The rule with what it needs of a sampler."""
        return self._rule(self.rule)

    def _check_noise(self) -> None:
        noise = self.noise
        if not isinstance(noise, Tensor):
            if not 0 <= noise < math.inf:
                raise UsageError(f"expected {parameter('noise')} >= 0, the standard deviation, found {noise:g}")
            return
        one = tuple(self.operator.measured_shape)
        if tuple(noise.shape) not in ((1, *one), (self.count, *one)):
            expected = ", ".join(map(str, (self.count, *one)))
            raise NcsnxError(f"{self.name}: expected a number as noise, or ({expected}), found {tuple(noise.shape)}")
        if wrong := noise[~((noise > 0) & noise.isfinite())].tolist():
            raise NcsnxError(f"{self.name}: expected a noise above 0 for each value, found {wrong[0]:g}")

    def _check_values(self) -> None:
        operator, shape = self.operator, tuple(self.operator.shape)
        if 0 in operator.measured_shape:
            raise NcsnxError(f"{self.name}: {type(operator).__name__} measures nothing")
        images = ("inputs", self.inputs, shape), ("truth", self.truth, shape)
        for what, tensor, one in (("values", self.values, tuple(operator.measured_shape)), *images):
            if tensor is None:
                continue
            if tensor.dim() == 0 or tuple(tensor.shape) != (max(1, len(self.values)), *one):
                expected = ", ".join(map(str, ("P" if what == "values" else self.count, *one)))
                kind, found = type(operator).__name__, tuple(tensor.shape)
                raise NcsnxError(f"{self.name}: expected {what} ({expected}) for {kind}, found {found}")
            require_finite(tensor, f"{self.name}, {what}")
        if operator.pictures not in (None, self.count):
            maps = counted(operator.pictures or 0, "picture")
            raise NcsnxError(f"{self.name}: the map is of {maps}, but there are values of {self.count}")
        if self.values.is_complex() and isinstance(operator, LinearOperator):
            raise NcsnxError(f"{self.name}: expected values that are real numbers, found complex ones")
        if len(self.pictures) not in (0, self.count):
            raise NcsnxError(f"{self.name}: expected {counted(self.count, 'name')} of pictures, found {self.pictures}")

    @classmethod
    def of_measurement(
        cls,
        operator: MeasurementMap,
        y: Tensor,
        *,
        name: str = "measured",
        noise: float | Tensor = 0.0,
        **fields: Any,
    ) -> Self:
        """The task of measurements y = A x of images x in [0, 1], with noise of this standard deviation.

        Of unbounded data x = v / scale for images v in own values; divide y and the noise by the scale, for a linear A.
        A function of `register_task` doesn't: it is done for it.

        y: (P, …), as operator.of_measurement expects it: for a `MatrixOperator` (P, m), in the order of its rows; for a
        `Blurring` blurred pictures (P, C, H, W); for others M values per picture. Convert complex frequencies by
        `Fourier.of_spectrum` first. Another map takes (P, *measured_shape), real or complex. noise: one for all values,
        or of each, of the shape of y or of one picture's; an operator that mixes values is then taken as its
        `unmixed` map. fields: further ones of the task: rule, inputs, truth, pictures, facts. Raises NcsnxError.
        """
        y, noise = torch.as_tensor(y), _as_noise(noise)
        if isinstance(noise, Tensor):
            if tuple(noise.shape) not in (tuple(y.shape), (1, *y.shape[1:]), tuple(y.shape[1:])):
                raise NcsnxError(
                    f"{name}: expected a number as noise, or one of the measurement's shape {tuple(y.shape)} or "
                    f"{tuple(y.shape[1:])}, found {tuple(noise.shape)}"
                )
            noise = noise.reshape(-1, *y.shape[1:])
            operator = operator.unmixed if isinstance(operator, LinearOperator) else operator
            noise = noise.flatten(1) if isinstance(operator, LinearOperator) else noise
        if isinstance(operator, LinearOperator):
            if y.is_complex():
                raise NcsnxError(f"{name}: expected measurements that are real numbers, found complex ones")
            y = operator.of_measurement(y.double()) / operator.singular_values.to(y.device).double()
        return cls(name=name, operator=operator, values=y, noise=noise, **fields)

    @property
    def count(self) -> int:
        """P, the number of pictures."""
        return len(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the pictures, or their numbers."""
        return self.pictures or tuple(str(number) for number in range(self.count))

    @property
    def is_exact(self) -> bool:
        """Whether the rule is `exact`, by singular values."""
        return self.rule == EXACT

    @property
    def protocol(self) -> dict[str, Any]:
        """JSON values of the task that determine the images."""
        return {
            "name": self.name,
            "noise": self.noise if isinstance(self.noise, float | int) else _noise_in_short(self.noise),
            "values_sha256": sha256_of_values(self.values),
            **({} if self.is_exact else {"rule": self.rule}),
            **({"gray": True} if self.is_gray else {}),
            **self.facts,
        }

    def of(self, picture: int) -> Self:
        """The task of one of the pictures."""
        chosen = slice(picture, picture + 1)
        return attrs.evolve(
            self,
            operator=self.operator.of(torch.tensor([picture])),
            values=self.values[chosen],
            inputs=None if self.inputs is None else self.inputs[chosen],
            truth=None if self.truth is None else self.truth[chosen],
            noise=rows_of(self.noise, chosen),
            pictures=self.names[chosen],
        )

    def divided(self, scale: float) -> Self:
        """The task of the same images in units of `scale`. Raises NcsnxError unless the operator is linear."""
        if scale == 1:
            return self
        if not isinstance(self.operator, LinearMap):
            raise NcsnxError(f"{self.name}: {type(self.operator).__name__} is not linear, as unbounded data needs")
        inputs, truth = (None if images is None else images / scale for images in (self.inputs, self.truth))
        return attrs.evolve(self, values=self.values / scale, inputs=inputs, truth=truth, noise=self.noise / scale)

    def shown(self) -> Tensor:
        """The measurements as pictures, (P, C, H, W) float32; values beyond 0 and 1 aren't clamped.

        Without `inputs` the pseudo-inverse; of a linear map c Aᴴ y with the factor that brings A c Aᴴ y nearest to y,
        the first step of conjugate gradients. Gray for a map that isn't linear.
        """
        operator = self.operator
        if self.inputs is not None:
            return self.inputs.float()
        if isinstance(operator, LinearOperator):
            return operator.images(self.values).float()
        if not isinstance(operator, LinearMap):
            return torch.full((self.count, *operator.shape), 0.5)
        return torch.cat([_of_adjoint(operator, self.values, place) for place in range(self.count)]).float()

    def finished(self, images: Tensor, pictures: Tensor, *, are_means: bool = False) -> Tensor:
        """Images (B, C, H, W) in [0, 1], as a sampler gives them, with what else is known of the pictures.

        See `NoisyPicture.finished`. pictures: index of the picture of each image, (B,) int64. are_means: whether the
        images are means as D gives them.
        """
        picture = self.operator
        if isinstance(picture, NoisyPicture):
            picture = picture.of(pictures)
            images = (picture.finished_mean if are_means else picture.finished)(images, self.values[pictures])
        return without_colors(images) if self.is_gray else images

    @property
    def evaluations(self) -> int:
        """Evaluations of the network that give the mean of a noisy picture; 0 for other tasks."""
        return self.operator.evaluations if isinstance(self.operator, NoisyPicture) else 0

    def misfits(self, images: Tensor) -> tuple[float, float | None]:
        """Largest difference between the measurement and that of images of one picture, (B, C, H, W) in [0, 1], and the
        largest in standard deviations of the noise, if there is noise.

        The task has one picture. For an operator, the difference of Uᵀ y; of a form of the picture, that of its values.
        """
        y, values = measured_by(self.operator, self.values), self.operator.as_values
        measured = [applied_precisely(self.operator, image[None]) for image in images]
        noisy = [float(((one - y).abs() / self.noise).max()) for one in measured] if self.least_noise else []
        away = max(float((values(one) - values(y)).abs().max()) for one in measured)
        return away, max(noisy, default=None)

    @property
    def largest_noise(self) -> float:
        """γ, or the largest of the noises of the values; in the scale of `misfits`."""
        return float(self.noise.max()) if isinstance(self.noise, Tensor) else self.operator.noise_of_values(self.noise)

    @property
    def least_noise(self) -> float:
        """γ, or the smallest of the noises of the values."""
        return float(self.noise.min()) if isinstance(self.noise, Tensor) else self.noise

    @property
    def gain(self) -> float:
        """Largest factor from an error of an image to that of its measurement; 1 for the rule `exact`."""
        return 1.0 if self.is_exact else self.operator.norm

    def require_fit(self, space: Space) -> None:
        """Raises UsageError for images of another shape, NcsnxError for logits and for an invalid operator (see
        `LinearOperator.check`).
        """
        operator = self.operator
        if tuple(operator.shape) != space.shape:
            raise UsageError(f"{self.name}: the images of the model are {space.shape}, not {tuple(operator.shape)}")
        if space.logit:
            raise NcsnxError(
                f"{self.name}: measurements must be linear, but this model works on logits of the images "
                "(data.transform=logit); use a model with data.transform none or rescaled"
            )
        if space.shot is not None and getattr(operator, "shot", None) != space.shot:
            raise NcsnxError(
                f"{self.name}: this model works on a form of counts (data.gain), in which a measurement is not linear; "
                f"it denoises counts with the gain of its images:  {argument('denoise', A_FILE)}"
            )
        if type(operator).__module__ not in _TESTED:
            operator.check()
        measured = operator.of(torch.tensor([0])).apply(torch.zeros(1, *operator.shape))
        kind, found = ("complex" if y.is_complex() else "real" for y in (measured, self.values))
        if kind != found:
            raise NcsnxError(
                f"{self.name}: expected measurements that are {kind}, as those of {type(operator).__name__}, "
                f"found {found} ones"
            )

    def sigma(self, space: Space) -> float:
        """The smallest noise of what was measured, as σ in the network's range."""
        (black, white), operator = space.ends, self.operator
        require_norm(operator, self.name)
        if isinstance(operator, NoisyPicture):
            return (white - black) * operator.deviation(self.noise)
        return (white - black) * self.least_noise / operator.norm

    def ruled(self, space: Space, lowest: float, seed: int, alternatives: int) -> Callable[[Tensor], Rule]:
        """Function from indices to the rule of those images; image i is an alternative of picture i // alternatives.

        lowest: σ of the last level, for the rule `exact`. Raises as `require_fit`.
        """
        self.require_fit(space)
        operator, how = self.operator, self.how

        def of(indices: Tensor) -> Rule:
            pictures = (indices // alternatives).cpu()
            return how.under(
                Measured(
                    map=operator.of(pictures),
                    values=self.values[pictures],
                    noise=rows_of(self.noise, pictures),
                    norm=operator.norm,
                    space=space,
                    lowest=lowest,
                    device=indices.device,
                    draws=SeededNoise(seed, indices, operator.shape, Purpose.MEASUREMENT_NOISE),
                )
            )

        return of


def _noise_in_short(noise: Tensor) -> dict[str, Any]:
    """The noises of the values, for the protocol."""
    return {"least": float(noise.min()), "largest": float(noise.max()), "sha256": sha256_of_values(noise)}


def _of_adjoint(map: LinearMap, values: Tensor, place: int) -> Tensor:
    """The scaled adjoint of one of the measurements: see `Task.shown`."""
    of_picture = map.of(torch.tensor([place]))
    back = of_picture.adjoint(in_single_precision(values[place : place + 1]))
    if (length := math.sqrt(inner(back, back))) == 0:
        return back
    direction = back / length  # higher powers of a large map's norm overflow
    return direction * (length / inner(direction, of_picture.normal(direction)))
