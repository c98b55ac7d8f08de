"""Alternating rounds, their spread, and a stop in the middle."""

import pytest
import torch

from ncsnx.benchmarking.rounds import Spread, in_rounds
from ncsnx.errors import Stopped
from ncsnx.work import SILENT, Work

CPU = torch.device("cpu")


def test_each_round_times_every_job_in_turn() -> None:
    called: list[str] = []

    def job(name: str) -> None:
        called.append(name)
        torch.linalg.svd(torch.rand(300, 300))

    jobs = {name: lambda name=name: job(name) for name in ("first", "second")}
    times, stopped = in_rounds(jobs, rounds=3, warm_up=1, device=CPU, name="test", work=SILENT)
    assert stopped is None
    assert {key: len(seconds) for key, seconds in times.items()} == {"first": 3, "second": 3}
    assert all(second > 0 for seconds in times.values() for second in seconds)
    runs = [name for name, before in zip(called, [None, *called], strict=False) if name != before]
    assert runs == ["first", "second"] * 4


@pytest.mark.parametrize("at", [1, 4])
def test_a_stop_keeps_the_complete_rounds(at: int) -> None:
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks > at:
            raise Stopped(2)

    jobs = {"first": lambda: None, "second": lambda: None}
    work = Work(check_stop=check)
    if at == 1:
        with pytest.raises(Stopped):
            in_rounds(jobs, rounds=9, warm_up=0, device=CPU, name="test", work=work)
        return
    times, stopped = in_rounds(jobs, rounds=9, warm_up=0, device=CPU, name="test", work=work)
    assert isinstance(stopped, Stopped)
    assert [len(seconds) for seconds in times.values()] == [2, 2]


def test_a_ratio_is_taken_round_by_round() -> None:
    assert Spread.of_ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == Spread(2.0, 1.0, 3.0)
