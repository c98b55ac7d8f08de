"""`ncsnx likelihood`: likelihood of held-out images under a run's checkpoints, in bits per dimension."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs

from ncsnx.commands.command import BATCHES, Command, Panel, as_function, command, option
from ncsnx.commands.groups import AT_ONCE, SEEDS, Checkpoints, Device, InData, Noted, is_model, refuse_loading
from ncsnx.errors import UsageError

if TYPE_CHECKING:
    from ncsnx.evaluation.measure import Measure
    from ncsnx.runs.measurements import Measurements
    from ncsnx.sampling.model import Model
    from ncsnx.work import Work


@command("likelihood", panel=Panel.EVALUATE, order=60, then=BATCHES, is_shared=True)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Likelihood(Checkpoints, InData, Device, Noted, Command["Measurements"]):
    """Measure bits per dimension of held-out images.

    Solves the probability-flow ODE; lower is better. The value is the sum of three columns: prior (the density where
    the flow takes an image), flow (its change of volume) and scale (gray levels and data transform). Evaluations are
    those of the network with its divergence.

    Values are kept in the run by weights and protocol, with a table and a plot in its likelihood/. An interrupted
    measurement resumes after its last finished batch.
    """

    n: Annotated[int | None, option(Panel.IMAGES, "N", default="100, or all of fewer", between=(2, 10_000_000))] = None
    """Number of held-out images, chosen by the seed."""
    seed: Annotated[int, option(Panel.IMAGES, "SEED", between=SEEDS)] = 0
    """Determines the choice of images, their dequantization and the probes."""
    estimator: Annotated[Literal["hutchinson", "exact"], option(Panel.MEASUREMENT, "NAME")] = "hutchinson"
    """Estimator of the divergence: hutchinson (random signs), or exact (every direction in turn, for small images)."""
    probes: Annotated[int | None, option(Panel.MEASUREMENT, "K", default="1", between=(1, 10_000))] = None
    """Random vectors per image, the same at every σ. Each costs a backward pass."""
    tolerance: Annotated[float, option(Panel.MEASUREMENT, "TOL")] = 1e-4
    """Absolute and relative error allowed to the solver per step and image, from 1e-6 to 0.1."""
    batch_size: Annotated[int, option(Panel.EXECUTION, "B", between=AT_ONCE, is_common=True)] = 64
    """Images at once. Values don't depend on it, except for rounding."""

    def carry_out(self, work: "Work") -> "Measurements":
        if is_model(self.run):
            return self._of_model(self.run, work)
        with work.interruptible():
            run = self.opened()
            spec, steps = run.spec(), self.selected(run, work)

            from ncsnx.evaluation.measuring import choose, measure_checkpoints
            from ncsnx.features.real_images import DataSource

            runtime = self.runtime(work.ranks, precision="fp32")
            subjects, problems = work.ranks.first(lambda: choose(run, steps, work, runtime))
            source = DataSource.of_run(run, self.data_folder(), work)
            job = self._job(source=source, run=run, spec=spec, runtime=runtime, subjects=subjects)
        measurements = measure_checkpoints(job, problems, work)
        self.renew_report(run, work)
        return measurements

    def _of_model(self, model: "Model", work: "Work") -> "Measurements":
        from ncsnx.evaluation.measuring import measure_model
        from ncsnx.features.real_images import DataSource

        refuse_loading(self)
        if model.size is not None:
            raise UsageError("a likelihood is of images of the data's size; leave size out of the model")
        if (source := DataSource.of_model(model, self.data_folder(), work)) is None:
            raise UsageError("a likelihood needs the model's data, such as Model.of(…, data=ncsnx.config.Digits())")
        return measure_model(model, lambda **of_model: self._job(source=source, **of_model), work)

    def _job(self, **others: Any) -> "Measure":
        from ncsnx.evaluation.likelihood import Likelihood

        return Likelihood(
            n=self.n,
            seed=self.seed,
            estimator=self.estimator,
            vectors=self.probes,
            tolerance=self.tolerance,
            batch_size=self.batch_size,
            note=self.note,
            **others,
        )


likelihood = as_function(Likelihood)
