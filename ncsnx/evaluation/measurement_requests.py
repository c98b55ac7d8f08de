"""Parameters of measurements, checked without importing torch."""

from typing import Literal, get_args

import attrs

from ncsnx.errors import UsageError, require_between
from ncsnx.sampling.request import LEAST_SCORED, MOST_IMAGES, SampleRequest
from ncsnx.spelling import parameter

Estimator = Literal["hutchinson", "skilling", "exact"]
"""Estimator of the divergence: random signs, Gaussian vectors, or every direction in turn."""


@attrs.frozen(kw_only=True)
class _SampledRequest:
    """Parameters of images that are sampled to be measured."""

    n: int
    """Number of images, per checkpoint."""
    seed: int = 0
    batch_size: int = 64
    """Images per batch; changes them by rounding at most."""

    @property
    def images(self) -> SampleRequest:
        """The request for them. Raises UsageError for numbers out of range."""
        return SampleRequest(n=self.n, seed=self.seed, batch_size=self.batch_size)


@attrs.frozen(kw_only=True)
class SweepRequest(_SampledRequest):
    """Parameters of scoring checkpoints. Raises UsageError for numbers out of range."""

    n: int = 1000
    ensemble: int = 1
    """K for an ensemble: the scores of the last K checkpoints up to each are averaged."""

    def __attrs_post_init__(self) -> None:
        require_between("n", self.n, LEAST_SCORED, MOST_IMAGES)
        _ = self.images  # checks seed and batch_size
        require_between("ensemble", self.ensemble, 1, 1_000, " checkpoints")


@attrs.frozen(kw_only=True)
class LikelihoodRequest:
    """Parameters of the measurement of each checkpoint. Raises UsageError for numbers out of range."""

    n: int | None = None
    """Number of held-out images, chosen by the seed; a larger n adds images to those of a smaller one. None for 100, or
    all if there are fewer."""
    seed: int = 0
    """Seed of the choice of images, their dequantization and the probes."""
    estimator: Estimator = "hutchinson"
    probes: int | None = None
    """Random vectors per image, the same at every σ. None for one, or for every direction with 'exact'."""
    tolerance: float = 1e-4
    """Tolerance of the solver, see `ProbabilityFlow`."""
    batch_size: int = 64
    """Images per batch, which share the solver's steps; changes results within the tolerance."""

    def __attrs_post_init__(self) -> None:
        if self.n is not None and self.n < 2:
            raise UsageError(f"{parameter('n')} must be at least 2 for a standard error, not {self.n}")
        require_between("seed", self.seed, 0, 2**32 - 1)
        if self.estimator not in get_args(Estimator):
            accepted = ", ".join(get_args(Estimator))
            raise UsageError(f"{parameter('estimator')} must be one of {accepted}, not {self.estimator!a}")
        if self.probes is not None and self.estimator == "exact":
            raise UsageError(f"{parameter('estimator')} exact takes no {parameter('probes')}; leave it out")
        if self.probes is not None:
            require_between("probes", self.probes, 1, 10_000)
        if not 1e-6 <= self.tolerance <= 0.1:
            raise UsageError(
                f"{parameter('tolerance')} must be between 1e-6 (since the network runs in float32) and 0.1, not "
                f"{self.tolerance:g}"
            )
        require_between("batch_size", self.batch_size, 1, 1_000_000)


@attrs.frozen(kw_only=True)
class NeighborsRequest(_SampledRequest):
    """Parameters of a search. Raises UsageError for numbers out of range."""

    n: int = 64
    k: int = 5
    """Neighbours shown per sample."""
    held_out: int = 1_000
    """Most held-out images to compare with, chosen by a fixed seed."""
    flips: bool | None = None
    """Whether mirror images of training images count; None for the experiment's `random_flip`."""

    def __attrs_post_init__(self) -> None:
        _ = self.images  # checks n, seed and batch_size
        for name, high in (("k", 100), ("held_out", 1_000_000)):
            require_between(name, getattr(self, name), 1, high)
