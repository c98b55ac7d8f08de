"""An experiment file that explains itself, as `ncsnx new` writes it: formatted as ruff does, 120 columns."""

import keyword
import unicodedata
from collections.abc import Sequence

from ncsnx.config import Adam, Arrays, ConsistentAnnealed, Experiment, Karras, OwnData, Packed, Snapshots
from ncsnx.config.data_sets import Images
from ncsnx.config.model import RefineNetModel
from ncsnx.data.pictures.decoding import HEIC_EXTRA
from ncsnx.planning.experiment_proposal import EPOCHS, SMALL_SET, network_for, usual_width
from ncsnx.planning.spans import in_short
from ncsnx.planning.survey import MeasuredData, Survey
from ncsnx.quantities import counted

WIDTH = 120
_INDENT = 8
_LONGEST_LITERAL = 90
_LONGEST_NAME = 40  # of a file, in a comment


def experiment_source(survey: Survey, measured: MeasuredData) -> str:
    """The text of a file that registers the survey's experiment, with the reasons for its values.

    Text that comes from outside (paths, names of pictures) only gets into string literals and, cut and made printable,
    into comments.
    """
    experiment = survey.experiment
    fields = [
        f'name="{experiment.name}",',
        *_data(experiment, measured),
        *_noise(survey, measured),
        *_network(survey),
        *_sampler(survey),
        *_training(survey, measured),
    ]
    variable = experiment.name if _is_free(experiment.name) else "experiment"
    return "\n".join(
        [
            '"""An experiment that `ncsnx new` wrote for the images that it names. It is yours to change.',
            "",
            "Noise levels and sampler are those of `ncsnx plan` (techniques 1, 2 and 4 of Song & Ermon 2020, arXiv "
            "2006.09011);",
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
    """Printable text as a Python string, in the quotes that ruff chooses."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


def comment(text: str) -> list[str]:
    """Lines of comment; no word of the text may be longer than a line."""
    lines = ["#"]
    for word in text.split(" "):
        if _columns(f"{lines[-1]} {word}") > WIDTH - _INDENT:
            lines.append("#")
        lines[-1] += f" {word}"
    return lines


def shown_text(text: str) -> str:
    """Text as a comment holds it: printable."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _shown(name: str) -> str:
    """A file's name as a comment holds it: printable, without spaces at which it could be wrapped, and not too long."""
    printable = shown_text(name)
    return printable if len(printable) <= _LONGEST_NAME else f"…{printable[1 - _LONGEST_NAME :]}"


def _is_free(name: str) -> bool:
    """Whether a name can be that of a variable of the file."""
    return name.isidentifier() and not keyword.iskeyword(name) and name != "register" and not name[0].isupper()


def _import(experiment: Experiment) -> list[str]:
    parts = (experiment.data, experiment.model, experiment.schedule, experiment.sampler, experiment.optimizer)
    classes = {type(part).__name__ for part in parts} | {"Ema", "Experiment"}
    if (snapshots := experiment.snapshots) is not None:
        quick = snapshots.sampler
        classes |= {type(snapshots).__name__, *(() if quick is None else (type(quick).__name__, "Karras"))}
    names = [*sorted(classes), "register"]
    # one a line, which formatters leave alone whatever width they are set to
    return ["from ncsnx.config import (", *(f"    {name}," for name in names), ")"]


def _data(experiment: Experiment, measured: MeasuredData) -> list[str]:
    data, distances = experiment.data, measured.distances
    assert isinstance(data, OwnData)
    of_what = "place" if isinstance(data, Arrays) else "name"
    split = "as the file says" if isinstance(data, Packed) else f"by a hash of each {of_what}, so that it stays"
    text = f"{counted(distances.images, 'training image')}; {measured.held_out:,} held out, {split}."
    if distances.images < SMALL_SET:
        text += " So few can be memorised: watch the held-out loss (`ncsnx loss`), and take an earlier checkpoint."
    text += " random_flip=True doubles them, where mirror images are as good."
    lines = comment(text)
    if measured.unread:
        lines += comment("Not read, of what lies in the folder or zip:")
        lines += [line for kind in measured.unread for line in comment(f"- {shown_text(str(kind))}")]
    return [*lines, f"data={type(data).__name__}(", *("    " + line for line in _fields(data)), "),"]


def _fields(data: OwnData) -> list[str]:
    if isinstance(data, Images):
        place, path = "root", data.root
    else:
        assert isinstance(data, Arrays | Packed)
        place, path = "path", data.path
    lines = [*_text_field(place, path), f"image_size={data.image_size},"]
    if data.random_crop is not None:
        lines += comment("Side of the stored images, from which squares are cropped: in training at random.")
        lines.append(f"random_crop={data.random_crop},")
    lines.append(f"channels={data.channels},")
    if isinstance(data, Arrays) and data.array is not None:
        lines += _text_field("array", data.array)
    if isinstance(data, Arrays):
        lines += [
            *comment("The values that are black and white: the usual range that those of the file lie in."),
            f"low={data.low!r},",
            f"high={data.high!r},",
        ]
    if isinstance(data, Images) and data.gif:
        lines += [*comment("Of each GIF the first frame is an image."), "gif=True,"]
    if isinstance(data, Images) and data.heic:
        lines += [*comment(f"Takes an extra: {HEIC_EXTRA}"), "heic=True,"]
    if isinstance(data, Images) and data.on_error == "skip":
        lines += [
            *comment("Some files cannot be read; they are left out, and counted at every start."),
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
    """The width of a line as ruff counts it: characters of East Asia take two columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _noise(survey: Survey, measured: MeasuredData) -> list[str]:
    plan, schedule, distances = survey.plan, survey.experiment.schedule, measured.distances
    first, second = (_shown(name) for name in measured.names)
    found = "the largest distance" if distances.exact else "the largest distance that was found"
    reasons = [
        f"σ_1 (technique 1): {found} between two training images is {distances.largest:.5g}, of {first} and {second}; "
        f"99.9 % of the pairs are within {distances.quantile:.4g}.",
        f"L (technique 2): {counted(plan.dimensions, 'number')} in an image and neighbouring levels that overlap by "
        f"{plan.overlap:g} make a ratio of {plan.ratio:.5g} between levels.",
    ]
    if not distances.exact:
        reasons.insert(1, f"That is an {distances.source}.")
    value = f"sigma_max={schedule.sigma_max!r}, sigma_min={schedule.sigma_min!r}, levels={schedule.levels}"
    return [*_lines(reasons), f"schedule=Geometric({value}),"]


def _scale_of(survey: Survey) -> list[str]:
    """Lines of the docstring about the size of the training."""
    fit = survey.fit
    if fit is None or not fit.reductions:
        return ["network, batch and steps follow the experiments published there."]
    if fit.budget_s is None:
        why = "this training is smaller than the ones published there, since nothing was timed:"
    else:
        why = f"of the trainings published there this fitted {in_short(fit.budget_s)} on the machine that wrote it:"
    reduced = ", ".join(f"{what} {now:,} instead of {before:,}" for what, now, before in fit.reductions)
    return [why, f"{reduced}.", "`ncsnx new OTHER_NAME … --budget none` writes the published one."]


def _network(survey: Survey) -> list[str]:
    experiment = survey.experiment
    size, model = experiment.data.image_size, experiment.model
    assert isinstance(model, RefineNetModel)  # as proposals have
    published = {"NCSNv2": "up to 64", "NCSNv2Deeper": "up to 128", "NCSNv2Deepest": "256"}
    kind, _ = network_for(size)
    text = f"The published network for {published[kind.__name__]} px"
    if model.width < usual_width(size):
        text += (
            f", narrower than its width of {usual_width(size)}, so that it trains in the time that there is; a wider "
        )
        text += "one makes finer images, where there is a GPU or more time."
    elif model.width < 128:
        text += f", narrower: {size} px need less than its width of 128, and a CPU can train this one."
    else:
        text += " and its width; width=64 takes a quarter of the time, with blunter images."
    return [*comment(text), f"model={type(model).__name__}(width={model.width}),"]


def _sampler(survey: Survey) -> list[str]:
    plan, sampler = survey.plan, survey.experiment.sampler
    reasons = [
        f"T is as large as the compute allows (technique 4): {plan.steps_per_level} for so many levels, as published; "
        f"an image takes {counted(plan.evaluations, 'evaluation')} of the network.",
        "ε (technique 4): the variance that remains at the end of a level comes closest to 1, "
        f"{plan.remaining_variance:.4f}.",
    ]
    return [*_lines(reasons), f"sampler={_call(sampler, 'step_size', 'steps_per_level')},"]


def _training(survey: Survey, measured: MeasuredData) -> list[str]:
    experiment = survey.experiment
    batch, steps, images = experiment.batch_size, experiment.steps, measured.distances.images
    optimizer, ema, snapshots = experiment.optimizer, experiment.ema, experiment.snapshots
    assert isinstance(optimizer, Adam)
    assert ema is not None
    fields = ("lr",) if optimizer.eps == 1e-8 else ("lr", "eps")
    rate = "As published" if optimizer.lr == 1e-4 else "Narrow networks take more than the published 1e-4"
    window = "As published" if ema.rate == 0.999 else "The published 0.999 is for longer trainings"
    epochs = (
        f"Each training image is seen {counted(batch * steps / images, 'time')} (CIFAR-10, as published: {EPOCHS})."
    )
    return [
        *comment(f"{rate}."),
        f"optimizer={_call(optimizer, *fields)},",
        *comment(f"{window}: the average goes back about {counted(1 / (1 - ema.rate), 'step')} (technique 5)."),
        f"ema=Ema(rate={ema.rate!r}),",
        *comment(epochs),
        f"batch_size={batch},",
        f"steps={_whole(steps)},",
        f"checkpoint_every={_whole(experiment.checkpoint_every)},",
        *_snapshots(snapshots),
    ]


def _snapshots(snapshots: Snapshots | None) -> list[str]:
    if snapshots is None:
        return [*comment("Grids of samples would take more than a tenth of the training."), "snapshots=None,"]
    when = "at each checkpoint" if snapshots.every == 1 else f"at one in {counted(snapshots.every, 'checkpoint')}"
    lines = comment(f"Images of the grid that is drawn {when}, and at the end of a training of any length.")
    if (quick := snapshots.sampler) is None:
        every = "" if snapshots.every == 1 else f", every={snapshots.every}"
        return [*lines, f"snapshots=Snapshots(n={snapshots.n}{every}),"]
    assert isinstance(quick, ConsistentAnnealed)
    assert isinstance(quick.grid, Karras)
    lines += comment(
        f"By a sampler of {counted(quick.steps, 'evaluation')}: with the experiment's own the grids would take more "
        "than a tenth of the training."
    )
    ends = [f"{name}={value!r}" for name in ("sigma_max", "sigma_min") if (value := getattr(quick.grid, name))]
    grid = f"Karras({', '.join([f'rho={quick.grid.rho!r}', *ends])})"
    return [
        *lines,
        "snapshots=Snapshots(",
        f"    n={snapshots.n},",
        *([f"    every={snapshots.every},"] if snapshots.every > 1 else []),
        f"    sampler=ConsistentAnnealed(steps={quick.steps}, order={quick.order}, grid={grid}),",
        "),",
    ]


def _call(part: object, *fields: str) -> str:
    return f"{type(part).__name__}({', '.join(f'{field}={getattr(part, field)!r}' for field in fields)})"


def _whole(value: int) -> str:
    return f"{value:_}" if value >= 1_000 else str(value)


def _lines(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in comment(text)]
