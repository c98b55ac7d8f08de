"""`ncsnx compare`: quality against evaluations for every sampler, on one checkpoint of a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import BATCHES, Command, Panel, as_function, command, option
from ncsnx.commands.groups import SCORED, BatchSize, Compared, Execution, FeatureChanges, OneCheckpoint, split_changes
from ncsnx.errors import UsageError, quoted, require_between
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.config.overrides import Override
    from ncsnx.evaluation.distance import Trials
    from ncsnx.runs.folder import Run
    from ncsnx.runs.measurements import Measurements
    from ncsnx.work import Work


@command("compare", panel=Panel.EVALUATE, order=70, then=BATCHES, is_shared=True)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Compare(OneCheckpoint, BatchSize, Compared, Execution, Command["Measurements"]):
    """Compare samplers by quality, evaluations and time.

    Measures on one checkpoint: distance with its spread, share of broken images (rougher than any real one),
    evaluations and seconds per image. The run's own sampler comes first, then settings of every other sampler.

    The recommended setting takes the fewest evaluations whose measured distance is no larger than the run's own
    sampler's, and at most a twelfth of its evaluations (as many, if it takes fewer than 48). If there is none, it is
    the usable one with the smallest distance. Since a choice among many measurements is partly luck, it and the run's
    own sampler are measured once again with fresh seeds, and these numbers are reported. sampler=fast then selects it
    in `ncsnx sample`, `ncsnx restore` and `ncsnx fid`. Where no setting is usable, with the fresh seeds too, the exit
    code is still 0. An interrupted comparison resumes.
    """

    changes: FeatureChanges = attrs.field(default=(), kw_only=False)
    """Changes to the features."""
    n: Annotated[int, option(Panel.IMAGES, "N", between=SCORED)] = 1000
    """Images per trial."""
    seeds: Annotated[int, option(Panel.IMAGES, "N", between=(1, 100))] = 3
    """Trials per setting, each with a seed of its own."""
    samplers: Annotated[
        str | Sequence[str] | None,
        option(Panel.MEASUREMENT, "TAG,…", default="all", parse=values.words, complete="samplers"),
    ] = None
    """all, or some separated by commas: cas,dpmpp-sde."""
    guidance: Annotated[
        float | Sequence[float] | None,
        option(Panel.MEASUREMENT, "W,…", default="that of the run's own sampler", parse=values.numbers),
    ] = None
    """Guidance that each sampler is tried with, for networks that are conditional on classes, such as 1,1.5,2."""
    evaluations: Annotated[
        int | Sequence[int] | None,
        option(
            Panel.MEASUREMENT,
            "N,…",
            default="a few from 4 to 20, and a twelfth of the run's own sampler's",
            parse=values.counts,
        ),
    ] = None
    """Evaluations per image that each sampler is tried with (ode takes as many as it needs)."""

    def carry_out(self, work: "Work") -> "Measurements":
        with work.interruptible():
            run = self.opened()
            settings, others = split_changes(self.changes, "features")
            if others:
                raise UsageError(
                    f"{others[0].path}: only features.FIELD=VALUE can change here; {parameter('samplers')} chooses the "
                    "samplers"
                )
            step = self.checkpoint(run, work)
            tags, counts, weights = self._tags(), self._counts(), self._weights()  # before torch is imported

            from ncsnx.evaluation.comparison import compare_samplers, comparison_candidates

            tried = comparison_candidates(run.declared(), tags, counts, work.warning, guidance=weights)
            for one in tried:
                attrs.evolve(run.spec(), sampler=one).require_classes()
            trials = self._trials(run, step, settings, work)
        following = f"ncsnx sample {run.cli_name} sampler=fast{self.runs_option()}"
        compared = compare_samplers(trials, tried, self.seeds, work, following)
        self.renew_report(run, work)
        return compared

    def _tags(self) -> Sequence[str] | None:
        """Tags of the samplers; None: all."""
        tags = ("all",) if self.samplers is None else values.words(self.samplers)
        return None if tags == ("all",) else tags

    def _counts(self) -> Sequence[int] | None:
        """Evaluations per image; None: a few. Raises UsageError."""
        counts = [self.evaluations] if isinstance(self.evaluations, int) else self.evaluations
        for count in counts or ():
            require_between("evaluations", count, 1, 100_000)
        return None if counts is None else sorted(set(counts))

    def _weights(self) -> Sequence[float] | None:
        """The guidance to try; None for that of the run's own sampler. Raises UsageError."""
        if self.guidance is None:
            return None
        given: list[Any] = list(self.guidance) if isinstance(self.guidance, list | tuple) else [self.guidance]
        for weight in given:  # Python code may give anything
            if not isinstance(weight, int | float) or not 0 <= weight <= 100:
                raise UsageError(f"{parameter('guidance')} must be numbers from 0 to 100, not {quoted(weight)}")
        return tuple(dict.fromkeys(map(float, given)))

    def _trials(self, run: "Run", step: int, settings: "Sequence[Override]", work: "Work") -> "Trials":
        from ncsnx.data import data_set_of
        from ncsnx.evaluation.distance import Trials, roughest
        from ncsnx.evaluation.measuring import choose
        from ncsnx.features.real_images import DataSource, SplitImages

        spec, source = run.spec(), DataSource.of_run(run, self.data_folder(), work)
        runtime = self.runtime_for(spec, work)
        network, reference = self.open_compared(source, settings, runtime, work)
        real, cache = SplitImages(source, data_set_of(source.data).reference), self.cache_folder()
        subjects, _ = work.ranks.first(lambda: choose(run, [step], work, runtime, spec.sampler, 0))
        return Trials(
            run=run,
            spec=spec,
            subjects=subjects,
            features=network,
            reference=reference,
            limit=work.ranks.in_turn(lambda: roughest(real, cache, work), work.check_stop),
            n=self.n,
            batch_size=work.ranks.batch_size(self.n, self.images_at_once(spec.space.shape)),
            runtime=runtime,
            data=self.data_folder(),
        )


compare = as_function(Compare)
