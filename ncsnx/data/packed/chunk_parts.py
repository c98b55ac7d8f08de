"""Chunks of a packed file that ranks other than 0 decode: each a file, which rank 0 then takes into the packed one."""

import hashlib
from contextlib import suppress
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ncsnx.data.dataset import StoredImages
from ncsnx.data.packed.packed_file import PackedHeader
from ncsnx.storage.atomic import is_temporary, reporting
from ncsnx.storage.parts import Part, is_part, part_path, read_part, write_part
from ncsnx.storage.reading import refuse_links

_FIELDS = [field.name for field in attrs.fields(StoredImages)]
_PACKING = "packing"
"""Name of the tensor with the sha256 of the header, (32,) uint8, by which packings tell their chunks apart."""


@attrs.frozen
class ChunkParts:
    """The chunks of an unfinished packing, in a folder."""

    folder: Path
    header: PackedHeader

    def path(self, number: int) -> Path:
        """The file of a chunk."""
        images = self.header.chunk(number)
        return part_path(self.folder, images.start, images.stop - 1)

    def add(self, number: int, images: StoredImages) -> None:
        """Saves a chunk, durably and atomically. Raises NcsnxError."""
        refuse_links(self.folder)
        chunk = self.header.chunk(number)
        tensors = {**attrs.asdict(images, recurse=False), _PACKING: self._packing()}
        write_part(self.folder, Part(torch.arange(chunk.start, chunk.stop), tensors))

    def read(self, number: int) -> StoredImages | None:
        """The images of a chunk; None if it isn't there, torn, or of another packing."""
        refuse_links(self.folder)
        found = read_part(self.path(number))
        if found is None or not self._is_ours(found, number):
            return None
        return StoredImages(**{name: found.tensors[name] for name in _FIELDS})

    def remove(self, number: int) -> None:
        """Removes a chunk that is in the packed file. Raises NcsnxError."""
        with reporting(self.path(number)):
            self.path(number).unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes what packings have left. A folder with other files stays, and so do they."""
        refuse_links(self.folder)
        with suppress(OSError):  # most often there is no folder
            for path in self.folder.iterdir():
                if is_part(path.name) or is_temporary(path.name):
                    path.unlink(missing_ok=True)
            self.folder.rmdir()

    def _is_ours(self, part: Part, number: int) -> bool:
        if part.tensors.keys() != {_PACKING, *_FIELDS} or not torch.equal(part.tensors[_PACKING], self._packing()):
            return False
        chunk, pixels = self.header.chunk(number), part.tensors["pixels"]
        shape = (len(chunk), *self.header.shape)
        numbers = (part.indices, part.tensors["labels"], part.tensors["ids"])
        is_of_shape = pixels.dtype == torch.uint8 and pixels.shape == shape
        is_of_shape &= all(one.dtype == torch.int64 and one.shape == (len(chunk),) for one in numbers)
        return is_of_shape and part.indices.tolist() == list(chunk)

    def _packing(self) -> Tensor:
        return torch.tensor(list(hashlib.sha256(self.header.encoded()).digest()), dtype=torch.uint8)
