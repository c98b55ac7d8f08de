"""wandb, trackio and MLflow as they are, without a network, in processes of their own, since packages keep state.

What each holds afterwards is read by its own means: trackio's and MLflow's databases, wandb's files.
"""

import json
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from ncsnx.tracking.tracker import all_trackers
from tests.training.tiny import CPU, attempt, training

pytestmark = pytest.mark.slow
STEPS = [2, 4, 6, 8, 10, 12]
PACKAGES = ("mlflow", "trackio", "wandb")
OFFLINE = {
    "WANDB_MODE": "offline",
    "WANDB_DIR": "wandb-files",
    "TRACKIO_DIR": "trackio-files",
    "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_OFFLINE": "1",
}


@attrs.frozen
class Held:
    """The content of a record."""

    config: dict[str, object]
    steps: dict[str, list[int]]
    """Steps by series, in the order in which they came."""


def in_trackio(folder: Path) -> Held:
    program = """
import json
from trackio.sqlite_storage import SQLiteStorage as storage
(run,) = storage.get_runs("ncsnx")
rows = storage.get_logs("ncsnx", run)
names = {name for row in rows for name in row} - {"step", "timestamp"}
steps = {name: [row["step"] for row in storage.get_metric_values("ncsnx", run, name)] for name in names}
print(json.dumps([storage.get_run_config("ncsnx", run), steps]))
"""
    return Held(*asked(program, folder))


def in_mlflow(folder: Path) -> Held:
    program = """
import json
from mlflow import MlflowClient
client = MlflowClient()
(run,) = client.search_runs([client.get_experiment_by_name("ncsnx").experiment_id])
number = run.info.run_id
steps = {name: [one.step for one in client.get_metric_history(number, name)] for name in run.data.metrics}
pictures = [one.path for one in client.list_artifacts(number, "images") if one.path.endswith(".png")]
steps["samples"] = sorted(int(path.split("+step+")[1].split("+")[0]) for path in pictures)
print(json.dumps([run.data.params, steps]))
"""
    return Held(*asked(program, folder))


def in_wandb(folder: Path) -> Held:
    from wandb.proto.wandb_internal_pb2 import Record

    config: dict[str, object] = {}
    steps: dict[str, list[int]] = defaultdict(list)
    for file in sorted(folder.glob("wandb-files/wandb/offline-run-*/run-*.wandb")):
        for content in records_in(file.read_bytes()):
            record = Record.FromString(content)
            config |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
            row = {one.key or one.nested_key[0]: json.loads(one.value_json) for one in record.history.item}
            for name in row.keys() - {"step", "_step", "_timestamp", "_runtime"}:
                steps[name].append(row["step"])
    return Held(config, dict(steps))


READERS: dict[str, Callable[[Path], Held]] = {"trackio": in_trackio, "mlflow": in_mlflow, "wandb": in_wandb}


def records_in(content: bytes) -> Iterator[bytes]:
    """The records of a file of wandb, which has the form of LevelDB's logs (github.com/google/leveldb,
    doc/log_format.md): a header, then blocks of 32 KiB with pieces of checksum, length, kind and content."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        if (room := 2**15 - place % 2**15) < 7:  # the rest of a block is zeros
            place += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        piece = content[place + 7 : place + 7 + length]
        place += 7 + length
        parts = piece if kind in (1, 2) else parts + piece  # whole or first
        if kind in (1, 4):  # whole or last
            yield parts


def asked(program: str, folder: Path) -> list[dict[str, object]]:
    """The JSON that a program prints, in a process of its own, since packages keep what they have read."""
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    found: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that is installed, with an environment in which it stays on this machine."""
    if not all_trackers()[0][request.param].is_installed:
        pytest.skip(f"{request.param} is not installed")
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    return str(request.param)


def test_a_record_resumes_with_every_step_once(package: str, tmp_path: Path) -> None:
    (tmp_path / "wandb-files").mkdir()
    begun = attempt(*training("steps=6"), "--track", package, folder=tmp_path)
    assert (begun.code, begun.err.count("warning")) == (0, 0), begun.err
    assert attempt("loss", "digits", "--range", "4", *CPU, folder=tmp_path).code == 0
    resumed = attempt(*training("steps=12"), folder=tmp_path)
    assert (resumed.code, resumed.err.count("warning")) == (0, 0), resumed.err
    held = READERS[package](tmp_path)
    assert held.steps["loss/training_raw"] == held.steps["lr"] == STEPS
    assert held.steps["loss/held_out_ema"] == held.steps["held_out_level_ema/0"] == [3, 6, 9, 12]
    assert held.steps["samples"] == [4, 6, 8, 12]
    (score,) = (name for name in held.steps if name.startswith("loss/") and name.endswith("/score"))
    assert held.steps[score] == [4]
    assert str(held.config["optimizer.lr"]) == "0.002"
    assert "held-out" in str(held.config[score.removesuffix("/score")])
    assert attempt("track", "digits", folder=tmp_path).code == 0
    assert READERS[package](tmp_path).steps == held.steps, "a complete record gets nothing more"


def test_wandb_without_a_login_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    trained = attempt(*training("steps=4"), "--track", "wandb", folder=tmp_path).done()
    (line,) = (line for line in trained.err.splitlines() if line.startswith("warning: "))
    assert "wandb" in line
    assert "ncsnx track digits --to wandb" in line
