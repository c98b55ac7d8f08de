"""Text of the experiment file that `ncsnx new` writes, with the reasons for its values."""

import textwrap
from typing import Any

import attrs

from ncsnx.config import Arrays, Experiment, Packed
from ncsnx.config.data_sets import Volumes, cuts_patches
from ncsnx.config.model import UNet
from ncsnx.config.overrides import as_words
from ncsnx.config.schedule import LogNormal
from ncsnx.errors import install_hint
from ncsnx.planning.budget import in_short
from ncsnx.planning.experiment_proposal import EPOCHS, SMALL_SET, published_sampler
from ncsnx.planning.survey import Distances, Survey
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

experiment = register(
    Experiment(
        name={name},
{fields}
    )
)
'''
_SHOWN = ("image_size", "channels", "rate", "width", "lr", "steps", "sigma_min", "rho", "n")
"""Fields of a value that are written also where they have their defaults: those that papers report."""
_SPLITS = {
    Arrays: "chosen by a hash of each index, so that the choice stays when images are added",
    Volumes: "whole volumes, chosen by a hash of each name, or a block of slices of a single volume",
    Packed: "as packed",
}
_SPLIT_OF_PICTURES = "chosen by a hash of each name, so that the choice stays when images are added"


def experiment_source(survey: Survey) -> str:
    """The text of a file that registers the survey's experiment.

    Untrusted text (paths, names of pictures) only appears in string literals and, made printable, in comments.
    """
    experiment, lines = survey.experiment, list[str]()
    parts = [experiment.data, experiment.sampler, getattr(experiment.sampler, "grid", None)]
    for name, why in _reasons(survey).items():
        value = getattr(experiment, name)
        parts.append(value)
        lines += [*comment(why), f"{name}={_literal(value)},"]
    classes = {type(part).__name__ for part in parts if attrs.has(type(part))}
    return _TEMPLATE.format(
        scale="\n".join(_about_scale(survey)),
        imports="\n".join(f"    {imported}," for imported in [*sorted({*classes, "Experiment"}), "register"]),
        name=_literal(experiment.name),
        fields=textwrap.indent("\n".join(lines), "        "),
    )


def comment(text: str) -> list[str]:
    """The text as lines of comment, one paragraph for each of its lines; what isn't printable becomes '�'."""
    printable = ("".join(letter if letter.isprintable() else "�" for letter in line) for line in text.split("\n"))
    return [f"# {line}" for paragraph in printable for line in textwrap.wrap(paragraph, 100)]


def _literal(value: Any) -> str:
    """A value as Python source; of instances, the fields that differ from their defaults, and _SHOWN."""
    if not attrs.has(type(value)):
        return ascii(value)
    fields = (
        f"{field.name}={_literal(part)}"
        for field in attrs.fields(type(value))
        if field.init and (part := getattr(value, field.name)) is not None
        if part != field.default or field.name in _SHOWN
    )
    return f"{type(value).__name__}({', '.join(fields)})"


def _about_scale(survey: Survey) -> list[str]:
    """Lines of the docstring about the network and the size of the training."""
    fit, lines = survey.fit, ["Batch size and steps follow the experiments of Song & Ermon."]
    if isinstance(survey.experiment.model, UNet):
        lines.append("Training noise, loss and preconditioning are those of Karras et al. 2022 (arXiv 2206.00364).")
    if fit is not None and fit.reductions:
        machine = "on the machine that wrote this file"
        why = f"to fit {in_short(fit.budget_s)} {machine}" if fit.budget_s else "as nothing was timed"
        reduced = ", ".join(f"{what} {now} instead of {before}" for what, now, before in fit.reductions)
        lines += [f"The training is smaller than those of Song & Ermon, {why}:", f"{reduced}."]
        lines.append("For the published size: ncsnx new OTHER_NAME … --budget none")
    return lines


def _reasons(survey: Survey) -> dict[str, str]:
    """The fields of the experiment that are written, with the reasons for their values."""
    experiment, distances = survey.experiment, survey.distances
    assert experiment.ema is not None
    assert distances is not None
    is_unet = isinstance(experiment.model, UNet)
    is_published = getattr(experiment.model, "width", None) == 128
    rate = "As published." if is_published else "Higher than the published 1e-4, since the network is narrower."
    of_unet: dict[str, str] = {}
    if is_unet:
        rate = "Higher than published for NCSNv2, since it rises over warmup_steps and then falls to 0."
        of_unet = {
            "warmup_steps": "A twentieth of the steps, in which Adam learns the sizes of gradients.",
            "decay": "To 0 at the end, so that the last weights are settled. For more steps change both.",
            "loss": "The weight at each σ with which the network learns all of them equally well.",
        }
    seen = counted(experiment.batch_size * experiment.steps / distances.images, "time")
    network = "A U-Net that is conditional on σ" if is_unet else "The network published for images of about this size"
    about_network = f"{network}. A wider one gives finer images and takes longer; the published width is 128."
    if getattr(experiment.model, "dropout", 0.0):
        about_network += " Dropout keeps it from learning the noise of so few images by heart."
    return {
        "data": _about_data(survey, distances.images),
        "schedule": _about_noise(survey, distances),
        "model": about_network,
        "sampler": _about_sampler(survey),
        "optimizer": rate,
        **of_unet,
        "ema": f"Averages the weights of about {counted(1 / (1 - experiment.ema.rate), 'step')} (technique 5); the "
        "published rate is 0.999.",
        "batch_size": f"Each training image is seen {seen} (CIFAR-10 as published: {EPOCHS}).",
        "steps": "",
        "checkpoint_every": "",
        "snapshots": "A grid of n samples is drawn every so many checkpoints, and at the end of the training.",
    }


def _about_data(survey: Survey, images: int) -> str:
    data = survey.experiment.data
    split = _SPLITS.get(type(data), _SPLIT_OF_PICTURES)
    held_out = f"{survey.held_out:,} held out, {split}" if survey.held_out else "none is held out"
    text = f"{counted(images, 'training image')}; {held_out}."
    if cuts_patches(data):
        text += " Each is a cell of a picture, in which its patch begins at a random place (patches=True)."
        text += " scales=(1.0, 0.5) would cut half of them from pictures reduced to half their size."
    if images < SMALL_SET:
        text += " A network can memorize so few" + (
            ": watch the held-out loss (`ncsnx loss`)." if survey.held_out else "."
        )
    text += " random_flip=True doubles the training images, if mirror images are plausible."
    if data.is_noisy:
        text += (
            f"\nThe images have noise, {data.noise_as_typed} ({survey.about_noise}). Training adds only what is "
            "missing at each σ above it, so that the network learns the clean images, and σ_L is that noise."
        )
    if data.gain:
        text += (
            " Its variance grows by `gain` per value, so the network sees a form of the values in which it is white "
            "(the generalized Anscombe transform)."
        )
    if survey.unread:
        text += f"\nIn the folder or zip, {survey.unread}."
    if getattr(data, "heic", False):
        text += f"\nHEIC needs an extra: {install_hint('heic').command}"
    if not data.is_bounded:
        text += "\nThe values have no bounds. scale, which becomes 1, is the 99th percentile of their magnitudes."
    return text


def _about_noise(survey: Survey, distances: Distances) -> str:
    plan = survey.plan
    first, second = (name if len(name) <= 40 else f"…{name[-39:]}" for name in distances.names)
    found = "largest distance" if distances.is_exact else "largest distance found"
    return (
        f"σ_1 (technique 1): the {found} between two training images is {distances.largest:.5g}, between {first!r} and "
        f"{second!r}. 99.9 % of the pairs are within {distances.quantile:.4g}."
        + ("" if distances.is_exact else f" It is an {distances.source}.")
        + f"\nL (technique 2): for images of {counted(plan.dimensions, 'value')}, neighboring levels that overlap by "
        f"{plan.overlap:g} have a ratio of {plan.ratio:.5g}." + _about_training_noise(survey.experiment)
    )


def _about_training_noise(experiment: Experiment) -> str:
    schedule = experiment.schedule
    if not isinstance(schedule, LogNormal):
        return ""
    bounds = " Black is -1 and white 1, so σ is twice as large as in [0, 1]." if experiment.data.is_bounded else ""
    return (
        f"\nTraining draws ln σ from N({schedule.p_mean:g}, {schedule.p_std:g}²). The L levels are those at which the "
        f"held-out loss is measured, and of samplers that need levels.{bounds}"
    )


def _about_sampler(survey: Survey) -> str:
    plan, sampler = survey.plan, survey.experiment.sampler
    per_image = expected_evaluations(sampler, survey.experiment.schedule.levels)
    return (
        f"{counted(per_image, 'network evaluation')} per image. A sampler may change after training: `ncsnx compare` "
        "measures which comes nearest to the images.\n"
        f"That of NCSNv2 takes {counted(plan.evaluations, 'evaluation')} per image. Its T (technique 4) is as large "
        "as the compute allows, as published for similar numbers of levels; its ε brings the noise's variance after a "
        f"level, in units of σ², as close to 1 as possible, {plan.remaining_variance:.4f}. On the command line:\n"
        f"{as_words(published_sampler(plan))}"
    )
