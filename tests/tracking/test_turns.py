"""A tracker's process works while a processor is idle, for a hundredth of the time, and at once after training."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncsnx.tracking import turns
from ncsnx.tracking.turns import IdleProcessors, Turns

BUSY = "cpu  9 0 0 9\ncpu0 {} 0 0 {} 0 0 0 0 0 0\ncpu1 {} 0 0 {} 0 0 0 0 0 0\nintr 5\n"


@pytest.fixture
def news(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a pipe whose other end is standard input."""
    kept, (read, write) = os.dup(0), os.pipe()
    os.dup2(read, 0)
    os.close(read)
    monkeypatch.setattr(turns, "_PACE_S", 0.01)
    monkeypatch.setattr(turns.signal, "alarm", lambda seconds: None)
    try:
        yield write
    finally:
        os.dup2(kept, 0)  # if the test hasn't done so, the thread sees the end now
        os.close(kept)


def test_it_begins_at_once_where_a_processor_is_idle_and_looks_again_for_news(news: int) -> None:
    found = Turns(limit_s=30, share=0.01, startup_s=100, spent_s=lambda: 50.0, has_idle_processor=lambda: True)
    assert found.wait()
    os.write(news, b"...")
    assert found.wait()
    os.close(news)
    assert not found.wait()
    assert not found.wait()


def test_it_works_for_a_hundredth_of_the_time_where_none_is(news: int) -> None:
    spent_s = [0.001]
    found = Turns(limit_s=30, share=0.01, startup_s=0.003, spent_s=lambda: spent_s[0], has_idle_processor=lambda: False)
    begun = time.monotonic()
    assert found.wait()
    assert time.monotonic() - begun >= 0.39
    spent_s[0] = 1_000.0
    os.write(news, b".")
    os.close(news)
    assert not found.wait()


def test_an_idle_processor_is_seen_in_the_ticks_of_the_last_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(turns.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    statistics = tmp_path / "stat"
    found = IdleProcessors(statistics, tmp_path / "none")
    seen = []
    for busy0, idle0, busy1, idle1 in ((0, 0, 0, 0), (100, 0, 50, 50), (200, 0, 55, 145), (300, 0, 155, 145)):
        statistics.write_text(BUSY.format(busy0, idle0, busy1, idle1))
        seen.append(found())
        now[0] += 1
    assert seen == [False, False, True, False]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    statistics.write_text(BUSY.format(400, 0, 155, 245))
    assert not found()


def test_where_nothing_is_known_or_a_quota_counts_no_processor_is_idle(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("something else\ncpu0 a\n")
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    assert not IdleProcessors(tmp_path / "missing", tmp_path / "none")()
    assert not IdleProcessors(tmp_path / "stat", tmp_path / "cpu.max")()
