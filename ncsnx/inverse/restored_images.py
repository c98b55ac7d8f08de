"""Images that agree with measurements, as `restore` returns them."""

from collections.abc import Sequence
from pathlib import Path

import attrs

from ncsnx.inverse.calibration import CALIBRATION_TITLES, Calibration, calibration_in_words, calibration_rows
from ncsnx.inverse.posterior_maps import POSTERIOR_FILE, PosteriorMaps, read_posterior
from ncsnx.inverse.task_record import CALIBRATION_FILE, PictureRecord, TaskRecord, misfit_in_words
from ncsnx.quantities import counted
from ncsnx.results import Column, Table
from ncsnx.sampling.sampled_images import SampledImages
from ncsnx.storage.documents import document_values


@attrs.frozen(kw_only=True, repr=False)
class RestoredImages(SampledImages):
    """Images that agree with measurements, in a folder with their protocol; `grid` also has the measurements, the means
    and the spreads, and `images` are those of one picture after the other."""

    record: TaskRecord
    """How well they agree, as in task.json."""

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.record.task

    @property
    def misfit(self) -> float:
        """Largest difference to the measurement, where black is 0 and white 1; in own values of unbounded data."""
        return self.record.misfit

    @property
    def pictures(self) -> tuple[PictureRecord, ...]:
        """The images of each picture, and their distances to the truth if it is known."""
        return self.record.pictures

    @property
    def calibration(self) -> Calibration | None:
        """Shares of truths within the central 50, 80 and 95 % of their alternatives; None without a truth."""
        return self.record.calibration

    @property
    def calibration_plot(self) -> Path | None:
        """A PNG of these shares; None if there is no truth, or too few alternatives."""
        plot = self.folder / CALIBRATION_FILE
        return plot if plot.is_file() else None

    @property
    def posterior(self) -> Path:
        """File of the maps: safetensors, tensors (P, C, H, W) float32 in the data's own values."""
        return self.folder / POSTERIOR_FILE

    def maps(self) -> PosteriorMaps:
        """Mean, deviation and quantiles of the images of each picture; read at each call."""
        return read_posterior(self.posterior)

    def shown(self) -> Sequence[Table | str]:
        if self.calibration is None:
            return ()
        columns = [Column(title, "right") for title in CALIBRATION_TITLES]
        return [Table(columns=columns, rows=calibration_rows(self.calibration))]

    def to_json(self) -> object:
        return {"folder": str(self.folder), **self.protocol, "agreement": document_values(self.record)}

    def heading(self) -> tuple[str, str]:
        images, pictures = counted(len(self.images), "image"), counted(len(self.pictures), "picture")
        return f"{self.task}: {images} of {pictures}", str(self.folder)

    def remarks(self) -> Sequence[str]:
        misfit = misfit_in_words(self.misfit, bounded=self.source.experiment().data.is_bounded)
        words = [] if self.calibration is None else calibration_in_words(self.calibration).splitlines()
        return [f"largest difference from the measurement: {misfit}", *(["; ".join(words)] if words else [])]
