"""`ncsnx neighbors`: the training images nearest to samples, and whether the samples are copies of them."""

from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands.command import BATCHES, Command, Panel, as_function, command, option
from ncsnx.commands.groups import SEEDS, Execution, InFeatures, MeasuringChanges, OneCheckpoint, Sampled, split_changes
from ncsnx.errors import Hint, UsageError
from ncsnx.spelling import argument as spelled

if TYPE_CHECKING:
    from ncsnx.config.overrides import Override
    from ncsnx.evaluation.neighbor_search import NearestTrainingImages, NeighborSearch
    from ncsnx.model_spec import ModelSpec
    from ncsnx.runs.folder import Run
    from ncsnx.work import Work

NO_FEATURES = "none"


@command("neighbors", panel=Panel.EVALUATE, order=80, then=BATCHES, is_shared=True)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Neighbors(OneCheckpoint, Sampled, InFeatures, Execution, Command["NearestTrainingImages"]):
    """Find the training images nearest to samples; detect copies.

    Searches in pixels and in features (`features` none: in pixels alone). The distances of samples to their nearest
    training images are compared with the distances of held-out images: samples of a model that reproduces training
    images are nearer, and to single ones. The run's neighbors/ gets a grid of samples with their neighbors, all
    distances, their distributions, and the numbers.
    """

    changes: MeasuringChanges = attrs.field(default=(), kw_only=False)
    """Changes to the sampler (sampler.FIELD=VALUE) and to the features (features.FIELD=VALUE)."""
    n: Annotated[int, option(Panel.IMAGES, "N", between=(1, 10_000_000))] = 64
    """Number of samples."""
    seed: Annotated[int, option(Panel.IMAGES, "SEED", between=SEEDS)] = 0
    """Sample i is image i of this seed, as `ncsnx sample` draws it."""
    k: Annotated[int, option(Panel.MEASUREMENT, "K", between=(1, 100))] = 5
    """Neighbors shown per sample."""
    flips: Annotated[bool | None, option(Panel.MEASUREMENT, default="as in training")] = None
    """Whether mirror images of training images count."""
    held_out: Annotated[int, option(Panel.MEASUREMENT, "M", between=(1, 1_000_000))] = 1000
    """Held-out images to compare the samples with, at most."""

    def carry_out(self, work: "Work") -> "NearestTrainingImages":
        with work.interruptible():
            run = self.opened()
            settings, changes = split_changes(self.changes, "features")
            spec = self.spec_of(run, changes, work)
            batch_size = work.ranks.batch_size(self.n, self.images_at_once(spec.space.shape))
            step = self.checkpoint(run, work)  # before torch is imported

            search = self._search(run, step, spec, batch_size, settings, work)
        work.info(f"{run.path}: {search.caption()}")
        nearest = search.carry_out(work)
        self.renew_report(run, work)
        if nearest.verdict is None:
            work.warning("the data set has no held-out images to compare with, so look at the grid for copies")
        return nearest

    def _search(
        self,
        run: "Run",
        step: int,
        spec: "ModelSpec",
        batch_size: int,
        settings: "list[Override]",
        work: "Work",
    ) -> "NeighborSearch":
        from ncsnx.data.download import DownloadError
        from ncsnx.evaluation.measuring import choose
        from ncsnx.evaluation.neighbor_search import NeighborSearch
        from ncsnx.features.real_images import DataSource

        if self.features == NO_FEATURES and settings:
            none = spelled("features", NO_FEATURES)
            raise UsageError(f"{settings[0].path}: {none} has no settings; leave one of them out")
        source, runtime = DataSource.of_run(run, self.data_folder(), work), self.runtime_for(spec, work)
        subjects, _ = work.ranks.first(lambda: choose(run, [step], work, runtime, spec.sampler, self.seed))
        search = NeighborSearch(
            run=run,
            spec=spec,
            runtime=runtime,
            subjects=subjects,
            source=source,
            features=None,
            n=self.n,
            batch_size=batch_size,
            k=self.k,
            held_out=self.held_out,
            flips=source.data.random_flip if self.flips is None else self.flips,
            data=self.data_folder(),
        )  # checks what can be checked before a classifier is trained
        if self.features == NO_FEATURES:
            return search
        try:
            chosen = self.chosen_features(source.data, settings)
            return attrs.evolve(search, features=self.open_features(source, chosen, runtime, work))
        except DownloadError as error:
            pixels = Hint("or search in pixels alone", adds=spelled("features", NO_FEATURES))
            raise DownloadError(error.message, *error.hints, pixels) from error


neighbors = as_function(Neighbors)
