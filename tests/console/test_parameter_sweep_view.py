"""View of a parameter sweep: its runs in a table above the bar of the one that trains; plain lines elsewhere."""

import re
from pathlib import Path

from .programs import BAR, frames, on_terminal, piped

SWEEP = """
from pathlib import Path
import time
from ncsnx.config.discovery import resolve
from ncsnx.console.messages import Messages, Verbosity
from ncsnx.console.sweeps.parameter_sweep import ParameterSweepView
from ncsnx.console.progress import displayed
from ncsnx.jobs.parameter_sweep.axes import parse_axes
from ncsnx.jobs.parameter_sweep.points import points_of
from ncsnx.jobs.parameter_sweep.sweep_training import PointStatus
from ncsnx.work import SILENT

messages = Messages(Verbosity.{verbosity})
digits = resolve("digits").experiment
points = points_of("digits", digits, {{}}, *parse_axes(["steps=10", "model.width={widths}"]))
view = ParameterSweepView(messages, points, SILENT)
ends = {{0: ("finished", 10, None), 1: ("failed", 5, "NaN at step 6")}}
with displayed(messages, view):
    for place, point in enumerate(points[:3]):
        console = view.begin(point)
        console.attach(Path({folder!r}) / f"{{point.run}}.txt")
        with console.view(total_steps=10, start_step=0, batch_size=8) as display:
            display.start({{"network": "a small one"}})
            display.phase("training")
            for step in range(1, 6):
                display.step(step, 8)
                display.logged(step, 20.0 - step)
            if place == 2:
                time.sleep(0.6)  # a drawing
            display.finish()
        state, step, reason = ends.get(place, ("busy", 5, "process 7"))
        view.end(PointStatus(run=point.run, state=state, step=step, loss=15.0, reason=reason))
"""


def program(folder: Path, widths: str = "4,8,16,32", verbosity: str = "NORMAL") -> str:
    return SWEEP.format(folder=str(folder), widths=widths, verbosity=verbosity)


def test_runs_stand_in_a_table_above_the_bar_of_the_current_one(tmp_path: Path) -> None:
    shown = on_terminal(program(tmp_path), NO_COLOR="1", LINES="24")
    assert shown.exit_code == 0
    assert shown.attributes_kept
    found = [frame for frame in frames(shown.text) if frame[0].startswith("  run") and "▸ digits-width_16" in frame[3]][
        -1
    ]
    table = [line.rstrip() for line in found[:5]]
    assert table == [
        "  run               step   loss  state",
        "  digits-width_4   10/10  15.00  finished",
        "  digits-width_8    5/10  15.00  failed",
        "▸ digits-width_16   5/10  15.00  training",
        "  digits-width_32                waiting",
    ]
    assert any(line.startswith("loss (raw)") for line in found)
    assert re.match(rf"sweep +{BAR} 1/4 runs", found[-2])
    assert re.match(rf"training +{BAR} 5/10", found[-1])


def test_a_long_table_is_cut_around_the_current_run(tmp_path: Path) -> None:
    widths = ",".join(map(str, range(4, 44)))
    found = frames(on_terminal(program(tmp_path, widths), NO_COLOR="1", LINES="20").text)
    assert all(len(frame) <= 19 for frame in found)
    assert [line.rstrip() for line in found[-1]][:3] == [
        "  run               step   loss  state",
        "  digits-width_4   10/10  15.00  finished",
        "  digits-width_5    5/10  15.00  failed",
    ]
    assert found[-1][-2].rstrip() == "  … 34 below"


def test_elsewhere_a_run_is_a_line_when_it_begins_and_ends(tmp_path: Path) -> None:
    assert piped(program(tmp_path)).stderr.splitlines() == [
        "1/4 digits-width_4: model.width=4",
        "1/4 digits-width_4: finished  step 10  loss 15.00 (raw)",
        "2/4 digits-width_8: model.width=8",
        "warning: digits-width_8 failed: NaN at step 6",
        "3/4 digits-width_16: model.width=16",
        "digits-width_16 is left out: it is being written by process 7",
    ]
    assert piped(program(tmp_path, verbosity="QUIET")).stderr == ""


def test_the_log_of_a_run_has_what_its_training_says(tmp_path: Path) -> None:
    piped(program(tmp_path))
    log = (tmp_path / "digits-width_4.txt").read_text()
    assert "network  a small one" in log
    assert "step 1/10  loss 19.00 (raw)" in log
    assert "digits-width_8" not in log
