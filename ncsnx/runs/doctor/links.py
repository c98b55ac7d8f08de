"""Examines hard links: files of a run that have other names, in the run or elsewhere."""

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shlex import quote

from ncsnx.quantities import counted
from ncsnx.runs.doctor.examined import Examination
from ncsnx.runs.fast_sampler import TRIALS
from ncsnx.runs.writer_lock import folder_lock
from ncsnx.spelling import argument
from ncsnx.storage import atomic, reading

_SHOWN = 3


def examine_hard_links(found: Examination) -> None:
    """Examines every file in the run's folder.

    Hard links are only a note: backups make them to store equal files once, and ncsnx replaces files instead of
    changing them. It appends to a few files, but not while they have another name.
    """
    run = found.run
    appended = (run.segments_path, run.metrics_path, run.log_path)
    others = []
    for path, count in _with_further_names(found):
        if path in appended or (path.parent.parent == run.compare and path.name == TRIALS):
            what = f"has {counted(count, 'name')} (hard links), so ncsnx does not append to it"
            advice = f"{argument('repair', True)} makes it a separate file; reading the run does not need that"
            found.add("hard-link", path, what, advice, _remedy(found, path))
        else:
            others.append(path)
    if not others:
        return
    advice = f"nothing to do if a backup made it so; otherwise copy the run: cp -r {quote(str(run.path))} COPY"
    if len(others) == 1:
        found.add("hard-link", others[0], "has another name (a hard link), under which it can be changed", advice)
        return
    names = ", ".join(str(path.relative_to(run.path)) for path in others[:_SHOWN])
    more = f" and {len(others) - _SHOWN:,} more" if len(others) > _SHOWN else ""
    files = counted(len(others), "file")
    what = f"has {files} with other names (hard links), under which they can be changed: {names}{more}"
    found.add("hard-link", run.path, what, advice)


def _with_further_names(found: Examination) -> list[tuple[Path, int]]:
    """(file, number of its names) by path, hidden files last; without unreadable folders."""
    there = []
    for folder, _, names in os.walk(found.run.path):
        found.work.check_stop()
        for name in names:
            path = Path(folder, name)
            try:
                status = path.lstat()
            except OSError:
                continue  # just removed
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                there.append((path, status.st_nlink))
    return sorted(there, key=lambda one: (one[0].name.startswith("."), one[0]))


def _remedy(found: Examination, path: Path) -> Callable[[], str] | None:
    if found.writer is not None:
        return None
    return partial(_make_own, path, None if path.parent == found.run.path else path.parent)


def _make_own(path: Path, to_lock: Path | None) -> str:
    """Replaces the file by a copy of itself. to_lock: the folder to lock, if any. Raises NcsnxError, OSError."""
    if to_lock is not None:
        with folder_lock(to_lock, str(to_lock)):
            return _make_own(path, None)
    atomic.write_bytes(path, reading.read_bytes(path, reading.RECORDS_LIMIT))
    return "it is a separate file now; the other name is unchanged"
