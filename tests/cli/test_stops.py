"""A command that a signal stopped says what the same command does next, and that is true."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ncsnx.runs.checkpoints.manifest import checkpoints
from ncsnx.runs.folder import Run
from tests.forked import fork
from tests.published import states_of, write
from tests.training.tiny import CPU, Result, command, files, overrides, training, wait_until

RUN = "runs/digits"
FROM_THE_START = "the same command starts from the beginning"


def stopped(folder: Path, *words: str, at: Callable[[], object]) -> str:
    """The command's last line when SIGTERM comes at that moment."""
    with fork(*words, folder=folder) as process:
        wait_until(lambda: bool(at()), process, poll_s=0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + signal.SIGTERM, ""), err
    assert "Traceback" not in err
    last = str(err.splitlines()[-1])
    assert last.startswith("stopped by SIGTERM")
    return last


def again(folder: Path, *words: str) -> Result:
    result = command(*words, folder=folder)
    assert result.code == 0, result.err
    return result


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 2,000 pictures in many/, and a cache of its own."""
    folder = tmp_path / "many"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)
    for number, pixels in enumerate(values):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    for number in range(10, 2_000):
        (folder / f"{number}.png").hardlink_to(folder / f"{number % 10}.png")
    monkeypatch.setenv("NCSNX_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_training_resumes_from_the_step_that_is_named(tmp_path: Path) -> None:
    words = training("steps=100k", "checkpoint_every=100k", "log_every=1", "snapshots=none")
    run = Run(tmp_path / RUN)
    last = stopped(tmp_path, *words, at=run.metrics_path.exists)
    told = re.search(r"; the same command resumes from step ([\d,]+)$", last)
    assert told is not None
    assert checkpoints(run) == [int(told[1].replace(",", ""))]
    with fork(*words, folder=tmp_path) as process:
        assert process.stderr is not None
        assert any(f"from step {told[1]}" in line for line in iter(process.stderr.readline, ""))
        process.kill()


def test_training_that_has_not_begun_says_so(pictures: Path) -> None:
    words = ("train", "digits", "data=images", "data.root=many", "data.image_size=8", "data.channels=1")
    last = stopped(pictures, *words, at=lambda: list(pictures.glob("cache/scans/*/.lock")))
    assert last == "stopped by SIGTERM; no step was trained; repeat the command to train"
    assert not (pictures / "runs").exists()


@pytest.mark.slow
def test_losses_resume_after_the_last_finished_batch(workplace: Path) -> None:
    words = ("loss", "digits", "--batch-size", "16", "--range", "latest", "--json", *CPU)
    parts = workplace / RUN / "loss"
    last = stopped(workplace, *words, at=lambda: list(parts.glob("*/.parts/*/*.safetensors")))
    assert last.endswith("; finished batches are kept, and the same command resumes after them")
    kept = len(list(parts.glob("*/.parts/*/*.safetensors")))
    assert 0 < kept < 19
    resumed = again(workplace, *words)
    assert not list(parts.glob("*/.parts/*"))
    (sweep,) = parts.iterdir()
    sweep.rename(workplace / "resumed")
    whole = again(workplace, *words)
    values = [re.findall(r'"score": .*|"levels": \[[^]]*\]', result.out) for result in (resumed, whole)]
    assert values[0] == values[1] != []


@pytest.mark.slow
def test_samples_resume_after_the_last_finished_batch(workplace: Path) -> None:
    words = ("sample", "digits", "--n", "60", "--batch-size", "4", "--out", "out", "sampler.steps_per_level=5", *CPU)
    last = stopped(workplace, *words, at=lambda: list((workplace / "out").rglob("*.safetensors")))
    assert last.endswith("; finished batches are kept, and the same command resumes after them")
    told = re.search(r"60 images, (\d+) of them already sampled, from", again(workplace, *words).err)
    assert told is not None
    assert 0 < int(told[1]) < 60


@pytest.mark.slow
def test_an_import_keeps_what_was_imported_and_imports_the_others(trained: Path, tmp_path: Path) -> None:
    ours = Run(trained / RUN)
    states = states_of(ours.checkpoints / "step-00000012", ours.experiment())
    (tmp_path / "published").mkdir()
    for step in range(1, 21):
        states[3] = step  # type: ignore[index]
        write(tmp_path / "published" / f"checkpoint_{step}.pth", states)
    words = ("import", "published", "digits", *overrides())
    run = Run(tmp_path / RUN)
    last = stopped(tmp_path, *words, at=lambda: run.path.exists() and checkpoints(run))
    assert last.endswith("; imported checkpoints are kept, and the same command imports the others")
    there = len(checkpoints(run))
    assert 0 < there < 20
    assert f"{20 - there} imported, {there} already imported" in again(tmp_path, *words).err


@pytest.mark.parametrize(
    ("words", "trace"),
    [
        (("data", "check", "./many"), "cache/scans/*/.lock"),
        (("new", "mine", "--from", "many", "--no-timing"), "cache/scans/*/.lock"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_what_begins_anew_says_so_and_has_left_nothing(words: tuple[str, ...], trace: str, pictures: Path) -> None:
    last = stopped(pictures, *words, at=lambda: list(pictures.glob(trace)))
    assert last == f"stopped by SIGTERM; {FROM_THE_START}"
    assert {path.split("/")[0] for path in files(pictures)} <= {"many"}
