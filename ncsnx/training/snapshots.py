"""The grid of samples that goes with a checkpoint."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ncsnx.config.experiment import Experiment
from ncsnx.data import Dataset, to_unit
from ncsnx.images import grid, square_columns, to_uint8
from ncsnx.networks import ScoreNetwork
from ncsnx.sampling import State, build_sampler, evaluations, experiment_draws, generate

BATCH_SIZE = 64
"""Images sampled at once, at the most."""


def sample_grid(
    network: ScoreNetwork,
    experiment: Experiment,
    training_data: Dataset,
    device: torch.device,
    *,
    check_stop: Callable[[], None],
    progress: Callable[[int, int, int], None],
) -> Tensor:
    """(C, H, W) uint8: `snapshots.n` samples of the experiment's own sampler and seed, images 0 to n − 1.

    progress gets (evaluations done, in total, done), in images' batches; check_stop is asked before each.
    """
    assert experiment.snapshots is not None
    n = experiment.snapshots.n
    per_batch = evaluations(experiment.sampler, len(network.noise_levels))
    total = per_batch * -(-n // BATCH_SIZE)

    def report(batch: Sequence[int], state: State) -> None:
        done = batch[0] // BATCH_SIZE * per_batch + state.evaluations
        progress(done, total, done)

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
