"""JSON-lines files, such as metrics and segments. A line counts only with its newline."""

import json
import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from ncsnx.errors import AdvisedError, NcsnxError
from ncsnx.storage import atomic, reading
from ncsnx.storage.parsing import parse_json

TAIL_BYTES = 2**18
"""Bytes that `last_records` and `first_record` read at most."""


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
        record = _record(line)
        if record is None:
            raise AdvisedError(f"{path}, line {number}: expected a JSON object", "fix or remove that line")
        yield record, line + b"\n"


def read_records(path: Path) -> list[dict[str, Any]]:
    """All records, without a torn last line. Raises as `records_with_lines`."""
    return [record for record, _ in records_with_lines(path)]


def last_records(path: Path) -> list[dict[str, Any]]:
    """The records in the last TAIL_BYTES, without a torn last line and lines that aren't JSON objects.

    A missing file has no records. Raises OSError for a file that can't be read.
    """
    try:
        with reading.opened(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TAIL_BYTES, 0))
            lines = file.read(TAIL_BYTES).split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    found = [_record(line) for line in (lines[1:] if size > TAIL_BYTES else lines)]
    return [record for record in found if record is not None]


def first_record(path: Path) -> dict[str, Any] | None:
    """The record in the first line; None if there is none, or the line isn't a JSON object of up to TAIL_BYTES.

    Raises OSError for a file that can't be read.
    """
    with reading.opened(path) as file:
        return _record(file.readline(TAIL_BYTES))


class RecordFollower:
    """Reads what a JSON-lines file has gained since the last look. After the file was replaced, it begins again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BufferedReader | None = None

    def new_records(self) -> Iterator[dict[str, Any]]:
        """The new records, without a torn last line. A missing file has none. Raises as `records_with_lines`."""
        try:
            if self._is_other():
                self.close()
                self._file = reading.open_regular(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise NcsnxError(f"cannot read {self._path}: {error.strerror}") from error
        assert self._file is not None
        while (line := self._file.readline()).endswith(b"\n"):
            record = _record(line)
            if record is None:
                raise AdvisedError(f"{self._path}: expected a JSON object in each line", "fix or remove the other line")
            yield record
        self._file.seek(-len(line), os.SEEK_CUR)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _is_other(self) -> bool:
        """Whether the path leads to another file than the one that is open. Raises OSError."""
        now = self._path.lstat()
        if self._file is None:
            return True
        before = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino) or now.st_size < self._file.tell()


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
