"""Files in a folder or zip of pictures that aren't read: counts by kind, with the reason and what to do."""

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

import attrs

from ncsnx.data.pictures.decoding import GIF_SUFFIXES, HEIC_EXTRA, HEIC_SUFFIXES, decodes_heic
from ncsnx.data.pictures.scan import Scan, printable_name

_BY_SYSTEMS = ("thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r")
"""Files that operating systems create in every folder, in lower case; those of macOS are hidden."""
_LONGEST_KIND = 20
_MOST_KINDS = 10
_REASONS = {
    (".svg", ".svgz", ".pdf", ".eps", ".ps", ".ai", ".emf", ".wmf"): "not a raster image; export it as PNG",
    (".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"): "an archive, not opened; unpack it",
    (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".wmv"): "a video; save its frames as PNG",
    (".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf", ".dng"): "raw camera data; develop it to PNG or TIFF",
    (".npy", ".npz", ".safetensors"): "an array, not a picture; name the file instead of the folder",
    (".dcm", ".nii", ".h5", ".hdf5", ".mat", ".fits", ".czi", ".nd2", ".lif", ".svs"): (
        "measured values; save them as one .npy file, and name it instead of the folder"
    ),
    (".jfif", ".jpe", ".pjpeg", ".pjp"): "a JPEG under another name; rename it to .jpg",
    (".apng",): "a PNG under another name; rename it to .png",
    (".dib",): "a BMP under another name; rename it to .bmp",
    (".avif", ".jxl", ".jp2", ".j2k", ".psd", ".xcf", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".exr", ".hdr"): (
        "an unsupported format; convert it to PNG"
    ),
}
_NAMES = {"PNG": "animated PNG", "WEBP": "animated WebP"}


@attrs.frozen
class Unread:
    """Files, pages or frames of one kind that aren't read."""

    count: int
    kind: str
    reason: str
    """Why they aren't read, and what to do."""

    def __str__(self) -> str:
        return f"{self.count:,} {self.kind}: {self.reason}"


def unread_in(others: Collection[str], scan: Scan) -> list[Unread]:
    """Everything in a folder or zip that isn't read: files first, then pages and frames.

    Kinds with advice come before the others, then the most frequent ones. others: names of the files that aren't read.
    Files that operating systems create are ignored.
    """
    return [*_files(others), *_pages(scan)]


def _files(others: Collection[str]) -> Iterator[Unread]:
    paths = [PurePosixPath(name) for name in others]
    kinds = Counter(path.suffix.lower() for path in paths if path.name.lower() not in _BY_SYSTEMS)
    ordered = sorted(kinds.items(), key=lambda row: (_reason(row[0]) == _reason(""), -row[1], row[0]))
    for suffix, count in ordered[:_MOST_KINDS]:
        kind = printable_name(suffix[:_LONGEST_KIND]) or (
            "file without a suffix" if count == 1 else "files without a suffix"
        )
        yield Unread(count, kind, _reason(suffix))
    if rest := sum(count for _, count in ordered[_MOST_KINDS:]):
        yield Unread(rest, "file of other kinds" if rest == 1 else "files of other kinds", "not read")


def _reason(suffix: str) -> str:
    if suffix in GIF_SUFFIXES:
        return "data.gif=true reads the first frame of each"
    if suffix in HEIC_SUFFIXES:
        return f"{'' if decodes_heic() else f'needs {HEIC_EXTRA}, then '}data.heic=true"
    return next((reason for suffixes, reason in _REASONS.items() if suffix in suffixes), "not a picture")


def _pages(scan: Scan) -> Iterator[Unread]:
    for kind, (files, count) in scan.further.items():
        noun = "page" if kind == "TIFF" else "picture" if kind == "HEIF" else "frame"
        name = _NAMES.get(kind, kind)
        what = f"further {noun}{'' if count == 1 else 's'} of {files:,} {name}{'' if files == 1 else 's'}"
        yield Unread(count, what, f"only the first {noun} of a file is read; save the others as separate files")
