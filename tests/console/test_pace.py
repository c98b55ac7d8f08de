"""Pace of a training by a simulated clock: pauses don't count as slow steps, but count for the time left."""

import attrs
import pytest

from ncsnx.console.training import TrainingPace
from ncsnx.training.observer import SAMPLING, TRAINING


@attrs.define
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_pause_slows_no_step_and_comes_again_in_the_time_left() -> None:
    clock = Clock()
    pace = TrainingPace(120, clock)
    pace.phase("verifying checkpoints")
    clock.now_s += 500
    pace.phase(TRAINING)
    clock.now_s += 30  # compilation, in the first step
    for step in range(1, 82):
        clock.now_s += 1.5
        pace.step(step)
        if step % 20 == 0:
            pace.phase(SAMPLING)
            clock.now_s += 60
            pace.phase(TRAINING)
        if step > 1:
            assert pace.steps_per_second() == pytest.approx(1 / 1.5)
    assert pace.remaining_s() == pytest.approx(39 * (1.5 + 60 / 20))


@pytest.mark.parametrize("duration_s", [0.03, 1.0, 30.0])
def test_the_speed_is_that_of_the_last_minute(duration_s: float) -> None:
    clock = Clock()
    pace = TrainingPace(10_000, clock)
    pace.phase(TRAINING)
    durations = [10.0] * 600 + [duration_s] * int(60.5 / duration_s + 1)
    for step, passed_s in enumerate(durations, start=1):
        clock.now_s += passed_s
        pace.step(step)
    # a mark at most every 0.1 s, so the first one is up to four steps before the minute
    assert pace.steps_per_second() == pytest.approx(1 / duration_s, rel=1e-6 if duration_s > 0.1 else 5e-3)
    assert pace.remaining_s() == pytest.approx((10_000 - step) * duration_s, rel=1e-2)
