"""A folder or zip of images as real images: all of them, in the order of their relative paths.

Pixels are as in clean-fid (Parmar, Zhang & Zhu 2022): RGB, without applying EXIF orientation, at the stored size. If
all images are gray, they keep their single channel.
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

from ncsnx.config.codec import digest
from ncsnx.data.decoding import BrokenImageError, opened_picture
from ncsnx.data.image_files import ImageFiles
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, them
from ncsnx.work import SILENT, Work

_BATCH_BYTES = 2**28  # of pixels per batch: a file of 100 kB may decode to 250 MB


@attrs.frozen(eq=False, slots=False)
class ImageFolder:
    """The images of a folder or zip, listed but not read."""

    files: ImageFiles
    work: Work

    @classmethod
    def open(cls, root: Path, work: Work = SILENT) -> "ImageFolder":
        """Lists the images. work: shows progress of the fingerprint, and can stop it.

        Raises NcsnxError if there are none, and for anything that `ImageFiles` refuses.
        """
        return cls(ImageFiles.open(root), work)

    @property
    def title(self) -> str:
        """Name for messages: 'folder /x/y'."""
        root = self.files.root
        return f"{'folder' if root.is_dir() else 'zip'} {root.resolve()}"

    @property
    def facts(self) -> dict[str, Any]:
        """JSON that identifies these images, independent of their location."""
        return {"kind": "pictures", "fingerprint": self.fingerprint}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hexadecimal) of all names and contents, equal for a zip and its folder. Reads every file."""
        name = f"fingerprint of {self.title}"
        contents = []
        with self.work.progress(name, total=len(self), unit="images") as advance:
            for picture in self.files.names:
                self.work.check_stop()
                contents.append([picture, hashlib.sha256(self.files.read(picture)).hexdigest()])
                advance()
        return digest(contents)

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, size: int, check_stop: Callable[[], None]) -> Iterator[Tensor]:
        """The images, (b, C, H, W) uint8: up to `size` consecutive ones of equal size, fewer if large.

        C is 1 if all images are gray, else 3. Raises NcsnxError for unreadable images.
        """
        mode = "L" if self._are_gray(check_stop) else "RGB"
        held: list[Tensor] = []
        for name in self.files.names:
            check_stop()
            pixels = self._pixels(name, mode)
            if held and (len(held) >= min(size, _BATCH_BYTES // pixels.nbytes) or held[0].shape != pixels.shape):
                yield torch.stack(held)
                held = []
            held.append(pixels)
        if held:
            yield torch.stack(held)

    def _are_gray(self, check_stop: Callable[[], None]) -> bool:
        """Whether all images are gray. Raises NcsnxError that lists those that can't be opened."""
        modes, broken = set[str](), list[str]()
        for name in self.files.names:
            check_stop()
            try:
                with self._opened(name) as picture:
                    modes.add(picture.mode)
            except BrokenImageError as error:
                broken.append(f"{name}: {error.reason}")
        if broken:
            several = counted(len(broken), "image")
            raise NcsnxError(
                f"{self.files.root}: {several} cannot be used; fix or remove {them(len(broken))}: {'; '.join(broken)}"
            )
        return modes <= {"1", "L"}

    @contextmanager
    def _opened(self, name: str) -> Iterator[Image.Image]:
        with opened_picture(self.files.read(name), name) as picture:
            if picture.mode in ("I", "F") or ";" in picture.mode:
                raise BrokenImageError(name, f"it has more than 8 bits per channel (mode {picture.mode})")
            yield picture

    def _pixels(self, name: str, mode: str) -> Tensor:
        """Pixels (C, H, W) uint8 of an image in mode L (one channel) or RGB."""
        with self._opened(name) as picture:
            values = np.array(picture.convert(mode))
        return torch.from_numpy(values).unsqueeze(0) if mode == "L" else torch.from_numpy(values).permute(2, 0, 1)
