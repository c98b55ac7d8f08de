"""`ncsnx sample`: draws images from a run's checkpoint, or from an exported model."""

from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands.command import (
    BATCHES,
    IMAGES_PANEL,
    TRAIN_PANEL,
    Command,
    argument,
    as_function,
    command,
    option,
)
from ncsnx.commands.groups import Changes, Drawn, overrides_of
from ncsnx.quantities import counted
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment
    from ncsnx.sampling.request import SampleRequest
    from ncsnx.sampling.sampled_images import SampledImages
    from ncsnx.work import Work

_ROWS_PANEL = "Rows between images"


@command("sample", panel=TRAIN_PANEL, place=20, then=BATCHES, is_shared=True)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Sample(Drawn, Command["SampledImages"]):
    """Draw images from a run or an exported model.

    Writes single PNGs, a grid, the tensors, and the protocol that reproduces them. An interrupted sampling resumes when
    the command is repeated.

    sampler.FIELD=VALUE changes the sampler: `ncsnx sample digits sampler.steps_per_level=3`. After `ncsnx compare
    digits`, sampler=fast is the sampler that it recommends. With `interpolate`, sampler.denoise=false gives the
    published behaviour. For images that agree with a picture, see `ncsnx restore`.
    """

    changes: Annotated[Changes, argument("sampler.FIELD=VALUE", is_list=True, complete="field")] = attrs.field(
        default=(), kw_only=False
    )
    """Changes to the sampler; sampler=TAG swaps it."""
    n: Annotated[int | None, option(IMAGES_PANEL, "N", default="64; 1 with rows between two seeds")] = None
    """Number of images; of rows, with `interpolate` or `between`."""
    interpolate: Annotated[int | None, option(_ROWS_PANEL, "K")] = None
    """Draw rows of K images that change gradually from the first to the last."""
    between: Annotated[tuple[int, int] | None, option(_ROWS_PANEL, "A B")] = None
    """Draw rows from the images of seed A to those of seed B."""
    steps: Annotated[int | None, option(_ROWS_PANEL, "K", default="8")] = None
    """Images per row of `between`."""

    def carry_out(self, work: "Work") -> "SampledImages":
        with work.at_once():
            source = self.opened(work)
            experiment = self.experiment_of(source, overrides_of(self.changes), work)
            request = self._request(experiment, work)
            self.require_checkpoint(source, work)
            start = self.start_choice(measured=False)

            from ncsnx.inverse.values import range_of
            from ncsnx.sampling.drawing import Drawing
            from ncsnx.sampling.folder_drawing import FolderDrawing, load_model
            from ncsnx.sampling.sampled_images import SampledImages

            runtime = self.runtime_for(experiment, work)
            model = load_model(work, source, experiment, self.ckpt, runtime, self.image_size())
            model = start.applied(model, None, range_of(experiment.data, self.data_folder(), source))
        rows = f"{counted(request.n, 'row')} of {request.columns}"
        drawing = FolderDrawing(
            drawing=Drawing(model=model, request=request, data=self.data_folder()),
            images=rows if request.interpolate else counted(request.n, "image"),
            out=self.output_folder(),
            overwrite=self.overwrite,
            note=self.note,
        )
        return SampledImages(source=source, output=drawing.carry_out(work))

    def _request(self, experiment: "Experiment", work: "Work") -> "SampleRequest":
        """The images that are asked for. Raises UsageError."""
        from ncsnx.errors import require_between
        from ncsnx.sampling.request import MOST_SEED, SampleRequest

        first, other = (self.seed, None) if self.between is None else self.between
        columns = self._columns()
        if self.between is not None:  # which takes seeds and columns by other names
            require_between("between", first, 0, MOST_SEED)
            require_between("steps", columns or 0, 2, 1_000, " columns")
        request = SampleRequest(
            n=self.n if self.n is not None else 64 if self.between is None else 1,
            seed=first,
            batch_size=self.images_at_once(experiment, self.image_size()),
            interpolate=columns,
            between=other,
            frames=self.frames,
            film=self.film or self.mp4,
            mp4=self.mp4,
        )
        images = request.n * request.columns
        return attrs.evolve(request, batch_size=work.ranks.batch_size(images, request.batch_size))

    def _columns(self) -> int | None:
        """Images per row; None without rows. Raises UsageError for options that contradict each other."""
        from ncsnx.errors import UsageError

        between, steps = parameter("between"), parameter("steps")
        if self.between is None:
            if self.steps is not None:
                raise UsageError(
                    f"{steps} goes with {between}, which is not given; training steps are in {parameter('ckpt')}"
                )
            return self.interpolate
        if self.interpolate is not None or self.seed != 0:
            other = parameter("interpolate" if self.interpolate is not None else "seed")
            raise UsageError(f"leave {other} out: both seeds are in {between}, and the number of columns in {steps}")
        return 8 if self.steps is None else self.steps


sample = as_function(Sample)
