"""Origins of the values of a run's experiment: a line of a file, a default, the command line."""

from pathlib import Path

import attrs

from ncsnx.config.variants import REST, VERSION
from ncsnx.storage.documents import document, read_document

MEASURED = "measured on the training set"
"""Origin of values that an experiment leaves open."""


@document("the origins of a run's values", advice="fix it or remove it")
@attrs.frozen(kw_only=True)
class Origins:
    """Content of a run's origins.json."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    by_path: dict[str, str] = attrs.field(metadata=REST)
    """Dotted path of a value → where it came from."""


def read_origins(path: Path) -> dict[str, str]:
    """Origins by dotted path; empty if there is no file. Raises NcsnxError for a damaged file."""
    try:
        return read_document(path, Origins).by_path
    except FileNotFoundError:
        return {}
