"""What a process records of itself."""

import json
import os

import pytest

from ncsnx.runs.parsing import parse_json
from ncsnx.runs.process import this_process


def test_a_command_line_that_is_no_utf_8_can_be_written_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["ncsnx", "sample", os.fsdecode(b"b\xff.png"), "ü"])
    assert parse_json(json.dumps(this_process()).encode())["command"] == r"ncsnx sample 'b\xff.png' 'ü'"
