"""Speed of a job and estimate of its time left. The clock is a parameter."""

import time
from collections import deque
from collections.abc import Callable, Sequence

from ncsnx.training.observer import TRAINING, Pause

Clock = Callable[[], float]
"""Seconds since an arbitrary moment."""

_MARKS = 240
"""Most marks kept per window."""
_MARK_EVERY_S = 0.1


class Pace:
    """Speed at which a count rises, over the last `window_s` seconds.

    One thread makes marks; any thread may read.
    """

    def __init__(self, window_s: float = 60.0, clock: Clock = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque()

    def mark(self, done: int) -> None:
        """Notes that the count is now `done`."""
        now_s, marks = self._clock(), self._marks
        if len(marks) > 1 and now_s - marks[-2][0] < self._window_s / _MARKS:
            marks[-1] = (now_s, done)
            return
        marks.append((now_s, done))
        while len(marks) > 2 and now_s - marks[1][0] >= self._window_s:
            marks.popleft()

    def shift(self, count: int) -> None:
        """Notes that `count` units were done before all marks and don't count for the pace."""
        self._marks = deque((at_s, done + count) for at_s, done in tuple(self._marks))

    def per_second(self) -> float | None:
        """Units per second over the window; None before the count has risen."""
        if len(self._marks) < 2:
            return None
        (first_s, first), (last_s, last) = self._marks[0], self._marks[-1]
        return (last - first) / (last_s - first_s) if last > first and last_s > first_s else None

    def remaining_s(self, done: int, total: int) -> float | None:
        """Estimated seconds until `total`, or None."""
        per_second = self.per_second()
        return None if per_second is None else max(total - done, 0) / per_second


class TrainingPace:
    """Speed of training steps without pauses, and estimate of the time left with them.

    The training thread reports events; any thread may read.
    """

    def __init__(
        self, step: int, total: int, pauses: Sequence[Pause] = (), clock: Clock = time.monotonic, window_s: float = 60.0
    ) -> None:
        """pauses: in the order in which they follow a step."""
        self._step, self._total = step, total
        self._pauses = {pause.phase: pause for pause in pauses}
        self._clock = clock
        self._window_s = window_s
        self._trained_s = 0.0  # in earlier phases of training
        self._present = ("", clock())  # one object, so that readers see a phase with its own start time
        self._costs_s: dict[str, float] = {}
        self._steps = Pace(window_s, self._training_clock)
        self._next_mark_s = clock()
        self._progress: tuple[Pace, int, int] | None = None

    def phase(self, name: str) -> None:
        """Notes the phase that begins now: training, a pause, or another one, which is ignored."""
        (earlier, since_s), now_s = self._present, self._clock()
        if earlier == TRAINING:
            self._trained_s += now_s - since_s
        elif earlier in self._pauses:
            self._costs_s[earlier] = now_s - since_s  # the latest, since the first may include compilation
        self._present, self._progress = (name, now_s), None

    def step(self, step: int) -> None:
        """Notes that `step` is done. The time of the first step is ignored, since it loads and compiles."""
        self._step = step
        if (now_s := self._clock()) >= self._next_mark_s:  # a mark per step would cost a microsecond each
            self._next_mark_s = now_s + _MARK_EVERY_S
            self._steps.mark(step)

    def progress(self, done: int, total: int) -> None:
        """Notes the progress of the current pause."""
        pace = self._progress[0] if self._progress else Pace(self._window_s, self._clock)
        pace.mark(done)
        self._progress = (pace, done, total)

    def steps_per_second(self) -> float | None:
        """Speed over the last `window_s` seconds of training."""
        return self._steps.per_second()

    def remaining_s(self) -> float | None:
        """Estimated seconds until the end, all remaining pauses included, or None."""
        step, per_second = self._step, self._steps.per_second()
        if per_second is None and step < self._total:
            return None
        seconds = (self._total - step) / per_second if per_second else 0.0
        seconds += self.phase_remaining_s() or 0.0
        phase, is_later = self._present[0], False
        for pause in self._pauses.values():
            # pauses that follow the current one after the same step are still to come
            count = pause.count(step, self._total) + (is_later and pause.is_due(step, self._total))
            if count > 0:
                seconds += count * self._cost_s(pause, per_second)
            is_later = is_later or pause.phase == phase
        return seconds or None

    def phase_remaining_s(self) -> float | None:
        """Estimated seconds until the end of the current pause, by its progress or else by the duration of the last."""
        phase, since_s = self._present
        pause, progress = self._pauses.get(phase), self._progress
        if pause is None:
            return None
        if progress is not None and (by_progress_s := progress[0].remaining_s(*progress[1:])) is not None:
            return by_progress_s
        left_s = self._cost_s(pause, self._steps.per_second()) - (self._clock() - since_s)
        return left_s if left_s > 0 else None

    def _cost_s(self, pause: Pause, steps_per_second: float | None) -> float:
        """Estimated seconds of a pause: duration of the last, else the current one's by its progress, else a guess."""
        if (cost_s := self._costs_s.get(pause.phase)) is not None:
            return cost_s
        (phase, since_s), progress = self._present, self._progress
        if phase == pause.phase and progress is not None:
            left_s = progress[0].remaining_s(*progress[1:])
            if left_s is not None:
                return self._clock() - since_s + left_s
        return pause.in_steps / steps_per_second if steps_per_second else 0.0

    def _training_clock(self) -> float:
        return self._trained_s + self._clock() - self._present[1]
