"""When a tracker's process works: while a processor is idle or for a share of the time; after training, at once.

A low priority wouldn't do. A process can't raise it again, so on a busy machine nothing would be sent after training.
"""

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

_PACE_S = 1.0
"""Shortest time in seconds between two looks at the run."""
_LOOK_S = 5.0
"""Interval in seconds at which the process looks whether the training's process still exists."""
_IDLE = 0.9
"""Share of the last second from which a processor counts as idle."""


class Turns:
    """Waits for news on standard input, and for a turn to send them.

    A thread reads standard input, so that the end of training is noticed even while the tracker hangs.
    """

    def __init__(
        self,
        *,
        limit_s: int,
        share: float,
        startup_s: float,
        spent_s: Callable[[], float] = time.process_time,
        has_idle_processor: Callable[[], bool] | None = None,
    ) -> None:
        """limit_s: seconds from the end of standard input to that of the process; 0 for any number.

        share: largest share of the time since now that the process computes, while no processor is idle. startup_s:
        computing time that the tracker takes to open its record.
        """
        self._limit_s, self._share, self._startup_s, self._spent_s = limit_s, share, startup_s, spent_s
        self._has_idle_processor = has_idle_processor or IdleProcessors()
        self._begun_s = time.monotonic()
        self._parent = os.getppid()
        self._changed = threading.Condition()
        self._has_news, self._is_over = True, False
        threading.Thread(target=self._watch, name="news", daemon=True).start()

    def wait(self) -> bool:
        """Returns True at the next turn with news, the first of which is the run as it is; False after training."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_news or self._is_over)
            while not self._is_over:
                if self._may_begin():
                    self._has_news = False
                    break
                self._changed.wait_for(lambda: self._is_over, timeout=_PACE_S)
            self._startup_s = 0.0
            return not self._is_over

    def _may_begin(self) -> bool:
        needed = self._spent_s() + self._startup_s
        is_affordable = needed <= self._share * (time.monotonic() - self._begun_s)
        return self._has_idle_processor() or is_affordable

    def _watch(self) -> None:
        while True:
            ready, _, _ = select.select([0], [], [], _LOOK_S)
            is_over = not os.read(0, 2**16) if ready else os.getppid() != self._parent
            with self._changed:
                self._has_news, self._is_over = self._has_news or bool(ready), is_over
                self._changed.notify()
            if is_over:
                signal.alarm(self._limit_s)  # ends the process, whatever it is doing then
                return


class IdleProcessors:
    """Whether a processor of this process was idle since the last call, at least half a second ago (Linux)."""

    def __init__(self, statistics: Path = Path("/proc/stat"), quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> None:
        self._statistics, self._quota = statistics, quota
        self._before: tuple[float, dict[int, tuple[int, int]]] | None = None

    def __call__(self) -> bool:
        now_s, counts = time.monotonic(), self._counts()
        if self._before is None:
            self._before = now_s, counts
            return False
        before_s, before = self._before
        if now_s - before_s < _PACE_S / 2:
            return False
        self._before = now_s, counts
        shares = [
            (idle - before[number][0]) / max(1, total - before[number][1])
            for number, (idle, total) in counts.items()
            if number in before
        ]
        return max(shares, default=0.0) >= _IDLE

    def _counts(self) -> dict[int, tuple[int, int]]:
        """Ticks by processor: (idle, all). Empty where they aren't known, or a container has a quota instead."""
        try:
            if self._quota.exists() and not self._quota.read_text().startswith("max"):
                return {}
            lines = self._statistics.read_text().splitlines()
            ours = os.sched_getaffinity(0)
        except (OSError, AttributeError):
            return {}
        found = {}
        for name, *ticks in (line.split() for line in lines if line.startswith("cpu") and line[3].isdigit()):
            counts = [int(one) for one in ticks[:8]]  # user to steal; guests are part of user
            if int(name[3:]) in ours:
                found[int(name[3:])] = counts[3] + counts[4], sum(counts)
        return found
