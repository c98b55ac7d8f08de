"""Executes an experiment file and collects the experiments that it gives to `register`.

The source is read once and that text is compiled, so that stale bytecode is never used. The module's name comes from
the file's real path, so that two files of the same name never share classes. The file's folder isn't added to the
import path.
"""

import hashlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

import attrs

from ncsnx import bounded_reads
from ncsnx.config.checks import FieldError
from ncsnx.config.codec import ConfigError, flatten
from ncsnx.config.converter import structure, unstructure
from ncsnx.config.experiment import Experiment
from ncsnx.config.origins import DEFAULT, executing_file, registered_by_file
from ncsnx.config.user_code import ForeignError, foreign_code, kind_of, message_of
from ncsnx.config.variants import Config, described_values, plugin_errors
from ncsnx.errors import NcsnxError

LARGEST = 2**20
"""Largest size of an experiment file, in bytes."""


class ExperimentFileError(NcsnxError):
    """An experiment file can't be read or executed; the message has FILE:LINE and the exception."""


@attrs.frozen
class Registered:
    """A registered experiment with the place of its registration."""

    experiment: Experiment
    where: str
    """FILE:LINE of the registration."""


@attrs.frozen
class ExperimentFile:
    """An executed experiment file."""

    path: Path
    text: str
    """Text of the file."""
    registered: tuple[Registered, ...]


def load_file(path: Path) -> ExperimentFile:
    """Executes a regular file of at most LARGEST bytes and returns the experiments that it registers, in order.

    Raises ExperimentFileError for a file that can't be read or executed, or that registers nothing.
    """
    source = _read(path)
    plugin_errors()  # loads plug-ins, whose variants the file may use
    with executing_file() as registered:
        _execute(path, source)
    if not registered:
        raise ExperimentFileError(f"{path}: registers no experiment; end it with register(Experiment(name=…, …))")
    return ExperimentFile(path, source, tuple(registered))


def register(experiment: Experiment) -> Experiment:
    """Checks an experiment, makes it known under its name, and returns it.

    Raises ConfigError (with FILE:LINE) for values that their declared types don't accept, and for a name that the file
    has already registered.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith("<"):
        frame = frame.f_back  # from `exec` up to the line of the file
    where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    if not isinstance(experiment, Experiment):
        raise ConfigError([("", f"register expects an Experiment, found {type(experiment).__name__}")], where)
    try:
        checked = structure(unstructure(experiment), Experiment)
    except ConfigError as error:
        place = f"{where}: experiment {experiment.name!r}"
        raise ConfigError(error.problems, place, error.advice) from error
    registered = registered_by_file()
    if registered is not None:
        for other in registered:
            if other.experiment.name == checked.name:
                raise ConfigError([("", f"{checked.name!r} is already registered, at {other.where}")], where)
        registered.append(Registered(checked, where))
    return experiment


def origins_of(config: Config, owner: str) -> dict[str, str]:
    """Dotted path → 'default' for every value of a configuration object that is one, `owner` for the others."""
    rows = {path for path, _ in flatten(unstructure(config))}
    known = described_values(config)
    return {path: DEFAULT if by_default else owner for path, _, by_default in known if path in rows}


def relative(origin: str) -> str:
    """An origin with its file relative to the current folder, if it is inside."""
    try:
        return str(Path(origin).relative_to(Path.cwd()))
    except (ValueError, OSError):  # outside; or the current folder no longer exists
        return origin


def _read(path: Path) -> str:
    try:
        content = bounded_reads.read_bytes(path, LARGEST)
    except OSError as error:
        raise ExperimentFileError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ExperimentFileError(f"{path}:{line}: is not Python source in UTF-8 ({message_of(error)})") from error


def _execute(path: Path, source: str) -> None:
    name = "ncsnx_experiment_" + hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # attrs looks up the module of each class that it creates
    try:
        with foreign_code():
            exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except ForeignError as raised:
        sys.modules.pop(name, None)
        raise ExperimentFileError(_describe(path, raised.error)) from raised.error


def _describe(path: Path, error: BaseException) -> str:
    """FILE:LINE and the exception, in one line."""
    message = message_of(error)
    if isinstance(error, ConfigError) and message.startswith(f"{path}:"):
        return message
    frames = traceback.walk_tb(error.__traceback__)
    lines = [number for frame, number in frames if frame.f_code.co_filename == str(path)]
    line = lines[-1] if lines else None
    if isinstance(error, SyntaxError) and type(error.msg) is str:
        message = message_of(Exception(error.msg))  # without the place, which comes first
        line = error.lineno if type(error.lineno) is int else line
    where = f"{path}:{line}" if line else str(path)
    name = kind_of(error)
    kind = "" if isinstance(error, FieldError | NcsnxError) else f"{name}: "
    return f"{where}: {kind}{message}" if message else f"{where}: {name}"
