"""Settings in which the tests run every registered sampler, built in or from a package."""

import itertools
import typing
from collections.abc import Iterator

import attrs

from ncsnx.config import Exponential, Karras, Sampler
from ncsnx.config.sampler import GridSampler
from ncsnx.config.variants import variants
from ncsnx.samplers.contract import Grids, definition_of
from ncsnx.schedules.techniques import NoisePlan, plan_noise

SAMPLERS: dict[str, type[Sampler]] = {tag: cls for tag, cls in variants(Sampler).items() if issubclass(cls, Sampler)}
PLAN = plan_noise(32 * 32, 5.0, sigma_min=0.01, steps_per_level=20)
"""Noise levels for samplers that use the trained levels."""
FEW = plan_noise(10 * 10, 5.0, sigma_min=0.01, steps_per_level=10)
"""The same for images of few pixels, where a sixth of the evaluations is enough."""
GRIDS = Grids(even=Exponential(), whole=Karras(), inner=Karras(rho=9.0), narrow=Karras(rho=9.0), snr=0.16)


def default_of(cls: type[Sampler], plan: NoisePlan = PLAN) -> Sampler:
    """The sampler with its defaults; fields without a default as `ncsnx plan` chooses them."""
    required = [field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING]
    return cls(**{name: getattr(plan, name) for name in required})


def usual_settings(evaluations: int) -> Iterator[Sampler]:
    """The defaults of each sampler, and the settings that `ncsnx compare` tries, with about `evaluations` NFE."""
    for cls in SAMPLERS.values():
        tried = definition_of(cls).tried
        found = [default_of(cls, FEW), *(() if tried is None else tried(evaluations, GRIDS))]
        yield from dict.fromkeys(in_steps(one, evaluations) for one in found)


def all_settings(evaluations: int) -> Iterator[Sampler]:
    """The usual settings, and every alternative of each literal field."""
    alternatives = itertools.chain.from_iterable(_alternatives(default_of(cls, FEW)) for cls in SAMPLERS.values())
    yield from dict.fromkeys(
        itertools.chain(usual_settings(evaluations), (in_steps(one, evaluations) for one in alternatives))
    )


def in_steps(config: Sampler, steps: int) -> Sampler:
    """The sampler with `steps` steps, if they can be chosen."""
    return attrs.evolve(config, steps=steps) if isinstance(config, GridSampler) else config


def _alternatives(config: Sampler) -> Iterator[Sampler]:
    for name, kind in typing.get_type_hints(type(config)).items():
        choices = (
            typing.get_args(kind)
            if typing.get_origin(kind) is typing.Literal
            else (True, False)
            if kind is bool
            else ()
        )
        for choice in choices:
            yield attrs.evolve(config, **{name: choice})
