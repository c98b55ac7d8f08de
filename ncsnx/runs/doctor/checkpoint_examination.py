"""Examines the checkpoints of a run: every hash, the experiment they belong to, and foreign files."""

import os
import re
from contextlib import suppress
from functools import partial
from pathlib import Path

from ncsnx.config.codec import identity
from ncsnx.config.experiment import Experiment
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
from ncsnx.runs.checkpoints.weight_sizes import weight_sizes
from ncsnx.runs.doctor.examined import Examination, without_path
from ncsnx.runs.doctor.remedies import move_aside
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name, step_of
from ncsnx.runs.resuming import has_lost_state
from ncsnx.spelling import argument
from ncsnx.storage import atomic

_SET_ASIDE = re.compile(r"step-[0-9]{8,}\.unsound-[0-9]+")


def total_bytes(run: Run) -> int:
    """Size of all checkpoints in bytes, by their manifests."""
    total = 0
    with suppress(NcsnxError):
        for step in checkpoints(run):
            with suppress(NcsnxError):
                files = read_manifest(run.checkpoints / step_name(step)).files
                total += sum(record.bytes for record in files.values())
    return total


def examine_checkpoints(found: Examination) -> None:
    """Verifies every file of every checkpoint, newest first, and lists foreign files."""
    experiment = _experiment(found.run)
    for entry in reversed(found.entries(found.run.checkpoints)):
        step = step_of(entry.name)
        if step is not None:
            _examine_checkpoint(found, step, entry.path, experiment)
        elif atomic.is_temporary(entry.name):
            found.add_leftover(entry.path)
        elif _SET_ASIDE.fullmatch(entry.name):
            found.add(
                "set-aside",
                entry.path,
                "was unsound or without optimizer state when its step was written again",
                "nothing to do: it may be deleted",
            )
        elif not entry.name.startswith("."):
            found.add("unknown", entry.path, "is not a checkpoint", "nothing to do: ncsnx ignores it")
    if experiment is not None:
        _examine_optimizer_states(found, experiment)


def _examine_optimizer_states(found: Examination, experiment: Experiment) -> None:
    """Finds lost optimizer states, and notes missing ones that the run's rules don't explain."""
    if found.writer is not None:
        return  # the writer's retention may have removed them
    without = []
    for number, (step, manifest) in enumerate(found.verdicts):
        if isinstance(manifest, UnsoundError) or manifest.is_trainable:
            continue
        if has_lost_state(experiment, number, manifest):
            path = found.run.checkpoints / step_name(step) / OPTIMIZER
            advice = "restore it from a backup; without it training cannot resume from this checkpoint"
            found.add("missing", path, "is missing", advice)
        else:
            without.append(step)
    if without and experiment.retention.optimizer_last is None:
        what = f"has checkpoints without optimizer state, of steps {in_words(sorted(without))}"
        advice = "nothing to do: they can be sampled and scored, but training cannot resume from them"
        found.add("gone", found.run.checkpoints, what, advice)


def _experiment(run: Run) -> Experiment | None:
    try:
        return run.experiment()
    except NcsnxError:
        return None  # reported as a separate finding


def _examine_checkpoint(found: Examination, step: int, folder: Path, experiment: Experiment | None) -> None:
    found.checkpoints += 1
    try:
        manifest = read_manifest(folder, None if experiment is None else weight_sizes(experiment))
        problems = _problems(found, folder, manifest)
        if problems:
            raise UnsoundError("; ".join(problems))
        state = read_state(folder, manifest)
    except UnsoundError as error:
        if found.writer is not None and not os.path.lexists(folder):
            return  # the writer's retention has removed it
        found.verdicts.append((step, error))
        found.add(
            "unsound",
            folder,
            without_path(str(error), folder).removeprefix(f"{folder}/"),
            f"restore it from a backup, or let {argument('repair', True)} move it into unsound/; ncsnx does not use it",
            partial(move_aside, found.run, folder) if found.writer is None else None,
        )
        return
    except NcsnxError as error:
        found.add("unreadable", folder, without_path(str(error), folder), "fix that, then repeat the command")
        found.is_readable = False
        return
    found.verdicts.append((step, manifest))
    expected = None if experiment is None else identity(experiment)
    if expected is not None and (state.get("identity"), state.get("step")) != (expected, step):
        whose = f"another {'step' if state.get('identity') == expected else 'experiment'}"
        advice = f"move it away, since nothing uses it, or restore {found.run.config_path} if that is the wrong file"
        found.add("foreign", folder / STATE, f"belongs to {whose}", advice)
    for entry in found.entries(folder):
        if atomic.is_temporary(entry.name):
            found.add_leftover(entry.path)
        elif not entry.name.startswith(".") and entry.name not in (*manifest.files, MANIFEST):
            advice = "move it away; until then retention keeps this checkpoint"
            found.add("unknown", entry.path, "is not part of the checkpoint", advice)


def _problems(found: Examination, folder: Path, manifest: Manifest) -> list[str]:
    """Problems of a checkpoint's files. Raises NcsnxError for an unreadable file."""
    problems = []
    for name in (*manifest.files, *({STATE} - set(manifest.files))):
        try:
            if name in manifest.files:
                found.files += 1
                verify_file(folder, manifest, name, found.watch)
            else:
                problems.append(f"its manifest lists no {name}")
        except UnsoundError as error:
            problems.append(without_path(str(error), folder).removeprefix(f"{folder}/"))
    return problems
