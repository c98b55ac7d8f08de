"""Which checkpoint a training resumes from, and when it must not resume by itself."""

import shlex
from collections.abc import Iterable, Iterator

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.manifest import Manifest, UnsoundError, checkpoints, verify_own
from ncsnx.runs.checkpoints.selection import newest_whole
from ncsnx.runs.checkpoints.weight_sizes import weight_sizes
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name, step_of
from ncsnx.runs.segments import read_segments
from ncsnx.spelling import A_NAME, argument
from ncsnx.storage import reading

CheckpointVerdict = tuple[int, Manifest | UnsoundError]
"""A step, and its checkpoint's manifest where all of its files are sound, else what is wrong."""


@attrs.frozen
class Resumption:
    """Where a training resumes."""

    step: int | None
    """None: from the beginning."""
    unsound: tuple[tuple[int, str], ...] = ()
    """Newer checkpoints that aren't sound, and why."""
    untrainable: tuple[int, ...] = ()
    """Newer checkpoints without an optimizer's state, the newest of which was lost."""
    refusal: str | None = None
    """Why it can't resume."""
    way_out: str = ""
    """What to do about that."""


def resumption(run: Run, verdicts: Iterable[CheckpointVerdict] | None = None) -> Resumption:
    """Where the training of `run` resumes: its newest sound checkpoint that holds an optimizer's state.

    Refuses where a newer one is sound and retention removed its state: then the work since would be lost unasked.
    verdicts: of all checkpoints, the newest first; by default they are verified now, as far as need be. Raises
    NcsnxError where a checkpoint can't be read.
    """
    unsound: list[tuple[int, str]] = []
    without_optimizer: list[int] = []
    was_lost = False
    for number, (step, verdict) in enumerate(_verdicts(run) if verdicts is None else verdicts):
        if isinstance(verdict, UnsoundError):
            unsound.append((step, str(verdict)))
        elif not verdict.is_trainable:
            was_lost = was_lost or (not without_optimizer and has_lost_state(run.experiment(), number, verdict))
            without_optimizer.append(step)
        elif without_optimizer and not was_lost:
            return _without_optimizer(run, unsound, without_optimizer, step)
        else:
            return Resumption(step, tuple(unsound), tuple(without_optimizer))
    if without_optimizer:
        return _without_optimizer(run, unsound, without_optimizer, None)
    if unsound:
        step, why = unsound[0]
        return _without_checkpoint(run, f"none of {len(unsound)} is sound; step {step:,}: {why}", tuple(unsound))
    if trace := _trace_of_checkpoints(run):
        return _without_checkpoint(run, trace)
    return Resumption(None)


def has_lost_state(experiment: Experiment, number: int, manifest: Manifest) -> bool:
    """Whether a checkpoint has lost its optimizer's state, which no rule removes there.

    number: of the newer checkpoints.
    """
    return bool(manifest.absent) and number < newest_whole(experiment.retention)


def _verdicts(run: Run) -> Iterator[CheckpointVerdict]:
    steps = checkpoints(run)
    sizes = weight_sizes(run.experiment()) if steps else None
    for step in reversed(steps):
        try:
            yield step, verify_own(run.checkpoints / step_name(step), sizes)
        except UnsoundError as error:
            yield step, error


def _without_optimizer(run: Run, unsound: list[tuple[int, str]], without: list[int], nearest: int | None) -> Resumption:
    """without: the newer checkpoints that have no optimizer's state, the newest first."""
    refusal = (
        f"the newest sound checkpoint of run {run.name!r}, of step {without[0]:,}, holds no optimizer state, and "
        "training cannot resume without one"
    )
    if nearest is None:
        refusal += "; no other has one either"
        way_out = (
            f"it can be sampled and scored; to train on, start a run of its own with {argument('name', A_NAME)}, or "
            "bring back a copy"
        )
    else:
        aside = shlex.quote(f"{run.path}/aside")
        way_out = (
            f"the nearest that has it is of step {nearest:,}: to resume from there, move the newer ones away, as in "
            f"`mkdir -p {aside} && mv {_listed(run, without)} {aside}/`, then `ncsnx train` again"
        )
    return Resumption(None, tuple(unsound), refusal=refusal, way_out=way_out)


def _without_checkpoint(run: Run, trace: str, unsound: tuple[tuple[int, str], ...] = ()) -> Resumption:
    return Resumption(
        None,
        unsound,
        refusal=f"run {run.name!r} has no sound checkpoint any more, but had some ({trace}); beginning it anew would "
        "drop what it has recorded",
        way_out=f"bring a sound one back into {run.checkpoints} from a copy, or start a run of its own with "
        f"{argument('name', A_NAME)}, such as {argument('name', f'{run.name}-2')}",
    )


def _listed(run: Run, steps: list[int]) -> str:
    return " ".join(shlex.quote(f"{run.checkpoints}/{step_name(step)}") for step in steps)


def _trace_of_checkpoints(run: Run) -> str | None:
    """What shows that the run once had a checkpoint; None for one that was stopped before its first."""
    for folder, what in ((run.unsound, "set aside in"), (run.snapshots, "with grids of samples in")):
        try:
            names = [entry.name.removesuffix(".png") for entry in reading.entries(folder)]
        except OSError:
            continue
        if any(step_of(name[: len("step-00000000")]) for name in names):
            return f"{what} {folder}"
    try:
        starts = [start for segment in read_segments(run) if (start := segment.from_step)]
    except NcsnxError:
        return None
    return f"its segments tell of step {starts[-1]}" if starts else None
