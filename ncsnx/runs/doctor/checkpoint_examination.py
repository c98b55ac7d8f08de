"""The checkpoints of a run: every hash, whose they are, and what lies among them."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from ncsnx.config.codec import identity
from ncsnx.config.experiment import Experiment
from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.leftovers import OURS
from ncsnx.runs.checkpoints.manifest import (
    STATE,
    Manifest,
    UnsoundError,
    checkpoints,
    read_manifest,
    read_state,
    strangers,
    verify_file,
)
from ncsnx.runs.checkpoints.removal import finish_checkpoint, finish_files, half_written, is_half_removed, leftovers
from ncsnx.runs.checkpoints.weight_sizes import weight_sizes
from ncsnx.runs.doctor.examined import Examination, without_path
from ncsnx.runs.doctor.remedies import move_aside
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name, step_of
from ncsnx.spelling import argument
from ncsnx.storage import atomic, reading

_SET_ASIDE = re.compile(r"step-[0-9]{8,}\.unsound-[0-9]+")


def total_bytes(run: Run) -> int:
    """The bytes of all checkpoints, by their manifests."""
    total = 0
    with suppress(NcsnxError):
        for step in checkpoints(run):
            with suppress(NcsnxError):
                files = read_manifest(run.checkpoints / step_name(step)).files
                total += sum(record.size for record in files.values())
    return total


def examine_checkpoints(found: Examination) -> None:
    """Verifies every file of every checkpoint, the newest first, and names what else lies there."""
    experiment = _experiment(found.run)
    for entry in reversed(found.entries(found.run.checkpoints)):
        step = step_of(entry.name)
        if step is not None:
            _examine_checkpoint(found, step, entry.path, experiment)
        elif is_half_removed(entry):
            _examine_half_removed(found, entry.path)
        elif atomic.is_temporary(entry.name):
            found.add_leftover(entry.path)
        elif _SET_ASIDE.fullmatch(entry.name):
            found.add("set-aside", entry.path, "was unsound when its step was written again", "it may be deleted")
        elif not entry.name.startswith("."):
            found.add("unknown", entry.path, "isn't a checkpoint", "ncsnx leaves it alone")


def _experiment(run: Run) -> Experiment | None:
    try:
        return run.experiment()
    except NcsnxError:
        return None  # has a finding of its own


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
            return  # the trainer's retention has removed it meanwhile
        found.verdicts.append((step, error))
        found.add(
            "unsound",
            folder,
            without_path(str(error), folder).removeprefix(f"{folder}/"),
            f"nothing is made of it; bring it back from a copy, or let "
            f"{argument('repair', True)} move it into unsound/",
            partial(move_aside, found.run, folder) if found.writer is None else None,
        )
        return
    except NcsnxError as error:
        found.add("unreadable", folder, without_path(str(error), folder), "fix that, then ask again")
        found.is_readable = False
        return
    found.verdicts.append((step, manifest))
    expected = None if experiment is None else identity(experiment)
    if expected is not None and (state.get("identity"), state.get("step")) != (expected, step):
        whose = f"another {'step' if state.get('identity') == expected else 'experiment'}"
        advice = f"nothing uses it; move it away, or bring back {found.run.config_path} if that isn't the run's own"
        found.add("foreign", folder / STATE, f"is that of {whose}", advice)
    _examine_surroundings(found, folder, manifest)


def _problems(found: Examination, folder: Path, manifest: Manifest) -> list[str]:
    """What is wrong with each file. Raises NcsnxError for one that can't be read."""
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


def _examine_surroundings(found: Examination, folder: Path, manifest: Manifest) -> None:
    """What lies in a sound checkpoint's folder without belonging to it, or not any more."""
    try:
        left = leftovers(folder, manifest)
        for name in half_written(folder):
            found.add_leftover(folder / name, partial(finish_files, folder))
        for name in strangers(folder, manifest):
            found.add(
                "unknown", folder / name, "isn't part of the checkpoint", "ncsnx leaves it, and its folder, alone"
            )
    except (NcsnxError, OSError) as error:
        found.add("unreadable", folder, f"can't be looked into: {error}", "fix that, then ask again")
        return
    if manifest.removing:
        names = ", ".join(left)
        what = f"has a removal that was interrupted, with {names} still there" if left else "has an unended removal"
        _add_half_removed(found, folder, what, partial(_end_removal_of_files, folder))
    for name in manifest.removed:
        if name not in left and os.path.lexists(folder / name):
            advice = "nothing reads it; to use it, bring back the manifest of that time too; else it may be deleted"
            found.add("restored", folder / name, "is there, though the manifest says that it was removed", advice)


def _examine_half_removed(found: Examination, folder: Path) -> None:
    what = "is what an interrupted removal left of a checkpoint"
    try:
        names = {entry.name for entry in reading.entries(folder)}
        if names and not names & OURS:
            what = f"was a checkpoint; it still holds {', '.join(sorted(names))}, which ncsnx didn't write there"
            found.add("unknown", folder, what, "nothing reads it: look at that, and remove the folder")
            return
        known = read_manifest(folder) if names else None
    except (NcsnxError, OSError) as error:
        found.add("half-removed", folder, f"{what}, and can't be told by its manifest: {error}", "look and remove it")
        return
    if known is not None and (foreign := strangers(folder, known)):
        what += f", with {', '.join(foreign)}, which ncsnx didn't write"
    _add_half_removed(found, folder, what, partial(_end_removal, folder))


def _end_removal(folder: Path) -> str | None:
    remark = finish_checkpoint(folder)
    step_folder = folder.with_name(folder.name.split(".")[1])
    return remark or ("it was whole, and is back" if step_folder.exists() else None)


def _end_removal_of_files(folder: Path) -> str:
    finish_files(folder)
    return "what was still there is back, and what was gone is declared removed"


def _add_half_removed(found: Examination, path: Path, what: str, remedy: Callable[[], str | None]) -> None:
    if found.writer is not None:
        found.add("busy", path, f"{what}, or is being removed now", "ask again when the writer has ended")
    else:
        advice = f"`ncsnx train` or {argument('repair', True)} ends it, or brings back what is whole still"
        found.add("half-removed", path, what, advice, remedy)
