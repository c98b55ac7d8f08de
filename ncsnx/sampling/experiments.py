"""The draws of an experiment's sampler: where its images start, in its data's range."""

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from ncsnx.config.experiment import Experiment
from ncsnx.data import Dataset, Preprocessing, from_unit
from ncsnx.errors import NcsnxError
from ncsnx.noise.levels import sigmas
from ncsnx.sampling.build import first_sigma
from ncsnx.sampling.draws import Draws, seeded_draws
from ncsnx.sampling.noise import initial_from_data, initial_normal


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
        raise NcsnxError("the sampler starts from training images (data_init), but the data isn't at hand")
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


def _noise(experiment: Experiment, seed: int) -> Callable[[Tensor], Tensor]:
    """Normal noise of the sampler's first level around the middle of the data's range."""
    data = experiment.data
    sigma = first_sigma(experiment.sampler, sigmas(experiment.schedule))
    middle = float(from_unit(torch.tensor(0.5), data))
    return lambda indices: initial_normal(seed, indices, data.shape, mean=middle, sigma=sigma)
