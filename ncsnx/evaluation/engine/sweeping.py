"""Carries out sweeps over a run's checkpoints: selection, estimated duration, and rows as they are measured."""

from collections.abc import Sequence

from ncsnx.errors import NcsnxError, Stopped
from ncsnx.evaluation.engine.candidates import Candidate, find_candidates
from ncsnx.evaluation.engine.checkpoint_sweep import CheckpointSweep
from ncsnx.evaluation.engine.measuring import discard_needless_parts, measure_all, missing, parts_of, writing
from ncsnx.quantities import counted, duration
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError, require_best
from ncsnx.runs.score_files import Row, best_row
from ncsnx.runs.selection import Selection
from ncsnx.runs.writer_lock import writer_of
from ncsnx.work import Work

LONG_S = 30 * 60
"""Estimated duration above which ways to shorten the sweep are shown."""


def choose(run: Run, selection: Selection, work: Work, ensemble: int = 1) -> tuple[tuple[Candidate, ...], list[str]]:
    """The candidates of a selection, and a line for each damaged checkpoint. Warns of everything left out."""
    if selection.text == "best":
        work.info(f"best: {require_best(run)}")
    found = find_candidates(run, run.experiment(), selection.steps, ensemble)
    if selection.remark:
        work.warning(selection.remark)
    if found.without_enough_members:
        steps = ", ".join(f"{step:,}" for step in found.without_enough_members)
        work.warning(f"left out, since fewer than {counted(ensemble, 'checkpoint')} lead up to them: {steps}")
    for line in found.unsound:
        work.warning(f"left out: {line}")
    return found.candidates, list(found.unsound)


def carry_out(sweep: CheckpointSweep, candidates: Sequence[Candidate], work: Work, shorter: str) -> list[str]:
    """Measures missing rows and saves each; returns a line for each checkpoint that could not be scored.

    shorter: advice on shortening a long sweep. Raises NcsnxError; rows measured before are kept, and drawn after a stop
    request.
    """
    is_outdated = sweep.update_description()
    if not missing(sweep, candidates):
        _refresh(sweep, candidates, work, is_outdated)
        return []
    with writing(sweep):
        discard_needless_parts(sweep, candidates)
        _fill(sweep, candidates, work)
        left = missing(sweep, candidates)  # another process may have measured some in the meantime
        _say_what_comes(sweep, candidates, left, work, shorter)
        try:
            return _measure(sweep, candidates, left, work)
        except Stopped:
            try:
                sweep.draw_if_outdated()
            except NcsnxError as error:
                work.warning(str(error))
            raise


def refuse_left_out(problems: Sequence[str]) -> None:
    """Raises NcsnxError if any checkpoints were left out."""
    if problems:
        count = f"{counted(len(problems), 'checkpoint')} have" if len(problems) > 1 else "a checkpoint has"
        raise NcsnxError(f"{count} no score: {'; '.join(problems)}")


def _measure(
    sweep: CheckpointSweep, candidates: Sequence[Candidate], left: Sequence[Candidate], work: Work
) -> list[str]:
    shown: list[tuple[int, str]] = []
    units = sum(map(sweep.units, left))
    with work.rows(sweep.titles, total=len(left), units=units) as view:

        def added(candidate: Candidate, row: Row) -> None:
            shown.append((candidate.step, candidate.weights_sha256))
            best = best_row(sweep.rows(candidates))
            key = None if best is None else (best["step"], best["weights_sha256"])
            view.row(sweep.cells(row), shown.index(key) if key in shown else None)

        def begun(candidate: Candidate) -> None:
            view.begin(sweep.name(candidate))

        return measure_all(sweep, left, work, view.advance, begun=begun, added=added)


def _refresh(sweep: CheckpointSweep, candidates: Sequence[Candidate], work: Work, is_outdated: bool) -> None:
    """Updates complete rows and their description, unless another process is writing and will do so."""
    count = len(candidates)
    all_of_them = f"all {counted(count, 'checkpoint')} are" if count > 1 else "the checkpoint is"
    work.info(f"{all_of_them} already measured")
    has_parts = any(parts_of(sweep, candidate).exists() for candidate in candidates)
    can_fill = any(map(sweep.can_fill, sweep.rows(candidates)))
    if (is_outdated or can_fill or has_parts) and writer_of(sweep.place) is None:
        try:
            with writing(sweep):
                discard_needless_parts(sweep, candidates)
                if is_outdated:
                    sweep.scores.write()
                _fill(sweep, candidates, work)
        except NcsnxError as error:  # existing rows can still be shown
            work.warning(str(error))
    without = sum(map(sweep.lacks, sweep.rows(candidates)))
    if without:
        work.info(
            f"{counted(without, 'checkpoint')} {'lacks' if without == 1 else 'lack'} numbers of newer metrics, since "
            "the features were not kept"
        )


def _fill(sweep: CheckpointSweep, candidates: Sequence[Candidate], work: Work) -> None:
    """Adds missing numbers to rows, computed from kept features where possible."""
    for row in filter(sweep.can_fill, sweep.rows(candidates)):
        with work.at_once():
            filled = sweep.fill(row)
        if filled is not None:
            sweep.scores.add(filled, sweep.scores.changed)


def _say_what_comes(
    sweep: CheckpointSweep, candidates: Sequence[Candidate], left: Sequence[Candidate], work: Work, shorter: str
) -> None:
    if not left:
        return
    done = len(candidates) - len(left)
    what = counted(len(left), "checkpoint") + (f" ({done:,} more already measured)" if done else "")
    seconds = _seconds(sweep, left, work)
    if seconds is None:
        work.info(what)
        return
    work.info(f"{what}: about {duration(seconds)}, estimated from a quick timing")
    if seconds > LONG_S:
        work.info(f"to shorten it: {shorter}")


def _seconds(sweep: CheckpointSweep, left: Sequence[Candidate], work: Work) -> float | None:
    """Estimated seconds for all of them; None if none can be loaded."""
    for candidate in left:
        try:
            with work.at_once():
                return sweep.seconds(candidate) * len(left) / work.ranks.world
        except UnsoundError:
            continue  # `measure_all` will leave it out
    return None
