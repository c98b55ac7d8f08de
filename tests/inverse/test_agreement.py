"""What is said of the agreement with a measurement: how large a difference is, and what to type if it is too large."""

import pytest
import torch

from ncsnx.inverse import Blurring, Masking, Task
from ncsnx.inverse.restoring import say_agreement
from ncsnx.inverse.task_record import PictureRecord, TaskRecord
from ncsnx.work import Work
from tests.spaces import unit_space

SHAPE = (3, 16, 16)


def said(task: Task, misfit: float) -> tuple[list[str], list[str]]:
    """Messages and warnings."""
    infos, warnings = list[str](), list[str]()
    picture = PictureRecord(picture="a.png", images=(0, 1), distances={})
    in_noise = misfit / task.least_noise if task.least_noise else None
    record = TaskRecord(task=task.name, misfit=misfit, in_noise=in_noise, samples_sha256="0", pictures=(picture,))
    say_agreement(record, task, unit_space(*SHAPE), Work(info=infos.append, warning=warnings.append))
    return infos, warnings


def blurred(noise: float) -> Task:
    return Task.of_measurement(Blurring(SHAPE, 2.0), torch.full((1, *SHAPE), 0.5), noise=noise)


def test_a_difference_as_of_noise_is_said_beside_what_noise_alone_gives() -> None:
    infos, warnings = said(blurred(0.01), 0.05)
    assert infos == [
        "largest difference from the measurement: 0.05000, where black is 0 and white 1; 5.0 times its noise, where "
        "noise alone gives 4 to 6"
    ]
    assert warnings == []


@pytest.mark.parametrize(("misfit", "times", "noise"), [(0.0393, "39.3", "0.008"), (0.0502, "50.2", "0.01")])
def test_a_difference_of_many_times_the_noise_is_a_warning_with_the_noise_to_type(
    misfit: float, times: str, noise: str
) -> None:
    infos, (warning,) = said(blurred(0.001), misfit)
    assert infos == []
    assert f"{times} times its noise" in warning
    assert warning.endswith(f"its noise is probably larger, as in a JPEG; say how large:  noise={noise}")
    assert said(blurred(float(noise)), misfit)[1] == [], "typed, it is no more a warning"


def test_a_hole_is_not_judged_by_the_pixels_around_it() -> None:
    known = torch.ones(SHAPE, dtype=torch.bool)
    known[:, 4:9] = False
    infos, warnings = said(Task.of_measurement(Masking(known), torch.full((1, 3 * 11 * 16), 0.5)), 1e-8)
    assert [info.partition("; ")[2] for info in infos] == ["it says nothing about what was filled in"]
    assert warnings == []
