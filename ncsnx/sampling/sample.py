"""Samples of a trained model, as tensors or in a folder with their protocol."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from torch import Tensor

from ncsnx.config.codec import digest, identity, unstructure
from ncsnx.config.data_sets import Data
from ncsnx.config.variants import tag_of
from ncsnx.data import Dataset, Splits, data_folder, from_unit, open_data, to_values
from ncsnx.data.places import require_own
from ncsnx.data.transforms import scale_of, window_of
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.noise.levels import sigmas
from ncsnx.quantities import counted
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.ranks.shared_batches import SharedBatches, runs_of
from ncsnx.runs.exported import Export
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runs.segments import versions
from ncsnx.runs.selection import Source
from ncsnx.samplers.building import build_sampler, first_sigma
from ncsnx.samplers.state import Score, State
from ncsnx.sampling.draws import (
    Draws,
    StartImages,
    between_rows,
    between_seeds,
    experiment_draws,
    seeded_draws,
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
from ncsnx.sampling.sample_folder import SampleFolder
from ncsnx.sampling.score_model import ScoreModel
from ncsnx.spelling import A_DIR, argument, parameter
from ncsnx.storage.process import this_process
from ncsnx.work import Advance, ignore_progress

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


def draw(
    model: ScoreModel,
    request: SampleRequest,
    indices: Sequence[int],
    *,
    score: Score | None = None,
    task: "Task | None" = None,
    data: Path | None = None,
    check_stop: Callable[[], None] = never_stop,
    on_state: Callable[[Sequence[int], State], None] = ignore_state,
) -> Iterator[tuple[Sequence[int], Tensor]]:
    """Yields (indices of a batch, its images: (len · columns, C, H, W) on the model's device).

    Images are in [0, 1], those of a model of unbounded data in the data's own values, without limits.

    indices: indices of the request's images (rows, with `interpolate`). score: default: the model's. task:
    measurements; its number of pictures divides the request's n. data: the data folder, for samplers that start from
    training images. check_stop and on_state as in `generate`. Raises NcsnxError.
    """
    batches = generate(
        build_sampler(model.experiment.sampler),
        model.score if score is None else score,
        model.levels,
        _draws(model, request, data, task),
        indices,
        batch_size=request.batch_size,
        device=model.runtime.device,
        check_stop=check_stop,
        on_state=on_state,
    )
    for batch, x in batches:
        yield batch, to_values(x, model.experiment.data)


def default_folder(model: ScoreModel, request: SampleRequest, task: "Task | None" = None) -> Path:
    """Default folder of the samples, named by step, number, seed, sampler and a hash of the protocol.

    It is in samples/ of a run or, since an exported model is never changed, in ./samples/NAME. Raises UsageError if
    ./samples is inside the exported folder.
    """
    mark = digest(
        {
            **protocol(model, request, task),
            "n": request.n,
            "frames": request.frames,
            "film": request.film,
            **({"mp4": True} if request.mp4 else {}),
        }
    )[:8]
    kind = f"rows{request.n}x{request.columns}" if request.interpolate else f"n{request.n}"
    if task is not None:
        kind = f"{task.name}-{kind}"
    place = _samples_place(model.source)
    sampler = tag_of(type(model.experiment.sampler))
    return place / f"{step_name(model.step)}-{kind}-seed{request.seed}-{sampler}-{mark}"


def protocol(model: ScoreModel, request: SampleRequest, task: "Task | None" = None) -> dict[str, Any]:
    """JSON values that determine the images."""
    experiment = model.experiment
    given: dict[str, Any] = {} if request.between is None else {"between": request.between}
    if isinstance(model.source, Export) and model.source.hub is not None:
        given["source"] = model.source.hub
    if experiment.sampler.start == "noise" and experiment.data.mean is not None:
        given["start_mean"] = list(experiment.data.mean)
    if model.size is not None:
        given["size"] = list(model.shape[1:])
    if model.start is not None:
        given["start"] = {"sigma": first_sigma(experiment.sampler, model.levels), **model.start.facts}
    if task is not None:
        given["task"] = task.protocol
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
        **_values_facts(experiment.data),
        **given,
    }


def _values_facts(data: Data) -> dict[str, Any]:
    """Scale and window of unbounded samples, for the protocol; empty for images in [0, 1]."""
    if data.is_bounded:
        return {}
    window = window_of(data)
    return {"values": "own", "scale": scale_of(data), "window": [window.low, window.high]}


def open_output(
    out: Path,
    model: ScoreModel,
    request: SampleRequest,
    *,
    task: "Task | None" = None,
    note: str = "",
    overwrite: bool = False,
) -> SampleFolder:
    """Opens the folder `out` for the samples, new or resumed after an interruption under the same protocol.

    Raises NcsnxError for a folder with other files, or, without `overwrite`, with samples of another protocol.
    """
    output = output_folder(out, model, request, task=task, note=note)
    output.open(overwrite=overwrite)
    return output


def output_folder(
    out: Path, model: ScoreModel, request: SampleRequest, *, task: "Task | None" = None, note: str = ""
) -> SampleFolder:
    """The folder `out` for the samples, not opened, which is enough to add images to it."""
    return SampleFolder(
        out,
        protocol(model, request, task),
        count=request.n,
        shape=model.shape,
        columns=request.columns,
        frames=len(_frame_steps(model, request)),
        frame_files=request.frames > 0,
        film=request.film,
        mp4=request.mp4,
        window=window_of(model.experiment.data),
        made={
            **this_process(),
            "note": note,
            "runtime": model.runtime.facts(),
            "versions": versions(),
            **({} if task is None else {"pictures": list(task.pictures)}),
        },
    )


def fill(
    output: SampleFolder,
    model: ScoreModel,
    request: SampleRequest,
    *,
    left: Sequence[range] | None = None,
    task: "Task | None" = None,
    data: Path | None = None,
    check_stop: Callable[[], None] = never_stop,
    advance: Advance = ignore_progress,
    ranks: RankGroup = ALONE,
) -> float:
    """Samples the images that the folder lacks; its `finish` then writes the pictures.

    left: indices of the images that it lacks; None to look for them in an opened folder. data: the data folder, for
    samplers that start from training images. check_stop is called before each evaluation and raises to end the
    sampling; advance is called with the number of new states of batches. ranks: those that share the images, each
    calling this with the same `left`; rank 0 returns when all are done. Returns the mean evaluations per image over the
    new images, on rank 0. Raises NcsnxError.
    """
    steps = _frame_steps(model, request)
    data_set, window = model.experiment.data, window_of(model.experiment.data)
    taken = EvaluationCounter()
    recorder = FrameRecorder(
        steps, output.shown, lambda x: window.picture(to_values(x, data_set)), look=lambda state: state.x
    )
    left = runs_of(output.missing()) if left is None else left
    size = indices_per_batch(request.batch_size, request.columns)
    batches = SharedBatches(ranks=ranks, mark=output.path.name, left=left, size=size)
    count = sum(map(len, left))
    awaited = batches.awaited(output.new_parts().indices, model.states * math.ceil(count / size), advance)

    def on_state(batch: Sequence[int], state: State) -> None:
        if steps:
            recorder(batch, state)
        taken(batch, state)
        awaited.advance()

    images = draw(model, request, batches.own, task=task, data=data, check_stop=check_stop, on_state=on_state)
    for batch, made in images:
        output.add(batch, made, recorder.take() if steps else None)
        awaited.look()
    awaited.wait(check_stop)
    everywhere = ranks.gather(taken, check_stop)
    return EvaluationCounter.of_all(everywhere).mean


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


def _frame_steps(model: ScoreModel, request: SampleRequest) -> tuple[int, ...]:
    return frame_steps(model.states, request.frames or (FILM_FRAMES if request.film and request.columns == 1 else 0))


def _from_start(model: ScoreModel, start: StartImages, request: SampleRequest, task: "Task | None") -> Draws:
    """Draws that begin with the start images and noise of the first level."""
    data, runtime = model.experiment.data, model.runtime
    pixels = partial(from_unit, data=data)
    draws = seeded_draws(request.seed, model.shape, pixels, graphs=runtime.graphs, compiled=runtime.compile)
    sigma = first_sigma(model.experiment.sampler, model.levels)
    alternatives = None if task is None else request.n // task.count
    return attrs.evolve(draws, initial=start.initial(request.seed, sigma, pixels, alternatives))


def _training_data(model: ScoreModel, data: Path | None) -> Splits:
    start = "the sampler starts from training images (data_init)"
    place = Hint("say where they are", adds=argument("data", A_DIR))
    noise = Hint("or start from noise", adds="sampler.data_init=false")
    try:
        require_own(model.experiment.data, model.source.data_fingerprint(), model.source.path)
        splits = open_data(model.experiment.data, data_folder(data))
    except NcsnxError as error:
        got = [hint for hint in error.hints if not hint.adds]  # a run's data can't be moved by an override
        raise NcsnxError(f"{start}: {error.message}", *got, place, noise) from error
    if model.source.data_fingerprint() not in (None, splits.fingerprint):
        raise NcsnxError(f"{start}, but the data is not that of {model.source.where}", place, noise)
    return splits


def _draws(model: ScoreModel, request: SampleRequest, data: Path | None, task: "Task | None") -> Draws:
    config, runtime, shape = model.experiment, model.runtime, model.shape
    dataset: Dataset | None = None
    if model.start is not None and request.interpolate is not None:
        raise UsageError(f"{parameter('interpolate')} cannot be combined with {parameter('start')}")
    if starts_from_data(config) and model.start is None:
        splits = _training_data(model, data)
        dataset = splits.train
    if model.start is None:
        draws = experiment_draws(
            config, request.seed, dataset, graphs=runtime.graphs, compiled=runtime.compile, shape=shape
        )
    else:
        draws = _from_start(model, model.start, request, task)
    if task is not None:
        if request.interpolate is not None:
            raise UsageError(f"{parameter('interpolate')} cannot be combined with {task.name}")
        lowest = sigmas(config.schedule)[-1]
        condition = task.conditions(config.data, lowest, request.seed, request.n // task.count, shape=shape)
        return attrs.evolve(draws, condition=condition)
    if request.interpolate is None:
        return draws
    if request.between is None:
        return between_rows(config, draws, request.seed, request.interpolate, shape)
    return between_seeds(
        config, draws, experiment_draws(config, request.between, dataset, shape=shape), request.interpolate
    )
