"""Pace of a training by a simulated clock: pauses don't count as slow steps, but count for the time left."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncsnx.console.training import TrainingPace
from ncsnx.training.observer import CHECKPOINT, EVALUATING, SAMPLING, TRAINING, Pause

STEP_S, EVALUATION_S, CHECKPOINT_S, GRID_S = 1.5, 2.0, 4.0, 60.0
COSTS_S = {EVALUATING: EVALUATION_S, CHECKPOINT: CHECKPOINT_S, SAMPLING: GRID_S}
STATES = 30
PAUSES = (
    Pause(phase=EVALUATING, every=10),
    Pause(phase=CHECKPOINT, every=20, at_end=True),
    Pause(phase=SAMPLING, every=40, at_end=True, in_steps=100),
)


@attrs.define
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@attrs.define(slots=False)
class Run:
    """A training of `total` steps with constant durations, which records the estimates at each moment."""

    total: int
    clock: Clock = attrs.Factory(Clock)
    seen: list[tuple[str, int, float, float | None, float | None]] = attrs.Factory(list)
    """(phase, step, time, remaining_s, steps_per_second)."""

    def __attrs_post_init__(self) -> None:
        self.pace = TrainingPace(0, self.total, PAUSES, self.clock)

    def go(self) -> "Run":
        self.pace.phase(TRAINING)
        self.clock.now_s += 30  # compilation, in the first step
        for step in range(1, self.total + 1):
            self.clock.now_s += STEP_S
            self.pace.step(step)
            self._look(TRAINING, step)
            for pause in PAUSES:
                if pause.is_due(step, self.total):
                    self._pause(pause.phase, step)
            self.pace.phase(TRAINING)
        return self

    def _pause(self, phase: str, step: int) -> None:
        self.pace.phase(phase)
        self._look(phase, step)
        if phase != SAMPLING:
            self.clock.now_s += COSTS_S[phase] / 2
            self._look(phase, step)
            self.clock.now_s += COSTS_S[phase] / 2
            return
        for _ in range(STATES):
            self.clock.now_s += GRID_S / STATES
            self._look(phase, step)

    def _look(self, phase: str, step: int) -> None:
        self.seen.append((phase, step, self.clock(), self.pace.remaining_s(), self.pace.steps_per_second()))


def test_the_speed_is_that_of_steps_whatever_interrupts_them() -> None:
    run = Run(120)
    run.pace.phase("verifying checkpoints")
    run.clock.now_s += 500
    speeds = [speed for *_, speed in run.go().seen if speed is not None]
    assert len(speeds) > 200
    assert speeds == [pytest.approx(1 / STEP_S)] * len(speeds)


@pytest.mark.parametrize("duration_s", [0.03, 1.0, 30.0])
def test_the_speed_is_that_of_the_last_minute(duration_s: float) -> None:
    clock = Clock()
    pace = TrainingPace(0, 10_000, (), clock)
    pace.phase(TRAINING)
    durations = [10.0] * 600 + [duration_s] * int(60.5 / duration_s + 1)
    for step, passed_s in enumerate(durations, start=1):
        clock.now_s += passed_s
        pace.step(step)
    # a mark at most every 0.1 s, so the first one is up to four steps before the minute
    assert pace.steps_per_second() == pytest.approx(1 / duration_s, rel=1e-6 if duration_s > 0.1 else 5e-3)


def test_the_end_is_foreseen_to_the_second_once_every_pause_came_once() -> None:
    run = Run(120).go()
    for phase, step, time_s, left_s, _ in run.seen:
        if step < 41 or (phase == TRAINING and step % 10 == 0):
            continue  # before the first grid is done, and between a step and its pause
        if run.clock() - time_s > 1e-6:
            assert left_s == pytest.approx(run.clock() - time_s), (phase, step)


@given(
    st.integers(1, 30), st.booleans(), st.integers(0, 100).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
)
def test_pauses_are_counted_as_they_fall_due(every: int, at_end: bool, steps: tuple[int, int]) -> None:
    after, total = steps
    pause = Pause(phase=SAMPLING, every=every, at_end=at_end)
    assert pause.count(after, total) == sum(pause.is_due(step, total) for step in range(after + 1, total + 1))
