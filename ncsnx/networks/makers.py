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
    a network.
    """

    def join(maker: T) -> T:
        if _makers.setdefault(config, maker) is not maker:
            raise ValueError(f"{config.__qualname__} already has a network: {_makers[config]!r}")
        return maker

    return join


def construct(model: Model, spec: NetworkSpec) -> ScoreFunction:
    """The network for `model`, as its constructor leaves it. Raises NcsnxError if none is registered."""
    maker = _makers.get(type(model))
    if maker is None:
        raise unregistered("network", type(model), "ncsnx.networks.network")
    return maker(model, spec)
