"""Features of scored checkpoints, kept so that metrics added later can be computed without drawing images again.

    fid/n1000-seed0-classifier-1a2b3c4d/features/step-00001500-5e6f7a8b.safetensors

A row names its file and sha256. The files are expendable: a run keeps at most MOST_FEATURES_BYTES of them, the newest.
A missing or damaged file is no error; its row just keeps the numbers it has.
"""

import contextlib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import FEATURES, MOST_FEATURES_BYTES, Row, ScoreFile, kept_file, sweep_folders
from ncsnx.storage import atomic, reading

_OURS = re.compile(r"step-\d{8,}-[0-9a-f]{8}\.safetensors")


def save_features(scores: ScoreFile, name: str, tensors: Mapping[str, Tensor]) -> dict[str, str] | None:
    """Writes tensors, each (n, …) float32, into the sweep's folder; returns the entry of the row that names the file.

    name: file name of the checkpoint, without suffix. None if they can't be saved, which doesn't affect the score.
    """
    if sum(tensor.nbytes for tensor in tensors.values()) > MOST_FEATURES_BYTES:
        return None
    path = scores.folder / FEATURES / f"{name}.safetensors"
    content = safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()})
    try:
        with atomic.reporting(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, content)
    except NcsnxError:
        return None
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}


def has_features(scores: ScoreFile, row: Row) -> bool:
    """Whether the file that the row names exists."""
    record = kept_file(row, FEATURES)
    return record is not None and (scores.folder / FEATURES / record.name).is_file()


def load_features(scores: ScoreFile, row: Row) -> dict[str, Tensor] | None:
    """The tensors in the file that the row names; None if it is missing or was changed."""
    record = kept_file(row, FEATURES)
    if record is None:
        return None
    try:
        content = reading.read_bytes(scores.folder / FEATURES / record.name, 2 * MOST_FEATURES_BYTES)
        return safetensors.torch.load(content) if hashlib.sha256(content).hexdigest() == record.sha256 else None
    except (OSError, NcsnxError, SafetensorError):
        return None


def make_room(run: Run, most_bytes: int = MOST_FEATURES_BYTES) -> None:
    """Removes the oldest kept files of the run's sweeps until the others have at most `most_bytes`.

    Counts and removes only files with our names.
    """
    files: list[Path] = []
    for folder in sweep_folders(run.fid):
        with contextlib.suppress(OSError):  # the folder is missing
            files += [path for path in (folder / FEATURES).iterdir() if _OURS.fullmatch(path.name)]
    total = 0
    with contextlib.suppress(OSError):  # another process removes some too
        for path in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            total += path.stat().st_size
            if total > most_bytes:
                path.unlink()
