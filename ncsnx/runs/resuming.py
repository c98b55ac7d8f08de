"""Whether training a run can resume: one that had checkpoints needs a sound one."""

from collections.abc import Sequence

from ncsnx.errors import Hint, NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import SET_ASIDE
from ncsnx.runs.segments import read_segments
from ncsnx.spelling import argument


def require_beginning(run: Run, unsound: Sequence[tuple[int, str]]) -> None:
    """Raises NcsnxError if a run without a sound checkpoint had checkpoints, so that it can't begin.

    unsound: its unsound checkpoints and their errors, newest first.
    """
    if unsound:
        step, why = unsound[0]
        raise _without_checkpoint(run, f"none of {len(unsound)} is sound; step {step:,}: {why}")
    if starts := [segment.from_step for segment in read_segments(run) if segment.from_step]:
        raise _without_checkpoint(run, f"its segments mention step {starts[-1]:,}")
    if aside := sorted(run.checkpoints.glob(SET_ASIDE)):
        raise _without_checkpoint(run, f"set aside: {aside[-1].name}")


def _without_checkpoint(run: Run, trace: str) -> NcsnxError:
    return NcsnxError(
        f"run {run.name!r} has no sound checkpoint any more, but had some ({trace}), and starting over would drop its "
        "records",
        Hint(f"restore a sound checkpoint into {run.checkpoints} from a backup"),
        Hint("or start a new run", adds=argument("name", f"{run.name}-2")),
    )
