"""Findings and counts of an examination."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import attrs

from ncsnx.config.strict.complaints import NewerVersionError
from ncsnx.errors import AdvisedError, NcsnxError
from ncsnx.runs.checkpoints.leftovers import foreign_names, remove_leftover, was_checkpoint
from ncsnx.runs.checkpoints.manifest import UnsoundError, checkpoints
from ncsnx.runs.doctor.remedies import is_long_gone
from ncsnx.runs.folder import Run
from ncsnx.runs.resuming import CheckpointVerdict
from ncsnx.spelling import argument
from ncsnx.storage import reading
from ncsnx.work import Advance, Work

FindingKind = Literal[
    "unsound",
    "foreign",
    "damaged",
    "missing",
    "unreadable",
    "link",
    "untrainable",
    "leftover",
    "unknown",
    "beyond",
    "gone",
    "unfinished",
    "set-aside",
    "due",
    "begun",
    "hard-link",
    "busy",
]
NOTES: frozenset[FindingKind] = frozenset(
    {"unknown", "beyond", "gone", "unfinished", "set-aside", "due", "begun", "hard-link", "busy"}
)
"""Kinds of findings that leave the run sound."""

_MEBIBYTE = 2**20


@attrs.frozen
class Finding:
    """A problem of a run, or a note about it."""

    kind: FindingKind
    path: Path
    what: str
    """The problem, in words that follow the path."""
    advice: str
    """Instructions, or that there is nothing to do."""
    remedy: Callable[[], str | None] | None = None
    """Repairs it and returns a remark, or None. Raises NcsnxError if it can't be repaired."""
    repaired: bool = False

    @property
    def is_note(self) -> bool:
        """Whether the run is sound despite the finding."""
        return self.kind in NOTES


@attrs.define
class Examination:
    """An examination of a run: its findings, and counts of what was read."""

    run: Run
    work: Work
    writer: str | None = None
    """The process that is writing the run now; half-written files may be its own."""
    findings: list[Finding] = attrs.field(factory=list)
    verdicts: list[CheckpointVerdict] = attrs.field(factory=list)
    """Verdicts on the checkpoints, newest first."""
    is_readable: bool = True
    """Whether all checkpoints could be read, sound or not. Otherwise the step to resume from is unknown."""
    checkpoints: int = 0
    files: int = 0
    """Number of files that were hashed."""
    bytes: int = 0
    advance: Advance = lambda count=1, kept=False: None
    """Advances the progress display, in MiB."""

    @property
    def is_sound(self) -> bool:
        """Whether there are no problems, or all were repaired."""
        return all(finding.is_note or finding.repaired for finding in self.findings)

    def add(
        self, kind: FindingKind, path: Path, what: str, advice: str, remedy: Callable[[], str | None] | None = None
    ) -> None:
        """Adds a finding."""
        self.findings.append(Finding(kind, path, what, advice, remedy))

    def add_leftover(self, path: Path) -> None:
        """Adds a finding about something half written or half removed, unless it may be in progress."""
        if self.writer is not None:
            what = "is being written or removed, or was left by a killed process"
            self.add("busy", path, what, "repeat the command when the writer has ended")
            return
        if path.is_symlink() or not path.is_dir():
            self._add_removable(path, "`ncsnx train` or ")
            return
        is_checkpoint = was_checkpoint(path)
        inside = self.entries(path)
        try:
            foreign = foreign_names(path)
            is_young = not is_checkpoint and not is_long_gone(path)
        except OSError as error:
            self._add_unreadable(path, error)
            return
        if is_young:  # exports are written here without the lock
            what = "is being written, or was left by a killed process"
            self.add("busy", path, what, "repeat the command in ten minutes")
        elif foreign and (not is_checkpoint or len(foreign) == len(inside)):
            names = ", ".join(foreign)
            what = f"was half written or half removed, and still holds {names}, which ncsnx did not write there"
            self.add("unknown", path, what, "inspect that, then remove the folder; nothing reads it")
        else:
            self._add_removable(path, "`ncsnx train` or " if is_checkpoint else "")

    def _add_removable(self, path: Path, also: str) -> None:
        """also: what else removes it, besides a repair."""
        what = "was left half written or half removed by a killed process"
        advice = f"{also}{argument('repair', True)} removes it"
        self.add("leftover", path, what, advice, partial(remove_leftover, path))

    def watch(self, count: int) -> None:
        """Counts hashed bytes; raises Stopped after a stop request."""
        before = self.bytes // _MEBIBYTE
        self.bytes += count
        if (more := self.bytes // _MEBIBYTE - before) > 0:
            self.advance(more)
        self.work.check_stop()

    def steps(self) -> list[int]:
        """Steps of the run's checkpoints, ascending; empty if they can't be listed."""
        try:
            return checkpoints(self.run)
        except NcsnxError:
            return []  # reported as a separate finding

    def entries(self, folder: Path) -> list[reading.Entry]:
        """Entries of a folder of the run; empty, with a finding, if it can't be read."""
        try:
            return reading.entries(folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            if folder.is_symlink():
                self.add("link", folder, "is a symbolic link, and those are not followed in a run", "remove the link")
            else:
                self._add_unreadable(folder, error)
            return []

    def _add_unreadable(self, path: Path, error: OSError) -> None:
        advice = "make it readable, then repeat the command"
        self.add("unreadable", path, f"cannot be read: {error.strerror}", advice)

    @contextmanager
    def reading(self, path: Path, kind: FindingKind, advice: str) -> Iterator[None]:
        """Turns errors of the block into findings with this advice; a file of a newer ncsnx has its own advice."""
        try:
            yield
        except UnsoundError as error:
            self.add("unsound", path, without_path(str(error), path), advice)
        except FileNotFoundError:
            self.add("missing", path, "is missing", advice)
        except NcsnxError as error:
            said = error.message if isinstance(error, AdvisedError) else str(error)
            advice = error.advice if isinstance(error, NewerVersionError) else advice
            self.add(kind, path, without_path(said, path), advice)


def without_path(text: str, path: Path) -> str:
    """`text` without the path at its beginning."""
    unread = f"cannot read {path}: "
    if text.startswith(unread):
        return f"cannot be read: {text.removeprefix(unread)}"
    return text.removeprefix(f"{path}: ").removeprefix(f"{path} ").removeprefix(f"{path}, ")
