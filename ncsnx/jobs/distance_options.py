"""The choice of features and of a reference, for jobs that measure distances."""

from collections.abc import Callable
from pathlib import Path

import attrs

from ncsnx.config.data_sets import Data
from ncsnx.config.experiment import Experiment
from ncsnx.config.feature_networks import Features, Inception, TorchScript
from ncsnx.data import data_folder, data_set_of
from ncsnx.evaluation.reference import Reference, check_reference, open_reference
from ncsnx.features.data_source import DataSource
from ncsnx.features.extractors import build_features
from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.runs.folder import Run
from ncsnx.runtime import Runtime
from ncsnx.storage.cache import cache_folder
from ncsnx.work import Work


@attrs.frozen
class DistanceOptions:
    """Features and a reference, and the folders that they are read from and kept in."""

    features: Callable[[Features], Features]
    """Gives the features for the default ones of the data set."""
    reference: str | None
    """None: the default one of the data set."""
    data: Path | None
    """Folder of the data sets; None: as `ncsnx.data.data_folder` finds it."""
    cache: Path | None
    """Folder of expensive, reproducible artifacts; None: as `ncsnx.storage.cache` finds it."""

    def check(self, data: Data, runtime: Runtime, work: Work) -> None:
        """Checks the choice for a data set before any expensive work. Raises NcsnxError as `open`, as far as it can."""
        source = DataSource(data=data, folder=data_folder(self.data))
        chosen = self.features(data_set_of(data).features)
        check_reference(self.reference, source)
        if isinstance(chosen, Inception | TorchScript) and (chosen.file is not None or not data.is_bounded):
            build_features(chosen, source, cache_folder(self.cache), runtime, work)

    def open(
        self, place: Run, experiment: Experiment, runtime: Runtime, work: Work
    ) -> tuple[DataSource, FeatureNetwork, Reference]:
        """The run's data, the features and the reference, computed unless they are cached. Raises NcsnxError."""
        source = self.open_data(place, work)
        check_reference(self.reference, source)
        network = self.open_features(source, experiment, runtime, work)
        return source, network, open_reference(self.reference, source, network, cache_folder(self.cache), work)

    def open_data(self, place: Run, work: Work) -> DataSource:
        """The run's data. Raises NcsnxError."""
        return DataSource.of_run(place, data_folder(self.data), work)

    def open_features(self, source: DataSource, experiment: Experiment, runtime: Runtime, work: Work) -> FeatureNetwork:
        """The features, computed unless they are cached: on rank 0 first. Raises NcsnxError."""
        chosen = self.features(data_set_of(experiment.data).features)
        folder = cache_folder(self.cache)
        return work.ranks.in_turn(lambda: build_features(chosen, source, folder, runtime, work), work.check_stop)
