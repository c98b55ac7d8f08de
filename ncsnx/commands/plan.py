"""`ncsnx plan`: noise levels and sampler that follow from the data, their cost here, and differing values."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import DATA_PANEL, Command, argument, as_function, command, option
from ncsnx.commands.groups import Device, FieldChanges, Place, changed_words, overrides_of
from ncsnx.commands.sources import InSource, ReadSimply, meant, own, refuse_reading
from ncsnx.errors import UsageError
from ncsnx.noise.techniques import MOST_OVERLAP, OVERLAP
from ncsnx.quantities import counted
from ncsnx.results import Column, Result, Table
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment
    from ncsnx.data.readers.from_path import Reading
    from ncsnx.planning.survey import Survey
    from ncsnx.work import Work

NOISE_PANEL, TIME_PANEL = "Noise levels", "Training time"


@attrs.frozen(slots=False, kw_only=True)
class Planned(ReadSimply, Device):
    """How noise levels follow from data, and whether the network is timed."""

    overlap: Annotated[float, option(NOISE_PANEL, "C")] = OVERLAP
    """Overlap of neighbouring noise levels (technique 2)."""
    steps_per_level: Annotated[
        int | None,
        option(NOISE_PANEL, "T", default="3 to 5, by the number of levels", between=(1, 1_000_000)),
    ] = None
    """Steps per level of the published sampler."""
    seed: Annotated[int, option(NOISE_PANEL, "SEED", between=(0, 2**32 - 1))] = 0
    """Determines dequantization, and the sample of images in a set too large for all pairs."""
    no_timing: Annotated[bool, option(TIME_PANEL)] = False
    """Don't time the network."""

    def check(self) -> None:
        """Raises UsageError for an overlap that no levels have."""
        if not 0 < self.overlap < MOST_OVERLAP:
            raise UsageError(
                f"{parameter('overlap')} must be above 0 and below {MOST_OVERLAP:.4f}, not {self.overlap:g}"
            )

    def surveyed(self, experiment: "Experiment", folder: Path, work: "Work") -> "Survey":
        """The plan for the experiment's data."""
        from ncsnx.planning.survey import survey

        return survey(
            experiment,
            folder,
            work,
            overlap=self.overlap,
            steps_per_level=self.steps_per_level,
            seed=self.seed,
        )


@command("plan", panel=DATA_PANEL, place=110)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Plan(Planned, InSource, Command["PlannedTraining"]):
    """Plan noise levels and sampler from the data.

    Uses techniques 1, 2 and 4 of Song & Ermon (2020), and measures how long training and sampling take. For an
    experiment, lists what differs from its own values. Where its data isn't at hand, uses the experiment's σ_1 and
    says so.
    """

    source: Annotated["Experiment | Place", argument("EXPERIMENT|FOLDER", parse=values.name_or_path)] = attrs.field(
        kw_only=False
    )
    """An experiment (a name, FILE.py or FILE.py:NAME), or your own images: a folder, a zip, a file of arrays, or a
    packed data set."""
    changes: FieldChanges = attrs.field(default=(), kw_only=False)
    """Changes to the experiment, such as model.width=64."""

    def carry_out(self, work: "Work") -> "PlannedTraining":
        with work.at_once():
            self.check()

            from ncsnx.config.variants import load_plugins
            from ncsnx.planning.survey import data_remarks, plan_differences
            from ncsnx.planning.timing import time_experiment
            from ncsnx.sampling.bias import known_bias

            load_plugins("ncsnx.runtime")
            folder, changes, reading = self.data_folder(), changed_words(self.changes), self.reading()
            named = meant(self.source, changes, folder)
            if isinstance(named, Path):
                experiment = _changed(experiment_for("plan", named, reading, work), changes)
            else:
                refuse_reading(self.source, named.data, reading)
                experiment = named
        found = self.surveyed(experiment, folder, work)
        with work.at_once():
            if isinstance(named, Path):
                found = attrs.evolve(found, experiment=_proposed(found, changes))
            else:
                found = attrs.evolve(found, differences=tuple(plan_differences(experiment, found.plan)))
            if not self.no_timing:
                found = attrs.evolve(found, timing=time_experiment(found.experiment, self.runtime(), work))
        for remark in data_remarks(found.measured) if found.measured else []:
            work.warning(remark)
        if bias := known_bias(found.experiment.sampler, found.experiment):
            work.info(bias)
        named_by = str(self.source) if isinstance(self.source, Path | str) else self.source.name
        return PlannedTraining(survey=found, source=named_by, is_own=isinstance(named, Path))


def experiment_for(name: str, path: Path, reading: "Reading", work: "Work") -> "Experiment":
    """A draft for a person's own images, at a size that the networks accept."""
    from ncsnx.config.image_sizes import size_as_typed, size_in_words
    from ncsnx.planning.experiment_proposal import check_size, draft, fitted_to_network

    if reading.image_size is not None:
        check_size(reading.image_size)
    data = fitted_to_network(own(path, reading, work))
    if data.random_crop is not None:
        stored, size = size_in_words(data.random_crop), size_in_words(data.image_size)
        work.info(
            f"{path} holds images of {stored} pixels, which are not resized; training sees random crops of {size} "
            f"pixels (data.random_crop={size_as_typed(data.random_crop)})"
        )
    return draft(name, data)


def _proposed(found: "Survey", changes: list[str]) -> "Experiment":
    """The experiment of `ncsnx new --model ncsnv2 --budget none`."""
    from ncsnx.planning.experiment_proposal import propose

    assert found.measured is not None
    data, images = found.experiment.data, found.measured.distances.images
    return _changed(propose(found.experiment.name, data, found.plan, images), changes)


def _changed(experiment: "Experiment", changes: list[str]) -> "Experiment":
    from ncsnx.config.overrides import apply_overrides

    return apply_overrides(experiment, overrides_of(changes))


@attrs.frozen(kw_only=True, repr=False)
class PlannedTraining(Result):
    """Noise levels and sampler that follow from data, and what they cost here."""

    survey: "Survey"
    """The plan and its sources."""
    source: str
    is_own: bool
    """Whether the data is a person's own, so that there are no values of an experiment to compare with."""

    def shown(self) -> Sequence[Table | str]:
        found = self.survey
        compared = [] if self.is_own else [Column("own", "right")]
        rows = [
            [name, value, *([] if self.is_own else [own_value]), words]
            for name, value, own_value, words in (*_noise_rows(found), *_time_rows(found))
        ]
        parts: list[Table | str] = [
            Table(columns=[Column(""), Column("plan", "right"), *compared, Column("")], rows=rows)
        ]
        if not self.is_own and not found.differences:
            parts.append("\nThe experiment's own values equal the plan's, to rounding.")
        for difference in found.differences:
            own_value, planned = _value(difference.own), _value(difference.planned)
            parts.append(f"\n{difference.field}: {own_value}, planned {planned}: {difference.meaning}")
        return parts

    def closing(self) -> Sequence[str]:
        if not self.is_own:
            return []
        new = f"ncsnx new NAME --from {shlex.quote(self.source)} --budget 10h"
        return [f"this is the published training for such images\nfor one that fits a time budget here:  {new}"]

    def to_json(self) -> object:
        return self.survey.facts()

    def heading(self) -> tuple[str, str]:
        return "plan", self.survey.experiment.name


Row = tuple[str, str, str, str]
"""Name, plan's value, experiment's value, explanation."""


def _noise_rows(found: "Survey") -> list[Row]:
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


def _time_rows(found: "Survey") -> list[Row]:
    from ncsnx.planning.budget import span_of_time

    timing, per_image, training_s = found.timing, found.seconds_per_image, found.seconds_of_training
    if timing is None or per_image is None or training_s is None:
        return []
    experiment, images = found.experiment, counted(found.experiment.batch_size, "image")
    grids = "" if experiment.snapshots is None else ", and grids of samples"
    return [
        ("an evaluation", span_of_time(timing.seconds_per_evaluation), "", timing.timed),
        ("an image", span_of_time(per_image), "", ""),
        ("1,000 images", span_of_time(1000 * per_image), "", "of one checkpoint"),
        ("a training step", span_of_time(timing.step_of(experiment.batch_size)), "", f"of {images}"),
        ("training", span_of_time(training_s), "", f"{counted(experiment.steps, 'step')}{grids}"),
    ]


def _value(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


plan = as_function(Plan)
