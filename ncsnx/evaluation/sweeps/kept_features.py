"""Features of scored checkpoints, kept so that metrics added later can be computed without drawing images again.

    fid/n1000-seed0-classifier-1a2b3c4d/features/step-00001500-5e6f7a8b.safetensors

A row names its file and sha256. The files are expendable: a run keeps at most MOST_FEATURES_BYTES of them. Beyond that,
files of the oldest sweep are removed first, within a sweep those of the worst scores first, and the file of each
sweep's best row last. A missing or damaged file is no error; its row just keeps the numbers it has.
"""

import contextlib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoint import TensorFile
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
    content = TensorFile(tensors)
    try:
        with atomic.reporting(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacement(path, len(content)) as file:
            for piece in content:
                file.write(piece)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except NcsnxError:
        return None
    return {"file": path.name, "sha256": sha256}


def has_features(scores: ScoreFile, row: Row) -> bool:
    """Whether the file that the row names exists."""
    record = kept_file(row, FEATURES)
    return record is not None and record.name in _files(scores.folder)


def load_features(scores: ScoreFile, row: Row) -> dict[str, Tensor] | None:
    """The tensors in the file that the row names; None if it is missing or was changed."""
    record = kept_file(row, FEATURES)
    if record is None or not has_features(scores, row):
        return None
    try:
        path = scores.folder / FEATURES / record.name
        content = reading.read_bytes(path, MOST_FEATURES_BYTES)
        if hashlib.sha256(content).hexdigest() != record.sha256:
            return None
        tensors: dict[str, Tensor] = parse_tensors(content)
    except (OSError, SafetensorError):
        return None
    is_ours = all(tensor.dtype == torch.float32 and tensor.numel() for tensor in tensors.values())
    return tensors if is_ours else None


def make_room(run: Run, most_bytes: int = MOST_FEATURES_BYTES) -> None:
    """Removes kept files of the run's sweeps, in the order above, until they have at most `most_bytes` if possible.

    Counts and removes only files with our names; rows only rank them.
    """
    found = _in_order(run)
    excess = sum(size for _, size in found) - most_bytes
    for path, size in found:
        if excess <= 0:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            excess -= size


def _in_order(run: Run) -> list[tuple[Path, int]]:
    """The kept files with their sizes, in order of removal: files that no row names, then by sweep and row."""
    ranked = []
    for folder in sweep_folders(run.fid):
        try:
            sweep = ScoreFile.read(folder)
        except (FileNotFoundError, NcsnxError):  # leave the files of an unreadable sweep alone
            continue
        best_first = sorted(sweep.rows, key=lambda row: float(row["score"]))
        names = [None if (record := kept_file(row, FEATURES)) is None else record.name for row in best_first]
        for name, size in _files(folder).items():
            place = names.index(name) if name in names else None
            # best rows of all sweeps come last
            rank = (0, "", 0) if place is None else (2 if place == 0 else 1, sweep.changed, -place)
            ranked.append((rank, folder / FEATURES / name, size))
    return [(path, size) for _, path, size in sorted(ranked, key=lambda one: one[0])]


def _files(folder: Path) -> dict[str, int]:
    """Sizes of a sweep's kept feature files by name."""
    found = {}
    with contextlib.suppress(OSError):  # the folder is missing
        for path in (folder / FEATURES).iterdir():
            if _OURS.fullmatch(path.name):
                found[path.name] = path.stat().st_size
    return found
