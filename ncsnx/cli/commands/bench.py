"""`ncsnx bench`: speed, errors and memory of a network's executions on this machine."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.bad_values import BadValue, a_count
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.path_parameters import a_folder, a_name_or_path
from ncsnx.cli.session import FROM_THE_START, session
from ncsnx.console.working import work_of

if TYPE_CHECKING:
    from ncsnx.benchmarking.benchmark import Benchmark, ExecutionResult, SizeResult
    from ncsnx.benchmarking.rounds import Spread
    from ncsnx.console.messages import Messages

BENCH_PANEL = "Benchmark"
"""Panel of the help."""
_LARGEST_SIZE = 4_096


def some_sizes(text: str) -> str:
    """The `parser` of --sizes: whole numbers with commas, as text, since typer takes a tuple for several values."""
    if not re.fullmatch("[0-9]{1,5}(,[0-9]{1,5})*", text) or not all(
        1 <= int(size) <= _LARGEST_SIZE for size in text.split(",")
    ):
        raise BadValue(f"expected image sizes up to {_LARGEST_SIZE:,} with commas, such as 32,64,128")
    return text


Sizes = Annotated[
    str | None,
    typer.Option(
        "--sizes",
        metavar="PX,PX,…",
        parser=some_sizes,
        help="Image sizes. Sizes other than the experiment's use random pixels.",
        show_default="the experiment's",
        rich_help_panel=BENCH_PANEL,
    ),
]
BenchBatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        metavar="B",
        parser=a_count(1, 1_000_000),
        help="Images of an evaluation and of a training step.",
        rich_help_panel=BENCH_PANEL,
    ),
]
Rounds = Annotated[
    int,
    typer.Option(
        "--rounds",
        metavar="N",
        parser=a_count(1, 10_000),
        help="Rounds; each times everything once.",
        rich_help_panel=BENCH_PANEL,
    ),
]
Against = Annotated[
    Path | None,
    typer.Option(
        "--against",
        metavar="DIR",
        parser=a_folder,
        help="A checkout of the published implementation to compare with. Its code is executed: name only a folder "
        "that you trust.",
        show_default="none",
        rich_help_panel=BENCH_PANEL,
    ),
]
NoCompile = Annotated[
    bool,
    typer.Option(
        "--no-compile", help="Leave out compiled executions, which take minutes.", rich_help_panel=BENCH_PANEL
    ),
]
BenchOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        parser=a_folder,
        help="Folder for the plots and benchmark.json.",
        show_default="./bench/EXPERIMENT",
        rich_help_panel=options.OUTPUT_PANEL,
    ),
]


@command("bench", panel=RUNS_PANEL, place=165)
def bench_command(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT", parser=a_name_or_path, help="A name (see `ncsnx list`), FILE.py or FILE.py:NAME."
        ),
    ] = "cifar10",
    overrides: options.ExperimentChanges = None,
    sizes: Sizes = None,
    batch_size: BenchBatchSize = 8,
    rounds: Rounds = 5,
    no_compile: NoCompile = False,
    against: Against = None,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    out: BenchOut = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the speed of a network's executions on this machine.

    Times training steps and evaluations in alternating rounds. Shows their share of the convolution peak, kernels,
    memory, errors against fp32 eager execution, and the time for 1,000 images by each sampler. A step is one pass of
    --batch-size images in each number format, whatever the experiment's batch_size, accumulation and precision. Uses
    random pixels where the data isn't downloaded. Ctrl-C ends it early with the complete rounds.
    """
    with session(FROM_THE_START, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.config.discovery import resolve

        chosen = resolve(experiment, overrides).experiment

        from ncsnx.benchmarking import BenchmarkSettings, run_benchmark
        from ncsnx.benchmarking.benchmark_files import write_files
        from ncsnx.config.variants import load_plugins
        from ncsnx.data import data_folder
        from ncsnx.planning.timing import why_slow
        from ncsnx.runtime import Runtime, keep_compiled_code
        from ncsnx.stopping import StopRequest

        load_plugins("ncsnx.runtime")
        settings = BenchmarkSettings(
            sizes=tuple(dict.fromkeys(map(int, sizes.split(",")))) if sizes else (),
            batch_size=batch_size,
            rounds=rounds,
            against=against,
            compiles=not no_compile,
        )
        if against is not None:
            messages.warning(f"this executes the code in {against}")
        runtime = Runtime.choose(device=device, threads=threads)
        if not no_compile:
            keep_compiled_code()
        if runtime.device.type == "cpu" and (reason := why_slow(runtime.threads)) is not None:
            messages.warning(reason)
        with StopRequest() as stop:
            found = run_benchmark(chosen, settings, data_folder(data), runtime.device, work_of(messages, stop))
        folder = out or Path("bench", chosen.name)
        if json:
            messages.json(found.facts())
        else:
            _show(messages, found)
        for path in write_files(folder, found):
            messages.info(f"wrote {path}")
        if found.stopped is not None:
            raise found.stopped


def _show(messages: "Messages", found: "Benchmark") -> None:
    from ncsnx.config.image_sizes import size_in_words
    from ncsnx.quantities import counted

    machine = found.machine
    name = machine["gpu"] or f"{machine['processor']}, {machine['cores']} cores"
    messages.data(
        f"{found.experiment} on {name}: torch {machine['torch']}, threads {machine['threads']}, load "
        f"{machine['load']:.1f} to {machine['load_after']:.1f}, {' '.join(machine['flags'])}"
    )
    for size in found.sizes:
        rounds = len(size.executions[0].step_s)
        messages.data(
            f"\n{size_in_words(size.image_size)} px, batches of {size.batch_size}, "
            f"{counted(size.parameters, 'parameter')}, pixels: {size.pixels}; median (range) of "
            f"{counted(rounds, 'round')}; ratios to {size.baseline}\n"
        )
        _show_speed(messages, size)
        messages.data("")
        _show_work(messages, size)
        for left, reason in size.left_out.items():
            messages.data(f"{left} was not measured: {reason}")
        if size.samplers:
            messages.data("\nEstimated time for 1,000 images in the default execution:\n")
            _show_samplers(messages, size)


def _show_speed(messages: "Messages", size: "SizeResult") -> None:
    from ncsnx.benchmarking.rounds import Spread
    from ncsnx.console.tables import Column, table

    titles = ("images/s", "ratio", "of the peak")
    columns = [Column("execution"), *(Column(f"{what} {one}", "right") for what in ("eval", "step") for one in titles)]
    rows = []
    for one in size.executions:
        evaluation, step = Spread.of(one.evaluation_s), Spread.of(one.step_s)
        rows.append(
            [
                one.name,
                f"{size.batch_size / evaluation.median:,.3g}",
                _ratio(size.evaluation_ratio(one)),
                _percents(Spread.of_ratios(one.convolutions_s, one.evaluation_s)),
                f"{size.batch_size / step.median:,.3g}",
                _ratio(size.step_ratio(one)),
                _percents(Spread.of_ratios(one.training_convolutions_s, one.step_s)),
            ]
        )
    table(messages, columns, rows)


def _show_work(messages: "Messages", size: "SizeResult") -> None:
    from ncsnx.console.tables import Column, table
    from ncsnx.quantities import byte_size, percent

    titles = (
        "kernels, eval",
        "kernels, step",
        "saved/image",
        "peak memory",
        "peak GFLOP/s",
        "noise, of step",
        "data, of step",
        "forward error",
        "gradient error",
    )
    columns = [Column("execution"), *(Column(title, "right") for title in titles)]
    rows = []
    for one in size.executions:
        total = sum(one.parts_s.values())
        rows.append(
            [
                one.name,
                *("?" if count is None else f"{count:,}" for count in (one.evaluation_kernels, one.step_kernels)),
                byte_size(round(one.saved_bytes_per_image)),
                "?" if one.peak_bytes is None else byte_size(one.peak_bytes),
                _peak(one),
                *(percent(one.parts_s[part] / total) for part in ("noise", "data")),
                *(f"{error.largest:.1e}" for error in (one.forward_error, one.gradient_error)),
            ]
        )
    table(messages, columns, rows)


def _show_samplers(messages: "Messages", size: "SizeResult") -> None:
    from ncsnx.console.tables import Column, table
    from ncsnx.planning.spans import span_of_time

    columns = [Column("sampler"), Column("evaluations", "right"), Column("time", "right"), Column("")]
    rows = [
        [
            one.sampler,
            f"{one.evaluations:,}",
            span_of_time(one.seconds),
            "the experiment's" if one.own else "adaptive, number assumed" if one.assumed else "",
        ]
        for one in size.samplers
    ]
    table(messages, columns, rows)


def _peak(one: "ExecutionResult") -> str:
    from statistics import median

    return f"{one.convolution_operations / median(one.convolutions_s) / 1e9:,.0f}"


def _ratio(spread: "Spread") -> str:
    return f"{spread.median:.2f} ({spread.low:.2f}–{spread.high:.2f})"


def _percents(spread: "Spread") -> str:
    low, middle, high = (round(100 * value) for value in (spread.low, spread.median, spread.high))
    return f"{middle} % ({low}–{high})"
