"""A run that somebody hostile made, the commands that are given it, and what they must not do."""

import json
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
from safetensors.torch import load, save
from torch import Tensor

from ncsnx.runs.checkpoints.manifest import FileRecord, Manifest, read_manifest
from tests.training.tiny import CPU, Result, command, overrides, training

LATEST = "checkpoints/step-00000012"
PUBLISHED = "checkpoint_12.pth"
"""The file to import: the run's own latest checkpoint, in the published form."""
LIMIT_S = 60
"""No command takes this long here, unless it waits for something that never comes."""


@attrs.frozen
class Attack:
    """A command on a run, and the places of the run that it reads or writes. `{run}` stands for the run."""

    name: str
    words: tuple[str, ...]
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()

    def on(self, folder: Path, run: str = "digits", *more: str) -> Result:
        """The outcome in `folder`, in time and without an exception."""
        with _in_time():
            return command(*(word.replace("{run}", run) for word in self.words), *more, folder=folder)


_WEIGHTS = (f"{LATEST}/manifest.json", f"{LATEST}/ema.safetensors", f"{LATEST}/state.json")
_SWEEP = ("--range", "latest", *CPU)
_EVERYTHING = (
    (
        *("config.json", "origins.json", "experiment.py", "segments.jsonl", "metrics.jsonl", "log.txt", ".lock"),
        *(f"{LATEST}/manifest.json", f"{LATEST}/optimizer.safetensors", "snapshots/step-00000013.png", "report.html"),
        *("trackers/active.json", "trackers/wandb.json"),
    ),
    (
        "checkpoints",
        LATEST,
        "snapshots",
        "samples",
        "fid",
        "loss",
        "likelihood",
        "compare",
        "neighbors",
        "trackers",
        "unsound",
    ),
)
COMMANDS = (
    Attack(
        "sample",
        ("sample", "{run}", "--n", "2", *CPU),
        files=("config.json", *_WEIGHTS, f"{LATEST}/optimizer.safetensors"),
        folders=("checkpoints", LATEST, "samples"),
    ),
    Attack("loss", ("loss", "{run}", *_SWEEP), ("config.json",), ("checkpoints", "loss")),
    Attack(
        "likelihood",
        ("likelihood", "{run}", "--n", "2", "--tolerance", "0.1", *_SWEEP),
        ("config.json",),
        ("checkpoints", "likelihood"),
    ),
    Attack(
        "fid",
        ("fid", "{run}", "--n", "40", "features.steps=30", "features.width=8", *_SWEEP),
        ("config.json",),
        ("checkpoints", "fid"),
    ),
    Attack(
        "compare",
        (
            *("compare", "{run}", "--samplers", "dpmpp", "--evaluations", "2", "--n", "20", "--seeds", "1"),
            *("features.steps=30", "features.width=8", *CPU),
        ),
        ("config.json",),
        ("checkpoints", "compare"),
    ),
    Attack(
        "neighbors",
        ("neighbors", "{run}", "--n", "2", "--k", "1", "features.steps=30", "features.width=8", *CPU),
        ("config.json",),
        ("checkpoints", "neighbors"),
    ),
    Attack(
        "train",
        tuple(training("steps=13", "--run={run}")),
        files=(
            "config.json",
            "origins.json",
            "segments.jsonl",
            "metrics.jsonl",
            "log.txt",
            ".lock",
            ".holder.json",
            f"{LATEST}/model.safetensors",
            f"{LATEST}/optimizer.safetensors",
            "snapshots/step-00000013.png",
            "trackers/active.json",
        ),
        folders=("checkpoints", LATEST, "snapshots", "trackers"),
    ),
    Attack(
        "import",
        ("import", PUBLISHED, "digits", *overrides(), "--run={run}"),
        ("config.json", f"{LATEST}/model.safetensors", "log.txt", ".lock", ".holder.json"),
        ("checkpoints", LATEST),
    ),
    Attack(
        "export",
        ("export", "{run}", "--out", "model", "--grid", "2", *CPU),
        ("config.json",),
        ("checkpoints", LATEST, "fid", "loss", "likelihood"),
    ),
    Attack("doctor", ("doctor", "{run}", "--repair"), *_EVERYTHING),
    Attack("show", ("show", "runs/{run}", "--origins"), ("config.json", "origins.json")),
    Attack("list", ("list",), ("config.json",), ("checkpoints",)),
)
"""Every command that takes a run. One that is new gets a row, and with it all that is tried below."""


def moved_outside(run: Path, place: str, outside: Path) -> None:
    """A symbolic link instead of a file or folder, to one that is as it should be: following it would work."""
    target = outside / place
    target.parent.mkdir(parents=True, exist_ok=True)
    if (run / place).exists():
        shutil.move(run / place, target)
    elif Path(place).suffix:
        target.write_bytes(b"precious")
    else:
        target.mkdir()
    (run / place).parent.mkdir(exist_ok=True)
    (run / place).symlink_to(target)


def replaced_by_pipe(place: Path) -> None:
    """A named pipe, whose other end nobody opens."""
    _make_way(place)
    os.mkfifo(place)


def replaced_by_device(place: Path) -> None:
    """A device that gives zeros for ever. Raises PermissionError for all but the superuser."""
    _make_way(place)
    os.mknod(place, 0o020666, os.makedev(1, 5))


def replaced_by_giant(place: Path) -> None:
    """A file of 8 TiB, which takes no room on the disk."""
    _make_way(place)
    with place.open("wb") as file:
        file.truncate(2**43)


def _make_way(place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)


def reseal(checkpoint: Path) -> None:
    """Gives a checkpoint a manifest that vouches for the files as they are now."""
    found = read_manifest(checkpoint)
    records = {name: FileRecord.of((checkpoint / name).read_bytes()) for name in found.files}
    (checkpoint / "manifest.json").write_bytes(Manifest(found.step, records).to_bytes())


def with_tensors(change: Callable[[dict[str, Tensor]], object]) -> Callable[[bytes], bytes]:
    """A change of the tensors of a safetensors file."""

    def changed(content: bytes) -> bytes:
        tensors = load(content)
        change(tensors)
        return save(tensors)

    return changed


def with_header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """A change of what the header of a safetensors file says about the bytes that follow."""

    def changed(content: bytes) -> bytes:
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        change(header)
        written = json.dumps(header).encode()
        return len(written).to_bytes(8, "little") + written + content[8 + size :]

    return changed


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch {self.made}",)


def pickled(made: Path) -> bytes:
    """A pickle that makes a file."""
    return pickle.dumps(Payload(made))


@contextmanager
def untouched(outside: Path) -> Iterator[None]:
    """Fails if something in `outside` is written, made, removed or, as far as the file system says, read."""
    before = _state(outside)
    for path in before:
        status = (outside / path).stat()
        # older than the last change: else a file system with relatime doesn't note a reading
        os.utime(outside / path, ns=(0, status.st_mtime_ns))
    yield
    read = [
        path
        for path in before
        if (outside / path).is_file() and (outside / path).stat().st_atime_ns != 0 and _notes_readings(outside)
    ]
    assert read == []
    assert _state(outside) == before


def _state(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def _notes_readings(folder: Path) -> bool:
    probe = folder.with_name("probe")
    probe.write_bytes(b"x")
    os.utime(probe, ns=(0, probe.stat().st_mtime_ns))
    probe.read_bytes()
    return probe.stat().st_atime_ns != 0


@contextmanager
def _in_time() -> Iterator[None]:
    def too_late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it took more than {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
