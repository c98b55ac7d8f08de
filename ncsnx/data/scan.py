"""Scan of all pictures of a data set, so that broken files are reported before any work starts.

Several processes decode every picture completely, once. The result is cached under the data set's fingerprint, so that
the next start is fast.
"""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

import attrs
import PIL

from ncsnx.data.decoding import BrokenImageError, decode, further_pages, is_gray
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.read_ahead import processors, read_ahead
from ncsnx.errors import NcsnxError, printable
from ncsnx.quantities import counted, listed, them
from ncsnx.spelling import argument
from ncsnx.storage.cache import cache_path, cached
from ncsnx.storage.documents import document
from ncsnx.work import Work

MOST_NAMED = 20
"""Number of broken files that an error names."""

_VERSION = 5
"""Increased when scans record more than before, so that cached scans of earlier versions are repeated."""
_PIECE = 32  # pictures that a process scans in one call
_ALONE_BYTES = 32 * 2**20  # what one process decodes while others would start
_MOST_PROCESSES = 8


@document("a scan of pictures", sealed=True)
@attrs.frozen
class Scan:
    """Result of a scan. Sizes are those after rotation by EXIF. Sound pictures are those that aren't broken."""

    broken: dict[str, str]
    """Name → reason why the picture can't be used."""
    modes: dict[str, int]
    """Pillow's mode (L, RGB, RGBA, P, I;16 …) → number of sound pictures."""
    gray: int
    """Number of sound pictures without colors."""
    sizes: tuple[tuple[int, int, int], ...]
    """(width, height, number of sound pictures), those with the fewest pixels first."""

    further_pages: int
    """Number of pages and frames after the first of a sound picture, which aren't read."""

    @property
    def sound(self) -> int:
        """Number of sound pictures."""
        return sum(self.modes.values())

    def smaller_than(self, size: tuple[int, int]) -> int:
        """Number of sound pictures with less than this (height, width), which would be enlarged."""
        return sum(count for width, height, count in self.sizes if height < size[0] or width < size[1])


def scan_of(files: ImageFiles, work: Work) -> Scan:
    """The scan of the pictures, cached. Raises NcsnxError if the cache can't be written.

    A cached scan is repeated if one of its broken files has been fixed. The cache goes by names, sizes and a sample of
    the bytes, so it can miss a damaged bit.
    """

    def still_true(scan: Scan) -> bool:
        return all(_look(files, [name])[0].reason for name in scan.broken)

    return cached(scan_path(files), Scan, partial(_scan, files, work), f"the scan of {files.root}", work, still_true)


def scan_path(files: ImageFiles) -> Path:
    """File of the cached scan of these pictures by this version of Pillow."""
    return cache_path("scans", {"pillow": PIL.__version__, "scan": _VERSION, "files": files.fingerprint})


def sound_files(files: ImageFiles, scan: Scan, on_error: Literal["refuse", "skip"], work: Work) -> ImageFiles:
    """The sound pictures. If some are broken, 'skip' warns and 'refuse' raises an NcsnxError that names them."""
    if not scan.broken:
        return files
    if on_error == "refuse" or not scan.sound:
        advice = f"fix or remove {them(len(scan.broken))}"
        if scan.sound:
            skip = argument("on_error", "skip")
            advice += f", or skip {them(len(scan.broken))} with {skip} (in an experiment: data.on_error=skip)"
        raise NcsnxError(f"{_broken(files, scan, MOST_NAMED)}; {advice}")
    work.warning(f"skipping broken files: {_broken(files, scan, most=5)}")
    return files.without(scan.broken)


def _broken(files: ImageFiles, scan: Scan, most: int) -> str:
    named = listed([f"{printable(name)}: {reason}" for name, reason in scan.broken.items()], most, "; ")
    return f"{files.root}: {len(scan.broken):,} of {counted(len(files), 'picture')} cannot be used: {named}"


@attrs.frozen
class _Look:
    name: str
    reason: str | None
    """Why the picture can't be used; None for a sound one."""
    mode: str = ""
    gray: bool = False
    size: tuple[int, int] = (0, 0)
    further: int = 0


def _look(files: ImageFiles, names: Sequence[str]) -> list[_Look]:
    looks = []
    for name in names:
        try:
            content = files.read(name)
            picture = decode(content, name)
            further = 0
            with suppress(BrokenImageError):  # a damaged page after the first, which alone is used
                further = further_pages(content, name)
            looks.append(_Look(name, None, picture.mode, is_gray(picture), picture.size, further))
        except BrokenImageError as error:
            looks.append(_Look(name, error.reason))
    return looks


def _scan(files: ImageFiles, work: Work) -> Scan:
    pieces = [files.names[start : start + _PIECE] for start in range(0, len(files), _PIECE)]
    is_small = sum(files.sizes) < _ALONE_BYTES or processors() == 1
    looks: list[_Look] = []
    with work.progress(f"scanning {files.root.name}", total=len(files), unit="pictures") as advance:
        for piece in read_ahead(partial(_look, files), pieces, 0 if is_small else min(processors(), _MOST_PROCESSES)):
            work.check_stop()
            looks += piece
            advance(len(piece))
    sound = [look for look in looks if look.reason is None]
    sizes = Counter(look.size for look in sound)
    return Scan(
        broken={look.name: look.reason for look in looks if look.reason is not None},
        modes=dict(sorted(Counter(look.mode for look in sound).items())),
        gray=sum(look.gray for look in sound),
        sizes=tuple((*size, sizes[size]) for size in sorted(sizes, key=lambda size: (math.prod(size), size))),
        further_pages=sum(look.further for look in sound),
    )
