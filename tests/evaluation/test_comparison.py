"""Samplers that are tried, broken images, and which sampler is recommended."""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import AnnealedLangevin, ConsistentAnnealed, DPMSolverPP, Heun
from ncsnx.config import variants as registry
from ncsnx.config.converter import unstructure
from ncsnx.config.discovery import resolve
from ncsnx.config.overrides import apply_sampler_overrides, as_words, parse_overrides
from ncsnx.config.sampler import GridSampler, Sampler, TrainedLevels
from ncsnx.config.variants import tag_of
from ncsnx.errors import DivergedError, NcsnxError, UsageError
from ncsnx.evaluation.comparison import _grids, comparison_candidates, default_counts
from ncsnx.evaluation.distance import Trials, roughest, roughness
from ncsnx.model_spec import ModelSpec
from ncsnx.runs.fast_sampler import MOST_BROKEN, Recommendation, is_usable, most_evaluations, recommend
from ncsnx.runs.ledger import Subject
from ncsnx.runs.measurements import MeasuredRow
from ncsnx.samplers import Steps, contract
from ncsnx.samplers.building import evaluations
from ncsnx.samplers.contract import definition_of
from ncsnx.space import Space


def test_roughness_is_the_mean_square_of_neighbors_differences() -> None:
    flat = torch.full((1, 1, 4, 4), 200, dtype=torch.uint8)
    stripes = torch.tensor([0, 255, 0, 255], dtype=torch.uint8).expand(1, 1, 4, 4)
    board = (torch.arange(4).view(4, 1) + torch.arange(4)).remainder(2).mul(255).to(torch.uint8).view(1, 1, 4, 4)
    assert roughness(torch.cat([flat, stripes, board])).tolist() == [0.0, 1.0, 2.0]


def test_all_images_of_a_sampler_that_diverged_are_broken() -> None:
    unused: Any = None
    digits = resolve("digits").experiment
    trials = Trials(
        run=unused,
        spec=ModelSpec.of(digits, Space.of(digits.data)),
        runtime=unused,
        subjects=(),
        features=unused,
        reference=unused,
        n=1,
        batch_size=1,
        limit=1.0,
    )
    row = trials.failed(drawn_by(Heun(steps=5)), DivergedError("the sampler diverged"))
    assert row == {"score": None, "broken": 1.0, "evaluations": 9, "seconds": None}


def test_a_little_noise_that_is_left_breaks_smooth_images(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, 16).expand(50, 1, 16, 16)
    noisy = ramp + 0.1 * torch.randn(ramp.shape, generator=generator)
    real, drawn = ((255 * x.clamp(0, 1)).to(torch.uint8) for x in (ramp, noisy))

    opened: list[int] = []

    class Real:
        title, facts = "ramps", {}

        def __len__(self) -> int:
            return len(real)

        def batches(self, size: int, check_stop: Any) -> Any:
            opened.append(size)
            yield from real.split(size)  # type: ignore[no-untyped-call]

    limit = roughest(Real(), tmp_path)
    opened.clear()
    assert roughest(Real(), tmp_path) == limit
    assert not opened, "computed once"
    assert not (roughness(real) > limit).any()
    assert (roughness(drawn) > limit).all()


def row(
    sampler: Sampler, evaluations: float | None, distance: float | None, broken: float, seeds: int = 3
) -> MeasuredRow:
    values = {"evaluations": evaluations, "score": distance, "broken": broken, "seeds": seeds}
    facts = {"sampler": sampler, "words": as_words(sampler)}
    return MeasuredRow(names=(), facts=facts, values=values, subject=drawn_by(sampler))


def drawn_by(sampler: Sampler) -> Subject:
    facts: dict[str, Any] = {"weights": "ema", "weights_sha256": "a", "precision": "fp32", "identity": "b"}
    return Subject(step=7, sampler=unstructure(sampler), **facts)


OWN = AnnealedLangevin(step_size=1e-5, steps_per_level=5)
GOOD, OTHER, SLOW = ConsistentAnnealed(), DPMSolverPP(), Heun()


def own(distance: float, broken: float = 0.0) -> MeasuredRow:
    return row(OWN, 120, distance, broken)


def chosen(first: MeasuredRow, *rows: MeasuredRow, n: int = 100, again: Sequence[MeasuredRow] = ()) -> Recommendation:
    """The verdict if fresh seeds give the same rows as the first seeds, except for `again`."""
    fresh = {one.facts["sampler"]: one for one in [first, *rows, *again]}
    return recommend([first, *rows], n, lambda one: fresh[one.facts["sampler"]])


def sampler_of(verdict: Recommendation) -> Sampler | None:
    return None if verdict.found is None else verdict.found.facts["sampler"]


def again_of(verdict: Recommendation) -> dict[Sampler, tuple[float | None, str]]:
    """The settings that were measured again: distance and result."""
    return {one.facts["sampler"]: (one.again.score, one.again.remark) for one in verdict.rows if one.again is not None}


def test_the_nearest_of_those_that_take_a_twelfth_and_break_no_more_is_recommended() -> None:
    first = own(14.0, 0.001)
    good, slow, broken = row(GOOD, 10, 9.0, 0.001), row(SLOW, 19, 5.0, 0), row(OTHER, 10, 6.0, 0.2)
    assert sampler_of(chosen(first, slow, broken, good)) == GOOD
    for other in (row(SLOW, 10, 5.0, 0.3), slow, row(OTHER, 6, None, 1.0)):
        verdict = chosen(first, other)
        assert (verdict.found, bool(verdict.reason)) == (None, True)
    assert chosen(first, row(GOOD, 10, 1.0, 0, seeds=1)).found is None, "measured with fewer seeds"
    assert chosen(first, row(SLOW, None, None, 1.0)).found is None
    assert chosen(row(OWN, None, None, 1.0), good).found is None, "a twelfth of an unknown number"
    assert sampler_of(chosen(first, row(GOOD, 9.5, 9.0, 0.001))) == GOOD, "a mean"


def test_a_sampler_that_breaks_most_images_is_unusable_also_where_the_own_one_does() -> None:
    verdict = chosen(own(300.0, 1.0), row(GOOD, 10, 250.0, 1.0), row(OTHER, 10, 200.0, 0.996))
    assert verdict.found is None
    assert "no setting with at most 10 evaluations is usable" in verdict.reason
    assert "the best of 2 breaks 99.6 % of its images, the run's own sampler 100 %" in verdict.reason
    assert again_of(verdict) == {}, "unusable settings are not measured again"


def test_as_many_broken_images_as_chance_gives_are_no_more_than_none() -> None:
    # k of 3,000 against 0 of 3,000: by the pooled variance, k differs from 0 by √k standard errors; two are allowed
    usable = [is_usable(row(GOOD, 10, 9.0, k / 3000), own(14.0), 1000) for k in (0, 3, 5)]
    assert usable == [True, True, False]
    assert is_usable(row(GOOD, 10, 9.0, 0.099), own(14.0, 0.2), 1000)
    assert not is_usable(row(GOOD, 10, 9.0, MOST_BROKEN + 0.001), own(14.0, 0.2), 1000)


def test_nothing_is_recommended_if_fresh_seeds_show_the_choice_to_be_unusable() -> None:
    verdict = chosen(own(14.0), row(OTHER, 10, 9.0, 0.0), row(GOOD, 10, 6.0, 0.0), again=[row(GOOD, 10, 8.0, 0.3)])
    assert verdict.found is None
    assert again_of(verdict) == {OWN: (14.0, "measured again: the run's own"), GOOD: (8.0, "measured again: rejected")}
    assert "sampler=cas breaks 30 % of its images with fresh seeds, the run's own sampler 0 %" in verdict.reason


def test_the_fewest_evaluations_that_measured_no_worse_than_the_own_sampler_are_recommended() -> None:
    first = own(14.0, 0.001)
    nearest, fewer, fewest = (ConsistentAnnealed(steps=steps) for steps in (10, 5, 4))
    rows = [row(nearest, 10, 8.0, 0.0), row(fewer, 5, 11.0, 0.0), row(fewest, 4, 14.1, 0.0)]
    verdict = chosen(first, *rows)
    assert sampler_of(verdict) == fewer
    assert "measured no worse than the run's own sampler with fresh seeds" in str(verdict)
    assert list(again_of(verdict)) == [OWN, fewer], "only the chosen one and the run's own are measured again"
    within_error = [rows[0], row(fewer, 5, 11.0, 0.002), rows[2]]
    assert sampler_of(chosen(first, *within_error)) == fewer, "it is usable, so broken images do not count again"


def test_a_choice_that_is_worse_with_fresh_seeds_is_kept_and_said_to_be_worse() -> None:
    fewer, nearest = ConsistentAnnealed(steps=5), ConsistentAnnealed(steps=10)
    rows = [row(nearest, 10, 8.0, 0.0), row(fewer, 5, 11.0, 0.0)]
    verdict = chosen(own(14.0), *rows, again=[own(10.5)])
    assert (sampler_of(verdict), verdict.own.score) == (fewer, 10.5)
    assert "measured worse than the run's own sampler with fresh seeds: distance 11.00," in str(verdict)


@pytest.mark.parametrize("excess", [0.0, 0.5])
def test_the_reported_distance_has_no_bias_of_the_choice(excess: float) -> None:
    generator, sd, n = random.Random(0), 0.8 / math.sqrt(3), 400
    samplers = [ConsistentAnnealed(steps=steps) for steps in range(1, 25)]

    def measured(sampler: Sampler) -> MeasuredRow:
        count, mean = (400, 10.0) if sampler == OWN else (sampler.steps, 10.0 + excess)  # type: ignore[attr-defined]
        return row(sampler, count, generator.gauss(mean, sd), 0.0)

    found = [
        recommend([measured(one) for one in (OWN, *samplers)], 100, lambda one: measured(one.facts["sampler"]))
        for _ in range(n)
    ]
    distances = [one.found.again.score for one in found if one.found is not None and one.found.again is not None]
    assert len(distances) == n
    assert statistics.fmean(filter(None, distances)) == pytest.approx(10 + excess, abs=4 * sd / math.sqrt(n))
    # chance of one fresh comparison: the difference of two means of three seeds
    chance = statistics.NormalDist(excess, math.sqrt(2) * sd).cdf(0)
    share = sum("no worse" in str(one) for one in found) / n
    assert share == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / n))


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar10_ncsn"])
def test_every_setting_can_be_typed_and_takes_no_more_evaluations_than_were_asked_for(name: str) -> None:
    experiment = resolve(name).experiment
    own, *others = comparison_candidates(experiment)
    assert own == experiment.sampler
    assert len({own, *others}) == 1 + len(others), "none is tried twice"
    for sampler in (own, *others):
        assert apply_sampler_overrides(experiment.sampler, parse_overrides(as_words(sampler).split())) == sampler
    counts = {evaluations(sampler, experiment.schedule.levels) for sampler in others}
    assert counts <= {None, *range(4, max(default_counts(experiment)) + 1)}
    assert (None in counts) == (name != "cifar10_ncsn"), "the adaptive solver uses σ between the trained levels"
    if name == "cifar10_ncsn":
        assert all(isinstance(one, GridSampler) and one.grid == TrainedLevels() for one in others)


def test_what_is_tried_can_be_chosen_by_tag_and_count() -> None:
    experiment = resolve("digits").experiment
    own, *others = comparison_candidates(experiment, ["dpmpp", "heun"], [7])
    assert own == experiment.sampler
    assert [tag_of(type(sampler)) for sampler in others] == ["dpmpp", "heun", "heun"]
    assert {evaluations(sampler, 24) for sampler in others} == {7}
    with pytest.raises(UsageError, match=r"^samplers ald: there are no settings of it to try"):
        comparison_candidates(experiment, ["ald"])
    with pytest.raises(UsageError, match=r"^samplers ode: it uses σ between the trained levels, which ncsn does"):
        comparison_candidates(resolve("cifar10_ncsn").experiment, ["dpmpp", "ode"])


@attrs.frozen(kw_only=True)
class Faulty(GridSampler):
    """A sampler of a package, whose function fails."""


def failing(x: Tensor, sigmas: Sequence[float]) -> Steps:
    x, _, _ = yield x, sigmas[0]
    raise ValueError("no such step")


def failing_beside(*arguments: Any) -> Any:
    raise ZeroDivisionError("no such count")


@pytest.mark.parametrize(
    ("register", "told"),
    [
        (lambda: None, "no sampler is registered for Faulty"),
        (lambda: contract.sampler(Faulty)(failing), "sampler=Faulty fails: ValueError: no such step"),
        (
            lambda: contract.sampler(Faulty, evaluations=failing_beside)(failing),
            "fails: ZeroDivisionError: no such count",
        ),
    ],
    ids=["no function", "function", "evaluations"],
)
def test_a_faulty_sampler_of_a_package_keeps_no_other_from_being_tried(
    register: Callable[[], object], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = resolve("digits").experiment
    expected = comparison_candidates(experiment)
    monkeypatch.setattr(contract, "_definitions", dict(contract._definitions))
    monkeypatch.setitem(registry._families, Sampler, {"faulty": Faulty, **registry._families[Sampler]})
    register()
    lines: list[str] = []
    assert comparison_candidates(experiment, tell=lines.append) == expected
    (line,) = lines
    assert line.startswith("the sampler faulty is left out: ")
    assert told in line
    assert len(comparison_candidates(experiment, ["dpmpp"], [7])) == 2
    with pytest.raises(UsageError, match=r"^samplers ald: there are no settings of it to try"):
        comparison_candidates(experiment, ["ald"])
    with pytest.raises(NcsnxError, match=told):
        comparison_candidates(experiment, ["faulty"])


def test_a_run_whose_own_sampler_takes_few_evaluations_may_get_another_with_as_many() -> None:
    assert [most_evaluations(own) for own in (20, 47, 48, 121, 1161)] == [20, 47, 4, 10, 96]


def test_few_evaluations_are_tried_on_a_narrow_grid_where_a_sampler_says_so() -> None:
    experiment = resolve("digits").experiment
    tried = [one for one in comparison_candidates(experiment)[1:] if evaluations(one, 24) in (4, 5)]
    assert {tag_of(type(one)) for one in tried if isinstance(one, GridSampler) and one.steps > 3} == {"cas"}
    ratios = {}
    for steps in (4, 5, 6):
        *_, inner, narrow = definition_of(ConsistentAnnealed).tried(steps, _grids(experiment, steps))  # type: ignore[misc]
        ends = [(one.grid.sigma_max, one.grid.sigma_min) for one in (inner, narrow)]
        assert ends[0] == (1.25, 0.05)
        assert 0.8 < ends[1][0] <= 1.25
        ratios[steps] = ends[1][0] / ends[1][1]
    assert ratios == {4: pytest.approx(2**3, rel=0.01), 5: pytest.approx(2**4, rel=0.01), 6: 25}
    single = _grids(experiment, 1)
    assert single.narrow == single.inner, "one evaluation has no range to narrow"
