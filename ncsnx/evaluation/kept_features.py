"""Features of scored checkpoints, kept so that a metric that comes later is measured without drawing images again.

    fid/n1000-seed0-classifier-1a2b3c4d/features/step-00001500-5e6f7a8b.safetensors

Their row names the file with its sha256. They are expendable: what a run keeps of them has at most MOST_FEATURES_BYTES,
and where that is exceeded the oldest sweep's go first, of a sweep those of the worst scores, and of each the best row's
last. A file that is gone or damaged is no failure: its row then keeps the numbers that it has.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import FEATURES, MOST_FEATURES_BYTES, Row, ScoreFile, kept_file, sweep_folders
from ncsnx.storage import atomic, reading


def keep(scores: ScoreFile, name: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Writes the tensors, each (n, …) float32, into the sweep's folder; gives what the row is to say of them.

    name: of the checkpoint, without suffix. Raises NcsnxError.
    """
    path = scores.folder / FEATURES / f"{name}.safetensors"
    reading.refuse_links(path.parent)
    with atomic.reporting(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    content = safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()})
    atomic.write_bytes(path, content)
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}


def kept(scores: ScoreFile, row: Row) -> dict[str, Tensor] | None:
    """The tensors that the row names; None where none are kept, or what is there isn't them."""
    record = kept_file(row, FEATURES)
    if record is None:
        return None
    try:
        content = reading.read_bytes(scores.folder / FEATURES / record.name, MOST_FEATURES_BYTES)
        if hashlib.sha256(content).hexdigest() != record.sha256:
            return None
        return safetensors.torch.load(content)
    except (OSError, SafetensorError):
        return None


def make_room(run: Run, most_bytes: int = MOST_FEATURES_BYTES) -> None:
    """Removes files until those of the run's sweeps have at most `most_bytes`, in this order. Raises NcsnxError."""
    found = _in_order(run)
    excess = sum(size for _, size in found) - most_bytes
    for path, size in found:
        if excess <= 0:
            break
        with atomic.reporting(path):
            path.unlink(missing_ok=True)
        excess -= size


def _in_order(run: Run) -> list[tuple[Path, int]]:
    """The kept files with their sizes; what goes first comes first."""
    sweeps = []
    for folder in sweep_folders(run.fid):
        with contextlib.suppress(FileNotFoundError, NcsnxError):  # what can't be read is not ours to remove
            sweeps.append(ScoreFile.read(folder))
    ranked = []
    for sweep in sweeps:
        best_first = sorted(sweep.rows, key=lambda row: float(row["score"]))
        for place, row in enumerate(best_first):
            record = kept_file(row, FEATURES)
            with contextlib.suppress(OSError):
                if record is not None:
                    path = sweep.folder / FEATURES / record.name
                    # the best row of each sweep comes after all others
                    ranked.append(((place == 0, sweep.changed, -place), path, path.lstat().st_size))
    return [(path, size) for _, path, size in sorted(ranked, key=lambda one: one[0])]
