"""Removing what the experiment's `retention` doesn't keep, and nothing before what stays has been verified.

The rules rely on some checkpoints when others go: the last ones, the best, and multiples of `keep_every`. Those are
read and compared with their hashes, once in a process, before anything is removed. One that isn't sound, or that
another experiment trained, doesn't count, and the newest sound ones stay in its stead; it is never removed here: see
`ncsnx doctor`.
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
from ncsnx.runs.checkpoints.selection import CheckpointStatus, Judgement, Plan, plan
from ncsnx.runs.checkpoints.weight_sizes import WeightSizes, weight_sizes
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runs.score_files import ScoreFile, best_checkpoint

_Signature = tuple[str, str, int, int, int, int]


@attrs.frozen
class Outcome:
    """What was done: of everything that it names, nothing is left."""

    removed: tuple[int, ...] = ()
    stripped: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()
    """A line for each thing that couldn't be removed, or that somebody should look at."""

    def __str__(self) -> str:
        return f"removed by retention: {_things(self.removed, self.stripped)}"


class CheckpointPruner:
    """Follows the rules in one run, under the writer's lock, and remembers what it has verified."""

    def __init__(self, run: Run, experiment: Experiment, should_stop: Callable[[], bool] = lambda: False) -> None:
        """should_stop is asked while hashes are computed; then the rest is left to the next time."""
        self._run = run
        self._rules = experiment.retention
        self._experiment = experiment
        self._should_stop = should_stop
        self._verified: dict[_Signature, UnsoundError | None] = {}
        self._manifests: dict[tuple[_Signature, bool], Manifest] = {}
        self._identity = identity(experiment)
        self._owned: dict[_Signature | None, bool] = {}
        self._said: set[str] = set()

    def announcement(self) -> list[str]:
        """What a person is to be told before anything goes: which steps now, by which rule later, and cautions."""
        if not self._rules.removes_anything:
            return []
        experiment = self._experiment
        lines = self._rules.cautions(checkpoint_every=experiment.checkpoint_every, steps=experiment.steps)
        now = "nothing"
        try:
            found = self.plan()
            now = _things(found.remove, found.strip)
        except _StopAskedError:
            pass
        except NcsnxError as error:
            lines += self._once([f"retention removes nothing for now: {error}"])
        return [f"retention removes now: {now}; later, after each checkpoint: {_rule(self._rules)}", *lines]

    def apply(self) -> Outcome:
        """Removes what the rules don't keep. Raises no NcsnxError: a training goes on without."""
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
        return Outcome(tuple(removed), tuple(stripped), tuple(self._once(problems)))

    def plan(self) -> Plan:
        """What goes now, all that is relied on verified. Raises NcsnxError where that can't be found out."""
        return self._plan()[0]

    def foreseen(self, unsound: Iterable[int]) -> str | None:
        """What goes at the next start, in words, if these steps are unsound and no others; None: nothing.

        Computes no hash. Raises NcsnxError where that can't be found out.
        """
        if not self._rules.removes_anything:
            return None
        manifests, damaged = self._counting()
        unsound = damaged.union(unsound)
        sound = {step: manifest for step, manifest in manifests.items() if step not in unsound}
        counting = [CheckpointStatus(step, manifest.is_trainable) for step, manifest in sound.items()]
        found = plan(self._rules, counting, unsound, self._scores(sound))
        return _things(found.remove, found.strip) if found else None

    def _carry_out(self, removed: list[int], stripped: list[int], problems: list[str]) -> None:
        found, scores = self._plan()
        done: set[int] = set()
        while todo := [step for step in (*found.remove, *found.strip) if step not in done]:
            if self._should_stop():
                return
            if self._scores(self._counting()[0]) != scores:  # a sweep beside may have found another best by now
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
                what = _things([step], []) if is_whole else _things([], [step])
                problems.append(f"retention cannot remove {what}: {error}")

    def _plan(self) -> tuple[Plan, Judgement]:
        while True:
            manifests, unsound = self._counting()
            counting = [CheckpointStatus(step, manifest.is_trainable) for step, manifest in manifests.items()]
            scores = self._scores(manifests)
            found = plan(self._rules, counting, unsound, scores)
            if not found or all(self._is_sound(step, manifests[step]) for step in found.relied_on):
                return found, scores

    def _counting(self) -> tuple[dict[int, Manifest], set[int]]:
        """The manifests of the run's own checkpoints that aren't known to be unsound, and the steps of the others."""
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
        """Whether a checkpoint is of this run's experiment, and not one that somebody put there."""
        signature = _signature(folder / STATE, "")
        if signature not in self._owned:
            try:
                found = read_state(folder, manifest).get("identity")
            except NcsnxError:
                return False
            self._owned[signature] = found == self._identity
        return self._owned[signature]

    def _manifest(self, folder: Path) -> Manifest:
        """A checkpoint's manifest, parsed once: they are asked for before each removal. Raises UnsoundError."""
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

    def _scores(self, manifests: dict[int, Manifest]) -> Judgement:
        """Raises NcsnxError for scores that can't be read: then nobody knows the best."""

        def is_there(step: int, weights_sha256: str) -> bool:
            there = manifests.get(step)
            return there is not None and any(file.sha256 == weights_sha256 for file in there.files.values())

        best = best_checkpoint(self._run, is_there)
        if best is None:
            return Judgement()
        rows = ScoreFile.read(best.sweep).rows
        scored = frozenset(row["step"] for row in rows if is_there(row["step"], row["weights_sha256"]))
        return Judgement(best.step, scored)

    def _is_sound(self, step: int, manifest: Manifest) -> bool:
        """Whether a checkpoint's files are what its manifest says. Raises NcsnxError for one that can't be read."""
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

    def _once(self, lines: Iterable[str]) -> list[str]:
        """The lines that weren't said before: a full disk stays full for many checkpoints."""
        new = [line for line in lines if line not in self._said]
        self._said.update(new)
        return new


class _StopAskedError(Exception):
    """A signal asks the process to end; what is left to do can wait for the next start."""


def _signature(path: Path, sha256: str) -> _Signature | None:
    """What stays as it is as long as nobody writes into the file or puts another in its place."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (str(path), sha256, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _rule(rules: Retention) -> str:
    """The rules in words: what goes after each checkpoint."""
    parts = []
    if rules.keep_last is not None or rules.keep_every is not None:
        last = "" if rules.keep_last is None else _among_the_last(rules.keep_last)
        every = "" if rules.keep_every is None else f"a multiple of {rules.keep_every:,}"
        parts.append(f"every checkpoint that is not {' or '.join(part for part in (last, every) if part)}")
    elif rules.keep_best:
        parts.append("every checkpoint that `ncsnx fid` has scored and that is not the best")
    if rules.optimizer_last is not None:
        last = "the last" if rules.optimizer_last == 1 else f"the last {rules.optimizer_last:,}"
        parts.append(f"the optimizer states of all but {last}")
    return f"{', and '.join(parts)}; never the best or the last"


def _among_the_last(count: int) -> str:
    return "the last" if count == 1 else f"among the last {count:,}"


def _things(removed: Sequence[int], stripped: Sequence[int]) -> str:
    parts = []
    if removed:
        parts.append(f"the checkpoint{_of_steps(removed)}")
    if stripped:
        parts.append(f"the optimizer state{_of_steps(stripped)}")
    return " and ".join(parts) or "nothing"


def _of_steps(steps: Sequence[int]) -> str:
    return f"{'s of steps' if len(steps) > 1 else ' of step'} {in_words(steps)}"
