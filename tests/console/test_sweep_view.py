"""View of a sweep: a table that fills row by row on a terminal, plain lines elsewhere, always the log."""

import re
from pathlib import Path

from .programs import BAR, HIDE_CURSOR, SHOW_CURSOR, frames, on_terminal, piped

SWEEP = """
from pathlib import Path
from ncsnx.console.messages import Messages, Verbosity
from ncsnx.console.progress import rows_view

messages = Messages(Verbosity.{verbosity}, Path({log!r}))
scores = {scores}
with rows_view(messages, ["step", "FD", "±", "note"], total=len(scores) + 1, units=10 * (len(scores) + 1)) as view:
    for index, score in enumerate(scores):
        view.begin(f"step {{index + 1}},000: sampling")
        view.advance(10)
        best = scores.index(min(scores[:index + 1]))
        view.row([f"{{index + 1}},000", f"{{score:.2f}}", "0.30", {note!r}], best)
    view.begin("step [red]: features")
    view.advance()
    {end}
messages.data("the final table")
"""
FALLING = [143.2, 8.21, 9.5]


def program(
    tmp_path: Path, scores: list[float] = FALLING, verbosity: str = "NORMAL", note: str = "", end: str = ""
) -> str:
    return SWEEP.format(log=str(tmp_path / "log.txt"), scores=scores, verbosity=verbosity, note=note, end=end)


PLAIN_LINES = [
    "step 1,000  FD 143.20  ± 0.30  (best so far)",
    "step 2,000  FD 8.21  ± 0.30  (best so far)",
    "step 3,000  FD 9.50  ± 0.30",
]


def test_a_table_fills_up_above_a_bar_and_the_best_is_marked(tmp_path: Path) -> None:
    *_, last = frames(on_terminal(program(tmp_path), NO_COLOR="1").text)
    assert last[:-1] == [
        "   step      FD     ±  note",
        "  1,000  143.20  0.30",
        "★ 2,000    8.21  0.30",
        "  3,000    9.50  0.30",
    ]
    assert re.fullmatch(rf"step \[red\]: features {BAR} 3/4 +77 %( +eta 0:00:0\d)? *", last[-1])


def test_the_table_vanishes_and_leaves_the_terminal_to_what_comes_after(tmp_path: Path) -> None:
    shown = on_terminal(program(tmp_path))
    assert shown.text.count(HIDE_CURSOR) == shown.text.count(SHOW_CURSOR) == 1
    after = shown.text[shown.text.index(SHOW_CURSOR) :]
    assert "step" not in after
    assert after.endswith("the final table\r\n")
    assert after.count("\x1b[1A\x1b[2K") == len(frames(shown.text)[-1])
    assert re.search(r"\x1b\[1;32m★ 2,000 +8\.21", shown.text)
    assert shown.attributes_kept


def test_elsewhere_each_finished_checkpoint_is_a_plain_line(tmp_path: Path) -> None:
    done = piped(program(tmp_path), FORCE_COLOR="1", TTY_INTERACTIVE="1")
    assert done.stderr.splitlines() == PLAIN_LINES
    assert done.stdout == "the final table\n"


def test_markup_and_controls_stay_inert(tmp_path: Path) -> None:
    text = program(tmp_path, note="[red]\x1b[2J\n", end=r"view.begin('\x1b[2Jsampling')")
    for shown in (on_terminal(text, NO_COLOR="1").text, piped(text).stderr):
        assert r"[red]\x1b[2J\n" in shown
        assert "\x1b[2J" not in shown
