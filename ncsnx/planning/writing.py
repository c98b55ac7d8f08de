"""Text of the experiment file that `ncsnx new` writes, with the reasons for its values."""

import keyword
import textwrap
from typing import Any

import attrs

from ncsnx.config import Arrays, ConsistentAnnealed, Experiment, OwnData, Packed, UNet
from ncsnx.config.data_sets import Volumes
from ncsnx.config.image_sizes import size_in_words
from ncsnx.config.model import LogNormal, RefineNetModel
from ncsnx.config.overrides import typed
from ncsnx.data.decoding import HEIC_EXTRA
from ncsnx.planning.budget import in_short
from ncsnx.planning.experiment_proposal import EPOCHS, SMALL_SET, long_side, published_sampler, usual_width
from ncsnx.planning.survey import MeasuredData, Survey
from ncsnx.quantities import counted
from ncsnx.samplers.building import expected_evaluations

_TEMPLATE = '''\
"""An experiment on your own images, written by `ncsnx new`. Change it as you like.

The noise levels are those of `ncsnx plan` (techniques 1 and 2 of Song & Ermon 2020, arXiv 2006.09011).
{scale}
"""

from ncsnx.config import (
{imports}
)

{variable} = register(
    Experiment(
        name={name},
{fields}
    )
)
'''
_OF_DATA = {
    "random_crop": "Size of the stored images. Training crops images of image_size from them at random.",
    "complex": "Real and imaginary parts are two channels.",
    "scale": "The values have no bounds. scale, which becomes 1, is the 99th percentile of their magnitudes.",
    "low": "Values of black and white: the usual range that contains the values in the file.",
    "gif": "The first frame of each GIF is an image.",
    "heic": f"HEIC needs an extra: {HEIC_EXTRA}",
    "on_error": "Some files cannot be read; they are skipped, with a warning at every start.",
}
"""Comments on fields of the data."""


def experiment_source(survey: Survey, measured: MeasuredData) -> str:
    """The text of a file that registers the survey's experiment.

    Untrusted text (paths, names of pictures) only appears in string literals and, made printable, in comments.
    """
    name, experiment = survey.experiment.name, survey.experiment
    is_free = name.isidentifier() and not keyword.iskeyword(name) and name != "register" and not name[0].isupper()
    fields: list[tuple[str, str, Any]] = [
        ("data", _about_data(experiment.data, measured), experiment.data),
        ("schedule", _about_noise(survey, measured), experiment.schedule),
        ("model", _about_network(survey), experiment.model),
        ("sampler", _about_sampler(survey), experiment.sampler),
        *_training(survey, measured),
    ]
    parts = [value for _, _, value in fields if attrs.has(type(value))]
    classes = {type(part).__name__ for part in [*parts, getattr(experiment.sampler, "grid", None)] if part}
    lines = [
        line
        for field, why, value in fields
        for line in (*comment(why), *_assigned(field, value, _OF_DATA if field == "data" else {}))
    ]
    if survey.bf16_proposal is not None:
        lines += comment(f"On the machine that wrote this file, {survey.bf16_proposal}, and computed less exactly.")
        lines += comment('precision="bf16",')
    return _TEMPLATE.format(
        scale="\n".join(_about_scale(survey)),
        imports="\n".join(f"    {imported}," for imported in [*sorted({*classes, "Experiment"}), "register"]),
        variable=name if is_free else "experiment",
        name=_literal(name),
        fields=textwrap.indent("\n".join(lines), "        "),
    )


def comment(text: str) -> list[str]:
    """The text as lines of comment, one paragraph for each of its lines; what isn't printable becomes '�'."""
    printable = ("".join(letter if letter.isprintable() else "�" for letter in line) for line in text.split("\n"))
    return [f"# {line}" for paragraph in printable for line in textwrap.wrap(paragraph, 100)]


def _assigned(field: str, value: Any, comments: dict[str, str]) -> list[str]:
    """Lines that give a field its value; an instance with comments takes a line for each of its fields."""
    if not comments:
        return [f"{field}={_literal(value)},"]
    lines = [f"{field}={type(value).__name__}("]
    for name, part in _fields(value).items():
        about = comment(comments[name]) if name in comments else []
        lines += [f"    {line}" for line in (*about, f"{name}={_literal(part)},")]
    return [*lines, "),"]


def _literal(value: Any) -> str:
    """A value as Python source."""
    if attrs.has(type(value)):
        return (
            f"{type(value).__name__}({', '.join(f'{name}={_literal(part)}' for name, part in _fields(value).items())})"
        )
    if isinstance(value, str) and value.isprintable():
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{value:_}" if type(value) is int and value >= 10_000 else ascii(value)


def _fields(part: Any) -> dict[str, Any]:
    """The fields of an instance that differ from their defaults, and those that the paper reports."""
    shown = ("image_size", "channels", "rate", "width", "lr", "steps", "sigma_min", "rho", "n")
    return {
        field.name: value
        for field in attrs.fields(type(part))
        if field.init and ((value := getattr(part, field.name)) != field.default or field.name in shown)
        if value is not None
    }


def _about_scale(survey: Survey) -> list[str]:
    """Lines of the docstring about the network and the size of the training."""
    fit, lines = survey.fit, list[str]()
    source = "Network, batch size and steps follow the experiments of Song & Ermon."
    if isinstance(survey.experiment.model, UNet):
        lines = ["Training noise, loss and preconditioning are those of Karras et al. 2022 (arXiv 2206.00364)."]
        source = "Batch size and steps follow the experiments of Song & Ermon."
    if fit is None or not fit.reductions:
        return [*lines, source]
    why = (
        f"to fit {in_short(fit.budget_s)} on the machine that wrote this file"
        if fit.budget_s
        else "as nothing was timed"
    )
    reduced = ", ".join(f"{what} {now} instead of {before}" for what, now, before in fit.reductions)
    return [
        *lines,
        f"The training is smaller than those of Song & Ermon, {why}:",
        f"{reduced}.",
        "For the published size: ncsnx new OTHER_NAME … --budget none",
    ]


def _about_data(data: Any, measured: MeasuredData) -> str:
    assert isinstance(data, OwnData)
    key, images = "index" if isinstance(data, Arrays) else "name", measured.distances.images
    split = f"chosen by a hash of each {key}, so that the choice stays when images are added"
    if isinstance(data, Volumes):
        split = "whole volumes, chosen by a hash of each name, or a block of slices of a single volume"
    if isinstance(data, Packed):
        split = "as packed"
    text = f"{counted(images, 'training image')}; {measured.held_out:,} held out, {split}."
    if images < SMALL_SET:
        text += " A network can memorise so few: watch the held-out loss (`ncsnx loss`)."
    text += " random_flip=True doubles the training images, if mirror images are plausible."
    if measured.unread:
        text += f"\nIn the folder or zip, {measured.unread}."
    return text


def _about_noise(survey: Survey, measured: MeasuredData) -> str:
    plan, distances = survey.plan, measured.distances
    first, second = (name if len(name) <= 40 else f"…{name[-39:]}" for name in measured.names)
    found = "largest distance" if distances.is_exact else "largest distance found"
    return (
        f"σ_1 (technique 1): the {found} between two training images is {distances.largest:.5g}, between {first!r} and "
        f"{second!r}. 99.9 % of the pairs are within {distances.quantile:.4g}."
        + ("" if distances.is_exact else f" It is an {distances.source}.")
        + f"\nL (technique 2): for images of {counted(plan.dimensions, 'value')}, neighbouring levels that overlap by "
        f"{plan.overlap:g} have a ratio of {plan.ratio:.5g}." + _about_training_noise(survey.experiment)
    )


def _about_training_noise(experiment: Experiment) -> str:
    schedule = experiment.schedule
    if not isinstance(schedule, LogNormal):
        return ""
    law = f"N({schedule.p_mean:g}, {schedule.p_std:g}²)"
    text = f"\nTraining draws ln σ from {law}. The L levels are those at which the held-out loss is measured, and of "
    text += "samplers that need levels."
    if experiment.data.is_bounded:
        text += " Black is -1 and white 1, so σ is twice as large as in [0, 1]."
    return text


def _about_network(survey: Survey) -> str:
    data, model = survey.experiment.data, survey.experiment.model
    assert isinstance(model, RefineNetModel | UNet)  # the model of every proposal
    published = {"NCSNv2": "up to 64", "NCSNv2Deeper": "up to 128", "NCSNv2Deepest": "256"}
    text, usual = "A U-Net that is conditional on σ", usual_width(long_side(data))
    if isinstance(model, RefineNetModel):
        text = f"The network published for {published[type(model).__name__]} px"
    if model.width < usual:
        return f"{text}, narrower than its usual width of {usual} to fit the time. A wider one gives finer images."
    if model.width < 128:
        pixels = size_in_words(data.shape[1:])
        return f"{text}, narrower than the published width of 128: {pixels} px need less, and a CPU can train it."
    return f"{text}, at its published width. width=64 takes a quarter of the time and gives less detailed images."


def _about_sampler(survey: Survey) -> str:
    plan, sampler = survey.plan, survey.experiment.sampler
    name = "Consistent annealed sampling" if isinstance(sampler, ConsistentAnnealed) else "Heun's method"
    per_image = expected_evaluations(sampler, survey.experiment.schedule.levels)
    return (
        f"{name}, with {counted(per_image, 'network evaluation')} per image. A sampler may "
        "change after training: `ncsnx compare` measures which comes nearest to the images.\n"
        f"That of NCSNv2 takes {counted(plan.evaluations, 'evaluation')} per image. Its T (technique 4) is as large "
        "as the compute allows, as published for similar numbers of levels; its ε brings the noise's variance after a "
        f"level, in units of σ², as close to 1 as possible, {plan.remaining_variance:.4f}. On the command line:\n"
        f"{typed(published_sampler(plan))}"
    )


def _training(survey: Survey, measured: MeasuredData) -> list[tuple[str, str, Any]]:
    """Field, reason and value of what determines the training."""
    experiment, images = survey.experiment, measured.distances.images
    assert experiment.ema is not None
    rate = (
        "As published."
        if experiment.optimizer.lr == 1e-4
        else "Higher than the published 1e-4, as the network is narrow."
    )
    further: list[tuple[str, str, Any]] = []
    if isinstance(experiment.model, UNet):
        rate = "Higher than published for NCSNv2, since it rises over warmup_steps and then falls to 0."
        warmup = "A twentieth of the steps, in which Adam learns the sizes of gradients."
        decay = "To 0 at the end, so that the last weights are settled. For more steps change both."
        weighting = "The weight at each σ with which the network learns all of them equally well."
        further = [
            ("warmup_steps", warmup, experiment.warmup_steps),
            ("decay", decay, experiment.decay),
            ("loss", weighting, experiment.loss),
        ]
    window = ", as published" if experiment.ema.rate == 0.999 else "; the published 0.999 is for longer trainings"
    seen = counted(experiment.batch_size * experiment.steps / images, "time")
    grids = "Drawing grids of samples would take more than a tenth of the training."
    if experiment.snapshots is not None:
        grids = "A grid of n samples is drawn every so many checkpoints, and at the end of the training."
    return [
        ("optimizer", rate, experiment.optimizer),
        *further,
        (
            "ema",
            f"Averages the weights of about {counted(1 / (1 - experiment.ema.rate), 'step')} (technique 5){window}.",
            experiment.ema,
        ),
        ("batch_size", f"Each training image is seen {seen} (CIFAR-10 as published: {EPOCHS}).", experiment.batch_size),
        ("steps", "", experiment.steps),
        ("checkpoint_every", "", experiment.checkpoint_every),
        ("snapshots", grids, experiment.snapshots),
    ]
