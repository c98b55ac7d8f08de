"""Configuration of data sets. Their readers are in `ncsnx.data`."""

import math
import re
from typing import Literal

import attrs

from ncsnx.config import checks
from ncsnx.config.image_sizes import ImageSize, as_image_size, height_and_width, is_image_size, size_as_words
from ncsnx.config.variants import OUTSIDE_IDENTITY, OUTSIDE_IDENTITY_AT_DEFAULT, Config, variant

Dequantization = Literal["none", "uniform", "gaussian"]
Transform = Literal["none", "rescaled", "logit"]
Bounds = Literal["bounded", "unbounded"]

LARGEST_SIDE = 16_384
"""Largest height and width of images, in pixels."""
MOST_CHANNELS = 1_024


def is_possible_size(size: ImageSize) -> bool:
    """Whether images may have this size: both sides are from 1 to `LARGEST_SIDE`."""
    return all(1 <= side <= LARGEST_SIDE for side in height_and_width(size))


@attrs.frozen(kw_only=True)
class Data(Config):
    """A data set and the path of its images to the network: scaled to [0, 1], flipped, dequantized, transformed."""

    random_flip: bool = False
    """Mirrors each training image left to right with probability ½, drawn again in every epoch."""
    dequantization: Dequantization = attrs.field(default="none")
    """Noise added to pixels x in [0, 1]. 'uniform': x·(q−1)/q + u/q for q gray levels (255/256 and u/256 for 8 bits)
    and u uniform in [0, 1); 'gaussian': x + 0.01·z with z standard normal; 'none': no noise."""
    transform: Transform = attrs.field(default="none")
    """Map from pixels x in [0, 1] to the range of the network. 'rescaled': 2x − 1; 'logit': ln u − ln(1 − u) for
    u = λ + (1 − 2λ)x with λ = 1e-6; 'none': x itself, which the network maps to 2x − 1."""
    sigma_data: float | None = attrs.field(
        default=None, validator=checks.positive, metadata=OUTSIDE_IDENTITY_AT_DEFAULT
    )
    """σ_data of Karras et al. 2022 (arXiv 2206.00364): the root mean square of the images around the middle of their
    range, in the range of the network. None: measured on up to 1,024 training images when a run starts."""

    noise: float = attrs.field(default=0.0, validator=checks.not_negative, metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Standard deviation of the white noise that the images already have, >= 0, in the data's own values (of complex
    values that of each part); of pictures, where black is 0 and white 1. Training adds the noise that is missing at
    each σ above, so that the network learns the clean images without seeing one. It knows no σ below."""
    gain: float = attrs.field(default=0.0, validator=checks.not_negative, metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Variance of the noise per value, >= 0, in the same units: the value of one counted photon. `noise` is the read
    noise then. The network sees the generalized Anscombe transform of the values, in which their noise is white. 0: the
    noise doesn't grow with the values."""

    @noise.validator
    @gain.validator
    def _stays_white(self, attribute: "attrs.Attribute[float]", value: float) -> None:
        if value == 0:
            return
        if self.transform == "logit":
            raise checks.FieldError(attribute.name, f"must be 0 for transform=logit, found {value:g}")
        if self.resizes:
            cause = f"must be 0 for pictures that are resized, which smooths noise, found {value:g}"
            raise checks.FieldError(attribute.name, f"{cause}; data=images data.patches=true cuts patches")
        if any(scale != 1 for scale in getattr(self, "scales", ())):
            raise checks.FieldError("scales", f"must be 1 with {attribute.name}={value:g}, which reduced pictures lose")
        if attribute.name == "gain" and self.is_complex:
            raise checks.FieldError("gain", f"must be 0 for complex values, found {value:g}")
        if attribute.name == "gain" and self.is_bounded and (low := getattr(self, "low", 0)) != 0:
            raise checks.FieldError("gain", f"counts from 0, not from low={low:g}; set range=unbounded")

    @dequantization.validator
    def _has_gray_levels(self, attribute: "attrs.Attribute[Dequantization]", value: Dequantization) -> None:
        if value != "none" and not self.is_bounded:
            raise checks.FieldError(
                "dequantization", f"must be none for unbounded data, which has no gray levels, not {value}"
            )

    @transform.validator
    def _takes_any_value(self, attribute: "attrs.Attribute[Transform]", value: Transform) -> None:
        if value == "logit" and not self.is_bounded:
            raise checks.FieldError("transform", "must be none or rescaled for unbounded data, not logit")

    @property
    def image_size(self) -> ImageSize:
        """Height and width in pixels: one number for squares, the pair (height, width) for rectangles."""
        raise NotImplementedError(f"{type(self).__name__} does not say its image_size")

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the images that the reader gives. If larger than `image_size`, they are cropped:
        at random in training, from the center elsewhere."""
        return self.shape[1:]

    @property
    def resizes(self) -> bool:
        """Whether the reader resizes pictures of another size, so that their noise would not stay white."""
        return False

    @property
    def channels(self) -> int:
        """Number of channels: 1 for gray, 3 for color."""
        return 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return self.channels, *height_and_width(self.image_size)

    @property
    def is_noisy(self) -> bool:
        """Whether the images have noise."""
        return self.noise > 0 or self.gain > 0

    @property
    def noise_as_typed(self) -> str:
        """The noise of the images: 'data.gain=1 data.noise=0.5'; '' for clean ones."""
        return " ".join(f"data.{name}={getattr(self, name):g}" for name in ("gain", "noise") if getattr(self, name))

    @property
    def is_bounded(self) -> bool:
        """Whether the images lie between black and white, which are 0 and 1. Other data keeps its own values."""
        return True

    @property
    def is_complex(self) -> bool:
        """Whether each pair of channels is the real and the imaginary part of complex values."""
        return False


def path_fields(data: Data) -> list[str]:
    """Names of the fields that say where the data is on this machine, if set: text fields outside the identity."""
    fields = [
        field.name
        for field in attrs.fields(type(data))
        if field.type in (str, str | None) and not field.metadata.get("identity", True)
    ]
    return [name for name in fields if getattr(data, name) is not None]


@attrs.frozen(kw_only=True)
class DataOnDisk(Data):
    """A published data set that is read from a folder."""

    root: str | None = attrs.field(default=None, validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """Folder of the data set's files. None: a folder of its own inside the data folder (NCSNX_DATA, else ./data)."""


@variant(Data, "digits")
@attrs.frozen(kw_only=True)
class Digits(Data):
    """The 1,797 handwritten digits that ship with scikit-learn: 8×8 pixels, one channel, gray levels 0 to 16.

    Images whose index is 5 modulo 6 are held out.
    """

    @property
    def image_size(self) -> int:
        return 8

    @property
    def channels(self) -> int:
        return 1


@variant(Data, "cifar10")
@attrs.frozen(kw_only=True)
class CIFAR10(DataOnDisk):
    """CIFAR-10 (Krizhevsky 2009), binary version: 50,000 training and 10,000 held-out images of 32×32 pixels."""

    @property
    def image_size(self) -> int:
        return 32


@variant(Data, "mnist")
@attrs.frozen(kw_only=True)
class MNIST(DataOnDisk):
    """MNIST (LeCun et al. 1998), handwritten digits: 60,000 training and 10,000 held-out images of 28×28 pixels, gray,
    of the classes 0 to 9."""

    @property
    def image_size(self) -> int:
        return 28

    @property
    def channels(self) -> int:
        return 1


@variant(Data, "fashion_mnist")
@attrs.frozen(kw_only=True)
class FashionMNIST(MNIST):
    """Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747), clothes: as many images as in MNIST, in ten classes."""


@variant(Data, "celeba")
@attrs.frozen(kw_only=True)
class CelebA(DataOnDisk):
    """CelebA, aligned and cropped (Liu et al. 2015): center crop, then resized; the data set's own split."""

    image_size: ImageSize = attrs.field(default=64, converter=as_image_size, validator=checks.between(1, LARGEST_SIDE))
    """Height and width of the images in pixels, 1 to 16,384: one number, or the pair (height, width)."""
    crop: ImageSize = attrs.field(default=140, converter=as_image_size, validator=checks.between(1, 218))
    """Height and width of the center crop before resizing, in pixels of the original pictures, which are 218 high and
    178 wide: one number, or the pair (height, width)."""

    @property
    def resizes(self) -> bool:
        return True

    @crop.validator
    def _within_pictures(self, attribute: "attrs.Attribute[ImageSize]", value: ImageSize) -> None:
        if is_image_size(value) and (width := height_and_width(value)[1]) > 178:
            raise checks.FieldError("crop", f"must have a width of at most 178, not {width:,}")


@variant(Data, "lsun")
@attrs.frozen(kw_only=True)
class LSUN(DataOnDisk):
    """One category of LSUN (Yu et al. 2015) as LMDB: the short side resized, then a center crop."""

    category: str = attrs.field(validator=checks.plain_word)
    """Name of the category, such as bedroom, tower or church_outdoor: 1 to 64 letters, digits, _ or -."""
    image_size: ImageSize = attrs.field(converter=as_image_size, validator=checks.between(1, LARGEST_SIDE))
    """Height and width of the images in pixels, 1 to 16,384: one number, or the pair (height, width)."""

    @property
    def resizes(self) -> bool:
        return True


@variant(Data, "ffhq")
@attrs.frozen(kw_only=True)
class FFHQ(DataOnDisk):
    """FFHQ (Karras et al. 2019) as an LMDB or as image folders, at one resolution; 90/10 split of a fixed shuffle."""

    image_size: ImageSize = attrs.field(default=256, converter=as_image_size, validator=checks.between(1, LARGEST_SIDE))
    """Height and width of the images in pixels, 1 to 16,384: one number, or the pair (height, width), which is cropped
    from squares."""

    @property
    def resizes(self) -> bool:
        return True


@variant(Data, "phantoms")
@attrs.frozen(kw_only=True)
class Phantoms(Data):
    """Synthetic complex images, drawn from a seed: ellipses with a phase that varies slowly, as in magnetic resonance.

    The channels are real and imaginary part, unbounded; 99 of 100 magnitudes are below 1.03. One image in sixteen is
    held out.
    """

    image_size: ImageSize = attrs.field(default=(64, 48), converter=as_image_size, validator=checks.between(8, 1_024))
    """Height and width of the images in pixels, 8 to 1,024: one number, or the pair (height, width)."""
    count: int = attrs.field(default=4_096, validator=checks.between(16, 1_000_000))
    """Number of images, 16 to 1,000,000, training and held-out ones together."""
    seed: int = attrs.field(default=0, validator=checks.between(0, 2**32 - 1))
    """Seed of the images, 0 to 4,294,967,295."""

    @property
    def channels(self) -> int:
        return 2

    @property
    def is_bounded(self) -> bool:
        return False

    @property
    def is_complex(self) -> bool:
        return True

    @property
    def scale(self) -> float:
        """Value that becomes 1."""
        return 1.0


@attrs.frozen(kw_only=True)
class OwnData(Data):
    """Your own images, with a declared size and number of channels."""

    image_size: ImageSize = attrs.field(converter=as_image_size, validator=checks.between(1, LARGEST_SIDE))
    """Height and width of the images in pixels, 1 to 16,384: one number, or the pair (height, width)."""
    random_crop: ImageSize | None = attrs.field(
        default=None, converter=as_image_size, validator=checks.between(1, LARGEST_SIDE)
    )
    """Height and width in pixels, at least those of `image_size`, of the pictures that images are cropped from: at
    random in training, from the center elsewhere. None: pictures are brought to `image_size` directly."""

    @property
    def stored_size(self) -> tuple[int, int]:
        return height_and_width(self.random_crop or self.image_size)

    @random_crop.validator
    def _is_large_enough(self, attribute: "attrs.Attribute[ImageSize | None]", value: ImageSize | None) -> None:
        if value is None or not (is_image_size(value) and is_image_size(self.image_size)):
            return
        if any(stored < side for stored, side in zip(height_and_width(value), self.shape[1:], strict=True)):
            least, found = size_as_words(self.image_size), size_as_words(value)
            raise checks.FieldError("random_crop", f"must be at least image_size={least}, not {found}")


@variant(Data, "images")
@attrs.frozen(kw_only=True)
class Images(OwnData):
    """A folder or zip of pictures (PNG, JPEG, WebP, TIFF, BMP), nested or not: the short side resized, then cropped, or
    patches cut from them."""

    root: str = attrs.field(validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """Folder or zip of the pictures. A relative path is looked up in the current folder, then in the data folder."""
    channels: int = attrs.field(default=3, validator=checks.one_of(1, 3))
    """Number of channels that pictures are converted to: 1 for gray, 3 for color."""
    patches: bool = attrs.field(default=False, metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Whether images are patches of `image_size`, cut from the pictures without resizing them: at random places in
    training, at fixed ones elsewhere. A picture gives as many images as patches fit side by side into it."""
    scales: tuple[float, ...] = attrs.field(
        default=(1.0,), validator=checks.positive_fraction, metadata=OUTSIDE_IDENTITY_AT_DEFAULT
    )
    """Scales of the pictures that patches are cut from, each above 0 and at most 1. Every patch draws one of them:
    1,0.5 cuts half of the patches from pictures reduced to half their height and width."""
    background: str = attrs.field(default="white", validator=checks.color)
    """Color behind transparent pixels: white, black, gray or #rrggbb."""
    held_out: float = attrs.field(default=0.1, validator=checks.fraction)
    """Share of the pictures that is held out, at least 0 and below 1. A hash of each picture's name decides, so that
    adding pictures doesn't move others."""
    held_out_folder: str | None = attrs.field(default=None, validator=checks.one_line)
    """Name of the top folder whose pictures are held out. None: `held_out` decides."""
    on_error: Literal["refuse", "skip"] = attrs.field(default="refuse", metadata=OUTSIDE_IDENTITY)
    """Handling of broken files. 'refuse': an error that names all of them; 'skip': they are left out and counted."""
    # Off by default, as before these fields existed: a run is bound to the fingerprint of its data set, which must not
    # change because the folder also holds such files. The fingerprint covers the files that are read, so the fields
    # need not be part of the identity.
    gif: bool = attrs.field(default=False, metadata=OUTSIDE_IDENTITY)
    """Whether GIFs are read too, the first frame of each."""
    heic: bool = attrs.field(default=False, metadata=OUTSIDE_IDENTITY)
    """Whether HEIC and HEIF files are read too; needs the extra `heic`."""

    @patches.validator
    def _are_the_whole_image(self, attribute: "attrs.Attribute[bool]", value: bool) -> None:
        if value is True and self.random_crop is not None:
            raise checks.FieldError("random_crop", "must be left out with patches=true, whose places are drawn")

    @property
    def resizes(self) -> bool:
        return not self.patches

    @property
    def room(self) -> tuple[int, int]:
        """Height and width that a picture must have for patches at every scale."""
        height, width = (math.ceil(side / min(self.scales)) for side in self.stored_size)
        return height, width

    @scales.validator
    def _are_those_of_patches(self, attribute: "attrs.Attribute[tuple[float, ...]]", value: tuple[float, ...]) -> None:
        if not value:
            raise checks.FieldError("scales", "must have at least one number")
        if value != attribute.default and not self.patches:
            raise checks.FieldError("scales", "needs patches=true; leave it out")


_repository = checks.Check("USER/SET", re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII).fullmatch, str)
_revision = checks.Check("a branch, tag or commit", re.compile(r"(?!.*\.\.)\w[\w./+-]*", re.ASCII).fullmatch, str)


@variant(Data, "hub")
@attrs.frozen(kw_only=True)
class Hub(OwnData):
    """Pictures of a data set on the Hugging Face Hub, in Parquet, or of a folder that the package `datasets` wrote: the
    short side resized, then cropped. Needs the extra `datasets`."""

    repository: str | None = attrs.field(default=None, validator=_repository)
    """Repository on the Hub, USER/SET, whose Parquet files are downloaded into the cache. None: `root` has them."""
    revision: str | None = attrs.field(default=None, validator=_revision)
    """Branch, tag or commit of the repository; a branch may change. None: the newest commit of its main branch."""
    root: str | None = attrs.field(default=None, validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """Folder of Parquet files, or one written by `save_to_disk`. A relative path is looked up in the current folder,
    then in the data folder."""
    subset: str | None = attrs.field(default=None, validator=checks.one_line)
    """Name of the configuration, for a data set that has several. None: its default."""
    split: str = attrs.field(default="train", validator=checks.one_line)
    """Name of the split that is trained on."""
    held_out_split: str | None = attrs.field(default=None, validator=checks.one_line)
    """Name of the split that is held out, such as test. None: `held_out` decides."""
    held_out: float = attrs.field(default=0.1, validator=checks.fraction)
    """Share of the split that is held out, at least 0 and below 1. A hash of each picture's index decides."""
    image: str | None = attrs.field(default=None, validator=checks.one_line)
    """Column of the pictures. None: the only one of type Image."""
    label: str | None = attrs.field(default=None, validator=checks.one_line)
    """Column of the classes. None: the only one of type ClassLabel, if there is one."""
    channels: int = attrs.field(default=3, validator=checks.one_of(1, 3))
    """Number of channels that pictures are converted to: 1 for gray, 3 for color."""
    background: str = attrs.field(default="white", validator=checks.color)
    """Color behind transparent pixels: white, black, gray or #rrggbb."""

    @property
    def resizes(self) -> bool:
        return True

    @root.validator
    def _is_one_place(self, attribute: "attrs.Attribute[str | None]", value: str | None) -> None:
        if (value is None) == (self.repository is None):
            raise checks.FieldError("repository", "must be given, or root, and not both")


def _suits_the_window(data: "NumericData", attribute: "attrs.Attribute[Bounds]", value: Bounds) -> None:
    """Raises FieldError for fields of unbounded data in bounded data."""
    for name in ("scale", "window_low", "window_high"):
        if value == "bounded" and getattr(data, name) is not None:
            raise checks.FieldError(name, f"needs range=unbounded, found {value}; leave it out")


@attrs.frozen(kw_only=True)
class NumericData(OwnData):
    """Your own images as numbers: between a black and a white value, or unbounded, with values of their own."""

    range: Bounds = attrs.field(default="bounded", validator=_suits_the_window, metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Range of the values. 'bounded': they lie between black and white, and so do the samples; 'unbounded': any finite
    numbers v, which the network sees as v / `scale`. Nothing is clamped then, and samples are in the data's own
    values."""
    scale: float | None = attrs.field(default=None, validator=checks.positive, metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Value that becomes 1 in unbounded data, > 0. None: the 99th percentile of |v| over the training set (of complex
    values: of their magnitude), which is measured when a run starts."""
    window_low: float | None = attrs.field(default=None, validator=checks.finite, metadata=OUTSIDE_IDENTITY)
    """Value that pictures of unbounded data show as black. None: 0 if the training set has no negative value, else
    −`scale`; complex data is shown as magnitude, from 0, and phase."""
    window_high: float | None = attrs.field(default=None, validator=checks.finite, metadata=OUTSIDE_IDENTITY)
    """Value that pictures of unbounded data show as white, above `window_low`. None: `scale`."""
    complex: bool = attrs.field(default=False, metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Whether the values are complex numbers. Each becomes two channels, the real and the imaginary part, so that
    `channels` is even; `range` is unbounded then. Pictures show magnitude and phase."""

    @property
    def is_bounded(self) -> bool:
        return self.range == "bounded"

    @property
    def is_complex(self) -> bool:
        return self.complex

    @complex.validator
    def _has_pairs_without_bounds(self, attribute: "attrs.Attribute[bool]", value: bool) -> None:
        if value is True and self.is_bounded:
            raise checks.FieldError("range", f"must be unbounded with complex=true, not {self.range}")
        if value is True and checks.is_whole(self.channels) and self.channels % 2:
            raise checks.FieldError(
                "channels", f"must be even with complex=true, two for each complex value, not {self.channels}"
            )

    @window_high.validator
    def _is_above_window_low(self, attribute: "attrs.Attribute[float | None]", value: object) -> None:
        if isinstance(value, int | float) and isinstance(self.window_low, int | float) and not value > self.window_low:
            raise checks.FieldError("window_high", f"must be above window_low={self.window_low}, not {value}")


def _suits_low_and_range(data: "Arrays | Volumes", attribute: "attrs.Attribute[float]", high: object) -> None:
    """Raises FieldError for bounds in the wrong order, and for bounds of unbounded data."""
    if isinstance(high, int | float) and not high > data.low:
        raise checks.FieldError("high", f"must be above low={data.low}, not {high}")
    for name in ("low", "high"):
        declared = getattr(data, name)
        if not data.is_bounded and declared != attrs.fields_dict(type(data))[name].default:
            raise checks.FieldError(
                name, f"needs range=bounded, found {data.range}, whose values have no bounds; leave {declared} out"
            )


@variant(Data, "arrays")
@attrs.frozen(kw_only=True)
class Arrays(NumericData):
    """Images as an array in a `.npy`, `.npz` or safetensors file: N×C×H×W or N×H×W(×C), any number of channels."""

    path: str = attrs.field(validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """File of the array. A relative path is looked up in the current folder, then in the data folder."""
    channels: int = attrs.field(default=1, validator=checks.between(1, MOST_CHANNELS))
    """Number of channels C of the array, 1 to 1,024."""
    low: float = attrs.field(default=0.0, validator=checks.finite)
    """Value of the array that becomes 0 (black), in bounded data."""
    high: float = attrs.field(default=255.0, validator=[checks.finite, _suits_low_and_range])
    """Value of the array that becomes 1 (white), in bounded data; above `low`."""
    array: str | None = attrs.field(default=None, validator=checks.one_line)
    """Name of the array in a file that holds several; labels are read from an array called 'labels'. None: the only
    array of images."""
    held_out: float = attrs.field(default=0.1, validator=checks.fraction)
    """Share of the images that is held out, at least 0 and below 1. A hash of each image's index decides, so that
    appending images doesn't move others."""


@variant(Data, "volumes")
@attrs.frozen(kw_only=True)
class Volumes(NumericData):
    """Slices of volumes in HDF5 (fastMRI, MATLAB 7.3), NIfTI or NumPy files, a folder, split by file, or one
    file. Slices are cropped, or padded with 0, around their center. HDF5 and NIfTI need the extra
    `science`."""

    path: str = attrs.field(validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """Folder of the files, or one file. A relative path is looked up in the current folder, then in the data folder."""
    dataset: str | None = attrs.field(default=None, validator=checks.one_line)
    """Name of the array in each file, with the groups that it is in, such as 'scan/rss'; a NIfTI has no names. None:
    'reconstruction_rss' (fastMRI), or else the only array."""
    axis: int | None = attrs.field(default=None, validator=checks.between(0, 3))
    """Axis of the slices, 0 to 3. None: the third (2) in NIfTI and MATLAB 7.3, the first (0) in other formats."""
    channels: int = attrs.field(default=1, validator=checks.between(1, MOST_CHANNELS))
    """Number of channels of a slice, 1 to 1,024; two for each complex value."""
    range: Bounds = attrs.field(default="unbounded", validator=_suits_the_window, metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Range of the values. 'unbounded': as they are, which the network sees divided by `scale`; 'bounded': between
    `low` and `high`, and so are the samples."""
    low: float = attrs.field(default=0.0, validator=checks.finite)
    """Value that becomes 0 (black), in bounded data."""
    high: float = attrs.field(default=1.0, validator=[checks.finite, _suits_low_and_range])
    """Value that becomes 1 (white), in bounded data; above `low`."""
    held_out: float = attrs.field(default=0.1, validator=checks.fraction)
    """Share that is held out, at least 0 and below 1: of the files, by a hash of each name, so that no volume is on
    both sides; of a single file, a block of slices around the middle."""


@variant(Data, "packed")
@attrs.frozen(kw_only=True)
class Packed(NumericData):
    """A file written by `ncsnx data pack`: images decoded once, with their split."""

    path: str = attrs.field(validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """The packed data set, a folder. A relative path is looked up in the current folder, then in the data folder."""
    channels: int = attrs.field(default=3, validator=checks.between(1, MOST_CHANNELS))
    """Number of channels of the packed images, 1 to 1,024."""


def cuts_patches(data: Data | None) -> bool:
    """Whether images are patches of pictures."""
    return isinstance(data, Images) and data.patches
