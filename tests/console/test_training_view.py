"""View of a training run: live on a terminal, plain lines elsewhere, always log.txt."""

import re
from pathlib import Path

import pytest

from .programs import BAR, HIDE_CURSOR, SHOW_CURSOR, on_terminal, piped

TRAIN = """
import sys, time
from pathlib import Path
from ncsnx.console.messages import Messages, Verbosity
from ncsnx.console.training import TrainingView

now_s = 0.0
messages = Messages(Verbosity.{verbosity})
messages.attach(Path({log!r}))
with TrainingView(
    messages, total_steps=1500, start_step=100, batch_size=8, folder=Path("runs/x"), clock=lambda: now_s
) as view:
    view.start({{"experiment": "digits [red]", "device": "cpu"}})
    view.phase("training")
    for step in range(101, 301):
        now_s += 8 / 1840
        view.step(step, 8)
        if step % 100 == 0:
            view.held_out(step, 0.1301, "ema")
            view.logged(step, 0.1234, 3 * 2**30)
    view.checkpoint(1300, Path("runs/x/checkpoints/step-00001300"))
    view.sampling(2, 10, 6)
    time.sleep(0.6)  # two refreshes
    messages.warning("a message above")
    sys.stderr.write("stray output\\n")
    {end}
    view.finish("ended")
assert sys.stderr is sys.__stderr__
"""


def program(tmp_path: Path, verbosity: str = "NORMAL", end: str = "") -> str:
    return TRAIN.format(verbosity=verbosity, log=str(tmp_path / "log.txt"), end=end)


PLAIN_LINES = [
    r"experiment  digits \[red\]",
    r"device      cpu",
    r"training",
    r"step 200/1,500  loss 0\.1234 \(raw\)  held-out 0\.1301 \(EMA\)  1,840 images/s  eta 0:00:06",
    r"step 1,300  checkpoint runs/x/checkpoints/step-00001300",
    r"warning: a message above",
    r"stray output",
    r"ended at step 300/1,500 after 0:00:01  loss 0\.1234 \(raw\)  held-out 0\.1301 \(EMA\)",
    r"all files are in runs/x",
]


def test_piped_lines_are_plain_whatever_the_environment_forces(tmp_path: Path) -> None:
    done = piped(program(tmp_path), FORCE_COLOR="1", TTY_COMPATIBLE="1", TTY_INTERACTIVE="1")
    assert (done.stdout, done.returncode) == ("", 0)
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(PLAIN_LINES)
    for line, expected in zip(lines, PLAIN_LINES, strict=True):
        assert re.fullmatch(expected, line)


def test_a_terminal_gets_a_live_block_whatever_the_environment_denies_and_is_restored(tmp_path: Path) -> None:
    shown = on_terminal(program(tmp_path), NO_COLOR="1", FORCE_COLOR="", TTY_COMPATIBLE="0", TTY_INTERACTIVE="0")
    assert shown.exit_code == 0
    assert shown.text.count(HIDE_CURSOR) == shown.text.count(SHOW_CURSOR) == 1
    assert shown.attributes_kept
    for expected in (
        rf"training +{BAR} 300/1,500 +20 % +eta 0:00:05",
        r"loss \(raw\) +0\.1234",
        r"held-out \(EMA\) +0\.1301 +at step 300",
        r"speed +1,840 images/s, 2,400 images so far",
        r"sampling +2/10, 6 evaluations",
        r"checkpoint +step 1,300 in step-00001300",
        r"device memory +3\.0 GiB",
        r"files +runs/x",
    ):
        assert re.search(expected, shown.text)


def test_messages_and_stray_output_appear_above_the_live_block(tmp_path: Path) -> None:
    text = on_terminal(program(tmp_path), NO_COLOR="1").text
    # Each is followed by the block, which is redrawn below it.
    assert re.search(r"warning: a message above\r\n(?:\x1b\[\d*[A-Z]|\r)*loss \(raw\) +0\.1234\r", text)
    assert re.search(r"stray output\r\n(?:\x1b\[\d*[A-Z]|\r)*loss \(raw\) +0\.1234\r", text)


def test_a_forked_data_worker_writes_past_the_live_view(tmp_path: Path) -> None:
    fork = """
    import os
    if not (child := os.fork()):
        sys.stderr.write("from the worker\\n")
        sys.stderr.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""
    shown = on_terminal(program(tmp_path, end=fork.strip()))
    assert shown.exit_code == 0
    assert "from the worker" in shown.text
    assert "from the worker" not in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit(3)"])
def test_the_terminal_is_restored_when_an_exception_passes(tmp_path: Path, error: str) -> None:
    shown = on_terminal(program(tmp_path, end=f"raise {error}"))
    assert shown.exit_code != 0
    assert shown.text.count(HIDE_CURSOR) == 1
    after = shown.text[shown.text.index(SHOW_CURSOR) :]
    assert "━" not in after
    if not error.startswith("SystemExit"):
        assert re.search(r"^Traceback", after.removeprefix(SHOW_CURSOR))
    assert shown.attributes_kept


@pytest.mark.parametrize("terminal", ["dumb", "unknown"])
def test_a_terminal_that_cannot_redraw_gets_plain_lines(tmp_path: Path, terminal: str) -> None:
    text = on_terminal(program(tmp_path), TERM=terminal).text
    assert "\x1b" not in text
    assert "step 200/1,500  loss 0.1234" in text


def test_quiet_shows_nothing_and_the_log_gets_everything(tmp_path: Path) -> None:
    shown = on_terminal(program(tmp_path, verbosity="QUIET"))
    assert shown.text == "stray output\r\n"  # output of other code isn't suppressed
    expected = [line for line in PLAIN_LINES if line != "stray output"]
    logged = (tmp_path / "log.txt").read_text().splitlines()
    for line, text in zip(logged, expected, strict=True):
        assert re.fullmatch(text.removeprefix("warning: "), line.split(maxsplit=2)[2])


def test_plain_lines_come_at_most_once_in_ten_seconds() -> None:
    done = piped("""
from ncsnx.console.messages import Messages
from ncsnx.console.training import TrainingView
now_s = 0.0
with TrainingView(Messages(), total_steps=1000, start_step=0, batch_size=8, dimensions=4, clock=lambda: now_s) as view:
    for step in range(1, 41):
        view.step(step, 8)
        view.logged(step, 1 / step)
        now_s += 0.3
""")
    first, second = done.stderr.splitlines()
    assert first == "step 1/1,000  loss 1.000 (raw, 0.2500 per dimension)"
    assert second == "step 35/1,000  loss 0.02941 (raw, 0.007353 per dimension)  26.67 images/s  eta 0:04:50"


PAUSES = """
from ncsnx.console.messages import Messages
from ncsnx.console.training import TrainingView
from ncsnx.training.observer import SAMPLING, TRAINING
now_s = 0.0
with TrainingView(Messages(), total_steps=600, start_step=0, batch_size=21, clock=lambda: now_s) as view:
    view.phase(TRAINING)
    for step in range(1, 601):
        now_s += 1.0
        view.step(step, 21)
        if step % 300 == 0:
            view.phase(SAMPLING)
            for state in range(1, 31):
                now_s += 6.0
                view.sampling(state, 30, 5 * state)
            view.phase(TRAINING)
"""


def test_while_a_grid_is_drawn_the_end_of_the_run_is_told() -> None:
    lines = [line for line in piped(PAUSES).stderr.splitlines() if "sampling " in line]
    assert "step 300/600  sampling 10/30, 50 evaluations  eta 0:06:00" in lines
    assert "step 600/600  sampling 10/30, 50 evaluations" in lines
    assert not any(line.endswith("eta 0:00:00") for line in lines)
