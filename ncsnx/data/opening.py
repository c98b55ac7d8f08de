"""From a data set's configuration to its images: the seam between `ncsnx.config` and this package."""

from functools import singledispatch
from pathlib import Path

from ncsnx.config.data_sets import CIFAR10, FFHQ, LSUN, Arrays, CelebA, Data, Digits, Images, Packed
from ncsnx.data.packed.packed_file import open_packed
from ncsnx.data.readers.arrays import open_arrays
from ncsnx.data.readers.celeba import read_celeba
from ncsnx.data.readers.cifar10 import read_cifar10
from ncsnx.data.readers.digits import read_digits
from ncsnx.data.readers.ffhq import read_ffhq
from ncsnx.data.readers.lsun import read_lsun
from ncsnx.data.readers.own_images import open_images
from ncsnx.data.splits import Splits
from ncsnx.errors import NcsnxError
from ncsnx.paths import folder_of
from ncsnx.work import UNSEEN, Work


def data_folder(given: Path | None = None) -> Path:
    """Where data sets live: `given` (the option --data), else the variable NCSNX_DATA, else ./data.

    Raises UsageError for something that isn't a folder.
    """
    return folder_of(given, "NCSNX_DATA", "data")


@singledispatch
def open_data(data: Data, folder: Path, work: Work = UNSEEN) -> Splits:
    """The images of a data set. A package registers its own reader with `@open_data.register`.

    `folder` is the data folder, for sets without a place of their own; `work` shows what takes long, such as the first
    scan of a folder. Raises DataMissingError for what isn't on the disk, NcsnxError for what can't be read.
    """
    raise NcsnxError(
        f"no reader is registered for {type(data).__name__}: the package that defines it must import "
        "ncsnx.data.open_data and register a function with @open_data.register"
    )


@open_data.register
def _(data: Digits, folder: Path, work: Work = UNSEEN) -> Splits:
    return read_digits()


@open_data.register
def _(data: CIFAR10, folder: Path, work: Work = UNSEEN) -> Splits:
    return read_cifar10(data, folder)


@open_data.register
def _(data: CelebA, folder: Path, work: Work = UNSEEN) -> Splits:
    return read_celeba(data, folder)


@open_data.register
def _(data: LSUN, folder: Path, work: Work = UNSEEN) -> Splits:
    return read_lsun(data, folder, work)


@open_data.register
def _(data: FFHQ, folder: Path, work: Work = UNSEEN) -> Splits:
    return read_ffhq(data, folder)


@open_data.register
def _(data: Images, folder: Path, work: Work = UNSEEN) -> Splits:
    return open_images(data, folder, work)


@open_data.register
def _(data: Arrays, folder: Path, work: Work = UNSEEN) -> Splits:
    return open_arrays(data, folder, work)


@open_data.register
def _(data: Packed, folder: Path, work: Work = UNSEEN) -> Splits:
    return open_packed(data, folder)
