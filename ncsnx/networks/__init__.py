"""The score networks: what they are (`build_network`) and how they are run (`Execution`, `prepare`)."""

from ncsnx.networks.construction import build_network, construct, empty_network, load_weights, outlined_network
from ncsnx.networks.execution import Execution, prepare
from ncsnx.networks.published_names import from_published, published_shapes, to_published
from ncsnx.networks.score import Facts, ScoreNetwork

__all__ = [
    "Execution",
    "Facts",
    "ScoreNetwork",
    "build_network",
    "construct",
    "empty_network",
    "from_published",
    "load_weights",
    "outlined_network",
    "prepare",
    "published_shapes",
    "to_published",
]
