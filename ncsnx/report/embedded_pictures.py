"""Pictures of a run's folder as data URIs: decoded, made smaller if need be, and encoded again within a budget."""

import base64
import io
from functools import lru_cache
from pathlib import Path

import attrs
from PIL import Image

from ncsnx.errors import NcsnxError
from ncsnx.quantities import byte_size, counted
from ncsnx.storage import reading

MOST_PICTURE_BYTES = 3 * 2**20
"""Most bytes of all pictures of a page, before they grow by a third as text."""
_MOST_FILE_BYTES = 64 * 2**20
_MOST_PIXELS = 2**26
"""Most pixels of a picture that is decoded."""
_LONGEST_SIDE = 1_600
_SHOWN_PIXELS = 320
"""Width up to which small pictures are enlarged when shown."""
_SMALL = 600
_LARGE = 60_000  # bytes of a PNG above which a JPEG is tried


@attrs.frozen
class EmbeddedPicture:
    """A picture within the page."""

    uri: str
    alt: str
    width: int
    height: int
    """Size in CSS pixels."""
    style: str
    """CSS class: "pixels" for an enlarged picture, whose pixels stay squares."""


@attrs.define
class PictureBudget:
    """Encodes pictures until the budget of their page is spent, and counts those that are left out."""

    left: int = MOST_PICTURE_BYTES
    omitted: int = 0

    def embedded(self, path: Path, alt: str) -> EmbeddedPicture | None:
        """The picture; None if it would exceed the budget. Raises NcsnxError for a file that is no picture."""
        try:
            status = path.lstat()
        except OSError as error:
            raise NcsnxError(f"cannot read {path}: {error.strerror}") from error
        kind, content, width, height = _encoded(path, status.st_mtime_ns, status.st_size)
        if len(content) > self.left:
            self.omitted += 1
            return None
        self.left -= len(content)
        factor = max(1, _SHOWN_PIXELS // max(width, 1))
        uri = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
        return EmbeddedPicture(uri, alt, width * factor, height * factor, "pixels" if width < _SMALL else "smooth")


@lru_cache(maxsize=256)  # a page that is renewed while training has most pictures in common with the last
def _encoded(path: Path, modified_ns: int, size: int) -> tuple[str, bytes, int, int]:
    """(format, bytes, width, height). Raises NcsnxError."""
    try:
        content = reading.read_bytes(path, _MOST_FILE_BYTES)
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise NcsnxError(f"{path} has {picture.width} × {picture.height} pixels, too many for a page")
            picture.load()
            shown = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NcsnxError(f"{path} is not a complete picture: {error}") from error
    shown.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    kind, encoded = "png", _saved(shown, "PNG", optimize=True)
    if len(encoded) > _LARGE and len(jpeg := _saved(shown, "JPEG", quality=85)) < len(encoded):
        kind, encoded = "jpeg", jpeg
    return kind, encoded, shown.width, shown.height


def _saved(picture: Image.Image, kind: str, **options: int) -> bytes:
    content = io.BytesIO()
    picture.save(content, format=kind, **options)
    return content.getvalue()


def omitted_words(budget: PictureBudget) -> str:
    """A sentence about what the budget left out; empty if nothing."""
    if not budget.omitted:
        return ""
    limit = byte_size(MOST_PICTURE_BYTES)
    return f"{counted(budget.omitted, 'picture')} left out, since a page holds {limit} of them at most."
