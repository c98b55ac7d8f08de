"""Compares samplers on one checkpoint of a run, and stores the one that is recommended."""

from collections.abc import Callable, Sequence

import attrs

from ncsnx.data import data_set_of
from ncsnx.evaluation.comparison import Comparison, roughest
from ncsnx.evaluation.comparison_candidates import comparison_candidates
from ncsnx.evaluation.recommendation import Recommendation, measure_comparison, store_recommendation
from ncsnx.features.real_images import SplitImages
from ncsnx.jobs.distance_options import DistanceOptions
from ncsnx.quantities import number, percent, with_error
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import Row, require_best
from ncsnx.runs.selection import check_checkpoint
from ncsnx.runtime import Runtime
from ncsnx.sampling.score_model import load
from ncsnx.stopping import StopRequest
from ncsnx.work import Work


@attrs.frozen(kw_only=True)
class ComparisonJob:
    """Samplers to compare, under one protocol."""

    run: Run
    ckpt: int | str
    distance: DistanceOptions
    samplers: Sequence[str] | None
    """Tags of the samplers; None: all."""
    evaluations: Sequence[int] | None
    """Evaluations per image that each sampler is tried with; None: a few."""
    n: int
    """Images per trial."""
    seeds: int
    """Trials per setting."""
    batch_size: int
    runtime: Callable[[], Runtime]


@attrs.frozen(kw_only=True)
class MeasuredComparison:
    """A comparison and its result."""

    comparison: Comparison
    verdict: Recommendation

    @property
    def titles(self) -> list[str]:
        """Titles of the table's columns; the last one has remarks, and no title."""
        return ["sampler", "settings", "evaluations", f"{self.comparison.metric} ± spread", "broken", "s/image", ""]

    def table(self) -> list[list[str]]:
        """The cells of the table; a setting's second measurement stands below the first."""
        lines: list[list[str]] = []
        for sampler, row in self.verdict.rows:
            again = self.verdict.again.get(sampler)
            lines.append(_cells(row, "" if again is None or not lines else "chosen by"))
            if again is not None:
                result = "fast" if self.verdict.is_found(sampler) else "rejected"
                result = "the run's own" if len(lines) == 1 else result
                lines.append(_cells(again, f"measured again: {result}"))
        return lines


def carry_out_comparison(job: ComparisonJob, work: Work, stop: StopRequest) -> MeasuredComparison | None:
    """Measures the trials that the run lacks and stores the recommendation; None on ranks other than 0.

    Raises NcsnxError.
    """
    tried = comparison_candidates(job.run.experiment(), job.samplers, job.evaluations, work.warning)
    with stop.at_once():
        comparison = _comparison(job, job.runtime(), work)
    work.info(f"{job.run.path}: {comparison.caption()}")
    verdict = measure_comparison(job.run, comparison, tried, work)
    if verdict is None:
        return None
    with stop.at_once():
        store_recommendation(job.run, verdict, work)
    return MeasuredComparison(comparison=comparison, verdict=verdict)


def _comparison(job: ComparisonJob, runtime: Runtime, work: Work) -> Comparison:
    step = work.ranks.first(lambda: check_checkpoint(job.run, job.ckpt))
    if job.ckpt == "best":
        work.info(f"best: {work.ranks.first(lambda: require_best(job.run))}")
    experiment = job.run.experiment()
    source, network, reference = job.distance.open(job.run, experiment, runtime, work)
    real = SplitImages(source, data_set_of(experiment.data).reference)
    return Comparison(
        model=load(job.run, step, runtime=runtime),
        folder=job.run.compare,
        features=network,
        reference=reference,
        limit=work.ranks.in_turn(lambda: roughest(real, job.distance.cache, work), work.check_stop),
        n=job.n,
        seeds=job.seeds,
        batch_size=job.batch_size,
        data=job.distance.data,
    )


def _cells(row: Row, remark: str) -> list[str]:
    distance = "diverged" if row["distance"] is None else with_error(row["distance"], row["spread"])
    words = " ".join(word.removeprefix("sampler.") for word in row["words"].split()[1:])
    evaluations = "" if row["evaluations"] is None else f"{row['evaluations']:,.0f}"
    seconds = "" if row["seconds"] is None else number(row["seconds"])
    return [row["sampler"], words, evaluations, distance, percent(row["broken"]), seconds, remark]
