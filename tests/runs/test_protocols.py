"""Results under protocols of earlier versions are found, and no others are mistaken for them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ncsnx.runs.protocols import current, place_of

PROTOCOL = {"n": 100, "reference": {"kind": "split", "images": 50}}
FORMER = {"n": 100, "reference": {"kind": "split", "images": 50, "floor": 1.5, "floor_halves": [25, 25]}}


def measurement(parent: Path, name: str, protocol: Any) -> Path:
    place = parent / name
    place.mkdir(parents=True)
    (place / "results.json").write_text(json.dumps({"protocol": protocol}))
    return place


def test_a_protocol_loses_what_determines_no_number() -> None:
    assert current(FORMER) == PROTOCOL
    assert current(PROTOCOL) == PROTOCOL
    assert current({"n": 1, "reference": "floor"}) == {"n": 1, "reference": "floor"}


def test_what_was_measured_under_an_earlier_protocol_is_found(tmp_path: Path) -> None:
    measurement(tmp_path, "n100-aaaa", FORMER | {"n": 200})
    former = measurement(tmp_path, "n100-bbbb", FORMER)
    assert place_of(tmp_path, "n100-cccc", PROTOCOL, "results.json") == former
    own = measurement(tmp_path, "n100-cccc", PROTOCOL)
    assert place_of(tmp_path, "n100-cccc", PROTOCOL, "results.json") == own


@pytest.mark.parametrize("place", ["nowhere", "a link", "a file", "garbage", "a pipe", "another measurement"])
def test_where_nothing_was_measured_the_place_is_the_new_one(tmp_path: Path, place: str) -> None:
    parent, elsewhere = tmp_path / "fid", measurement(tmp_path / "elsewhere", "n100-aaaa", FORMER)
    if place == "a link":
        parent.symlink_to(elsewhere.parent)
    elif place == "a file":
        parent.touch()
    elif place == "garbage":
        (measurement(parent, "n100-aaaa", FORMER) / "results.json").write_bytes(b"{")
    elif place == "a pipe":
        (parent / "n100-aaaa").mkdir(parents=True)
        os.mkfifo(parent / "n100-aaaa" / "results.json")
    elif place == "another measurement":
        measurement(parent, "n100-ensemble2-aaaa", FORMER)
    assert place_of(parent, "n100-cccc", PROTOCOL, "results.json") == parent / "n100-cccc"
