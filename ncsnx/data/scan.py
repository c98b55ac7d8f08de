"""Scan of all pictures of a data set, so that broken files are reported before any work starts.

Several processes decode every picture completely, once. The result is cached under the data set's fingerprint, so that
the next start is fast, with a list of all broken files (`broken.txt`) beside it.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import attrs
import PIL

from ncsnx.data.decoding import BrokenImageError, decode, further_frames, is_grey
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.read_ahead import processors, read_ahead
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, them
from ncsnx.spelling import argument
from ncsnx.storage import atomic
from ncsnx.storage.cache import cached, finding_place
from ncsnx.storage.documents import document
from ncsnx.work import Work

_FOLDER, LIST = "scans", "broken.txt"
MOST_NAMED = 20
"""Number of broken files that an error names; the list in the cache has all."""

_VERSION = 3
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
    grey: int
    """Number of sound pictures without colours."""
    sizes: tuple[tuple[int, int, int], ...]
    """(width, height, number of sound pictures)."""
    smallest: tuple[int, int] | None
    """(width, height) with the fewest pixels; None if no picture is sound."""
    largest: tuple[int, int] | None
    """(width, height) with the most pixels; None if no picture is sound."""
    further: dict[str, tuple[int, int]] = attrs.field(factory=dict)
    """Pillow's format → (sound files with several pages or frames, number of pages or frames after the first). Only the
    first one of each file is an image of the set."""

    @property
    def sound(self) -> int:
        """Number of sound pictures."""
        return sum(self.modes.values())

    @property
    def short_sides(self) -> tuple[tuple[int, int], ...]:
        """(short side in pixels, number of sound pictures)."""
        found: Counter[int] = Counter()
        for width, height, count in self.sizes:
            found[min(width, height)] += count
        return tuple(sorted(found.items()))

    @property
    def only_size(self) -> tuple[int, int] | None:
        """(height, width) of the sound pictures if all have one size, else None."""
        return (self.sizes[0][1], self.sizes[0][0]) if len(self.sizes) == 1 else None

    def smaller_than(self, size: tuple[int, int]) -> int:
        """Number of sound pictures with less than this (height, width), which would be enlarged."""
        return sum(count for width, height, count in self.sizes if height < size[0] or width < size[1])


def scan_of(files: ImageFiles, work: Work, *, refresh: bool = False) -> Scan:
    """The scan of the pictures, cached. Raises NcsnxError if the cache can't be written.

    A cached scan is repeated if one of its broken files has been fixed, or with `refresh`: the cache goes by names,
    sizes and a sample of the bytes, so it can miss a damaged bit.
    """

    def find() -> Scan:
        scan = _scan(files, work)
        atomic.write_bytes(scan_folder(files) / LIST, _lines(scan.broken))
        return scan

    def still_true(scan: Scan) -> bool:
        return not refresh and all(_look(files, [name])[0].reason for name in scan.broken)

    what = f"the scan of {files.root}"
    return cached(scan_folder(files), Scan, find, what, work, still_true)


def scan_folder(files: ImageFiles) -> Path:
    """Cache folder of the scan of these pictures by this version of Pillow."""
    return finding_place(_FOLDER, {"pillow": PIL.__version__, "scan": _VERSION, "files": files.fingerprint})


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
    named = "; ".join(f"{printable_name(name)}: {reason}" for name, reason in list(scan.broken.items())[:most])
    rest = len(scan.broken) - most
    more = f"; … and {rest:,} more, all listed in {scan_folder(files) / LIST}" if rest > 0 else ""
    return f"{files.root}: {len(scan.broken):,} of {counted(len(files), 'picture')} cannot be used: {named}{more}"


def printable_name(name: str) -> str:
    """A file's name as printable text on one line."""
    return name if name.isprintable() else ascii(name)


@attrs.frozen
class _Look:
    name: str
    reason: str | None
    mode: str = ""
    grey: bool = False
    size: tuple[int, int] = (0, 0)
    kind: str = ""
    further: int = 0


def _look(files: ImageFiles, names: Sequence[str]) -> list[_Look]:
    looks = []
    for name in names:
        try:
            content = files.read(name)
            picture = decode(content, name)
            kind, further = further_frames(content, name)
        except BrokenImageError as error:
            looks.append(_Look(name, error.reason))
        else:
            looks.append(_Look(name, None, picture.mode, is_grey(picture), picture.size, kind, further))
    return looks


def _scan(files: ImageFiles, work: Work) -> Scan:
    pieces = [files.names[start : start + _PIECE] for start in range(0, len(files), _PIECE)]
    looks: list[_Look] = []
    with work.progress(f"scanning {files.root.name}", total=len(files), unit="pictures") as advance:
        for piece in read_ahead(partial(_look, files), pieces, _processes(sum(files.sizes))):
            work.check_stop()
            looks += piece
            advance(len(piece))
    sound = [look for look in looks if look.reason is None]
    sizes = sorted((look.size for look in sound), key=lambda size: (size[0] * size[1], size))
    files_with_more = Counter(look.kind for look in sound if look.further)
    more: Counter[str] = Counter()
    for look in sound:
        more[look.kind] += look.further
    return Scan(
        broken={look.name: look.reason for look in looks if look.reason is not None},
        modes=dict(sorted(Counter(look.mode for look in sound).items())),
        grey=sum(look.grey for look in sound),
        sizes=tuple((*size, count) for size, count in sorted(Counter(sizes).items())),
        smallest=sizes[0] if sizes else None,
        largest=sizes[-1] if sizes else None,
        further={kind: (count, more[kind]) for kind, count in sorted(files_with_more.items())},
    )


def _processes(size: int) -> int:
    if size < _ALONE_BYTES or processors() == 1:
        return 0
    return min(processors(), _MOST_PROCESSES)


def _lines(broken: dict[str, str]) -> bytes:
    return "".join(f"{printable_name(name)}\t{reason}\n" for name, reason in broken.items()).encode()
