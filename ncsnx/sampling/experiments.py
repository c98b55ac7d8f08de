"""The draws of an experiment's sampler: where its images start, in its data's range."""

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from ncsnx.config.experiment import Experiment
from ncsnx.data import Dataset, Preprocessing, from_unit
from ncsnx.errors import NcsnxError
from ncsnx.noise.levels import sigmas
from ncsnx.randomness import Purpose, Stream
from ncsnx.samplers.building import first_sigma
from ncsnx.sampling.draws import Draws, seeded_draws
from ncsnx.sampling.interpolation import interpolated, second_noise
from ncsnx.sampling.noise_sources import initial_from_data, initial_normal

_START = 2**32 - 1
"""The draw of noise that no sampler comes to: where the other end of a row starts."""


def starts_from_data(experiment: Experiment) -> bool:
    """Whether the sampler starts from training images, so that they must be at hand."""
    return experiment.sampler.start == "data"


def experiment_draws(experiment: Experiment, seed: int, training_data: Dataset | None) -> Draws:
    """Image i's start and noise under `seed`. Raises NcsnxError where it starts from data and there is none."""
    data = experiment.data
    draws = seeded_draws(seed, data.shape, lambda x: from_unit(x, data))
    if experiment.sampler.start == "noise":
        return attrs.evolve(draws, initial=_noise(experiment, seed))
    if not starts_from_data(experiment):
        return draws
    if training_data is None:
        raise NcsnxError("the sampler starts from training images (data_init), but the data is not at hand")
    dataset = training_data
    preprocessing = Preprocessing(data, dataset.value_range, seed)

    def images(chosen: Tensor) -> Tensor:
        pixels = dataset.read(chosen.cpu()).pixels.to(chosen.device)
        return from_unit(preprocessing.unit(pixels), data)

    def initial(indices: Tensor) -> Tensor:
        return initial_from_data(
            seed,
            indices,
            data.shape,
            sigma_max=experiment.schedule.sigma_max,
            data_size=len(dataset),
            data=images,
        )

    return Draws(initial=initial, noise=draws.noise)


def between_rows(experiment: Experiment, draws: Draws, seed: int, columns: int) -> Draws:
    """Rows from the images of `draws`, of `seed`, to others, driven by noise of their own.

    Where images start from noise of the first level, that is turned too: of a sampler that draws no other, the row
    would be one image. Uniform starts and images are kept, as published.
    """
    shape, (sigma, middle) = experiment.data.shape, _first_level(experiment)
    other = None
    if experiment.sampler.start == "noise":
        stream = Stream(seed, Purpose.INTERPOLATION_NOISE)

        def other(rows: Tensor) -> Tensor:
            return middle + sigma * stream.normal(rows, shape, step=_START)

    return interpolated(draws, second_noise(seed, shape), columns, other=other, middle=middle)


def between_seeds(experiment: Experiment, first: Draws, second: Draws, columns: int) -> Draws:
    """Rows from the image of the first draws to that of the second with the same index: both ends are those images."""
    middle = _first_level(experiment)[1]
    return interpolated(first, second.noise, columns, other=second.initial, middle=middle)


def _noise(experiment: Experiment, seed: int) -> Callable[[Tensor], Tensor]:
    """Normal noise of the sampler's first level around the middle of the data's range."""
    sigma, middle = _first_level(experiment)
    return lambda indices: initial_normal(seed, indices, experiment.data.shape, mean=middle, sigma=sigma)


def _first_level(experiment: Experiment) -> tuple[float, float]:
    """σ of the sampler's first level, and the middle of the data's range."""
    sigma = first_sigma(experiment.sampler, sigmas(experiment.schedule))
    return sigma, float(from_unit(torch.tensor(0.5), experiment.data))
