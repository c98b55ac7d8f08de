"""The contract of networks, tested on every registered network, built in or from a package."""

from typing import cast

import attrs
import pytest
import torch
from torch import Tensor, nn

from ncsnx.config import Deepinv, Diffusers, Digits, Model, NCSNv2
from ncsnx.config.variants import variants
from ncsnx.errors import NcsnxError
from ncsnx.networks import Cond, Network, NetworkSpec, construct, network
from ncsnx.networks.initialization import Constant, initialize
from ncsnx.samplers.state import score_of
from tests.config.examples import minimal
from tests.golden_networks import small_experiment
from tests.spaces import spec_of, untrained

ELSEWHERE = (Deepinv, Diffusers)
"""Networks of other packages, whose configurations have no defaults; tests/exchange tests them."""
KINDS = [kind for _, kind in sorted(variants(Model).items()) if kind not in ELSEWHERE]
SIZES = (8, 16, 32, 64)
"""Image sizes; each network is tested at the smallest size that it takes."""


def small(kind: type[Model]) -> Model:
    """The variant with few channels, if it has a width."""
    return kind(width=4) if "width" in attrs.fields_dict(kind) else kind()  # type: ignore[call-arg]


def spec(size: int, sigmas: tuple[float, ...] = (3.0, 1.0, 0.1)) -> NetworkSpec:
    return spec_of(1, size, size, sigmas=sigmas)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def made(request: pytest.FixtureRequest) -> Network:
    """An initialized network of the smallest image size that it takes."""
    for size in SIZES:
        try:
            found = construct(small(request.param), spec(size))
        except NcsnxError:
            continue
        initialize(found, 0)
        return found.eval()
    raise AssertionError(f"{request.param.__name__} takes no image of {SIZES} pixels")


def images(of: Network, count: int = 3) -> Tensor:
    shape = (count, of.channels, of.height, of.width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_scores_have_the_shape_of_the_images_and_agree_at_the_levels(made: Network) -> None:
    x = images(made)
    for level, sigma in enumerate(made.noise_levels):
        score = score_of(made.scaled_score, x, sigma)
        assert (score.shape, score.dtype) == (x.shape, torch.float32)
        made.require_sigmas([sigma])
        assert bool((made.level_of(made.sigmas[level].expand(len(x))) == level).all())


def test_a_sigma_between_the_levels_is_taken_or_refused_as_it_says(made: Network) -> None:
    if made.any_sigma:
        assert torch.isfinite(score_of(made.scaled_score, images(made), 0.5)).all()
    else:
        with pytest.raises(NcsnxError, match="takes only the"):
            made.require_sigmas([made.noise_levels[0], 0.5])


def test_an_image_has_the_same_score_in_any_batch(made: Network) -> None:
    x, sigma = images(made), made.noise_levels[1]
    one_by_one = torch.cat([score_of(made.scaled_score, image[None], sigma) for image in x])
    assert torch.allclose(score_of(made.scaled_score, x, sigma), one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_its_configuration_says_whether_it_takes_any_sigma(kind: type[Model]) -> None:
    with torch.device("meta"):
        assert construct(small(kind), spec(64)).any_sigma == kind.any_sigma


class Plain(Network):
    """A plain module of torch layers."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.first = nn.Conv2d(spec.channels, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.last = nn.Conv2d(16, spec.channels, 3, padding=1)

    def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        return cast(Tensor, self.last(self.norm(self.first(self.centered(x)))))


def test_the_network_of_a_package_starts_as_torch_starts_it_from_the_seed_alone() -> None:
    @attrs.frozen(kw_only=True)
    class PlainModel(Model):
        pass

    network(PlainModel)(lambda model, spec: Plain(spec))
    before = torch.random.get_rng_state()
    experiments = (attrs.evolve(minimal(), model=PlainModel(), seed=seed) for seed in (0, 0, 1))
    state, same, differs = (untrained(experiment).state_dict() for experiment in experiments)
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator was not moved"
    drawn = {"first.weight", "first.bias", "last.weight", "last.bias"}
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert {name for name in state if not torch.equal(state[name], differs[name])} == drawn


def test_an_initializer_of_the_network_itself_fills_its_tensor() -> None:
    module = nn.Module()
    module.scale = nn.Parameter(torch.empty(2))
    module.initializers = {"scale": Constant(3.0)}  # type: ignore[assignment]
    initialize(module, 0)
    assert module.scale.tolist() == [3.0, 3.0]


def test_a_configuration_has_one_network() -> None:
    kind = next(iter(variants(Model).values()))
    with pytest.raises(ValueError, match="already has a network"):
        network(kind)(lambda model, spec: None)  # type: ignore[arg-type, return-value]


def test_a_module_without_a_score_is_refused_with_what_it_lacks() -> None:
    kind = type("Unregistered", (Model,), {})
    lacks = "is not a score network: it lacks scaled_score and noise_levels and require_size; derive it from "
    with pytest.raises(TypeError, match=f"^Module {lacks}"):
        network(kind)(nn.Module)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="it lacks noise_levels and require_size"):
        network(kind)(type("Half", (nn.Module,), {"scaled_score": None}))  # type: ignore[type-var]
    network(kind)(lambda model, spec: nn.Identity())  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match=f"^Identity {lacks}"):
        construct(kind(), spec(8))


@torch.no_grad()
def test_images_between_zero_and_one_are_centered_first_and_transformed_ones_are_not() -> None:
    plain = untrained(small_experiment(NCSNv2(width=4), Digits()))
    rescaled = untrained(small_experiment(NCSNv2(width=4), Digits(transform="rescaled")))
    logit = untrained(small_experiment(NCSNv2(width=4), Digits(transform="logit")))
    x = torch.rand(2, 1, 8, 8)
    expected = score_of(rescaled.scaled_score, 2 * x - 1, 1.0)
    assert torch.allclose(score_of(plain.scaled_score, x, 1.0), expected, atol=1e-6)
    assert torch.equal(score_of(logit.scaled_score, 2 * x - 1, 1.0), expected)
