"""Recurring interruptions of training, with their assumed costs until one was timed."""

from ncsnx.config.experiment import Experiment
from ncsnx.samplers.building import expected_evaluations
from ncsnx.training.observer import CHECKPOINT, EVALUATING, SAMPLING, Pause
from ncsnx.training.snapshots import snapshot_sampler

_EVALUATION_OF_A_STEP = 1 / 3
"""Share of a training step that the forward pass takes; the backward pass takes twice as long."""


def pauses_of(experiment: Experiment, *, held_out: bool) -> list[Pause]:
    """The pauses of a training, in the order of its loop. held_out: whether held-out images exist."""
    pauses = [Pause(phase=EVALUATING, every=experiment.eval_every)] if held_out else []
    pauses.append(Pause(phase=CHECKPOINT, every=experiment.checkpoint_every, at_end=True))
    if (snapshots := experiment.snapshots) is not None:
        evaluations = snapshots.n * expected_evaluations(snapshot_sampler(experiment), experiment.schedule.levels)
        every = snapshots.every * experiment.checkpoint_every
        in_steps = _EVALUATION_OF_A_STEP * evaluations / experiment.batch_size
        pauses.append(Pause(phase=SAMPLING, every=every, at_end=True, in_steps=in_steps))
    return pauses
