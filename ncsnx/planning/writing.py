"""Text of the experiment file that `ncsnx new` writes, with the reasons for its values; formatted as by ruff."""

import keyword
import unicodedata
from collections.abc import Sequence

from ncsnx.config import Adam, Arrays, ConsistentAnnealed, Experiment, Karras, NumericData, OwnData, Packed, Snapshots
from ncsnx.config.command_words import typed
from ncsnx.config.data_sets import Images, Volumes
from ncsnx.config.image_sizes import size_in_words
from ncsnx.config.model import RefineNetModel
from ncsnx.data.decoding import HEIC_EXTRA
from ncsnx.planning.experiment_proposal import (
    EPOCHS,
    SMALL_SET,
    long_side,
    network_for,
    published_sampler,
    usual_width,
)
from ncsnx.planning.spans import in_short
from ncsnx.planning.survey import MeasuredData, Survey
from ncsnx.quantities import counted

WIDTH = 120
_INDENT = 8
_LONGEST_LITERAL = 90
_LONGEST_NAME = 40  # of a file name in a comment


def experiment_source(survey: Survey, measured: MeasuredData) -> str:
    """The text of a file that registers the survey's experiment.

    Untrusted text (paths, names of pictures) only appears in string literals and, shortened and made printable, in
    comments.
    """
    experiment = survey.experiment
    fields = [
        f'name="{experiment.name}",',
        *_data(experiment, measured),
        *_noise(survey, measured),
        *_network(survey),
        *_sampler(survey),
        *_training(survey, measured),
        *_precision(survey),
    ]
    variable = experiment.name if _is_free(experiment.name) else "experiment"
    return "\n".join(
        [
            '"""An experiment on your own images, written by `ncsnx new`. Change it as you like.',
            "",
            "The noise levels are those of `ncsnx plan` (techniques 1 and 2 of Song & Ermon 2020, arXiv 2006.09011).",
            *_scale_of(survey),
            '"""',
            "",
            *_import(experiment),
            "",
            f"{variable} = register(",
            "    Experiment(",
            *("        " + line for line in fields),
            "    )",
            ")",
            "",
        ]
    )


def literal(text: str) -> str:
    """Printable text as a Python string literal, with the quotes that ruff uses."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


def comment(text: str) -> list[str]:
    """The text as lines of comment. No word may be longer than a line."""
    lines = ["#"]
    for word in text.split(" "):
        if _columns(f"{lines[-1]} {word}") > WIDTH - _INDENT:
            lines.append("#")
        lines[-1] += f" {word}"
    return lines


def shown_text(text: str) -> str:
    """Text made printable, for a comment."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _shown(name: str) -> str:
    """A file's name for a comment: printable, and shortened to its last characters."""
    printable = shown_text(name)
    return printable if len(printable) <= _LONGEST_NAME else f"…{printable[1 - _LONGEST_NAME :]}"


def _is_free(name: str) -> bool:
    """Whether a name can be a variable in the file."""
    return name.isidentifier() and not keyword.iskeyword(name) and name != "register" and not name[0].isupper()


def _import(experiment: Experiment) -> list[str]:
    parts = (experiment.data, experiment.model, experiment.schedule, experiment.sampler, experiment.optimizer)
    classes = {type(part).__name__ for part in parts} | {"Ema", "Experiment"}
    classes |= {"Karras"} | ({"Snapshots"} if experiment.snapshots is not None else set())
    names = [*sorted(classes), "register"]
    # one name per line, which formatters keep whatever their line length
    return ["from ncsnx.config import (", *(f"    {name}," for name in names), ")"]


def _data(experiment: Experiment, measured: MeasuredData) -> list[str]:
    data, distances = experiment.data, measured.distances
    assert isinstance(data, OwnData)
    key = "index" if isinstance(data, Arrays) else "name"
    split = f"chosen by a hash of each {key}, so that the choice stays when images are added"
    if isinstance(data, Volumes):
        split = "whole volumes, chosen by a hash of each name, or a block of slices of a single volume"
    if isinstance(data, Packed):
        split = "as packed"
    text = f"{counted(distances.images, 'training image')}; {measured.held_out:,} held out, {split}."
    if distances.images < SMALL_SET:
        text += (
            " A network can memorise so few: watch the held-out loss (`ncsnx loss`), and use a checkpoint from before "
            "it rises."
        )
    text += " random_flip=True doubles the training images, if mirror images are plausible."
    lines = comment(text)
    if measured.unread:
        lines += comment(shown_text(f"In the folder or zip, {measured.unread}."))
    return [*lines, f"data={type(data).__name__}(", *("    " + line for line in _fields(data)), "),"]


def _fields(data: OwnData) -> list[str]:
    if isinstance(data, Images):
        place, path = "root", data.root
    else:
        assert isinstance(data, Arrays | Packed | Volumes)
        place, path = "path", data.path
    lines = [*_text_field(place, path), f"image_size={data.image_size!r},"]
    if data.random_crop is not None:
        lines += comment("Size of the stored images. Training crops images of image_size from them at random.")
        lines.append(f"random_crop={data.random_crop!r},")
    lines.append(f"channels={data.channels},")
    if isinstance(data, Arrays) and data.array is not None:
        lines += _text_field("array", data.array)
    if isinstance(data, Volumes) and data.dataset is not None:
        lines += _text_field("dataset", data.dataset)
    if isinstance(data, NumericData) and data.complex:
        lines += [*comment("Real and imaginary parts are two channels."), "complex=True,"]
    if isinstance(data, NumericData) and not data.is_bounded:
        lines += [
            *comment("The values have no bounds. scale, which becomes 1, is the 99th percentile of their magnitudes."),
            f"range={literal(data.range)},",
            f"scale={data.scale!r},",
        ]
    if isinstance(data, Arrays) and data.is_bounded:
        lines += [
            *comment("Values of black and white: the usual range that contains the values in the file."),
            f"low={data.low!r},",
            f"high={data.high!r},",
        ]
    if isinstance(data, Images) and data.gif:
        lines += [*comment("The first frame of each GIF is an image."), "gif=True,"]
    if isinstance(data, Images) and data.heic:
        lines += [*comment(f"HEIC needs an extra: {HEIC_EXTRA}"), "heic=True,"]
    if isinstance(data, Images) and data.on_error == "skip":
        lines += [
            *comment("Some files cannot be read; they are skipped, with a warning at every start."),
            'on_error="skip",',
        ]
    return lines


def _text_field(field: str, text: str) -> list[str]:
    if _columns(literal(text)) <= _LONGEST_LITERAL:
        return [f"{field}={literal(text)},"]
    parts = [""]
    for character in text:
        if _columns(literal(parts[-1] + character)) > _LONGEST_LITERAL:
            parts.append("")
        parts[-1] += character
    return [f"{field}=(", *(f"    {literal(part)}" for part in parts), "),"]


def _columns(text: str) -> int:
    """The width of a line as ruff counts it: East Asian wide characters take two columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _noise(survey: Survey, measured: MeasuredData) -> list[str]:
    plan, schedule, distances = survey.plan, survey.experiment.schedule, measured.distances
    first, second = (_shown(name) for name in measured.names)
    found = "largest distance" if distances.exact else "largest distance found"
    reasons = [
        f"σ_1 (technique 1): the {found} between two training images is {distances.largest:.5g}, between {first} and "
        f"{second}. 99.9 % of the pairs are within {distances.quantile:.4g}.",
        f"L (technique 2): for images of {counted(plan.dimensions, 'value')}, neighbouring levels that overlap by "
        f"{plan.overlap:g} have a ratio of {plan.ratio:.5g}.",
    ]
    if not distances.exact:
        reasons.insert(1, f"It is an {distances.source}.")
    value = f"sigma_max={schedule.sigma_max!r}, sigma_min={schedule.sigma_min!r}, levels={schedule.levels}"
    return [*_lines(reasons), f"schedule=Geometric({value}),"]


def _scale_of(survey: Survey) -> list[str]:
    """Lines of the docstring about the size of the training."""
    fit = survey.fit
    if fit is None or not fit.reductions:
        return ["Network, batch size and steps follow the experiments in that paper."]
    if fit.budget_s is None:
        why = "The training is smaller than those in that paper, since nothing was timed:"
    else:
        budget = in_short(fit.budget_s)
        why = f"The training is smaller than those in that paper, to fit {budget} on the machine that wrote this file:"
    reduced = ", ".join(f"{what} {now} instead of {before}" for what, now, before in fit.reductions)
    return [why, f"{reduced}.", "For the published size: ncsnx new OTHER_NAME … --budget none"]


def _network(survey: Survey) -> list[str]:
    experiment = survey.experiment
    side, model = long_side(experiment.data), experiment.model
    assert isinstance(model, RefineNetModel)  # the model of every proposal
    published = {"NCSNv2": "up to 64", "NCSNv2Deeper": "up to 128", "NCSNv2Deepest": "256"}
    kind, _ = network_for(experiment.data.shape[1:])
    text = f"The network published for {published[kind.__name__]} px"
    if model.width < usual_width(side):
        text += (
            f", narrower than its usual width of {usual_width(side)} to fit the time. With a GPU or more time, a wider "
            "one gives finer images."
        )
    elif model.width < 128:
        pixels = size_in_words(experiment.data.shape[1:])
        text += f", narrower than the published width of 128: {pixels} px need less, and a CPU can train it."
    else:
        text += ", at its published width. width=64 takes a quarter of the time and gives less detailed images."
    return [*comment(text), f"model={type(model).__name__}(width={model.width}),"]


def _sampler(survey: Survey) -> list[str]:
    plan, sampler = survey.plan, survey.experiment.sampler
    assert isinstance(sampler, ConsistentAnnealed)
    assert isinstance(sampler.grid, Karras)
    ends = [f"{name}={value!r}" for name in ("sigma_max", "sigma_min") if (value := getattr(sampler.grid, name))]
    reasons = [
        f"Consistent annealed sampling, with {counted(sampler.steps, 'network evaluation')} per image. A sampler may "
        "change after training: `ncsnx compare` measures which comes nearest to the images.",
        f"The published one takes {counted(plan.evaluations, 'evaluation')} per image. Its T (technique 4) is as large "
        "as the compute allows, as published for similar numbers of levels; its ε brings the noise's variance after a "
        f"level, in units of σ², as close to 1 as possible, {plan.remaining_variance:.4f}. On the command line:",
    ]
    grid = f"Karras({', '.join([f'rho={sampler.grid.rho!r}', *ends])})"
    return [
        *_lines(reasons),
        f"#   {typed(published_sampler(plan))}",
        f"sampler=ConsistentAnnealed(steps={sampler.steps}, grid={grid}),",
    ]


def _training(survey: Survey, measured: MeasuredData) -> list[str]:
    experiment = survey.experiment
    batch, steps, images = experiment.batch_size, experiment.steps, measured.distances.images
    optimizer, ema, snapshots = experiment.optimizer, experiment.ema, experiment.snapshots
    assert isinstance(optimizer, Adam)
    assert ema is not None
    fields = ("lr",) if optimizer.eps == 1e-8 else ("lr", "eps")
    rate = "As published" if optimizer.lr == 1e-4 else "Higher than the published 1e-4, since the network is narrow"
    window = ", as published" if ema.rate == 0.999 else "; the published 0.999 is for longer trainings"
    epochs = f"Each training image is seen {counted(batch * steps / images, 'time')} (CIFAR-10 as published: {EPOCHS})."
    return [
        *comment(f"{rate}."),
        f"optimizer={_call(optimizer, *fields)},",
        *comment(f"Averages the weights of about {counted(1 / (1 - ema.rate), 'step')} (technique 5){window}."),
        f"ema=Ema(rate={ema.rate!r}),",
        *comment(epochs),
        f"batch_size={batch},",
        f"steps={_whole(steps)},",
        f"checkpoint_every={_whole(experiment.checkpoint_every)},",
        *_snapshots(snapshots),
    ]


def _precision(survey: Survey) -> list[str]:
    """A comment where bf16 is faster; what it costs in quality is for the reader to weigh."""
    if (proposal := survey.bf16_proposal) is None:
        return []
    text = f"On the machine that wrote this file, {proposal}, and computed less exactly."
    return [*comment(text), *comment('precision="bf16",')]


def _snapshots(snapshots: Snapshots | None) -> list[str]:
    if snapshots is None:
        return [*comment("Drawing grids of samples would take more than a tenth of the training."), "snapshots=None,"]
    when = "at every checkpoint" if snapshots.every == 1 else f"every {counted(snapshots.every, 'checkpoint')}"
    every = "" if snapshots.every == 1 else f", every={snapshots.every}"
    return [
        *comment(f"A grid of n samples is drawn {when}, and at the end of the training."),
        f"snapshots=Snapshots(n={snapshots.n}{every}),",
    ]


def _call(part: object, *fields: str) -> str:
    return f"{type(part).__name__}({', '.join(f'{field}={getattr(part, field)!r}' for field in fields)})"


def _whole(value: int) -> str:
    return f"{value:_}" if value >= 1_000 else str(value)


def _lines(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in comment(text)]
