"""The contract of trackers: a class that opens a record of a run in some package and adds to it.

    @tracker("wandb", requires="wandb", install=".[wandb]")
    class WandbTracker(Tracker):
        ...

The files of the run are the truth, and the record is their copy: `ncsnx.tracking.sending` decides what is sent. A
tracker runs in a thread of its own, so it may be slow, fail or hang. Modules of `ncsnx.tracking.trackers` are found
automatically; those of installed packages by their entry point in the group `ncsnx.trackers`.
"""

import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import attrs

from ncsnx.config.variants import plugin_errors
from ncsnx.errors import Hint, UsageError, shortened
from ncsnx.registering import import_modules_of
from ncsnx.runs.folder import Run
from ncsnx.spelling import argument

PROJECT = "ncsnx"
"""Project of the records, where the tracker's own environment variable names none."""
PLUGIN_GROUP = "ncsnx.trackers"
"""The group of entry points."""
_TAG = re.compile("[a-z][a-z0-9-]{0,30}")
"""Tags name files."""


@attrs.frozen(kw_only=True)
class TrackedRun:
    """A run, as a tracker sees it when it opens its record."""

    name: str
    """Name of the run when the record was begun."""
    record: str
    """Key of the record: 16 hexadecimal digits that no other run has, the same in every process that continues it."""
    config: Mapping[str, object]
    """Dotted path → JSON value of the experiment; path of a sweep, such as fid/n1000-…, → its protocol in words."""


class Tracker(ABC):
    """An open record. The constructor opens it: a new one, or the one that `run.record` is the key of.

    Any exception ends the tracker, not the training.
    """

    hint: str = ""
    """The address of the record, or a command that shows it or sends it on; one line."""

    @abstractmethod
    def __init__(self, run: TrackedRun) -> None: ...

    @abstractmethod
    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Adds finite numbers of a training step, by series, such as 'loss/training_raw'.

        Steps of a series ascend; those of scores (fid/…, likelihood/…, loss/n…) come in any order.
        """

    @abstractmethod
    def image(self, step: int, name: str, file: Path) -> None:
        """Adds a PNG of a training step. Steps ascend."""

    @abstractmethod
    def close(self) -> None:
        """Stores everything that is on its way and closes the record."""


T = TypeVar("T", bound=type[Tracker])


@attrs.define(eq=False, kw_only=True)
class RegisteredTracker:
    """A tracker, and what it needs. It is the decorator `tracker`, which registers the class.

    The decorator raises ValueError for a tag that is taken, or isn't lower-case letters, digits and '-'.
    """

    tag: str = attrs.field(kw_only=False)
    requires: str | None = None
    """Module that must be installed; import it in the constructor, not at the top."""
    install: str | None = attrs.field(default=attrs.Factory(lambda self: self.requires, takes_self=True))
    """The package that `pip install` takes; by default the module."""
    open: Callable[[TrackedRun], Tracker] = attrs.field(init=False)

    def __call__(self, cls: T) -> T:
        """Registers the class, and returns it unchanged."""
        if not _TAG.fullmatch(self.tag):
            raise ValueError(f"a tracker cannot have the tag {self.tag!r}")
        if self.tag in _trackers:
            raise ValueError(f"a tracker {self.tag!r} already exists")
        self.open = cls
        _trackers[self.tag] = self
        return cls

    @property
    def is_installed(self) -> bool:
        """Whether the module it requires can be imported. Doesn't import it."""
        if self.requires is None:
            return True
        found = find_spec(self.requires)
        return found is not None and found.origin is not None  # a folder ./wandb is a module too, without an origin


tracker = RegisteredTracker
_trackers: dict[str, RegisteredTracker] = {}


def all_trackers() -> tuple[dict[str, RegisteredTracker], list[str]]:
    """All trackers by tag, and a line for each package whose module can't be imported."""
    import_modules_of("ncsnx.tracking.trackers")
    errors = plugin_errors(PLUGIN_GROUP)
    return dict(sorted(_trackers.items())), errors


def known_tracker(tag: str, name: str = "track") -> RegisteredTracker:
    """The tracker of this tag. name: the parameter, for errors. Raises UsageError if it is unknown or not installed."""
    known, errors = all_trackers()
    if (found := known.get(tag)) is None:
        *others, last = known
        raise UsageError(
            f"there is no tracker {shortened(tag)!a}; expected {', '.join(others)} or {last}"
            + "".join(f"; {error}" for error in errors),
            *(Hint("did you mean", adds=argument(name, near)) for near in get_close_matches(tag, known, 1)),
        )
    if not found.is_installed:
        raise UsageError(
            f"{tag} is not installed: the module {found.requires} is missing",
            Hint("install it", f"pip install {shlex.quote(found.install or '')}"),
        )
    return found


def known_trackers(tags: Sequence[str], name: str = "track") -> tuple[str, ...]:
    """The tags without repetitions. Raises as `known_tracker`."""
    for tag in tags:
        known_tracker(tag, name)
    return tuple(dict.fromkeys(tags))


def noted_trackers(run: Run) -> tuple[str, ...]:
    """The trackers that have a record of the run."""
    return tuple(sorted(path.stem for path in run.trackers.glob("*.json")))
