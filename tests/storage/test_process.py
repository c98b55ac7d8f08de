"""The record of a process."""

import os
from pathlib import Path

import pytest

from ncsnx.storage.process import in_utf8


@pytest.mark.parametrize("kind", [str, Path])
def test_a_name_that_is_not_utf_8_becomes_text(kind: type[str] | type[Path]) -> None:
    assert in_utf8(kind(os.fsdecode(b"b\xff.png"))) == r"b\xff.png"
    assert in_utf8(kind("ü")) == "ü"
