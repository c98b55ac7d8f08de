"""Spaces, and what is built for them, where a test measures no data."""

import attrs

from ncsnx.config import Data, Digits, Experiment
from ncsnx.networks import Network, NetworkSpec, build_network
from ncsnx.runtime import Runtime
from ncsnx.space import Space
from ncsnx.training.training_state import TrainingState

SIGMA_DATA = 0.25
"""Root mean square of the images of `space_of`, unless their data declares another."""


def space_of(data: Data, scale: float | None = None) -> Space:
    """The space of the data set as it is declared; its images vary around the middle by `SIGMA_DATA`."""
    return Space.of(data, scale=scale, sigma_data=SIGMA_DATA)


def unit_space(*shape: int) -> Space:
    """The space of images in [0, 1] of this shape, (C, H, W)."""
    channels, height, width = shape
    return attrs.evolve(space_of(Digits()), shape=(channels, height, width), mean=(0.5,) * channels)


def spec_of(*shape: int, sigmas: tuple[float, ...]) -> NetworkSpec:
    """The facts of a network for images in [0, 1] of this shape, (C, H, W)."""
    return NetworkSpec(space=unit_space(*shape), sigmas=sigmas)


def untrained(experiment: Experiment) -> Network:
    """The untrained network of an experiment."""
    return build_network(experiment, space_of(experiment.data))


def state_of(experiment: Experiment, runtime: Runtime) -> TrainingState:
    """The state of a training before its first step."""
    return TrainingState(experiment, runtime, space_of(experiment.data))
