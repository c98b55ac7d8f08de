"""Errors: one line as text, and unchanged by pickling."""

import pickle

import pytest

from ncsnx.config.codec import ConfigError
from ncsnx.config.complaints import NewerVersionError, StructureError
from ncsnx.data.decoding import BrokenImageError
from ncsnx.errors import AdvisedError, Hint, NcsnxError, UsageError
from ncsnx.runs.manifest import UnsoundError

ERRORS = [
    NcsnxError("bedroom128 is missing", Hint("download it", "ncsnx data download bedroom128"), Hint("or", adds="a=1")),
    UsageError("no such run", Hint("list the runs", "ncsnx list")),
    AdvisedError("line 3 is invalid", "fix or remove that line"),
    StructureError([("steps", "expected an integer")], "config.json", "restore it"),
    NewerVersionError([("schema_version", "is 99")], "config.json"),
    ConfigError([("steps", "expected an integer")]),
    BrokenImageError("a.png", "it is truncated"),
    UnsoundError("model.safetensors is missing"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_with_its_hints(error: NcsnxError) -> None:
    received = pickle.loads(pickle.dumps(error))
    assert type(received) is type(error)
    assert (str(received), received.message, received.hints) == (str(error), error.message, error.hints)
    assert vars(received) == vars(error)


def test_the_text_of_an_error_is_its_message_and_hints_in_one_line() -> None:
    assert str(ERRORS[0]) == "bedroom128 is missing; download it: ncsnx data download bedroom128; or: a=1"
