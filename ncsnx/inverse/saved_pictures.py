"""A restored picture as one file like the given one: its mode, transparency, EXIF, color profile and resolution."""

import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.ExifTags import Base
from torch import Tensor

from ncsnx import bounded_reads
from ncsnx.data.decoding import GRAY_MODES, SUFFIXES, WIDE_MODES, decode
from ncsnx.errors import Hint, NcsnxError, UsageError, quoted
from ncsnx.images import picture, to_uint8
from ncsnx.space import Space
from ncsnx.spelling import argument, parameter
from ncsnx.storage.array_files import NUMBERS
from ncsnx.storage.atomic import write_bytes
from ncsnx.storage.process import in_utf8
from ncsnx.work import SILENT, Work

_QUALITY = 95
_WITHOUT_ALPHA = (".jpg", ".jpeg", ".bmp")


def check_place(path: Path, given: Path | None, *, overwrite: bool) -> None:
    """Raises UsageError for a file that can't be written, isn't of a known format, or already exists.

    given: the file that is restored, which is never replaced.
    """
    name = in_utf8(path)
    if path.suffix.lower() not in (*SUFFIXES, NUMBERS):
        expected = ", ".join((*SUFFIXES, NUMBERS))
        raise UsageError(f"{parameter('save')} {name}: expected a file that ends in one of {expected}")
    if given is not None and path.exists() and given.exists() and path.samefile(given):
        raise UsageError(f"{parameter('save')} {name} is the given picture, which is kept; give another name")
    if path.is_dir() or (path.exists() and not overwrite):
        found = "is a folder" if path.is_dir() else "already exists"
        hints = [] if path.is_dir() else [Hint("replace it", adds=argument("overwrite", True))]
        raise UsageError(f"{parameter('save')} {name} {found}", *hints)
    if not path.parent.is_dir():
        raise UsageError(f"{parameter('save')} {name}: there is no folder {in_utf8(path.parent)}")


def save_like(path: Path, image: Tensor, space: Space, given: Path | None, work: Work = SILENT) -> None:
    """Writes a restored image (C, H, W), in [0, 1] or own values of unbounded data, to a file of the suffix's format.

    given: the picture that it was restored from, an image file. A .npy gets the data's own numbers, H×W×C. A gray image
    of a gray picture is gray, and has 16 bits if the picture had them and the format allows it. Transparency comes from
    the picture, enlarged with it; formats without it show the image on white. Pillow reads no colors of CMYK and
    palettes other than as RGB, so their profile is left out. Metadata that the format can't take is left out with a
    warning. Raises NcsnxError.
    """
    if path.suffix.lower() == NUMBERS:
        values = io.BytesIO()
        np.save(values, space.own_numbers(image).movedim(0, -1).numpy())
        write_bytes(path, values.getvalue())
        return
    like = None if given is None or given.suffix.lower() == NUMBERS else _opened(given)
    kept = {} if like is None else _kept(like)
    shown = space.pictures.picture(image)
    made = _sixteen_bits(shown) if _is_sixteen(like, shown, path) else picture(to_uint8(shown))
    if like is not None and (opacity := _opacity(like, made.size)) is not None:
        if path.suffix.lower() in _WITHOUT_ALPHA:
            made = Image.composite(made, Image.new(made.mode, made.size, "white"), opacity)
        else:
            made.putalpha(opacity)
    if "icc_profile" in kept and like is not None and (like.mode in GRAY_MODES) != (made.mode in GRAY_MODES):
        del kept["icc_profile"]  # it says what gray means, and the image has colors, or the other way around
    try:
        content = _encoded(made, path, kept)
    except Exception as error:  # Pillow raises almost anything for damaged metadata
        try:
            content = _encoded(made, path, {"quality": _QUALITY})
        except (OSError, ValueError, KeyError) as still:
            raise NcsnxError(f"cannot write {in_utf8(path)}: {quoted(str(still))}") from still
        work.warning(f"{in_utf8(path)} has no EXIF data, color profile and resolution: {quoted(str(error))}")
    write_bytes(path, content)


def _encoded(image: Image.Image, path: Path, kept: dict[str, Any]) -> bytes:
    """The image in the format of the path's suffix. kept: arguments of Pillow's `save`."""
    content = io.BytesIO()
    image.save(content, Image.registered_extensions()[path.suffix.lower()], **kept)
    return content.getvalue()


def _opacity(like: Image.Image, size: tuple[int, int]) -> Image.Image | None:
    """The transparency of the given picture for an image of its size or a multiple (L); None without."""
    factor = size[0] // like.width
    if not like.has_transparency_data or like.mode in WIDE_MODES or size != (factor * like.width, factor * like.height):
        return None
    return like.convert("RGBA").getchannel("A").resize(size)


def _opened(path: Path) -> Image.Image:
    """The given picture, upright, with what its file says of it."""
    return decode(bounded_reads.read_bytes(path), in_utf8(path))


def _kept(like: Image.Image) -> dict[str, Any]:
    """What the file of a picture says beside its pixels, as arguments of Pillow's `save`."""
    kept: dict[str, Any] = {"quality": _QUALITY}
    with warnings.catch_warnings(), suppress(Exception):  # damaged EXIF data is common, and warns or raises anything
        warnings.simplefilter("ignore")
        exif = like.getexif()
        exif.pop(Base.Orientation, None)  # the image is upright
        if len(exif):
            kept["exif"] = exif.tobytes()
    if like.mode not in ("CMYK", "P", "PA") and like.info.get("icc_profile"):
        kept["icc_profile"] = like.info["icc_profile"]
    if "dpi" in like.info:
        kept["dpi"] = tuple(float(number) for number in like.info["dpi"])
    return kept


def _is_sixteen(like: Image.Image | None, shown: Tensor, path: Path) -> bool:
    """Whether the picture has 16 bits in gray, and the image can have them too."""
    is_gray = len(shown) == 1 or bool((shown == shown[:1]).all())
    has_sixteen = like is not None and like.mode in WIDE_MODES
    return has_sixteen and is_gray and path.suffix.lower() in (".png", ".tif", ".tiff")


def _sixteen_bits(shown: Tensor) -> Image.Image:
    """(C, H, W) in [0, 1] → gray with 16 bits, of the first channel."""
    values = (shown[0].double().clamp(0, 1) * 65_535).round()
    return Image.fromarray(values.to(torch.int32).numpy().astype(np.uint16))
