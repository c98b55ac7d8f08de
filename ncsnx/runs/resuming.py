"""Which checkpoint training resumes from, and when it refuses to resume."""

import shlex
from collections.abc import Iterable, Iterator

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.errors import Hint, NcsnxError
from ncsnx.runs.checkpoints.manifest import Manifest, UnsoundError, checkpoints, verify_own
from ncsnx.runs.checkpoints.selection import newest_whole
from ncsnx.runs.checkpoints.weight_sizes import weight_sizes
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name, step_of
from ncsnx.runs.segments import read_segments
from ncsnx.spelling import A_NAME, argument
from ncsnx.storage import reading

CheckpointVerdict = tuple[int, Manifest | UnsoundError]
"""A step with its checkpoint's manifest if all files are sound, else with the error."""


@attrs.frozen
class Resumption:
    """The checkpoint that training resumes from, or the reason why it can't."""

    step: int | None
    """Step of the checkpoint; None: from the beginning."""
    unsound: tuple[tuple[int, str], ...] = ()
    """Newer unsound checkpoints and their errors."""
    untrainable: tuple[int, ...] = ()
    """Newer checkpoints without optimizer state, if the newest one's was lost rather than pruned."""
    refusal: str | None = None
    """Why training can't resume."""
    hints: tuple[Hint, ...] = ()
    """Suggestions to show with the refusal."""

    @property
    def advice(self) -> str:
        """The hints in one line, for readers who typed another command than `ncsnx train`."""
        return "; ".join(
            f"{hint.label}: `ncsnx train … {hint.adds}`" if hint.adds else str(hint) for hint in self.hints
        )


def resumption(run: Run, verdicts: Iterable[CheckpointVerdict] | None = None) -> Resumption:
    """Decides where the training of `run` resumes: at its newest sound checkpoint with optimizer state.

    Refuses if retention removed the optimizer state of a newer sound checkpoint, since its work would be lost silently.
    verdicts: all checkpoints, newest first; by default they are verified now, as many as needed. Raises NcsnxError if a
    checkpoint can't be read.
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
    """Whether a checkpoint lacks optimizer state that no retention rule removes. number: count of newer checkpoints."""
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
    """without: newer checkpoints without optimizer state, newest first. nearest: the next that has it."""
    refusal = (
        f"the newest sound checkpoint of run {run.name!r}, of step {without[0]:,}, holds no optimizer state, and "
        "training cannot resume without it"
    )
    if nearest is None:
        refusal += "; no other checkpoint has it either"
        hints = [
            Hint("start a new run", adds=argument("name", A_NAME)),
            Hint("or restore the optimizer state from a backup (the checkpoint can still be sampled and scored)"),
        ]
    else:
        aside = shlex.quote(f"{run.path}/aside")
        hints = [
            Hint(
                f"move the newer ones away to resume from step {nearest:,}, the nearest that has it",
                f"mkdir -p {aside} && mv {_listed(run, without)} {aside}/",
            ),
            Hint("then `ncsnx train` resumes there"),
        ]
    return Resumption(None, tuple(unsound), refusal=refusal, hints=tuple(hints))


def _without_checkpoint(run: Run, trace: str, unsound: tuple[tuple[int, str], ...] = ()) -> Resumption:
    return Resumption(
        None,
        unsound,
        refusal=f"run {run.name!r} has no sound checkpoint any more, but had some ({trace}), and starting over would "
        "drop its records",
        hints=(
            Hint(f"restore a sound checkpoint into {run.checkpoints} from a backup"),
            Hint("or start a new run", adds=argument("name", f"{run.name}-2")),
        ),
    )


def _listed(run: Run, steps: list[int]) -> str:
    return " ".join(shlex.quote(f"{run.checkpoints}/{step_name(step)}") for step in steps)


def _trace_of_checkpoints(run: Run) -> str | None:
    """Evidence that the run once had a checkpoint; None for a run that was stopped before its first."""
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
    return f"its segments mention step {starts[-1]}" if starts else None
