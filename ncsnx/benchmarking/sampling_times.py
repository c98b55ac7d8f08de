"""Estimated time for 1,000 images by each sampler: its evaluations, and the work between them."""

import time
from itertools import islice

import attrs
import torch
from torch import Tensor

from ncsnx.benchmarking.rounds import wait_for
from ncsnx.config.experiment import Experiment
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import tag_of, variants
from ncsnx.noise.levels import sigmas
from ncsnx.samplers.building import build_sampler, evaluations, expected_evaluations, first_sigma
from ncsnx.sampling.noise_sources import SeededNoise
from ncsnx.work import Work

_IMAGES = 1_000
_TIMED_STATES = 40
"""States of a sampler that are timed with a score of 0."""


@attrs.frozen(kw_only=True)
class SamplerTime:
    """A sampler with its default settings, or the experiment's own."""

    sampler: str
    """Tag of the sampler."""
    own: bool
    """Whether it is the experiment's, with its settings."""
    evaluations: int
    """Network evaluations per image."""
    assumed: bool
    """Whether the number of evaluations is assumed, as for adaptive samplers."""
    overhead_s: float
    """Seconds between two evaluations of a batch, noise included."""
    seconds: float
    """Seconds for 1,000 images."""


def sampler_times(
    experiment: Experiment, evaluation_s: float, batch_size: int, device: torch.device, work: Work
) -> list[SamplerTime]:
    """Every sampler that the network supports. evaluation_s: measured seconds for a batch of `batch_size`."""
    found = []
    for sampler, own in _samplers(experiment):
        work.check_stop()
        overhead = _overhead(sampler, experiment, batch_size, device)
        count = expected_evaluations(sampler, experiment.schedule.levels)
        found.append(
            SamplerTime(
                sampler=tag_of(type(sampler)) or type(sampler).__name__,
                own=own,
                evaluations=count,
                assumed=evaluations(sampler, experiment.schedule.levels) is None,
                overhead_s=overhead,
                seconds=_IMAGES / batch_size * count * (evaluation_s + overhead),
            )
        )
    return found


def _samplers(experiment: Experiment) -> list[tuple[Sampler, bool]]:
    """The experiment's sampler, and the others with their defaults."""
    found: list[tuple[Sampler, bool]] = [(experiment.sampler, True)]
    if not type(experiment.model).any_sigma:
        return found
    for cls in variants(Sampler).values():
        needed = [field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING]
        if cls is not type(experiment.sampler) and not needed:
            default = cls()
            assert isinstance(default, Sampler)
            found.append((default, False))
    return found


@torch.no_grad()
def _overhead(sampler: Sampler, experiment: Experiment, batch_size: int, device: torch.device) -> float:
    """Seconds per evaluation that a sampler takes with a score of 0, on a batch of random numbers."""
    shape, levels = experiment.data.shape, sigmas(experiment.schedule)
    noise = SeededNoise(0, torch.arange(batch_size, device=device), shape)
    x = first_sigma(sampler, levels) * noise(0)
    calls = 0

    def score(x: Tensor, sigma: float) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.zeros_like(x)

    noise(1)  # the first draws take longer
    wait_for(device)
    start = time.perf_counter()
    for _ in islice(build_sampler(sampler)(score, x, levels, noise=noise), _TIMED_STATES):
        pass
    wait_for(device)
    return (time.perf_counter() - start) / max(1, calls)
