"""Compatibility of measurement protocols with earlier versions, so that older results are found."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ncsnx.storage import reading
from ncsnx.storage.parsing import read_json

_RETIRED = ("floor", "floor_halves")
"""Fields that earlier versions stored: the distance between halves of the reference, which doesn't affect scores."""


def current(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol without fields that only earlier versions wrote."""
    reference = protocol.get("reference")
    if not isinstance(reference, dict):
        return dict(protocol)
    return {**protocol, "reference": {key: fact for key, fact in reference.items() if key not in _RETIRED}}


def place_of(parent: Path, name: str, protocol: Mapping[str, Any], record: str) -> Path:
    """The folder of a measurement: `name` in `parent`, or an existing one whose file `record` has the same protocol.

    Names end in a digest of the protocol, which differs for earlier versions.
    """
    place = parent / name
    if place.is_symlink() or place.exists():
        return place
    wanted = json.loads(json.dumps(protocol))
    with suppress(OSError):  # opening the folder reports what is wrong
        for entry in reading.entries(parent):
            if entry.kind == "folder" and entry.name.rpartition("-")[0] == name.rpartition("-")[0]:
                with suppress(OSError, ValueError):
                    match read_json(entry.path / record, reading.RECORDS_LIMIT):
                        case {"protocol": dict(found)} if current(found) == wanted:
                            return entry.path
    return place
