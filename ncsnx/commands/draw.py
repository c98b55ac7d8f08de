"""`ncsnx.draw`: draws images of a loaded model, as tensors. In Python alone."""

from typing import TYPE_CHECKING, Literal

import attrs

from ncsnx.commands.command import Command, as_function
from ncsnx.commands.groups import InData
from ncsnx.commands.values import Size, image_size
from ncsnx.errors import UsageError, quoted

if TYPE_CHECKING:
    from ncsnx.config.sampler import Sampler
    from ncsnx.images import ImageBatch
    from ncsnx.inverse.task import Task
    from ncsnx.sampling.model import Model
    from ncsnx.work import Work


@attrs.frozen(slots=False, kw_only=True, eq=False)
class Draw(InData, Command["ImageBatch"]):
    """n images, (n, C, H, W) float32 in [0, 1] on the CPU; image i depends only on the model, the sampler, seed and i.

    A model of unbounded data gives the data's own values, without limits. In a notebook images show themselves as a
    grid, in the window of the data. Raises NcsnxError.
    """

    model: "Model" = attrs.field(kw_only=False)
    """A model, such as ncsnx.load("digits") or ncsnx.Model.of(…)."""
    n: int = attrs.field(default=16, kw_only=False)
    """Number of images; of rows with `interpolate`; of alternatives of each picture with `task`."""
    seed: int = attrs.field(default=0, kw_only=False)
    """Seed of the images."""
    batch_size: int | None = None
    """Images at once, which change an image by rounding at most; default: 64, and more below 16 px."""
    sampler: "Sampler | Literal['fast'] | None" = None
    """Sampler; default: the model's or, with `task`, that of `ncsnx.restore`; 'fast': the one that `ncsnx.compare`
    recommends."""
    interpolate: int | None = None
    """Number of columns K; the result is (n·K, C, H, W), flattened as row · K + column."""
    between: int | None = None
    """Seed of the rows' other ends."""
    task: "Task | None" = None
    """Measurements of P pictures; the result is (P·n, C, H, W), flattened as picture · n + alternative."""
    size: Size | None = None
    """Height and width of the images, one number or (height, width): any that the network's stages can halve; default:
    those of the model. A warning says what it was trained on."""

    def carry_out(self, work: "Work") -> "ImageBatch":
        import torch

        from ncsnx.images import ImageBatch
        from ncsnx.sampling.bias import end_in_words
        from ncsnx.sampling.drawing import Drawing, count_images
        from ncsnx.sampling.request import SampleRequest, images_at_once

        model = self._model(work)
        request = SampleRequest(
            n=count_images(self.n, self.task),
            seed=self.seed,
            batch_size=images_at_once(model.shape, self.batch_size),
            interpolate=self.interpolate,
            between=self.between,
        )
        if (end := end_in_words(model.sampler, model.space)) is not None:
            work.info(end)
        drawing = Drawing(model=model, request=request, task=self.task, data=self.data_folder())
        with work.progress("sampling", total=drawing.states(), unit="sampler steps") as advance:
            drawn = []
            for _, images in drawing.batches(check_stop=work.check_stop, on_state=lambda batch, state: advance()):
                drawn.append(images.cpu())
        return ImageBatch.of(torch.cat(drawn), model.space.pictures)

    def _model(self, work: "Work") -> "Model":
        """The model with the sampler and the size. Raises UsageError, NcsnxError."""
        from ncsnx.inverse.posterior_sampler import posterior_sampler
        from ncsnx.inverse.restoration_defaults import require_different
        from ncsnx.sampling.model import Model
        from ncsnx.sampling.sampler_choice import chosen_sampler

        model = self.model
        if not isinstance(model, Model):
            raise UsageError(f"model must be a Model, such as ncsnx.load('digits'), not {quoted(model)}")
        if self.task is not None:
            sampler = posterior_sampler(self.task, model, work, sampler=self.sampler)
            require_different(self.n, self.task, model.spec(), sampler)
            model = attrs.evolve(model, sampler=sampler)
        elif self.sampler is not None:
            model = attrs.evolve(model, sampler=chosen_sampler(work, model, [], self.sampler))
        model = model.at_size(model.size if self.size is None else image_size(self.size))
        if self.size is not None and (remark := model.size_remark) is not None:
            work.warning(remark)
        return model


draw = as_function(Draw)
