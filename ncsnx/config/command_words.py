"""A sampler as words of the command line."""

from collections.abc import Iterator

import attrs

from ncsnx.config.differences import shown
from ncsnx.config.provenance import is_default
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import Config, tag_of


def typed(sampler: Sampler) -> str:
    """The overrides that select a sampler: its tag, and every value that isn't its default."""
    return " ".join([f"sampler={tag_of(type(sampler))}", *_changed(sampler, "sampler")])


def _changed(config: Config, prefix: str) -> Iterator[str]:
    for field in attrs.fields(type(config)):
        path, value = f"{prefix}.{field.name}", getattr(config, field.name)
        if isinstance(value, Config):
            if type(value) is not type(field.default.factory()):
                yield f"{path}={tag_of(type(value))}"
            yield from _changed(value, path)
        elif not is_default(field, value):
            yield f"{path}={shown(value)}"
