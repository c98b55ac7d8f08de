"""Protocols of measurements as earlier versions wrote them, so that what was measured is found again."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ncsnx.storage import reading
from ncsnx.storage.parsing import read_json

_RETIRED = ("floor", "floor_halves")
"""Facts of a reference that were in protocols once: the distance between halves of it determines no score."""


def current(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol without what earlier versions had in it and this one hasn't."""
    reference = protocol.get("reference")
    if not isinstance(reference, dict):
        return dict(protocol)
    return {**protocol, "reference": {key: fact for key, fact in reference.items() if key not in _RETIRED}}


def place_of(parent: Path, name: str, protocol: Mapping[str, Any], record: str) -> Path:
    """The folder of a measurement: `name` in `parent`, or another whose file `record` holds the same protocol.

    Names end in a digest of the protocol, which is another for an earlier version's.
    """
    place = parent / name
    if place.is_symlink() or place.exists():
        return place
    wanted = json.loads(json.dumps(protocol))
    with suppress(OSError):  # who opens the place says what is wrong with it
        for entry in reading.entries(parent):
            if entry.kind == "folder" and entry.name.rpartition("-")[0] == name.rpartition("-")[0]:
                with suppress(OSError, ValueError):
                    match read_json(entry.path / record, reading.RECORDS_LIMIT):
                        case {"protocol": dict(found)} if current(found) == wanted:
                            return entry.path
    return place
