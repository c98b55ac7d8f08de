"""Images of a model, drawn into a folder with progress: what sampling and restoring share."""

from collections.abc import Sequence
from pathlib import Path

import attrs
from torch import Tensor

from ncsnx.config.codec import flatten
from ncsnx.config.image_sizes import ImageSize
from ncsnx.config.sampler import Sampler
from ncsnx.quantities import counted
from ncsnx.ranks.joining import require_same
from ncsnx.ranks.rank_group import held_by_first
from ncsnx.ranks.shared_batches import own_images, runs_of
from ncsnx.ranks.shared_disk import wait_for_file
from ncsnx.runs.segments import versions
from ncsnx.runs.selection import Source
from ncsnx.runs.writer_lock import folder_lock, require_lock
from ncsnx.runtime import Runtime
from ncsnx.samplers.state import State
from ncsnx.sampling.drawing import Drawing
from ncsnx.sampling.generate import frame_of
from ncsnx.sampling.loading import model_of
from ncsnx.sampling.model import Model
from ncsnx.sampling.sample_folder import SAMPLES, SampleFolder
from ncsnx.storage.process import this_process
from ncsnx.work import Work, extrapolated


def load_model(
    work: Work,
    source: Source | Model,
    sampler: Sampler,
    step: int,
    runtime: Runtime,
    size: ImageSize | None = None,
    tile: int | None = None,
) -> Model:
    """The model of a source, or the loaded model itself, with a sampler, for images of a size, evaluated in tiles.

    size: None for the size of the data; warns of any other, if it is evaluated whole. Raises NcsnxError.
    """
    model = source if isinstance(source, Model) else model_of(source, step, runtime)
    model = attrs.evolve(model, sampler=sampler).in_tiles(tile).at_size(model.size if size is None else size)
    if (remark := model.size_remark) is not None:
        work.warning(remark)
    return model


@attrs.frozen(kw_only=True)
class FolderDrawing:
    """Images to draw, and the folder for them."""

    drawing: Drawing
    images: str
    """The images in words, such as '64 images'."""
    out: Path | None
    """None: the folder named after the protocol."""
    overwrite: bool
    note: str

    def carry_out(self, work: Work) -> SampleFolder:
        """Draws the images that the folder lacks, and says where everything is; on rank 0, where the others end.

        Raises NcsnxError.
        """
        facts = {"device": self.drawing.model.runtime.device.type, **self.drawing.protocol()}
        ranks = work.ranks
        require_same(ranks, "would not draw the same", dict(flatten(facts)), check_stop=work.check_stop)
        path = ranks.first(lambda: self.out or self.drawing.default_folder())
        output = self._output(path)
        if ranks.first(lambda: self._is_complete(output)):
            work.info(f"{self.images} from {self._source}: already sampled")
        else:
            with held_by_first(ranks, folder_lock(path, str(path))):
                require_lock(path, ranks, work.check_stop)
                self._fill(output, ranks.first(lambda: self._begin(output, work)), work)
                if ranks.is_first:
                    self._finish(output, work)
        ranks.end_others()
        self._say_where(work, output)
        return output

    def _output(self, path: Path) -> SampleFolder:
        drawing, model, task = self.drawing, self.drawing.model, self.drawing.task
        pictures = {} if task is None else {"pictures": list(task.pictures)}
        provenance = {**this_process(), "note": self.note, "runtime": model.runtime.facts(), "versions": versions()}
        return SampleFolder(
            path,
            facts=drawing.protocol(),
            request=drawing.request,
            shape=model.shape,
            frames=len(drawing.frame_steps),
            window=model.space.pictures,
            classes=len(model.spec().classes) if task is None else 0,
            made={**provenance, **pictures},
        )

    def _is_complete(self, output: SampleFolder) -> bool:
        output.check(overwrite=self.overwrite)
        return output.complete

    @property
    def _source(self) -> str:
        model, saved = self.drawing.model, self.drawing.model.origin.checkpoint
        which = "" if saved is None else f", {saved.in_words}"
        return f"{model.origin.where}{which}, {model.evaluations_in_words} each"

    def _begin(self, output: SampleFolder, work: Work) -> list[range]:
        """Says what comes; returns the indices of the images that the folder lacks."""
        model, count = self.drawing.model, self.drawing.request.n
        output.open(overwrite=self.overwrite)
        missing = output.missing()
        done = f", {count - len(missing):,} of them already sampled" if len(missing) < count else ""
        work.info(f"{self.images}{done}, from {self._source}, on {model.runtime.device}{model.precision_in_words}")
        return runs_of(missing)

    def _fill(self, output: SampleFolder, left: list[range], work: Work) -> None:
        """Draws what the folder lacks; the ranks share the images, and return when all are done."""
        drawing, count, evaluations, taken = self.drawing, sum(map(len, left)), 0.0, 0.0
        if count == 0:
            return
        space, frames = drawing.model.space, list[Tensor]()
        own = own_images(work.ranks, output.path.name, left, drawing.indices_per_batch)
        total = drawing.states(count)
        with work.progress("sampling", total=total, unit="sampler steps") as told:
            advance = extrapolated(told, drawing.states(len(own)), total)

            def on_state(batch: Sequence[int], state: State) -> None:
                nonlocal evaluations
                if state.step in drawing.frame_steps:
                    frames.append(
                        frame_of(state, batch, output.shown, lambda x: space.pictures.picture(space.decode(x)))
                    )
                evaluations = state.evaluations
                advance()

            for batch, images in drawing.batches(own, check_stop=work.check_stop, on_state=on_state):
                output.add(batch, images, frames)
                frames.clear()
                taken += len(batch) * evaluations
            mean = sum(work.ranks.gather(lambda: taken, check_stop=work.check_stop)) / count
        if drawing.model.evaluations is None:
            work.info(f"{counted(mean, 'evaluation')} per image, averaged over the images just drawn")

    def _finish(self, output: SampleFolder, work: Work) -> None:
        """Writes the pictures, once this rank sees the batches of all."""
        if not output.complete:
            ranks, is_seen = work.ranks, lambda: not output.missing()
            wait_for_file(output.path, "all ranks", ranks, work.check_stop, is_seen=is_seen)
        request = self.drawing.request
        with work.progress("writing pictures", total=request.n * request.columns, unit="images") as advance:
            output.finish(work.check_stop, advance)

    def _say_where(self, work: Work, output: SampleFolder) -> None:
        work.info(f"images: {output.path / 'images'}")
        if not self.drawing.model.space.bounded:
            work.info(f"values: {output.path / SAMPLES}, the data's own; pictures show {output.window}")
        work.info(f"grid:   {output.path / 'grid.png'}")
        if output.protocol["film"]:
            work.info(f"film:   {output.film_path}")
