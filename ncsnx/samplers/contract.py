"""The contract of samplers: how a sampler is written and registered for its configuration.

    @sampler(EulerAncestral)
    def euler_ancestral(x, sigmas, noise, *, eta):
        for sigma, sigma_next in append_zero(sigmas):
            x, denoised, _ = yield x, sigma
            ...
            x = denoised + down / sigma * (x - denoised) + up * noise()
        return x

A sampler is a generator function that reads like the paper's algorithm. The driver (`ncsnx.samplers.driver`) handles
measurements, counts evaluations and yields states. The function declares the parameters that it needs, by name:

    x         (B, C, H, W), with noise of σ_1
    sigmas    σ_1 > … > σ_N > 0: the levels of its grid, or the trained levels of the network
    noise     noise() is the next draw of unit normal noise, of the shape of x
    model     model(x, σ) → (denoised, score): an evaluation inside a step; an adaptive sampler may call
              model(x, σ, rows) for some images of its batch, with σ (B', 1, 1, 1)
    *, names  fields or properties of the configuration, with other names than these

A step begins with `x, denoised, score = yield x, sigma`. The sampler yields its x and continues from the x that comes
back, in which measurements are in place. With it come the denoised image D(x, σ) = x + σ² s(x, σ) and the score
s(x, σ). The sampler returns its last x, or (x, σ) if noise of σ is left in it.
"""

import inspect
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

import attrs
from torch import Tensor

from ncsnx.config.sampler import Grid, Sampler
from ncsnx.config.user_code import foreign_errors
from ncsnx.config.variants import load_plugins, tag_of
from ncsnx.registering import import_modules_of, unregistered

Reply: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""(x, denoised, score)."""
Steps: TypeAlias = Generator[tuple[Tensor, float], Reply, Tensor | tuple[Tensor, float]]
"""The generator that a call of a sampler returns."""
Draw: TypeAlias = Callable[[], Tensor]
DenoisingModel: TypeAlias = Callable[..., tuple[Tensor, Tensor]]
"""model(x, σ), and for an adaptive sampler model(x, σ, rows): (denoised, score) of the images `rows`, (B',) int64."""

_GIVEN = ("x", "sigmas", "noise", "model")
_OF_ALL = (*attrs.fields_dict(Sampler), "unguided")
"""Fields and properties of every sampler, which the driver applies."""
F = TypeVar("F", bound=Callable[..., Steps])


@attrs.frozen
class Grids:
    """The grids that `ncsnx compare` tries samplers on."""

    even: Grid
    """Levels with a constant ratio from σ_1 to σ_L."""
    whole: Grid
    """Karras grid from σ_1 to σ_L."""
    inner: Grid
    """Karras grid from σ_1/4 to 5 σ_L, the range that decides what images look like; ρ = 9, for more steps at small σ,
    where noise may be left."""
    narrow: Grid
    """The inner grid, narrowed where few steps would be too long: on average σ falls by a factor of at most 2 per step.
    Equal to `inner` where it does so anyway, and for one evaluation."""
    snr: float
    """Signal-to-noise ratio of a Langevin step of the experiment's own sampler."""


@attrs.define(eq=False, kw_only=True)
class Definition:
    """A sampler as it is declared. It is the decorator `sampler`, which registers the generator function.

    The decorator raises ValueError for a second function of a class, TypeError for another kind of function and for a
    parameter that is neither in the list above nor a field or property of the configuration.
    """

    config: type[Sampler] = attrs.field(kw_only=False)
    """The configuration class."""
    label: str | None = None
    """Name in plots; None: the tag."""
    tried: Callable[[int, Grids], Sequence[Sampler]] | None = None
    """(evaluations, grids) → configurations that `ncsnx compare` tries; None: the defaults, on the whole grid."""
    fewest: int = 6
    """Fewest evaluations per image that `ncsnx compare` tries unless it is told how many."""
    evaluations: Callable[[Any, int], int] | None = None
    """(configuration, levels) → evaluations per image; None: counted in a dry run."""
    order: int | None = None
    """Order of convergence of the defaults to the solution of the probability-flow ODE; None: not declared."""
    adaptive: str | None = None
    """Configuration field with the tolerance of an adaptive sampler; None: not adaptive. The steps of an
    adaptive sampler are an image's own, whatever its batch, and only sampling shows their NFE."""
    function: Callable[..., Steps] = attrs.field(init=False)
    """The generator function."""

    def __call__(self, function: F) -> F:
        """Registers the function, and returns it unchanged."""
        config = self.config
        where = f"@sampler({config.__name__}) {function.__qualname__}"
        if not inspect.isgeneratorfunction(function):
            raise TypeError(f"{where}: expected a generator function, with `x, denoised, score = yield x, sigma`")
        known = [*attrs.fields_dict(config), *(name for name in dir(config) if _is_property(config, name))]
        taken = [field.name for field in attrs.fields(config) if not field.inherited and field.name in _OF_ALL]
        if taken:
            raise TypeError(f"{where}: its field {taken[0]} is one that every sampler has")
        own = [name for name in known if name not in (*_GIVEN, *_OF_ALL)]  # `start` passes other values by _GIVEN
        for name, parameter in inspect.signature(function).parameters.items():
            wanted = own if parameter.kind is parameter.KEYWORD_ONLY else _GIVEN
            if name not in wanted:
                raise TypeError(f"{where}: expected parameters among {', '.join(wanted)}, found {name}")
        if self.adaptive is not None and self.adaptive not in known:
            raise TypeError(f"{where}: expected adaptive to be among {', '.join(known)}, found {self.adaptive}")
        if config in _definitions:
            raise ValueError(f"{where}: {config.__name__} already has {_definitions[config].function.__qualname__}")
        self.function = function
        _definitions[config] = self
        return function

    def start(self, config: Sampler, x: Tensor, sigmas: Sequence[float], noise: Draw, model: DenoisingModel) -> Steps:
        """A call of the sampler, before its first step."""
        given = {"x": x, "sigmas": sigmas, "noise": noise, "model": model}
        parameters = inspect.signature(self.function).parameters
        return self.function(**{name: given[name] if name in given else getattr(config, name) for name in parameters})


sampler = Definition
_definitions: dict[type[Sampler], Definition] = {}


def definition_of(config: type[Sampler]) -> Definition:
    """The sampler of a configuration class or of a base class of it.

    Raises NcsnxError for a class without a registered sampler.
    """
    if config not in _definitions:
        import_modules_of("ncsnx.samplers")
    if config not in _definitions:
        load_plugins("ncsnx.runtime")  # a package may bring a function for the class itself
    for cls in config.__mro__:
        if cls in _definitions:
            return _definitions[cls]
    raise unregistered("sampler", config, "ncsnx.samplers.sampler")


def sampler_name(config: Sampler) -> str:
    """Name of a sampler in messages: its tag."""
    return tag_of(type(config)) or type(config).__name__


@contextmanager
def sampler_code(config: type[Sampler]) -> Iterator[None]:
    """Within the block, an exception of the sampler of this class becomes an NcsnxError that names it, and its output
    goes to standard error."""
    with foreign_errors(f"sampler={tag_of(config) or config.__name__} fails"), redirect_stdout(sys.stderr):
        yield


def append_zero(sigmas: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Pairs of each σ and the next; the last pair is (σ_N, 0)."""
    return pairwise((*sigmas, 0.0))


def _is_property(config: type[Sampler], name: str) -> bool:
    return isinstance(inspect.getattr_static(config, name), property)
