"""What a search for neighbours keeps: numbers that vouch for themselves and for the pictures and tables beside them."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs

from ncsnx.evaluation.nearest.memorizing import Nearness
from ncsnx.runs.score_files import RESULTS
from ncsnx.storage import atomic, reading
from ncsnx.storage.parsing import parse_json
from ncsnx.storage.sealed import sealed, unsealed

_FILE_LIMIT = 2**30
_MEASURES = {"distance", "relative"}
_MEDIANS = {"median", "held_out_median"}
_SHARES = {"nearer", "near"}


def write_results(folder: Path, results: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Writes what was found beside the files called `names`, which are there; returns what is written, as JSON.

    That is `results` with the sha256 of those files and a digest of its own. Raises NcsnxError.
    """
    with atomic.reporting(folder / RESULTS):
        files = {name: reading.sha256_of(folder / name, _FILE_LIMIT) for name in names}
    content = sealed({**results, "files": files})
    atomic.write_bytes(folder / RESULTS, content)
    return parse_json(content)  # type: ignore[no-any-return]


def read_results(
    folder: Path, protocol: Mapping[str, Any], spaces: Collection[str], names: Collection[str]
) -> dict[str, Any] | None:
    """What `write_results` wrote for this protocol, in these spaces; None where it or a file isn't as it was."""
    try:
        written = reading.read_bytes(folder / RESULTS, reading.JSON_LIMIT)
        content = unsealed(written)
        if content is None or not _is_found(content, spaces) or content["protocol"] != json.loads(json.dumps(protocol)):
            return None
        if content.get("files") != {name: reading.sha256_of(folder / name, _FILE_LIMIT) for name in names}:
            return None
    except OSError:  # one is missing, a link, or something else than a file
        return None
    return parse_json(written)  # type: ignore[no-any-return]


def _is_found(content: Mapping[str, Any], spaces: Collection[str]) -> bool:
    """Whether everything is there that is shown."""
    match content:
        case {"protocol": dict(), "caption": str(), "verdict": None, "spaces": dict(found)}:
            is_compared = False
        case {"protocol": dict(), "caption": str(), "verdict": {"kind": str(), "words": str()}, "spaces": dict(found)}:
            is_compared = True
        case _:
            return False
    return found.keys() == set(spaces) and all(
        isinstance(measures, dict)
        and measures.keys() == _MEASURES
        and all(_is_measure(one, is_compared) for one in measures.values())
        for measures in found.values()
    )


def _is_measure(one: Any, is_compared: bool) -> bool:
    keys = {field.name for field in attrs.fields(Nearness)}
    if not isinstance(one, dict) or one.keys() != _MEDIANS | keys or type(one["median"]) is not float:
        return False
    if not is_compared:
        return all(one[key] is None for key in keys | {"held_out_median"})
    numbers = (one["held_out_median"], *(one[key] for key in keys - _SHARES))
    return all(type(number) is float for number in numbers) and all(_is_share(one[key]) for key in _SHARES)


def _is_share(one: Any) -> bool:
    match one:
        case {"value": float(), "low": float(), "high": float()}:
            return True
    return False
