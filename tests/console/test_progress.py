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


def test_a_signal_while_the_view_opens_leaves_no_hidden_cursor() -> None:
    text = on_terminal("""
from ncsnx.console.messages import Messages
from ncsnx.console.progress import Job, displayed
class Struck(Job):
    is_struck = False
    def count(self):
        if not self.is_struck:
            self.is_struck = True
            raise KeyboardInterrupt
        return super().count()
messages = Messages()
with displayed(messages, Struck(messages, "sampling", 2)):
    messages.info("not reached")
""").text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert "KeyboardInterrupt" in text.split("\x1b[?25h")[1]
    assert "not reached" not in text.split("Traceback")[0]


def test_a_job_inside_a_live_view_has_a_bar_below_the_others_as_long_as_it_lasts() -> None:
    text = on_terminal(
        """
import time
from ncsnx.console.messages import Messages
from ncsnx.console.progress import progress
messages = Messages()
with progress(messages, "outer", total=4, unit="files") as advance:
    advance(1)
    with progress(messages, "inner", total=10, unit="MiB") as advance_inner:
        advance_inner(5)
        time.sleep(0.6)
    advance(1)
    time.sleep(0.6)
""",
        NO_COLOR="1",
    ).text
    assert re.search(rf"outer +{BAR} 1/4 files +25 %.*\r\ninner +{BAR} 5/10 MiB +50 %", text)
    _, after = text.split("inner: 5 MiB in 0:00:0")
    assert re.search(rf"outer +{BAR} 2/4 files +50 %", after)
    assert not re.search("inner +━", after.split("2/4 files")[-1])


def test_a_view_follows_the_size_of_its_terminal() -> None:
    text = on_terminal(
        """
import fcntl, os, struct, termios, time
from ncsnx.console.messages import Messages
from ncsnx.console.progress import progress
del os.environ["COLUMNS"]
messages = Messages()
fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
with progress(messages, "sampling", total=2, unit="images") as advance:
    advance(1)
    for columns in (60, 50, 80):
        fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        messages.info(f"{columns} columns")
        time.sleep(0.6)  # two refreshes
""",
        NO_COLOR="1",
    ).text
    bars = []
    for part, columns in zip(text.split(" columns")[1:], (60, 50, 80), strict=True):
        _, *lines = re.findall("sampling [^\r]+", part)  # the first was drawn before
        assert all(len(line) <= columns for line in lines)
        bars.append(lines[-1].count("━"))
    assert bars[2] > bars[0] > bars[1] > 0


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
