"""Records of a run about its trackers: which ones it uses, and what each has been sent.

    trackers/active.json  wandb.json

The file of a tracker is written by the process that sends, under the lock of its own.
"""

import re
from pathlib import Path

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import VERSION
from ncsnx.runs.folder import Run
from ncsnx.storage.documents import document

CHOICE = "active.json"
MOST_TRACKERS = 16
_IS_KEY = checks.accepting("16 hexadecimal digits", re.compile("[0-9a-f]{16}").fullmatch, str)


@document("a run's choice of trackers", advice="remove it, and choose the trackers again")
@attrs.frozen(kw_only=True)
class TrackerChoice:
    """Content of active.json."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    trackers: tuple[str, ...]
    """Tags of the trackers that the next start uses."""


@document("the notes of a tracker", advice="remove it to begin a new record")
@attrs.frozen(kw_only=True)
class TrackerNotes:
    """Content of TAG.json."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    name: str = attrs.field(validator=checks.name)
    """Name of the run when the record was begun."""
    record: str = attrs.field(validator=_IS_KEY)
    """Key of the record in the tracker."""
    sent: dict[str, int] = attrs.field(factory=dict)
    """Series → the last step that was sent."""
    scores: dict[str, tuple[int, ...]] = attrs.field(factory=dict)
    """Path of a sweep over checkpoints in the run → the steps that were sent."""


def choice_path(run: Run) -> Path:
    """The file with the run's choice of trackers."""
    return run.trackers / CHOICE


def notes_path(run: Run, tag: str) -> Path:
    """The file with a tracker's notes."""
    return run.trackers / f"{tag}.json"
