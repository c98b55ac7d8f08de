"""Item 1: SIGKILL at seeded random moments of several runs, many of them while a checkpoint is written.

Half of the runs have a slow disk, so that training is steps ahead of the checkpoint that is being written.
"""

import random
import signal
import time
from pathlib import Path

import attrs

from ncsnx.storage.json_lines import read_records
from tests.chaos.report import Tally
from tests.chaos.trials import LONG, finish, result_of, side_by_side, start_after, unlike
from tests.chaos.watching import half_written, times_of, wait_for_write

RUNS = 10
KILLS_A_RUN = 4
REPETITIONS = 5
"""Most repetitions of a run that completed before all planned kills."""
LEAST_IN_WRITES = 15
IN_WRITES = "kills while a checkpoint was being written (its temporary folder stayed behind)"
OTHERS = "kills at other moments"
AHEAD = "of these, kills when training was steps ahead of that checkpoint"
LEAST_AHEAD = 2
SLOW_FILE_S, FILES = 0.05, 5
SLOW_DISK = f"""
import threading, time
import ncsnx.storage.atomic as atomic
plain = atomic.write_pieces
def write(*given, **named):
    if threading.current_thread() is not threading.main_thread():
        time.sleep({SLOW_FILE_S})
    plain(*given, **named)
atomic.write_pieces = write
"""
"""Slows the thread that writes checkpoints, before each file of a checkpoint."""
MISSED = "kills meant for a write that came after it (beyond the 40)"


@attrs.frozen
class Moment:
    """The moment at which a process is killed."""

    in_write: bool
    """Whether the kill comes while a checkpoint is written; otherwise at any time."""
    wait_for: int
    """Number of the write to wait for."""
    share: float
    """Fraction of the write, or of the time of an undisturbed process, after which the kill comes."""

    def __str__(self) -> str:
        return f"{self.share:.2f} of write {self.wait_for}" if self.in_write else f"{self.share:.2f} of the whole time"


@attrs.frozen
class Times:
    """Times of an undisturbed process."""

    whole_s: float
    write_s: float


def plan(seed: int) -> list[list[Moment]]:
    """Moments for each run, three quarters of them while a checkpoint is written."""
    chance = random.Random(f"kills {seed}")
    moments = []
    for _ in range(RUNS):
        kinds = [True] * 3 + [False] * (KILLS_A_RUN - 3)
        chance.shuffle(kinds)
        moments.append([Moment(kind, chance.randint(1, 2), chance.random()) for kind in kinds])
    return moments


def trials(tally: Tally, folder: Path) -> None:
    expected = folder / "undisturbed"
    expected.mkdir()
    times = Times(*times_of(LONG, expected))
    tally.facts.append(f"undisturbed: {times.whole_s:.1f} s, {1000 * times.write_s:.1f} ms a checkpoint")
    moments = plan(tally.seed)

    def one(number: int) -> None:
        left, again = moments[number], 0
        while left:
            if again > REPETITIONS:
                tally.trial(f"run {number}", [f"{len(left)} kills never struck, in {again} runs"])
                return
            # a run that completed early, because kills missed their writes; the remaining kills hit another run
            place = folder / f"run-{number}{'-again' * again}"
            place.mkdir()
            done, problems = kill_as_planned(place, left, times, tally, is_slow=number % 2 == 1)
            result = finish(*LONG, folder=place)
            problems += unlike(place / "runs/digits", expected / "runs/digits")
            if result.code != 0:
                problems.append(f"its last part ended with {result.code}: {result.err[-1500:]}")
            if done or problems:
                tally.trial(f"run {number}, killed at {', '.join(map(str, left[:done]))}", problems, count=done)
            tally.count("runs")
            tally.count("runs with 3 kills or more", int(done >= 3))
            left, again = [] if problems else left[done:], again + 1

    side_by_side(one, range(RUNS))
    tally.require("kills in writes", tally.also[IN_WRITES], LEAST_IN_WRITES)
    tally.require(AHEAD, tally.also[AHEAD], LEAST_AHEAD)
    tally.require("runs with 3 kills or more", tally.also["runs with 3 kills or more"], 1)


def kill_as_planned(
    place: Path, moments: list[Moment], times: Times, tally: Tally, *, is_slow: bool
) -> tuple[int, list[str]]:
    """Kills the run's processes at these moments. Returns the number of kills before the run completed, and problems.

    A process that ends by itself must have completed the run. is_slow: whether its disk is slow.
    """
    done = 0
    prelude, write_s = (SLOW_DISK, times.write_s + FILES * SLOW_FILE_S) if is_slow else ("", times.write_s)
    while done < len(moments):
        moment, before = moments[done], half_written(place)
        with start_after(prelude, *LONG, folder=place) as process:
            if moment.in_write:
                wait_for_write(place, process, moment.wait_for, before)
                time.sleep(moment.share * write_s)
            else:
                time.sleep(moment.share * times.whole_s)
            process.kill()
            result = result_of(process)
        if result.code == 0:
            return done, []
        if result.code != -signal.SIGKILL:
            return done, [f"before kill {done + 1} it ended by itself with {result.code}: {result.err[-1500:]}"]
        struck = half_written(place) - before
        if moment.in_write and not struck:
            tally.count(MISSED)
            continue
        tally.count(IN_WRITES if struck else OTHERS)
        tally.count(AHEAD, int(_is_ahead(place, struck)))
        done += 1
    return done, []


def _is_ahead(place: Path, struck: set[str]) -> bool:
    """Whether steps were recorded beyond the checkpoint whose temporary folder stayed behind."""
    metrics = (record for path in place.glob("runs/*/metrics.jsonl") for record in read_records(path))
    reached = max((record["step"] for record in metrics), default=0)
    return any(int(name.removeprefix(".step-").partition(".")[0]) < reached for name in struck)
