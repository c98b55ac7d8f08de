"""Rules for measurement maps: the posterior of Gaussian data, and what they do not support."""

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import AnnealedLangevin, ConsistentAnnealed, Sampler
from ncsnx.config.sampler import GridSampler
from ncsnx.errors import NcsnxError
from ncsnx.inverse import Averaging, LinearMap, Masking, MeasurementMap, Task
from ncsnx.inverse.rules.contract import chosen_rule
from ncsnx.inverse.rules.likelihood import SPREAD, DataConsistency, conjugate_gradients
from ncsnx.samplers.building import build_sampler
from ncsnx.samplers.contract import definition_of
from ncsnx.samplers.state import Noise, Rule
from tests.forked import REPOSITORY
from tests.inverse.complex_gaussian import RULES, SAMPLERS, Problem, coils_problem, rows
from tests.inverse.examples import MatrixMap
from tests.inverse.linear_response import Source, law
from tests.samplers.exam import fault
from tests.samplers.registry import usual_settings
from tests.samplers.test_conformance import levels_for
from tests.samplers.toy import scaled
from tests.spaces import unit_space


@attrs.frozen(eq=False)
class Squares(MeasurementMap):
    """Squares of some pixels."""

    shape: tuple[int, int, int] = (1, 4, 4)
    measured_shape: tuple[int, ...] = (2, 4)

    def apply(self, x: Tensor) -> Tensor:
        return x[:, 0, :2] ** 2


def consistent_pixels(known: Tensor, values: Tensor, deviation: float, noise: Noise) -> Rule:
    pixels = Masking(known)
    return DataConsistency(map=pixels, y=values, noise=deviation, norm=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("config", list(usual_settings(9)), ids=repr)
def test_conjugate_gradients_pass_the_exam_with_every_sampler(config: Sampler) -> None:
    """First-order `cas` has half of any variance, and passes with that too. Solvers of the flow have an error of the
    mean of 0.68 with the larger noise."""
    definition = definition_of(type(config))
    assert fault(definition, config, levels_for(config), consistent_pixels, largest_mean_error=0.7) is None


@pytest.mark.parametrize("title", ["`cas`", "`dpmpp-sde`", "`heun`"])
def test_conjugate_gradients_draw_from_the_posterior_of_a_complex_gaussian_seen_by_coils(title: str) -> None:
    """The guide's table on a smaller image; 40 images of 192 values have a relative error of 0.02 in a variance."""
    problem, sampler = coils_problem((12, 8)), SAMPLERS[title]
    images, _ = problem.drawn(DataConsistency, attrs.evolve(sampler, steps=60), 40)
    judged = problem.judged(images)
    assert judged.mean < 0.15
    assert 0.75 < judged.measured < 1.25
    assert 0.75 < judged.rest < 1.25


@pytest.mark.slow
def test_the_guides_table_is_what_the_rules_do_and_its_best_rule_is_the_default() -> None:
    guide = (REPOSITORY / "docs/project/inverse-problems.md").read_text().splitlines()
    begin = guide.index(
        "| rule | sampler | evaluations | error of the mean | variance, measured | variance, rest | s |"
    )
    for said, found in zip(guide[begin:], rows(100), strict=False):
        cells, others = (line.strip("| ").split(" | ") for line in (said, found))
        assert cells[:2] == others[:2]
        relative = 0.1 if "`ode`" in found else 0.01  # steps of the adaptive solver depend on rounding
        for one, other in zip(cells[2:6], others[2:6], strict=True):
            if one.replace(".", "").isdecimal():
                assert float(one) == pytest.approx(float(other), abs=0.011, rel=relative)
    default = chosen_rule("auto", coils_problem().map).name
    for title, sampler in SAMPLERS.items():
        if isinstance(sampler, GridSampler):
            errors = {}
            for name, rule in RULES.items():
                try:
                    errors[name] = coils_problem().judged(coils_problem().drawn(rule, sampler, 40)[0]).mean
                except NcsnxError:
                    continue
            assert min(errors, key=lambda name: errors[name]) == default, title


@pytest.mark.parametrize("ratio", [2.5, 1.0, 0.4])
def test_a_noisy_measurement_counts_once_whether_the_last_level_is_above_or_below_its_noise(ratio: float) -> None:
    """Independent values of the deviation that `cg` assumes, for which its likelihood score is exact.

    A result is the denoised image of a draw with noise of σ_L: of a variance p of the posterior p²/(p + σ_L²) are left,
    times 0.79 to 1.11 by 60 steps. Brought to the measurement once more, it had a third of that, or less.
    """
    levels = tuple(30.0 * (0.02 / 30.0) ** (number / 119) for number in range(120))
    matrix = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    of, y = MatrixMap((1, 3, 2), matrix), torch.tensor([[0.3, -0.5, 0.9]], dtype=torch.float64)
    deviation = ratio * levels[-1] * of.norm
    task = Task.of_measurement(of, y, noise=deviation)

    def score(x: Tensor, sigma: float | Tensor) -> Tensor:
        return (0.5 - x) / (SPREAD**2 + sigma**2)

    def drawn(count: int, source: Source) -> Tensor:
        rule = task.ruled(unit_space(*of.shape), levels[-1], 0, count)(torch.arange(count))
        x = 0.5 + levels[0] * source("start")(0)
        sampler = build_sampler(ConsistentAnnealed(steps=60))
        *_, last = sampler(scaled(score), x, levels, noise=source("steps"), rule=rule)
        return last.x.flatten(1)

    mean, covariance = law(drawn, of.shape)
    exact = torch.linalg.inv(torch.eye(6) / SPREAD**2 + matrix.T @ matrix / deviation**2)
    exact_mean = 0.5 + exact @ matrix.T @ (y[0] - 0.5 * matrix.sum(dim=1)) / deviation**2
    torch.testing.assert_close(mean, exact_mean, rtol=0, atol=1e-3)
    axes = torch.linalg.eigh(exact)[1]
    variances, found = (((axes.T @ each) * axes.T).sum(dim=1) for each in (exact, covariance))
    left = found / (variances**2 / (variances + levels[-1] ** 2))
    assert bool((left > 0.75).all())
    assert bool((left < 1.15).all())


def test_many_langevin_steps_reach_the_posterior_by_every_rule() -> None:
    """Eight pixels, so that the exact posterior is near after few levels."""
    matrix = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    problem = Problem(MatrixMap((1, 4, 2), matrix), noise=0.3)
    sampler = AnnealedLangevin(step_size=0.3 * 0.005**2, steps_per_level=5)
    for rule in RULES.values():
        judged = problem.judged(problem.drawn(rule, sampler, 200)[0])
        assert judged.mean < 0.2
        assert 0.7 < judged.measured < 1.4


def test_conjugate_gradients_solve_for_each_image_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 12, generator=generator, dtype=torch.float64)
    of, b = MatrixMap((1, 3, 4), matrix), torch.randn(3, 1, 3, 4, generator=generator, dtype=torch.float64)
    ridge = torch.tensor([0.1, 1.0, 10.0]).double().view(-1, 1, 1, 1)
    found = conjugate_gradients(of.normal, ridge, b, iterations=50, tolerance=1e-10)
    torch.testing.assert_close(of.normal(found) + ridge * found, b)
    loose = conjugate_gradients(of.normal, ridge, b, iterations=50, tolerance=1e-2)
    each = [(ridge[place : place + 1], b[place : place + 1]) for place in range(3)]
    alone = [conjugate_gradients(of.normal, one, y, iterations=50, tolerance=1e-2) for one, y in each]
    torch.testing.assert_close(loose, torch.cat(alone))
    assert torch.equal(conjugate_gradients(of.normal, ridge, 0 * b, iterations=3, tolerance=1e-2), 0 * b)


def test_the_units_of_a_measurement_do_not_matter() -> None:
    """y in other units, such as a scanner's, with its noise in these units."""
    matrix = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    x = torch.rand(1, 1, 4, 2)
    for rule in RULES.values():
        found = []
        for unit in (1.0, 1000.0):
            of = MatrixMap((1, 4, 2), unit * matrix)
            one = rule(map=of, y=unit * torch.ones(1, 5), noise=0.1 * unit, norm=of.norm)
            found.append(one.scored(lambda x, sigma: -x / (1 + sigma**2), x, 0.5)[1])
        torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


def test_a_measurement_that_is_not_linear_is_followed_by_gradients() -> None:
    task = Task.of_measurement(Squares(), torch.full((1, 2, 4), 0.49), noise=0.01)
    assert task.rule == "dps"
    of = task.operator
    assert isinstance(of, MeasurementMap)
    given = task.values.expand(20, -1, -1)
    dps = RULES["dps"](map=of, y=given, noise=task.noise, norm=of.norm)
    levels = tuple(1.0 * (0.01 / 1.0) ** (number / 29) for number in range(30))
    generator = torch.Generator().manual_seed(0)

    def draw(k: int) -> Tensor:
        return torch.randn(20, 1, 4, 4, generator=generator)

    def score(x: Tensor, sigma: float | Tensor) -> Tensor:
        return (0.5 - x) / (0.09 + sigma**2)

    sampler = AnnealedLangevin(step_size=0.5 * levels[-1] ** 2, steps_per_level=10)
    *_, last = build_sampler(sampler)(scaled(score), 0.5 + draw(0), levels, noise=draw, rule=dps)
    assert not last.x.requires_grad
    assert float((of.apply(last.x) - 0.49).abs().mean()) < 0.05
    assert 0.2 < float(last.x[:, 0, 2:].std()) < 0.4, "the rest is as in the data"


LINEAR = MatrixMap((1, 4, 4), torch.ones(2, 16))


@pytest.mark.parametrize(
    ("operator", "default", "fitting"),
    [
        (Averaging((1, 4, 4), 2), "exact", {"exact", "cg", "langevin", "dps"}),
        (LINEAR, "cg", {"cg", "langevin", "dps"}),
        (Squares(), "dps", {"dps"}),
    ],
)
def test_the_measurement_decides_on_the_rule(operator: LinearMap, default: str, fitting: set[str]) -> None:
    assert chosen_rule("auto", operator).name == default
    for rule in ("exact", *RULES):
        if rule in fitting:
            assert chosen_rule(rule, operator).name == rule
        else:
            with pytest.raises(NcsnxError, match=f"rule {rule} does not fit .*; expected one of"):
                chosen_rule(rule, operator)
    with pytest.raises(NcsnxError, match=r"does not fit .*; expected one of auto, "):
        chosen_rule("ddrm", operator)


def test_the_annealed_likelihood_refuses_samplers_that_it_does_not_suit() -> None:
    problem = coils_problem()
    for title, told in (("`cas`", "diverge"), ("`heun`", "draws no noise"), ("`ode`", "draws no noise")):
        with pytest.raises(NcsnxError, match=f"cannot be used with rule langevin: .*{told}"):
            problem.drawn(RULES["langevin"], SAMPLERS[title], 1)
