"""Removes the checkpoints that no rule of `retention` keeps, and what killed processes left in a run.

A checkpoint is first renamed to a temporary name, which marks it as debris: after a kill it is complete or gone.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.config.training import Retention
from ncsnx.errors import Hint, NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger, best_checkpoints
from ncsnx.runs.manifest import CHECKPOINT_FILES, checkpoints
from ncsnx.runs.names import step_name, step_of
from ncsnx.runs.selection import listed
from ncsnx.storage import atomic


@attrs.frozen
class CheckpointPruner:
    """Applies the retention rules to one run, under the writer's lock."""

    run: Run
    experiment: Experiment
    should_stop: Callable[[], bool] = lambda: False
    """Asked before each removal; True leaves the rest to the next call."""
    _reported: set[str] = attrs.field(factory=set, init=False)

    def apply(self) -> tuple[list[int], list[str]]:
        """Removes what the rules don't keep. Returns the removed steps, and a line for each problem that is new, since
        a full disk causes the same one at every checkpoint; problems don't end training."""
        removed: list[int] = []
        problems: list[str] = []
        try:
            for step in self.due():
                if self.should_stop():
                    break
                try:
                    remove_checkpoint(self.run.checkpoints / step_name(step))
                    removed.append(step)
                except NcsnxError as error:
                    problems.append(f"retention cannot remove {steps_in_words([step])}: {error}")
        except NcsnxError as error:
            problems.append(f"retention removes nothing for now: {error}")
        new = [line for line in problems if line not in self._reported]
        self._reported.update(new)
        return removed, new

    def due(self) -> list[int]:
        """Steps of the checkpoints to remove now. Raises NcsnxError for damaged scores: the best is unknown."""
        rules = self.experiment.retention
        if not rules.removes_checkpoints:
            return []
        ledger = Ledger.read(self.run)
        ledger.require_sound("fid")
        best = best_checkpoints(ledger)
        scored = [one.step for one in best[-1].series.entries] if best else []
        return steps_to_remove(rules, checkpoints(self.run), [one.step for one in best], scored)


def steps_to_remove(rules: Retention, steps: Sequence[int], best: Iterable[int], scored: Iterable[int]) -> list[int]:
    """Steps that no rule keeps, of all checkpoints in ascending order. The best of each sweep and the last always stay.

    best: steps of the best of each sweep. scored: steps with a score in the sweep that determines the best.
    """
    if not rules.removes_checkpoints:
        return []
    keep = {*best, *steps[-(rules.keep_last or 1) :]}
    if rules.keep_every is not None:
        keep |= {step for step in steps if step % rules.keep_every == 0}
    if rules.keep_last is None and rules.keep_every is None:  # keep_best alone
        keep |= set(steps) - set(scored)
    return [step for step in steps if step not in keep]


def remove_checkpoint(folder: Path) -> None:
    """Removes a whole checkpoint. Raises NcsnxError, also if its folder holds files that ncsnx didn't write."""
    try:
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if foreign := sorted(set(names) - CHECKPOINT_FILES):
            raise NcsnxError(
                f"{folder} stays, since it holds {', '.join(foreign)}, which ncsnx did not write there",
                Hint("move that away"),
            )
        atomic.remove_tree(folder)
        atomic.sync_folder(folder.parent)
    except OSError as error:
        raise NcsnxError(
            f"cannot remove {folder}: {error.strerror or error}",
            Hint("allow that (see `ls -la` and `lsattr` there), and the next start of `ncsnx train` removes it"),
        ) from error


def remove_debris(run: Run) -> None:
    """Removes what killed processes left half written or half removed in the run, as far as possible.

    Call it only under the writer's lock: files that another process is writing look the same. Folders other than
    checkpoints stay, since an export is written into a run without that lock.
    """
    remove_debris_in((run.path, run.checkpoints, run.snapshots))


def remove_debris_in(folders: Iterable[Path], begin: str = "") -> None:
    """Like `remove_debris`, in these folders only, of files whose names begin like this."""
    for folder in folders:
        for path in (one for one in atomic.debris(folder) if one.name.startswith(f".{begin}")):
            with suppress(OSError):  # `doctor` reports what could not be removed
                if path.is_symlink() or not path.is_dir():
                    path.unlink(missing_ok=True)
                elif was_checkpoint(path):
                    shutil.rmtree(path)


def was_checkpoint(path: Path) -> bool:
    """Whether a temporary path is the rest of a checkpoint, by its location and name."""
    whole = atomic.whole_name(path.name)
    return path.parent.name == "checkpoints" and whole is not None and step_of(whole) is not None


def steps_in_words(steps: Sequence[int]) -> str:
    """Checkpoints as they are named in messages."""
    return f"the checkpoint{'s of steps' if len(steps) > 1 else ' of step'} {listed(steps)}"
