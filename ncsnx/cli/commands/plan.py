"""`ncsnx plan`: noise levels and sampler that follow from the data, their cost here, and differing values."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import data_sources as sources
from ncsnx.cli import options
from ncsnx.cli.command_registry import DATA_PANEL, command
from ncsnx.cli.parameters import a_name_or_path
from ncsnx.cli.session import FROM_THE_START, session
from ncsnx.console.working import work_of
from ncsnx.noise.techniques import OVERLAP
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment, Snapshots
    from ncsnx.console.messages import Messages
    from ncsnx.data.readers.from_path import Reading
    from ncsnx.planning.survey import Survey
    from ncsnx.work import Work

_MOST_STEPS = 1_000_000
NOISE_PANEL, TIME_PANEL = "Noise levels", "Training time"
"""Panels of the help."""
Overlap = Annotated[
    float,
    typer.Option(
        "--overlap",
        metavar="C",
        help="Overlap of neighbouring noise levels (technique 2).",
        rich_help_panel=NOISE_PANEL,
    ),
]
StepsPerLevel = Annotated[
    int | None,
    typer.Option(
        "--steps-per-level",
        metavar="T",
        min=1,
        max=_MOST_STEPS,
        help="Steps per level of the published sampler.",
        show_default="3 to 5, by the number of levels",
        rich_help_panel=NOISE_PANEL,
    ),
]
PlanSeed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="SEED",
        help="Determines dequantization, and the sample of images in a set too large for all pairs.",
        rich_help_panel=NOISE_PANEL,
    ),
]
NoTiming = Annotated[bool, typer.Option("--no-timing", help="Don't time the network.", rich_help_panel=TIME_PANEL)]


@command("plan", panel=DATA_PANEL, place=110)
def plan_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT|FOLDER",
            parser=a_name_or_path,
            help="An experiment (a name, FILE.py or FILE.py:NAME), or your own images: a folder, a zip, a file of "
            "arrays, or a packed data set.",
        ),
    ],
    overrides: options.ExperimentChanges = None,
    overlap: Overlap = OVERLAP,
    steps_per_level: StepsPerLevel = None,
    seed: PlanSeed = 0,
    no_timing: NoTiming = False,
    size: sources.Size = None,
    on_error: sources.OnError = None,
    array: sources.ArrayName = None,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Plan noise levels and sampler from the data.

    Uses techniques 1, 2 and 4 of Song & Ermon (2020), and measures how long training and sampling take. For an
    experiment, lists what differs from its own values. Where its data isn't at hand, uses the experiment's σ_1 and
    says so.
    """
    with session(FROM_THE_START, verbose=verbose, quiet=quiet) as messages:
        import attrs

        from ncsnx.cli.budgets import propose_bf16, warn_if_busy
        from ncsnx.config.variants import load_plugins
        from ncsnx.data import data_folder
        from ncsnx.data.readers.from_path import Reading
        from ncsnx.noise.bias import known_bias
        from ncsnx.planning.survey import Choices, data_remarks, plan_differences, survey
        from ncsnx.planning.timing import bf16_speedups, time_experiment
        from ncsnx.runtime import Runtime
        from ncsnx.stopping import StopRequest

        choices = Choices(overlap=overlap, steps_per_level=steps_per_level, seed=seed)
        load_plugins("ncsnx.runtime")
        with StopRequest() as stop:
            work, folder = work_of(messages, stop), data_folder(data)
            said = Reading(image_size=size, on_error=on_error, array=array)
            meant = sources.meant(source, overrides, folder)
            is_own = isinstance(meant, Path)
            if isinstance(meant, Path):
                experiment = _changed(experiment_for("plan", meant, said, work), overrides or [])
            else:
                sources.refuse_options(source, meant.data, said)
                experiment = meant
            found = survey(experiment, folder, choices, work)
            if is_own:
                found = attrs.evolve(found, experiment=_proposed(found, overrides or []))
            else:
                found = attrs.evolve(found, differences=tuple(plan_differences(experiment, found.plan)))
            if not no_timing:
                runtime = Runtime.choose(device=device, threads=threads)
                timing = time_experiment(found.experiment, runtime, work)
                speedups = bf16_speedups(found.experiment, runtime, timing, work)
                found = attrs.evolve(found, timing=timing, bf16_speedups=speedups)
        for remark in data_remarks(found.measured) if found.measured else []:
            messages.warning(remark)
        if bias := known_bias(found.experiment.sampler, found.experiment):
            messages.info(bias)
        warn_if_busy(messages, found)
        if json:
            messages.json(found.facts())
        else:
            _show(messages, found, is_own)
        propose_bf16(messages, found, f"ncsnx train {'NAME' if is_own else shlex.join([source, *(overrides or [])])}")
        if is_own:
            messages.info(
                "this is the published training for such images\n"
                f"for one that fits a time budget here:  ncsnx new NAME --from {shlex.quote(source)} --budget 10h"
            )


def experiment_for(name: str, path: Path, said: "Reading", work: "Work") -> "Experiment":
    """A draft for a person's own images, at a size that the networks accept."""
    from ncsnx.config.image_sizes import size_as_typed, size_in_words
    from ncsnx.planning.experiment_proposal import check_size, draft, fitted_to_network

    if said.image_size is not None:
        check_size(said.image_size)
    data = fitted_to_network(sources.own(path, said, work))
    if data.random_crop is not None:
        stored, size = size_in_words(data.random_crop), size_in_words(data.image_size)
        work.info(
            f"{path} holds images of {stored} pixels, which are not resized; training sees random crops of {size} "
            f"pixels (data.random_crop={size_as_typed(data.random_crop)})"
        )
    return draft(name, data)


def _proposed(found: "Survey", overrides: list[str]) -> "Experiment":
    """The experiment of `ncsnx new --model ncsnv2 --budget none`, apart from the time that snapshots take here."""
    from ncsnx.planning.budget import with_affordable_snapshots
    from ncsnx.planning.experiment_proposal import propose

    assert found.measured is not None
    data, images = found.experiment.data, found.measured.distances.images
    proposed = with_affordable_snapshots(propose(found.experiment.name, data, found.plan, images))
    return _changed(proposed, overrides)


def _changed(experiment: "Experiment", overrides: list[str]) -> "Experiment":
    from ncsnx.config.overrides import apply_overrides, parse_overrides

    return apply_overrides(experiment, {}, parse_overrides(overrides))[0]


def _show(messages: "Messages", found: "Survey", is_own: bool) -> None:
    from ncsnx.console.tables import Column, table

    columns = [Column(""), Column("plan", "right"), *([] if is_own else [Column("own", "right")]), Column("")]
    rows = [*_noise_rows(found), *_time_rows(found)]
    table(messages, columns, [[name, value, *([] if is_own else [own]), words] for name, value, own, words in rows])
    if not is_own and not found.differences:
        messages.data("\nThe experiment's own values equal the plan's, to rounding.")
    for difference in found.differences:
        own, planned = _value(difference.own), _value(difference.planned)
        messages.data(f"\n{difference.field}: {own}, planned {planned}: {difference.meaning}")


def _noise_rows(found: "Survey") -> list[tuple[str, str, str, str]]:
    """Rows about the noise: (name, plan's value, experiment's value, explanation)."""
    from ncsnx.config import AnnealedLangevin

    plan, schedule, sampler = found.plan, found.experiment.schedule, found.experiment.sampler
    langevin = sampler if isinstance(sampler, AnnealedLangevin) else None
    rows = [("σ_1", _value(plan.sigma_max), _value(schedule.sigma_max), found.source)]
    if found.measured is not None:
        distances, (first, second) = found.measured.distances, found.measured.names
        rows += [
            ("", "", "", f"between {first} and {second}"),
            ("99.9 % of pairs within", _value(distances.quantile), "", ""),
        ]
    return [
        *rows,
        ("σ_L", _value(plan.sigma_min), _value(schedule.sigma_min), ""),
        ("γ", f"{plan.ratio:.5f}", "", f"ratio of levels that overlap by {plan.overlap:g}, D = {plan.dimensions:,}"),
        ("L", f"{plan.levels:,}", f"{schedule.levels:,}", "levels"),
        ("T", str(plan.steps_per_level), str(langevin.steps_per_level) if langevin else "", "steps per level"),
        ("ε", _value(plan.step_size), _value(langevin.step_size) if langevin else "", "step size"),
        (
            "remaining variance",
            f"{plan.remaining_variance:.4f}",
            "",
            "relative to the level's, ideally 1: technique 4 of NCSNv2",
        ),
        ("signal to noise", f"{plan.snr:.4f}", "", "√(ε/2)/σ_L, the snr of the Langevin corrector of score SDEs"),
        ("evaluations", f"{plan.evaluations:,}", _own_evaluations(found), "of the network, per image"),
    ]


def _own_evaluations(found: "Survey") -> str:
    from ncsnx.samplers.building import evaluations

    count = evaluations(found.experiment.sampler, found.experiment.schedule.levels)
    return "adaptive" if count is None else f"{count:,}"


def _time_rows(found: "Survey") -> list[tuple[str, str, str, str]]:
    from ncsnx.planning.budget import span_of_time

    timing, per_image, cost = found.timing, found.seconds_per_image, found.cost
    if timing is None or per_image is None or cost is None:
        return []
    experiment = found.experiment
    words = {"steps": f"{experiment.steps:,} of {counted(experiment.batch_size, 'image')}"}
    if experiment.snapshots is not None:
        words["snapshots"] = _grids(experiment, experiment.snapshots)
    parts = cost.parts()
    rows = [(f"  {name}", span_of_time(seconds), "", words.get(name, "")) for name, seconds in parts.items()]
    return [
        ("an evaluation", span_of_time(timing.seconds_per_evaluation), "", timing.timed),
        ("an image", span_of_time(per_image), "", ""),
        ("1,000 images", span_of_time(1000 * per_image), "", "of one checkpoint"),
        ("a training step", span_of_time(timing.seconds_per_step), "", f"of {counted(experiment.batch_size, 'image')}"),
        ("training", span_of_time(cost.total), "", "in all" if len(parts) > 1 else words["steps"]),
        *(rows if len(parts) > 1 else []),
    ]


def _grids(experiment: "Experiment", snapshots: "Snapshots") -> str:
    from ncsnx.planning.timing import grids
    from ncsnx.samplers.building import evaluations_in_words
    from ncsnx.training.snapshots import snapshot_sampler

    each = evaluations_in_words(snapshot_sampler(experiment), experiment.schedule.levels)
    return f"grids of {counted(snapshots.n, 'image')}, {each} per image: {grids(experiment):,}"


def _value(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
