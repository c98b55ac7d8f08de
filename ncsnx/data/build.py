"""From a data set's configuration to its images: the seam between `ncsnx.config` and this package."""

import os
from functools import singledispatch
from pathlib import Path

from ncsnx.config.data import CIFAR10, FFHQ, LSUN, CelebA, Data, Digits
from ncsnx.data.cifar10 import read_cifar10
from ncsnx.data.digits import read_digits
from ncsnx.data.pending import check_celeba, check_ffhq, check_lsun
from ncsnx.data.splits import Splits
from ncsnx.errors import NcsnxError
from ncsnx.work import Work


def data_folder(given: Path | None = None) -> Path:
    """Where data sets live: `given` (the option --data), else the variable NCSNX_DATA, else ./data."""
    return Path(given or os.environ.get("NCSNX_DATA") or "data").expanduser()


@singledispatch
def open_data(data: Data, folder: Path, work: Work | None = None) -> Splits:
    """The images of a data set. A package registers its own reader with `@open_data.register`.

    `folder` is the data folder, for sets without a root of their own; `work` shows what takes long. Raises DataMissingError for what isn't on the
    disk, NcsnxError for what can't be read.
    """
    raise NcsnxError(
        f"no reader is registered for {type(data).__name__}: the package that defines it must import "
        "ncsnx.data.open_data and register a function with @open_data.register"
    )


@open_data.register
def _(data: Digits, folder: Path, work: Work | None = None) -> Splits:
    return read_digits()


@open_data.register
def _(data: CIFAR10, folder: Path, work: Work | None = None) -> Splits:
    return read_cifar10(data, folder)


@open_data.register
def _(data: CelebA, folder: Path, work: Work | None = None) -> Splits:
    return check_celeba(data, folder)


@open_data.register
def _(data: LSUN, folder: Path, work: Work | None = None) -> Splits:
    return check_lsun(data, folder)


@open_data.register
def _(data: FFHQ, folder: Path, work: Work | None = None) -> Splits:
    return check_ffhq(data, folder)
