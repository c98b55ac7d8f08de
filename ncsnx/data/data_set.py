"""What a data set is: `@data_set(Config)` on its reader says all that goes with a configuration, in one place.

    @data_set(Rings, features=Classifier(), no_download="the rings are drawn, so there is nothing to download")
    def read_rings(data: Rings, folder: Path, work: Work) -> Splits:
        ...

Modules of `ncsnx.data.readers` are found by themselves, those of an installed package by its entry point of the group
`ncsnx.runtime`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import attrs

from ncsnx.config.data_sets import Data
from ncsnx.config.feature_networks import Features, Inception
from ncsnx.data.splits import Split, Splits
from ncsnx.errors import NcsnxError
from ncsnx.registering import import_modules_of, unregistered
from ncsnx.work import SILENT, Work

Reader: TypeAlias = Callable[[Any, Path, Work], Splits]
"""(configuration, data folder, work) → its images. Raises DataMissingError for what isn't on the disk, and NcsnxError
for what can't be read; work shows what takes long, such as the first scan of a folder."""
Download: TypeAlias = Callable[[Any, Path, Work], Path]
"""(configuration, data folder, work) → the folder that it is in now. Raises NcsnxError where it can't be had, or not by
a program: then the error says which files to get, how large they are, and where they belong."""
T = TypeVar("T", bound=Reader)


@attrs.frozen(kw_only=True)
class DataSet:
    """What goes with the configuration of a data set."""

    read: Reader
    download: Download | None
    no_download: str | None
    """A clause on why there is nothing to download, where `download` is None; None: no address is known."""
    features: Features
    """By which generated images are judged against it, unless others are chosen."""
    reference: Split
    """Which of its images scores compare with, unless others are chosen: 'train' as published for CIFAR-10."""
    files: str
    """What a person has to get, in Markdown, and `place`, where to put it: its row in docs/guides/published.md."""
    place: str


_data_sets: dict[type[Data], DataSet] = {}


def data_set(
    config: type[Data],
    *,
    download: Download | None = None,
    no_download: str | None = None,
    features: Features | None = None,
    reference: Split = "train",
    files: str = "",
    place: str = "",
) -> Callable[[T], T]:
    """Decorator of a reader; for the parameters see `DataSet`. Raises ValueError for a configuration that has one."""

    def join(read: T) -> T:
        found = DataSet(
            read=read,
            download=download,
            no_download=no_download,
            features=features or Inception(),
            reference=reference,
            files=files,
            place=place,
        )
        if _data_sets.setdefault(config, found).read is not read:
            raise ValueError(f"{config.__qualname__} already has a reader: {_data_sets[config].read!r}")
        return read

    return join


def data_sets() -> dict[type[Data], DataSet]:
    """All that are registered, by their configuration's class."""
    import_modules_of("ncsnx.data.readers")
    return dict(_data_sets)


def data_set_of(data: Data) -> DataSet:
    """What goes with a configuration. Raises NcsnxError where no reader is registered for it."""
    found = data_sets().get(type(data))
    if found is None:
        raise unregistered("reader", type(data), "ncsnx.data.data_set")
    return found


def open_data(data: Data, folder: Path, work: Work = SILENT) -> Splits:
    """The images of a data set; folder: the data folder, for sets without a place of their own. Raises as `Reader`."""
    return data_set_of(data).read(data, folder, work)


def download_data(data: Data, folder: Path, work: Work) -> Path:
    """Gets a data set; returns the folder that it is in. folder: the data folder. Raises as `Download`."""
    found = data_set_of(data)
    if found.download is None:
        raise NcsnxError(found.no_download or f"no address is known to download {type(data).__name__} from")
    return found.download(data, folder, work)
