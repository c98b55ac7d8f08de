"""`ncsnx restore`: draws images that agree with a measurement, such as a part of a picture."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import BATCHES, Command, Panel, as_function, command, option
from ncsnx.commands.groups import Drawn, SamplerChanges, changed_words, overrides_of
from ncsnx.commands.tasks import Tasks
from ncsnx.errors import Hint, UsageError, quoted
from ncsnx.paths import exists
from ncsnx.quantities import counted
from ncsnx.spelling import argument, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from ncsnx.inverse.restored_folder import RestoredFolder
    from ncsnx.inverse.restoring import RestoredImages
    from ncsnx.inverse.task import Task
    from ncsnx.model_spec import ModelSpec
    from ncsnx.runs.selection import ModelFolder
    from ncsnx.sampling.model import Model
    from ncsnx.space import Space
    from ncsnx.work import Work


@command("restore", panel=Panel.TRAIN, order=30, then=BATCHES, is_shared=True)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Restore(Tasks, Drawn, Command["RestoredImages | RestoredFolder"]):
    """Restore a photograph, or reconstruct images from measurements.

    `ncsnx restore photographs --denoise photo.jpg --save better.jpg` needs nothing else: a model of photographs comes
    along, and the noise is estimated. `ncsnx restore photographs --inpaint photo.jpg --mask mask.png` fills in what is
    white in the mask. A PICTURE is a file or a folder; the pictures of a folder are restored one by one, each at its
    own size, by a model of patches (data.patches), as `photographs` is.

    `denoise` and `jpeg` write the mean first, in one evaluation of the network (gray: four), and draw alternatives if
    `n` asks for them. Other tasks draw several images for each picture, all of which agree with it, and write what
    `ncsnx sample` writes, a grid with the given picture, the images, their mean and their spread, maps of mean,
    deviation and quantiles, and how well the images agree with the picture; with `truth` also PSNR, SSIM, NMSE and
    calibration. An interrupted sampling resumes when the command is repeated.

    Alternatives are drawn by 100 steps of cas with eta=0.5, of holes in pictures by a model of patches with eta=1, and
    of noisy pictures by 20 steps of dpmpp-sde, unless the sampler is changed: sampler=ald takes the published one of a
    run that has it. Below the noise of a measurement, cas follows the flow (sampler.eta_min). A .npy has H×W×C numbers
    with any number of channels, in the data's own values (see `measure`), or of complex H×W for a model of complex
    data; or several pictures, P×H×W or P×H×W×C.
    """

    changes: SamplerChanges = attrs.field(default=(), kw_only=False)
    """Changes to the sampler; sampler=TAG swaps it."""
    n: Annotated[int | None, option(Panel.IMAGES, "N", default="4; 0 for denoising; with quick 1, to enlarge 4")] = None
    """Alternatives per picture; 0: the mean alone, for noisy pictures."""
    quick: Annotated[bool, option(Panel.IMAGES)] = False
    """A preview: one image by 20 steps, four to enlarge, unless `n` or sampler.steps say otherwise."""
    tile: Annotated[int | None, option(Panel.IMAGES, "PX", default="256 for a model of patches, else whole")] = None
    """Evaluate large pictures in overlapping tiles of this side, in bounded memory: for networks that normalize each
    pixel."""
    save: Annotated[
        Path | str | None, option(Panel.OUTPUT, "FILE", "--save", "-o", default="none", parse=values.path)
    ] = None
    """File for the restored picture (the mean), in the format of its suffix, like the given one: its mode, EXIF, color
    profile and transparency. Of a folder, another one. No other files are kept, unless alternatives are drawn or `out`
    is given."""
    posterior: Annotated[bool | None, option(Panel.OUTPUT, default="from 4 alternatives on")] = None
    """Write maps of mean, deviation and quantiles of the alternatives."""
    task: "Task | None" = None
    """A task of your own, in place of the parameters that name one."""

    def carry_out(self, work: "Work") -> "RestoredImages | RestoredFolder":
        with work.interruptible():
            found = self.opened(work)
            self._require_task()
            self._require_one_picture()
            is_of_folder = self._is_of_folder(found.spec())
        return self._of_folder(found, work) if is_of_folder else self._restored(found, work)

    def _is_of_folder(self, spec: "ModelSpec") -> bool:
        """Whether the pictures of a folder are restored one by one, each at its own size, by a model of patches."""
        from ncsnx.config.data_sets import cuts_patches

        _, given = self.whole_pictures()
        return isinstance(given, Path | str) and Path(given).is_dir() and cuts_patches(spec.data)

    def _of_folder(self, found: "ModelFolder | Model", work: "Work") -> "RestoredFolder":
        """The pictures of a folder, one by one. Raises as `restore_each`, UsageError for several processes."""
        from ncsnx.inverse.restored_folder import FolderFiles, restore_each

        if work.ranks.world > 1:
            hint = Hint("leave it out", adds=argument("gpus"))
            raise UsageError("a folder of pictures is restored by one process", hint)
        name, folder = self.whole_pictures()
        save = None if self.save is None else Path(self.save)
        files = FolderFiles.of(Path(str(folder)), self.output_folder(), save, truth=self.truth, mask=self.mask)

        def restored(picture: Path, parameters: dict[str, Any]) -> "RestoredImages":
            return attrs.evolve(self, **{name: picture, **parameters})._restored(found, work)

        return restore_each(files, restored, work, overwrite=self.overwrite)

    def _restored(self, found: "ModelFolder | Model", work: "Work") -> "RestoredImages":
        """The images of one task."""
        from ncsnx.sampling.request import SampleRequest, shape_at

        with TemporaryDirectory(prefix="ncsnx-") as made:
            with work.interruptible():
                spec = found.spec()
                step = self.checkpoint(found, work)  # before torch, which takes seconds, is imported

                from ncsnx.inverse.posterior_sampler import posterior_sampler
                from ncsnx.inverse.restoration_defaults import (
                    ALTERNATIVES,
                    alternatives,
                    images_per_batch,
                    require_different,
                    tile_side,
                )
                from ncsnx.inverse.restoring import FirstMeans, denoises, restored, say_before, warn_of_holes
                from ncsnx.sampling.drawing import Drawing, FolderDrawing, count_images, load_model

                size = self._size(spec, Path(made))
                side = tile_side(found, size, self.tile)  # before pictures are read
                batch_size = images_per_batch(spec, size, self.batch_size)
                request = SampleRequest(seed=self.seed, batch_size=batch_size, frames=self.frames, film=self.film)
                space = spec.space.at(shape_at(spec.space.shape, size))
                task = self._built(spec, space, Path(made))
                if self.save is not None and task.count > 1:
                    raise UsageError(f"{parameter('save')} takes one picture, found {task.count:,}")
                changes = overrides_of(self.changes)
                sampler = posterior_sampler(task, found, work, changes=changes, sampler=self.sampler, quick=self.quick)
                say_before(task, space, work)
                warn_of_holes(task, spec, work)
                has_mean = denoises(task, spec, sampler)
                enlarges = self.super_resolve is not None
                each = alternatives(self.n, spec, has_mean=has_mean, is_quick=self.quick, enlarges=enlarges)
                require_different(each, task, spec, sampler)
                count = count_images(each, task, least=0)
                self._check_save()
                at_once = work.ranks.batch_size(count, request.batch_size)
                runtime = self.runtime_for(attrs.evolve(spec, sampler=sampler), work, plain=self.plain)
                model = load_model(work, found, sampler, step, runtime, size, side)
            request = attrs.evolve(request, n=count, may_be_none=True, batch_size=at_once)
            keep = partial(self._save, space=space, work=work)
            maps = each >= ALTERNATIVES if self.posterior is None else self.posterior and each > 0
            means = FirstMeans(
                task=task, model=model, seed=self.seed, work=work, alternatives=each, maps=maps, keep=keep
            )
            is_kept = not self.save or bool(self.out) or each > 0
            out = self.output_folder() if is_kept else Path(made) / "out"
            drawing = FolderDrawing(
                drawing=Drawing(model=model, request=request, task=task, data=self.data_folder()),
                images=_in_words(task.count, each),
                out=out,
                overwrite=self.overwrite,
                note=self.note,
                first=means,
            )
            with drawing.completed(work, is_written=True) as output:
                saved = None if self.save is None else Path(self.save)
                return restored(output, means, saved, is_kept=is_kept)

    def _check_save(self) -> None:
        """Raises UsageError for a file that can't be written: see `check_place`."""
        if self.save is not None:
            from ncsnx.inverse.saved_pictures import check_place

            check_place(Path(self.save), self._given_file(), overwrite=self.overwrite)

    def _given_file(self) -> Path | None:
        """The file of the picture that is restored; None for objects and measurements."""
        from ncsnx.inverse.task_pictures import picture_files

        _, given = self.whole_pictures()
        given = self.outpaint if given is None else given
        return picture_files(Path(given))[0] if isinstance(given, Path | str) else None

    def _save(self, means: "Tensor", space: "Space", work: "Work") -> Path | None:
        """Writes the restored picture to the file that was asked for, if one was. means: (1, C, H, W)."""
        if self.save is None:
            return None
        from ncsnx.inverse.saved_pictures import save_like

        save_like(Path(self.save), means[0], space, self._given_file(), work)
        return Path(self.save)

    def _size(self, spec: "ModelSpec", made: Path) -> "values.Size | None":
        """The size of the images: as it is given, or for a model of patches that of the pictures; None: the data's."""
        from ncsnx.config.data_sets import cuts_patches

        size = self.image_size()
        if size is not None or not cuts_patches(spec.data):
            return size
        if self.task is not None:
            _, height, width = self.task.operator.shape
            return height, width
        return self.own_size(made, spec.space)

    def _require_task(self) -> None:
        """Raises UsageError unless there is one task, as an object or by its parameters."""
        if self.task is None:
            self.require_one()
        elif given := self.given():
            raise UsageError(f"{parameter('task')} and {parameter(next(iter(given)))}: give one of them")

    def _require_one_picture(self) -> None:
        """Raises UsageError for a second picture, which a shell's pattern gives, among the changes."""
        for word in changed_words(self.changes):
            if "=" not in word and exists(Path(word)):
                expected = "expected one picture, or a folder of them"
                raise UsageError(f"{expected}, found also {quoted(word)}", Hint("for several, give their folder"))

    def _built(self, spec: "ModelSpec", space: "Space", made: Path) -> "Task":
        """The task, whose pictures are read. Raises UsageError, NcsnxError."""
        from ncsnx.inverse.restoration_defaults import with_usual_rule
        from ncsnx.inverse.rules.contract import AUTO

        task = self.task
        if task is None:
            black, white = space.ends
            task = self.build(space, made, spec.levels[-1] / (white - black), any_sigma=spec.any_sigma)
            if self.rule in (None, AUTO):
                task = with_usual_rule(task, spec)
        _ = task.protocol  # reads all pictures
        return task


def _in_words(pictures: int, each: int) -> str:
    """The images that are drawn. each: of each picture."""
    given = counted(pictures, "picture")
    if each == 0:
        return f"mean of {given}"
    images = counted(pictures * each, "image")
    return f"{images}, {each:,} for each of {given}" if pictures > 1 else images


restore = as_function(Restore)
