"""Sweeps over the checkpoints of a run: one row each, with a score where lower is better.

fid/n1000-seed0-classifier-1a2b3c4d/scores.json  scores.csv  scores.png  scores.svg  metrics.png  …
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import attrs
import torch
from torch import Tensor

from ncsnx.config.codec import digest
from ncsnx.config.experiment import Experiment, Precision
from ncsnx.errors import DivergedError, NcsnxError, Stopped
from ncsnx.evaluation.candidates import Candidate, choose, load_member
from ncsnx.evaluation.engine import (
    Measurement,
    discard_needless_parts,
    measure_all,
    missing,
    parts_of,
    writing,
)
from ncsnx.evaluation.perfect_model import PerfectModel
from ncsnx.evaluation.plots import plot_scores
from ncsnx.metrics.metric import Quantity
from ncsnx.quantities import counted, duration, with_error
from ncsnx.ranks.rank_group import ALONE
from ncsnx.runs.exported import Weights
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError
from ncsnx.runs.names import step_name
from ncsnx.runs.score_files import TABLE, Row, ScoreFile, best_row, value
from ncsnx.runs.segments import versions
from ncsnx.runs.selection import Selection
from ncsnx.runs.writer_lock import writer_of
from ncsnx.runtime import Runtime, fastest_s
from ncsnx.sampling.score_model import ScoreModel, weights_in_words, weights_of
from ncsnx.storage.process import this_process
from ncsnx.work import Work

_LONG_S = 30 * 60
"""Estimated duration above which ways to shorten the sweep are shown."""


@attrs.frozen(eq=False, kw_only=True)
class CheckpointSweep(Measurement[Candidate]):
    """Measures checkpoints of one run under one protocol."""

    label: ClassVar = "the sweep"

    run: Run
    experiment: Experiment
    """The run's experiment, with the overrides of this sweep."""
    runtime: Runtime
    note: str = ""
    """A remark for the record of each row."""
    perfect_model: PerfectModel | None = None
    """Score of a perfect model, the noise floor; None if unknown, and for measures other than distances."""

    @property
    @abstractmethod
    def quantities(self) -> Sequence[Quantity]:
        """The columns of the table, the score first."""

    @property
    def score(self) -> Quantity:
        """The number that is lowest for the best checkpoint; 'score' in a row."""
        return self.quantities[0]

    @property
    def weights(self) -> Weights:
        """Which weights of a checkpoint are measured."""
        return weights_of(self.experiment)[0]

    @property
    def precision(self) -> Precision:
        """Number format of the evaluations."""
        return self.runtime.precision_for(self.experiment)

    @property
    def weights_and_precision(self) -> str:
        """'EMA weights', with a precision that isn't the experiment's: 'EMA weights, in bf16'."""
        return weights_in_words(self.weights) + self.runtime.precision_in_words(self.experiment)

    @property
    def metric(self) -> str:
        """Name of the score."""
        return self.score.title

    @property
    @abstractmethod
    def kept_in(self) -> tuple[Path, str]:
        """The run's folder for these sweeps, and the beginning of this one's name; a digest of the protocol follows."""

    @abstractmethod
    def seconds(self, candidate: Candidate) -> float:
        """Seconds that a candidate will take, estimated from a quick timing. Raises NcsnxError."""

    @property
    def pictures(self) -> Sequence[str]:
        """Names of the files that `draw` makes."""
        return ("scores.png", "scores.svg")

    def draw(self) -> None:
        """Draws all rows into `pictures`. Raises NcsnxError."""
        perfect = None if self.perfect_model is None else (self.perfect_model.score, self.perfect_model.spread)
        texts = {"metric": self.metric, "title": self.run.name, "caption": self.caption()}
        plot_scores(self.place / "scores", self.scores.rows, perfect=perfect, **texts)

    def conclusion(self, best: Row) -> list[str]:
        """Closing messages, one line each."""
        plots = ", ".join(name for name in self.pictures if (self.place / name).is_file())
        return [
            f"best: step {best['step']:,}, {self.metric} {self.score.shown(best)}",
            *self.remarks(),
            f"scores: {self.place}/scores.json, .csv; plots: {plots}",
        ]

    def remarks(self) -> list[str]:
        """Closing messages on what the scores mean, one line each; by default none."""
        return []

    # ------------------------------------------------------------------------------------ rows and missing numbers

    @cached_property
    def place(self) -> Path:
        folder, begins = self.kept_in
        return folder / f"{begins}-{digest(self.protocol())[:8]}"

    @cached_property
    def scores(self) -> ScoreFile:
        """The rows so far. Raises NcsnxError for a damaged file."""
        scores = ScoreFile.open(self.place, self.protocol())
        scores.metric, scores.caption = self.metric, self.caption()
        scores.perfect_model = None if self.perfect_model is None else self.perfect_model.to_json()
        return scores

    def rows(self, candidates: Sequence[Candidate]) -> list[Row]:
        """The rows of the candidates; candidates without one are skipped."""
        found = [self.scores.row(candidate.step, candidate.weights_sha256) for candidate in candidates]
        return [row for row in found if row is not None]

    def reload(self) -> None:
        self.scores.reload()

    def is_done(self, subject: Candidate) -> bool:
        return self.scores.row(subject.step, subject.weights_sha256) is not None

    def add(self, subject: Candidate, row: Row) -> None:
        finished = this_process()["started"]
        self.scores.add({**row, "made": {**self._provenance, "finished": finished}}, finished)

    def can_fill(self, row: Row) -> bool:
        """Whether a row lacks numbers of a current metric that can probably be computed from kept files."""
        return False

    def fill(self, row: Row) -> Row | None:
        """The row with its missing numbers, computed from kept files; None if those are gone."""
        return None

    # ----------------------------------------------------------------------------------------------- a checkpoint

    def name(self, subject: Candidate) -> str:
        return f"step {subject.step:,}"

    def mark(self, subject: Candidate) -> str:
        return f"{step_name(subject.step)}-{subject.weights_sha256[:8]}"

    def row(self, subject: Candidate, whole: Mapping[str, Tensor]) -> Row:
        row = {"step": subject.step, "weights_sha256": subject.weights_sha256, **self.measured(subject, whole)}
        if value(row, "score") is None:
            raise DivergedError(f"its {self.metric} is {row['score']:g}, which is out of range")
        return row

    @abstractmethod
    def measured(self, subject: Candidate, whole: Mapping[str, Tensor]) -> Row:
        """The measured values of a checkpoint, 'score' among them; parameters and errors as in `row`."""

    def load(self, candidate: Candidate) -> list[ScoreModel]:
        """The models of a candidate. Raises UnsoundError for a checkpoint that is damaged, removed or replaced."""
        models = [load_member(self.run, member, self.runtime) for member in candidate.members]
        if len(models) == 1 and models[0].weights_sha256 != candidate.weights_sha256:
            raise UnsoundError(f"the checkpoint of step {candidate.step:,} was replaced in the meantime")
        return [attrs.evolve(model, experiment=self.experiment) for model in models]

    # ------------------------------------------------------------------------------------------------------ output

    def caution(self) -> str | None:
        """A caution about comparing these numbers with others; None if there is none."""
        return None

    @property
    def titles(self) -> list[str]:
        """Titles of the table's columns."""
        return ["step", *(one.title for one in self.quantities)]

    def cells(self, row: Row) -> list[str]:
        """Cells of the table for a row."""
        return [f"{row['step']:,}", *(one.shown(row) for one in self.quantities)]

    def perfect_cells(self) -> list[str] | None:
        """Cells of the table's last row, with the values of a perfect model; None if they are unknown."""
        if self.perfect_model is None:
            return None
        others = ("" if one.perfect is None else f"{one.perfect:g}" for one in self.quantities[1:])
        return ["perfect model", with_error(self.perfect_model.score, self.perfect_model.spread), *others]

    def context(self) -> dict[str, Any]:
        """Facts on the sweep that accompany each row in JSON output."""
        return {"metric": self.scores.metric, "protocol": {"caption": self.scores.caption, **self.scores.protocol}}

    def draw_if_outdated(self) -> None:
        """Writes the CSV and the plots of all rows, unless they are up to date. Raises NcsnxError."""
        if self.scores.rows and self.scores.is_newer_than([TABLE, *self.pictures]):
            self.scores.write_table()
            self.draw()

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        """Provenance of new rows: facts on record that don't determine the numbers."""
        return {**this_process(), "note": self.note, "runtime": self.runtime.facts(), "versions": versions()}


Sweep = TypeVar("Sweep", bound=CheckpointSweep)


@attrs.frozen(kw_only=True)
class MeasuredSweep(Generic[Sweep]):
    """A sweep whose checkpoints have rows, but for those left out."""

    sweep: Sweep
    candidates: Sequence[Candidate]
    left_out: Sequence[str]
    """A line for each checkpoint that couldn't be scored."""
    is_new: bool
    """Whether any row was measured now."""

    def draw(self, work: Work) -> NcsnxError | None:
        """Draws the plots that are due. Returns the error if plots of new rows can't be written."""
        try:
            self.sweep.draw_if_outdated()
        except NcsnxError as error:
            if self.is_new:
                return error
            work.warning(str(error))  # nothing was measured, so the plot that exists will do
        return None

    @property
    def rows(self) -> list[Row]:
        """The rows of the chosen checkpoints, by step."""
        return self.sweep.rows(self.candidates)

    @property
    def best(self) -> Row | None:
        """The row with the lowest score."""
        return best_row(self.rows)


def measure_checkpoints(
    run: Run,
    selection: Selection,
    build: Callable[[Work], Sweep],
    work: Work,
    *,
    shorter: str,
    ensemble: int = 1,
) -> MeasuredSweep[Sweep] | None:
    """Measures the selected checkpoints that have no row; None on ranks other than 0.

    build: makes the sweep; a signal may end it anywhere. shorter: advice against long sweeps. Raises NcsnxError; rows
    measured before are kept, and drawn after a stop request.
    """
    with work.at_once():
        candidates, problems = work.ranks.first(lambda: choose(run, selection, work, ensemble))
        sweep = build(work)
    work.info(f"{run.path}: {sweep.caption()}")
    if (caution := sweep.caution()) is not None:
        work.warning(caution)
    is_new = bool(work.ranks.first(lambda: missing(sweep, candidates), check_stop=work.check_stop))
    if is_new:
        with writing(sweep, work):
            problems += _measure(sweep, candidates, work, shorter)
    else:
        if work.ranks.is_first:
            _refresh(sweep, candidates, work)
    if not work.ranks.is_first:
        return None
    return MeasuredSweep(sweep=sweep, candidates=candidates, left_out=problems, is_new=is_new)


def _measure(sweep: CheckpointSweep, candidates: Sequence[Candidate], work: Work, shorter: str) -> list[str]:
    """Measures missing rows and saves each; returns a line for each checkpoint that could not be scored."""

    def begin() -> list[Candidate]:
        _complete(sweep, candidates, work)
        left = missing(sweep, candidates)  # another process may have measured some in the meantime
        if left:
            _say_what_comes(sweep, left, len(candidates) - len(left), work, shorter)
        return left

    left = work.ranks.first(begin, check_stop=work.check_stop)
    shown: list[tuple[int, str]] = []
    with work.rows(sweep.titles, total=len(left), units=sum(map(sweep.units, left))) as view:

        def added(candidate: Candidate, row: Row) -> None:
            shown.append((candidate.step, candidate.weights_sha256))
            best = best_row(sweep.rows(candidates))
            key = None if best is None else (best["step"], best["weights_sha256"])
            view.row(sweep.cells(row), shown.index(key) if key in shown else None)

        def begun(candidate: Candidate) -> None:
            view.begin(sweep.name(candidate))

        try:
            return measure_all(sweep, left, work, view.advance, begun=begun, added=added)
        except Stopped:
            if work.ranks.is_first:
                with suppress(NcsnxError):  # the next command draws them
                    sweep.draw_if_outdated()
            raise


def _refresh(sweep: CheckpointSweep, candidates: Sequence[Candidate], work: Work) -> None:
    """Completes a sweep that has all rows, unless it is being written."""
    several = f"all {counted(len(candidates), 'checkpoint')} are"
    work.info(f"{several if len(candidates) > 1 else 'the checkpoint is'} already measured")
    is_outdated = any(map(sweep.can_fill, sweep.rows(candidates))) or any(
        parts_of(sweep, candidate).exists() for candidate in candidates
    )
    if is_outdated and writer_of(sweep.place) is None:
        try:
            with writing(sweep, attrs.evolve(work, ranks=ALONE)):
                _complete(sweep, candidates, work)
        except NcsnxError as error:  # existing rows can still be shown
            work.warning(str(error))


def _complete(sweep: CheckpointSweep, candidates: Sequence[Candidate], work: Work) -> None:
    """Removes parts that a kill left behind, and adds missing numbers to rows from kept features where possible."""
    discard_needless_parts(sweep, candidates)
    for row in filter(sweep.can_fill, sweep.rows(candidates)):
        with work.at_once():
            filled = sweep.fill(row)
        if filled is not None:
            sweep.scores.add(filled, sweep.scores.changed)


def _say_what_comes(sweep: CheckpointSweep, left: Sequence[Candidate], done: int, work: Work, shorter: str) -> None:
    """Says how many checkpoints are left, and for how long if the first of them can be loaded."""
    what = counted(len(left), "checkpoint") + (f" ({done:,} more already measured)" if done else "")
    try:
        with work.at_once():
            seconds = sweep.seconds(left[0]) * len(left) / work.ranks.world
    except UnsoundError:  # `measure_all` will leave it out
        work.info(what)
        return
    work.info(f"{what}: about {duration(seconds)}, estimated from a quick timing")
    if seconds > _LONG_S:
        work.info(f"to shorten it: {shorter}")


def refuse_left_out(problems: Sequence[str]) -> None:
    """Raises NcsnxError if any checkpoints were left out."""
    if problems:
        count = f"{counted(len(problems), 'checkpoint')} have" if len(problems) > 1 else "a checkpoint has"
        raise NcsnxError(f"{count} no score: {'; '.join(problems)}")


@torch.no_grad()
def seconds_per_image(model: ScoreModel, batch_size: int) -> float:
    """Seconds per image of one network evaluation in batches of `batch_size`."""
    x = torch.zeros(batch_size, *model.experiment.data.shape, device=model.runtime.device)
    sigma = model.network.noise_levels[0]
    return fastest_s(lambda: model.score(x, sigma).sum().item()) / batch_size  # the sum waits for the GPU
