"""A packed file (`ncsnx data pack`) as a data set."""

from pathlib import Path

from ncsnx.config.data_sets import Packed
from ncsnx.data.data_set import data_set
from ncsnx.data.magnitudes import scaled_splits
from ncsnx.data.missing import OWN
from ncsnx.data.packed.packed_file import PackedError, PackedFile, declaration, splits_of
from ncsnx.data.places import own_path
from ncsnx.data.readers.complex_values import require_declared
from ncsnx.data.splits import Splits
from ncsnx.quantities import product
from ncsnx.work import SILENT, Work


@data_set(Packed, no_download=OWN)
def open_packed(data: Packed, folder: Path, work: Work = SILENT) -> Splits:
    """The images of a packed file. Raises PackedError if the file is invalid or not as declared."""
    file = PackedFile.open(own_path(data.path, folder))
    header = file.header
    declared = (data.channels, *data.stored_size)
    if header.shape != declared:
        raise PackedError(
            f"{file.path}: expected images of {product(declared)} as declared, found {product(header.shape)}; "
            f"declare {declaration(header)}"
        )
    require_declared(str(file.path), data, is_complex=header.complex, type_name=header.dtype, channels=header.channels)
    if header.bounds == "unbounded" and data.is_bounded:
        raise PackedError(
            f"{file.path}: its values are unbounded, expected values between black and white; declare range=unbounded "
            "(data.range)"
        )
    return scaled_splits(splits_of(file), data, str(file.path), file.fingerprint, work)
