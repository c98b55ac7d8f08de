"""Images of a model, drawn into a folder with progress: what sampling and restoring share."""

import math
from functools import partial
from pathlib import Path

import attrs

from ncsnx.config.codec import flatten
from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import ImageSize
from ncsnx.inverse.task import Task
from ncsnx.inverse.task_record import shown_in_words
from ncsnx.quantities import counted
from ncsnx.ranks.joining import require_same
from ncsnx.ranks.shared_batches import runs_of
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import require_best
from ncsnx.runs.selection import Source, check_checkpoint
from ncsnx.runs.writer_lock import folder_lock, require_lock
from ncsnx.runtime import Runtime
from ncsnx.sampling.generate import indices_per_batch
from ncsnx.sampling.request import SampleRequest
from ncsnx.sampling.sample import default_folder, fill, open_output, output_folder, protocol
from ncsnx.sampling.sample_folder import SampleFolder
from ncsnx.sampling.score_model import ScoreModel, load
from ncsnx.work import Advance, Work, ignore_progress


def load_model(
    work: Work,
    source: Source,
    experiment: Experiment,
    checkpoint: int | str | None,
    runtime: Runtime,
    size: ImageSize | None = None,
) -> ScoreModel:
    """The model of a run or an exported model, with the sampler of `experiment`, for images of a size.

    size: None for the size of the data; warns of any other. Raises NcsnxError.
    """
    step = work.ranks.first(lambda: check_checkpoint(source, checkpoint))
    if checkpoint == "best" and isinstance(source, Run):
        work.info(f"best: {require_best(source)}")
    model = attrs.evolve(load(source, step, runtime=runtime), experiment=experiment).at_size(size)
    if (remark := model.size_remark) is not None:
        work.warning(remark)
    return model


@attrs.frozen(kw_only=True)
class FolderDrawing:
    """Images to draw, and the folder for them."""

    model: ScoreModel
    request: SampleRequest
    task: Task | None = None
    images: str
    """The images in words, such as '64 images'."""
    out: Path | None
    """None: the folder named after the protocol."""
    data: Path | None
    """Folder of the data sets, for samplers that start from training images."""
    overwrite: bool
    note: str

    def carry_out(self, work: Work) -> SampleFolder | None:
        """Draws the images that the folder lacks, and says where everything is; None on ranks other than 0.

        Raises NcsnxError.
        """
        facts = {"device": self.model.runtime.device.type, **protocol(self.model, self.request, self.task)}
        require_same(work.ranks, "would not draw the same", dict(flatten(facts)), check_stop=work.check_stop)
        return work.ranks.lead(partial(self._lead, work), partial(self._follow, work), work.check_stop)

    def _lead(self, work: Work) -> SampleFolder:
        model, request, task = self.model, self.request, self.task
        folder = default_folder(model, request, task) if self.out is None else self.out
        output = open_output(folder, model, request, task=task, note=self.note, overwrite=self.overwrite)
        source = f"{model.source.where}, step {model.step:,} ({model.weights}), {model.evaluations_in_words} each"
        if output.complete:
            work.info(f"{self.images} from {source}: already sampled")
        else:
            with folder_lock(output.path, str(output.path)):
                output.open()  # another process may have resumed it meanwhile
                missing = len(output.missing())
                done = f", {request.n - missing:,} of them already sampled" if missing < request.n else ""
                work.info(f"{self.images}{done}, from {source}, on {model.runtime.device}{model.precision_in_words}")
                if model.start is not None:
                    work.info(model.start_in_words)
                self._fill(output, work)
        self._say_where(work, output)
        return output

    def _follow(self, work: Work, order: tuple[Path, list[range]]) -> None:
        """Draws the share of this rank. order: the folder, and the indices of the images that it lacks."""
        folder, left = order
        require_lock(folder, work.ranks, work.check_stop)
        output = output_folder(folder, self.model, self.request, task=self.task, note=self.note)
        self._draw(output, left, work, ignore_progress)

    def _fill(self, output: SampleFolder, work: Work) -> None:
        model, request = self.model, self.request
        left = output.missing()
        batches = math.ceil(len(left) / indices_per_batch(request.batch_size, request.columns))
        if batches:
            runs = runs_of(left)
            work.ranks.order((output.path, runs))
            with work.progress("sampling", total=batches * model.states, unit="sampler steps") as advance:
                evaluations = self._draw(output, runs, work, advance)
            if model.evaluations is None:
                work.info(f"{counted(evaluations, 'evaluation')} per image, averaged over the images just drawn")
        images = request.n * request.columns
        with work.progress("writing pictures", total=images, unit="images") as advance:
            output.finish(work.check_stop, advance)

    def _draw(self, output: SampleFolder, left: list[range], work: Work, advance: Advance) -> float:
        return fill(
            output,
            self.model,
            self.request,
            left=left,
            task=self.task,
            data=self.data,
            check_stop=work.check_stop,
            advance=advance,
            ranks=work.ranks,
        )

    def _say_where(self, work: Work, output: SampleFolder) -> None:
        work.info(f"images: {output.path / 'images'}")
        if not self.model.experiment.data.is_bounded:
            work.info(f"values: {output.samples_path}, the data's own; pictures show {output.window}")
        part = None if self.task is None else shown_in_words(self.task, self.request.n // self.task.count)
        work.info(f"grid:   {output.path / 'grid.png'}{f' ({part} only)' if part else ''}")
        if output.protocol["film"]:
            work.info(f"film:   {output.film_path}")
