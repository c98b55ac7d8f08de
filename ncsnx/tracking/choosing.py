"""Which trackers a run uses: as typed, or as the run's last start used them."""

import shlex
from collections.abc import Sequence
from difflib import get_close_matches

from ncsnx.config.checks import shortened
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.runs.folder import Run, open_results
from ncsnx.runs.result_records import CHOICE, MOST_TRACKERS, TrackerChoice
from ncsnx.spelling import argument, parameter
from ncsnx.storage.documents import read_document, write_document
from ncsnx.tracking.tracker import RegisteredTracker, all_trackers, find_tracker


def known_trackers(tags: Sequence[str], name: str) -> tuple[str, ...]:
    """The tags without repetitions, each known and installed. name: the parameter, for errors. Raises UsageError."""
    tags = tuple(dict.fromkeys(tags))
    if len(tags) > MOST_TRACKERS:
        raise UsageError(f"{parameter(name)} must be at most {MOST_TRACKERS} trackers, not {len(tags):,}")
    for tag in tags:
        _require_installed(known_tracker(tag, name))
    return tags


def recorded_trackers(run: Run) -> tuple[tuple[str, ...], list[str]]:
    """The trackers that the run's last start used and that are installed, and a warning for each other."""
    path = run.trackers / CHOICE
    try:
        tags = read_document(path, TrackerChoice).trackers
    except FileNotFoundError:
        return (), []
    except NcsnxError as error:
        return (), [f"no tracker is used: {error}"]
    usable, warnings = [], []
    for tag in tags[:MOST_TRACKERS]:
        try:
            _require_installed(known_tracker(tag, "track"))
            usable.append(tag)
        except UsageError as error:
            warnings.append(f"the run is not tracked: {error}")
    return tuple(usable), warnings


def record_trackers(run: Run, tags: Sequence[str]) -> None:
    """Makes these the run's trackers, for this start and later ones. Raises NcsnxError."""
    if tags or (run.trackers / CHOICE).exists():
        open_trackers(run)
        write_document(run.trackers / CHOICE, TrackerChoice(trackers=tuple(tags)))


def open_trackers(run: Run) -> None:
    """Makes the folder of the run's trackers, if it doesn't exist. Raises NcsnxError."""
    open_results(run.trackers)


def known_tracker(tag: str, name: str) -> RegisteredTracker:
    """The tracker of this tag. name: the parameter, for errors. Raises UsageError."""
    found = find_tracker(tag)
    if found is not None:
        return found
    known, errors = all_trackers()
    tags = [one.tag for one in known]
    near = get_close_matches(tag, tags, 1)
    raise UsageError(
        f"there is no tracker {shortened(tag)!a}; expected {', '.join(tags[:-1])} or {tags[-1]}"
        + "".join(f"; {error}" for error in errors),
        *(Hint("did you mean", adds=argument(name, one)) for one in near),
    )


def _require_installed(found: RegisteredTracker) -> None:
    if not found.is_installed:
        install = shlex.quote(found.install or "")
        raise UsageError(
            f"{found.tag} is not installed: the module {found.requires} is missing",
            Hint("install it", f"pip install {install}"),
        )
