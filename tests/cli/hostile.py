"""Files that somebody hostile made, under a manifest that vouches for them."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ncsnx.runs.manifest import FileRecord, Manifest, read_manifest
from ncsnx.storage.documents import document_bytes

LATEST = "checkpoints/step-00000012"


def reseal(checkpoint: Path) -> None:
    """Gives a checkpoint a manifest that vouches for the files as they are now."""
    found = read_manifest(checkpoint)
    records = {name: FileRecord.of((checkpoint / name).read_bytes()) for name in found.files}
    (checkpoint / "manifest.json").write_bytes(document_bytes(Manifest(found.step, records)))


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch {self.made}",)


def pickled(made: Path) -> bytes:
    """A pickle that makes a file."""
    return pickle.dumps(Payload(made))
