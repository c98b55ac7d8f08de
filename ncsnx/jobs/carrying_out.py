"""Carries out jobs: what can be refused at once is refused before torch, which takes seconds, is imported."""

import attrs

from ncsnx.config.codec import flatten
from ncsnx.config.converter import unstructure
from ncsnx.jobs.training_job import TrainingConsole, TrainingJob, TrainingResult
from ncsnx.ranks.joining import require_same
from ncsnx.runs.folder import Run
from ncsnx.runs.writer_lock import writer_lock
from ncsnx.stopping import StopRequest
from ncsnx.tracking.choosing import known_trackers, recorded_trackers


def carry_out_training(job: TrainingJob, console: TrainingConsole, stop: StopRequest) -> TrainingResult:
    """Trains until the experiment's last step; an existing run resumes. All ranks of `console.work` call it.

    Raises Stopped after a stop request, once a checkpoint of the step reached is written. Raises NcsnxError.
    """
    ranks = console.work.ranks
    with stop.at_once():
        require_same(ranks, "has another experiment", dict(flatten(unstructure(job.experiment))))
        ranks.first(lambda: _require_unheld(job))
        trackers, warnings = ranks.first(lambda: _trackers(job))
        for warning in warnings:
            console.work.warning(warning)
        job = attrs.evolve(job, options=attrs.evolve(job.options, track=trackers))
        from ncsnx.jobs.training_work import train_run
    return train_run(job, console, stop)


def _trackers(job: TrainingJob) -> tuple[tuple[str, ...], list[str]]:
    """The trackers to use, which are installed, and a warning for each that a resumed run has to do without."""
    if job.options.track is None:
        return recorded_trackers(Run(job.path))
    return known_trackers(job.options.track, "track"), []


def _require_unheld(job: TrainingJob) -> None:
    """Refuses a run that another process writes, before data is opened."""
    if (run := job.existing()) is not None:
        with writer_lock(run):
            pass  # the training takes the lock that counts
