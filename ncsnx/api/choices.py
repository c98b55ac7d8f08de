"""Choices that several functions of the Python interface share."""

from pathlib import Path
from typing import Literal

import attrs

from ncsnx.api.arguments import require_kind, require_sampler
from ncsnx.config.experiment import Experiment
from ncsnx.config.feature_networks import Features
from ncsnx.config.sampler import Sampler
from ncsnx.jobs.distance_options import DistanceOptions
from ncsnx.jobs.sampler_choice import FAST_OVERRIDE, with_sampler
from ncsnx.noise.bias import known_bias
from ncsnx.runs.selection import Source
from ncsnx.runtime import Runtime
from ncsnx.work import Work


def experiment_with(work: Work, source: Source, sampler: Sampler | Literal["fast"] | None) -> Experiment:
    """The experiment of a run or exported model, with another sampler if one is given. Raises NcsnxError."""
    if sampler is None or sampler == "fast":
        return with_sampler(work, source, [] if sampler is None else [FAST_OVERRIDE])
    require_sampler(sampler)
    experiment = attrs.evolve(source.experiment(), sampler=sampler)
    if bias := known_bias(sampler, experiment):
        work.info(bias)
    return experiment


def runtime_or_default(runtime: Runtime | None, experiment: Experiment) -> Runtime:
    """The runtime, or the default one, for weights of the experiment. Raises UsageError."""
    return (Runtime.choose() if runtime is None else runtime).for_weights_of(experiment)


def distance_options(
    features: Features | None, reference: str | None, data: Path | str | None, cache: Path | str | None
) -> DistanceOptions:
    """The choice of features and reference; None: the defaults. Raises UsageError."""
    if features is not None:
        require_kind("features", features, Features, "a configuration such as ncsnx.config.Classifier()")
    return DistanceOptions(
        features=lambda default: default if features is None else features,
        reference=reference,
        data=None if data is None else Path(data),
        cache=None if cache is None else Path(cache),
    )
