"""The grid of samples drawn at a checkpoint."""

from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor

from ncsnx.config.experiment import Experiment
from ncsnx.config.sampler import Sampler
from ncsnx.data import Dataset, Preprocessing
from ncsnx.images import arranged, grid, to_uint8
from ncsnx.model_spec import ModelSpec
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.samplers.building import build_sampler, state_count, visited
from ncsnx.samplers.state import State
from ncsnx.sampling.generation import TrainingImages, generate, in_turn, sampler_draws
from ncsnx.training.training_state import TrainingState

BATCH_SIZE = 64
"""Largest number of images sampled at once."""


def snapshot_sampler(experiment: Experiment) -> Sampler:
    """The sampler of the grids: `snapshots.sampler` if set, else the experiment's."""
    own = None if experiment.snapshots is None else experiment.snapshots.sampler
    return experiment.sampler if own is None else own


def sample_grid(
    state: TrainingState,
    training_data: Dataset,
    *,
    check_stop: Callable[[], None],
    progress: Callable[[int, int, int], None],
    ranks: RankGroup = ALONE,
) -> Tensor:
    """A grid of `snapshots.n` samples of the averaged weights, (C, H, W) uint8: images 0 to n − 1 of the seed.

    progress: called with (states done, total states, evaluations so far), summed over this rank's batches. check_stop:
    called before each evaluation; may raise to stop. ranks: those that share the images; all get the grid.
    """
    experiment, runtime, network = state.experiment, state.runtime, state.evaluation_network()
    assert experiment.snapshots is not None
    n = experiment.snapshots.n
    indices = ranks.share(range(n))
    experiment = attrs.evolve(experiment, sampler=snapshot_sampler(experiment))
    total = state_count(experiment.sampler, len(network.noise_levels)) * -(-len(indices) // BATCH_SIZE)
    done, evaluations, earlier = 0, 0.0, 0.0

    def report(batch: Sequence[int], current: State) -> None:
        nonlocal done, evaluations, earlier
        done += 1
        if current.step == 0:
            earlier = evaluations
        evaluations = earlier + current.evaluations
        progress(done, total, round(evaluations))

    if network.limits_sigmas:
        network.require_sigmas(visited(experiment.sampler, network.noise_levels))
    space, window = state.space, state.space.pictures
    preprocessing = Preprocessing(experiment.data, space, training_data.value_range, experiment.seed)
    images = TrainingImages(training_data, preprocessing)
    draws = sampler_draws(
        experiment.sampler, network.noise_levels, space, experiment.seed, images, compiled=runtime.compile
    )
    classes = ModelSpec.of(experiment, space).classes
    if classes:
        draws = attrs.evolve(draws, cond=lambda positions: network.class_cond(in_turn(classes, positions)))
    batches = generate(
        build_sampler(experiment.sampler),
        network.scaled_score,
        network.noise_levels,
        draws,
        indices,
        batch_size=BATCH_SIZE,
        device=runtime.device,
        check_stop=check_stop,
        on_state=report,
    )
    drawn = ranks.gather(lambda: [to_uint8(window.picture(space.decode(x))).cpu() for _, x in batches])
    return grid(*arranged(torch.cat([image for share in drawn for image in share]), len(classes)))
