"""Fitting a training into a budget, on simulated machines of a given speed."""

import math
import re

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncsnx.config import Experiment
from ncsnx.config.data_sets import Images, OwnData
from ncsnx.config.discovery import resolve
from ncsnx.errors import UsageError
from ncsnx.planning import budget
from ncsnx.planning.budget import Fit, TimeOf, fit, in_short, parse_budget
from ncsnx.planning.experiment_proposal import Scale, propose, usual_scale
from ncsnx.planning.timing import Timing, steps_within, training_seconds
from ncsnx.samplers.building import build_sampler
from ncsnx.schedules.techniques import plan_noise

IMAGES = 2_700
PHOTOS = Images(root="photos", image_size=64)


def machine(gflops: float, call_s: float = 0.01) -> TimeOf:
    """Timings of networks whose work is proportional to the pixels and to the square of the width."""

    def time_of(data: OwnData, width: int, batch_size: int) -> Timing:
        forward = 79 * math.prod(data.shape[1:]) / 64**2 * (width / 128) ** 2 / gflops
        return Timing(
            seconds_per_evaluation=forward,
            seconds_per_training_image=3 * forward,
            seconds_per_update=4 * call_s,
            timed="this description",
        )

    return time_of


def fitted(gflops: float, seconds: float, data: OwnData = PHOTOS, **choices: object) -> Fit:
    return fit(data, IMAGES, machine(gflops), seconds, **choices)  # type: ignore[arg-type]


def written(found: Fit) -> tuple[Experiment, float]:
    """The resulting experiment and the seconds of its training."""
    data, timing = found.data, found.timing
    assert timing is not None
    plan = plan_noise(math.prod(data.shape), 0.4 * math.sqrt(math.prod(data.shape[1:])))
    experiment = propose("x", data, plan, IMAGES, found.scale)
    return experiment, training_seconds(experiment, timing)


@settings(deadline=None)
@given(
    st.floats(0, 5).map(lambda power: 10**power),
    st.floats(1, 6.5).map(lambda power: 10**power),
    st.sampled_from([8, 16, 28, 32, 48, 64, 128, 256]),
    st.booleans(),
)
def test_a_fitted_training_fits_or_is_told_a_budget(gflops: float, seconds: float, size: int, is_free: bool) -> None:
    data = Images(root="photos", image_size=size)
    try:
        found = fitted(gflops, seconds, data, size_is_free=is_free)
    except UsageError as error:
        match = re.search(r"more time: budget='([0-9.]+[smhd])'", str(error))
        assert match is not None
        enough = parse_budget(match[1])
        assert enough is not None
        assert enough > seconds
        found, seconds = fitted(gflops, enough, data, size_is_free=is_free), enough
    experiment, taken = written(found)
    assert taken <= seconds
    assert experiment.steps >= budget.LEAST_STEPS
    assert is_free or found.data.image_size == size


def test_steps_go_first_then_the_width_then_the_batch_then_the_size() -> None:
    order = ("steps", "width", "batch size", "image size")
    seen: list[set[str]] = []
    for power in range(36, 6, -1):
        try:
            reduced = {what for what, _, _ in fitted(100.0, 1.6**power).reductions}
        except UsageError:
            break
        if not seen or reduced != seen[-1]:
            seen.append(reduced)
    first = {what: next(place for place, reduced in enumerate(seen) if what in reduced) for what in order}
    assert list(first) == sorted(first, key=first.__getitem__)
    assert seen[0] == set()
    assert seen[-1] >= {"width", "batch size", "image size"}


def test_a_rectangle_is_reduced_in_its_proportions_to_what_the_network_can_halve() -> None:
    published = Images(root="slices", image_size=(96, 64))
    assert fitted(1e9, 1e6, published).reductions == []
    small = fitted(100.0, 3_600.0, published)
    height, width = small.data.shape[1:]
    assert height < 96
    assert height % 2 == width % 2 == 0
    assert abs(height / width - 1.5) < 0.2
    assert small.reductions[0] == ("image size", f"{height}×{width}", "96×64")
    assert type(written(small)[0].model).__name__ == "NCSNv2"


def test_the_users_choices_are_kept() -> None:
    published = fitted(1e9, 1e6)
    assert (published.reductions, published.scale) == ([], usual_scale(PHOTOS, IMAGES))
    assert fitted(100.0, 3_600.0).data.image_size < 64
    assert fitted(100.0, 3_600.0, size_is_free=False).data.image_size == 64
    kept = fitted(100.0, 3_600.0, steps=40_000)
    assert (kept.scale.steps, kept.data.image_size) == (40_000, 64)
    assert written(kept)[1] > 3_600.0


@pytest.mark.parametrize("steps", [10, 300, 5_000, 100_000])
@pytest.mark.parametrize("batch_size", [1, 32, 128])
def test_snapshots_take_at_most_a_tenth_of_the_steps_but_for_the_last_one(steps: int, batch_size: int) -> None:
    scale = Scale(width=32, batch_size=batch_size, steps=steps)
    experiment = propose("x", PHOTOS, plan_noise(3 * 64**2, 20.0), IMAGES, scale)
    timing = Timing(seconds_per_evaluation=1.0, seconds_per_training_image=3.0, seconds_per_update=0.0, timed="")
    assert experiment.snapshots is not None
    grid, of_steps = experiment.snapshots.n * 20, 3 * steps * batch_size
    grids = training_seconds(experiment, timing) - of_steps
    assert grids <= max(grid, 0.1 * of_steps + grid)
    assert grids >= grid


@pytest.mark.parametrize("sigma_max", [0.02, 0.3, 5.0, 50.0, 348.0])
def test_the_sampler_of_few_steps_can_be_built_for_every_schedule(sigma_max: float) -> None:
    build_sampler(propose("x", PHOTOS, plan_noise(3 * 64**2, sigma_max), IMAGES).sampler)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("1d", 86_400), ("1.5h", 5_400), ("none", None)]
)
def test_a_budget_is_a_number_and_a_unit_or_none(text: str, seconds: float | None) -> None:
    assert parse_budget(text) == seconds


@given(st.text(max_size=12))
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    if text == "none" or re.fullmatch(r"[0-9.]+[smhd]", text, re.ASCII):
        return
    with pytest.raises(UsageError, match="expected a time such as 90s, 30m, 2h or 1d"):
        parse_budget(text)


@given(st.floats(1, 3e7))
def test_a_duration_is_written_as_a_budget_that_is_no_shorter_and_hardly_longer(seconds: float) -> None:
    again = parse_budget(in_short(seconds))
    assert again is not None
    assert again == math.ceil(seconds)


@pytest.mark.parametrize("size_is_free", [True, False])
def test_a_budget_that_is_too_short_gets_every_way_out(size_is_free: bool) -> None:
    with pytest.raises(UsageError, match="is too short for anything usable on this machine") as refused:
        fit(PHOTOS, IMAGES, machine(1e-3), 60.0, size_is_free=size_is_free)
    hints = [str(hint) for hint in refused.value.hints]
    assert ["leave out size" in hint for hint in hints] == (
        [False] * 3 if size_is_free else [False, True, False, False]
    )
    assert any("steps=" in hint for hint in hints)


def test_the_steps_of_a_time_take_it_with_their_grids() -> None:
    timing = Timing(seconds_per_evaluation=1e-3, seconds_per_training_image=1e-3, seconds_per_update=0.01, timed="")
    experiment = attrs.evolve(resolve("digits").experiment, checkpoint_every=100)
    steps = steps_within(600.0, experiment, timing)
    assert training_seconds(attrs.evolve(experiment, steps=steps), timing) <= 600
    assert training_seconds(attrs.evolve(experiment, steps=steps + 100), timing) > 600
    assert steps_within(1e-3, experiment, timing) == 1
