"""View of a training run: a live block on a terminal, lines for a batch log elsewhere."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ncsnx.console.messages import Messages
from ncsnx.console.progress import LINE_INTERVAL_S, Line, View, displayed
from ncsnx.errors import printable
from ncsnx.quantities import byte_size, counted, duration, number
from ncsnx.training.observer import TRAINING, TrainingObserver

if TYPE_CHECKING:
    from ncsnx.exports.exported import Weights

_LABEL_WIDTH = 16
_WEIGHTS = {"raw": "raw", "ema": "EMA"}
"""Names of weights beside their loss, since the training loss of the raw weights can't be compared with the others."""


class TrainingPace:
    """Speed of training steps without pauses, and an estimate of the time left with pauses as they were so far."""

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self._step, self._total, self._clock = 0, total, clock
        self._trained_s = 0.0  # in earlier phases of training
        self._is_training, self._since_s = True, clock()
        self._first: tuple[int, float, float] | None = None  # the first step, its time, and its time in training
        self._marks = deque[tuple[float, int]]()  # (time in training, step), at most ten per second

    def phase(self, name: str) -> None:
        """Notes the phase that begins now: training, or a pause."""
        now_s = self._clock()
        self._trained_s, self._is_training, self._since_s = self._trained(now_s), name == TRAINING, now_s

    def step(self, step: int) -> None:
        """Notes that `step` is done. The time of the first step is ignored, since it loads and compiles."""
        now_s = self._clock()
        self._step, trained_s = step, self._trained(now_s)
        self._first = self._first or (step, now_s, trained_s)
        if not self._marks or trained_s >= self._marks[-1][0] + 0.1:
            self._marks.append((trained_s, step))
        while len(self._marks) > 2 and self._marks[1][0] <= trained_s - 60:
            self._marks.popleft()

    def _trained(self, now_s: float) -> float:
        return self._trained_s + self._is_training * (now_s - self._since_s)

    def steps_per_second(self) -> float | None:
        """Speed over the last minute of training; None before the second mark."""
        if len(self._marks) < 2:
            return None
        (first_s, first), (last_s, last) = self._marks[0], self._marks[-1]
        return (last - first) / (last_s - first_s)

    def remaining_s(self) -> float | None:
        """Estimated seconds until the end, or None."""
        if (speed := self.steps_per_second()) is None or self._first is None:
            return None
        first, first_s, trained_s = self._first
        now_s = self._clock()
        paused_s = now_s - first_s - (self._trained(now_s) - trained_s)
        return (self._total - self._step) * (1 / speed + paused_s / (self._step - first)) or None


class TrainingView(View, TrainingObserver):
    """A live block on a terminal, which stays when it is closed; plain lines elsewhere and always in the log.

    There is a line at most every ten seconds, and one for each checkpoint and each new phase. Quiet output shows errors
    only.
    """

    def __init__(
        self,
        messages: Messages,
        *,
        total_steps: int,
        start_step: int,
        batch_size: int,
        dimensions: int = 1,
        folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """batch_size: images per optimizer step. dimensions: values of an image. folder: the run."""
        super().__init__(messages, "starting", total_steps, start_step)
        self._batch_size, self._dimensions = batch_size, dimensions
        self._folder = folder
        self._images = start_step * batch_size
        self._announced_phases: set[str] = set()
        self._loss: float | None = None
        self._device_memory_bytes: int | None = None
        self._held_out: tuple[int, float, str] | None = None
        self._checkpoint: tuple[int, Path] | None = None
        self._sampling: tuple[int, int, int] | None = None
        self._clock = clock
        self._pace = TrainingPace(total_steps, clock)
        self._started_s = clock()
        self._next_line_s = self._started_s + LINE_INTERVAL_S
        self._is_over = False
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        self._opened.enter_context(displayed(self._messages, self, transient=False))
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def start(self, facts: Mapping[str, str]) -> None:
        """Shows facts about the training, one label and value per line."""
        width = max(map(len, facts), default=0)
        for label, value in facts.items():
            self._messages.info(f"{label:<{width}}  {value}")

    def finish(self, outcome: str = "finished") -> None:
        """Closes the view with a summary that begins with `outcome`, such as 'ended'."""
        self.name = printable(outcome)
        self._close()
        taken = duration(self._clock() - self._started_s)
        summary = [f"{outcome} at step {self.count()} after {taken}", *self._losses_in_words()]
        self._messages.info("  ".join(summary))
        if self._folder is not None:
            self._messages.info(f"all files are in {self._folder}")

    def warning(self, text: str) -> None:
        self._messages.warning(text)

    def note(self, text: str) -> None:
        self._say(text)

    def phase(self, name: str) -> None:
        self.name = printable(name)
        self._pace.phase(name)
        self._sampling = None
        # Snapshots and checkpoints recur: each phase is announced once.
        if name not in self._announced_phases:
            self._announced_phases.add(name)
            self._say(name)

    def step(self, step: int, images: int) -> None:
        self.done = step
        self._images += images
        self._pace.step(step)
        # Reading the clock costs 50 ns; without it, a run with slow steps would be silent between logged steps.
        if self._clock() >= self._next_line_s:
            self._say_progress()

    def logged(self, step: int, loss: float, device_memory_bytes: int | None = None) -> None:
        is_first = self._loss is None
        self.done = step
        self._loss = loss
        self._device_memory_bytes = device_memory_bytes
        if is_first or self._clock() >= self._next_line_s:
            self._say_progress()

    def held_out(self, step: int, loss: float, weights: "Weights") -> None:
        self._held_out = (step, loss, _WEIGHTS[weights])

    def checkpoint(self, step: int, path: Path) -> None:
        self._checkpoint = (step, path)
        self._say(f"step {step:,}  checkpoint {path}")

    def sampling(self, done: int, total: int, evaluations: int) -> None:
        self._sampling = (done, total, evaluations) if done < total else None
        if self._clock() >= self._next_line_s:
            self._say_progress()

    def left_s(self) -> float | None:
        return None if self._is_over else self._pace.remaining_s()

    def above(self, room: int) -> Sequence[Line]:
        """Labels and values, for all values known so far."""
        return [(f"{label:<{_LABEL_WIDTH}}{value}", "") for label, value in self._rows()]

    def _close(self) -> None:
        self._is_over = True  # the last drawing shows no time left
        self._opened.close()

    def _say_progress(self) -> None:
        self._next_line_s = self._clock() + LINE_INTERVAL_S
        count, _, left = self.parts()
        words = [f"step {count}"]
        if self._sampling is not None:
            words.append(f"sampling {self._sampling_in_words(self._sampling)}")
        else:
            words += self._losses_in_words()
            if (speed := self._speed()) is not None:
                words.append(f"{number(speed)} images/s")
        self._say("  ".join(filter(None, [*words, left])))

    def _sampling_in_words(self, sampling: tuple[int, int, int]) -> str:
        done, total, evaluations = sampling
        return f"{done:,}/{total:,}, {counted(evaluations, 'evaluation')}"

    def _losses_in_words(self) -> list[str]:
        losses = []
        if self._loss is not None:
            losses.append(f"loss {number(self._loss)} ({_WEIGHTS['raw']}{self._each(self._loss)})")
        if self._held_out is not None:
            _, loss, weights = self._held_out
            losses.append(f"held-out {number(loss)} ({weights}{self._each(loss)})")
        return losses

    def _each(self, loss: float) -> str:
        """A loss per dimension, which can be judged whatever the size of the images."""
        return f", {number(loss / self._dimensions)} per dimension" if self._dimensions > 1 else ""

    def _speed(self) -> float | None:
        """Images per second of training, without pauses."""
        steps_per_second = self._pace.steps_per_second()
        return None if steps_per_second is None else steps_per_second * self._batch_size

    def _rows(self) -> list[tuple[str, str]]:
        rows: list[tuple[str, str]] = []
        # Each is read once, since the training thread may replace it meanwhile.
        loss, held_out = self._loss, self._held_out
        checkpoint, sampling = self._checkpoint, self._sampling
        if loss is not None:
            rows.append((f"loss ({_WEIGHTS['raw']})", f"{number(loss)}{self._each(loss)}"))
        if held_out is not None:
            step, loss, weights = held_out
            rows.append((f"held-out ({weights})", f"{number(loss)}{self._each(loss)} at step {step:,}"))
        if (speed := self._speed()) is not None:
            rows.append(("speed", f"{number(speed)} images/s, {counted(self._images, 'image')} so far"))
        if sampling is not None:
            rows.append(("sampling", self._sampling_in_words(sampling)))
        if checkpoint is not None:
            rows.append(("checkpoint", f"step {checkpoint[0]:,} in {printable(checkpoint[1].name)}"))
        if (memory := self._device_memory_bytes) is not None:
            rows.append(("device memory", byte_size(memory)))
        if self._folder is not None:
            rows.append(("files", printable(str(self._folder))))
        return rows
