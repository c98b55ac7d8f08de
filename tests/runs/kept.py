"""Checkpoints with realistic names and sizes, scores for them, and Python in a process of its own."""

import os
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config import AnnealedLangevin, Digits, Experiment, Geometric, NCSNv2, Retention
from ncsnx.config.codec import identity
from ncsnx.networks.construction import meta_network
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import FileRecord, write_checkpoint
from ncsnx.runs.names import step_name
from ncsnx.runs.score_files import ScoreFile
from ncsnx.storage import atomic

SMALL = Experiment(
    name="small",
    data=Digits(),
    schedule=Geometric(sigma_max=8.0, sigma_min=0.01, levels=10),
    model=NCSNv2(width=1),
    sampler=AnnealedLangevin(step_size=1e-5, steps_per_level=2),
    batch_size=8,
    steps=100,
    seed=3,
)


def contents(experiment: Experiment, step: int) -> dict[str, bytes]:
    """The files of a checkpoint, by name."""
    state = atomic.json_bytes({"identity": identity(experiment), "images": 8 * step, "step": step})
    parts = ("ema", "model", "optimizer")
    tensors = {f"{part}.safetensors": weights(experiment, f"{part} of step {step}".encode() * 9) for part in parts}
    return {**tensors, "state.json": state}


def weights(experiment: Experiment, content: bytes) -> bytes:
    """The content, padded to the size of the experiment's weights."""
    return content.ljust(sum(tensor.nbytes for tensor in meta_network(experiment).state_dict().values()) + 8, b"\0")


def write(run: Run, *steps: int) -> None:
    """Writes checkpoints of these steps."""
    for step in steps:
        write_checkpoint(run.checkpoints, step, contents(run.experiment(), step).items())


def with_rules(run: Run, **rules: Any) -> Experiment:
    """The run's experiment with this retention."""
    return attrs.evolve(run.experiment(), checkpoint_every=10, retention=Retention(**rules))


def folder(run: Run, step: int) -> Path:
    """A checkpoint's folder."""
    return run.checkpoints / step_name(step)


def damage(path: Path) -> None:
    """Flips a bit; size and modification time stay, as on a failing disk."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[3] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def score(run: Run, scores: dict[int, float], images: int = 100, name: str = "first", now: str = "2030-01-01") -> Path:
    """Writes a sweep with these scores of the averaged weights by step; returns its folder."""
    sweep = ScoreFile(run.fid / name, {"n": images, "ensemble": 1, "name": name}, "FD")
    for step, value in scores.items():
        weights = FileRecord.of(contents(run.experiment(), step)["ema.safetensors"]).sha256
        sweep.add({"step": step, "weights_sha256": weights, "score": value}, now)
    return sweep.folder


def tree(place: Path) -> dict[str, bytes]:
    """All files under a folder, including hidden ones, by path."""
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}
