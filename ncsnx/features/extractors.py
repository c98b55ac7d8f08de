"""From a feature network's configuration to the network: the seam between `ncsnx.config` and this package."""

from functools import singledispatch
from pathlib import Path

from ncsnx.config.feature_networks import Classifier, Features, Inception, TorchScript
from ncsnx.errors import NcsnxError
from ncsnx.features.data_source import DataSource
from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.registering import unregistered
from ncsnx.runtime import Runtime
from ncsnx.spelling import parameter
from ncsnx.work import Work


@singledispatch
def build_features(
    config: Features, source: DataSource | None, cache: Path, runtime: Runtime, work: Work
) -> FeatureNetwork:
    """The network that `config` describes, on the runtime's device. Packages register theirs by `.register(Config)`.

    source: the data set that a classifier is trained on; others don't need one. cache: see `cache_folder`.
    Raises NcsnxError for what isn't there, is damaged or isn't such a network.
    """
    raise unregistered("feature network", type(config), "ncsnx.features.extractors.build_features.register")


@build_features.register
def _(config: Inception, source: DataSource | None, cache: Path, runtime: Runtime, work: Work) -> FeatureNetwork:
    from ncsnx.features.inception import open_inception

    return open_inception(config, cache, runtime.device, work)


@build_features.register
def _(config: TorchScript, source: DataSource | None, cache: Path, runtime: Runtime, work: Work) -> FeatureNetwork:
    from ncsnx.features.torchscript import open_torchscript

    return open_torchscript(config, source.data.shape if source is not None else None, runtime.device)


@build_features.register
def _(config: Classifier, source: DataSource | None, cache: Path, runtime: Runtime, work: Work) -> FeatureNetwork:
    from ncsnx.features.classifier import open_classifier

    if source is None:
        raise NcsnxError(
            f"the classifier is trained on a data set, and none is given; use {parameter('features')} inception"
        )
    return open_classifier(config, source, cache, runtime.device, work)
