"""`ncsnx loss`: the held-out loss of a run's checkpoints, averaged and at each noise level."""

from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands.command import BATCHES, Command, Panel, as_function, command, option
from ncsnx.commands.groups import AT_ONCE, SEEDS, Checkpoints, Execution, InData, Noted

if TYPE_CHECKING:
    from ncsnx.runs.measurements import Measurements
    from ncsnx.work import Work


@command("loss", panel=Panel.EVALUATE, order=50, then=BATCHES, is_shared=True)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Loss(Checkpoints, InData, Execution, Noted, Command["Measurements"]):
    """Measure the held-out loss of checkpoints at each noise level.

    The score-matching loss of held-out images with fixed noise: a table, a plot, and one loss per noise level. All
    levels have equal weight; with schedule=lognormal training weighs them otherwise. Losses are kept in the run by
    weights and protocol, so that nothing is measured twice. An interrupted sweep resumes after its last finished
    batch. A low loss doesn't promise good images: for those see `ncsnx fid`.
    """

    seed: Annotated[int, option(Panel.IMAGES, "SEED", between=SEEDS)] = 0
    """Determines the noise, the same for every checkpoint."""
    passes: Annotated[
        int | None, option(Panel.MEASUREMENT, "P", default="enough for 20,000 evaluations, at most all levels")
    ] = None
    """Noise levels at which each held-out image is seen. With few, the losses of single levels are noisy."""
    batch_size: Annotated[int, option(Panel.EXECUTION, "B", between=AT_ONCE, is_common=True)] = 128
    """Images at once; changes the loss by rounding at most."""

    def carry_out(self, work: "Work") -> "Measurements":
        with work.interruptible():
            run = self.opened()
            spec, steps = run.spec(), self.selected(run, work)

            from ncsnx.evaluation.held_out import HeldOutLoss
            from ncsnx.evaluation.measuring import choose, measure_checkpoints
            from ncsnx.features.real_images import DataSource

            runtime = self.runtime_for(spec, work)
            subjects, problems = work.ranks.first(lambda: choose(run, steps, work, runtime))
            job = HeldOutLoss(
                run=run,
                spec=spec,
                subjects=subjects,
                source=DataSource.of_run(run, self.data_folder(), work),
                runtime=runtime,
                seed=self.seed,
                passes=self.passes,
                batch_size=self.batch_size,
                note=self.note,
            )
        measurements = measure_checkpoints(job, problems, work)
        self.renew_report(run, work)
        return measurements


loss = as_function(Loss)
