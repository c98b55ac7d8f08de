"""The measurements of a parameter sweep's runs: of each run's own weights, but by the same features and reference."""

from collections.abc import Mapping
from pathlib import Path

import attrs

from ncsnx.config.canonical import canonical
from ncsnx.config.codec import unstructure
from ncsnx.config.experiment import Experiment
from ncsnx.data import data_folder
from ncsnx.evaluation.distance_sweep import DistanceSweep
from ncsnx.evaluation.held_out_sweep import HeldOutSweep
from ncsnx.evaluation.sweep_request import SweepRequest
from ncsnx.features.data_source import DataSource
from ncsnx.jobs.distance_options import DistanceOptions
from ncsnx.runs.folder import Run
from ncsnx.runtime import Runtime
from ncsnx.work import Work


@attrs.frozen(kw_only=True)
class RunMeasurements:
    """Opens measurements of runs; what runs on the same data share is opened once."""

    experiments: Mapping[str, Experiment]
    """Experiment by name of its run."""
    runtime: Runtime
    data: Path | None
    """Folder of the data sets."""
    work: Work
    _distances: dict[bytes, DistanceSweep] = attrs.field(factory=dict, init=False)
    _sources: dict[bytes, DataSource] = attrs.field(factory=dict, init=False)

    def distance(self, run: Run, compared: DistanceOptions, request: SweepRequest) -> DistanceSweep:
        """The distance of a run's images to real ones. Raises NcsnxError."""
        experiment, runtime = self._of(run)
        key = _data_of(run)
        if key not in self._distances:
            _, network, reference = compared.open(run, experiment, runtime, self.work)
            self._distances[key] = DistanceSweep(
                run=run,
                experiment=experiment,
                features=network,
                reference=reference,
                perfect_model=reference.perfect_model(request.n, self.work),
                request=request,
                runtime=runtime,
                data=self.data,
            )
        return attrs.evolve(self._distances[key], run=run, experiment=experiment, runtime=runtime)

    def held_out(self, run: Run) -> HeldOutSweep:
        """The loss of a run on held-out images. Raises NcsnxError."""
        experiment, runtime = self._of(run)
        key = _data_of(run)
        if key not in self._sources:
            self._sources[key] = DataSource.of_run(run, data_folder(self.data), self.work)
        return HeldOutSweep(run=run, experiment=experiment, source=self._sources[key], runtime=runtime)

    def _of(self, run: Run) -> tuple[Experiment, Runtime]:
        experiment = self.experiments[run.name]
        return experiment, self.runtime.for_weights_of(experiment)


def _data_of(run: Run) -> bytes:
    return canonical([unstructure(run.experiment().data), run.data_fingerprint()])
