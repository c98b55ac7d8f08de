"""Images to draw from a trained model: as tensors, or into a folder with their protocol."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor

from ncsnx.config.codec import digest, flatten
from ncsnx.config.converter import unstructure
from ncsnx.config.image_sizes import ImageSize
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import tag_of
from ncsnx.data import Preprocessing, data_folder, open_data
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.networks.function import require_grid
from ncsnx.quantities import counted
from ncsnx.ranks.joining import require_same
from ncsnx.ranks.rank_group import held_by_first, never_stop
from ncsnx.ranks.sharing import own_images, runs_of, wait_for_file
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runs.segments import versions
from ncsnx.runs.selection import ModelFolder
from ncsnx.runs.writer_lock import folder_lock, require_lock
from ncsnx.runtime import Runtime
from ncsnx.samplers.building import build_sampler, visited
from ncsnx.samplers.state import Rule, ScaledScore, State
from ncsnx.sampling.bias import end_in_words
from ncsnx.sampling.generation import (
    Draws,
    TrainingImages,
    frame_of,
    frame_steps,
    generate,
    ignore_state,
    interpolated,
    other_ends,
    sampler_draws,
)
from ncsnx.sampling.loading import model_of
from ncsnx.sampling.model import Model, Origin
from ncsnx.sampling.request import MOST_IMAGES, SampleRequest
from ncsnx.sampling.sample_folder import SAMPLES, SampleFolder
from ncsnx.space import Space
from ncsnx.spelling import A_DIR, argument, parameter
from ncsnx.storage.process import this_process
from ncsnx.work import Work, extrapolated

FILM_FRAMES = 40
"""Default number of frames of an animation."""


def count_images(n: int, task: "Measurements | None", *, least: int = 1) -> int:
    """Number of images: n, or n alternatives of each of the task's pictures, at least `least`. Raises UsageError."""
    if task is None:
        return n  # SampleRequest checks its range
    most = MOST_IMAGES // task.count
    if not least <= n <= most:
        raise UsageError(
            f"{parameter('n')} must be between {least} and {counted(most, 'alternative')} of each of "
            f"{counted(task.count, 'picture')}, not {n}"
        )
    return n * task.count


class Measurements(Protocol):
    """Measurements of pictures, such as a task of `ncsnx.inverse`."""

    @property
    def name(self) -> str: ...
    @property
    def count(self) -> int:
        """Number of pictures."""

    @property
    def pictures(self) -> Sequence[str]:
        """Names of the pictures."""

    @property
    def protocol(self) -> Mapping[str, Any]:
        """JSON that determines the measurements."""

    @property
    def evaluations(self) -> int:
        """Evaluations of the network that give the mean of a picture, where no images are drawn."""

    def ruled(self, space: Space, lowest: float, seed: int, alternatives: int) -> Callable[[Tensor], Rule]:
        """(indices of images) → their rule; image i is an alternative of picture i // alternatives."""

    def finished(self, images: Tensor, pictures: Tensor) -> Tensor:
        """Images (B, C, H, W), where black is 0 and white 1, with what is known of these pictures, (B,) int64."""


@attrs.frozen(eq=False, kw_only=True)
class Drawing:
    """Images to draw, and all that determines them."""

    model: Model
    request: SampleRequest
    """The images that are asked for; with a task, its number of pictures divides n."""
    task: Measurements | None = None
    """Measurements that the images agree with."""
    data: Path | None = None
    """The data folder, for samplers that start from training images."""

    def batches(
        self,
        indices: Sequence[int] | None = None,
        *,
        evaluate: ScaledScore | None = None,
        check_stop: Callable[[], None] = never_stop,
        on_state: Callable[[Sequence[int], State], None] = ignore_state,
    ) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Yields (indices of a batch, its images: (len · columns, C, H, W) on the model's device).

        Images are in [0, 1], those of a model of unbounded data in the data's own values, without limits.

        indices: indices of the request's images (rows, with `interpolate`); default: all. evaluate: default:
        the model's network. check_stop and on_state as in `generate`. Raises NcsnxError.
        """
        model, sampler = self.model, self.model.sampler
        if not model.network.trained_levels:
            require_grid(sampler, model.origin.where)
        if model.network.limits_sigmas:
            model.network.require_sigmas(visited(sampler, model.levels))
        for batch, x in generate(
            build_sampler(sampler),
            model.network.scaled_score if evaluate is None else evaluate,
            model.levels,
            _draws(self),
            range(self.request.n) if indices is None else indices,
            batch_size=self.request.batch_size,
            device=model.runtime.device,
            check_stop=check_stop,
            on_state=on_state,
        ):
            yield batch, self.finished(batch, x)

    def finished(self, batch: Sequence[int], x: Tensor) -> Tensor:
        """The images of a batch, with what their task knows of them. x: in the range of the network."""
        space = self.model.space
        if self.task is None:
            return space.decode(x)
        pictures = torch.tensor(batch, dtype=torch.int64) // (self.request.n // self.task.count)
        return space.span * self.task.finished(space.to_form(x) / space.span, pictures)

    def states(self, images: int | None = None) -> int:
        """States of the batches of so many of the request's images (rows, with `interpolate`); default: of all."""
        count, size = self.request.n if images is None else images, self.indices_per_batch
        return self.model.states * math.ceil(count / size)

    def protocol(self) -> dict[str, Any]:
        """JSON values that determine the images."""
        model, request = self.model, self.request
        given: dict[str, Any] = {}
        if not model.space.bounded:
            given |= {"values": "own", "scale": model.space.span, "window": list(model.space.window)}
        if request.between is not None:
            given["between"] = request.between
        if model.sampler.start == "noise":
            space = model.space.at(model.shape)
            given["start_mean"] = list(space.mean) if space.mean_image is None else digest(space.mean_image)
        if model.size is not None:
            given["size"] = list(model.shape[1:])
        if model.tile is not None:
            given["tile"] = model.tile
        if self.task is not None:
            given["task"] = self.task.protocol
        if self.task is not None and request.n == 0:
            how: dict[str, Any] = {"evaluations": self.task.evaluations}
        else:
            how = {"sampler": unstructure(model.sampler), "evaluations": model.evaluations}
        return {
            **self._model_facts,
            **how,
            "seed": request.seed,
            "interpolate": request.interpolate,
            "precision": model.precision,
            **given,
        }

    def default_folder(self) -> Path:
        """Default folder of the samples, named by step, number, seed, sampler and a hash of the protocol.

        It is in samples/ of a run or, of any other model, in ./samples/NAME. Raises UsageError if ./samples is inside
        an exported folder, which is never changed.
        """
        model, request = self.model, self.request
        more = {"n": request.n, "frames": request.frames, "film": request.film}
        mark = digest({**self.protocol(), **more})[:8]
        kind = f"rows{request.n}x{request.columns}" if request.interpolate else f"n{request.n}"
        if self.task is not None:
            kind = f"{self.task.name}-{kind}"
        saved, sampler = model.origin.checkpoint, tag_of(type(model.sampler))
        step = "" if saved is None else f"{step_name(saved.step)}-"
        how = sampler if request.n else "mean"
        return _samples_place(model.origin) / f"{step}{kind}-seed{request.seed}-{how}-{mark}"

    @cached_property
    def _model_facts(self) -> dict[str, Any]:
        """The model's facts; those of a module take a hash of all its weights."""
        return self.model.facts

    @property
    def indices_per_batch(self) -> int:
        """Indices of a batch."""
        return max(1, self.request.batch_size // self.request.columns)

    @property
    def frame_steps(self) -> tuple[int, ...]:
        """Indices of the states that frames show; none without frames and film."""
        request = self.request
        film = FILM_FRAMES if request.film and request.columns == 1 else 0
        return frame_steps(self.model.states, request.frames or film)


def _samples_place(origin: Origin) -> Path:
    folder = origin.folder
    if isinstance(folder, Run):
        return folder.samples
    place = Path("samples") / origin.name
    if folder is not None and place.resolve().is_relative_to(folder.path.resolve()):
        raise UsageError(
            f"{folder.path} is an exported model, which is never changed, so samples cannot go there",
            Hint("choose a folder", adds=argument("out", A_DIR)),
        )
    return place


def _draws(drawing: Drawing) -> Draws:
    """The random parts of the images. Raises NcsnxError."""
    model, request, task = drawing.model, drawing.request, drawing.task
    sampler, levels, columns = model.sampler, model.levels, request.interpolate
    space, compiled = model.space.at(model.shape), model.runtime.compile
    if columns is not None and task is not None:
        raise UsageError(f"{parameter('interpolate')} cannot be combined with {task.name}")
    images = _training_images(model, drawing.data, request.seed) if sampler.start == "data" else None
    draws = sampler_draws(sampler, levels, space, request.seed, images, compiled=compiled)
    if model.has_inputs or model.sampler.guidance != 1:
        draws = attrs.evolve(draws, cond=partial(model.inputs, request.seed))
    if task is not None:
        rule = task.ruled(space, levels[-1], request.seed, request.n // task.count)
        return attrs.evolve(draws, rule=rule)
    if columns is None:
        return draws
    if request.between is None:
        other = other_ends(draws, sampler, levels, space, request.seed)
    else:
        other = sampler_draws(sampler, levels, space, request.between, images)
    return interpolated(draws, other, columns, space.start_mean())


def _training_images(model: Model, data: Path | None, seed: int) -> TrainingImages:
    start = "the sampler starts from training images (data_init)"
    place = Hint("say where they are", adds=argument("data", A_DIR))
    noise = Hint("or start from noise", adds="sampler.data_init=false")
    if (config := model.origin.data) is None:
        raise UsageError(f"{start}, and {model.origin.where} names none", noise)
    try:
        splits = open_data(config, data_folder(data))
    except NcsnxError as error:
        got = [hint for hint in error.hints if not hint.adds]  # a run's data can't be moved by an override
        raise NcsnxError(f"{start}: {error.message}", *got, place, noise) from error
    if model.origin.data_fingerprint not in (None, splits.fingerprint):
        raise NcsnxError(f"{start}, but the data is not that of {model.origin.where}", place, noise)
    return TrainingImages(splits.train, Preprocessing(config, model.space, splits.train.value_range, seed))


def load_model(
    work: Work,
    found: ModelFolder | Model,
    sampler: Sampler,
    step: int,
    runtime: Runtime,
    size: ImageSize | None = None,
    tile: int | None = None,
) -> Model:
    """The model in a folder, or the loaded model itself, with a sampler, for images of a size, evaluated in tiles.

    size: None for the size of the data; warns of any other, if it is evaluated whole. Raises NcsnxError.
    """
    model = found if isinstance(found, Model) else model_of(found, step, runtime)
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
    first: Callable[[Path], None] = attrs.field(default=lambda folder: None)
    """Called with the open folder before images are drawn, by the process that writes."""

    def carry_out(self, work: Work) -> SampleFolder:
        """Draws the images that the folder lacks, and says where everything is; on rank 0, where the others end.

        Raises NcsnxError.
        """
        with self.completed(work, is_written=False) as output:
            return output

    @contextmanager
    def completed(self, work: Work, *, is_written: bool) -> Iterator[SampleFolder]:
        """As `carry_out`; is_written: whether the block writes into the folder, which stays locked until it ends."""
        facts = {"device": self.drawing.model.runtime.device.type, **self.drawing.protocol()}
        ranks = work.ranks
        require_same(ranks, "would not draw the same", dict(flatten(facts)), check_stop=work.check_stop)
        path = ranks.first(lambda: self.out or self.drawing.default_folder())
        output = self._output(path)
        is_complete = ranks.first(lambda: output.check(overwrite=self.overwrite) is not None and output.complete)
        lock = folder_lock(path, str(path)) if is_written or not is_complete else nullcontext()
        with held_by_first(ranks, lock):
            left: list[range] = []
            if is_complete:
                work.info(f"{self.images} from {self._source}: already sampled")
            else:
                require_lock(path, ranks, work.check_stop)
                left = ranks.first(lambda: self._begin(output, work))
            if ranks.is_first:
                self.first(path)
            if not is_complete:
                self._fill(output, left, work)
                if ranks.is_first:
                    self._finish(output, work)
            ranks.end_others()
            self._say_where(work, output)
            yield output

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

    @property
    def _source(self) -> str:
        model, saved = self.drawing.model, self.drawing.model.origin.checkpoint
        which = "" if saved is None else f", {saved.in_words}"
        evaluations = f", {model.evaluations_in_words} each" if self.drawing.request.n else ""
        return f"{model.origin.where}{which}{evaluations}"

    def _begin(self, output: SampleFolder, work: Work) -> list[range]:
        """Says what comes; returns the indices of the images that the folder lacks."""
        model, count = self.drawing.model, self.drawing.request.n
        output.open(overwrite=self.overwrite)
        missing = output.missing()
        done = f", {count - len(missing):,} of them already sampled" if len(missing) < count else ""
        work.info(f"{self.images}{done}, from {self._source}, on {model.runtime.device}{model.precision_in_words}")
        if count and (end := end_in_words(model.sampler, model.space)) is not None:
            work.info(end)
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
                    seen = [index for index in batch if index < output.shown]
                    frames.append(
                        frame_of(
                            state,
                            batch,
                            output.shown,
                            lambda x: space.pictures.picture(drawing.finished(seen, x)),
                        )
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
        if request.n == 0:
            output.finish(work.check_stop)
            return
        with work.progress("writing pictures", total=request.n * request.columns, unit="images") as advance:
            output.finish(work.check_stop, advance)

    def _say_where(self, work: Work, output: SampleFolder) -> None:
        if self.drawing.request.n == 0:
            return
        work.info(f"images: {output.path / 'images'}")
        if not self.drawing.model.space.bounded:
            work.info(f"values: {output.path / SAMPLES}, the data's own; pictures show {output.window}")
        work.info(f"grid:   {output.path / 'grid.png'}")
        if output.protocol["film"]:
            work.info(f"film:   {output.film_path}")
