"""Scores the checkpoints of a run by the distance of their images to real ones."""

from collections.abc import Callable, Sequence

import attrs

from ncsnx.config.checks import quoted
from ncsnx.config.experiment import Experiment
from ncsnx.config.variants import load_plugins
from ncsnx.errors import UsageError
from ncsnx.evaluation.checkpoint_sweep import MeasuredSweep, measure_checkpoints
from ncsnx.evaluation.distance_sweep import DistanceSweep
from ncsnx.evaluation.measurement_requests import SweepRequest
from ncsnx.jobs.distance_options import DistanceOptions
from ncsnx.metrics.metric import Metric, all_metrics
from ncsnx.runs.folder import Run
from ncsnx.runs.selection import Selection
from ncsnx.runtime import Runtime
from ncsnx.spelling import parameter
from ncsnx.work import Work


@attrs.frozen(kw_only=True)
class ScoringJob:
    """Checkpoints to score, under one protocol."""

    run: Run
    experiment: Experiment
    """The run's experiment, with the sampler that is to be used."""
    selection: Selection
    request: SweepRequest
    distance: DistanceOptions
    metrics: Sequence[str] | None = ()
    """Tags of the metrics to show beside the distances; None: all."""
    runtime: Callable[[], Runtime]
    note: str = ""


def carry_out_scoring(job: ScoringJob, work: Work, shorter: str) -> MeasuredSweep[DistanceSweep] | None:
    """Measures the scores that the run lacks; None on ranks other than 0.

    shorter: advice against long sweeps. Raises NcsnxError, UsageError for a metric that is unknown or can't be
    measured.
    """
    requested = _requested(job.metrics)

    def build(work: Work) -> DistanceSweep:
        runtime = job.runtime()
        _, network, compared = job.distance.open(job.run, job.experiment, runtime, work)
        sweep = DistanceSweep(
            run=job.run,
            experiment=job.experiment,
            features=network,
            reference=compared,
            perfect_model=compared.perfect_model(job.request.n, work),
            request=job.request,
            runtime=runtime,
            data=job.distance.data,
            requested=requested,
            note=job.note,
        )
        _refuse(sweep, requested)
        return sweep

    return measure_checkpoints(job.run, job.selection, build, work, shorter=shorter, ensemble=job.request.ensemble)


def _requested(tags: Sequence[str] | None) -> list[Metric] | None:
    """The metrics with these tags. Raises UsageError."""
    if tags is None:
        return None
    load_plugins("ncsnx.runtime")
    known = {one.tag: one for one in all_metrics()}
    for tag in tags:
        if tag not in known:
            raise UsageError(f"{parameter('metrics')} {quoted(tag)}: expected all, or some of {', '.join(known)}")
    return [known[tag] for tag in tags]


def _refuse(sweep: DistanceSweep, requested: Sequence[Metric] | None) -> None:
    """Raises UsageError for a metric that can't be measured with these images."""
    for metric in requested or ():
        if (refusal := sweep.refusal(metric)) is not None:
            other = f"{parameter('reference')} or {parameter('features')}"
            raise UsageError(f"{refusal}; leave it out, or choose other images by {other}")
