"""View of a parameter sweep that trains: a table of its runs above the bar of the current one, or plain lines."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ncsnx.console.messages import Messages, Verbosity
from ncsnx.console.pace import Pace
from ncsnx.console.progress import LINE_INTERVAL_S, displayed
from ncsnx.console.tables import Column, aligned
from ncsnx.console.training import TrainingView
from ncsnx.console.view import Line, View
from ncsnx.jobs.parameter_sweep.sweep_training import PointStatus, SweepDisplay
from ncsnx.jobs.training_job import TrainingConsole, TrainingDisplay
from ncsnx.quantities import counted, number
from ncsnx.training.observer import Pause
from ncsnx.work import Work

if TYPE_CHECKING:
    from ncsnx.jobs.parameter_sweep.points import SweepPoint
    from ncsnx.runs.exported import Weights

_ROOM_BELOW = 9
"""Lines that the current training has below the table."""
_PACE_WINDOW_S = 600.0
_COLUMNS = (Column("run"), Column("step", "right"), Column("loss", "right"), Column("state"))
_CURRENT, _OTHER = "▸ ", "  "
_STYLES = {"finished": "green", "failed": "red", "busy": "yellow", "waiting": "dim"}


class ParameterSweepView(View, SweepDisplay):
    """The runs of a sweep, and the one that trains.

    On a terminal the view fills in place. Elsewhere there is a line when a run begins and ends, and one in ten seconds
    in between. The log of each run gets what `ncsnx train` writes there.
    """

    def __init__(
        self, messages: Messages, points: "Sequence[SweepPoint]", work: Work, alive: Callable[[], object] = lambda: None
    ) -> None:
        """points: those that this process trains. work: of a training, whose messages go to its log. alive: called at
        each step."""
        super().__init__(messages, "sweep", sum(point.experiment.steps for point in points))
        self._points, self._work, self.alive = list(points), work, alive
        self._steps = {point.run: 0 for point in points}
        self._losses: dict[str, float | None] = {}
        self._states = {point.run: "waiting" for point in points}
        self._current: str | None = None
        self._shown_place = self._ended = 0
        self._pace = Pace(_PACE_WINDOW_S)
        self._next_line_s = time.monotonic() + LINE_INTERVAL_S

    # ------------------------------------------------------------------------------------------- the runs of the sweep

    def begin(self, point: "SweepPoint") -> TrainingConsole:
        self._current = point.run
        self._shown_place = self._points.index(point)
        self._states[point.run] = "training"
        self._say(f"{self._place(point.run)} {point.run}: {self._settings(point)}")
        log = Messages(Verbosity.SILENT)

        def warn(text: str) -> None:
            log.warning(text)
            self._messages.warning(f"{point.run}: {text}")

        work = Work(
            progress=self._work.progress,
            check_stop=self._work.check_stop,
            at_once=self._work.at_once,
            info=log.info,
            warning=warn,
            detail=log.detail,
            ranks=self._work.ranks,
        )
        return TrainingConsole(work=work, attach=log.attach, view=partial(self._training, log, point.run))

    def end(self, status: PointStatus) -> None:
        self._current = None
        self._steps[status.run], self._losses[status.run] = status.step, status.loss
        self._states[status.run] = status.state
        self._ended += next(point.experiment.steps for point in self._points if point.run == status.run)
        self._pace.shift(self._ended - self.done)  # steps that were not trained here
        self.done = self._ended
        words = [f"{self._place(status.run)} {status.run}: {status.state}", f"step {status.step:,}"]
        words += [f"loss {_shown(status.loss)} (raw)"] if status.loss is not None else []
        words += [f"held-out {_shown(status.held_out)}"] if status.held_out is not None else []
        if status.state == "failed":
            self._messages.warning(f"{status.run} failed: {status.reason}")
        elif status.state == "busy":
            self._messages.info(f"{status.run} is left out: it is being written by {status.reason}")
        else:
            self._say("  ".join(words))

    def _place(self, run: str) -> str:
        place = next(place for place, point in enumerate(self._points, start=1) if point.run == run)
        return f"{place}/{len(self._points)}"

    def _settings(self, point: "SweepPoint") -> str:
        return " ".join(f"{path}={value}" for path, value in point.values.items())

    # -------------------------------------------------------------------------------------------- the run that trains

    @contextmanager
    def _training(
        self,
        log: Messages,
        run: str,
        *,
        total_steps: int,
        start_step: int,
        batch_size: int,
        folder: Path | None = None,
        pauses: Sequence[Pause] = (),
        losses: Iterable[float] = (),
    ) -> Iterator[TrainingDisplay]:
        inner = TrainingView(
            log,
            total_steps=total_steps,
            start_step=start_step,
            batch_size=batch_size,
            folder=folder,
            pauses=pauses,
            losses=losses,
        )
        self._pace.shift(start_step)
        with inner, displayed(self._messages, inner):
            yield _PointDisplay(inner, self, run, total_steps)

    def stepped(self, run: str, step: int, total: int) -> None:
        """The current training has done a step."""
        self._steps[run] = step
        self.done = self._ended + step
        self.alive()
        if time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + LINE_INTERVAL_S
            if self._messages.live is None:
                loss = self._losses.get(run)
                words = [f"{self._place(run)} {run}: step {step:,}/{total:,}"]
                self._say("  ".join([*words, *([] if loss is None else [f"loss {number(loss)} (raw)"])]))

    def lost(self, run: str, loss: float) -> None:
        """The current training has logged a loss."""
        self._losses[run] = loss

    # ------------------------------------------------------------------------------------------------------ drawing

    def count(self) -> str:
        return f"{sum(state == 'finished' for state in self._states.values())}/{counted(len(self._points), 'run')}"

    def left_s(self) -> float | None:
        self._pace.mark(self.done)
        return self._pace.remaining_s(self.done, self.total)

    def above(self, width: int, room: int) -> Sequence[Line]:
        """The head and the rows around the current run, with a line for those that are cut at each end."""
        room -= _ROOM_BELOW
        if room < 4:
            return ()
        rows = [self._row(point) for point in self._points]
        head, *texts = aligned(_COLUMNS, [[column.title for column in _COLUMNS], *rows])
        lines: list[Line] = [
            [(_CURRENT + text, "bold")] if row[0] == self._current else [(_OTHER + text, _STYLES.get(row[3], ""))]
            for text, row in zip(texts, rows, strict=True)
        ]
        return [[(_OTHER + head, "bold")], *_around(lines, self._shown_place, room - 1)]

    def _row(self, point: "SweepPoint") -> tuple[str, str, str, str]:
        step, loss = self._steps[point.run], self._losses.get(point.run)
        steps = f"{step:,}/{point.experiment.steps:,}" if step else ""
        return point.run, steps, _shown(loss), self._states[point.run]


class _PointDisplay(TrainingDisplay):
    """Passes the events of a training to its own view, whose messages go to the run's log, and to the sweep's."""

    def __init__(self, inner: TrainingView, sweep: ParameterSweepView, run: str, total: int) -> None:
        self._inner, self._sweep, self._run, self._total = inner, sweep, run, total

    def start(self, facts: Mapping[str, str]) -> None:
        self._inner.start(facts)

    def finish(self, outcome: str = "finished") -> None:
        self._inner.finish(outcome)

    def phase(self, name: str) -> None:
        self._inner.phase(name)

    def warning(self, text: str) -> None:
        self._inner.warning(text)

    def note(self, text: str) -> None:
        self._inner.note(text)

    def step(self, step: int, images: int) -> None:
        self._inner.step(step, images)
        self._sweep.stepped(self._run, step, self._total)

    def logged(self, step: int, loss: float, device_memory_bytes: int | None = None) -> None:
        self._inner.logged(step, loss, device_memory_bytes)
        self._sweep.lost(self._run, loss)

    def held_out(self, step: int, loss: float, weights: "Weights") -> None:
        self._inner.held_out(step, loss, weights)

    def checkpoint(self, step: int, path: Path) -> None:
        self._inner.checkpoint(step, path)

    def sampling(self, done: int, total: int, evaluations: int) -> None:
        self._inner.sampling(done, total, evaluations)
        self._sweep.alive()


def _shown(value: float | None) -> str:
    return "" if value is None else number(value)


def _around(lines: Sequence[Line], place: int, room: int) -> list[Line]:
    """The lines that fit into `room`: those around `place`, and counts of the others."""
    if len(lines) <= room:
        return list(lines)
    first = min(max(place - (room - 2) // 2, 0), len(lines) - (room - 2))
    last = first + room - 2
    above, below = first, len(lines) - last
    return [
        *([[(f"{_OTHER}… {above} above", "dim")]] if above else []),
        *lines[first:last],
        *([[(f"{_OTHER}… {below} below", "dim")]] if below else []),
    ]
