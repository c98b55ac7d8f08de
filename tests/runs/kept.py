"""Checkpoints with realistic names and sizes, scores for them, and Python in a process of its own."""

import os
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config import AnnealedLangevin, Digits, Experiment, Geometric, NCSNv2, Retention
from ncsnx.config.codec import identity
from ncsnx.config.converter import unstructure
from ncsnx.networks.construction import meta_network
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger, MeasurementProtocol, Quantity, Subject
from ncsnx.runs.manifest import FileRecord, write_checkpoint
from ncsnx.runs.names import step_name
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


def fid(images: int = 100, metric: str = "FD", **facts: Any) -> MeasurementProtocol:
    """A protocol of `ncsnx fid`."""
    columns = (Quantity("score", metric, error="error", identifier="fid"),)
    return MeasurementProtocol(
        measure="fid", facts={"n": images, **facts}, metric=metric, label=f"n{images}", columns=columns
    )


def subject(run: Run, step: int, weights_sha256: str, **others: Any) -> Subject:
    """The averaged weights of a step, measured by images."""
    values = {"weights": "ema", "precision": "fp32", "sampler": unstructure(run.experiment().sampler), "seed": 0}
    return Subject(step=step, weights_sha256=weights_sha256, identity=identity(run.experiment()), **values | others)


def score(run: Run, scores: dict[int, float], images: int = 100, now: str = "2030-01-01", **others: Any) -> Ledger:
    """Adds these scores of the averaged weights by step to the ledger."""
    ledger = Ledger.read(run)
    for step, value in scores.items():
        weights = FileRecord.of(contents(run.experiment(), step)["ema.safetensors"]).sha256
        one = subject(run, step, weights, **others)
        ledger.add(fid(images), one, {"score": value}, {"finished": now, "command": f"ncsnx fid {run.name}"})
    return ledger


def tree(place: Path) -> dict[str, bytes]:
    """All files under a folder, including hidden ones, by path."""
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}
