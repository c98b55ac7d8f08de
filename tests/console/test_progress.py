"""Progress of long jobs: live on a terminal, occasional plain lines elsewhere."""

import re

from .programs import BAR, on_terminal, piped

JOB = """
import time
from ncsnx.console.messages import Messages, Verbosity
from ncsnx.console.progress import progress
with progress(Messages({verbosity}), "sampling [red]", total={total}, unit="images") as advance:
    for step in range({total}):
        time.sleep({pause_s})
        advance()
        {end}
"""


def job(total: int, pause_s: float, end: str = "", verbosity: str = "") -> str:
    return JOB.format(total=total, pause_s=pause_s, end=end, verbosity=verbosity)


def test_a_short_job_in_a_pipe_leaves_one_line() -> None:
    assert piped(job(50, 0.001), FORCE_COLOR="1").stderr == "sampling [red]: 50 images in 0:00:00\n"


def test_a_terminal_gets_a_bar_that_gives_way_to_one_line() -> None:
    text = on_terminal(job(20, 0.05), NO_COLOR="1").text
    assert re.search(rf"sampling \[red\] +{BAR} \d+/20 images +\d+ % +eta 0:00:0\d", text)
    assert re.search(r"\x1b\[2Ksampling \[red\]: 20 images in 0:00:0\d\r\n$", text)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_a_job_in_a_pipe_is_never_silent_for_more_than_ten_seconds() -> None:
    program = """
import time
now_s = 0.0
time.monotonic = lambda: now_s
from ncsnx.console.messages import Messages
from ncsnx.console.progress import progress
with progress(Messages(), "hashing", total=1_000) as advance:
    for _ in range(90):
        now_s += 1.0
        advance()
"""
    lines = piped(program).stderr.splitlines()
    assert lines[:8] == [
        f"hashing  {done}/1,000  {done // 10} %  eta 0:{(1000 - done) // 60:02d}:{(1000 - done) % 60:02d}"
        for done in range(10, 90, 10)
    ]
