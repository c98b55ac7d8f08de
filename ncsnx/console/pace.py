"""How fast a job goes and when it ends, by a clock that can be given."""

import time
from collections import deque
from collections.abc import Callable, Sequence

from ncsnx.training.observer import TRAINING, Pause

Clock = Callable[[], float]
"""Seconds from any moment on."""

_MARKS = 240
"""Marks kept in a window, however often one is made."""
_MARK_EVERY_S = 0.1


class Pace:
    """How fast a count rises, from what it was over the last minute or another `window_s`.

    Marks come from one thread; any thread may ask.
    """

    def __init__(self, window_s: float = 60.0, clock: Clock = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque()

    def mark(self, done: int) -> None:
        """Note that the count is `done` now."""
        now_s, marks = self._clock(), self._marks
        if len(marks) > 1 and now_s - marks[-2][0] < self._window_s / _MARKS:
            marks[-1] = (now_s, done)
            return
        marks.append((now_s, done))
        while len(marks) > 2 and now_s - marks[1][0] >= self._window_s:
            marks.popleft()

    def shift(self, count: int) -> None:
        """Note that so many were done before all marks, which tells nothing of the pace."""
        self._marks = deque((at_s, done + count) for at_s, done in tuple(self._marks))

    def per_second(self) -> float | None:
        """The rate over the window, or None as long as nothing has moved."""
        if len(self._marks) < 2:
            return None
        (first_s, first), (last_s, last) = self._marks[0], self._marks[-1]
        return (last - first) / (last_s - first_s) if last > first and last_s > first_s else None

    def remaining_s(self, done: int, total: int) -> float | None:
        """The seconds that are left, None where that isn't known."""
        per_second = self.per_second()
        return None if per_second is None else max(total - done, 0) / per_second


class TrainingPace:
    """The speed of training steps, pauses not counted, and the time that steps and pauses will take.

    It is told what happens by the thread that trains; any thread may ask.
    """

    def __init__(
        self, step: int, total: int, pauses: Sequence[Pause] = (), clock: Clock = time.monotonic, window_s: float = 60.0
    ) -> None:
        """`pauses` in the order in which they follow a step."""
        self._step, self._total = step, total
        self._pauses = {pause.phase: pause for pause in pauses}
        self._clock = clock
        self._window_s = window_s
        self._trained_s = 0.0  # in earlier phases of training
        self._present = ("", clock())  # one object, so that whoever asks sees a phase with its own beginning
        self._costs_s: dict[str, float] = {}
        self._steps = Pace(window_s, self._training_clock)
        self._next_mark_s = clock()
        self._progress: tuple[Pace, int, int] | None = None

    def phase(self, name: str) -> None:
        """Note what happens from now on: training, a pause, or something else, which is left out of account."""
        (earlier, since_s), now_s = self._present, self._clock()
        if earlier == TRAINING:
            self._trained_s += now_s - since_s
        elif earlier in self._pauses:
            self._costs_s[earlier] = now_s - since_s  # the last one's: the first may have compiled
        self._present, self._progress = (name, now_s), None

    def step(self, step: int) -> None:
        """Note that `step` is done. The first one's time counts for nothing, since it loads and compiles."""
        self._step = step
        if (now_s := self._clock()) >= self._next_mark_s:  # a mark at every step would cost a microsecond each
            self._next_mark_s = now_s + _MARK_EVERY_S
            self._steps.mark(step)

    def progress(self, done: int, total: int) -> None:
        """Note how far the present pause is."""
        pace = self._progress[0] if self._progress else Pace(self._window_s, self._clock)
        pace.mark(done)
        self._progress = (pace, done, total)

    def steps_per_second(self) -> float | None:
        """The speed over the last minute of training."""
        return self._steps.per_second()

    def remaining_s(self) -> float | None:
        """The time until the end, with every pause to come; None where that isn't known."""
        step, per_second = self._step, self._steps.per_second()
        if per_second is None and step < self._total:
            return None
        seconds = (self._total - step) / per_second if per_second else 0.0
        seconds += self.phase_remaining_s() or 0.0
        phase, is_later = self._present[0], False
        for pause in self._pauses.values():
            # those that follow the present one after the same step are still to come
            count = pause.count(step, self._total) + (is_later and pause.is_due(step, self._total))
            if count > 0:
                seconds += count * self._cost_s(pause, per_second)
            is_later = is_later or pause.phase == phase
        return seconds or None

    def phase_remaining_s(self) -> float | None:
        """The time until the end of the present pause: by its progress, else by what the last one took."""
        phase, since_s = self._present
        pause, progress = self._pauses.get(phase), self._progress
        if pause is None:
            return None
        if progress is not None and (by_progress_s := progress[0].remaining_s(*progress[1:])) is not None:
            return by_progress_s
        left_s = self._cost_s(pause, self._steps.per_second()) - (self._clock() - since_s)
        return left_s if left_s > 0 else None

    def _cost_s(self, pause: Pause, steps_per_second: float | None) -> float:
        """What such a pause takes: the last one's time, else the present one's by its progress, else the guess."""
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
