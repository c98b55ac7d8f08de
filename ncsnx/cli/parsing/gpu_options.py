"""Options of `ncsnx plan` for several GPUs, and the table that it prints for them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli.bad_values import a_count

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment
    from ncsnx.console.messages import Messages
    from ncsnx.planning.gpu_request import GpuRequest
    from ncsnx.planning.many_gpus import GpuPlan

GPU_PANEL = "Several GPUs"
"""Panel of the help."""
PlannedGpus = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        metavar="N",
        parser=a_count(1, 1_024),
        help="Plan the training on N GPUs per machine.",
        rich_help_panel=GPU_PANEL,
    ),
]
Nodes = Annotated[
    int | None,
    typer.Option(
        "--nodes",
        metavar="M",
        parser=a_count(1, 10_000),
        help="Number of machines.",
        show_default="1",
        rich_help_panel=GPU_PANEL,
    ),
]
CardName = Annotated[
    str | None,
    typer.Option(
        "--card",
        metavar="CARD",
        help="The GPU: h100, h200, a100, v100, l40s or rtx4090.",
        show_default="this machine's, which is timed",
        rich_help_panel=GPU_PANEL,
    ),
]
Bandwidth = Annotated[
    str | None,
    typer.Option(
        "--bandwidth",
        metavar="RATE",
        help="What a ring of GPUs reaches in one direction, such as 20GB/s or 100Gb/s.",
        show_default="half of the card's link",
        rich_help_panel=GPU_PANEL,
    ),
]


def request_of(
    gpus: int | None, nodes: int | None, card: str | None, bandwidth: str | None, *, has_other: bool, no_timing: bool
) -> "GpuRequest | None":
    """The request that the options mean; None without them. has_other: whether options of another plan are given.

    Raises UsageError for options that don't go together.
    """
    from ncsnx.errors import Hint, UsageError
    from ncsnx.planning.gpu_request import GpuRequest

    if gpus is None:
        given = {"--nodes": nodes, "--card": card, "--bandwidth": bandwidth}
        if name := next((name for name, value in given.items() if value is not None), None):
            raise UsageError(f"{name} plans a training on several GPUs", Hint("say how many", adds="--gpus 8"))
        return None
    if has_other:
        raise UsageError(
            "--gpus plans neither noise levels nor data: leave out the options of noise levels and of reading images"
        )
    if no_timing and card is None:
        raise UsageError(
            "without a timing, --gpus needs a card whose speed is known", Hint("name one", adds="--card h100")
        )
    return GpuRequest.parse(gpus, nodes or 1, card, bandwidth)


def experiment_among(source: str, meant: "Experiment | Path") -> "Experiment":
    """The experiment that the command's argument means. Raises UsageError for a file or folder."""
    from ncsnx.errors import Hint, UsageError

    if isinstance(meant, Path):
        raise UsageError(
            f"--gpus takes an experiment, and {source} is a file or folder of images",
            Hint("write an experiment for them", f"ncsnx new NAME --from {source}"),
        )
    return meant


def show_gpu_plan(messages: "Messages", plan: "GpuPlan", *, json: bool) -> None:
    """Prints the plan as a table, with its assumptions below, or as JSON."""
    from ncsnx.console.tables import Column, table
    from ncsnx.quantities import counted

    if json:
        messages.json(plan.facts())
        return
    columns = [Column(""), Column(counted(plan.machines.world, "GPU"), "right"), Column("")]
    table(messages, columns, [*_training_rows(plan), *_sampling_rows(plan)])
    machines, links = plan.machines, _rate(plan.machines.link)
    if plan.leaves_machine:
        links += f" within a machine and {_rate(machines.network)} between machines"
    messages.data(
        "\nThese are estimates on paper. They assume:\n"
        f"{plan.speed.source}\n"
        f"gradients in fp32, in buckets of 25 MiB, reduced during the backward pass by a ring that reaches {links}\n"
        "no waiting for data, and no machine slower than the others"
    )


def _training_rows(plan: "GpuPlan") -> list[tuple[str, str, str]]:
    from ncsnx.planning.many_gpus import GOOD_EFFICIENCY
    from ncsnx.planning.spans import span_of_time
    from ncsnx.quantities import counted, percent

    step, one, world = plan.step, plan.steps[0], plan.machines.world
    experiment, images = plan.experiment, -(-plan.experiment.batch_size // world)
    gradients = f"{4 * plan.parameters / 1e6:,.0f} MB of gradients, {percent(step.hidden_share)} of the time hidden"
    best, good = plan.fastest_world, plan.efficient_world
    return [
        ("a training step", span_of_time(step.seconds), f"{counted(images, 'image')} per GPU"),
        ("  on one GPU", span_of_time(one.seconds), counted(experiment.batch_size, "image")),
        ("all-reduce", span_of_time(step.all_reduce_s), gradients if world > 1 else "one GPU has nothing to exchange"),
        ("efficiency", percent(plan.efficiency()), f"{one.seconds / step.seconds:.3g}× as fast as one GPU"),
        (
            "fastest",
            counted(best, "GPU"),
            f"efficiency {percent(plan.efficiency(best))}; more do not make a step faster",
        ),
        ("efficient", counted(good, "GPU"), f"the most with an efficiency of at least {percent(GOOD_EFFICIENCY)}"),
        ("training", span_of_time(plan.training_s), f"{counted(experiment.steps, 'step')}"),
        ("  of GPUs", _hours(world * plan.training_s), ""),
        (
            "other work",
            span_of_time(plan.other_s),
            "checkpoints, by one GPU; grids of samples and held-out losses, by all",
        ),
    ]


def _sampling_rows(plan: "GpuPlan") -> list[tuple[str, str, str]]:
    from ncsnx.config.variants import tag_of
    from ncsnx.planning.many_gpus import SCORED_IMAGES
    from ncsnx.planning.spans import span_of_time
    from ncsnx.quantities import counted

    return [
        (
            f"{counted(SCORED_IMAGES, 'image')} by {tag_of(type(one.sampler))}",
            _hours(one.gpu_seconds),
            f"of GPUs, {span_of_time(one.gpu_seconds / plan.machines.world)} in all; "
            f"{counted(one.evaluations, 'evaluation')} per image",
        )
        for one in plan.sampling
    ]


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f} h" if hours >= 100 else f"{hours:.3g} h"


def _rate(bytes_per_s: float) -> str:
    return f"{bytes_per_s / 1e9:.3g} GB/s"
