"""`ncsnx new`: makes a commented experiment file for a folder of images."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, argument, as_function, command, option
from ncsnx.commands.given_data import READING_PANEL, reading_of
from ncsnx.commands.groups import InData, Place
from ncsnx.commands.plan import TIME_PANEL, Planned, data_for
from ncsnx.errors import Hint, UsageError
from ncsnx.results import Result
from ncsnx.spelling import argument as spelled
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.config.data_sets import OwnData
    from ncsnx.config.experiment import Experiment
    from ncsnx.planning.survey import Survey
    from ncsnx.work import Work


@command("new", panel=Panel.DATA, order=120)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class New(Planned, InData, Command["NewExperiment"]):
    """Write an experiment for your own images.

    The noise levels follow from the data, and the training fits a time budget: the network is timed, and steps, width,
    batch and, without `size`, the images are reduced until the training fits. The file says why each value is what it
    is, and is yours to change. Nothing is overwritten. Then type `ncsnx train NAME`.
    """

    name: Annotated[str, argument("NAME")] = attrs.field(kw_only=False)
    """Name of the experiment, and of its file."""
    source: Annotated[Place, option(READING_PANEL, "PATH", "--from", parse=values.name_or_path)] = attrs.field(
        kw_only=False
    )
    """Pictures (a folder or zip), a file of arrays, or a packed data set."""
    array: Annotated[str | None, option(READING_PANEL, "NAME")] = None
    """Name of the images' array, in a file of several arrays."""
    patches: Annotated[bool, option(READING_PANEL)] = False
    """Cut images from the pictures, at their own resolution, instead of resizing whole pictures."""
    noise: Annotated[
        float | Literal["auto"] | None,
        option(READING_PANEL, "STD|auto", default="the images are clean", parse=values.noise),
    ] = None
    """Standard deviation of the noise that the images already have, in their own values; of pictures, where black is 0
    and white 1, and they are cut into patches. auto: estimated. The network learns the clean images."""
    gain: Annotated[
        float | None,
        option(READING_PANEL, "G", default="the noise doesn't grow with the values", parse=values.fraction),
    ] = None
    """Variance of the noise per value, of images of counted photons: the value of one. `noise` is the read noise."""
    model: Annotated[
        Literal["ncsnv2", "unet"] | None,
        option(TIME_PANEL, "NAME", default="unet for patches, and up to 32 px, but for data without bounds"),
    ] = None
    """Network: ncsnv2, the published one for images of this size, or unet, a U-Net that is conditional on σ."""
    budget: Annotated[str, option(TIME_PANEL, "TIME")] = "10h"
    """Time that the training may take on this machine: 90s, 30m, 2h or 1d; none: the published training."""
    steps: Annotated[
        int | None, option(TIME_PANEL, "N", default="as many as fit the budget", between=(1, 1_000_000_000))
    ] = None
    """Training steps, whatever the budget."""
    out: Annotated[Place, option(Panel.OUTPUT, "DIR", parse=values.folder)] = Path("experiments")
    """Folder of the file."""

    def carry_out(self, work: "Work") -> "NewExperiment":
        with work.interruptible():
            self.check()

            from ncsnx.config.data_sets import Images
            from ncsnx.data import open_data
            from ncsnx.planning.budget import fit, parse_budget, timed_here
            from ncsnx.planning.experiment_proposal import draft, preferred_network, propose
            from ncsnx.planning.suggestions import suggest_patches, suggest_photographs
            from ncsnx.planning.writing import experiment_source
            from ncsnx.storage import atomic
            from ncsnx.work import ignore_message

            path = self._free_place()
            budget_s = parse_budget(self.budget)
            own, why = self._data(work)
            # without messages: the survey opens the data again
            silent = attrs.evolve(work, info=ignore_message, warning=ignore_message)
            count = len(open_data(own, self.data_folder(), silent).train)
            clock = None if self.no_timing else timed_here(self.name, self.model, self.device, self.threads, work)
            fitted = fit(own, count, clock, budget_s, steps=self.steps, size_is_free=self.size is None)
            network = self.model or preferred_network(fitted.data)
        found = self.surveyed(draft(self.name, fitted.data, network), self.data_folder(), work)
        with work.interruptible():
            assert found.distances is not None
            data, images = found.experiment.data, found.distances.images
            experiment = propose(self.name, data, found.plan, images, fitted.scale, network, found.classes)
            found = attrs.evolve(found, experiment=experiment, timing=fitted.timing, fit=fitted, about_noise=why)
            atomic.make_folder(path.parent)
            atomic.write_new(path, experiment_source(found).encode())
        for line in found.lines():
            work.info(line)
        fitted.say(found.seconds_of_training, work)
        if found.classes > 1 and not experiment.model.classes:
            work.info(
                f"the data has {found.classes} classes, not used; a U-Net takes them: model.classes={found.classes}"
            )
        if isinstance(experiment.data, Images) and experiment.data.patches:
            suggest_photographs(self.name, experiment.data, self._images(), self.budget, work)
        elif isinstance(experiment.data, Images):
            suggest_patches(experiment.data, self._images(), work)
        return NewExperiment(survey=found, path=path)

    def _data(self, work: "Work") -> "tuple[OwnData, str]":
        """The data set, and where its noise comes from, in words; '' for clean images."""
        from ncsnx.config.checks import FieldError
        from ncsnx.config.data_sets import Arrays
        from ncsnx.data.readers.from_path import holds_pictures
        from ncsnx.planning.noise_of_images import noise_of_images

        reading, path = reading_of(self), self._images()
        if self.noise is None and self.gain is None:
            return data_for(path, reading, work), ""
        values.require_no_gain(self.noise, self.gain)
        if holds_pictures(path):
            reading = attrs.evolve(reading, patches=True)
        data = data_for(path, reading, work)
        if self.noise == "auto":
            found = noise_of_images(data, self.data_folder(), work)
            gain, noise, why = found.gain, found.noise, found.how
            typed = " ".join(spelled(name, value) for name, value in found.given.items())
            work.info(f"noise: {found.in_words}, {why}; if it looks wrong, say it:  {typed}")
        else:
            gain, noise, why = self.gain or 0.0, self.noise or 0.0, "as given"
        if gain and isinstance(data, Arrays) and data.low:  # below 0 is read noise of no light
            data = attrs.evolve(data, range="unbounded", low=0.0, high=255.0)
        try:
            return attrs.evolve(data, gain=gain, noise=noise), why
        except FieldError as error:
            raise UsageError(f"{parameter(error.field)} {error.complaint}") from error

    def _free_place(self) -> Path:
        """The path of the new file. Raises UsageError for a name that is invalid or taken."""
        from ncsnx.config.discovery import discover
        from ncsnx.runs.names import check_file_name

        path = Path(self.out) / f"{check_file_name(self.name, 'an experiment', Hint('give another name'))}.py"
        if os.path.lexists(path):
            raise UsageError(f"{path} already exists; choose another name, or move it away first")
        for found in discover():
            registered = [one.experiment.name for one in found.file.registered] if found.file else [found.path.stem]
            if self.name in registered:
                raise UsageError(f"the experiment {self.name} already exists, in {found.path}; choose another name")
        return path

    def _images(self) -> Path:
        """The file or folder of the images. Raises UsageError."""
        from ncsnx.data import DataMissingError
        from ncsnx.data.places import existing_path

        try:
            return existing_path(str(self.source), self.data_folder())
        except DataMissingError as error:
            raise UsageError(
                f"{parameter('source')} {self.source} does not exist, here or in {self.data_folder()}; expected "
                "pictures (a folder or zip), a file of arrays, or a packed data set"
            ) from error


@attrs.frozen(kw_only=True, repr=False)
class NewExperiment(Result):
    """An experiment in a new file."""

    survey: "Survey"
    """The plan and the measurements that its values follow from."""
    path: Path

    @property
    def experiment(self) -> "Experiment":
        """The experiment in the file."""
        return self.survey.experiment

    def shown(self) -> Sequence[str]:
        return [str(self.path)]

    def closing(self) -> Sequence[str]:
        from ncsnx.config import UNet
        from ncsnx.config.data_sets import cuts_patches
        from ncsnx.data.read_ahead import processors

        is_known = self.path.parent == Path("experiments")
        experiment = shlex.quote(self.experiment.name if is_known else str(self.path))
        train = f"ncsnx train {experiment}"
        alone = self.survey.timing is not None and self.survey.timing.threads == 1 < processors()
        lines = [f"next: {train} {spelled('threads', 1)}" if alone else f"next: {train}"]
        name, one = shlex.quote(self.experiment.name), self.experiment
        if isinstance(one.model, UNet) and not one.data.is_noisy and not cuts_patches(one.data):
            rate = f"optimizer.lr={one.optimizer.lr / 10:.1g}"
            tune = f"ncsnx train {experiment} loss=consistency --from {name} --run {name}-fast {rate}"
            lines.append(f"then, for samples in two evaluations: {tune}")
        return lines

    def to_json(self) -> object:
        return {"path": str(self.path), **self.survey.facts()}

    def heading(self) -> tuple[str, str]:
        return self.experiment.name, str(self.path)


new = as_function(New)
