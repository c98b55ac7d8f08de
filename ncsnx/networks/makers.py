"""The registry of networks: `@network(Config)` joins a network to its configuration."""

from collections.abc import Callable
from typing import Any, TypeVar

from ncsnx.config import Model
from ncsnx.networks.score_function import NetworkSpec, ScoreFunction
from ncsnx.registering import unregistered

Maker = Callable[[Any, NetworkSpec], ScoreFunction]
T = TypeVar("T", bound=Maker)

_makers: dict[type[Model], Maker] = {}


def network(config: type[Model]) -> Callable[[T], T]:
    """Class decorator that registers a `ScoreFunction` constructed from (configuration, `NetworkSpec`).

    It also takes a function of the two that returns a ScoreFunction. Raises ValueError if the configuration already has
    a network, TypeError for a class without a score.
    """

    def join(maker: T) -> T:
        if isinstance(maker, type):
            _require_score(maker)
        if _makers.setdefault(config, maker) is not maker:
            raise ValueError(f"{config.__qualname__} already has a network: {_makers[config]!r}")
        return maker

    return join


def construct(model: Model, spec: NetworkSpec) -> ScoreFunction:
    """The network for `model`, as its constructor leaves it.

    Raises NcsnxError if none is registered, TypeError if a function made a module without a score.
    """
    maker = _makers.get(type(model))
    if maker is None:
        raise unregistered("network", type(model), "ncsnx.networks.network")
    made = maker(model, spec)
    _require_score(type(made))
    return made


def _require_score(cls: type) -> None:
    """Raises TypeError that names what a class lacks to be a score network."""
    if not issubclass(cls, ScoreFunction):
        lacking = [name for name in ("score", "scaled_score", "noise_levels", "require_size") if not hasattr(cls, name)]
        raise TypeError(
            f"{cls.__qualname__} is not a score network: it lacks {' and '.join(lacking) or 'parts of the contract'}; "
            "derive it from ncsnx.networks.ScoreFunction, or wrap it in one"
        )
