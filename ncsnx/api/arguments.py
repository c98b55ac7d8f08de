"""Arguments of the Python interface: what may be given in several forms, and what has the wrong class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncsnx.config.checks import quoted
from ncsnx.config.data_sets import LARGEST_SIDE, is_possible_size
from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import ImageSize, as_image_size, is_image_size
from ncsnx.config.provenance import remember_origins
from ncsnx.config.sampler import Sampler
from ncsnx.errors import UsageError
from ncsnx.jobs.targets import find_target
from ncsnx.runs.folder import Run
from ncsnx.runs.names import runs_folder
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


def experiment(name: Run | Path | str, *changes: str, runs: Path | str | None = None) -> Experiment:
    """The experiment that a name means on the command line, with changes: `experiment("digits", "steps=50")`.

    name: a registered name, `FILE.py`, `FILE.py:NAME`, or a run: its path, such as `runs/digits`, or a Run.
    changes: FIELD=VALUE, converted to the field's type and checked; later, `attrs.evolve` does the same with values.
    runs: the runs folder; default: NCSNX_RUNS, else ./runs.

    In a notebook an experiment shows its fields, with their origins if it comes from here. Imports no torch. Raises
    UsageError for an unknown name or field, NcsnxError for a broken file.
    """
    found = find_target(typed_target(name), runs_folder(runs), checked_changes(changes))
    remember_origins(found.experiment, found.origins)
    return found.experiment
