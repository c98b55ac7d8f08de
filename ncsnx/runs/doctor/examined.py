"""What an examination of a run finds, and what it counts."""

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
"""Kinds that a person should know of, and that leave the run sound."""

_MEBIBYTE = 2**20


@attrs.frozen
class Finding:
    """Something that isn't as it should be, or that a person may want to know."""

    kind: FindingKind
    path: Path
    what: str
    """In words that follow the path."""
    advice: str
    """What can be done, or that nothing need be."""
    remedy: Callable[[], str | None] | None = None
    """Repairs it. Returns what came of it, for a person; raises NcsnxError where it can't be done."""
    repaired: bool = False

    @property
    def is_note(self) -> bool:
        """Whether the run is sound all the same."""
        return self.kind in NOTES


@attrs.define
class Examination:
    """One look at a run: what is read is counted, what is found is kept."""

    run: Run
    work: Work
    writer: str | None = None
    """Who writes the run at this moment; what looks half done may be his."""
    findings: list[Finding] = attrs.field(factory=list)
    verdicts: list[CheckpointVerdict] = attrs.field(factory=list)
    """Of the checkpoints, the newest first."""
    is_readable: bool = True
    """Whether all checkpoints could be read, sound or not: else nobody can tell where a training would go on."""
    checkpoints: int = 0
    files: int = 0
    """Files whose hash was computed."""
    bytes: int = 0
    advance: Advance = lambda count=1, kept=False: None
    """Of the progress on show, in MiB."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong, or nothing any more."""
        return all(finding.is_note or finding.repaired for finding in self.findings)

    def add(
        self, kind: FindingKind, path: Path, what: str, advice: str, remedy: Callable[[], str | None] | None = None
    ) -> None:
        """Keeps a finding."""
        self.findings.append(Finding(kind, path, what, advice, remedy))

    def add_leftover(self, path: Path) -> None:
        """Keeps the finding of something half done, which while the run is being written may be somebody's work."""
        if self.writer is not None:
            what = "is being written or removed, or was left by a killed process"
            self.add("busy", path, what, "ask again when the writer has ended")
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
            self.add("unreadable", path, f"cannot be read: {error.strerror}", "make it readable, then ask again")
            return
        if is_young:  # exports are written here without the lock
            what = "is being written, or was left by a killed process"
            self.add("busy", path, what, "ask again in ten minutes")
        elif foreign and (not is_checkpoint or len(foreign) == len(inside)):
            names = ", ".join(foreign)
            what = f"was half written or half removed, and still holds {names}, which ncsnx did not write there"
            self.add("unknown", path, what, "nothing reads it: look at that, and remove the folder")
        else:
            self._add_removable(path, "`ncsnx train` or " if is_checkpoint else "")

    def _add_removable(self, path: Path, also: str) -> None:
        """also: what removes it besides a repair."""
        what = "was left half written or half removed by a killed process"
        advice = f"{also}{argument('repair', True)} removes it"
        self.add("leftover", path, what, advice, partial(remove_leftover, path))

    def watch(self, count: int) -> None:
        """Counts bytes that were hashed; ends the examination by raising, if it is to stop."""
        before = self.bytes // _MEBIBYTE
        self.bytes += count
        if (more := self.bytes // _MEBIBYTE - before) > 0:
            self.advance(more)
        self.work.check_stop()

    def steps(self) -> list[int]:
        """The steps of the run's checkpoints, ascending; none where they can't be listed."""
        try:
            return checkpoints(self.run)
        except NcsnxError:
            return []  # has a finding of its own

    def entries(self, folder: Path) -> list[reading.Entry]:
        """What lies in a folder of the run; nothing, with a finding, where that can't be read."""
        try:
            return reading.entries(folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            if folder.is_symlink():
                self.add("link", folder, "is a symbolic link, and those are not followed in a run", "remove the link")
            else:
                self.add("unreadable", folder, f"cannot be read: {error.strerror}", "make it readable, then ask again")
            return []

    @contextmanager
    def reading(self, path: Path, kind: FindingKind, advice: str) -> Iterator[None]:
        """Makes a finding of what is wrong with what the block reads, with this advice: a newer ncsnx has its own."""
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
    """What is said about `path`, without the path where it comes first."""
    unread = f"cannot read {path}: "
    if text.startswith(unread):
        return f"cannot be read: {text.removeprefix(unread)}"
    return text.removeprefix(f"{path}: ").removeprefix(f"{path} ").removeprefix(f"{path}, ")
