"""All random parts of sampling, as functions of the image indices."""

import math
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from ncsnx.config.experiment import Experiment
from ncsnx.data import Dataset, Preprocessing, from_unit
from ncsnx.data.transforms import start_mean
from ncsnx.errors import NcsnxError
from ncsnx.noise.levels import sigmas
from ncsnx.randomness import Purpose, Stream
from ncsnx.samplers.building import first_sigma
from ncsnx.samplers.state import Constrain, Noise


@attrs.frozen(eq=False, kw_only=True)
class Draws:
    """Initial states and noise of images. Indices are (B,) int64 on the device of the results."""

    initial: Callable[[Tensor], Tensor]
    """indices → initial x, (B·columns, C, H, W)."""
    noise: Callable[[Tensor], Noise]
    """indices → noise source of that shape."""
    condition: Callable[[Tensor], Constrain] | None = None
    """indices → measurement of those images."""
    columns: int = 1
    """Images per index; more than one for interpolation, where an index is a row."""


def seeded_draws(
    seed: int,
    shape: tuple[int, ...],
    from_unit: Callable[[Tensor], Tensor],
    *,
    compiled: bool = False,
) -> Draws:
    """Draws of plain sampling: the uniform initial x and the noise of image i are functions of (seed, i).

    shape: (C, H, W). from_unit: the data transform, from [0, 1] to the network's range. compiled: whether one compiled
    kernel draws the noise.
    """

    def initial(indices: Tensor) -> Tensor:
        return initial_uniform(seed, indices, shape, from_unit)

    return Draws(initial=initial, noise=lambda indices: SeededNoise(seed, indices, shape, compiled=compiled))


@attrs.frozen(eq=False)
class SeededNoise:
    """Noise of the images `indices` under `seed`."""

    seed: int
    indices: Tensor
    """(B,) int64, on the device of the noise."""
    shape: tuple[int, ...]
    """Shape of an image: (C, H, W)."""
    purpose: Purpose = Purpose.SAMPLER_NOISE
    compiled: bool = False
    """Whether one compiled kernel draws it; see `Stream.compiled`."""

    def __call__(self, k: int) -> Tensor:
        """Draw k: (B, C, H, W) float32, unit normal."""
        return Stream(self.seed, self.purpose, self.compiled).normal(self.indices, self.shape, step=k)


def initial_uniform(
    seed: int, indices: Tensor, shape: tuple[int, ...], from_unit: Callable[[Tensor], Tensor]
) -> Tensor:
    """x ~ U[0, 1) through the data transform, as published: (B, C, H, W) float32 on the device of `indices`.

    indices: (B,) int64 of the images. from_unit: the data transform, from [0, 1] to the network's range.
    """
    return from_unit(Stream(seed, Purpose.INITIAL_SAMPLE).uniform(indices, shape))


def initial_normal(seed: int, indices: Tensor, shape: tuple[int, ...], *, mean: Tensor | float, sigma: float) -> Tensor:
    """mean + σ z: (B, C, H, W) float32 on the device of `indices`, (B,) int64 of the images. mean: one or (C, 1, 1)."""
    return mean + sigma * Stream(seed, Purpose.INITIAL_SAMPLE).normal(indices, shape)


def initial_from_data(
    seed: int,
    indices: Tensor,
    shape: tuple[int, ...],
    *,
    sigma_max: float,
    data_size: int,
    data: Callable[[Tensor], Tensor],
) -> Tensor:
    """Training images + σ_1 z ('data_init'): (B, C, H, W) float32 on the device of `indices`.

    data: (B,) int64 positions in [0, data_size) → (B, C, H, W), transformed, on the device of the positions.
    """
    chosen = Stream(seed, Purpose.SAMPLE_DATA).integers(indices, data_size)
    return data(chosen) + sigma_max * Stream(seed, Purpose.INITIAL_SAMPLE).normal(indices, shape)


@attrs.frozen(eq=False)
class InterpolatedNoise:
    """Noise from p to q in `columns` equal steps of angle. p and q give (R, C, H, W), one draw per row."""

    p: Noise
    q: Noise
    columns: int

    def __call__(self, k: int) -> Tensor:
        """(R·columns, C, H, W), flattened as row · columns + column. Column 0 is p exactly."""
        return slerp_rows(self.p(k), self.q(k), self.columns)


_Start = Callable[[Tensor], Tensor]
"""(R,) int64 indices of rows → their initial states, (R, C, H, W)."""


def repeat_rows(x: Tensor, columns: int) -> Tensor:
    """(R, C, H, W) → (R·columns, C, H, W), each row repeated: all columns of a row start from one x, as published."""
    return x.repeat_interleave(columns, dim=0)


def slerp_rows(x: Tensor, y: Tensor, columns: int, middle: Tensor | float = 0.0) -> Tensor:
    """x and y, both (R, C, H, W) → (R·columns, C, H, W): from x to y in equal steps of angle around `middle`.

    Normal noise around the middle keeps its distribution. The first column is x exactly.
    """
    middle = middle.to(x.device) if isinstance(middle, Tensor) else middle
    angles = torch.linspace(0, math.pi / 2, columns, dtype=x.dtype, device=x.device)
    theta = angles.view(1, -1, *[1] * (x.dim() - 1))
    between = theta.cos() * (x - middle).unsqueeze(1) + theta.sin() * (y - middle).unsqueeze(1) + middle
    between[:, 0] = x
    return between.flatten(0, 1)


def interpolated(
    draws: Draws,
    q: Callable[[Tensor], Noise],
    columns: int,
    *,
    other: _Start | None = None,
    middle: Tensor | float = 0.0,
) -> Draws:
    """Draws whose rows go from the noise of `draws` (column 0) to the noise of q (last column), in `columns` columns.

    q: (R,) int64 indices of rows → their noise. other: initial states of the last column; None: all columns start from
    the same state, as published. middle: mean of the data, around which initial states are interpolated.
    """

    def initial(rows: Tensor) -> Tensor:
        x = draws.initial(rows)
        return repeat_rows(x, columns) if other is None else slerp_rows(x, other(rows), columns, middle)

    return Draws(
        initial=initial,
        noise=lambda rows: InterpolatedNoise(draws.noise(rows), q(rows), columns),
        columns=draws.columns * columns,
    )


def second_noise(seed: int, shape: tuple[int, ...]) -> Callable[[Tensor], Noise]:
    """The noise q of an interpolation under one seed: separate for each row, and independent of the samplers' noise."""
    return lambda rows: SeededNoise(seed, rows, shape, Purpose.INTERPOLATION_NOISE)


_START = 2**32 - 1
"""Step of the noise stream that no sampler reaches; used for the start of a row's other end."""


def starts_from_data(experiment: Experiment) -> bool:
    """Whether the sampler starts from training images, which must then be available."""
    return experiment.sampler.start == "data"


def experiment_draws(
    experiment: Experiment,
    seed: int,
    training_data: Dataset | None,
    *,
    compiled: bool = False,
    shape: tuple[int, int, int] | None = None,
) -> Draws:
    """Initial state and noise of image i under `seed`. compiled: as in `seeded_draws`.

    shape: (C, H, W) of the images; default: that of the data, which a sampler that starts from training images needs.
    Raises NcsnxError if the sampler starts from training images and `training_data` is None.
    """
    data = experiment.data
    shape = data.shape if shape is None else shape
    draws = seeded_draws(seed, shape, lambda x: from_unit(x, data), compiled=compiled)
    if experiment.sampler.start == "noise":
        return attrs.evolve(draws, initial=_noise(experiment, seed, shape))
    if not starts_from_data(experiment):
        return draws
    if training_data is None:
        raise NcsnxError("the sampler starts from training images (data_init), but there are none")
    dataset = training_data
    preprocessing = Preprocessing(data, dataset.value_range, seed)

    def images(chosen: Tensor) -> Tensor:
        pixels = dataset.read(chosen.cpu()).pixels.to(chosen.device)
        return from_unit(preprocessing.unit(pixels), data)

    def initial(indices: Tensor) -> Tensor:
        return initial_from_data(
            seed,
            indices,
            shape,
            sigma_max=experiment.schedule.sigma_max,
            data_size=len(dataset),
            data=images,
        )

    return Draws(initial=initial, noise=draws.noise)


def between_rows(
    experiment: Experiment, draws: Draws, seed: int, columns: int, shape: tuple[int, int, int] | None = None
) -> Draws:
    """Rows from the images of `draws` (under `seed`) to images of separate noise.

    Initial noise of the first level is interpolated too, since otherwise all images of a row would be equal for a
    sampler without further noise. Uniform starts and training images stay the same along a row, as published. shape: as
    in `experiment_draws`.
    """
    shape = experiment.data.shape if shape is None else shape
    sigma, middle = _first_level(experiment), start_mean(experiment.data)
    other = None
    if experiment.sampler.start == "noise":
        stream = Stream(seed, Purpose.INTERPOLATION_NOISE)

        def other(rows: Tensor) -> Tensor:
            return middle.to(rows.device) + sigma * stream.normal(rows, shape, step=_START)

    return interpolated(draws, second_noise(seed, shape), columns, other=other, middle=middle)


def between_seeds(experiment: Experiment, first: Draws, second: Draws, columns: int) -> Draws:
    """Rows from the image of the first draws to the image of the second draws with the same index."""
    return interpolated(first, second.noise, columns, other=second.initial, middle=start_mean(experiment.data))


def _noise(experiment: Experiment, seed: int, shape: tuple[int, int, int]) -> Callable[[Tensor], Tensor]:
    """Normal noise of the sampler's first level around the mean of the data."""
    sigma, mean = _first_level(experiment), start_mean(experiment.data)
    return lambda indices: initial_normal(seed, indices, shape, mean=mean.to(indices.device), sigma=sigma)


def _first_level(experiment: Experiment) -> float:
    """σ of the sampler's first level."""
    return first_sigma(experiment.sampler, sigmas(experiment.schedule))
