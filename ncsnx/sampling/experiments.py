"""Draws for the sampler of an experiment: initial states in the range of its data, and noise."""

from collections.abc import Callable

import attrs
from torch import Tensor

from ncsnx.config.experiment import Experiment
from ncsnx.data import Dataset, Preprocessing, from_unit
from ncsnx.data.transforms import start_mean
from ncsnx.errors import NcsnxError
from ncsnx.noise.levels import sigmas
from ncsnx.randomness import Purpose, Stream
from ncsnx.samplers.building import first_sigma
from ncsnx.sampling.draws import Draws, seeded_draws
from ncsnx.sampling.interpolation import interpolated, second_noise
from ncsnx.sampling.noise_sources import initial_from_data, initial_normal

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
    graphs: bool = False,
    compiled: bool = False,
    shape: tuple[int, int, int] | None = None,
) -> Draws:
    """Initial state and noise of image i under `seed`. graphs, compiled: as in `seeded_draws`.

    shape: (C, H, W) of the images; default: that of the data, which a sampler that starts from training images needs.
    Raises NcsnxError if the sampler starts from training images and `training_data` is None.
    """
    data = experiment.data
    shape = data.shape if shape is None else shape
    draws = seeded_draws(seed, shape, lambda x: from_unit(x, data), graphs=graphs, compiled=compiled)
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
