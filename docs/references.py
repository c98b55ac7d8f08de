"""Writes the pages of reference/ from the application, the configuration classes and the docstrings:
`python docs/references.py`. A test compares the pages with what it would write.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
import typer

import ncsnx
import ncsnx.config
from ncsnx.cli import app
from ncsnx.commands.command import Command, built_in_commands, ordered_fields
from ncsnx.config import Experiment
from ncsnx.config.feature_networks import Features
from ncsnx.config.field_facts import accepted_by, alternatives
from ncsnx.config.variants import Config, is_family, variants
from ncsnx.docstrings import field_docstring

FOLDER = Path(__file__).parent / "reference"

COMMANDS = """\
# Commands

Every command has `--help`, which says what this page says; `ncsnx help options` explains the options that commands
share. Data and `--json` go to standard output, all else to standard error.

| exit code | means |
|---|---|
| 0 | it worked |
| 1 | failure |
| 2 | a mistake in what was typed |
| 129, 130, 143 | stopped by SIGHUP (a closed terminal), Ctrl-C or SIGTERM |

`FIELD=VALUE` changes a field of the [configuration](configuration.md), in any order and as often as needed.
"""

CONFIGURATION = """\
# Configuration

Every field of an experiment, with its type, its default and the values that it accepts. A field without a default must
be given. `ncsnx show digits 'optimizer=?' 'optimizer.lr=?'` says the same of these two on the command line.

| in a file | on the command line |
|---|---|
| `sampler=Heun(churn=20)` | `sampler=heun sampler.churn=20` |
| `ema=None` | `ema=none` |
| `data=Digits(random_flip=True)` | `data.random_flip=true` |

A field *outside the identity* may change when a run is resumed. All others determine the trained weights: with another
value it is another run. See [identity](../guides/configuration.md#identity).

An experiment has these parts; installed packages add variants. The features of scores (`--features`) are at the end.
"""

PYTHON = """\
# Python

What is stable between versions is at the [top level](#top-level) and in the contracts that packages use; see
[versions](../project/versions.md). Configuration classes have [a page of their own](configuration.md).

Images are tensors (B, C, H, W). The networks work in the range that the experiment's `data.transform` says;
`to_network` maps images from [0, 1] to it.

`import ncsnx` imports no torch; that waits until something that needs it is used. `experiment` and `register` don't.
[Python and notebooks](../guides/python.md) shows these in use.
"""
TOP_LEVEL = ("experiment", "load", "Model", "loader", "register", "NcsnxError", "Runtime")
"""What the top level has beside the commands, in the order of the page."""

SECTIONS: dict[str, tuple[str, ...]] = {
    "Results": (
        "ncsnx.results.Result",
        "ncsnx.jobs.training_job.TrainedRun",
        "ncsnx.sampling.sample_folder.SampledImages",
        "ncsnx.inverse.restoring.RestoredImages",
        "ncsnx.inverse.restored_folder.RestoredFolder",
        "ncsnx.runs.measurements.Measurements",
        "ncsnx.runs.measurements.MeasuredRow",
        "ncsnx.evaluation.neighbor_search.NearestTrainingImages",
        "ncsnx.sweeps.comparison.ComparedSettings",
        "ncsnx.inverse.task_record.PictureRecord",
        "ncsnx.inverse.posterior.maps.PosteriorMaps",
        "ncsnx.inverse.posterior.calibration.Calibration",
        "ncsnx.inverse.posterior.calibration.Interval",
        "ncsnx.images.ImageBatch",
    ),
    "Configuration classes": ("ncsnx.config.variants.variant", "ncsnx.config.variants.Config"),
    "Samplers": (
        "ncsnx.samplers.contract",
        "ncsnx.samplers.contract.Definition",
        "ncsnx.samplers.append_zero",
        "ncsnx.samplers.Grids",
    ),
    "Networks": (
        "ncsnx.networks.contract",
        "ncsnx.networks.network",
        "ncsnx.networks.NetworkSpec",
        "ncsnx.networks.Network",
        "ncsnx.networks.build_network",
        "ncsnx.space.Space",
    ),
    "Data sets": (
        "ncsnx.data.RegisteredDataSet",
        "ncsnx.data.Splits",
        "ncsnx.data.Dataset",
        "ncsnx.data.InMemory",
        "ncsnx.data.StoredImages",
    ),
    "Inverse problems": (
        "ncsnx.inverse",
        "ncsnx.inverse.Task",
        "ncsnx.inverse.tasks_from_files.RegisteredTask",
        "ncsnx.inverse.read_pictures",
        "ncsnx.inverse.Pictures",
        "ncsnx.inverse.psnr",
        "ncsnx.inverse.inpaint",
        "ncsnx.inverse.outpaint",
        "ncsnx.inverse.super_resolve",
        "ncsnx.inverse.colorize",
        "ncsnx.inverse.deblur",
        "ncsnx.inverse.reconstruct",
        "ncsnx.inverse.with_truth",
        "ncsnx.inverse.LinearOperator",
        "ncsnx.inverse.MatrixOperator",
        "ncsnx.inverse.Masking",
        "ncsnx.inverse.Averaging",
        "ncsnx.inverse.Graying",
        "ncsnx.inverse.Blurring",
        "ncsnx.inverse.Fourier",
        "ncsnx.inverse.MeasurementMap",
        "ncsnx.inverse.LinearMap",
        "ncsnx.inverse.Sense",
        "ncsnx.inverse.simulated_maps",
        "ncsnx.inverse.estimated_maps",
        "ncsnx.inverse.Radon",
        "ncsnx.inverse.from_deepinv",
        "ncsnx.inverse.rules.contract.Definition",
        "ncsnx.inverse.Measured",
        "ncsnx.inverse.LikelihoodRule",
        "ncsnx.inverse.rules.likelihood.DataConsistency",
        "ncsnx.inverse.rules.likelihood.AnnealedLikelihood",
        "ncsnx.inverse.rules.likelihood.DiffusionPosterior",
    ),
    "Metrics and measurements": (
        "ncsnx.metrics.metric",
        "ncsnx.metrics.metric.Metric",
        "ncsnx.metrics.metric.FeatureSets",
        "ncsnx.metrics.metric.Quantity",
        "ncsnx.evaluation.measure.Measure",
        "ncsnx.evaluation.measure.measure_all",
    ),
    "Commands of packages": (
        "ncsnx.commands.command",
        "ncsnx.commands.command.Registration",
        "ncsnx.commands.command.option",
        "ncsnx.commands.command.argument",
        "ncsnx.commands.command.as_function",
        "ncsnx.commands.command.Command",
        "ncsnx.commands.command.Declaration",
        "ncsnx.spelling",
        "ncsnx.work.Work",
        "ncsnx.errors.UsageError",
        "ncsnx.errors.Hint",
    ),
}
"""Heading → what packages use, by its name."""


def main() -> None:
    """Writes the pages."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Name of a page → its text."""
    written = {"commands.md": commands(), "configuration.md": configuration(), "python.md": python()}
    return {name: re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n" for name, lines in written.items()}


def prose(text: str) -> str:
    """Help text or a docstring as Markdown: `code` stays, an indented paragraph is code, and all else is literal."""
    text = re.sub(r"\\(\[[^\[]*?\])", r"\1", text)  # rich would take it for markup
    return "\n\n".join(_paragraph(paragraph) for paragraph in re.split(r"\n{2,}", text))


def _paragraph(text: str) -> str:
    if text.startswith("    "):
        return f"```text\n{textwrap.dedent(text)}\n```"
    markup = re.compile(r"[*<\\]|(?<!\w)_|_(?!\w)|\[(?=[^]]*\]\()")
    parts = re.split("(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else markup.sub(r"\\\g<0>", part) for part in parts)


def entry(name: str, text: str) -> str:
    """A line of a list."""
    return f"- `{name}`: {prose(' '.join(text.split()))}".rstrip(": ")


def commands() -> Iterator[str]:
    """Every command with its arguments and options, by panel, as `--help` has them."""
    root: Any = typer.main.get_group(app)
    context = root.context_class(root, info_name="ncsnx")
    yield COMMANDS
    yield from ("| command | does |", "|---|---|")
    for one in built_in_commands():
        summary = (one.kind.__doc__ or "").strip().splitlines()[0]
        yield f"| [`{one.name}`](#ncsnx-{one.name.replace(' ', '-')}) | {summary} |"
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        if not command.hidden:
            yield from _command(command, name, context)


def _command(command: Any, name: str, parent: Any) -> Iterator[str]:
    """A command and, where it is a group, those within it."""
    context = command.context_class(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield from ("", f"## `{context.command_path}`", "", "```text", usage, "```", "", prose(command.help or ""), "")
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        default_panel = "Arguments" if parameter.param_type_name == "argument" else "Options"
        panels.setdefault(parameter.rich_help_panel or default_panel, []).append(parameter)
    for panel, parameters in panels.items():
        yield from (f"**{panel}**", "", *map(_parameter, parameters), "")
    for inner, inner_command in getattr(command, "commands", {}).items():
        if not inner_command.hidden:
            yield from _command(inner_command, inner, context)


def _parameter(parameter: Any) -> str:
    metavar = parameter.metavar or parameter.name.upper()
    if parameter.param_type_name == "argument":
        return entry(f"{metavar}{'...' if parameter.nargs != 1 else ''}", parameter.help or "")
    names = " / ".join(
        ", ".join(sorted(names, key=lambda name: name.startswith("--")))
        for names in (parameter.opts, parameter.secondary_opts)
        if names
    )
    text = parameter.help or ""
    if parameter.required:
        text += " [required]"
    elif isinstance(parameter.show_default, str):
        text += f" [default: {parameter.show_default}]"
    elif parameter.show_default and parameter.default not in (None, "") and not isinstance(parameter.default, bool):
        text += f" [default: {parameter.default}]"
    return entry(names if parameter.is_flag else f"{names} {metavar}", text)


def configuration() -> Iterator[str]:
    """Every configuration class: type, default, accepted values and docstring of every field."""
    uses = _uses(Experiment)
    yield CONFIGURATION
    yield from ("| part | variants, or fields |", "|---|---|")
    for cls, paths in uses.items():
        names = variants(cls) if is_family(cls) else [field.name for field in attrs.fields(cls)]
        shown = ", ".join(f"`{path}`" for path, _ in paths)
        yield f"| {shown}: [{cls.__name__}](#{cls.__name__.lower()}) | {', '.join(f'`{name}`' for name in names)} |"
    for cls, paths in {Experiment: [("", True)], **uses, Features: []}.items():
        identity = {inside for _, inside in paths}
        yield from ("", f"## {cls.__name__}", "")
        if shown := ", ".join(f"`{path}`" for path, _ in paths if path):
            yield from (f"*In an experiment: {shown}.*", "")
        if identity == {False}:
            yield from ("*All fields are outside the identity.*", "")
        yield from _class(cls, identity, attrs.fields(cls))
        if is_family(cls):
            common = {field.name for field in attrs.fields(cls)}
            key = f"{paths[0][0]}=" if paths else "--features "
            for tag, variant in variants(cls).items():
                yield from ("", f"### `{key}{tag}`", "", f"*{variant.__name__} in a file.*", "")
                yield from _class(variant, identity, [one for one in attrs.fields(variant) if one.name not in common])
                if common:
                    yield from ("", f"And the fields of [{cls.__name__}](#{cls.__name__.lower()}).")


def _uses(cls: type[Config], path: str = "", inside: bool = True) -> dict[type[Config], list[tuple[str, bool]]]:
    """Class → (path, whether it is in the identity) of each place that holds one, of all parts of a class."""
    found: dict[type[Config], list[tuple[str, bool]]] = {}
    holders = [cls, *(variants(cls).values() if is_family(cls) else ())]
    for field in {field.name: field for holder in holders for field in attrs.fields(holder)}.values():
        for part in alternatives(field.type):
            if isinstance(part, type) and issubclass(part, Config):
                place = (f"{path}{field.name}", inside and field.metadata.get("identity", True))
                inner = {} if part in found else _uses(part, f"{place[0]}.", place[1])
                for used, places in {part: [place], **inner}.items():
                    found.setdefault(used, []).extend(places)
    return found


def _class(cls: type[Config], identity: set[bool], fields: Iterable[Any]) -> Iterator[str]:
    yield from (prose(inspect.cleandoc(cls.__doc__ or "")), "")
    for field in fields:
        default = "" if field.default is attrs.NOTHING else f" = {_default(field.default)}"
        text, accepted = field_docstring(cls, field.name), accepted_by(field)
        if accepted and not _is_said(accepted, text):
            text += f" Accepted: {accepted}."
        line = entry(f"{field.name}: {_type(field.type)}{default}", text)
        outside = True in identity and field.metadata.get("identity", True) is not True
        yield f"{line} *Outside the identity.*" if outside else line


def _type(declared: Any) -> str:
    names = []
    for part in alternatives(declared):
        if part is type(None):
            names.append("None")
        elif get_origin(part) is Literal:
            names.append("str" if all(isinstance(value, str) for value in get_args(part)) else "int")
        else:
            names.append(part.__name__ if isinstance(part, type) else str(part))
    return " | ".join(names)


def _default(default: Any) -> str:
    factory = getattr(default, "factory", None)
    return f"{factory.__name__}()" if factory is not None else repr(default)


def _is_said(accepted: str, text: str) -> bool:
    """Whether a docstring says what is accepted: '1 to 8' for 'between 1 and 8', '> 0' for 'a finite number > 0'."""
    short = re.sub(r"^between (\S+) and (\S+)$", r"\1 to \2", accepted).removeprefix("a finite number ")
    return short in " ".join(text.split())


def python() -> Iterator[str]:
    """The top level, the commands as functions, and the contracts of packages."""
    yield PYTHON
    yield from ("## Top level", "")
    for name in TOP_LEVEL:
        yield from _documented(f"ncsnx.{name}")
    yield from (
        "## Commands as functions",
        "",
        "Each takes what its [command](commands.md) takes, and returns a result.",
    )
    for name in ncsnx.__all__:
        kind = getattr(getattr(ncsnx, name), "__wrapped__", None)
        if isinstance(kind, type) and issubclass(kind, Command):
            yield from _command_function(name, kind)
    for heading, names in SECTIONS.items():
        yield from ("", f"## {heading}", "")
        for name in names:
            yield from _documented(name)


def _command_function(name: str, kind: type[Command[Any]]) -> Iterator[str]:
    positional = [field for field in ordered_fields(kind) if not field.kw_only]
    keywords = [field for field in ordered_fields(kind) if field.kw_only]
    declared = [
        field.name if field.default is attrs.NOTHING else f"{field.name}={field.default!r}"
        for field in (*positional, *keywords)
    ]
    if keywords:
        declared.insert(len(positional), "*")
    yield from ("", f"### `ncsnx.{name}`", "", *_shown(f"{name}({', '.join(declared)})"))
    yield from (prose(inspect.cleandoc(kind.__doc__ or "")), "")
    yield from (entry(field.name, field_docstring(kind, field.name)) for field in (*positional, *keywords))


def _documented(name: str) -> Iterator[str]:
    """A module, class or function: its signature, docstring and public members."""
    value = _named(name)
    if inspect.ismodule(value):
        yield from (prose(inspect.cleandoc(value.__doc__ or "")), "")
        return
    yield from ("", f"### `{name}`", "")
    if inspect.isfunction(value):
        yield from _shown(_signature(value))
    yield from (prose(inspect.cleandoc(value.__doc__ or "")), "")
    if inspect.isclass(value):
        yield from _members(value)


def _members(cls: type) -> Iterator[str]:
    """The public fields, properties and methods that a class itself has and explains."""
    for name, annotation in vars(cls).get("__annotations__", {}).items():
        if not name.startswith("_") and (text := field_docstring(cls, name)):
            yield entry(f"{name}: {annotation if isinstance(annotation, str) else _type(annotation)}", text)
    for name, value in vars(cls).items():
        function: Any = getattr(value, "__func__", value)
        if not name.startswith("_") and inspect.isfunction(function) and function.__doc__:
            yield entry(_signature(function), function.__doc__)
        elif not name.startswith("_") and isinstance(value, property) and value.__doc__:
            yield entry(name, value.__doc__)


def _named(name: str) -> Any:
    """The module, class or function of a full name."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        module, _, last = name.rpartition(".")
        return getattr(import_module(module), last)


def _signature(function: Callable[..., Any]) -> str:
    """Name, parameters without `self`, and types, as the source has them."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    parameters = re.sub(r"^(?:self|cls)(?:, |$)", "", ast.unparse(node.args))
    return f"{node.name}({parameters})" + ("" if node.returns is None else f" -> {ast.unparse(node.returns)}")


def _shown(signature: str) -> Iterator[str]:
    yield from ("```text", signature, "```", "")


if __name__ == "__main__":
    main()
