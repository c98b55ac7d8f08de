"""Options that several commands share: one wording, one panel of the help."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ncsnx.cli.completion import (
    complete_experiment,
    complete_experiment_or_run,
    complete_field,
    complete_run,
    complete_step,
)
from ncsnx.cli.parameters import a_device, a_file_behind_tag, a_folder, a_name_or_path, a_size
from ncsnx.ranks.rank_group import ALONE, RankGroup

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment
    from ncsnx.jobs.training_job import TrainingOptions
    from ncsnx.runtime import Runtime

IMAGES_PANEL = "Checkpoints and images"
MEASUREMENT_PANEL = "Measurement"
FILMS_PANEL = "Frames and films"
FOLDERS_PANEL = "Folders"
EXECUTION_PANEL = "Execution"
OUTPUT_PANEL = "Output"
"""Panels of the help. Options without a panel are shown under "Options"."""

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        parser=a_name_or_path,
        autocompletion=complete_run,
        help="A run: its name in the runs folder, or a path.",
    ),
]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        parser=a_name_or_path,
        autocompletion=complete_run,
        help="A run (its name in the runs folder, or a path), or an exported model: its folder, or hf://USER/MODEL on "
        "the Hugging Face Hub (hf://USER/MODEL@REVISION).",
    ),
]
ExperimentName = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT",
        parser=a_name_or_path,
        autocompletion=complete_experiment,
        help="A name (see `ncsnx list`), FILE.py or FILE.py:NAME.",
    ),
]
ExperimentOrRun = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT|RUN",
        parser=a_name_or_path,
        autocompletion=complete_experiment_or_run,
        help="An experiment (a name of `ncsnx list`, FILE.py or FILE.py:NAME), or a run (runs/NAME, or a path).",
    ),
]
ExperimentChanges = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FIELD=VALUE", autocompletion=complete_field, help="Changes to the experiment, such as model.width=64."
    ),
]
SamplerChanges = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="sampler.FIELD=VALUE",
        autocompletion=complete_field,
        help="Changes to the sampler; sampler=TAG swaps it.",
    ),
]
SamplerAndFeatureChanges = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FIELD=VALUE",
        autocompletion=complete_field,
        help="Changes to the sampler (sampler.FIELD=VALUE) and to the features (features.FIELD=VALUE).",
    ),
]

RANGE_HELP = (
    "Checkpoints: all, latest, best, a step such as 150k, 50k:200k (ends included), or 50k:200k:10k (multiples of 10k)."
)
Range = Annotated[
    str,
    typer.Option(
        "--range", metavar="RANGE", autocompletion=complete_step, help=RANGE_HELP, rich_help_panel=IMAGES_PANEL
    ),
]
CheckpointStep = Annotated[
    str,
    typer.Option(
        "--ckpt",
        metavar="STEP",
        autocompletion=complete_step,
        help="A step (150000 or 150k), latest or best.",
        rich_help_panel=IMAGES_PANEL,
    ),
]
ModelCheckpoint = Annotated[
    str | None,
    typer.Option(
        "--ckpt",
        metavar="STEP",
        autocompletion=complete_step,
        help="Checkpoint of a run: a step (150000 or 150k), latest or best.",
        show_default="latest",
        rich_help_panel=IMAGES_PANEL,
    ),
]
ImagesSize = Annotated[
    Any | None,
    typer.Option(
        "--size",
        metavar="PX|H,W",
        parser=a_size,
        help="Height and width of the images: any that the network's stages can halve.",
        show_default="those of the data",
        rich_help_panel=IMAGES_PANEL,
    ),
]
SampleSeed = Annotated[
    int,
    typer.Option(
        "--seed", metavar="SEED", help="Image i depends on the seed and i alone.", rich_help_panel=IMAGES_PANEL
    ),
]

StartPicture = Annotated[
    str | None,
    typer.Option(
        "--start",
        metavar="PICTURE",
        help="With --start-sigma: the picture that images start from, a file or a folder.",
        rich_help_panel=IMAGES_PANEL,
    ),
]
StartSigma = Annotated[
    float | None,
    typer.Option(
        "--start-sigma",
        metavar="SIGMA",
        help="Start from an image with noise of this level, and leave out the levels above it.",
        show_default="noise of the first level alone",
        rich_help_panel=IMAGES_PANEL,
    ),
]

FILES_RUN_CODE = "A FILE is TorchScript, which runs code: name only files that you trust."
FeaturesTag = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="TAG[:FILE]",
        parser=a_file_behind_tag,
        help=f"inception, inception:FILE, torchscript:FILE or classifier. {FILES_RUN_CODE}",
        show_default="classifier for digits, else inception",
        rich_help_panel=MEASUREMENT_PANEL,
    ),
]
ReferenceSet = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="SET",
        parser=a_name_or_path,
        help="Real images: train, held-out, a folder or zip of images, or a .npz with mu and sigma.",
        show_default="held-out for CelebA, else train",
        rich_help_panel=MEASUREMENT_PANEL,
    ),
]

Frames = Annotated[
    int,
    typer.Option(
        "--frames",
        metavar="F",
        help="Write F pictures of the sampling as it proceeds.",
        show_default="none",
        rich_help_panel=FILMS_PANEL,
    ),
]
Mp4 = Annotated[
    bool,
    typer.Option("--mp4", help="Write the film as an MP4 (pip install 'ncsnx[film]').", rich_help_panel=FILMS_PANEL),
]

Runs = Annotated[
    Path | None,
    typer.Option(
        "--runs",
        metavar="DIR",
        parser=a_folder,
        help="Folder of the runs.",
        show_default="NCSNX_RUNS, else ./runs",
        rich_help_panel=FOLDERS_PANEL,
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        parser=a_folder,
        help="Folder of the data sets.",
        show_default="NCSNX_DATA, else ./data",
        rich_help_panel=FOLDERS_PANEL,
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        parser=a_folder,
        help="Folder of feature networks and references.",
        show_default="NCSNX_CACHE, else the system's cache folder",
        rich_help_panel=FOLDERS_PANEL,
    ),
]

BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="B",
        help="Images at once; changes images by rounding at most.",
        show_default="64; more below 16 px, at most 256",
        rich_help_panel=EXECUTION_PANEL,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        parser=a_device,
        help="auto (CUDA, else MPS, else the CPU), cpu, cuda, cuda:N or mps.",
        rich_help_panel=EXECUTION_PANEL,
    ),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        metavar="N",
        min=1,
        max=1024,
        help="GPUs of this machine that share the work, a process for each. For several machines use torchrun.",
        show_default="one device",
        rich_help_panel=EXECUTION_PANEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=1_024,
        help="CPU threads. Results are bit-identical at equal counts only.",
        show_default="chosen by torch",
        rich_help_panel=EXECUTION_PANEL,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the network (torch.compile): a minute at first, then faster.",
        rich_help_panel=EXECUTION_PANEL,
    ),
]
Checkpointing = Annotated[
    bool,
    typer.Option(
        "--checkpointing",
        help="Compute activations again in the backward pass: a fifth of the memory, more time, the same bits.",
        rich_help_panel=EXECUTION_PANEL,
    ),
]
DataWorkers = Annotated[
    int,
    typer.Option(
        "--workers",
        metavar="N",
        min=0,
        max=256,
        help="Processes that read data ahead.",
        rich_help_panel=EXECUTION_PANEL,
    ),
]
Patch = Annotated[
    bool,
    typer.Option(
        "--patch/--no-patch",
        envvar="NCSNX_PATCH",
        help="Record uncommitted changes of the experiment file's git repository in the run.",
        show_default="recorded, unless NCSNX_PATCH=0",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
RenewedReport = Annotated[
    bool,
    typer.Option(
        "--report/--no-report",
        help="Renew the page RUN/report.html at checkpoints; see `ncsnx report`.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Track = Annotated[
    str | None,
    typer.Option(
        "--track",
        metavar="TAGS",
        help="Send losses, samples and scores to experiment trackers: wandb, trackio, mlflow.",
        show_default="when resuming, as before",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
NoTrack = Annotated[
    bool,
    typer.Option(
        "--no-track",
        help="Send nothing to trackers, now and when the run resumes.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]


def _precision(what: str, remark: str) -> Any:
    return typer.Option(
        "--precision",
        metavar="FORMAT",
        help=f"Number format {what}: fp32, tf32 (CUDA only) or bf16. {remark}",
        show_default="the experiment's",
        rich_help_panel=EXECUTION_PANEL,
    )


PrecisionName = Annotated[Literal["fp32", "tf32", "bf16"] | None, _precision("of the network", "Part of the protocol.")]
PicturePrecisionName = Annotated[
    Literal["fp32", "tf32", "bf16"] | None, _precision("in which the picture is drawn", "Weights stay as they are.")
]


def _graphs(what: str) -> Any:
    return typer.Option(
        "--graphs",
        help=f"Launch {what} as CUDA graphs, which were never tried on a GPU.",
        rich_help_panel=EXECUTION_PANEL,
    )


Graphs = Annotated[bool, _graphs("training steps, network evaluations and samplers' noise")]
EvaluationGraphs = Annotated[bool, _graphs("network evaluations and samplers' noise")]
Plain = Annotated[
    bool,
    typer.Option(
        "--plain",
        help="Run the network as published, without the exact rewrites for speed.",
        rich_help_panel=EXECUTION_PANEL,
    ),
]

Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace samples of another protocol in DIR.", rich_help_panel=OUTPUT_PANEL),
]
SamplesFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        parser=a_folder,
        help="Folder to write to.",
        show_default="below the run's samples/; ./samples/NAME for an exported model",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
NewRunName = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="NAME", help="Name of the run.", show_default="the experiment's", rich_help_panel=OUTPUT_PANEL
    ),
]
Note = Annotated[
    str,
    typer.Option(
        "--note",
        metavar="TEXT",
        help="A remark to keep with the result.",
        show_default=False,
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.", rich_help_panel=OUTPUT_PANEL)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print details, and tracebacks of errors.", rich_help_panel=OUTPUT_PANEL)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=OUTPUT_PANEL)]

EXECUTION = ("device", "threads", "plain", "compile", "graphs", "precision")
"""Parameters that choose how weights are executed."""


def training_options(context: typer.Context) -> "TrainingOptions":
    """How a command's options say to train. Raises UsageError.

    The command must have a parameter for each field of TrainingOptions, and `no_track`.
    """
    import attrs

    from ncsnx.jobs.training_job import TrainingOptions

    chosen = {field.name: context.params[field.name] for field in attrs.fields(TrainingOptions)}
    return TrainingOptions(**chosen | {"track": _tracker_tags(chosen["track"], no_track=context.params["no_track"])})


def _tracker_tags(track: str | None, *, no_track: bool) -> list[str] | None:
    """The typed tags, none for `--no-track`, None where nothing was typed. Raises UsageError."""
    from ncsnx.errors import UsageError
    from ncsnx.tracking.choosing import split_tags

    if track is not None and no_track:
        raise UsageError("--track and --no-track exclude each other")
    return [] if no_track else None if track is None else split_tags(track)


def weights_runtime(context: typer.Context, experiment: "Experiment", ranks: RankGroup = ALONE) -> "Runtime":
    """The runtime that a command's options for execution choose, for weights of the experiment. Raises UsageError.

    The command must have a parameter for each name in EXECUTION. ranks: those that run it.
    """
    from ncsnx.runtime import Runtime

    chosen = {name: context.params[name] for name in EXECUTION}
    return Runtime.choose(**chosen, ranks=ranks).for_weights_of(experiment)
