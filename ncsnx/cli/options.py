"""Options that several commands share, in one wording."""

from pathlib import Path
from typing import Annotated

import typer

from ncsnx.cli.bad_values import a_count, a_device
from ncsnx.cli.path_parameters import a_file_behind_tag, a_folder, a_name_or_path

RunName = Annotated[
    str, typer.Argument(metavar="RUN", parser=a_name_or_path, help="A run: its name in the runs folder, or a path.")
]
ExperimentName = Annotated[
    str,
    typer.Argument(metavar="EXPERIMENT", parser=a_name_or_path, help="A name (`ncsnx list`), FILE.py or FILE.py:NAME."),
]
Runs = Annotated[
    Path | None,
    typer.Option("--runs", metavar="DIR", parser=a_folder, help="Folder of the runs. [NCSNX_RUNS, else ./runs]"),
]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", parser=a_folder, help="Folder of the data sets. [NCSNX_DATA, else ./data]"),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        parser=a_folder,
        help="Folder of feature networks and references. [NCSNX_CACHE, else the system's]",
    ),
]
FILES_RUN_CODE = "A FILE is TorchScript, which runs code: name only files that you trust."
FeaturesTag = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="TAG[:FILE]",
        parser=a_file_behind_tag,
        help="inception, inception:FILE, torchscript:FILE or classifier. [digits: classifier, else inception] "
        f"{FILES_RUN_CODE}",
    ),
]
ReferenceSet = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="SET",
        parser=a_name_or_path,
        help="train, held-out, a folder or zip of images, or a .npz with mu and sigma. [train; CelebA: held-out]",
    ),
]
Range = Annotated[
    str,
    typer.Option(
        "--range", help="Checkpoints: all, latest, best, 150k, 50k:200k (ends included) or 50k:200k:10k (multiples)."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show tracebacks of errors.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="A remark to keep with the result.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        parser=a_device,
        help="auto, cpu, cuda, cuda:N or mps. auto takes CUDA, then MPS, then the CPU.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", metavar="N", parser=a_count(1, 1_024), help="CPU threads; bits are equal at equal counts only."
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="Compile evaluations (torch.compile); gradients stay eager: compiled ones were found wrong."
    ),
]
Plain = Annotated[
    bool, typer.Option("--plain", help="Run the network as it is written, without the exact rewrites for speed.")
]
