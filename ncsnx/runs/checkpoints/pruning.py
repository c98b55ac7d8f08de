"""Prunes checkpoints by the experiment's `retention`, after it has verified the checkpoints that it relies on.

When the rules remove a checkpoint, they rely on others that stay: the last ones, the best, and multiples of
`keep_every`. Those are checked against their hashes, once per process, before anything is removed. A checkpoint that is
unsound or belongs to another experiment doesn't count: the newest sound ones stay in its place. It is never removed
here; see `ncsnx doctor`.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import attrs

from ncsnx.config.codec import identity
from ncsnx.config.experiment import Experiment
from ncsnx.config.retention import Retention
from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.manifest import (
    MANIFEST,
    OPTIMIZER,
    STATE,
    Manifest,
    UnsoundError,
    checkpoints,
    read_manifest,
    read_state,
    verify_file,
)
from ncsnx.runs.checkpoints.ranges import in_words
from ncsnx.runs.checkpoints.removal import remove_checkpoint, remove_optimizer_state
from ncsnx.runs.checkpoints.selection import CheckpointStatus, PruningPlan, ScoredSteps, plan
from ncsnx.runs.checkpoints.weight_sizes import WeightSizes, weight_sizes
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runs.score_files import ScoreFile, best_checkpoint

_Signature = tuple[str, str, int, int, int, int]


@attrs.frozen
class PruningResult:
    """Removed checkpoints and optimizer states."""

    removed: tuple[int, ...] = ()
    """Steps of removed checkpoints."""
    stripped: tuple[int, ...] = ()
    """Steps of removed optimizer states."""
    problems: tuple[str, ...] = ()
    """Lines about what couldn't be removed or needs attention."""

    def __str__(self) -> str:
        return f"retention removed {_in_words(self.removed, self.stripped)}"


class CheckpointPruner:
    """Applies the retention rules to one run, under the writer's lock, and remembers what it has verified."""

    def __init__(self, run: Run, experiment: Experiment, should_stop: Callable[[], bool] = lambda: False) -> None:
        """should_stop: asked while hashes are computed; True leaves the rest to the next call."""
        self._run = run
        self._rules = experiment.retention
        self._experiment = experiment
        self._should_stop = should_stop
        self._verified: dict[_Signature, UnsoundError | None] = {}
        self._manifests: dict[tuple[_Signature, bool], Manifest] = {}
        self._identity = identity(experiment)
        self._owned: dict[_Signature | None, bool] = {}
        self._reported: set[str] = set()

    def announcement(self) -> list[str]:
        """Lines to show before anything is removed: the steps to remove now, the rules, and cautions."""
        if not self._rules.removes_anything:
            return []
        experiment = self._experiment
        lines = self._rules.cautions(checkpoint_every=experiment.checkpoint_every, steps=experiment.steps)
        now = "nothing"
        try:
            found = self.plan()
            now = _in_words(found.remove, found.strip)
        except _StopAskedError:
            pass
        except NcsnxError as error:
            lines += self._unreported([f"retention removes nothing for now: {error}"])
        return [f"retention removes {now} now; after each checkpoint it keeps {_rules_in_words(self._rules)}", *lines]

    def apply(self) -> PruningResult:
        """Removes what the rules don't keep. Problems are in the result: they don't end training."""
        removed: list[int] = []
        stripped: list[int] = []
        problems: list[str] = []
        if self._rules.removes_anything and not self._should_stop():
            try:
                self._carry_out(removed, stripped, problems)
            except _StopAskedError:
                pass
            except NcsnxError as error:
                problems.append(f"retention removes nothing{' more' if removed or stripped else ''} for now: {error}")
        return PruningResult(tuple(removed), tuple(stripped), tuple(self._unreported(problems)))

    def plan(self) -> PruningPlan:
        """The removals that are due, after the checkpoints relied on were verified. Raises NcsnxError."""
        return self._plan()[0]

    def foreseen(self, unsound: Iterable[int]) -> str | None:
        """The removals at the next start, in words, given the unsound steps; None if there are none.

        Computes no hash. Raises NcsnxError if files can't be read.
        """
        if not self._rules.removes_anything:
            return None
        manifests, damaged = self._counting()
        unsound = damaged.union(unsound)
        sound = {step: manifest for step, manifest in manifests.items() if step not in unsound}
        counting = [CheckpointStatus(step, manifest.is_trainable) for step, manifest in sound.items()]
        found = plan(self._rules, counting, unsound, self._scores(sound))
        return _in_words(found.remove, found.strip) if found else None

    def _carry_out(self, removed: list[int], stripped: list[int], problems: list[str]) -> None:
        found, scores = self._plan()
        done: set[int] = set()
        while todo := [step for step in (*found.remove, *found.strip) if step not in done]:
            if self._should_stop():
                return
            if self._scores(self._counting()[0]) != scores:  # a concurrent sweep may have found another best
                found, scores = self._plan()
                continue
            step = todo[0]
            done.add(step)
            is_whole = step in found.remove
            folder = self._run.checkpoints / step_name(step)
            try:
                if is_whole:
                    remark = remove_checkpoint(folder)
                    removed.append(step)
                    problems += [remark] if remark else []
                else:
                    remove_optimizer_state(folder)
                    stripped.append(step)
            except NcsnxError as error:
                what = _in_words([step], []) if is_whole else _in_words([], [step])
                problems.append(f"retention cannot remove {what}: {error}")

    def _plan(self) -> tuple[PruningPlan, ScoredSteps]:
        while True:
            manifests, unsound = self._counting()
            counting = [CheckpointStatus(step, manifest.is_trainable) for step, manifest in manifests.items()]
            scores = self._scores(manifests)
            found = plan(self._rules, counting, unsound, scores)
            if not found or all(self._is_sound(step, manifests[step]) for step in found.relied_on):
                return found, scores

    def _counting(self) -> tuple[dict[int, Manifest], set[int]]:
        """Manifests of the run's own checkpoints that aren't known to be unsound, and the steps of the others."""
        manifests: dict[int, Manifest] = {}
        unsound = set()
        for step in checkpoints(self._run):
            folder = self._run.checkpoints / step_name(step)
            try:
                manifest = self._manifest(folder)
            except UnsoundError:
                unsound.add(step)
                continue
            signatures = [_signature(folder / name, record.sha256) for name, record in manifest.files.items()]
            is_damaged = any(signature is None or self._verified.get(signature) for signature in signatures)
            if is_damaged or not self._is_own(folder, manifest):
                unsound.add(step)
            else:
                manifests[step] = manifest
        return manifests, unsound

    def _is_own(self, folder: Path, manifest: Manifest) -> bool:
        """Whether a checkpoint belongs to this run's experiment."""
        signature = _signature(folder / STATE, "")
        if signature not in self._owned:
            try:
                found = read_state(folder, manifest).get("identity")
            except NcsnxError:
                return False
            self._owned[signature] = found == self._identity
        return self._owned[signature]

    def _manifest(self, folder: Path) -> Manifest:
        """A checkpoint's manifest, parsed once, since it is needed before each removal. Raises UnsoundError."""
        signature = _signature(folder / MANIFEST, "")
        if signature is None or folder.is_symlink():
            return read_manifest(folder)
        key = (signature, os.path.lexists(folder / OPTIMIZER))
        if key not in self._manifests:
            self._manifests[key] = read_manifest(folder, self._sizes)
        return self._manifests[key]

    @cached_property
    def _sizes(self) -> WeightSizes | None:
        return weight_sizes(self._experiment)

    def _scores(self, manifests: dict[int, Manifest]) -> ScoredSteps:
        """The best step and the scored steps. Raises NcsnxError for unreadable scores, since the best is unknown."""

        def is_there(step: int, weights_sha256: str) -> bool:
            there = manifests.get(step)
            return there is not None and any(file.sha256 == weights_sha256 for file in there.files.values())

        best = best_checkpoint(self._run, is_there)
        if best is None:
            return ScoredSteps()
        rows = ScoreFile.read(best.sweep).rows
        scored = frozenset(row["step"] for row in rows if is_there(row["step"], row["weights_sha256"]))
        return ScoredSteps(best.step, scored)

    def _is_sound(self, step: int, manifest: Manifest) -> bool:
        """Whether a checkpoint's files match its manifest. Raises NcsnxError for an unreadable file."""
        folder = self._run.checkpoints / step_name(step)
        for name, record in manifest.files.items():
            signature = _signature(folder / name, record.sha256)
            if signature is None:
                return False
            if signature not in self._verified:
                self._verified[signature] = self._problem(folder, manifest, name)
            if self._verified[signature] is not None:
                return False
        return True

    def _problem(self, folder: Path, manifest: Manifest, name: str) -> UnsoundError | None:
        try:
            verify_file(folder, manifest, name, self._watch)
        except UnsoundError as error:
            return error
        return None

    def _watch(self, count: int) -> None:
        if self._should_stop():
            raise _StopAskedError

    def _unreported(self, lines: Iterable[str]) -> list[str]:
        """The lines that weren't reported before: a full disk causes the same problem at every checkpoint."""
        new = [line for line in lines if line not in self._reported]
        self._reported.update(new)
        return new


class _StopAskedError(Exception):
    """A signal asked the process to end; the rest can wait for the next start."""


def _signature(path: Path, sha256: str) -> _Signature | None:
    """A value that stays the same until somebody writes into the file or replaces it; None if there is no file."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (str(path), sha256, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _rules_in_words(rules: Retention) -> str:
    """Description of what the rules keep."""
    if rules.keep_last is not None or rules.keep_every is not None:
        last = "the last" if (rules.keep_last or 1) == 1 else f"the last {rules.keep_last:,}"
        every = [] if rules.keep_every is None else [f"the multiples of {rules.keep_every:,}"]
        *first, final = ["the best checkpoint", last, *every]
        kept = f"{', '.join(first)} and {final}"
    elif rules.keep_best:
        kept = "the best checkpoint, the last and those that `ncsnx fid` has not scored"
    else:
        kept = "all checkpoints"
    if rules.optimizer_last is None:
        return kept
    count = "last" if rules.optimizer_last == 1 else f"last {rules.optimizer_last:,}"
    return f"{kept}, and only the {count} optimizer state{'s' if rules.optimizer_last > 1 else ''}"


def _in_words(removed: Sequence[int], stripped: Sequence[int]) -> str:
    parts = []
    if removed:
        parts.append(f"the checkpoint{_of_steps(removed)}")
    if stripped:
        parts.append(f"the optimizer state{_of_steps(stripped)}")
    return " and ".join(parts) or "nothing"


def _of_steps(steps: Sequence[int]) -> str:
    return f"{'s of steps' if len(steps) > 1 else ' of step'} {in_words(steps)}"
