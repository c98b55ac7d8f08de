"""`ncsnx plan`: noise levels and sampler that follow from the data, and their cost here."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, argument, as_function, command, option
from ncsnx.commands.given_data import InNamedData, ReadSimply, named_source, own, refuse_reading
from ncsnx.commands.groups import SEEDS, Device, FieldChanges, Place, changed_words, overrides_of
from ncsnx.errors import UsageError
from ncsnx.results import Result
from ncsnx.schedules.techniques import MOST_OVERLAP, OVERLAP
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.config.data_sets import OwnData
    from ncsnx.config.experiment import Experiment
    from ncsnx.data.readers.from_path import Reading
    from ncsnx.planning.survey import Survey
    from ncsnx.work import Work

NOISE_PANEL, TIME_PANEL = "Noise levels", "Training time"


@attrs.frozen(slots=False, kw_only=True)
class Planned(ReadSimply, Device):
    """How noise levels follow from data, and whether the network is timed."""

    overlap: Annotated[float, option(NOISE_PANEL, "C")] = OVERLAP
    """Overlap of neighboring noise levels (technique 2)."""
    steps_per_level: Annotated[
        int | None,
        option(NOISE_PANEL, "T", default="3 to 5, by the number of levels", between=(1, 1_000_000)),
    ] = None
    """Steps per level of the published sampler."""
    seed: Annotated[int, option(NOISE_PANEL, "SEED", between=SEEDS)] = 0
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


@command("plan", panel=Panel.DATA, order=110)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Plan(Planned, InNamedData, Command["PlannedTraining"]):
    """Plan noise levels and sampler from the data.

    Uses techniques 1, 2 and 4 of Song & Ermon (2020), and measures how long training and sampling take. For your own
    images, the training is the published one for images of their size. Where the data of an experiment isn't at hand,
    uses the experiment's σ_1 and says so.
    """

    source: Annotated["Experiment | Place", argument("EXPERIMENT|FOLDER", parse=values.name_or_path)] = attrs.field(
        kw_only=False
    )
    """An experiment (a name, FILE.py or FILE.py:NAME), or your own images: a folder, a zip, a file of arrays, or a
    packed data set."""
    changes: FieldChanges = attrs.field(default=(), kw_only=False)
    """Changes to the experiment, such as model.width=64."""

    def carry_out(self, work: "Work") -> "PlannedTraining":
        with work.interruptible():
            self.check()

            from ncsnx.config.variants import load_plugins
            from ncsnx.planning.experiment_proposal import draft, propose
            from ncsnx.planning.timing import time_experiment

            load_plugins("ncsnx.runtime")
            folder, changes, reading = self.data_folder(), changed_words(self.changes), self.reading()
            named = named_source(self.source, changes, folder)
            if isinstance(named, Path):
                experiment = _changed(draft("plan", data_for(named, reading, work)), changes)
            else:
                refuse_reading(self.source, named.data, reading)
                experiment = named
        found = self.surveyed(experiment, folder, work)
        with work.interruptible():
            if isinstance(named, Path):
                assert found.distances is not None
                data, images = found.experiment.data, found.distances.images
                proposed = propose(found.experiment.name, data, found.plan, images)
                found = attrs.evolve(found, experiment=_changed(proposed, changes))
            if not self.no_timing:
                found = attrs.evolve(found, timing=time_experiment(found.experiment, self.runtime(), work))
        return PlannedTraining(survey=found, own=str(self.source) if isinstance(named, Path) else None)


def data_for(path: Path, reading: "Reading", work: "Work") -> "OwnData":
    """A person's own images, at a size that the networks accept."""
    from ncsnx.config.image_sizes import size_as_words, size_in_words
    from ncsnx.planning.experiment_proposal import check_size, fitted_to_network

    if reading.image_size is not None:
        check_size(reading.image_size)
    data = fitted_to_network(own(path, reading, work))
    if data.random_crop is not None:
        stored, size = size_in_words(data.random_crop), size_in_words(data.image_size)
        work.info(
            f"{path} holds images of {stored} pixels, which are not resized; training sees random crops of {size} "
            f"pixels (data.random_crop={size_as_words(data.random_crop)})"
        )
    return data


def _changed(experiment: "Experiment", changes: list[str]) -> "Experiment":
    from ncsnx.config.overrides import apply_overrides

    return apply_overrides(experiment, overrides_of(changes))


@attrs.frozen(kw_only=True, repr=False)
class PlannedTraining(Result):
    """Noise levels and sampler that follow from data, and what they cost here."""

    survey: "Survey"
    """The plan and its sources."""
    own: str | None
    """The images of a person's own that it was made for; None for an experiment."""

    def shown(self) -> Sequence[str]:
        return self.survey.lines()

    def closing(self) -> Sequence[str]:
        if self.own is None:
            return []
        return [f"to fit the training into a time:  ncsnx new NAME --from {shlex.quote(self.own)} --budget 10h"]

    def to_json(self) -> object:
        return self.survey.facts()

    def heading(self) -> tuple[str, str]:
        return "plan", self.survey.experiment.name


plan = as_function(Plan)
