"""ncsnx.storage imports only packages that don't depend on it."""

import re
from pathlib import Path

import ncsnx.storage

KNOWN = {"config", "errors", "paths", "quantities", "storage", "work"}


def test_storage_imports_nothing_that_imports_it() -> None:
    for file in Path(ncsnx.storage.__file__).parent.glob("*.py"):
        assert set(re.findall(r"^\s*(?:from|import) ncsnx\.(\w+)", file.read_text(), re.MULTILINE)) <= KNOWN, file
