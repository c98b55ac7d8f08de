"""A folder or zip of the user's own pictures as a data set of 8-bit images of one size, decoded when they are read.
Patches are cut from pictures that are decoded once: see `ncsnx.data.patches`.

The top folder of a picture is the topmost one below the folders that all pictures share, so that a zip of a folder has
the same labels as the folder. (Its split and fingerprint differ, since they go by whole names: a run resumes only with
the one it was trained on.) `held_out_folder` names a top folder. If every picture has a top folder, and there are two
or more, these are the classes: the label is the folder's index in sorted order. With `train/cat`, `train/dog`,
`test/cat` … and 'test' held out, the classes are the folders within `train` and `test`. Otherwise there are no labels.
"""

import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from ncsnx.config.data_sets import Images as OwnImages
from ncsnx.config.image_sizes import size_in_words, size_of_sides
from ncsnx.data.dataset import NO_LABEL, Splits, held_out_by_hash, require_training_images
from ncsnx.data.decoding import GIF_SUFFIXES, HEIC_SUFFIXES, SUFFIXES, decodes_heic, fitted_pixels, rgb
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.patches import Patches, decoded_pictures
from ncsnx.data.places import existing_path
from ncsnx.data.readers.encoded_pictures import EncodedPictures, FilePictures
from ncsnx.data.registry import data_set
from ncsnx.data.scan import Scan, scan_of, scan_path, sound_files
from ncsnx.errors import Hint, NcsnxError, install_hint, printable
from ncsnx.quantities import counted
from ncsnx.work import Work

_BY_SYSTEMS = ("thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r")
"""Files that operating systems create in every folder, in lower case; those of macOS are hidden."""
_LONGEST_SUFFIX, _MOST_KINDS = 20, 10


@data_set(OwnImages)
def open_images(data: OwnImages, folder: Path, work: Work) -> Splits:
    """The pictures at `data.root`, split. folder: the data folder.

    The first time, every picture is scanned: see `ncsnx.data.scan`. A picture's id is its index among all
    names, including broken pictures. Raises DataMissingError for a missing folder or zip; NcsnxError for broken
    pictures, unless they are skipped, and if every picture is held out.
    """
    files = picture_files(data, existing_path(data.root, folder, field="root"))
    is_new = not scan_path(files).exists()
    scan = scan_of(files, work)
    if is_new and (unread := unread_in_words(files, scan.further_pages)):
        work.info(f"{files.root}: {unread}")
    sound = sound_files(files, scan, data.on_error, work)
    if data.patches:
        return _open_patches(data, sound, scan, work)
    if smaller := scan.smaller_than(data.stored_size):
        size = size_in_words(data.stored_size)
        work.warning(f"{counted(smaller, 'picture')} of less than {size} pixels will be enlarged")
    held_out = _held_out(data, sound)
    require_training_images(str(sound.root), held_out, "picture")
    labels, classes = _labels(sound.names, held_out, apart=data.held_out_folder is not None)
    places = {name: place for place, name in enumerate(files.names)}
    ids = torch.tensor([places[name] for name in sound.names])

    shape = data.channels, *data.stored_size
    decode = partial(fitted_pixels, size=data.stored_size, channels=data.channels, background=rgb(data.background))

    def split(chosen: Tensor) -> EncodedPictures:
        where = chosen.nonzero().flatten()
        return EncodedPictures(FilePictures(sound, sound.names), where, decode, shape, ids[chosen], labels[chosen])

    return Splits(split(~held_out), split(held_out), sound.fingerprint, classes)


def _open_patches(data: OwnImages, sound: ImageFiles, scan: Scan, work: Work) -> Splits:
    """Patches of the pictures that have room for one at every scale. Raises NcsnxError if none has."""
    decoded = decoded_pictures(sound, data, scan.sizes, work)
    has_room = (decoded.sizes.min(axis=1) >= data.stored_size).all(axis=1)
    if left_out := int((~has_room).sum()):
        smallest, count = min(data.scales), counted(len(sound), "picture")
        least = size_in_words(size_of_sides(data.room))
        need = f"{sound.root}: patches need {least} pixels" + (f" at scale {smallest:g}" if smallest < 1 else "")
        if left_out == len(sound):
            raise NcsnxError(f"{need}, which none of {count} has")
        work.warning(f"{need}, so {left_out:,} of {count} {'is' if left_out == 1 else 'are'} left out")
    kept = sound.without([name for name, fits in zip(sound.names, has_room, strict=True) if not fits])
    held_out = _held_out(data, kept)
    require_training_images(str(kept.root), held_out, "picture")
    labels, classes = _labels(kept.names, held_out, apart=data.held_out_folder is not None)
    places = torch.from_numpy(has_room).nonzero().flatten()

    def split(chosen: Tensor) -> Patches:
        return Patches(decoded, sound, places[chosen], labels[chosen], data.stored_size)

    return Splits(split(~held_out), split(held_out), kept.fingerprint, classes)


def picture_files(data: OwnImages, path: Path) -> ImageFiles:
    """The pictures that a data set reads from the folder or zip at `path`.

    Raises NcsnxError for what `ImageFiles` refuses, and for HEIC without its decoder: the files of a data set must not
    depend on what is installed.
    """
    wanted = (*SUFFIXES, *(GIF_SUFFIXES if data.gif else ()), *(HEIC_SUFFIXES if data.heic else ()))
    files = ImageFiles.open(path, wanted)
    count = sum(name.lower().endswith(HEIC_SUFFIXES) for name in files.names)
    if count and not decodes_heic():
        raise NcsnxError(
            f"{files.root}: HEIC ({count:,} of {counted(len(files), 'picture')}) needs an extra that is not installed",
            install_hint("heic"),
            Hint("or leave these pictures out", adds="data.heic=false"),
        )
    return files


def unread_files(files: ImageFiles) -> dict[str, int]:
    """Numbers of files that aren't read by suffix, the most frequent first, without those of operating systems."""
    paths = [PurePosixPath(name) for name in files.others]
    suffixes = (path.suffix.lower() for path in paths if path.name.lower() not in _BY_SYSTEMS)
    return dict(Counter(printable(suffix[:_LONGEST_SUFFIX]) for suffix in suffixes).most_common())


def unread_in_words(files: ImageFiles, further_pages: int = 0) -> str:
    """Files and pages that aren't read in one line, such as '12 files were not read: 9 .heic, 3 .svg'; '' for none."""
    unread, parts = unread_files(files), list[str]()
    if unread:
        kinds = [f"{number:,} {suffix or 'without a suffix'}" for suffix, number in list(unread.items())[:_MOST_KINDS]]
        count, more = sum(unread.values()), ", …" if len(unread) > _MOST_KINDS else ""
        parts.append(f"{counted(count, 'file')} {'was' if count == 1 else 'were'} not read: {', '.join(kinds)}{more}")
    if further_pages:
        what = "page or frame was" if further_pages == 1 else "pages or frames were"
        parts.append(f"{further_pages:,} {what} not read: of each file, only the first is")
    return "; ".join(parts)


def _held_out(data: OwnImages, files: ImageFiles) -> Tensor:
    """(n,) bool: pictures that are held out."""
    if data.held_out_folder is None:
        return held_out_by_hash(files.names, data.held_out)
    folders = _top_folders(files.names)
    chosen = torch.tensor([folder == data.held_out_folder for folder in folders])
    if not bool(chosen.any()):
        found = ", ".join(sorted({folder for folder in folders if folder is not None})[:20])
        raise NcsnxError(
            f"{files.root}: expected pictures in a top folder {data.held_out_folder} (data.held_out_folder), found "
            f"{f'the folders {found}' if found else 'no top folders'}"
        )
    return chosen


def _labels(names: Sequence[str], held_out: Tensor, apart: bool) -> tuple[Tensor, tuple[str, ...]]:
    """(n,) int64 labels, and the names of the classes.

    apart: the classes are folders within separate folders of training and held-out images.
    """
    groups = [~held_out, held_out] if apart else [torch.ones_like(held_out)]
    folders: list[str | None] = [None] * len(names)
    for group in groups:
        members = group.nonzero().flatten().tolist()
        for index, folder in zip(members, _top_folders([names[index] for index in members]), strict=True):
            folders[index] = folder
    known = [folder for folder in folders if folder is not None]
    if len(known) < len(names):
        return torch.full((len(names),), NO_LABEL), ()
    classes = sorted(set(known))
    labels = {folder: label for label, folder in enumerate(classes)}
    return torch.tensor([labels[folder] for folder in known]), tuple(classes)


def _top_folders(names: Sequence[str]) -> list[str | None]:
    """The topmost folder of each name below the folders that all names share; None for names without one."""
    folders = [name.split("/")[:-1] for name in names]
    shared = len(os.path.commonprefix(folders))  # noqa: RUF071 (of lists, element by element)
    return [parts[shared] if len(parts) > shared else None for parts in folders]
