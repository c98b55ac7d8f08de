"""Input pictures of tasks: image files such as PNG, numbers in .npy files with any number of channels, and objects."""

from pathlib import Path
from typing import Any, TypeAlias

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.Image import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from ncsnx import bounded_reads
from ncsnx.data.decoding import CODEC_NOISE, SUFFIXES, WIDE_MODES, decode, fitted, flattened, is_gray
from ncsnx.data.jpeg import Jpeg
from ncsnx.data.transforms import as_channels
from ncsnx.errors import Hint, NcsnxError, UsageError, quoted
from ncsnx.inverse.operators.measurement_map import require_finite
from ncsnx.quantities import counted
from ncsnx.space import Space
from ncsnx.spelling import argument, parameter
from ncsnx.stopping import check_stop
from ncsnx.storage.array_files import COMPLEX, NUMBERS, REAL, StoredArray, open_array_file
from ncsnx.storage.process import in_utf8

_COPIES = 16  # of numbers in memory: they become float64, and a task keeps values, inputs and truth
_LARGEST = 2**30  # bytes of a picture of any size
_FILE_BYTES, _BYTES_PER_PIXEL = 2**26, 64  # largest file of a picture: for metadata, and per pixel


@attrs.frozen(eq=False)
class Pictures:
    """Pictures of one size, from a file or a folder."""

    names: tuple[str, ...]
    pixels: Tensor
    """(P, C, H, W) float64; 0 is black, 1 is white."""
    jpegs: tuple[Jpeg | None, ...] = ()
    """Of each picture the JPEG that it was stored as, if it was one."""

    @property
    def gray(self) -> tuple[bool, ...]:
        """Whether each picture of three channels is gray, up to what a codec changes."""
        y = self.pixels
        most = [float((one.amax(dim=0) - one.amin(dim=0)).max()) for one in y] if y.shape[1] == 3 else [1.0] * len(y)
        return tuple(255 * colors < CODEC_NOISE + 0.5 for colors in most)


def read_pictures(
    path: Path,
    space: Space,
    *,
    what: str = "a picture",
    smaller: bool = False,
    fit: bool | None = None,
) -> Pictures:
    """Reads a picture, or all pictures of a folder in the order of their names.

    space: shape of the pictures, and black and white of numbers in .npy files; with `smaller`, pictures are smaller
    than that, all of one size. what: kind of picture for messages. fit: resize image files of other sizes until they
    just cover this one, and crop the middle, as training images are; False offers that in the error, None does not. A
    .npy may hold several pictures, (P, H, W) or (P, H, W, C); what can be read as one picture is one.
    Raises NcsnxError for files that can't be read or have another size.
    """
    wanted = _Wanted(what, space.shape, space, smaller, fit)
    names: list[str] = []
    stacks: list[Tensor] = []
    jpegs: list[Jpeg | None] = []
    for file in picture_files(path):
        check_stop()
        pixels, jpeg = wanted.read(file)
        wanted = attrs.evolve(wanted, shape=tuple(pixels.shape[1:]), smaller=False, first=wanted.first or file.name)
        name = in_utf8(Path(file.name))
        names += [name] if len(pixels) == 1 else [f"{name}[{number}]" for number in range(len(pixels))]
        stacks.append(pixels)
        jpegs += [jpeg] * len(pixels)
    return Pictures(tuple(names), torch.cat(stacks), tuple(jpegs))


def size_of(path: Path, channels: int) -> tuple[int, int]:
    """Height and width of a picture, or of the first one of a folder. channels: of .npy files. Raises NcsnxError."""
    file = picture_files(path)[0]
    if file.suffix.lower() == NUMBERS:
        shape = open_array_file(file).array().shape
        is_several = len(shape) == 4 or (len(shape) == 3 and shape[2] != channels)
        height, width = (*shape[is_several:], 0, 0)[:2]
        if height * width == 0:
            raise NcsnxError(f"{in_utf8(file)}: expected a picture of numbers, found {'×'.join(map(str, shape))}")
        return height, width
    try:
        content = bounded_reads.read_bytes(file, _LARGEST)
    except OSError as error:
        raise _unreadable(file, error) from error
    image = decode(content, in_utf8(file))
    return image.height, image.width


def mask_space(space: Space) -> Space:
    """The space of a picture of zeros and ones, of the size of the images."""
    return attrs.evolve(space.at((1, *space.shape[1:])), bounded=True, complex=False, own=(0.0, 1.0))


def picture_files(path: Path) -> list[Path]:
    """The file, or the files of pictures in the folder by name. Raises NcsnxError if there are none."""
    kinds = (*SUFFIXES, NUMBERS)
    try:
        if not path.is_dir():
            return [path]
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in kinds and not file.is_dir())
    except OSError as error:
        raise _unreadable(path, error) from error
    files = [file for file in files if not file.name.startswith(".")]
    if not files:
        raise NcsnxError(
            f"{in_utf8(path)}: expected a picture, or a folder of pictures ({', '.join(kinds)}), found none"
        )
    return files


@attrs.frozen
class _Wanted:
    """Requirements of a task's pictures."""

    what: str
    """Kind of picture, for messages."""
    shape: tuple[int, ...]
    """(C, H, W)"""
    space: Space
    """Black and white of numbers."""
    smaller: bool
    """Whether pictures must be smaller than that instead of equal."""
    fit: bool | None
    """Whether image files of other sizes are resized and cropped; None: that isn't offered."""
    first: str = ""
    """File of the first picture, whose size the others need."""

    def read(self, file: Path) -> tuple[Tensor, Jpeg | None]:
        """The pictures in a file, (P, C, H, W) float64, 0 is black, 1 is white; and the JPEG that it is. Raises
        NcsnxError."""
        if file.suffix.lower() == NUMBERS:
            return self._of_numbers(file), None
        if not self.space.bounded:
            raise NcsnxError(
                f"{in_utf8(file)}: image files have values from black to white, and this model's data is unbounded; "
                f"give a {NUMBERS} in the data's own values, as {self._form}"
            )
        pixels, jpeg = self._of_image(file)
        return pixels[None], jpeg

    def _of_image(self, path: Path) -> tuple[Tensor, Jpeg | None]:
        """(C, H, W) float64 in [0, 1] of an image file, gray or colored, and the JPEG that it is."""
        name, (channels, *size) = in_utf8(path), self.shape
        try:
            content = bounded_reads.read_bytes(path, _FILE_BYTES + _BYTES_PER_PIXEL * size[0] * size[1])
        except OSError as error:
            raise _unreadable(path, error) from error
        hints = [] if self.fit is None else [Hint("resize and crop it", adds=argument("fit", True))]
        image = decode(content, name)
        if not self.fit:
            self._require_size(name, image.height, image.width, *hints)
        if channels not in (1, 3):
            raise NcsnxError(
                f"{name}: expected {self.what} of {counted(channels, 'channel')}, but image files have 1 or 3; "
                f"give a {NUMBERS} of H×W×{channels} numbers"
            )
        if channels == 1 and not is_gray(image):
            raise NcsnxError(f"{name}: expected {self.what} in gray, found colors")
        is_whole = self._admits(image.height, image.width)
        flat = _flat(image, channels, keeps_alpha=is_whole)
        if not is_whole:
            flat = fitted(flat, (size[0], size[1]))
        pixels = torch.from_numpy(np.array(flat, dtype=np.float64)) / (65_535 if image.mode in WIDE_MODES else 255)
        pixels = pixels.view(flat.height, flat.width, -1).expand(-1, -1, channels)
        return pixels.permute(2, 0, 1), Jpeg.of(content, name)

    def _of_numbers(self, path: Path) -> Tensor:
        """(P, C, H, W) float64 of the pictures in a .npy file. Complex numbers become real and imaginary part."""
        name, file, space, form = in_utf8(path), open_array_file(path), self.space, self._form
        if file.names is not None:
            raise NcsnxError(f"{name}: expected a {NUMBERS} of {form} numbers, found a .npz; save it with numpy.save")
        array = file.array()
        shape, is_complex = array.shape, array.is_complex
        is_one = len(shape) > 1 and self._has_channels(array, shape[2:]) and self._admits(*shape[:2])
        if not is_one and len(shape) > 2 and self._has_channels(array, shape[3:]) and self._admits(*shape[1:3]):
            shape = shape[1:]
        fits = len(shape) > 1 and 0 not in array.shape and self._has_channels(array, shape[2:])
        if not fits or array.dtype.kind not in (REAL + COMPLEX if space.complex else REAL):
            real = ", since the model's data is real" if is_complex and not space.complex else ""
            found = f"{array.dtype} {'×'.join(map(str, array.shape))}"
            raise NcsnxError(f"{name}: expected {self.what} as {form} numbers{real}, found {found}")
        self._require_size(name, shape[0], shape[1])
        array.require_memory(_COPIES)
        with np.errstate(all="ignore"):  # overflow gives infinity, which is refused below
            wide = array.read().astype(np.complex128 if is_complex else np.float64)
        numbers = as_channels(torch.from_numpy(wide).reshape(-1, *shape[:2], *(shape[2:] or (1,))).permute(0, 3, 1, 2))
        black, white = space.own
        scaled = (numbers - black) / (white - black)
        require_finite(scaled, name)
        if space.bounded and (float(scaled.min()) < -1 or float(scaled.max()) > 2):
            raise NcsnxError(
                f"{name}: expected values from {black:g} (black) to {white:g} (white), as in the model's data; found "
                f"{float(numbers.min()):.6g} to {float(numbers.max()):.6g}"
            )
        return scaled

    def _admits(self, height: int, width: int) -> bool:
        """Whether a picture may have this size."""
        _, high, wide = self.shape
        return height <= high and width <= wide and self.smaller != ((height, width) == (high, wide))

    def _require_size(self, name: str, height: int, width: int, *hints: Hint) -> None:
        """Raises NcsnxError for a picture of another size."""
        if self._admits(height, width):
            return
        _, high, wide = self.shape
        first = f", as {in_utf8(Path(self.first))} has" if self.first else ""
        raise NcsnxError(
            f"{name}: expected {self.what} {'smaller than' if self.smaller else 'of'} {high}×{wide} pixels (height × "
            f"width){first}, found {height}×{width}; resize or crop it first",
            *hints,
        )

    def _has_channels(self, array: StoredArray, axes: tuple[int, ...]) -> bool:
        """Whether an array with these axes behind height and width is of pictures with the number of channels."""
        each = self.shape[0] // 2 if array.dtype.kind in COMPLEX else self.shape[0]
        return axes == (each,) or (axes == () and each == 1)

    @property
    def _form(self) -> str:
        """The numbers of a picture in words."""
        channels, pairs = self.shape[0], self.shape[0] // 2
        if self.space.complex:
            return f"complex {'H×W' if pairs == 1 else f'H×W×{pairs}'}, or real H×W×{channels},"
        return "H×W or H×W×1" if channels == 1 else f"H×W×{channels}"


def _flat(image: Image, channels: int, *, keeps_alpha: bool) -> Image:
    """A decoded picture without transparency, in mode L or RGB, or F for 16 bits, from 0 to 65,535.

    keeps_alpha: it gets its transparency back, so it has its own colors, white where it is fully transparent; otherwise
    it is shown on white.
    """
    if image.mode in WIDE_MODES:
        values = np.asarray(image).astype(np.float32)
        key = image.info.get("transparency")
        return Pillow.fromarray(np.where(values == key, 65_535, values) if isinstance(key, int) else values)
    if keeps_alpha and image.has_transparency_data:
        image = image.convert("RGBA")
        image.putalpha(image.getchannel("A").point(lambda opacity: 255 * (opacity > 0)))
    return flattened(image, channels)


def _unreadable(path: Path, error: OSError) -> NcsnxError:
    return UsageError(f"cannot read {in_utf8(path)}: {error.strerror or error}; check the file's name")


GivenPictures: TypeAlias = Path | str | Tensor | NDArray[Any] | Image
"""A file or a folder; a Pillow image; an array as in a .npy, (H, W), (H, W, C) or (P, H, W, C) in the data's own
values; or a tensor as `ncsnx.draw` returns it, (H, W), (C, H, W) or (P, C, H, W)."""


def as_file(name: str, given: object, folder: Path, space: Space) -> Path:
    """The pictures of a parameter as a file: the path that was given, or a new file in `folder`.

    space: that of the model. Raises UsageError for anything else.
    """
    match given:
        case Path() | str():
            return Path(given)
        case JpegImageFile(filename=str(path)) if _is_as_stored(given, Path(path)):
            return Path(path)  # which has its tables
        case Image():
            try:
                given.save(folder / f"{name}.png")
            except OSError as error:
                raise UsageError(f"{parameter(name)}: {error}") from error
            return folder / f"{name}.png"
        case Tensor():
            array = _as_numbers(given.detach().cpu(), space)
        case np.ndarray():
            array = given
        case _:
            raise UsageError(
                f"{parameter(name)} must be a path, a Pillow image, an array or a tensor, not {quoted(given)}"
            )
    np.save(folder / f"{name}.npy", array)
    return folder / f"{name}.npy"


def _is_as_stored(image: Image, path: Path) -> bool:
    """Whether a picture still has the pixels of its file: most of Pillow's changes in place keep its class."""
    try:
        with Pillow.open(path) as stored:
            return np.array_equal(np.asarray(image), np.asarray(stored))
    except (OSError, ValueError):
        return False


def _as_numbers(images: Tensor, space: Space) -> NDArray[Any]:
    """Images with channels first, as `ncsnx.draw` returns them, as an array in the data's own values."""
    images = space.own_numbers(images) if space.bounded else images
    array: NDArray[Any] = (images.movedim(-3, -1) if images.dim() > 2 else images).numpy()
    return array
