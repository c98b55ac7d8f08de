"""The grid of samples that goes with a checkpoint."""

from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor

from ncsnx.config.experiment import Experiment
from ncsnx.config.sampler import Sampler
from ncsnx.data import Dataset, to_unit
from ncsnx.images import grid, square_columns, to_uint8
from ncsnx.networks import ScoreFunction
from ncsnx.samplers.building import build_sampler, state_count
from ncsnx.samplers.state import State
from ncsnx.sampling.experiments import experiment_draws
from ncsnx.sampling.generate import generate

BATCH_SIZE = 64
"""Images sampled at once, at the most."""


def snapshot_sampler(experiment: Experiment) -> Sampler:
    """What draws the grids of an experiment: a sampler of their own, else the experiment's."""
    own = None if experiment.snapshots is None else experiment.snapshots.sampler
    return experiment.sampler if own is None else own


def sample_grid(
    network: ScoreFunction,
    experiment: Experiment,
    training_data: Dataset,
    device: torch.device,
    *,
    check_stop: Callable[[], None],
    progress: Callable[[int, int, int], None],
) -> Tensor:
    """(C, H, W) uint8: `snapshots.n` samples by `snapshot_sampler` from the experiment's seed, images 0 to n − 1.

    progress gets (states done, in total, evaluations so far), summed over batches; check_stop is asked before each
    evaluation.
    """
    assert experiment.snapshots is not None
    n = experiment.snapshots.n
    experiment = attrs.evolve(experiment, sampler=snapshot_sampler(experiment))
    total = state_count(experiment.sampler, len(network.noise_levels)) * -(-n // BATCH_SIZE)
    done, evaluations, earlier = 0, 0.0, 0.0

    def report(batch: Sequence[int], state: State) -> None:
        nonlocal done, evaluations, earlier
        done += 1
        if state.step == 0:
            earlier = evaluations
        evaluations = earlier + state.evaluations
        progress(done, total, round(evaluations))

    batches = generate(
        build_sampler(experiment.sampler),
        network.score,
        network.noise_levels,
        experiment_draws(experiment, experiment.seed, training_data),
        range(n),
        batch_size=BATCH_SIZE,
        device=device,
        check_stop=check_stop,
        on_state=report,
    )
    images = torch.cat([to_uint8(to_unit(x, experiment.data)).cpu() for _, x in batches])
    return grid(images, square_columns(n))
