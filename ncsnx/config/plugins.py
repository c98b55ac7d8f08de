"""Installed packages that a run needs: the distribution and version of each plug-in that its experiment uses."""

from collections.abc import Iterator
from typing import Any

import attrs

from ncsnx.config import checks
from ncsnx.config.pretrained import Declared
from ncsnx.config.variants import Config
from ncsnx.registering import entry_points_of


@attrs.frozen(kw_only=True)
class Plugin:
    """A distribution as pip names it."""

    distribution: str = attrs.field(validator=checks.short_ascii)
    version: str = attrs.field(validator=checks.short_ascii)


def plugins_of(declared: Declared) -> tuple[Plugin, ...]:
    """The distributions that define a part of the configuration, by name, without ncsnx itself."""
    modules = {module for module in _modules(declared) if module.partition(".")[0] != "ncsnx"}
    if not modules:
        return ()
    found: dict[str, Plugin] = {}
    for entry in entry_points_of("ncsnx.config"):
        own = entry.value.partition(":")[0].partition(".")[0]
        if entry.dist is not None and any(module.partition(".")[0] == own for module in modules):
            found[entry.dist.name] = Plugin(distribution=entry.dist.name, version=entry.dist.version)
    return tuple(found[name] for name in sorted(found))


def _modules(config: Config) -> Iterator[str]:
    """Modules of the classes of a configuration object and its parts."""
    yield type(config).__module__
    for field in attrs.fields(type(config)):
        value: Any = getattr(config, field.name)
        if isinstance(value, Config):
            yield from _modules(value)
