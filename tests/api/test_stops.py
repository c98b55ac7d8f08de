"""Stops of a restoration within each of its slow parts: from another thread, and by a signal to the command."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import ncsnx
from ncsnx import images, randomness
from ncsnx.errors import Stopped
from ncsnx.inverse import task_pictures, task_record
from ncsnx.inverse.posterior import maps as posterior_maps
from ncsnx.networks.unet import UNetNetwork
from ncsnx.stopping import StopRequest, check_stop, stopped_by
from ncsnx.work import Work
from tests.cli.command import run

PATIENCE_S = 60.0


@attrs.frozen
class Part:
    """A slow part of a restoration."""

    place: Any
    function: str
    """Function of `place` that is called again and again."""
    is_after: bool = False
    """Whether it comes after the images, which exist before."""
    given: str = "pictures"
    """What is restored."""


PARTS = {
    "reading": Part(task_pictures, "decode"),
    "noise": Part(randomness, "_box_muller"),
    "tiles": Part(UNetNetwork, "forward"),
    "picture": Part(images, "picture", given="pictures/0.png"),
    "mean": Part(UNetNetwork, "forward", is_after=True),
    "maps": Part(np, "sort", is_after=True),
    "spread": Part(Tensor, "std", is_after=True, given="pictures/0.png"),
    "picture of the mean": Part(images, "picture", is_after=True, given="pictures/0.png"),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two noisy pictures, which are wider than a tile with its margins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(randomness, "_ELEMENTS_AT_ONCE", 2_048)
    monkeypatch.setattr(posterior_maps, "_PART_BYTES", 2_048)
    monkeypatch.setattr(task_record, "_ROWS_AT_ONCE", 4)
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        values = np.random.default_rng(number).integers(0, 256, (16, 160, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path


def restore(pictures: str = "pictures", **given: Any) -> None:
    given = {"denoise": pictures, "noise": 0.1, "n": 1, "posterior": True, "tile": 16, "out": "out", **given}
    ncsnx.restore("photographs", "sampler.steps=1", threads=1, **given)


def slowed(part: Part, monkeypatch: pytest.MonkeyPatch, wait: Callable[[], None]) -> list[None]:
    """Waits in the first call of a part's function; gets an item at each call."""
    calls: list[None] = []
    function = getattr(part.place, part.function)

    def slow(*args: Any, **given: Any) -> Any:
        calls.append(None)
        if len(calls) == 1:
            wait()
        return function(*args, **given)

    monkeypatch.setattr(part.place, part.function, slow)
    return calls


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_another_thread_ends_a_call_within_each_slow_part(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    if part.is_after:
        restore(part.given)
    began, asked, work, ended = threading.Event(), threading.Event(), Work(), list[BaseException]()

    def wait() -> None:
        began.set()
        assert asked.wait(PATIENCE_S)

    def call() -> None:
        try:
            restore(part.given, work=work)
        except BaseException as error:
            ended.append(error)

    calls = slowed(part, monkeypatch, wait)
    thread = threading.Thread(target=call)
    thread.start()
    assert began.wait(PATIENCE_S), ended
    work.stop.request()
    asked.set()
    thread.join(PATIENCE_S)
    assert [type(error) for error in ended] == [Stopped]
    assert len(calls) == 1, "nothing more of the part is done"


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_signal_ends_the_command_within_each_slow_part(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    if part.is_after:
        restore(part.given)
    calls = slowed(part, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGTERM))
    words = ("--denoise", part.given, "--noise", "0.1", "--n", "1", "--tile", "16", "--out", "out")
    ended = run("restore", "photographs", "sampler.steps=1", *words, "--posterior", "--threads", "1")
    assert ended.code == 128 + signal.SIGTERM, ended.err
    assert "stopped by SIGTERM" in ended.err
    assert len(calls) == 1, "nothing more of the part is done"


def test_a_stopped_restoration_resumes() -> None:
    work = Work()
    work.stop.request(signal.SIGINT)
    with pytest.raises(Stopped, match="stopped by Ctrl-C"):
        restore(work=work)
    restore(work=Work())
    assert [(Path("out") / name / "task.json").is_file() for name in ("0", "1")] == [True, True]


def test_the_means_of_pictures_that_are_evaluated_whole_end_between_two() -> None:
    work, calls = Work(), list[None]()

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(None)
        work.stop.request()
        return x / 2

    model = ncsnx.Model.of(denoised, shape=(3, 16, 160), ends=(0.0, 1.0), sigma_max=10.0)
    with pytest.raises(Stopped):
        ncsnx.restore(model, "sampler.steps=1", denoise="pictures", noise=0.1, n=1, out="out", work=work)
    assert len(calls) == 1, "one for the first mean"


def test_a_work_reads_the_request_that_it_is_given() -> None:
    request = StopRequest()
    work = Work(stop=request)
    work.check_stop()
    request.request()
    with pytest.raises(Stopped):
        work.check_stop()


def test_code_within_a_job_reads_the_stop_of_its_own_thread() -> None:
    request, others = StopRequest(), list[BaseException]()
    request.request()

    def elsewhere() -> None:
        try:
            check_stop()
        except BaseException as error:
            others.append(error)

    with stopped_by(request.check):
        with pytest.raises(Stopped):
            check_stop()
        with stopped_by(lambda: None):
            check_stop()
        with pytest.raises(Stopped):
            check_stop()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    check_stop()
    assert others == []
