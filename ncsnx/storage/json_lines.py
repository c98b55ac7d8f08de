"""JSON-lines files, such as metrics and segments. A line counts only with its newline."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ncsnx import bounded_reads
from ncsnx.bounded_reads import parse_json
from ncsnx.errors import AdvisedError
from ncsnx.storage import atomic

TAIL_BYTES = 2**18
"""Bytes that `last_records` reads at most."""


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Appends `record` as one line, durably. Raises NcsnxError, and ValueError for NaN and infinities."""
    atomic.append_line(path, json.dumps(record, allow_nan=False))


def finite_json(value: Any, name: str = "", nonfinite: list[str] | None = None) -> Any:
    """The value with null in place of NaN and infinity, whose names are added to `nonfinite`."""
    if isinstance(value, float) and not math.isfinite(value):
        if nonfinite is not None:
            nonfinite.append(name)
        return None
    if isinstance(value, list | tuple):
        return [finite_json(item, f"{name}[{index}]", nonfinite) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: finite_json(item, f"{name}.{key}", nonfinite) for key, item in value.items()}
    return value


def records_with_lines(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each record with its line (including the newline), without a torn last line. A missing file has no records.

    Raises NcsnxError for a file that can't be read, and for a line that isn't a JSON object.
    """
    for number, line in enumerate(complete_lines(path), start=1):
        yield record_in(line, f"{path}, line {number}"), line + b"\n"


def complete_lines(path: Path) -> list[bytes]:
    """The lines of a file without their newlines, and without a torn last line. A missing file has none.

    Raises NcsnxError for a file that can't be read.
    """
    with bounded_reads.reading(path), suppress(FileNotFoundError):
        return bounded_reads.read_bytes(path, bounded_reads.RECORDS_LIMIT).split(b"\n")[:-1]
    return []


def record_in(line: bytes, where: str) -> dict[str, Any]:
    """The record in a line. where: the line, for errors. Raises NcsnxError if it isn't a JSON object."""
    if (record := _record(line)) is None:
        raise AdvisedError(f"{where}: expected a JSON object", "fix or remove that line")
    return record


def read_records(path: Path) -> list[dict[str, Any]]:
    """All records, without a torn last line. Raises as `records_with_lines`."""
    return [record for record, _ in records_with_lines(path)]


def last_records(path: Path) -> list[dict[str, Any]]:
    """The records in the last TAIL_BYTES, without a torn last line and lines that aren't JSON objects.

    A missing file has no records. Raises OSError for a file that can't be read.
    """
    try:
        with bounded_reads.opened(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TAIL_BYTES, 0))
            lines = file.read(TAIL_BYTES).split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    found = [_record(line) for line in (lines[1:] if size > TAIL_BYTES else lines)]
    return [record for record in found if record is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
