"""`ncsnx fid`: scores the checkpoints of a run by the distance of their images to real images."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import BATCHES, Command, Panel, as_function, command, option
from ncsnx.commands.groups import (
    SCORED,
    SEEDS,
    Checkpoints,
    Compared,
    Execution,
    MeasuringChanges,
    Noted,
    Sampled,
    is_model,
    refuse_loading,
    split_changes,
)
from ncsnx.errors import UsageError, quoted
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.config.overrides import Override
    from ncsnx.evaluation.distance import Distance
    from ncsnx.evaluation.reference import Reference
    from ncsnx.features.feature_network import FeatureNetwork
    from ncsnx.model_spec import HasSampler, ModelSpec
    from ncsnx.runs.measurements import Measurements
    from ncsnx.sampling.model import Model
    from ncsnx.work import Work


@command("fid", panel=Panel.EVALUATE, order=40, then=BATCHES, is_shared=True)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Fid(Checkpoints, Sampled, Compared, Execution, Noted, Command["Measurements"]):
    """Score checkpoints by FID and KID, and find the best.

    Compares features of sampled images with features of real images. With Inception's features, the Fréchet and the
    kernel distance are FID and KID. The table also shows what a perfect model would score: real images in place of
    sampled ones.

    Scores are kept in the run by weights and protocol, with a table and a plot in its fid/. An interrupted sweep
    resumes where it stopped, and a wider range measures only the new checkpoints. Afterwards
    `ncsnx sample RUN --ckpt best` takes the best checkpoint of the sweep over the most checkpoints; of equal ones, of
    that with the most images.
    """

    changes: MeasuringChanges = attrs.field(default=(), kw_only=False)
    """Changes to the sampler (sampler.FIELD=VALUE) and to the features (features.FIELD=VALUE)."""
    n: Annotated[int, option(Panel.IMAGES, "N", between=SCORED)] = 1000
    """Images per checkpoint."""
    seed: Annotated[int, option(Panel.IMAGES, "SEED", between=SEEDS)] = 0
    """Determines the noise of the images, the same for every checkpoint."""
    ensemble: Annotated[int, option(Panel.MEASUREMENT, "K", between=(1, 1_000))] = 1
    """Average the scores of the last K checkpoints, for runs without EMA."""
    classes: Annotated[bool, option(Panel.MEASUREMENT)] = False
    """Also compare the images of each class with the real images of that class (up to 10,000 of all classes)."""
    metrics: Annotated[
        str | Sequence[str], option(Panel.MEASUREMENT, "TAG,…", parse=values.words, complete="metrics")
    ] = ()
    """Further metrics: all, or some of precision-recall, density-coverage, inception-score and the metrics of installed
    packages."""

    def carry_out(self, work: "Work") -> "Measurements":
        if is_model(self.run):
            return self._of_model(self.run, work)
        with work.interruptible():
            run = self.opened()
            settings, spec, batch_size = self._drawn(run, work)
            steps = self.selected(run, work)

            from ncsnx.evaluation.measuring import choose, measure_checkpoints
            from ncsnx.features.real_images import DataSource

            requested = _metrics(self.metrics)
            runtime = self.runtime_for(spec, work)
            subjects, problems = work.ranks.first(
                lambda: choose(run, steps, work, runtime, spec.sampler, self.seed, ensemble=self.ensemble)
            )
            unneeded = self.reference is not None and run.declared().data is None
            source = None if unneeded else DataSource.of_run(run, self.data_folder(), work)
            compared = self.open_compared(source, settings, runtime, work)
            parts: dict[str, Any] = {"run": run, "spec": spec, "runtime": runtime, "subjects": subjects}
            job = self._job(*compared, batch_size, requested, work, **parts)
        measurements = measure_checkpoints(job, problems, work, requested)
        self.renew_report(run, work)
        return measurements

    def _drawn(self, source: "HasSampler", work: "Work") -> "tuple[list[Override], ModelSpec, int]":
        """Settings of the features, the model with its sampler, and images per batch. Raises UsageError, NcsnxError."""
        settings, changes = split_changes(self.changes, "features")
        spec = self.spec_of(source, changes, work)
        return settings, spec, work.ranks.batch_size(self.n, self.images_at_once(spec.space.shape))

    def _of_model(self, model: "Model", work: "Work") -> "Measurements":
        """The score of a loaded model, which no run keeps."""
        from ncsnx.evaluation.measuring import measure_model
        from ncsnx.features.real_images import DataSource

        refuse_loading(self)
        settings, spec, batch_size = self._drawn(model, work)
        requested, source = _metrics(self.metrics), DataSource.of_model(model, self.data_folder(), work)
        compared = self.open_compared(source, settings, model.runtime, work)
        model = attrs.evolve(model, sampler=spec.sampler)
        make = partial(self._job, *compared, batch_size, requested, work)
        return measure_model(model, make, work, self.seed, requested)

    def _job(
        self,
        features: "FeatureNetwork",
        reference: "Reference",
        batch_size: int,
        requested: "Sequence[str] | None",
        work: "Work",
        **others: Any,
    ) -> "Distance":
        from ncsnx.evaluation.distance import Distance

        job = Distance(
            features=features,
            reference=reference,
            perfect_model=reference.perfect_model(self.n, work),
            n=self.n,
            batch_size=batch_size,
            by_class=self.classes,
            data=self.data_folder(),
            note=self.note,
            **others,
        )
        _refuse(job, requested)
        return job.with_perfect_classes(work)


def _metrics(tags: str | Sequence[str]) -> "Sequence[str] | None":
    """Tags of the metrics to show beside the distances; None: all. Raises UsageError."""
    from ncsnx.config.variants import load_plugins
    from ncsnx.metrics.metric import all_metrics

    wanted = values.words(tags)
    if wanted == ("all",):
        return None
    load_plugins("ncsnx.runtime")
    known = {one.tag for one in all_metrics()}
    for tag in wanted:
        if tag not in known:
            expected = ", ".join(one.tag for one in all_metrics())
            raise UsageError(f"{parameter('metrics')} {quoted(tag)}: expected all, or some of {expected}")
    return wanted


def _refuse(job: "Distance", requested: "Sequence[str] | None") -> None:
    """Raises UsageError for a metric that can't be measured with these images."""
    from ncsnx.metrics.metric import all_metrics

    for metric in all_metrics():
        if metric.tag in (requested or ()) and (refusal := job.refusal(metric)) is not None:
            other = f"{parameter('reference')} or {parameter('features')}"
            raise UsageError(f"{refusal}; leave it out, or choose other images by {other}")


fid = as_function(Fid)
