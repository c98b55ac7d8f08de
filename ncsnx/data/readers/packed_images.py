"""A packed file as a data set: images that were decoded once, by `ncsnx data pack`."""

from pathlib import Path

from ncsnx.config.data_sets import Packed
from ncsnx.data.data_set import data_set
from ncsnx.data.missing import OWN
from ncsnx.data.packed.packed_file import PackedError, PackedFile, declaration, splits_of
from ncsnx.data.places import own_path
from ncsnx.data.splits import Splits
from ncsnx.work import SILENT, Work


@data_set(Packed, no_download=OWN)
def open_packed(data: Packed, folder: Path, work: Work = SILENT) -> Splits:
    """The images of a packed file. Raises PackedError for one that isn't sound or isn't as declared."""
    file = PackedFile.open(own_path(data.path, folder))
    header = file.header
    if (header.channels, header.size) != (data.channels, data.stored_size):
        raise PackedError(
            f"{file.path}: holds images of {header.channels}×{header.size}×{header.size}, but "
            f"{data.channels}×{data.stored_size}×{data.stored_size} were declared; declare {declaration(header)}"
        )
    return splits_of(file)
