"""Features of scored checkpoints, kept so that a metric that comes later is measured without drawing images again.

    fid/n1000-seed0-classifier-1a2b3c4d/features/step-00001500-5e6f7a8b.safetensors

Their row names the file with its sha256. They are expendable: what a run keeps of them has at most MOST_FEATURES_BYTES,
and where that is exceeded the oldest sweep's go first, of a sweep those of the worst scores, and of each the best row's
last. A file that is gone or damaged is no failure: its row then keeps the numbers that it has.
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


def keep(scores: ScoreFile, name: str, tensors: Mapping[str, Tensor]) -> dict[str, str] | None:
    """Writes the tensors, each (n, …) float32, into the sweep's folder; gives what the row is to say of them.

    name: of the checkpoint, without suffix. None where they can't be kept: a score doesn't need them.
    """
    if sum(tensor.nbytes for tensor in tensors.values()) > MOST_FEATURES_BYTES:
        return None
    path = scores.folder / FEATURES / f"{name}.safetensors"
    content = safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()})
    try:
        reading.refuse_links(path.parent)
        with atomic.reporting(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, content)
    except NcsnxError:
        return None
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}


def is_kept(scores: ScoreFile, row: Row) -> bool:
    """Whether there is a file of the name that the row gives."""
    record = kept_file(row, FEATURES)
    return record is not None and record.name in _files(scores.folder)


def kept(scores: ScoreFile, row: Row) -> dict[str, Tensor] | None:
    """The tensors that the row names; None where none are kept, or what is there isn't them."""
    record = kept_file(row, FEATURES)
    if record is None or not is_kept(scores, row):
        return None
    try:
        content = reading.read_bytes(scores.folder / FEATURES / record.name, MOST_FEATURES_BYTES)
        if hashlib.sha256(content).hexdigest() != record.sha256:
            return None
        return safetensors.torch.load(content)
    except (OSError, SafetensorError):
        return None


def make_room(run: Run, most_bytes: int = MOST_FEATURES_BYTES) -> None:
    """Removes files until those of the run's sweeps have at most `most_bytes`, in the order above, as far as it can.

    Only regular files of our names, in folders that are no links, are counted and removed; rows merely rank them.
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
    """The kept files with their sizes; what goes first comes first: those that no row names, then by sweep and row."""
    ranked = []
    for folder in sweep_folders(run.fid):
        try:
            sweep = ScoreFile.read(folder)
        except (FileNotFoundError, NcsnxError):  # what can't be read is not ours to judge
            continue
        best_first = sorted(sweep.rows, key=lambda row: float(row["score"]))
        names = [None if (record := kept_file(row, FEATURES)) is None else record.name for row in best_first]
        for name, size in _files(folder).items():
            place = names.index(name) if name in names else None
            # the best row of each sweep comes after all others
            rank = (0, "", 0) if place is None else (2 if place == 0 else 1, sweep.changed, -place)
            ranked.append((rank, folder / FEATURES / name, size))
    return [(path, size) for _, path, size in sorted(ranked, key=lambda one: one[0])]


def _files(folder: Path) -> dict[str, int]:
    """Our files among a sweep's kept features, with their sizes."""
    found = {}
    with contextlib.suppress(OSError):  # none are kept, or the folder is a link
        for entry in reading.entries(folder / FEATURES):
            if entry.kind == "file" and _OURS.fullmatch(entry.name):
                found[entry.name] = entry.path.lstat().st_size
    return found
