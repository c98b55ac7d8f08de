"""Compares samplers from Python, as `ncsnx compare` does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ncsnx.api.arguments import as_tags
from ncsnx.api.choices import distance_options, runtime_or_default
from ncsnx.api.python_call import python_call
from ncsnx.config.feature_networks import Features
from ncsnx.config.sampler import Sampler
from ncsnx.console.working import work_of
from ncsnx.errors import require_between
from ncsnx.jobs.comparison_job import ComparisonJob, MeasuredComparison, carry_out_comparison
from ncsnx.notebooks import heading, html_table, remark
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.names import runs_folder
from ncsnx.runs.score_files import Row
from ncsnx.runtime import Runtime
from ncsnx.sampling.request import LEAST_SCORED, MOST_IMAGES, images_at_once


@attrs.frozen(kw_only=True)
class SamplerScore:
    """A sampler, measured with several seeds."""

    sampler: Sampler
    words: str
    """The sampler as it is typed on the command line."""
    evaluations: float | None
    """Network evaluations per image; None for an adaptive sampler that diverged."""
    distance: float | None
    """Mean over the seeds, lower is better; None: it diverged."""
    spread: float | None
    """Standard deviation over the seeds."""
    broken: float
    """Share of images that are rougher than any real one."""
    seconds: float | None
    """Time per image on this machine."""
    seeds: int
    """Number of seeds."""
    again: "SamplerScore | None" = None
    """The same with fresh seeds, which the choice didn't see; None: not measured again."""


@attrs.frozen(kw_only=True, repr=False)
class ComparedSamplers:
    """Samplers on one checkpoint under one protocol."""

    run: Run
    metric: str
    """Name of the distance."""
    scores: tuple[SamplerScore, ...]
    """The run's own sampler first."""
    recommended: Sampler | None
    """The sampler that these trials recommend, and that is stored as sampler='fast' unless more images spoke for
    another one; None: no setting is usable."""
    reason: str
    """Why no sampler is recommended; '' if one is."""
    protocol: Mapping[str, Any]
    """Values that determine the distances."""
    caption: str
    """The protocol in words."""
    folder: Path
    """Folder of results.json and the plot."""
    titles: tuple[str, ...]
    """Titles of the table's columns."""
    cells: tuple[tuple[str, ...], ...]
    """Cells of the table; a second measurement stands below the first."""

    def __repr__(self) -> str:
        words = next((one.words for one in self.scores if one.sampler == self.recommended), None)
        verdict = f"recommended: {words}" if words else f"none recommended: {self.reason}"
        return f"{len(self.scores):,} samplers on {self.run.path}, {verdict}\n  {self.caption}"

    def _repr_html_(self) -> str:
        aligned = ["left", "left", "right", "right", "right", "right", "left"]
        fast = [place for place, row in enumerate(self.cells) if row[-1].endswith(": fast")]
        shown = html_table(self.titles, self.cells, aligned, bold=fast)
        return heading("samplers", str(self.run.path)) + shown + remark(self.caption)


def compare(
    run: Run | Path | str,
    *,
    ckpt: int | str = "latest",
    n: int = 1000,
    seeds: int = 3,
    samplers: Sequence[str] | None = None,
    evaluations: int | Sequence[int] | None = None,
    features: Features | None = None,
    reference: str | None = None,
    runs: Path | str | None = None,
    data: Path | str | None = None,
    cache: Path | str | None = None,
    batch_size: int | None = None,
    runtime: Runtime | None = None,
    progress: bool | None = None,
) -> ComparedSamplers:
    """Compares samplers on one checkpoint and stores the recommended one; see `ncsnx compare`.

    Trials are kept in the run, so nothing is measured twice.

    run: a Run, a name in the runs folder, or a path. ckpt: a step, 'latest' or 'best'.
    n: images per trial. seeds: trials per setting, 1 to 100. samplers: tags; default: all.
    evaluations: one or several numbers of evaluations per image that each sampler is tried with; default: a few from 4
    to 20, and a twelfth of the run's own sampler's.
    features, reference, runs, data, cache, batch_size, runtime, progress: as in `fid`.

    Raises NcsnxError, UsageError. Ctrl-C raises KeyboardInterrupt; the same call resumes after the last finished batch.
    """
    place = run if isinstance(run, Run) else open_run(runs_folder(runs), run)
    require_between("n", n, LEAST_SCORED, MOST_IMAGES)
    require_between("seeds", seeds, 1, 100)
    tried = (evaluations,) if isinstance(evaluations, int) else evaluations
    for count in tried or ():
        require_between("evaluations", count, 1, 100_000)
    experiment = place.experiment()
    at_once = images_at_once(experiment.data, batch_size)
    require_between("batch_size", at_once, 1, 1_000_000)
    job = ComparisonJob(
        run=place,
        ckpt=ckpt,
        distance=distance_options(features, reference, data, cache),
        samplers=None if samplers is None else as_tags(samplers),
        evaluations=None if tried is None else sorted(set(tried)),
        n=n,
        seeds=seeds,
        batch_size=at_once,
        runtime=lambda: runtime_or_default(runtime, experiment),
    )
    with python_call(progress) as (messages, stop):
        measured = carry_out_comparison(job, work_of(messages, stop), stop)
        assert measured is not None, "there are no other ranks"
        return _compared(place, measured)


def _compared(run: Run, measured: MeasuredComparison) -> ComparedSamplers:
    comparison, verdict = measured.comparison, measured.verdict
    return ComparedSamplers(
        run=run,
        metric=comparison.metric,
        scores=tuple(_score_of(sampler, row, verdict.again.get(sampler)) for sampler, row in verdict.rows),
        recommended=None if verdict.found is None else verdict.found.sampler,
        reason=verdict.reason,
        protocol=comparison.protocol(),
        caption=comparison.caption(),
        folder=comparison.place,
        titles=tuple(measured.titles),
        cells=tuple(map(tuple, measured.table())),
    )


def _score_of(sampler: Sampler, row: Row, again: Row | None = None) -> SamplerScore:
    return SamplerScore(
        sampler=sampler,
        words=row["words"],
        evaluations=row["evaluations"],
        distance=row["distance"],
        spread=row["spread"],
        broken=row["broken"],
        seconds=row["seconds"],
        seeds=row["seeds"],
        again=None if again is None else _score_of(sampler, again),
    )
