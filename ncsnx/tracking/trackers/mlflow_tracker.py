"""MLflow (https://mlflow.org): where MLFLOW_TRACKING_URI says, by default ./mlflow.db."""

import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path

from ncsnx.tracking.tracker import PROJECT, TrackedRun, Tracker, tracker

RECORD_TAG = "ncsnx.record"
_MOST_PARAMS, _MOST_METRICS = 100, 1_000
"""Parameters and metrics that MLflow takes at once."""


@tracker("mlflow", requires="mlflow", install=".[mlflow]")
class MlflowTracker(Tracker):
    """A run of MLflow, found again by a tag. Its parameters can't change: config.json has the newest values."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient, get_tracking_uri
        from mlflow.entities import Metric, Param

        self._client, self._metric = MlflowClient(), Metric
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        found = self._client.search_runs([number], f"tags.`{RECORD_TAG}` = '{run.record}'", max_results=1)
        opened = (
            found[0] if found else self._client.create_run(number, run_name=run.name, tags={RECORD_TAG: run.record})
        )
        self._id = opened.info.run_id
        self._client.update_run(self._id, status="RUNNING")
        params = [Param(key, str(value)) for key, value in run.config.items() if key not in opened.data.params]
        for start in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + _MOST_PARAMS])
        self._client.log_dict(self._id, dict(run.config), "config.json")
        address = get_tracking_uri()
        if address.startswith("sqlite:"):  # another may have a login
            self.hint = f"mlflow ui --backend-store-uri {shlex.quote(address)}"

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        now_ms = time.time_ns() // 10**6
        metrics = [self._metric(name, one, now_ms, step) for name, one in values.items()]
        for start in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[start : start + _MOST_METRICS])

    def image(self, step: int, name: str, file: Path) -> None:
        from PIL import Image

        with Image.open(file) as picture:
            self._client.log_image(self._id, picture, key=name, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)
