"""Features and a reference, as typed, for the commands that measure distances."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment
    from ncsnx.config.overrides import Override
    from ncsnx.evaluation.references.reference import Reference
    from ncsnx.features.data_source import DataSource
    from ncsnx.features.feature_network import FeatureNetwork
    from ncsnx.runs.folder import Run
    from ncsnx.runtime import Runtime
    from ncsnx.work import Work


@attrs.frozen
class DistanceOptions:
    """The typed features and reference."""

    features: str | None
    settings: "Sequence[Override]"
    """Changes to the features."""
    reference: str | None
    data: Path | None
    cache: Path | None

    def open(
        self, place: "Run", experiment: "Experiment", runtime: "Runtime", work: "Work"
    ) -> "tuple[DataSource, FeatureNetwork, Reference]":
        """The run's data, the features and the reference, computed unless they are cached. Raises NcsnxError."""
        from ncsnx.evaluation.references.reference import check_reference, open_reference
        from ncsnx.storage.cache import cache_folder

        source = self.open_data(place, work)
        check_reference(self.reference, source)
        network = self.open_features(source, experiment, runtime, work)
        return source, network, open_reference(self.reference, source, network, cache_folder(self.cache), work)

    def open_data(self, place: "Run", work: "Work") -> "DataSource":
        """The run's data. Raises NcsnxError."""
        from ncsnx.data import data_folder
        from ncsnx.features.data_source import DataSource

        return DataSource.of_run(place, data_folder(self.data), work)

    def open_features(
        self, source: "DataSource", experiment: "Experiment", runtime: "Runtime", work: "Work"
    ) -> "FeatureNetwork":
        """The features, computed unless they are cached: on rank 0 first. Raises NcsnxError."""
        from ncsnx.cli.parsing.feature_options import parse_features
        from ncsnx.data import data_set_of
        from ncsnx.features.extractors import build_features
        from ncsnx.storage.cache import cache_folder

        chosen = parse_features(self.features, data_set_of(experiment.data).features, list(self.settings))
        folder = cache_folder(self.cache)
        return work.ranks.in_turn(lambda: build_features(chosen, source, folder, runtime, work), work.check_stop)
