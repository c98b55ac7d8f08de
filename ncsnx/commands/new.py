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
from ncsnx.quantities import counted
from ncsnx.results import Result
from ncsnx.spelling import argument as spelled
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.config.data_sets import Data, Images, OwnData
    from ncsnx.config.experiment import Experiment
    from ncsnx.planning.budget import Fit, TimeOf
    from ncsnx.planning.survey import Survey
    from ncsnx.planning.timing import Timing
    from ncsnx.work import Work


_FEW_PICTURES, _SHORT = 1_000, 4 * 3_600
"""Pictures and seconds below which a network of photographs that starts from nothing stays behind the one that comes
along, which took 23 pictures of 4K and 8 hours of a processor core."""


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

            from ncsnx.planning.budget import parse_budget

            path = self._free_place()
            budget_s = parse_budget(self.budget)

            from ncsnx.planning.experiment_proposal import draft, preferred_network, propose
            from ncsnx.planning.writing import experiment_source
            from ncsnx.storage import atomic

            own, why = self._data(work)
            fit = self._fitted(own, budget_s, work)
            network = self.model or preferred_network(fit.data)
        found = self.surveyed(draft(self.name, fit.data, network), self.data_folder(), work)
        with work.interruptible():
            assert found.distances is not None
            data, images = found.experiment.data, found.distances.images
            experiment = propose(self.name, data, found.plan, images, fit.scale, network, found.classes)
            found = attrs.evolve(found, experiment=experiment, timing=fit.timing, fit=fit, about_noise=why)
            atomic.make_folder(path.parent)
            atomic.write_new(path, experiment_source(found).encode())
        for line in found.lines():
            work.info(line)
        _say_budget(found, fit, work)
        if found.classes > 1 and not experiment.model.classes:
            work.info(
                f"the data has {found.classes} classes, not used; a U-Net takes them: model.classes={found.classes}"
            )
        self._suggest_patches(experiment.data, work)
        return NewExperiment(survey=found, path=path)

    def _data(self, work: "Work") -> "tuple[OwnData, str]":
        """The data set, and where its noise comes from, in words; '' for clean images."""
        from ncsnx.config.checks import FieldError
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

    def _suggest_patches(self, data: "Data", work: "Work") -> None:
        """Says how to cut patches, where most pictures are much larger than the images that they become."""
        from ncsnx.config.data_sets import Images
        from ncsnx.data.readers.own_images import picture_files
        from ncsnx.data.scan import scan_of
        from ncsnx.planning.experiment_proposal import MUCH_LARGER

        if not isinstance(data, Images):
            return
        if data.patches:
            self._recommend_photographs(data, work)
            return
        scan, (height, width) = scan_of(picture_files(data, self._images()), work), data.stored_size
        if scan.smaller_than((MUCH_LARGER * height, MUCH_LARGER * width)) < scan.sound / 2:
            work.info(
                f"most pictures have at least {MUCH_LARGER} times the height and width of the images, which lose their "
                "details\nto learn these from patches, repeat the command with another name, and add "
                f"{spelled('patches', True)}"
            )

    def _recommend_photographs(self, data: "Images", work: "Work") -> None:
        """Says that a training from the weights that come along is better, for few pictures or little time."""
        from ncsnx.data.readers.own_images import picture_files
        from ncsnx.planning.budget import parse_budget

        budget, count = parse_budget(self.budget), len(picture_files(data, self._images()))
        if data.channels == 3 and (count < _FEW_PICTURES or (budget is not None and budget < _SHORT)):
            folder, run = shlex.quote(str(self.source)), shlex.quote(f"{self.name}-photographs")
            work.info(
                f"for photographs, {counted(count, 'picture')} in {self.budget} restore better if the training starts "
                f"from the model that comes along:  ncsnx train photographs --from photographs --run {run} "
                f"data.root={folder}"
            )

    def _clock(self, work: "Work") -> "TimeOf":
        """Times networks on this machine: the one that is asked for, or that is favored at each image size."""
        import torch

        from ncsnx.config.image_sizes import size_in_words
        from ncsnx.planning.experiment_proposal import draft, preferred_network
        from ncsnx.planning.timing import time_experiment
        from ncsnx.runtime import Runtime

        usual = self.runtime()
        # where other programs use the processors, threads that wait for each other take longer than one
        counts = [usual.threads, 1] if self.threads is None and usual.device.type == "cpu" else [usual.threads]

        def time_of(data: "OwnData", width: int, batch_size: int) -> "Timing":
            work.info(f"timing a network of width {width} at {size_in_words(data.shape[1:])} px")
            kind = self.model or preferred_network(data)
            experiment, timings = draft(self.name, data, kind, width=width, batch_size=batch_size), {}
            try:
                for threads in dict.fromkeys(counts):
                    runtime = Runtime.choose(device=self.device, threads=threads)
                    timings[threads] = time_experiment(experiment, runtime, work)
            finally:
                torch.set_num_threads(usual.threads)
            counts[:] = [min(timings, key=lambda threads: timings[threads].step_of(batch_size))]
            return timings[counts[0]]

        return time_of

    def _fitted(self, data: "OwnData", budget_s: float | None, work: "Work") -> "Fit":
        """The training that fits the budget, or the published one."""
        from ncsnx.data import open_data
        from ncsnx.planning.budget import as_published, fit, untimed
        from ncsnx.work import ignore_message

        # without messages: the survey opens the data again
        silent = attrs.evolve(work, info=ignore_message, warning=ignore_message)
        images = len(open_data(data, self.data_folder(), silent).train)
        clock = None if self.no_timing else self._clock(work)
        if budget_s is None:
            return as_published(data, images, self.steps, clock)
        if clock is None:
            return untimed(data, images, self.steps)
        return fit(data, images, clock, budget_s, steps=self.steps, size_is_free=self.size is None)


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
        train = f"ncsnx train {shlex.quote(self.experiment.name if is_known else str(self.path))}"
        alone = self.survey.timing is not None and self.survey.timing.threads == 1 < processors()
        lines = [f"next: {train} {spelled('threads', 1)}" if alone else f"next: {train}"]
        name, one = shlex.quote(self.experiment.name), self.experiment
        if isinstance(one.model, UNet) and not one.data.is_noisy and not cuts_patches(one.data):
            rate = f"optimizer.lr={one.optimizer.lr / 10:.1g}"
            tune = f"ncsnx train {name} loss=consistency --from {name} --run {name}-fast {rate}"
            lines.append(f"then, for samples in two evaluations: {tune}")
        return lines

    def to_json(self) -> object:
        return {"path": str(self.path), **self.survey.facts()}

    def heading(self) -> tuple[str, str]:
        return self.experiment.name, str(self.path)


def _say_budget(found: "Survey", fit: "Fit", work: "Work") -> None:
    """Says what was reduced to fit the budget and how to write other trainings, and warns of a budget exceeded."""
    from ncsnx.planning.budget import in_short

    reduced = ", ".join(f"{what} {now} instead of {before}" for what, now, before in fit.reductions)
    published = f"add {spelled('budget', 'none')}"
    if fit.budget_s is None:
        if reduced:
            timing = parameter("no_timing")
            work.warning(
                f"nothing was timed ({timing}), so no budget could be applied, and this is a small training: "
                f"{reduced}\nfor one that fits a budget, leave out {timing}; for the published training, {published}"
            )
        return
    if reduced:
        work.info(f"reduced to fit {in_short(fit.budget_s)} on this machine: {reduced}")
        work.info(f"to write the published training, repeat the command with another name, and {published}")
    if found.seconds_of_training is not None and found.seconds_of_training > fit.budget_s:
        fits = f"for one that fits, leave out {parameter('steps')}"
        work.warning(f"the training exceeds the budget of {in_short(fit.budget_s)}; {fits}")


new = as_function(New)
