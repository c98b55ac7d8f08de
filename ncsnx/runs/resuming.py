"""Which checkpoint training resumes from: the newest that verifies."""

from collections.abc import Iterable, Iterator, Sequence

import attrs

from ncsnx.errors import Hint, NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import Manifest, UnsoundError, checkpoints, verify
from ncsnx.runs.names import step_name
from ncsnx.runs.segments import read_segments
from ncsnx.spelling import argument

CheckpointVerdict = tuple[int, Manifest | UnsoundError]
"""A step with its checkpoint's manifest if all files are sound, else with the error."""


@attrs.frozen
class Resumption:
    """The checkpoint that training resumes from."""

    step: int | None
    """Step of the checkpoint; None: from the beginning."""
    unsound: tuple[tuple[int, str], ...] = ()
    """Newer unsound checkpoints and their errors."""


def resumption(run: Run, verdicts: Iterable[CheckpointVerdict] | None = None) -> Resumption:
    """Decides where the training of `run` resumes: at its newest sound checkpoint.

    verdicts: all checkpoints, newest first; by default they are verified now, as many as needed. Raises NcsnxError if
    the run had checkpoints and has no sound one any more, and if a checkpoint can't be read.
    """
    unsound: list[tuple[int, str]] = []
    for step, verdict in _verdicts(run) if verdicts is None else verdicts:
        if not isinstance(verdict, UnsoundError):
            return Resumption(step, tuple(unsound))
        unsound.append((step, str(verdict)))
    require_beginning(run, unsound)
    return Resumption(None)


def require_beginning(run: Run, unsound: Sequence[tuple[int, str]]) -> None:
    """Raises NcsnxError if a run without a sound checkpoint had checkpoints, so that it can't begin.

    unsound: its unsound checkpoints and their errors, newest first.
    """
    if unsound:
        step, why = unsound[0]
        raise _without_checkpoint(run, f"none of {len(unsound)} is sound; step {step:,}: {why}")
    if starts := [segment.from_step for segment in read_segments(run) if segment.from_step]:
        raise _without_checkpoint(run, f"its segments mention step {starts[-1]:,}")
    if run.unsound.exists():
        raise _without_checkpoint(run, f"set aside in {run.unsound}")


def _verdicts(run: Run) -> Iterator[CheckpointVerdict]:
    for step in reversed(checkpoints(run)):
        try:
            yield step, verify(run.checkpoints / step_name(step))
        except UnsoundError as error:
            yield step, error


def _without_checkpoint(run: Run, trace: str) -> NcsnxError:
    return NcsnxError(
        f"run {run.name!r} has no sound checkpoint any more, but had some ({trace}), and starting over would drop its "
        "records",
        Hint(f"restore a sound checkpoint into {run.checkpoints} from a backup"),
        Hint("or start a new run", adds=argument("name", f"{run.name}-2")),
    )
