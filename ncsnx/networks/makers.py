"""Which network a configuration means: `@network(Config)` joins the two."""

from collections.abc import Callable
from typing import Any, TypeVar

from ncsnx.config import Model
from ncsnx.networks.score_function import NetworkSpec, ScoreFunction
from ncsnx.registering import unregistered

Maker = Callable[[Any, NetworkSpec], ScoreFunction]
T = TypeVar("T", bound=Maker)

_makers: dict[type[Model], Maker] = {}


def network(config: type[Model]) -> Callable[[T], T]:
    """Class decorator: a `ScoreFunction` that is made of a configuration of this class and a `NetworkSpec`.

    A function of the two that returns a ScoreFunction does as well. Raises ValueError for a configuration that has one.
    """

    def join(maker: T) -> T:
        if _makers.setdefault(config, maker) is not maker:
            raise ValueError(f"{config.__qualname__} already has a network: {_makers[config]!r}")
        return maker

    return join


def construct(model: Model, spec: NetworkSpec) -> ScoreFunction:
    """The network that `model` describes, as its constructor leaves it. NcsnxError where none is registered."""
    maker = _makers.get(type(model))
    if maker is None:
        raise unregistered("network", type(model), "ncsnx.networks.network")
    return maker(model, spec)
