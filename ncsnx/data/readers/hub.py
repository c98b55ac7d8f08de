"""Pictures of data sets on the Hugging Face Hub, and of folders that the package `datasets` wrote.

Of a repository, Parquet files and their description are downloaded into CACHE/hub: none of its code is, and none runs.
The package turns Parquet into Arrow files in CACHE/datasets once. They are mapped into memory, and pictures are decoded
when they are read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from ncsnx.config.codec import digest
from ncsnx.config.data_sets import Hub
from ncsnx.data.dataset import NO_LABEL, Splits, held_out_by_hash, require_training_images
from ncsnx.data.decoding import fitted_pixels, rgb
from ncsnx.data.places import existing_path, fingerprint_of_files
from ncsnx.data.readers.encoded_pictures import ArrowPictures, EncodedPictures
from ncsnx.data.registry import data_set
from ncsnx.errors import Hint, NcsnxError, install_hint, printable
from ncsnx.storage.cache import cache_folder
from ncsnx.work import Work


@data_set(Hub)
def open_hub(data: Hub, folder: Path, work: Work) -> Splits:
    """The pictures of the declared splits. folder: the data folder.

    Raises DataMissingError for a missing folder; NcsnxError if the Hub can't be reached or refuses, for other folders,
    and for splits and columns that aren't there.
    """
    if find_spec("datasets") is None:
        raise NcsnxError("data=hub needs the extra datasets, which is not installed", install_hint("datasets"))
    title = data.repository or str(data.root)
    root = existing_path(title, folder, field="root") if data.repository is None else _downloaded(data, work)
    files = [path for kind in ("*.parquet", "*.arrow") for path in root.rglob(kind) if "cache-" not in path.name]
    if not files:
        raise NcsnxError(f"{title}: expected .parquet or .arrow files, found none; read pictures with data=images")
    found = _loaded(title, root, data.subset)
    train, classes = _pictures(title, found, data.split, data)
    if data.held_out_split is not None:
        rest, others = _pictures(title, found, data.held_out_split, data)
        rest = attrs.evolve(rest, ids=rest.ids + len(train))
        classes = classes if classes == others else ()
    else:
        held_out = held_out_by_hash([str(place) for place in range(len(train))], data.held_out)
        require_training_images(title, held_out, "picture")
        train, rest = (
            attrs.evolve(train, places=chosen, ids=chosen, labels=train.labels[chosen])
            for chosen in (torch.nonzero(of).flatten() for of in (~held_out, held_out))
        )
    commit = None if data.repository is None else root.name
    declared = [data.repository, commit, data.subset, data.split, data.held_out_split, data.image, data.label]
    return Splits(train, rest, digest(["hub", *declared, fingerprint_of_files(root, files)]), classes)


def _downloaded(data: Hub, work: Work) -> Path:
    """The folder with the files of the repository; its name is the commit. Raises NcsnxError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    cache, kinds = cache_folder() / "hub", ["*.parquet", "README.md"]
    work.info(f"looking for {data.repository} on the Hugging Face Hub; its files are kept in {cache}")
    place = {"repo_type": "dataset", "revision": data.revision, "cache_dir": cache}
    with _reporting(f"{data.repository} on the Hugging Face Hub"):
        return Path(snapshot_download(data.repository, **place, allow_patterns=kinds))


def _loaded(title: str, root: Path, subset: str | None) -> dict[str, Any]:
    """The package's splits in a folder by name. Raises NcsnxError."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    with _reporting(title):
        if any((root / name).exists() for name in ("state.json", "dataset_dict.json")):  # of save_to_disk
            loaded = datasets.load_from_disk(str(root))
        else:
            loaded = datasets.load_dataset(str(root), subset, cache_dir=str(cache_folder() / "datasets"))
        found = dict(loaded) if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}
        for split in found.values():
            split.data.table.validate(full=True)  # what a damaged Arrow file says may lie outside of it
    return found


@contextmanager
def _reporting(title: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the packages raise almost anything
        reason = error if hasattr(error, "response") else error.__cause__ or error
        said = " ".join(str(reason).split())[:300] or type(error).__name__
        raise NcsnxError(f"{title}: cannot be read: {printable(said)}") from error


def _pictures(title: str, found: dict[str, Any], name: str, data: Hub) -> tuple[EncodedPictures, tuple[str, ...]]:
    """The images of a split, and the names of its classes. Raises NcsnxError if the split or a column is missing."""
    from datasets import Image

    if name not in found:
        raise NcsnxError(f"{title}: expected a split {name}, found {', '.join(found)}")
    split, title = found[name], f"{title}, {name}"
    image = _column(title, split, data.image, "image", "Image")
    label = _column(title, split, data.label, "label", "ClassLabel")
    names, labels = (), torch.full((len(split),), NO_LABEL)
    if label is not None:
        names = tuple(split.features[label].names)
        numbers = split.with_format("arrow")[:].column(label).fill_null(NO_LABEL).to_numpy()
        labels = torch.from_numpy(np.where((numbers >= 0) & (numbers < len(names)), numbers, NO_LABEL)).long()
    pictures = ArrowPictures(title, split.select_columns([image]).cast_column(image, Image(decode=False)))
    places, shape = torch.arange(len(split)), (data.channels, *data.stored_size)
    decode = partial(fitted_pixels, size=data.stored_size, channels=data.channels, background=rgb(data.background))
    whole = EncodedPictures(pictures, places, decode, shape, places, labels)
    return whole, names if (labels != NO_LABEL).all() else ()


def _column(title: str, split: Any, given: str | None, field: str, kind: str) -> str | None:
    """The column of a type that a field means; None if there are no labels. Raises NcsnxError for others."""
    kinds = {name: type(feature).__name__ for name, feature in split.features.items()}
    fitting = [name for name in kinds if kinds[name] == kind and given in (None, name)]
    if len(fitting) == 1 or (field == "label" and not fitting and given is None):
        return fitting[0] if fitting else None
    wanted = "one column" if given is None else f"a column {given}"
    found = ", ".join(f"{name} ({kinds[name]})" for name in kinds)
    say = Hint("say which", adds=f"data.{field}=NAME")
    raise NcsnxError(f"{title}: expected {wanted} of type {kind}, found {found}", say)
