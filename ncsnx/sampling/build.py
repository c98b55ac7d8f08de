"""From a sampler's configuration to the sampler: the seam between `ncsnx.config` and this package."""

from functools import partial, singledispatch

from ncsnx.config import AnnealedLangevin, Sampler
from ncsnx.errors import NcsnxError
from ncsnx.sampling.langevin import annealed_langevin
from ncsnx.sampling.state import SamplerFunction


@singledispatch
def build_sampler(config: Sampler) -> SamplerFunction:
    """The sampler that `config` describes. A package registers its own with `@build_sampler.register`.

    Raises NcsnxError for a configuration that no sampler was registered for.
    """
    raise NcsnxError(_unregistered(config, "build_sampler"))


@singledispatch
def evaluations(config: Sampler, levels: int) -> int:
    """The exact number of network evaluations per image (NFE) of a sampler at `levels` noise levels.

    Raises NcsnxError for a configuration that no count was registered for.
    """
    raise NcsnxError(_unregistered(config, "evaluations"))


@build_sampler.register
def _(config: AnnealedLangevin) -> SamplerFunction:
    return partial(
        annealed_langevin,
        step_size=config.step_size,
        steps_per_level=config.steps_per_level,
        denoise=config.denoise,
    )


@evaluations.register
def _(config: AnnealedLangevin, levels: int) -> int:
    return levels * config.steps_per_level + int(config.denoise)


def _unregistered(config: Sampler, function: str) -> str:
    return (
        f"no sampler is registered for {type(config).__name__}: the package that defines it must import "
        f"ncsnx.sampling.{function} and register a function with @{function}.register"
    )
