"""Scores of the checkpoints of a run under one protocol: what a sweep measures and returns."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.evaluation.checkpoint_sweep import Candidate, CheckpointSweep
from ncsnx.evaluation.engine import MeasurementResult, measure_all, missing, writing
from ncsnx.evaluation.reference import PerfectModel
from ncsnx.quantities import counted, with_error
from ncsnx.results import Column, Table
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import Row, best_row, value
from ncsnx.work import Work


@attrs.frozen(kw_only=True)
class CheckpointScore:
    """The score of a checkpoint."""

    step: int
    score: float
    """The number that is lowest for the best checkpoint, such as the Fréchet distance."""
    error: float | None
    """Standard error of the score."""
    weights_sha256: str
    """sha256 of the weights that were measured, in hexadecimal."""
    numbers: Mapping[str, float | None]
    """Every number of the row by its key in scores.json; those of further metrics too."""

    def __str__(self) -> str:
        return f"step {self.step:,}: {with_error(self.score, self.error)}"


@attrs.frozen(kw_only=True, slots=False, repr=False)
class CheckpointScores(MeasurementResult):
    """Scores of checkpoints under one protocol."""

    measurement: CheckpointSweep
    candidates: Sequence[Candidate]
    left_out: Sequence[str] = ()
    """A line for each checkpoint that couldn't be scored."""

    @property
    def run(self) -> Run:
        """The run."""
        return self.measurement.run

    @property
    def metric(self) -> str:
        """Name of the score: FID only with the published Inception network."""
        return self.measurement.metric

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of scores.json for the chosen checkpoints, by step."""
        return self.measurement.rows(self.candidates)

    @cached_property
    def scores(self) -> tuple[CheckpointScore, ...]:
        """The scores by step."""
        return tuple(map(self._score, self.rows))

    @property
    def best(self) -> CheckpointScore:
        """The lowest score. Raises NcsnxError if no checkpoint has one."""
        if (row := best_row(self.rows)) is None:
            raise self.problem() or NcsnxError(f"no checkpoint of {self.run.path} has a score")
        return self._score(row)

    @property
    def perfect_model(self) -> PerfectModel | None:
        """Score of real images in place of sampled ones, the noise floor; None if unknown, and for other measures."""
        return self.measurement.perfect_model

    def _score(self, row: Row) -> CheckpointScore:
        numeric = [key for key, number in row.items() if number is None or isinstance(number, int | float)]
        return CheckpointScore(
            step=row["step"],
            score=row["score"],
            error=self.measurement.score.error_in(row),
            weights_sha256=row["weights_sha256"],
            numbers={key: value(row, key) for key in numeric if key != "step"},
        )

    def __repr__(self) -> str:
        row = best_row(self.rows)
        best = "none" if row is None else f"step {row['step']:,}: {self.measurement.score.shown(row)}"
        return f"{self.metric} of {self.run.path}, best {best}\n  {self.caption}"

    def shown(self) -> Sequence[Table | str]:
        best, perfect = best_row(self.rows), self.measurement.perfect_cells()
        rows = [[*self.measurement.cells(row), "best" if row == best else ""] for row in self.rows]
        rows += [] if perfect is None else [[*perfect, ""]]
        columns = [*(Column(title, "right") for title in self.measurement.titles), Column("")]
        return [Table(columns=columns, rows=rows, bold=[place for place, row in enumerate(rows) if row[-1]])]

    def closing(self) -> Sequence[str]:
        if (best := best_row(self.rows)) is None:
            return ()
        plots = [f"{self.measurement.plot}.{kind}" for kind in ("png", "svg")]
        drawn = ", ".join(name for name in plots if (self.folder / name).is_file())
        return [
            f"best: step {best['step']:,}, {self.metric} {self.measurement.score.shown(best)}",
            *self.measurement.remarks(),
            f"scores: {self.folder}/scores.json, .csv; plots: {drawn or 'none'}",
        ]

    def problem(self) -> NcsnxError | None:
        if not self.left_out:
            return None
        return NcsnxError(f"{counted(len(self.left_out), 'checkpoint')} without a score: {'; '.join(self.left_out)}")

    def to_json(self) -> object:
        context = self.measurement.context()
        return [{**row, **context} for row in self.rows]

    def heading(self) -> tuple[str, str]:
        return self.metric, str(self.run.path)


def measure_checkpoints(
    sweep: CheckpointSweep, candidates: Sequence[Candidate], problems: Sequence[str], work: Work
) -> CheckpointScores:
    """Measures the candidates that have no row, and draws; on rank 0, where the others end.

    problems: a line for each checkpoint that was left out. Raises NcsnxError; rows measured before are kept.
    """

    def missing_ones() -> list[Candidate]:
        return work.ranks.first(lambda: missing(sweep, candidates), check_stop=work.check_stop)

    work.info(f"{sweep.run.path}: {sweep.caption()}")
    if (caution := sweep.caution()) is not None:
        work.warning(caution)
    if missing_ones():
        with writing(sweep, work):
            left = missing_ones()  # another process may have measured some in the meantime
            done = len(candidates) - len(left)
            work.info(counted(len(left), "checkpoint") + (f" ({done:,} more already measured)" if done else ""))
            shown: list[int] = []
            with work.rows(sweep.titles, total=len(left), units=sum(map(sweep.units, left))) as view:

                def added(candidate: Candidate, row: Row) -> None:
                    shown.append(candidate.step)
                    best = best_row(sweep.rows(candidates))
                    view.row(sweep.cells(row), shown.index(best["step"]) if best and best["step"] in shown else None)

                def begun(candidate: Candidate) -> None:
                    view.begin(sweep.name(candidate))

                problems = [*problems, *measure_all(sweep, left, work, view.advance, begun=begun, added=added)]
    else:
        work.info(f"{counted(len(candidates), 'checkpoint')} already measured")
    work.ranks.end_others()
    try:
        sweep.complete(candidates, work)
        sweep.write_plots()
    except NcsnxError as error:
        work.warning(str(error))  # scores are saved and shown; the next call completes and draws them
    return CheckpointScores(measurement=sweep, candidates=candidates, left_out=problems)
