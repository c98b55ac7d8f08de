"""A restoration of the page: its parameters, and the time that it says is left."""

import time
from pathlib import Path
from typing import Any

import pytest

from ncsnx.page.asked import Asked
from ncsnx.page.restoring import Job, Picture


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"task": "denoise", "fit": True}, {"denoise": "a.png"}),
        ({"task": "denoise", "n": 3, "noise": 0.1}, {"denoise": "a.png", "n": 3, "noise": 0.1}),
        ({"task": "jpeg", "n": 4, "noise": 0.1}, {"jpeg": "a.png", "n": 4}),
        ({"task": "super_resolve", "n": 1}, {"super_resolve": "a.png", "n": 1, "factor": 2}),
        ({"task": "super_resolve", "n": 1, "fit": True}, {"super_resolve": "a.png", "n": 1, "factor": 2, "fit": True}),
        ({"task": "deblur", "n": 2, "quick": True}, {"deblur": "a.png", "n": 2, "blur": 1.5, "quick": True}),
    ],
)
def test_a_restoration_has_the_parameters_of_its_task_alone(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    assert Asked.of(asked).parameters("a.png", "mask.png") == expected


def test_the_time_that_is_left_is_known_from_the_second_unit_of_a_stage_on(tmp_path: Path) -> None:
    def progress(done: int) -> None:
        job.hear({"event": "progress", "stage": "sampling", "done": done, "total": 20})

    picture = Picture(id="1", folder=tmp_path, facts={"file": "a.png"})
    job = Job(picture=picture, model="photographs", asked=Asked(task="denoise"), folder=tmp_path)
    for done in (0, 1):
        progress(done)
        assert job.left_s is None
    time.sleep(0.01)
    progress(2)
    assert job.left_s is not None
    assert job.left_s > 0.1, "18 units of at least 0.01 s"
    progress(20)
    assert job.left_s == 0
    progress(0)
    assert job.left_s is None, "another stage has another pace"
