"""Real images that generated images are compared with: one split of a data set as clean 8-bit images.

Clean means not flipped, dequantized or transformed, so one reference serves all experiments on a data set.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self

import attrs
import torch
from torch import Tensor

from ncsnx.config.codec import identifying_values
from ncsnx.config.data_sets import Data
from ncsnx.config.variants import load_plugins, tag_of
from ncsnx.data import DataMissingError, Dataset, Preprocessing, Splits, StoredImages, open_data
from ncsnx.data.dataset import Split
from ncsnx.data.places import by_data_folder
from ncsnx.data.transforms import shown_pixels
from ncsnx.data.value_statistics import values_space
from ncsnx.errors import Hint, NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.sampling.model import Model
from ncsnx.space import Space
from ncsnx.spelling import A_DIR, argument
from ncsnx.work import SILENT, Work


@attrs.define(kw_only=True)
class DataSource:
    """A data set that may be unavailable as long as everything derived from it is cached."""

    data: Data
    folder: Path
    """The data folder (`ncsnx.data.data_folder`)."""
    recorded: str | None = None
    """The fingerprint that a run recorded; None to use that of the available data."""
    work: Work = SILENT
    """Shows progress while the data is opened."""
    _space: Space | None = None
    _splits: Splits | None = attrs.field(default=None, init=False)

    @classmethod
    def of_run(cls, run: Run, folder: Path, work: Work = SILENT) -> Self:
        """The data that a run was trained on, or is compared with. Raises NcsnxError if it isn't known."""
        load_plugins("ncsnx.runtime")
        if (data := run.declared().data) is None:
            raise NcsnxError(
                f"the data of {run.name!r}, which was trained elsewhere, is not known",
                Hint("import it with an experiment that has the data", "ncsnx import SOURCE EXPERIMENT"),
            )
        return cls(
            data=data,
            folder=folder,
            recorded=run.data_fingerprint(),
            work=work,
            space=run.space(),
        )

    @classmethod
    def of_model(cls, model: Model, folder: Path, work: Work = SILENT) -> Self | None:
        """The data of a loaded model; None if unknown."""
        origin = model.origin
        if origin.data is None:
            return None
        return cls(data=origin.data, folder=folder, recorded=origin.data_fingerprint, work=work, space=model.space)

    @property
    def space(self) -> Space:
        """The space of the images: that of the run, or measured."""
        if self._space is None:
            self._space = values_space(self.data, self.splits(), str(tag_of(type(self.data))), self.work)
        return self._space

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the data, recorded or computed. Raises NcsnxError if it is neither recorded nor readable."""
        return self.recorded or self.splits().fingerprint

    @property
    def facts(self) -> dict[str, Any]:
        """JSON that identifies the images, but not their way to the network. Raises as `fingerprint`."""
        values, way = identifying_values(self.data), {*attrs.fields_dict(Data), "scale"}
        return {
            "data": {name: value for name, value in values.items() if name not in way},
            "fingerprint": self.fingerprint,
        }

    def splits(self) -> Splits:
        """The images. Raises NcsnxError if they are missing, or don't have the recorded fingerprint."""
        if self._splits is None:
            try:
                opened = open_data(self.data, self.folder, self.work)
            except DataMissingError as error:
                raise by_data_folder(error) from error
            if self.recorded is not None and opened.fingerprint != self.recorded:
                raise NcsnxError(
                    f"the data is not that of the run: its fingerprint is {opened.fingerprint[:12]}, not "
                    f"{self.recorded[:12]}",
                    Hint("restore the run's data"),
                    Hint("or say where it is", adds=argument("data", A_DIR)),
                )
            self._splits = opened
        return self._splits


_CHUNK = 256


class RealImages(Protocol):
    """Images in a fixed order, opened only when needed."""

    @property
    def title(self) -> str:
        """Name for messages: 'digits, training images', 'folder /x/y'."""

    @property
    def facts(self) -> dict[str, Any]:
        """JSON that identifies these images: 'kind', 'fingerprint' and more; without local paths."""

    def __len__(self) -> int: ...

    def batches(self, size: int, check_stop: Callable[[], None]) -> Iterator[Tensor]:
        """Batches of the images, in order: (b, C, H, W) uint8 with b ≤ size.

        check_stop: called before each batch is read.
        """


@attrs.frozen
class SplitImages:
    """One split of a data set."""

    source: DataSource
    split: Split

    @property
    def title(self) -> str:
        """Name for messages: 'digits, training images'."""
        data = type(self.source.data)
        return f"{tag_of(data) or data.__name__}, {'training' if self.split == 'train' else 'held-out'} images"

    @property
    def facts(self) -> dict[str, Any]:
        """JSON that identifies these images. Reads the data only if no run has recorded its fingerprint."""
        window = {} if self.source.data.is_bounded else {"window": str(self.source.space.pictures)}
        return {"kind": "split", "split": self.split, **self.source.facts, **window}

    def __len__(self) -> int:
        return len(self._dataset)

    def batches(self, size: int, check_stop: Callable[[], None]) -> Iterator[Tensor]:
        """Batches of the images, in the order of the split."""
        for first in range(0, len(self), size):
            check_stop()
            yield self.at(torch.arange(first, min(first + size, len(self)))).pixels

    def labels(self, indices: Tensor) -> Tensor:
        """Labels of the images at `indices`, (n,) int64 in [0, len)."""
        chunks = indices.split(_CHUNK)  # type: ignore[no-untyped-call]
        return torch.cat([self._dataset.read(some).labels for some in chunks])

    def at(self, indices: Tensor) -> StoredImages:
        """The images at `indices`, (n,) int64 in [0, len), with pixels (n, C, H, W) uint8, as in the data's window."""
        images = self._dataset.read(indices)
        preprocessing = Preprocessing(self.source.data, self.source.space, self._dataset.value_range, seed=0)
        return attrs.evolve(images, pixels=shown_pixels(preprocessing, images.pixels))

    @property
    def _dataset(self) -> Dataset:
        splits = self.source.splits()
        return splits.train if self.split == "train" else splits.held_out
