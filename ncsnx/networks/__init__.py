"""The score networks: construction (`build_network`) and execution (`Execution`, `prepare`)."""

from ncsnx.networks.construction import build_network, empty_network, load_weights, meta_network
from ncsnx.networks.execution import Execution, prepare
from ncsnx.networks.published_names import from_published, published_shapes, to_published
from ncsnx.networks.score_function import NetworkSpec, ScoreFunction, SigmaConditional, construct, network

__all__ = [
    "Execution",
    "NetworkSpec",
    "ScoreFunction",
    "SigmaConditional",
    "build_network",
    "construct",
    "empty_network",
    "from_published",
    "load_weights",
    "meta_network",
    "network",
    "prepare",
    "published_shapes",
    "to_published",
]
