"""Data sets as configuration. What reads them is in `ncsnx.data`."""

from typing import Literal

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import OUTSIDE_IDENTITY, Config, variant

Dequantization = Literal["none", "uniform", "gaussian"]
Transform = Literal["none", "rescaled", "logit"]


@attrs.frozen(kw_only=True)
class Data(Config):
    """A data set and how its images reach the network: pixels in [0, 1], flipped, dequantized, transformed."""

    random_flip: bool = False
    """Mirror each training image left to right with probability one half."""
    dequantization: Dequantization = "none"
    """'uniform': x·(q−1)/q + u/q for q grey levels (255/256 and u/256 for 8 bits); 'gaussian': x + 0.01 z."""
    transform: Transform = "none"
    """'rescaled': 2x − 1; 'logit': ln u − ln(1 − u) of u = λ + (1 − 2λ)x with λ = 1e-6. With 'none' the network
    itself maps x to 2x − 1."""

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        raise NotImplementedError(f"{type(self).__name__} does not say its image_size")

    @property
    def stored_size(self) -> int:
        """Height and width of what the reader gives; where it is larger than `image_size`, that is cropped from it, at
        random in training and from the centre elsewhere."""
        return self.image_size

    @property
    def channels(self) -> int:
        """Number of channels."""
        return 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return self.channels, self.image_size, self.image_size


def place_fields(data: Data) -> list[str]:
    """The fields that say where on a machine the data is: text outside the identity; those that are set."""
    fields = [
        field.name
        for field in attrs.fields(type(data))
        if field.type in (str, str | None) and not field.metadata.get("identity", True)
    ]
    return [name for name in fields if getattr(data, name) is not None]


@attrs.frozen(kw_only=True)
class DataOnDisk(Data):
    """A data set that a person puts on the disk."""

    root: str | None = attrs.field(
        default=None, validator=checks.when_given(checks.one_line), metadata=OUTSIDE_IDENTITY
    )
    """Where its files are. By default a folder of the set's own in the data folder (NCSNX_DATA, else ./data)."""


@variant(Data, "digits")
@attrs.frozen(kw_only=True)
class Digits(Data):
    """scikit-learn's 1,797 handwritten digits, 8×8, one channel, grey levels 0 to 16. Ships with scikit-learn.

    Held out: every image whose index is 5 modulo 6.
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
    """CIFAR-10 (Krizhevsky 2009), binary version: 50,000 training and 10,000 test images of 32×32 pixels."""

    @property
    def image_size(self) -> int:
        return 32


@variant(Data, "celeba")
@attrs.frozen(kw_only=True)
class CelebA(DataOnDisk):
    """CelebA, aligned and cropped (Liu et al. 2015): centre crop, then resized; split as the data set declares."""

    image_size: int = attrs.field(default=64, validator=checks.between(1, 16_384))
    crop: int = attrs.field(default=140, validator=checks.between(1, 178))
    """Side of the centre crop, in pixels of the original 178×218."""


@variant(Data, "lsun")
@attrs.frozen(kw_only=True)
class LSUN(DataOnDisk):
    """One category of LSUN (Yu et al. 2015), LMDB: the short side resized, then a centre crop."""

    category: str = attrs.field(validator=checks.plain_word)
    """Such as bedroom, tower or church_outdoor."""
    image_size: int = attrs.field(validator=checks.between(1, 16_384))


@variant(Data, "ffhq")
@attrs.frozen(kw_only=True)
class FFHQ(DataOnDisk):
    """FFHQ (Karras et al. 2019), LMDB at one resolution; 90/10 split of a fixed shuffle."""

    image_size: int = attrs.field(default=256, validator=checks.between(1, 16_384))


@attrs.frozen(kw_only=True)
class OwnData(Data):
    """Square images that a person brings, of a size and a number of channels that are declared."""

    image_size: int = attrs.field(validator=checks.between(1, 16_384))
    random_crop: int | None = attrs.field(default=None, validator=checks.when_given(checks.between(1, 16_384)))
    """Side of the pictures that squares of `image_size` are cropped from: in training at random."""

    @property
    def stored_size(self) -> int:
        return self.random_crop or self.image_size

    @random_crop.validator
    def _is_large_enough(self, attribute: "attrs.Attribute[int | None]", value: int | None) -> None:
        if (
            value is not None
            and checks.is_whole(value)
            and checks.is_whole(self.image_size)
            and value < self.image_size
        ):
            raise checks.FieldError("random_crop", f"must be at least image_size={self.image_size}, not {value}")


@variant(Data, "images")
@attrs.frozen(kw_only=True)
class Images(OwnData):
    """A folder or zip of pictures (PNG, JPEG, WebP, TIFF, BMP), nested or not: resized by the short side, cropped."""

    root: str = attrs.field(validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """The folder or zip. A relative one is looked for in the current folder, then in the data folder."""
    channels: int = attrs.field(default=3, validator=checks.one_of(1, 3))
    """1: grey; 3: colour."""
    background: str = attrs.field(default="white", validator=checks.colour)
    """What shows through transparent pixels: white, black, grey or #rrggbb."""
    held_out: float = attrs.field(default=0.1, validator=checks.fraction)
    """Share of the pictures that is held out: chosen by a hash of each name, so that it stays when others are added."""
    held_out_folder: str | None = attrs.field(default=None, validator=checks.when_given(checks.one_line))
    """Top folder whose pictures are held out, in place of `held_out`."""
    on_error: Literal["refuse", "skip"] = attrs.field(default="refuse", metadata=OUTSIDE_IDENTITY)
    """What broken files do: 'refuse' the set and name all, or 'skip' them, counted."""
    # Off by default, as before there were these fields: the fingerprint of a set, which a run is held to, must not
    # change because its folder also holds such files. That it covers the files read is why the fields needn't be in the
    # identity.
    gif: bool = attrs.field(default=False, metadata=OUTSIDE_IDENTITY)
    """Read GIFs too: of each the first frame."""
    heic: bool = attrs.field(default=False, metadata=OUTSIDE_IDENTITY)
    """Read HEIC and HEIF too, which takes the extra `heic`."""


@variant(Data, "arrays")
@attrs.frozen(kw_only=True)
class Arrays(OwnData):
    """Images as numbers: `.npy`, `.npz` or safetensors, N×C×H×W or N×H×W(×C), with any number of channels."""

    path: str = attrs.field(validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """The file. A relative one is looked for in the current folder, then in the data folder."""
    channels: int = attrs.field(default=1, validator=checks.between(1, 1_024))
    low: float = attrs.field(default=0.0, validator=checks.finite)
    """The value that is black: 0 for the network."""
    high: float = attrs.field(default=255.0, validator=checks.finite)
    """The value that is white: 1 for the network."""
    array: str | None = attrs.field(default=None, validator=checks.when_given(checks.one_line))
    """Name of the array in a file that holds several; labels are read from one that is called 'labels'."""
    held_out: float = attrs.field(default=0.1, validator=checks.fraction)
    """Share of the images that is held out: chosen by a hash of each place, so that it stays when others are added."""

    @high.validator
    def _is_above_low(self, attribute: "attrs.Attribute[float]", value: object) -> None:
        if isinstance(value, int | float) and not value > self.low:
            raise checks.FieldError("high", f"must be above low={self.low}, not {value}")


@variant(Data, "packed")
@attrs.frozen(kw_only=True)
class Packed(OwnData):
    """A file that `ncsnx data pack` made: decoded once, read without decoding; it holds its own split."""

    path: str = attrs.field(validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """The file. A relative one is looked for in the current folder, then in the data folder."""
    channels: int = attrs.field(default=3, validator=checks.between(1, 1_024))
