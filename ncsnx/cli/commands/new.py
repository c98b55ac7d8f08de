"""`ncsnx new`: from a folder of images to an experiment file that says why it is as it is."""

import os
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.bad_values import a_count
from ncsnx.cli.budgets import Variant, say_what_it_takes, say_what_was_reduced
from ncsnx.cli.command_registry import command
from ncsnx.cli.commands.plan import Exact, Overlap, Seed, StepsPerLevel, experiment_for
from ncsnx.cli.parsing import data_sources as sources
from ncsnx.cli.path_parameters import a_folder, a_name_or_path
from ncsnx.cli.retyping import typed_again
from ncsnx.cli.session import ANEW, session, work_of
from ncsnx.errors import Hint, UsageError
from ncsnx.noise.techniques import OVERLAP
from ncsnx.planning.spans import parse_budget
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from ncsnx.config.data_sets import OwnData
    from ncsnx.config.experiment import Experiment
    from ncsnx.console.messages import Messages
    from ncsnx.planning.budget import Fit, TimeOf
    from ncsnx.planning.survey import Survey
    from ncsnx.planning.timing import Timing
    from ncsnx.work import Work


@command("new", place=160)
def new_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the experiment, and of its file.")],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="PATH",
            parser=a_name_or_path,
            help="Pictures (a folder or zip), a file of arrays or a packed one.",
        ),
    ],
    size: sources.Size = None,
    on_error: sources.OnError = None,
    array: sources.ArrayName = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            parser=a_count(1, 1_000_000_000),
            help="Of training, whatever the budget. [what fits it]",
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            metavar="TIME",
            help="What the training may take on this machine: 90s, 30m, 2h, 1d; none: the published training.",
        ),
    ] = "10h",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", parser=a_folder, help="Folder of the file.")] = Path(
        "experiments"
    ),
    overlap: Overlap = OVERLAP,
    steps_per_level: StepsPerLevel = None,
    exact: Exact = False,
    seed: Seed = 0,
    no_timing: Annotated[bool, typer.Option("--no-timing", help="Do not time the network.")] = False,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Write an experiment for your own images: noise levels from the data, and a training that fits a budget of time.

    The network is timed, and steps, width, batch and, without --size, the images are reduced until the training fits.
    The file says why each value is what it is, and is yours to change. Nothing is overwritten. Then `ncsnx train NAME`.
    """
    with session(ANEW, verbose=verbose, quiet=quiet) as messages:
        path = _free_place(name, out)
        budget_s = parse_budget(budget)

        import attrs

        from ncsnx.data import data_folder
        from ncsnx.data.readers.from_path import Reading
        from ncsnx.planning.survey import Choices, survey
        from ncsnx.stopping import StopRequest
        from ncsnx.storage import atomic

        choices = Choices(overlap=overlap, steps_per_level=steps_per_level, exact=exact or None, seed=seed)
        said = Reading(image_size=size, on_error=on_error, array=array)
        with StopRequest() as stop:
            work, folder = work_of(messages, stop), data_folder(data)
            draft = experiment_for(name, _place(source, folder), said, work)
            clock = None if no_timing else _clock(draft, device, threads, work)
            fit = _fitted(draft, folder, budget_s, steps, size is None, clock, work)
            fitting = draft if fit is None else attrs.evolve(draft, data=fit.data)
            found = _proposed(survey(fitting, folder, choices, work), fit, steps, clock)
        text = _text(found)
        with atomic.reporting(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_new(path, text.encode())
        _say_what_next(messages, found, path, partial(_variant, context, name))


def _variant(context: typer.Context, name: str, suffix: str, **changes: object) -> str:
    """The command that writes another experiment beside this one: its name has to be another."""
    return typed_again(context, name=f"{name[:80]}-{suffix}", **changes)


def _free_place(name: str, out: Path) -> Path:
    """Where the file is to be. Raises UsageError for a name that can't be, or that something has already."""
    from ncsnx.config.discovery import discover
    from ncsnx.runs.names import check_file_name

    path = out / f"{check_file_name(name, 'an experiment', Hint('give another name'))}.py"
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already and stays as it is: choose another name, or move it away first")
    for found in discover():
        registered = [one.experiment.name for one in found.file.registered] if found.file else [found.path.stem]
        if name in registered:
            raise UsageError(f"there is an experiment {name} already, in {found.path}: choose another name")
    return path


def _place(source: str, folder: Path) -> Path:
    from ncsnx.data import DataMissingError
    from ncsnx.data.places import own_path

    try:
        return own_path(source, folder)
    except DataMissingError as error:
        raise UsageError(
            f"--from {source}: there is nothing, here or in {folder}; expected pictures (a folder or zip), a file of "
            "arrays or a packed one"
        ) from error


def _clock(draft: "Experiment", device: str, threads: int | None, work: "Work") -> "TimeOf":
    """What times the networks that come into question, here."""
    from ncsnx.planning.experiment_proposal import draft as drafted
    from ncsnx.planning.timing import time_experiment
    from ncsnx.runtime import Runtime

    runtime = Runtime.choose(device=device, threads=threads)

    def time_of(data: "OwnData", width: int, batch_size: int) -> "Timing":
        work.info(f"timing a network of width {width} at {data.image_size} px")
        return time_experiment(drafted(draft.name, data, width=width, batch_size=batch_size), runtime, work)

    return time_of


def _fitted(
    draft: "Experiment",
    folder: Path,
    budget_s: float | None,
    steps: int | None,
    size_is_free: bool,
    clock: "TimeOf | None",
    work: "Work",
) -> "Fit | None":
    """The training that fits the budget; None where there is none."""
    import attrs

    from ncsnx.config.data_sets import OwnData
    from ncsnx.data import open_data
    from ncsnx.planning.budget import fit, untimed
    from ncsnx.work import ignore_message

    if budget_s is None:
        return None
    data = draft.data
    assert isinstance(data, OwnData)
    # the survey opens the data again, and speaks
    quiet = attrs.evolve(work, info=ignore_message, warning=ignore_message)
    splits = open_data(data, folder, quiet)
    images, held_out = len(splits.train), len(splits.held_out)
    if clock is None:
        return untimed(data, images, steps)
    return fit(data, images, held_out, budget_s, clock, steps=steps, size_is_free=size_is_free)


def _proposed(found: "Survey", fit: "Fit | None", steps: int | None, clock: "TimeOf | None") -> "Survey":
    """The survey, with the experiment that its plan and the budget make."""
    import attrs

    from ncsnx.config.data_sets import OwnData
    from ncsnx.planning.budget import NOMINAL, with_affordable_snapshots
    from ncsnx.planning.experiment_proposal import propose, rounded_up, usual_scale

    assert found.measured is not None
    plan, draft = attrs.evolve(found.plan, sigma_max=rounded_up(found.plan.sigma_max, 4)), found.experiment
    data, images = draft.data, found.measured.distances.images
    assert isinstance(data, OwnData)
    if fit is None:
        usual = usual_scale(data, images)
        scale = usual if steps is None else attrs.evolve(usual, steps=steps)
        timing = None if clock is None else clock(data, scale.width, scale.batch_size)
    else:
        scale, timing = fit.scale, fit.timing
    experiment = propose(draft.name, data, plan, images, scale)
    experiment = with_affordable_snapshots(experiment, NOMINAL if timing is None else timing)
    return attrs.evolve(found, experiment=experiment, timing=timing, fit=fit)


def _text(found: "Survey") -> str:
    from ncsnx.planning.writing import experiment_source

    assert found.measured is not None
    return experiment_source(found, found.measured)


def _say_what_next(messages: "Messages", found: "Survey", path: Path, variant: Variant) -> None:
    from ncsnx.planning.survey import data_remarks

    experiment, plan, measured = found.experiment, found.plan, found.measured
    from ncsnx.config.model import RefineNetModel

    model = experiment.model
    assert measured is not None
    assert isinstance(model, RefineNetModel)  # as proposals have
    messages.data(str(path))
    messages.info(
        f"{counted(measured.distances.images, 'training image')} of {'×'.join(map(str, experiment.data.shape))}, "
        f"{measured.held_out:,} held out; σ {experiment.schedule.sigma_max:g} → {plan.sigma_min:g} in "
        f"{counted(plan.levels, 'level')}, {counted(plan.evaluations, 'evaluation')} per image; width "
        f"{model.width}, {counted(experiment.steps, 'step')} of {counted(experiment.batch_size, 'image')}"
    )
    for remark in data_remarks(measured):
        messages.warning(remark)
    say_what_was_reduced(messages, found, variant)
    say_what_it_takes(messages, found, variant)
    target = experiment.name if path.parent == Path("experiments") else str(path)
    messages.info(f"next: ncsnx train {shlex.quote(target)}")
