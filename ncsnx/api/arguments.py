"""Arguments of the Python interface: what may be given in several forms, and what has the wrong class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncsnx.config.checks import quoted
from ncsnx.config.data_sets import LARGEST_SIDE, is_possible_size
from ncsnx.config.image_sizes import ImageSize, as_image_size, is_image_size
from ncsnx.config.sampler import Sampler
from ncsnx.errors import UsageError
from ncsnx.runs.folder import Run
from ncsnx.spelling import parameter


def require_kind(name: str, value: object, kind: type, expected: str) -> None:
    """Raises UsageError for an argument of another class. expected: what it must be, in words."""
    if not isinstance(value, kind):
        raise UsageError(f"{name} must be {expected}, not {quoted(value)}")


def require_sampler(sampler: object) -> None:
    """Raises UsageError for what isn't a sampler, such as its tag."""
    require_kind("sampler", sampler, Sampler, "a configuration such as ncsnx.config.Heun(), or 'fast'")


def typed_target(target: Run | Path | str) -> str:
    """An experiment or a run as it is typed; a path never means a name. Raises UsageError for anything else."""
    if isinstance(target, str):
        return target
    path = target.path if isinstance(target, Run) else target
    require_kind("experiment", path, Path, "an Experiment, a Run, a path or a name")
    return str(path) if path.suffix == ".py" else str(path.absolute())


def checked_changes(changes: Sequence[str]) -> list[str]:
    """The changes of an experiment, each a word FIELD=VALUE. Raises UsageError for anything else, such as a list."""
    for change in changes:
        require_kind("a change", change, str, 'a string of its own, as in "digits", "steps=50", "seed=1"')
    return list(changes)


def as_tags(given: Sequence[str]) -> Sequence[str]:
    """Tags, of which a single one may be given as a string."""
    return (given,) if isinstance(given, str) else given


def image_size_of(size: Any) -> ImageSize | None:
    """A size that was given; a pair of equal numbers becomes the one number. Raises UsageError for other values."""
    found = as_image_size(size)
    if found is not None and not (is_image_size(found) and is_possible_size(found)):
        raise UsageError(
            f"{parameter('size')} {quoted(size)}: expected a number of pixels, or (height, width), from 1 to "
            f"{LARGEST_SIDE:,}"
        )
    checked: ImageSize | None = found
    return checked
