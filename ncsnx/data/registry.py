"""Registry of data sets: `@data_set(Config)` on a reader declares everything that belongs to a configuration.

    @data_set(Rings, features=Classifier())
    def read_rings(data: Rings, folder: Path, work: Work) -> Splits:
        ...

Modules of `ncsnx.data.readers` are imported automatically, those of an installed package through its entry point in the
group `ncsnx.runtime`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import attrs

from ncsnx.config.data_sets import Data
from ncsnx.config.feature_networks import Features, Inception
from ncsnx.data.dataset import Split, Splits
from ncsnx.registering import import_modules_of, unregistered
from ncsnx.work import SILENT, Work

Reader: TypeAlias = Callable[[Any, Path, Work], Splits]
"""(configuration, data folder, work) → images. Raises DataMissingError for missing files, and NcsnxError for files that
can't be read. `work` shows the progress of slow work, such as the first scan of a folder."""
Download: TypeAlias = Callable[[Any, Path, Work], Path]
"""(configuration, data folder, work): downloads the data, and returns its folder. Raises NcsnxError if it can't."""
T = TypeVar("T", bound=Reader)


@attrs.define(eq=False, kw_only=True)
class RegisteredDataSet:
    """Reader, download and defaults of a data set. It is the decorator `data_set`, which registers the reader.

    The decorator raises ValueError if the configuration already has another reader.
    """

    config: type[Data] = attrs.field(kw_only=False)
    """The configuration class."""
    download: Download | None = None
    """None: there is nothing to download, or users download it themselves, as the error of `read` says."""
    features: Features = attrs.field(factory=Inception)
    """Default feature network for scores."""
    reference: Split = "train"
    """Default reference images for scores: 'train' as published for CIFAR-10."""
    read: Reader = attrs.field(init=False)

    def __call__(self, read: T) -> T:
        """Registers the reader, and returns it unchanged."""
        self.read = read
        if (known := _data_sets.setdefault(self.config, self)).read is not read:
            raise ValueError(f"{self.config.__qualname__} already has a reader: {known.read!r}")
        return read


data_set = RegisteredDataSet
_data_sets: dict[type[Data], RegisteredDataSet] = {}


def data_sets() -> dict[type[Data], RegisteredDataSet]:
    """All registered data sets by configuration class."""
    import_modules_of("ncsnx.data.readers")
    return dict(_data_sets)


def data_set_of(data: Data) -> RegisteredDataSet:
    """The data set of a configuration. Raises NcsnxError if no reader is registered for it."""
    found = data_sets().get(type(data))
    if found is None:
        raise unregistered("reader", type(data), "ncsnx.data.data_set")
    return found


def open_data(data: Data, folder: Path, work: Work = SILENT) -> Splits:
    """The images of a data set. folder: the data folder, used where `data` doesn't name a path. Raises as `Reader`."""
    return data_set_of(data).read(data, folder, work)


def download_data(data: Data, folder: Path, work: Work) -> None:
    """Downloads a data set. folder: the data folder. Raises as `Download`.

    One that can't be downloaded is opened: that raises DataMissingError, which says how to get it, if it isn't here.
    """
    found = data_set_of(data)
    (found.download or found.read)(data, folder, work)
