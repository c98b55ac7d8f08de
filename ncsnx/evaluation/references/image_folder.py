"""A folder or zip of pictures as real images: every picture in it, in the order of the relative paths.

Pixels are those of clean-fid (Parmar, Zhang & Zhu 2022): each picture in RGB, turned as it is stored, at its own size.
A folder that holds nothing but grey pictures keeps its one channel.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ncsnx.config.canonical import digest
from ncsnx.data.pictures.decoding import BrokenImageError, opened_picture
from ncsnx.data.pictures.image_files import ImageFiles
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, them
from ncsnx.work import SILENT, Work

_GREY_MODES = ("1", "L")
_BATCH_BYTES = 2**28  # of pixels at once: a file of a hundred kilobytes may be a picture of 250 MB


@attrs.frozen(eq=False, slots=False)
class ImageFolder:
    """The pictures of a folder or zip, found but not read."""

    files: ImageFiles
    work: Work

    @classmethod
    def open(cls, root: Path, work: Work = SILENT) -> "ImageFolder":
        """Finds the pictures. work: where the reading for the fingerprint is shown, and what stops it.

        Raises NcsnxError where there is none, and for what `ImageFiles` refuses.
        """
        return cls(ImageFiles.open(root), work)

    @property
    def title(self) -> str:
        """For people."""
        root = self.files.root
        return f"{'folder' if root.is_dir() else 'zip'} {root.resolve()}"

    @property
    def facts(self) -> dict[str, Any]:
        """JSON that tells these pictures from others; their place doesn't count."""
        return {"kind": "pictures", "fingerprint": self.fingerprint}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hexadecimal) of names and contents, every byte of which is read for it; a zip has its folder's."""
        name = f"fingerprint of {self.title}"
        contents = []
        with self.work.progress(name, total=len(self), unit="images") as advance:
            for picture in self.files.names:
                self.work.check_stop()
                contents.append([picture, self._sha256(picture)])
                advance()
        return digest(contents)

    def _sha256(self, name: str) -> str | None:
        """Of a picture's file; None for one that can't be read, which `batches` will name together with the others."""
        try:
            return hashlib.sha256(self.files.read(name)).hexdigest()
        except BrokenImageError:
            return None

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, size: int, check_stop: Callable[[], None], start: int = 0) -> Iterator[Tensor]:
        """Pictures from `start` on in order, (b, C, H, W) uint8: at most `size` neighbours of one height and width,
        fewer where they are large.

        C is 1 where all are grey, else 3. Raises NcsnxError that names every picture that can't be read, once all have
        been looked at.
        """
        grey, broken = self._look(check_stop)
        held: list[Tensor] = []
        for name in self.files.names[start:]:
            check_stop()
            try:
                pixels = self._pixels(name, "L" if grey else "RGB")
            except BrokenImageError as error:
                broken[name] = error.reason
                continue
            if broken:
                continue  # nothing can come of this any more, but all that is wrong is to be named
            most = min(size, _BATCH_BYTES // pixels.nbytes)
            if held and (len(held) >= most or held[0].shape != pixels.shape):
                yield torch.stack(held)
                held = []
            held.append(pixels)
        if broken:
            listed = "; ".join(f"{name}: {reason}" for name, reason in broken.items())
            raise NcsnxError(
                f"{self.files.root}: {counted(len(broken), 'image')} cannot be used; fix or remove "
                f"{them(len(broken))}: "
                f"{listed}"
            )
        if held:
            yield torch.stack(held)

    def _look(self, check_stop: Callable[[], None]) -> tuple[bool, dict[str, str]]:
        """Whether all pictures are grey, and what is wrong with those that can't even be opened."""
        broken: dict[str, str] = {}
        grey = True
        for name in self.files.names:
            check_stop()
            try:
                with self._opened(name) as picture:
                    grey = grey and picture.mode in _GREY_MODES
            except BrokenImageError as error:
                broken[name] = error.reason
        return grey, broken

    @contextmanager
    def _opened(self, name: str) -> Iterator[Image.Image]:
        with opened_picture(self.files.read(name), name) as picture:
            if picture.mode in ("I", "F") or ";" in picture.mode:
                raise BrokenImageError(name, f"it has more than 8 bits a channel (mode {picture.mode})")
            yield picture

    def _pixels(self, name: str, mode: str) -> Tensor:
        """(C, H, W) uint8: the picture in the mode L (one channel) or RGB."""
        with self._opened(name) as picture:
            values = np.array(picture.convert(mode))
        return torch.from_numpy(values).unsqueeze(0) if mode == "L" else torch.from_numpy(values).permute(2, 0, 1)
