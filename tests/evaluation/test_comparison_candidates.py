"""Sampler settings that are tried, each of which can be typed on the command line."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
from torch import Tensor

from ncsnx.config import variants as registry
from ncsnx.config.discovery import resolve
from ncsnx.config.overrides import apply_sampler_overrides, parse_overrides, typed
from ncsnx.config.sampler import ConsistentAnnealed, GridSampler, Sampler, TrainedLevels
from ncsnx.config.variants import tag_of
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.evaluation.comparison_candidates import (
    _grids,
    comparison_candidates,
    default_counts,
)
from ncsnx.samplers import Steps, contract
from ncsnx.samplers.building import evaluations
from ncsnx.samplers.contract import definition_of


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar10_ncsn"])
def test_every_setting_can_be_typed_and_takes_no_more_evaluations_than_were_asked_for(name: str) -> None:
    experiment = resolve(name).experiment
    own, *others = comparison_candidates(experiment)
    assert own == experiment.sampler
    assert len({own, *others}) == 1 + len(others), "none is tried twice"
    for sampler in (own, *others):
        assert apply_sampler_overrides(experiment, parse_overrides(typed(sampler).split())).sampler == sampler
    counts = {evaluations(sampler, experiment.schedule.levels) for sampler in others}
    assert counts <= {None, *range(4, max(default_counts(experiment)) + 1)}
    assert (None in counts) == (name != "cifar10_ncsn"), "the adaptive solver uses σ between the trained levels"
    if name == "cifar10_ncsn":
        assert all(isinstance(one, GridSampler) and one.grid == TrainedLevels() for one in others)


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


def test_one_evaluation_is_tried_on_the_inner_range() -> None:
    experiment = resolve("digits").experiment
    grids = _grids(experiment, 1)
    assert grids.narrow == grids.inner
    for one in comparison_candidates(experiment, ["cas"], [1])[1:]:
        assert apply_sampler_overrides(experiment, parse_overrides(typed(one).split())).sampler == one


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
        (lambda: contract.sampler(Faulty)(failing), "sampler=Faulty raised ValueError: no such step"),
        (
            lambda: contract.sampler(Faulty, tried=failing_beside)(failing),
            "sampler=Faulty raised ZeroDivisionError: no such co",
        ),
        (
            lambda: contract.sampler(Faulty, evaluations=failing_beside)(failing),
            "raised ZeroDivisionError: no such count",
        ),
    ],
    ids=["no function", "function", "tried", "evaluations"],
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
