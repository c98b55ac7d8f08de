"""The score networks: construction (`build_network`) and execution (`Execution`, `prepare`)."""

from ncsnx.networks.construction import build_network, empty_network, load_weights, meta_network
from ncsnx.networks.contract import Cond, Network, NetworkSpec, construct, network
from ncsnx.networks.execution import Execution, prepare
from ncsnx.networks.published_names import from_published, published_shapes, to_published

__all__ = [
    "Cond",
    "Execution",
    "Network",
    "NetworkSpec",
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
