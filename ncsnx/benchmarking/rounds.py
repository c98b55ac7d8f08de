"""Timing of several jobs in alternating rounds, so that changes in the machine's speed affect all of them."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import attrs
import torch

from ncsnx.errors import Stopped
from ncsnx.work import Work

_LEAST_S = 0.02
"""Shorter jobs are repeated within a round, so that the clock doesn't matter."""


@attrs.frozen
class Spread:
    """Median and range over rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def of_ratios(cls, first: Sequence[float], second: Sequence[float]) -> "Spread":
        """The spread of first / second, round by round."""
        return cls.of([a / b for a, b in zip(first, second, strict=True)])


def wait_for(device: torch.device) -> None:
    """Waits until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_of(job: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Seconds per call of a job, with the device's work."""
    wait_for(device)
    start = time.perf_counter()
    for _ in range(calls):
        job()
    wait_for(device)
    return (time.perf_counter() - start) / calls


def in_rounds(
    jobs: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int, device: torch.device, name: str, work: Work
) -> tuple[dict[str, list[float]], Stopped | None]:
    """Seconds of each job per round, and the stop that ended the rounds early, if any.

    Each round times all jobs once; jobs shorter than 20 ms several times. `warm_up` calls of each come first. After a
    stop, the complete rounds are returned. Raises Stopped if there is none.
    """
    times: list[dict[str, float]] = []
    with work.progress(name, total=(warm_up + rounds) * len(jobs), unit="timings") as advance:
        try:
            calls = {}
            for key, job in jobs.items():
                for _ in range(warm_up):
                    work.check_stop()
                    calls[key] = math.ceil(_LEAST_S / max(seconds_of(job, device), _LEAST_S / 100))
                    advance()
            for _ in range(rounds):
                current = {}
                for key, job in jobs.items():
                    work.check_stop()
                    current[key] = seconds_of(job, device, calls.get(key, 1))
                    advance()
                times.append(current)
        except Stopped as stopped:
            if not times:
                raise
            return {key: [one[key] for one in times] for key in jobs}, stopped
    return {key: [one[key] for one in times] for key in jobs}, None
