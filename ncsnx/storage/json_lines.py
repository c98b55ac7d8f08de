"""JSON-lines files, such as metrics and segments. A line counts only with its newline."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ncsnx.errors import AdvisedError, NcsnxError
from ncsnx.storage import atomic, reading
from ncsnx.storage.parsing import parse_json


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Appends `record` as one line, durably. Raises NcsnxError, and ValueError for NaN and infinities."""
    atomic.append_line(path, json.dumps(record, allow_nan=False))


def records_with_lines(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each record with its line (including the newline), without a torn last line. A missing file has no records.

    Raises NcsnxError for a file that can't be read, and for a line that isn't a JSON object.
    """
    try:
        content = reading.read_bytes(path, reading.RECORDS_LIMIT)
    except FileNotFoundError:
        return
    except OSError as error:
        raise NcsnxError(f"cannot read {path}: {error.strerror}") from error
    *lines, _torn = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise AdvisedError(f"{path}, line {number}: expected a JSON object", "fix or remove that line")
        yield record, line + b"\n"


def read_records(path: Path) -> list[dict[str, Any]]:
    """All records, without a torn last line. Raises as `records_with_lines`."""
    return [record for record, _ in records_with_lines(path)]
