"""Images to draw from a trained model: as tensors, or into a folder with their protocol."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from torch import Tensor

from ncsnx.config.codec import digest, identity
from ncsnx.config.converter import unstructure
from ncsnx.config.variants import tag_of
from ncsnx.data import Splits, data_folder, open_data
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.noise.levels import sigmas
from ncsnx.quantities import counted
from ncsnx.ranks.shared_batches import extrapolated, own_images
from ncsnx.runs.exported import Export
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runs.segments import versions
from ncsnx.runs.selection import Source
from ncsnx.samplers.building import build_sampler, visited
from ncsnx.samplers.state import ScaledScore, State
from ncsnx.sampling.draws import (
    Draws,
    between_rows,
    between_seeds,
    experiment_draws,
    starts_from_data,
)
from ncsnx.sampling.generate import (
    EvaluationCounter,
    FrameRecorder,
    frame_steps,
    generate,
    ignore_state,
    indices_per_batch,
    never_stop,
)
from ncsnx.sampling.request import MOST_IMAGES, SampleRequest
from ncsnx.sampling.sample_folder import SampleFolder, SampleLayout
from ncsnx.sampling.score_model import ScoreModel
from ncsnx.space import Space
from ncsnx.spelling import A_DIR, argument, parameter
from ncsnx.storage.process import this_process
from ncsnx.work import Advance, Work

if TYPE_CHECKING:
    from ncsnx.inverse.task import Task

FILM_FRAMES = 40
"""Default number of frames of an animation."""


def count_images(n: int, task: "Task | None") -> int:
    """Number of images: n, or n alternatives of each of the task's pictures. Raises UsageError."""
    if task is None:
        return n  # SampleRequest checks its range
    most = MOST_IMAGES // task.count
    if not 1 <= n <= most:
        raise UsageError(
            f"{parameter('n')} must be between 1 and {counted(most, 'alternative')} of each of "
            f"{counted(task.count, 'picture')}, not {n}"
        )
    return n * task.count


@attrs.frozen(eq=False, kw_only=True)
class Drawing:
    """Images to draw, and all that determines them."""

    model: ScoreModel
    request: SampleRequest
    """The images that are asked for; with a task, its number of pictures divides n."""
    task: "Task | None" = None
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
        model, sampler = self.model, self.model.experiment.sampler
        if not model.network.any_sigma:
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
            yield batch, model.space.decode(x)

    def states(self, images: int | None = None) -> int:
        """States of the batches of so many of the request's images (rows, with `interpolate`); default: of all."""
        count, size = self.request.n if images is None else images, self._indices_per_batch
        return self.model.states * math.ceil(count / size)

    def protocol(self) -> dict[str, Any]:
        """JSON values that determine the images."""
        model, request, experiment = self.model, self.request, self.model.experiment
        given: dict[str, Any] = {} if request.between is None else {"between": request.between}
        if isinstance(model.source, Export) and model.source.hub is not None:
            given["source"] = model.source.hub
        if experiment.sampler.start == "noise":
            space = model.space.at(model.shape)
            given["start_mean"] = list(space.mean) if space.mean_image is None else digest(space.mean_image)
        if model.size is not None:
            given["size"] = list(model.shape[1:])
        if self.task is not None:
            given["task"] = self.task.protocol
        return {
            "run": model.run_name,
            "experiment": experiment.name,
            "identity": identity(experiment),
            "step": model.step,
            "weights": model.weights,
            "weights_sha256": model.weights_sha256,
            "sampler": unstructure(experiment.sampler),
            "evaluations": model.evaluations,
            "seed": request.seed,
            "interpolate": request.interpolate,
            "precision": model.precision,
            **_values_facts(model.space),
            **given,
        }

    def default_folder(self) -> Path:
        """Default folder of the samples, named by step, number, seed, sampler and a hash of the protocol.

        It is in samples/ of a run or, since an exported model is never changed, in ./samples/NAME. Raises UsageError if
        ./samples is inside the exported folder.
        """
        model, request = self.model, self.request
        more = {"n": request.n, "frames": request.frames, "film": request.film}
        mark = digest({**self.protocol(), **more})[:8]
        kind = f"rows{request.n}x{request.columns}" if request.interpolate else f"n{request.n}"
        if self.task is not None:
            kind = f"{self.task.name}-{kind}"
        sampler = tag_of(type(model.experiment.sampler))
        return _samples_place(model.source) / f"{step_name(model.step)}-{kind}-seed{request.seed}-{sampler}-{mark}"

    def folder(self, path: Path, note: str = "") -> SampleFolder:
        """The folder `path` for the samples, not opened, which is enough to add images to it."""
        return SampleFolder(
            path,
            SampleLayout(
                protocol=self.protocol(),
                request=self.request,
                shape=self.model.shape,
                frames=len(self._frame_steps),
                window=self.model.space.pictures,
            ),
            made={
                **this_process(),
                "note": note,
                "runtime": self.model.runtime.facts(),
                "versions": versions(),
                **({} if self.task is None else {"pictures": list(self.task.pictures)}),
            },
        )

    def fill(self, folder: SampleFolder, left: Sequence[range], work: Work, advance: Advance) -> float:
        """Draws images into the folder; its `finish` then writes the pictures.

        left: indices of the images that it lacks. advance is called with the number of new states of batches. The ranks
        share the images, each calling this with the same `left`; all return when all are done. Returns the mean
        evaluations per image over the new images. Raises NcsnxError.
        """
        steps, space = self._frame_steps, self.model.space
        window, evaluations = space.pictures, EvaluationCounter()
        recorder = FrameRecorder(
            steps, folder.shown, lambda x: window.picture(space.decode(x)), look=lambda state: state.x
        )
        own = own_images(work.ranks, folder.path.name, left, self._indices_per_batch)
        advance = extrapolated(advance, self.states(len(own)), self.states(sum(map(len, left))))

        def on_state(batch: Sequence[int], state: State) -> None:
            if steps:
                recorder(batch, state)
            evaluations(batch, state)
            advance()

        for batch, images in self.batches(own, check_stop=work.check_stop, on_state=on_state):
            folder.add(batch, images, recorder.take() if steps else None)
        return EvaluationCounter.of_all(work.ranks.gather(lambda: evaluations, check_stop=work.check_stop)).mean

    @property
    def _indices_per_batch(self) -> int:
        return indices_per_batch(self.request.batch_size, self.request.columns)

    @property
    def _frame_steps(self) -> tuple[int, ...]:
        request = self.request
        film = FILM_FRAMES if request.film and request.columns == 1 else 0
        return frame_steps(self.model.states, request.frames or film)


def _values_facts(space: Space) -> dict[str, Any]:
    """Scale and window of unbounded samples, for the protocol; empty for images in [0, 1]."""
    return {} if space.bounded else {"values": "own", "scale": space.span, "window": list(space.window)}


def _samples_place(source: Source) -> Path:
    if isinstance(source, Run):
        return source.samples
    place = Path("samples") / source.name
    if place.resolve().is_relative_to(source.path.resolve()):
        raise UsageError(
            f"{source.path} is an exported model, which is never changed, so samples cannot go there",
            Hint("choose a folder", adds=argument("out", A_DIR)),
        )
    return place


def _draws(drawing: Drawing) -> Draws:
    """The random parts of the images. Raises NcsnxError."""
    model, request, task = drawing.model, drawing.request, drawing.task
    experiment, space, columns = model.experiment, model.space.at(model.shape), request.interpolate
    if columns is not None and task is not None:
        raise UsageError(f"{parameter('interpolate')} cannot be combined with {task.name}")
    dataset = _training_data(model, drawing.data).train if starts_from_data(experiment) else None
    draws = experiment_draws(experiment, space, request.seed, dataset, compiled=model.runtime.compile)
    if task is not None:
        lowest = sigmas(experiment.schedule)[-1]
        condition = task.conditions(space, lowest, request.seed, request.n // task.count)
        return attrs.evolve(draws, condition=condition)
    if columns is None:
        return draws
    if request.between is None:
        return between_rows(experiment, space, draws, request.seed, columns)
    return between_seeds(space, draws, experiment_draws(experiment, space, request.between, dataset), columns)


def _training_data(model: ScoreModel, data: Path | None) -> Splits:
    start = "the sampler starts from training images (data_init)"
    place = Hint("say where they are", adds=argument("data", A_DIR))
    noise = Hint("or start from noise", adds="sampler.data_init=false")
    try:
        splits = open_data(model.experiment.data, data_folder(data))
    except NcsnxError as error:
        got = [hint for hint in error.hints if not hint.adds]  # a run's data can't be moved by an override
        raise NcsnxError(f"{start}: {error.message}", *got, place, noise) from error
    if model.source.data_fingerprint() not in (None, splits.fingerprint):
        raise NcsnxError(f"{start}, but the data is not that of {model.source.where}", place, noise)
    return splits
