"""Scores from Python the checkpoints that `ncsnx fid` scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from ncsnx.api.arguments import as_tags
from ncsnx.api.choices import distance_options, experiment_with, runtime_or_default
from ncsnx.api.python_call import python_call
from ncsnx.config.feature_networks import Features
from ncsnx.config.sampler import Sampler
from ncsnx.console.working import work_of
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.checkpoint_sweep import MeasuredSweep, refuse_left_out
from ncsnx.evaluation.distance_sweep import DistanceSweep
from ncsnx.evaluation.measurement_requests import SweepRequest
from ncsnx.evaluation.perfect_model import PerfectModel
from ncsnx.jobs.scoring_job import ScoringJob, carry_out_scoring
from ncsnx.notebooks import heading, html_table, remark
from ncsnx.quantities import with_error
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.names import runs_folder
from ncsnx.runs.score_files import Row, value
from ncsnx.runs.selection import select
from ncsnx.runtime import Runtime
from ncsnx.sampling.request import images_at_once

_SHORTER = (
    "fewer images (n), fewer checkpoints (range), fewer evaluations per image (`ncsnx compare` finds a sampler), "
    "larger batches (batch_size), or a GPU (runtime)"
)


@attrs.frozen(kw_only=True)
class CheckpointScore:
    """The score of a checkpoint."""

    step: int
    score: float
    """Fréchet distance between features of sampled and of real images; lower is better."""
    error: float | None
    """Standard error of the score."""
    weights_sha256: str
    """sha256 of the weights that were measured, in hexadecimal."""
    numbers: Mapping[str, float | None]
    """Every number of the row by its key in scores.json; those of further metrics too."""

    def __str__(self) -> str:
        return f"step {self.step:,}: {with_error(self.score, self.error)}"


@attrs.frozen(kw_only=True, repr=False)
class CheckpointScores:
    """Scores of checkpoints under one protocol."""

    run: Run
    metric: str
    """Name of the score: FID only with the published Inception network."""
    scores: tuple[CheckpointScore, ...]
    """The scores by step."""
    best: CheckpointScore
    """The lowest score."""
    perfect_model: PerfectModel | None
    """Score of real images in place of sampled ones, the noise floor; None if unknown."""
    protocol: Mapping[str, Any]
    """Values that determine the scores."""
    caption: str
    """The protocol in words."""
    folder: Path
    """Folder of scores.json, scores.csv and the plots."""
    left_out: tuple[str, ...] = ()
    """A line for each checkpoint that couldn't be scored."""
    titles: tuple[str, ...]
    """Titles of the table's columns."""
    cells: tuple[tuple[str, ...], ...]
    """Cells of the table, a row for each score, and one for the perfect model if it is known."""

    def __repr__(self) -> str:
        return f"{self.metric} of {self.run.path}, best {self.best}\n  {self.caption}"

    def _repr_html_(self) -> str:
        best = self.scores.index(self.best)
        aligned = ["right"] * len(self.titles)
        shown = html_table(self.titles, self.cells, aligned, bold=[best])
        return heading(self.metric, str(self.run.path)) + shown + remark(self.caption)


def fid(
    run: Run | Path | str,
    *,
    range: int | str = "all",
    n: int = 1000,
    seed: int = 0,
    sampler: Sampler | Literal["fast"] | None = None,
    features: Features | None = None,
    reference: str | None = None,
    ensemble: int = 1,
    metrics: Sequence[str] | Literal["all"] = (),
    runs: Path | str | None = None,
    data: Path | str | None = None,
    cache: Path | str | None = None,
    batch_size: int | None = None,
    runtime: Runtime | None = None,
    keep_images: bool = False,
    note: str = "",
    progress: bool | None = None,
) -> CheckpointScores:
    """Scores checkpoints by FID and KID, or by the same distances of other features; see `ncsnx fid`.

    Scores are kept in the run by weights and protocol, so nothing is measured twice.

    run: a Run, a name in the runs folder, or a path.
    range: checkpoints: a step, 'latest', 'best', 'all', '50k:200k' or '50k:200k:10k'.
    n: images per checkpoint. seed: of their noise. sampler: default: the experiment's; 'fast': the one that `compare`
    stored. features: default: those of the data set. reference: real images, as `ncsnx fid` takes them; default: the
    data set's. ensemble: K for an average of the scores of the last K checkpoints. metrics: tags of further metrics.
    runs, data, cache: folders, as for the commands. batch_size: images at once. runtime: default: `Runtime.choose()`.
    keep_images: write every image as a PNG. progress: whether to show it; default: in notebooks and on terminals.

    Raises NcsnxError, UsageError. Ctrl-C raises KeyboardInterrupt; the same call resumes after the last finished batch.
    """
    place = run if isinstance(run, Run) else open_run(runs_folder(runs), run)
    with python_call(progress) as (messages, stop):
        work = work_of(messages, stop)
        experiment = experiment_with(work, place, sampler)
        at_once = images_at_once(experiment.data, batch_size)
        job = ScoringJob(
            run=place,
            experiment=experiment,
            selection=select(place, str(range)),
            request=SweepRequest(n=n, seed=seed, batch_size=at_once, ensemble=ensemble, keep_images=keep_images),
            distance=distance_options(features, reference, data, cache),
            metrics=None if metrics == "all" else as_tags(metrics),
            runtime=lambda: runtime_or_default(runtime, experiment),
            note=note,
        )
        measured = carry_out_scoring(job, work, _SHORTER)
        assert measured is not None, "there are no other ranks"
        if (failure := measured.draw(work)) is not None:
            raise failure
        return _scores(measured)


def _scores(measured: MeasuredSweep[DistanceSweep]) -> CheckpointScores:
    """The result. Raises NcsnxError if no checkpoint has a score."""
    sweep, rows = measured.sweep, measured.rows
    scores = tuple(_score(sweep, row) for row in rows)
    if not scores:
        refuse_left_out(measured.left_out)
        raise NcsnxError(f"no checkpoint of {sweep.run.path} has a score")
    perfect = sweep.perfect_cells()
    return CheckpointScores(
        run=sweep.run,
        metric=sweep.metric,
        scores=scores,
        best=min(scores, key=lambda one: one.score),
        perfect_model=sweep.perfect_model,
        protocol=sweep.protocol(),
        caption=sweep.caption(),
        folder=sweep.place,
        left_out=tuple(measured.left_out),
        titles=tuple(sweep.titles),
        cells=tuple(tuple(cells) for cells in (*map(sweep.cells, rows), *([] if perfect is None else [perfect]))),
    )


def _score(sweep: DistanceSweep, row: Row) -> CheckpointScore:
    keys = [key for one in sweep.metrics for quantity in one.quantities for key in quantity.keys]
    return CheckpointScore(
        step=row["step"],
        score=row["score"],
        error=sweep.score.error_in(row),
        weights_sha256=row["weights_sha256"],
        numbers={key: value(row, key) for key in keys if key in row},
    )
