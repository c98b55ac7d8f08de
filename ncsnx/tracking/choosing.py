"""Which trackers a run uses: as typed, or those that have a record of it."""

import shlex
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from ncsnx.errors import Hint, UsageError, shortened
from ncsnx.runs.folder import Run, open_results
from ncsnx.spelling import argument
from ncsnx.tracking.tracker import RegisteredTracker, all_trackers, find_tracker


def known_trackers(tags: Sequence[str], name: str = "track") -> tuple[str, ...]:
    """The tags without repetitions, each known and installed. name: the parameter, for errors. Raises UsageError."""
    tags = tuple(dict.fromkeys(tags))
    for tag in tags:
        _require_installed(known_tracker(tag, name))
    return tags


def noted_trackers(run: Run) -> tuple[str, ...]:
    """The trackers that have a record of the run."""
    return tuple(sorted(path.stem for path in run.trackers.glob("*.json")))


def usable_trackers(run: Run, warn: Callable[[str], None]) -> tuple[str, ...]:
    """The trackers that have a record of the run and can continue it here: a training continues without the others."""
    usable: list[str] = []
    for tag in noted_trackers(run):
        try:
            usable += known_trackers([tag])
        except UsageError as error:
            warn(f"the training continues without {tag}: {error.message}")
    return tuple(usable)


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
