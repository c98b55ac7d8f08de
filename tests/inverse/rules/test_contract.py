"""Every registered rule, also of installed packages: an image is drawn as alone, and a measurement counts."""

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import AnnealedLangevin
from ncsnx.inverse import Masking, Measured, Task, rule
from ncsnx.inverse.operators.pixels import Identity
from ncsnx.inverse.posterior_sampler import begun_at
from ncsnx.inverse.rules.contract import Definition, rules, rules_of
from ncsnx.samplers.building import build_sampler, first_sigma
from ncsnx.samplers.state import Rule
from ncsnx.sampling.generation import SeededNoise
from tests.samplers.toy import scaled
from tests.spaces import unit_space

SHAPE = (1, 4, 4)
LEVELS = tuple(5.0 * (0.01 / 5.0) ** (number / 59) for number in range(60))
NOISE = 0.05


def score(x: Tensor, sigma: float | Tensor) -> Tensor:
    """Of independent pixels around 0.5 with a deviation of 0.2."""
    return (0.5 - x) / (0.2**2 + sigma**2)


def drawn(definition: Definition, indices: Tensor) -> Tensor:
    """Images of a picture of pixels from 0.3 to 0.7, seen with noise; image i is the same in any batch."""
    y = torch.linspace(0.3, 0.7, 16).view(1, *SHAPE)
    operator = Identity(SHAPE) if definition.begins_at_noise else Masking(torch.ones(SHAPE, dtype=torch.bool))
    task = Task.of_measurement(operator, y, noise=NOISE, rule=definition.name)
    sampler = definition.sampler or AnnealedLangevin(step_size=0.3 * LEVELS[-1] ** 2, steps_per_level=4)
    sampler = begun_at(sampler, NOISE, LEVELS[-1]) if definition.begins_at_noise else sampler
    made = task.ruled(unit_space(*SHAPE), LEVELS[-1], 0, 10_000)(indices)
    x = 0.5 + first_sigma(sampler, LEVELS) * SeededNoise(1, indices, SHAPE)(0)
    noise = SeededNoise(2, indices, SHAPE)
    *_, last = build_sampler(sampler)(scaled(score), x, LEVELS, noise=noise, rule=made)
    return last.x


@pytest.mark.parametrize("name", rules())
def test_images_of_noisy_pixels_have_the_posteriors_mean_and_spread_in_any_batch(name: str) -> None:
    """Deviation 0.2·0.05/√(0.2² + 0.05²) = 0.0485 and mean (0.5·0.05² + y·0.2²)/(0.2² + 0.05²).

    Of 200 images the standard error of a mean is 0.0034. Rules for other noise may spread more, but not as the data.
    """
    images = drawn(rules()[name], torch.arange(200))
    y = torch.linspace(0.3, 0.7, 16).view(SHAPE)
    mean = (0.5 * NOISE**2 + y * 0.2**2) / (0.2**2 + NOISE**2)
    assert float((images.mean(dim=0) - mean).abs().max()) < 0.02
    assert 0.015 < float(images.std(dim=0).mean()) < 0.1
    torch.testing.assert_close(drawn(rules()[name], torch.tensor([7, 3])), images[[7, 3]], atol=1e-4, rtol=0)


def test_a_rule_of_the_most_specific_kind_is_the_default_and_a_name_is_taken_once() -> None:
    assert [one.name for one in rules_of(Identity(SHAPE), any_noise=False)][:3] == ["reverse", "exact", "cg"]
    assert "reverse" not in [one.name for one in rules_of(Identity(SHAPE), any_noise=True)]
    for name in ("exact", "auto"):
        with pytest.raises(ValueError, match=f"a rule '{name}' already exists"):
            rule(name, fits=Identity)(Named)


@attrs.frozen(eq=False)
class Named(Rule):
    @classmethod
    def under(cls, measured: Measured) -> "Named":
        return cls()
