"""`ncsnx sample`: draws images from a run's checkpoint, or from an exported model."""

from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands.command import BATCHES, Command, Panel, as_function, command, option
from ncsnx.commands.groups import Drawn, SamplerChanges, overrides_of
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from ncsnx.model_spec import ModelSpec
    from ncsnx.sampling.request import SampleRequest
    from ncsnx.sampling.sample_folder import SampledImages
    from ncsnx.work import Work

_ROWS_PANEL = "Rows between images"


@command("sample", panel=Panel.TRAIN, order=20, then=BATCHES, is_shared=True)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Sample(Drawn, Command["SampledImages"]):
    """Draw images from a run or an exported model.

    Writes single PNGs, a grid, the tensors, and the protocol that reproduces them. An interrupted sampling resumes when
    the command is repeated.

    sampler.FIELD=VALUE changes the sampler: `ncsnx sample digits sampler.steps_per_level=3`. After `ncsnx compare
    digits`, sampler=fast is the sampler that it recommends. With `interpolate`, sampler.denoise=false gives the
    published behavior. For images that agree with a picture, see `ncsnx restore`.
    """

    changes: SamplerChanges = attrs.field(default=(), kw_only=False)
    """Changes to the sampler; sampler=TAG swaps it."""
    n: Annotated[int | None, option(Panel.IMAGES, "N", default="64; 1 with `between`")] = None
    """Number of images; of rows, with `interpolate`."""
    interpolate: Annotated[int | None, option(_ROWS_PANEL, "K")] = None
    """Draw rows of K images that change gradually from the first to the last."""
    between: Annotated[int | None, option(_ROWS_PANEL, "SEED")] = None
    """Seed of the images at the other ends of the rows."""

    def carry_out(self, work: "Work") -> "SampledImages":
        with work.interruptible():
            source = self.opened(work)
            spec = self.spec_of(source, overrides_of(self.changes), work)
            request = self._request(spec, work)
            step = self.checkpoint(source, work)

            from ncsnx.sampling.drawing import Drawing, FolderDrawing, load_model
            from ncsnx.sampling.sample_folder import SampledImages

            runtime = self.runtime_for(spec, work, plain=self.plain)
            model = load_model(work, source, spec.sampler, step, runtime, self.image_size())
        rows = f"{counted(request.n, 'row')} of {request.columns}"
        drawing = FolderDrawing(
            drawing=Drawing(model=model, request=request, data=self.data_folder()),
            images=rows if request.interpolate else counted(request.n, "image"),
            out=self.output_folder(),
            overwrite=self.overwrite,
            note=self.note,
        )
        return SampledImages(output=drawing.carry_out(work))

    def _request(self, spec: "ModelSpec", work: "Work") -> "SampleRequest":
        """The images that are asked for. Raises UsageError."""
        from ncsnx.sampling.request import SampleRequest

        request = SampleRequest(
            n=self.n if self.n is not None else 64 if self.between is None else 1,
            seed=self.seed,
            batch_size=self.images_at_once(spec.space.shape, self.image_size()),
            interpolate=self.interpolate,
            between=self.between,
            frames=self.frames,
            film=self.film,
        )
        images = request.n * request.columns
        return attrs.evolve(request, batch_size=work.ranks.batch_size(images, request.batch_size))


sample = as_function(Sample)
