"""What `fid`, `loss` and `likelihood` share: choosing checkpoints, measuring the missing ones, tables, and the end."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from ncsnx.console.messages import Messages
from ncsnx.console.sweep import sweep_view
from ncsnx.console.tables import Column, table
from ncsnx.errors import DivergedError, NcsnxError, Stopped
from ncsnx.evaluation.candidates import Candidate, find_candidates
from ncsnx.evaluation.estimate import LONG_S
from ncsnx.quantities import counted, duration
from ncsnx.runs.checkpoints.leftovers import remove_debris_in
from ncsnx.runs.checkpoints.manifest import UnsoundError, require_best
from ncsnx.runs.checkpoints.ranges import Selection
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import FEATURES, TABLE, Row, ScoreFile, best_row
from ncsnx.runs.segments import versions
from ncsnx.runs.writer_lock import folder_lock, writer_of
from ncsnx.runtime import Runtime
from ncsnx.storage import atomic
from ncsnx.storage.process import this_process
from ncsnx.work import Advance


class Measure(Protocol):
    """Measures a checkpoint; `advance` is told of its progress."""

    def __call__(self, candidate: Candidate, advance: Advance) -> Row: ...


@attrs.frozen(eq=False, kw_only=True)
class Plan:
    """What a sweep measures and how its rows are shown."""

    candidates: Sequence[Candidate]
    scores: ScoreFile
    is_done: Callable[[Candidate, ScoreFile], bool]
    measure: Measure
    columns: Sequence[Column]
    cells: Callable[[Row], Sequence[str]]
    units: int
    """Of progress, a checkpoint."""
    seconds: Callable[[Candidate], float]
    """How long a candidate will take, by evaluations that are timed now."""
    shorter: str
    """What makes a long one shorter."""
    settle: Callable[[Candidate], None]
    """Called when a candidate's row is kept."""
    lacks: Callable[[Row], bool] = lambda row: False
    """Whether a row has no numbers of what is measured by now."""
    can_fill: Callable[[Row], bool] = lambda row: False
    """Whether what it takes to fill a row seems to have been kept."""
    fill: Callable[[Row], Row | None] = lambda row: None
    """A row with what it lacks, from what was kept; None where that isn't there."""
    draw: Callable[[], object]
    """Draws the plot of all rows that there are."""
    pictures: Sequence[str]
    """The files that `draw` makes, in the folder of the scores."""
    made: dict[str, Any]
    """For the record of each row: the machine and a remark."""
    perfect_model: Sequence[str] | None = None
    """The cells of a last row of the table, for what a perfect model would score."""
    is_outdated: bool = False
    """Whether the file of the scores lacks what `scores` says beside its rows."""

    def missing(self) -> list[Candidate]:
        """The candidates still to be measured."""
        return [candidate for candidate in self.candidates if not self.is_done(candidate, self.scores)]

    def rows(self) -> list[Row]:
        """The rows of the candidates that are measured."""
        found = [self.scores.row(candidate.step, candidate.weights_sha256) for candidate in self.candidates]
        return [row for row in found if row is not None]


def choose(
    messages: Messages, run: Run, selection: Selection, ensemble: int = 1
) -> tuple[tuple[Candidate, ...], list[str]]:
    """The candidates that --range selected, and a line for each unsound checkpoint; says what isn't covered."""
    if selection.text == "best":
        messages.info(f"best: {require_best(run)}")
    found = find_candidates(run, run.experiment(), selection.steps, ensemble)
    if selection.remark:
        messages.warning(selection.remark)
    if found.without_enough_members:
        steps = ", ".join(f"{step:,}" for step in found.without_enough_members)
        messages.warning(f"left out, since fewer than {counted(ensemble, 'checkpoint')} lead up to them: {steps}")
    for line in found.unsound:
        messages.warning(f"left out: {line}")
    return found.candidates, list(found.unsound)


def made(runtime: Runtime, note: str) -> dict[str, Any]:
    """How rows came about, for the record: not what determines them."""
    return {**this_process(), "note": note, "runtime": runtime.facts(), "versions": versions()}


def carry_out(messages: Messages, plan: Plan, what: str) -> list[str]:
    """Measures what is missing, keeping each row as it comes; returns a line for each checkpoint that has no score.

    what: the sweep in words, for its lock. Raises NcsnxError; what was measured until then is kept, and when it was
    asked to stop, drawn.
    """
    missing, folder = plan.missing(), plan.scores.folder
    if not missing:
        count = len(plan.candidates)
        there = f"all {counted(count, 'checkpoint')} are" if count > 1 else "the checkpoint is"
        messages.info(f"{there} measured already")
        if (plan.is_outdated or any(map(plan.can_fill, plan.rows()))) and writer_of(folder) is None:  # else it does it
            try:
                with folder_lock(folder, what):
                    plan.scores.reload()
                    if plan.is_outdated:
                        plan.scores.write()
                    _fill(plan)
            except NcsnxError as error:  # what was measured is shown all the same
                messages.warning(str(error))
        _say_what_lacks(messages, plan)
        return []
    with atomic.reporting(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder, what):
        plan.scores.reload()  # another process may have resumed it meanwhile
        remove_debris_in([folder, folder / FEATURES])
        missing = plan.missing()
        _fill(plan)
        _say_what_comes(messages, plan, missing)
        try:
            return _measure(messages, plan, missing)
        except Stopped:
            try:
                draw(plan)
            except NcsnxError as error:
                messages.warning(str(error))
            raise


def show(messages: Messages, plan: Plan, json: bool) -> None:
    """Writes the rows to standard output: as JSON for scripts, or as a table with the best row marked."""
    rows = plan.rows()
    if json:
        scores = plan.scores
        context: dict[str, Any] = {"metric": scores.metric, "protocol": {"caption": scores.caption, **scores.protocol}}
        if scores.protocol.get("measure") == "distance":
            context["perfect_model"] = scores.perfect_model
        messages.json([{**row, **context} for row in rows])
        return
    best = best_row(rows)
    shown = [[*plan.cells(row), "best" if row is best else ""] for row in rows]
    if plan.perfect_model is not None:
        shown.append([*plan.perfect_model, ""])
    table(messages, [*plan.columns, Column("")], shown)


def draw(plan: Plan) -> None:
    """Makes the CSV and the plot of all rows, unless those that are there show them already. Raises NcsnxError."""
    if plan.scores.rows and plan.scores.is_newer_than([TABLE, *plan.pictures]):
        plan.scores.write_table()
        plan.draw()


def refuse_left_out(problems: Sequence[str]) -> None:
    """Raises NcsnxError where checkpoints had to be left out."""
    if problems:
        count = f"{counted(len(problems), 'checkpoint')} have" if len(problems) > 1 else "a checkpoint has"
        raise NcsnxError(f"{count} no score: {'; '.join(problems)}")


def _fill(plan: Plan) -> None:
    """Adds to rows what they lack, where what is needed for it was kept."""
    for row in filter(plan.can_fill, plan.rows()):
        if (filled := plan.fill(row)) is not None:
            plan.scores.add(filled, plan.scores.changed)


def _say_what_lacks(messages: Messages, plan: Plan) -> None:
    without = sum(map(plan.lacks, plan.rows()))
    if without:
        messages.info(
            f"{counted(without, 'checkpoint')} {'lacks' if without == 1 else 'lack'} numbers of newer metrics: their "
            "images' features aren't kept"
        )


def _say_what_comes(messages: Messages, plan: Plan, missing: Sequence[Candidate]) -> None:
    if not missing:
        return
    done, count = len(plan.candidates) - len(missing), len(missing)
    what = counted(count, "checkpoint")
    there = f" ({done:,} more measured already)" if done else ""
    seconds = _seconds(plan, missing)
    if seconds is None:
        messages.info(f"{what}{there}")
        return
    messages.info(f"{what}{there}: about {duration(seconds)}, by what was timed just now")
    if seconds > LONG_S:
        messages.info(f"shorter: {plan.shorter}")


def _seconds(plan: Plan, missing: Sequence[Candidate]) -> float | None:
    """How long the missing ones will take; None where none of them can be loaded."""
    for candidate in missing:
        try:
            return plan.seconds(candidate) * len(missing)
        except UnsoundError:
            continue  # it is left out when its turn comes
    return None


def _measure(messages: Messages, plan: Plan, missing: Sequence[Candidate]) -> list[str]:
    problems: list[str] = []
    shown: list[Row] = []
    with sweep_view(messages, columns=plan.columns, total=len(missing), units=plan.units * len(missing)) as view:
        for candidate in missing:
            view.begin(f"step {candidate.step:,}")
            try:
                row = plan.measure(candidate, view.advance)
            except (UnsoundError, DivergedError) as error:
                problems.append(f"step {candidate.step:,}: {error}")
                messages.warning(f"left out: {problems[-1]}")
                continue
            finished = this_process()["started"]
            shown.append({**row, "made": {**plan.made, "finished": finished}})
            plan.scores.add(shown[-1], finished)
            plan.settle(candidate)
            best = best_row(plan.rows())
            view.row(plan.cells(row), next((index for index, one in enumerate(shown) if one is best), None))
    return problems
