"""`register` makes an experiment known under its name."""

import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import attrs

from ncsnx.config import provenance
from ncsnx.config.codec import ConfigError, flatten, structure, unstructure
from ncsnx.config.experiment import Experiment
from ncsnx.config.provenance import Provenance
from ncsnx.config.variants import Config


@attrs.frozen
class Registered:
    """A registered experiment with the place of its registration and the origins of its values."""

    experiment: Experiment
    file: str
    line: int
    origins: dict[str, str]
    """Dotted path → 'default', 'FILE:LINE' or 'command line'."""

    @property
    def where(self) -> str:
        """FILE:LINE of the registration."""
        return f"{self.file}:{self.line}"


class Collector:
    """Collects the experiments that a file registers while it is executed."""

    def __init__(self, seen: Provenance) -> None:
        self.seen = seen
        self.registered: list[Registered] = []


collecting: ContextVar[Collector | None] = ContextVar("collecting", default=None)


def register(experiment: Experiment) -> Experiment:
    """Checks an experiment, makes it known under its name, and returns it.

    Raises ConfigError (with FILE:LINE) for values that their declared types don't accept, and for a name that the file
    has already registered.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and not provenance.is_in_file(frame.f_code):
        frame = frame.f_back  # up to the line of the file
    file, line = frame.f_code.co_filename, frame.f_lineno
    where = f"{file}:{line}"
    if not isinstance(experiment, Experiment):
        raise ConfigError([("", f"register expects an Experiment, found {type(experiment).__name__}")], where)
    try:
        with provenance.paused():  # looking up the callers in the codec would parse the library's sources
            checked = structure(unstructure(experiment), Experiment)
    except ConfigError as error:
        place = f"{where}: experiment {experiment.name!r}"
        raise ConfigError(error.problems, place, error.advice, error.more) from error
    collector = collecting.get()
    if collector is not None:
        for other in collector.registered:
            if other.experiment.name == checked.name:
                raise ConfigError([("", f"{checked.name!r} is already registered, at {other.where}")], where)
        origins = origins_of(experiment, collector.seen, where)
        collector.registered.append(Registered(checked, file, line, origins))
    return experiment


def origins_of(config: Config, seen: Provenance, owner: str) -> dict[str, str]:
    """Dotted path → origin for every value of a configuration object.

    owner: the origin of values of objects that `seen` lacks, such as objects made before the file was executed.
    """
    rows = {path for path, _ in flatten(unstructure(config))}
    return {path: origin for path, origin in _all_origins(config, seen, owner) if path in rows}


def _all_origins(config: Config, seen: Provenance, owner: str) -> Iterator[tuple[str, str]]:
    """(path, origin) of every field, whether or not the saved form has it."""
    known = seen.of(config)
    for field in attrs.fields(type(config)):
        value = getattr(config, field.name)
        origin = known.get(field.name) or (provenance.DEFAULT if provenance.is_default(field, value) else owner)
        yield field.name, origin
        if isinstance(value, Config):
            yield from ((f"{field.name}.{path}", inner) for path, inner in _all_origins(value, seen, origin))


def relative(origin: str) -> str:
    """An origin with its file relative to the current folder, if it is inside."""
    try:
        return str(Path(origin).relative_to(Path.cwd()))
    except (ValueError, OSError):  # outside; or the current folder no longer exists
        return origin
