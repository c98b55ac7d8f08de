"""Fingerprints, which tell data sets apart whatever folder they are in."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from ncsnx.config.codec import digest
from ncsnx.errors import NcsnxError
from ncsnx.storage.reading import opened

SAMPLED_BYTES = 64 * 1024
"""Bytes read at the beginning, the middle and the end of each file."""


def of_bytes(name: str, *contents: bytes) -> str:
    """Fingerprint of data that isn't in a file. It covers every byte."""
    return digest([name, *(hashlib.sha256(content).hexdigest() for content in contents)])


def of_files(root: Path, files: Iterable[Path]) -> str:
    """Fingerprint of files under `root`: relative names, sizes, and a sample of the bytes."""
    return digest([[str(path.relative_to(root)), *_sampled(path)] for path in sorted(files)])


def _sampled(path: Path) -> tuple[int, str]:
    try:
        content = hashlib.sha256()
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            for start in sorted({0, max(0, size // 2), max(0, size - SAMPLED_BYTES)}):
                file.seek(start)
                content.update(file.read(SAMPLED_BYTES))
    except OSError as error:
        raise NcsnxError(f"{path}: cannot be read: {error.strerror}") from error
    return size, content.hexdigest()
