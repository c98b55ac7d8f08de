"""Fingerprints: what tells one data set from another, whatever folder it is in."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from ncsnx.config.canonical import digest
from ncsnx.errors import NcsnxError
from ncsnx.storage.reading import opened

SAMPLED_BYTES = 64 * 1024
"""Bytes that are read at the beginning, in the middle and at the end of each file."""


def of_bytes(name: str, *contents: bytes) -> str:
    """The fingerprint of data that has no file of its own: every byte counts."""
    return digest([name, *(hashlib.sha256(content).hexdigest() for content in contents)])


def of_files(root: Path, files: Iterable[Path]) -> str:
    """The fingerprint of files under `root`: their relative names, sizes, and a sample of their bytes."""
    return digest([[str(path.relative_to(root)), *_sampled(path)] for path in sorted(files)])


def _sampled(path: Path) -> tuple[int, str]:
    try:
        content = hashlib.sha256()
        with opened(path, follows_links=True) as file:
            size = os.fstat(file.fileno()).st_size
            for start in sorted({0, max(0, size // 2), max(0, size - SAMPLED_BYTES)}):
                file.seek(start)
                content.update(file.read(SAMPLED_BYTES))
    except OSError as error:
        raise NcsnxError(f"{path}: cannot be read: {error.strerror}") from error
    return size, content.hexdigest()
