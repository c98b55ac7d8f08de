"""TensorBoard shows events in the order in which they were written."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ncsnx.errors import NcsnxError
from ncsnx.training.files.events import EventFile

CURVE = "loss/training"

ON_A_SMALL_DISK = """
import resource, sys
from pathlib import Path
from ncsnx.errors import NcsnxError
from ncsnx.training.files.events import EventFile
events = EventFile(Path(sys.argv[1]), purge_step=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    for step in range(1, 1000):
        events.scalars(step, {"loss/training": 0.5 * step})
except NcsnxError as error:
    print(step, error)
"""


def shown(folder: Path) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(CURVE)]


@pytest.mark.parametrize(("channels", "width"), [(1, 5), (2, 10), (3, 5), (5, 25)])
def test_numbers_and_pictures_are_shown_as_they_were_given(tmp_path: Path, channels: int, width: int) -> None:
    events = EventFile(tmp_path / "tensorboard", purge_step=1)
    events.scalars(3, {CURVE: 0.25, "lr": 1e-3})
    events.image(4, "samples", torch.arange(20 * channels, dtype=torch.uint8).view(channels, 4, 5))
    events.flush()
    accumulator = EventAccumulator(str(tmp_path / "tensorboard"))
    accumulator.Reload()
    assert accumulator.Tags()["scalars"] == [CURVE, "lr"]
    assert [(event.step, event.value) for event in accumulator.Scalars("lr")] == [(3, pytest.approx(1e-3))]
    (picture,) = accumulator.Images("samples")
    assert (picture.step, picture.height, picture.width) == (4, 4, width)


def test_a_run_that_goes_on_is_shown_once_even_where_the_clock_was_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.time()
    for started_s, first in ((now_s, 1), (now_s, 4), (now_s - 86_400, 3)):
        monkeypatch.setattr(time, "time", lambda s=started_s: s)
        events = EventFile(tmp_path, purge_step=first)
        for step in range(first, first + 3):
            events.scalars(step, {CURVE: first + step})
    assert shown(tmp_path) == [(1, 2), (2, 3), (3, 6), (4, 7), (5, 8)]


def test_events_that_do_not_fit_leave_those_before_them(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert finished.stderr == ""
    step, message = finished.stdout.split(" ", 1)
    assert "bytes): File too large" in message
    assert message.count("\n") == 1
    assert shown(tmp_path) == [(earlier, 0.5 * earlier) for earlier in range(1, int(step))]


def test_a_folder_that_cant_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_bytes(b"")
    with pytest.raises(NcsnxError, match=r"cannot write .*tensorboard"):
        EventFile(tmp_path / "tensorboard", purge_step=1)
