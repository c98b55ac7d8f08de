"""Builds an LMDB of encoded pictures from a folder or zip, all or nothing."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from ncsnx.data.lmdb.lmdb_store import new_lmdb
from ncsnx.data.pictures.decoding import BrokenImageError, decode, fitted, flattened, opened_picture
from ncsnx.data.pictures.image_files import ImageFiles
from ncsnx.data.read_ahead import processors, read_ahead
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, them
from ncsnx.work import Work

WHITE = (255, 255, 255)
_KEPT = ("JPEG", "PNG", "WEBP")
_MOST_WORKERS = 8
_WORTH_WORKERS = 256  # pictures; fewer are finished before worker processes have started
_MOST_NAMED = 20

Encode = Callable[[bytes, str], bytes]
"""(bytes of a picture, its name) → bytes to store. Must be picklable."""


def as_it_is(content: bytes, name: str) -> bytes:
    """The same bytes if converting them to RGB shows the picture as `decode` does; otherwise a PNG of it."""
    shown = flattened(decode(content, name), 3, WHITE)
    with opened_picture(content, name) as picture:
        if picture.format in _KEPT and picture.convert("RGB").tobytes() == shown.tobytes():
            return content
    return _png(shown)


def as_square(content: bytes, name: str, size: int) -> bytes:
    """A PNG of the picture: short side resized, then a centre crop. Raises BrokenImageError if it is too small."""
    image = decode(content, name)
    if min(image.size) < size:
        raise BrokenImageError(name, f"has {image.width}×{image.height} pixels, fewer than {size}×{size}")
    return _png(fitted(flattened(image, 3, WHITE), size))


def build(
    source: Path,
    folder: Path,
    key: Callable[[int, str], bytes],
    encode: Encode,
    work: Work,
    more: Callable[[int], list[tuple[bytes, bytes]]] = lambda count: [],
) -> None:
    """Builds the LMDB `folder` from the pictures in `source`, in the order of their names.

    key: (index, name) → key. more: number of pictures → further entries. Raises NcsnxError, which names all pictures
    that can't be used; then nothing is written.
    """
    files = ImageFiles.open(source)
    broken: list[str] = []
    workers = min(_MOST_WORKERS, processors()) if len(files) >= _WORTH_WORKERS else 0

    def entries() -> Iterator[tuple[bytes, bytes]]:
        with work.progress(f"writing {folder.name}", total=len(files), unit="images") as advance:
            encoded = read_ahead(partial(_encoded, files, encode), files.names, workers)
            for place, (content, reason) in enumerate(encoded):
                work.check_stop()
                if reason is not None:
                    broken.append(reason)
                elif not broken:  # once it has to fail, the remaining pictures are only checked
                    yield key(place, files.names[place]), content
                advance()
        if broken:
            raise _all_named(source, broken)

    with new_lmdb(folder) as writer:
        writer.put(entries())
        writer.put(more(len(files)))


def _encoded(files: ImageFiles, encode: Encode, name: str) -> tuple[bytes, str | None]:
    """The bytes to store for a picture, or the reason why it can't be used."""
    try:
        return encode(files.read(name), name), None
    except BrokenImageError as error:
        return b"", str(error)


def _all_named(source: Path, broken: list[str]) -> NcsnxError:
    more = f"; … and {len(broken) - _MOST_NAMED:,} more" if len(broken) > _MOST_NAMED else ""
    return NcsnxError(
        f"{source}: {counted(len(broken), 'picture')} cannot be used; fix or remove {them(len(broken))}: "
        f"{'; '.join(broken[:_MOST_NAMED])}{more}"
    )


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
