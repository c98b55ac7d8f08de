"""`ncsnx new`: makes a commented experiment file for a folder of images."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ncsnx.cli import data_sources as sources
from ncsnx.cli import options
from ncsnx.cli.command_registry import DATA_PANEL, command
from ncsnx.cli.commands.plan import TIME_PANEL, NoTiming, Overlap, PlanSeed, StepsPerLevel, experiment_for
from ncsnx.cli.parameters import a_folder, a_name_or_path
from ncsnx.cli.session import FROM_THE_START, session
from ncsnx.console.working import work_of
from ncsnx.errors import Hint, UsageError
from ncsnx.noise.techniques import OVERLAP
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from ncsnx.config.data_sets import OwnData
    from ncsnx.config.experiment import Experiment
    from ncsnx.console.messages import Messages
    from ncsnx.planning.budget import Fit, Limits, TimeOf
    from ncsnx.planning.experiment_proposal import Network
    from ncsnx.planning.survey import Survey
    from ncsnx.planning.timing import Timing
    from ncsnx.work import Work


@command("new", panel=DATA_PANEL, place=120)
def new_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the experiment, and of its file.")],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="PATH",
            parser=a_name_or_path,
            help="Pictures (a folder or zip), a file of arrays, or a packed data set.",
            rich_help_panel=sources.READING_PANEL,
        ),
    ],
    size: sources.Size = None,
    on_error: sources.OnError = None,
    array: sources.ArrayName = None,
    model: Annotated[
        Literal["ncsnv2", "unet"] | None,
        typer.Option(
            "--model",
            help="Network: the published one for images of this size, or a U-Net that is conditional on σ.",
            show_default="unet up to 32 px, but for data without bounds",
            rich_help_panel=TIME_PANEL,
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            metavar="TIME",
            help="Time that the training may take on this machine: 90s, 30m, 2h or 1d; none: the published training.",
            rich_help_panel=TIME_PANEL,
        ),
    ] = "10h",
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            min=1,
            max=1_000_000_000,
            help="Training steps, whatever the budget.",
            show_default="as many as fit the budget",
            rich_help_panel=TIME_PANEL,
        ),
    ] = None,
    no_timing: NoTiming = False,
    overlap: Overlap = OVERLAP,
    steps_per_level: StepsPerLevel = None,
    seed: PlanSeed = 0,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", parser=a_folder, help="Folder of the file.", rich_help_panel=options.OUTPUT_PANEL
        ),
    ] = Path("experiments"),
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Write an experiment for your own images.

    The noise levels follow from the data, and the training fits a time budget: the network is timed, and steps, width,
    batch and, without --size, the images are reduced until the training fits. The file says why each value is what it
    is, and is yours to change. Nothing is overwritten. Then type `ncsnx train NAME`.
    """
    with session(FROM_THE_START, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.planning.budget import Limits, parse_budget

        path = _free_place(name, out)
        budget_s = parse_budget(budget)

        from ncsnx.data import data_folder
        from ncsnx.data.readers.from_path import Reading
        from ncsnx.planning.experiment_proposal import draft as drafted
        from ncsnx.planning.experiment_proposal import favoured_network
        from ncsnx.planning.survey import Choices, survey
        from ncsnx.stopping import StopRequest
        from ncsnx.storage import atomic

        choices = Choices(overlap=overlap, steps_per_level=steps_per_level, seed=seed)
        said = Reading(image_size=size, on_error=on_error, array=array)
        with StopRequest() as stop:
            work, folder = work_of(messages, stop), data_folder(data)
            draft = experiment_for(name, _place(source, folder), said, work)
            clock = None if no_timing else _clock(draft, model, device, threads, work)
            fit = None
            if budget_s is not None:
                limits = Limits(budget_s=budget_s, steps=steps, size_is_free=size is None)
                fit = _fitted(draft, folder, limits, clock, work)
            images = draft.data if fit is None else fit.data
            fitting = drafted(name, images, model or favoured_network(images))
            found = _proposed(survey(fitting, folder, choices, work), fit, steps, clock)
            found = _compared_with_bf16(found, device, threads, work)
        text = _text(found)
        with atomic.reporting(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_new(path, text.encode())
        _say_what_next(messages, found, path)


def _free_place(name: str, out: Path) -> Path:
    """The path of the new file. Raises UsageError for a name that is invalid or taken."""
    from ncsnx.config.discovery import discover
    from ncsnx.runs.names import check_file_name

    path = out / f"{check_file_name(name, 'an experiment', Hint('give another name'))}.py"
    if os.path.lexists(path):
        raise UsageError(f"{path} already exists; choose another name, or move it away first")
    for found in discover():
        registered = [one.experiment.name for one in found.file.registered] if found.file else [found.path.stem]
        if name in registered:
            raise UsageError(f"the experiment {name} already exists, in {found.path}; choose another name")
    return path


def _place(source: str, folder: Path) -> Path:
    from ncsnx.data import DataMissingError
    from ncsnx.data.places import own_path

    try:
        return own_path(source, folder)
    except DataMissingError as error:
        raise UsageError(
            f"--from {source} does not exist, here or in {folder}; expected pictures (a folder or zip), a file of "
            "arrays, or a packed data set"
        ) from error


def _clock(draft: "Experiment", network: "Network | None", device: str, threads: int | None, work: "Work") -> "TimeOf":
    """Times networks on this machine. network: None for the one that is favoured at each image size."""
    from ncsnx.config.image_sizes import size_in_words
    from ncsnx.planning.experiment_proposal import draft as drafted
    from ncsnx.planning.experiment_proposal import favoured_network
    from ncsnx.planning.timing import time_experiment
    from ncsnx.runtime import Runtime

    runtime = Runtime.choose(device=device, threads=threads)

    def time_of(data: "OwnData", width: int, batch_size: int) -> "Timing":
        work.info(f"timing a network of width {width} at {size_in_words(data.shape[1:])} px")
        kind = network or favoured_network(data)
        return time_experiment(drafted(draft.name, data, kind, width=width, batch_size=batch_size), runtime, work)

    return time_of


def _fitted(
    draft: "Experiment",
    folder: Path,
    limits: "Limits",
    clock: "TimeOf | None",
    work: "Work",
) -> "Fit":
    """The training that fits the budget."""
    import attrs

    from ncsnx.config.data_sets import OwnData
    from ncsnx.data import open_data
    from ncsnx.planning.budget import fit, untimed
    from ncsnx.work import ignore_message

    data = draft.data
    assert isinstance(data, OwnData)
    # without messages: the survey opens the data again
    quiet = attrs.evolve(work, info=ignore_message, warning=ignore_message)
    splits = open_data(data, folder, quiet)
    images, held_out = len(splits.train), len(splits.held_out)
    if clock is None:
        return untimed(data, images, limits.steps)
    return fit(data, images, held_out, limits, clock)


def _proposed(found: "Survey", fit: "Fit | None", steps: int | None, clock: "TimeOf | None") -> "Survey":
    """The survey, with the experiment that follows from its plan and the budget."""
    import attrs

    from ncsnx.config.data_sets import OwnData
    from ncsnx.planning.budget import NOMINAL, with_affordable_snapshots
    from ncsnx.planning.experiment_proposal import network_of, propose, rounded_up, usual_scale

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
    experiment = propose(draft.name, data, plan, images, scale, network_of(draft))
    experiment = with_affordable_snapshots(experiment, NOMINAL if timing is None else timing)
    return attrs.evolve(found, experiment=experiment, timing=timing, fit=fit)


def _compared_with_bf16(found: "Survey", device: str, threads: int | None, work: "Work") -> "Survey":
    """The survey, with the speed of bf16 here if the network was timed."""
    import attrs

    from ncsnx.planning.timing import bf16_speedups
    from ncsnx.runtime import Runtime

    if found.timing is None:
        return found
    runtime = Runtime.choose(device=device, threads=threads)
    return attrs.evolve(found, bf16_speedups=bf16_speedups(found.experiment, runtime, found.timing, work))


def _text(found: "Survey") -> str:
    from ncsnx.planning.writing import experiment_source

    assert found.measured is not None
    return experiment_source(found, found.measured)


def _say_what_next(messages: "Messages", found: "Survey", path: Path) -> None:
    from ncsnx.cli.budgets import propose_bf16, say_reductions, say_times
    from ncsnx.config.model import RefineNetModel, UNet
    from ncsnx.planning.survey import data_remarks

    experiment, plan, measured = found.experiment, found.plan, found.measured
    model = experiment.model
    assert measured is not None
    assert isinstance(model, RefineNetModel | UNet)  # of every proposal
    messages.data(str(path))
    messages.info(
        f"{counted(measured.distances.images, 'training image')} of {'×'.join(map(str, experiment.data.shape))}, "
        f"{measured.held_out:,} held out; σ {experiment.schedule.sigma_max:g} → {plan.sigma_min:g} in "
        f"{counted(plan.levels, 'level')}; width "
        f"{model.width}, {counted(experiment.steps, 'step')} of {counted(experiment.batch_size, 'image')}"
    )
    for remark in data_remarks(measured):
        messages.warning(remark)
    say_reductions(messages, found)
    say_times(messages, found)
    target = shlex.quote(experiment.name if path.parent == Path("experiments") else str(path))
    propose_bf16(messages, found, f"ncsnx train {target}")
    messages.info(f"next: ncsnx train {target}")
