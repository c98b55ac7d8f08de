"""Builds feature networks from their configurations: the seam between `ncsnx.config` and this package."""

from functools import singledispatch
from pathlib import Path

from ncsnx.config.feature_networks import Classifier, Features, Inception, Timm, TorchScript
from ncsnx.errors import Hint, NcsnxError
from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.features.real_images import DataSource
from ncsnx.registering import unregistered
from ncsnx.runtime import Runtime
from ncsnx.spelling import argument
from ncsnx.work import Work


@singledispatch
def build_features(
    config: Features, source: DataSource | None, cache: Path, runtime: Runtime, work: Work
) -> FeatureNetwork:
    """The network of a configuration, on the runtime's device. Packages add theirs with `build_features.register`.

    source: the data set for a classifier; other networks don't need one. cache: see `cache_folder`. Raises NcsnxError
    for a file that is missing, damaged or not a valid network.
    """
    raise unregistered("feature network", type(config), "ncsnx.features.extractors.build_features.register")


@build_features.register
def _(config: Inception, source: DataSource | None, cache: Path, runtime: Runtime, work: Work) -> FeatureNetwork:
    if source is not None and not source.data.is_bounded:
        raise NcsnxError(
            "Inception compares pictures between black and white, and the data is unbounded (data.range)",
            Hint("compare by a classifier", adds=argument("features", "classifier")),
        )
    from ncsnx.features.inception import open_inception

    return open_inception(config, cache, runtime.device, work)


@build_features.register
def _(config: Timm, source: DataSource | None, cache: Path, runtime: Runtime, work: Work) -> FeatureNetwork:
    from ncsnx.features.timm_network import open_timm

    return open_timm(config, cache, runtime.device, work)


@build_features.register
def _(config: TorchScript, source: DataSource | None, cache: Path, runtime: Runtime, work: Work) -> FeatureNetwork:
    from ncsnx.features.torchscript import open_torchscript

    return open_torchscript(config, source.data.shape if source is not None else None, runtime.device)


@build_features.register
def _(config: Classifier, source: DataSource | None, cache: Path, runtime: Runtime, work: Work) -> FeatureNetwork:
    from ncsnx.features.classifier import open_classifier

    if source is None:
        raise NcsnxError(
            "the classifier needs a data set to train on",
            Hint("use other features", adds=argument("features", "inception")),
        )
    return open_classifier(config, source, cache, runtime.device, work)
