"""Estimated duration of a training: steps, grids of samples, checkpoints and held-out losses."""

import math

import attrs

from ncsnx.config import Adam, Experiment
from ncsnx.planning.timing import Timing
from ncsnx.samplers.building import expected_evaluations
from ncsnx.training.snapshots import snapshot_sampler

CHECKPOINT_S, CHECKPOINT_BYTES_PER_S = 0.1, 100e6
"""Assumed cost of a checkpoint: constant seconds, and bytes copied, hashed and written per second."""


@attrs.frozen(kw_only=True)
class Cost:
    """Seconds that a training takes, by activity, estimated from a timing of the network."""

    steps: float
    snapshots: float
    checkpoints: float
    held_out: float

    @property
    def total(self) -> float:
        """Seconds from the first step to the end."""
        return self.steps + self.snapshots + self.checkpoints + self.held_out

    def parts(self) -> dict[str, float]:
        """Activity → seconds, for activities that take at least 1 % of the total."""
        named = {
            "steps": self.steps,
            "snapshots": self.snapshots,
            "checkpoints": self.checkpoints,
            "held-out losses": self.held_out,
        }
        return {words: seconds for words, seconds in named.items() if seconds >= self.total / 100}


def cost_of(experiment: Experiment, timing: Timing, held_out: int) -> Cost:
    """The cost of training the experiment. held_out: number of held-out images."""
    images, steps = min(held_out, experiment.batch_size), experiment.steps
    return Cost(
        steps=steps * timing.step_of(experiment.batch_size),
        snapshots=grids(experiment) * grid_seconds(experiment, timing),
        checkpoints=math.ceil(steps / experiment.checkpoint_every) * _checkpoint_seconds(experiment, timing),
        held_out=steps // experiment.eval_every * timing.evaluations_of(images, 1, at_once=images) if images else 0.0,
    )


def grids(experiment: Experiment) -> int:
    """Number of grids of samples that a training draws: every `snapshots.every` checkpoints, and at the end."""
    if experiment.snapshots is None:
        return 0
    return math.ceil(experiment.steps / (experiment.checkpoint_every * experiment.snapshots.every))


def grid_seconds(experiment: Experiment, timing: Timing) -> float:
    """Seconds that one grid of samples takes."""
    if experiment.snapshots is None:
        return 0.0
    evaluations = expected_evaluations(snapshot_sampler(experiment), experiment.schedule.levels)
    return timing.evaluations_of(experiment.snapshots.n, evaluations)


def _checkpoint_seconds(experiment: Experiment, timing: Timing) -> float:
    """Seconds that a checkpoint takes: weights, their average and the optimizer's state, in float32."""
    copies = 1 + (experiment.ema is not None) + (2 if isinstance(experiment.optimizer, Adam) else 1)
    return CHECKPOINT_S + 4 * copies * timing.parameters / CHECKPOINT_BYTES_PER_S
