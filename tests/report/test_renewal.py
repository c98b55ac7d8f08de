"""Renewal of a run's page while it trains."""

import threading
from pathlib import Path

import pytest

from ncsnx.errors import NcsnxError
from ncsnx.report.renewal import renewed_report
from ncsnx.runs.folder import Run
from tests.training.tiny import command, training


class Heard:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.steps: list[int] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def checkpoint(self, step: int, path: Path) -> None:
        self.steps.append(step)


def test_the_page_is_written_in_the_background_and_at_the_end(run: Run) -> None:
    heard, threads = Heard(), []
    with renewed_report(run, heard, lambda run: threads.append(threading.current_thread().name)) as observer:  # type: ignore[arg-type]
        observer.checkpoint(10, run.path)

    assert heard.steps == [10]
    assert len(threads) == 2
    assert all(name.startswith("report") for name in threads)


def test_slow_renewals_are_rare(run: Run) -> None:
    heard, written = Heard(), threading.Event()
    calls = []

    def write(run: Run) -> None:
        calls.append(run)
        threading.Event().wait(0.02)  # 0.02 s allow the next renewal after 2 s
        written.set()

    with renewed_report(run, heard, write) as observer:  # type: ignore[arg-type]
        for step in range(10, 60, 10):
            observer.checkpoint(step, run.path)
            assert written.wait(10)
            threading.Event().wait(0.03)

    assert len(calls) == 2  # after the first checkpoint and at the end


def test_a_page_that_cannot_be_written_is_said_once(run: Run) -> None:
    heard = Heard()

    def fail(run: Run) -> None:
        raise NcsnxError("the disk is full")

    with renewed_report(run, heard, fail) as observer:  # type: ignore[arg-type]
        for step in (10, 20, 30):
            observer.checkpoint(step, run.path)

    assert heard.warnings == ["no report: the disk is full; training continues without it"]


def test_an_error_of_training_passes(run: Run) -> None:
    with pytest.raises(RuntimeError, match="training"), renewed_report(run, Heard(), lambda run: None):  # type: ignore[arg-type]
        raise RuntimeError("training")


def test_training_writes_the_page_unless_told_not_to(tmp_path: Path) -> None:
    assert command(*training(), folder=tmp_path).code == 0
    assert command(*training(), "--no-report", "--run", "other", folder=tmp_path).code == 0

    page = (tmp_path / "runs/digits/report.html").read_text("utf-8")
    assert "12 of 12" in page
    assert page.count('type="radio"') > 0
    assert not (tmp_path / "runs/other/report.html").exists()
    weights = [tmp_path / "runs" / name / "checkpoints/step-00000012/model.safetensors" for name in ("digits", "other")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_folder_in_place_of_the_page_does_not_stop_training(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert command(*training("steps=6"), folder=tmp_path).code == 0
    page = tmp_path / "runs/digits/report.html"
    page.unlink()
    page.mkdir()

    ended = command(*training(), folder=tmp_path)

    assert ended.code == 0
    assert (ended.out + ended.err).count("no report") == 1
