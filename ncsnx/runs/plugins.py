"""Installed packages that a run needs: the distribution and version of each plug-in that its experiment uses."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config import checks
from ncsnx.config.complaints import StructureError
from ncsnx.config.experiment import Experiment
from ncsnx.config.variants import Config
from ncsnx.errors import Hint, NcsnxError
from ncsnx.registering import entry_points_of
from ncsnx.storage import reading
from ncsnx.storage.reading import read_json

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,99}")
"""Names and versions of distributions, which mean nothing to a shell."""


@attrs.frozen(kw_only=True)
class Plugin:
    """A distribution as pip names it."""

    distribution: str = attrs.field(validator=checks.short_ascii)
    version: str = attrs.field(validator=checks.short_ascii)


def plugins_of(experiment: Experiment) -> tuple[Plugin, ...]:
    """The distributions that define a part of the experiment, by name, without ncsnx itself."""
    modules = {module for module in _modules(experiment) if module.partition(".")[0] != "ncsnx"}
    if not modules:
        return ()
    found: dict[str, Plugin] = {}
    for entry in entry_points_of("ncsnx.config"):
        own = entry.value.partition(":")[0].partition(".")[0]
        if entry.dist is not None and any(module.partition(".")[0] == own for module in modules):
            found[entry.dist.name] = Plugin(distribution=entry.dist.name, version=entry.dist.version)
    return tuple(found[name] for name in sorted(found))


@contextmanager
def needing_plugins(config: Path) -> Iterator[None]:
    """Gives an invalid configuration in the block the commands that install what the file at `config` names."""
    try:
        yield
    except StructureError as error:
        if hints := _hints(config):
            raise NcsnxError(error.message, *hints) from error
        raise


def _hints(config: Path) -> list[Hint]:
    """Commands that install the packages that a run's config.json names and that are missing or of another version."""
    try:
        saved = read_json(config, reading.JSON_LIMIT)
    except (OSError, ValueError):
        return []
    recorded = saved.get("plugins") if isinstance(saved, dict) else None
    hints = []
    for plugin in recorded if isinstance(recorded, list) else []:
        match plugin:
            case {"distribution": str(name), "version": str(version)} if all(map(_WORD.fullmatch, (name, version))):
                if (installed := _installed_version(name)) != version:
                    is_there = f"; {installed} is installed" if installed else ""
                    hints.append(Hint(f"the run needs {name}{is_there}", f"pip install {name}=={version}"))
    return hints


def _installed_version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _modules(config: Config) -> Iterator[str]:
    """Modules of the classes of a configuration object and its parts."""
    yield type(config).__module__
    for field in attrs.fields(type(config)):
        value: Any = getattr(config, field.name)
        if isinstance(value, Config):
            yield from _modules(value)
