"""Finding experiments: in `./experiments`, in installed packages, and among the built-in ones, in that order.

An experiment NAME is looked for in files `NAME.py` and in installed packages first, and in all other files only if none
of these registers it. A broken file is an entry with its error and doesn't affect the others.
"""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.config.loading import ExperimentFile, Registered, load_file, origins_of, relative
from ncsnx.config.overrides import apply_with_origins, parse_overrides
from ncsnx.config.user_code import ForeignError, error_in_words, foreign_code
from ncsnx.config.variants import plugin_errors
from ncsnx.errors import NcsnxError, UsageError, printable, quoted
from ncsnx.paths import exists
from ncsnx.quantities import counted
from ncsnx.registering import entry_points_of

SEARCH_ORDER = ("./experiments", "installed packages", "built in")


class UnknownExperimentError(UsageError):
    """No experiment has the name."""


@attrs.frozen
class DiscoveredFile:
    """An experiment file and the result of executing it."""

    path: Path
    rank: int
    """Index into SEARCH_ORDER."""
    file: ExperimentFile | None
    """The executed file; None if it failed."""
    error: str | None
    """Error of a file that failed, in one line."""


@attrs.frozen
class Known:
    """An experiment that is found by its name, in the first of SEARCH_ORDER that has the name."""

    registered: Registered
    file: ExperimentFile
    rank: int
    """Index into SEARCH_ORDER."""
    error: str | None
    """Why the name can't be used: two files of one rank have it. None: it can."""


@attrs.frozen
class Resolved:
    """An experiment by its name or file, with overrides applied."""

    experiment: Experiment
    origins: dict[str, str]
    """Dotted path → 'default', 'FILE:LINE' or 'command line'."""
    file_text: str
    """Text of the file that registered the experiment."""
    where: str
    """FILE:LINE of the registration."""
    file: str
    """Path of the file."""


def built_in_folder() -> Path:
    """Folder of the built-in experiments: inside the package, or beside it in a source checkout."""
    package = Path(__file__).parent.parent
    packaged = package / "_experiments"
    return packaged if packaged.is_dir() else package.parent / "experiments"


def discover(name: str | None = None) -> list[DiscoveredFile]:
    """Executes every experiment file of all ranks; a file that several ranks have counts for the first.

    name: leaves out files of another name, but for those of installed packages.
    """
    sources: list[DiscoveredFile] = []
    seen: set[str] = set()
    for rank, paths in enumerate((_files_in(Path("experiments")), installed_files(), _files_in(built_in_folder()))):
        for path in paths:
            if isinstance(path, DiscoveredFile):
                sources.append(path)
            elif (name is None or _is_first(path, rank, name)) and (real := os.path.realpath(path)) not in seen:
                seen.add(real)  # realpath doesn't raise for loops of links
                sources.append(_load(path, rank))
    return sources


def _is_first(path: Path, rank: int, name: str) -> bool:
    """Whether the experiment `name` is looked for in this file before the others."""
    return SEARCH_ORDER[rank] == "installed packages" or path.stem == name


def known_names(sources: Iterable[DiscoveredFile]) -> list[Known]:
    """Every registered name, in the order of the sources. A name that several files of its rank register comes once
    per file, with an error."""
    by_name: dict[str, list[tuple[int, Registered, ExperimentFile]]] = {}
    for source in sources:
        if source.file is not None:
            for registered in source.file.registered:
                by_name.setdefault(registered.experiment.name, []).append((source.rank, registered, source.file))
    known: list[Known] = []
    for name, found in by_name.items():
        first = min((not _is_first(file.path, rank, name), rank) for rank, _, file in found)[1]
        own = [(registered, file) for rank, registered, file in found if rank == first]
        error = _contradiction(name, first, [registered for registered, _ in own]) if len(own) > 1 else None
        known += [Known(registered, file, first, error) for registered, file in own]
    return known


def resolve(wanted: str, arguments: list[str] | None = None) -> Resolved:
    """The experiment that `wanted` names, with the overrides of the command line applied.

    wanted: a name, a path to a `.py`, or `FILE.py:NAME`. Raises UsageError for an experiment that isn't found or that
    two files of one rank register, ExperimentFileError and OverrideError.
    """
    path, inner_name = file_and_name(wanted)
    registered, file = _by_name(wanted) if path is None else _from_file(path, inner_name)
    overrides = parse_overrides(arguments or [])
    origins = origins_of(registered.experiment, registered.where)
    experiment, origins = apply_with_origins(registered.experiment, origins, overrides)
    return Resolved(experiment, origins, file.text, registered.where, str(file.path))


def file_and_name(wanted: str) -> tuple[Path | None, str | None]:
    """File and name of `FILE.py:NAME`; the name is None for `FILE.py`, both are None for other text."""
    file_part, colon, inner_name = wanted.rpartition(":")
    if colon and file_part.endswith(".py"):
        return Path(file_part), inner_name
    return (Path(wanted) if wanted.endswith(".py") else None), None


def is_file(path: Path) -> bool:
    """Whether the path is a file; False also for names that the system rejects."""
    try:
        return path.is_file()
    except OSError:
        return False


def _files_in(folder: Path) -> list[Path | DiscoveredFile]:
    try:
        return sorted(path for path in folder.glob("*.py") if not path.name.startswith(("_", ".")))
    except OSError:
        return []


def installed_files() -> list[Path | DiscoveredFile]:
    """Files of the modules that installed packages name by entry points of the group `ncsnx.experiments`."""
    found: list[Path | DiscoveredFile] = [
        DiscoveredFile(Path("ncsnx.config"), 1, None, error) for error in plugin_errors()
    ]
    for entry in entry_points_of("ncsnx.experiments"):
        module, reason = entry.value.partition(":")[0], "there is no such Python file"
        try:
            with foreign_code():  # finding a module in a package imports the package
                spec = find_spec(module)
        except ForeignError as raised:
            spec, reason = None, error_in_words(raised.error)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            found.append(Path(spec.origin))
        else:
            package = entry.dist.name if entry.dist is not None else "an installed package"
            message = f"the experiments {entry.name!r} of {package} ({module}) cannot be found: {reason}"
            found.append(DiscoveredFile(Path(module), 1, None, f"{message}; repair or uninstall {package}"))
    return found


def _load(path: Path, rank: int) -> DiscoveredFile:
    try:
        return DiscoveredFile(path, rank, load_file(path), None)
    except NcsnxError as error:
        return DiscoveredFile(path, rank, None, printable(str(error)))


def _from_file(path: Path, name: str | None) -> tuple[Registered, ExperimentFile]:
    if not exists(path):
        raise UsageError(f"{path}: no such experiment file")
    file = load_file(path)
    known = {registered.experiment.name: registered for registered in file.registered}
    if name is None and len(known) > 1:
        raise UsageError(
            f"{path}: registers {', '.join(known)}; choose one as {path}:NAME, such as {path}:{next(iter(known))}"
        )
    if name is not None and name not in known:
        raise UsageError(f"{path}: registers {', '.join(known)}, but no {name!r}")
    return (known[name] if name is not None else file.registered[0]), file


def _by_name(name: str) -> tuple[Registered, ExperimentFile]:
    for sources in map(discover, (name, None)):
        found = next((known for known in known_names(sources) if known.registered.experiment.name == name), None)
        if found is not None:
            break
    else:
        raise _not_found(name, sources)
    if found.error is not None:
        raise UsageError(found.error)
    return found.registered, found.file


def _contradiction(name: str, rank: int, found: list[Registered]) -> str:
    places = " and ".join(relative(registered.where) for registered in found)
    return printable(f"{name!r} is registered twice in {SEARCH_ORDER[rank]}, at {places}; name one as FILE.py:{name}")


def _not_found(name: str, sources: list[DiscoveredFile]) -> UsageError:
    broken = [source.error for source in sources if source.error and source.path.stem == name]
    if broken:
        return UsageError(f"no experiment is named {name!r}; the file of that name is broken: {broken[0]}")
    names = list(dict.fromkeys(known.registered.experiment.name for known in known_names(sources)))
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known experiments: {', '.join(names) or 'none'}"
    count = sum(source.error is not None for source in sources)
    more = f" ({counted(count, 'broken file')}: see `ncsnx list`)" if count else ""
    return UnknownExperimentError(f"no experiment is named {quoted(name)}; {hint}{more}")
