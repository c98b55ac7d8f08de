"""Downloads exported models from the Hugging Face Hub into the cache: CACHE/hub/USER/MODEL/COMMIT/.

Only the files of an exported model are taken, by their fixed names and within limits, as regular files. The folder gets
its name when all of them are there and their hashes are right; until then it is COMMIT.part, where an interrupted
download resumes. A commit never changes, so that one in the cache is used without asking the Hub.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ncsnx.config.checks import shortened
from ncsnx.config.complaints import StructureError
from ncsnx.data.download import DownloadError, download
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.hub.hub_address import HubAddress, is_commit
from ncsnx.hub.hub_client import (
    ANSWER_S,
    UnreachableError,
    authorization,
    hub_api,
    hub_errors,
    unexpected_answer,
)
from ncsnx.quantities import byte_size
from ncsnx.runs.exported import CARD, CONFIG, MODEL, MOST_CONFIG_BYTES, PICTURE, Export, ExportConfig, is_export
from ncsnx.runs.plugins import plugin_hints
from ncsnx.storage import atomic
from ncsnx.storage.cache import cache_folder, cache_lock
from ncsnx.work import SILENT, Work, silent_progress

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

_MOST_BYTES = {CARD: 4 << 20, PICTURE: 64 << 20}
"""Largest card and picture that are downloaded; larger ones are left out, since they are for people only."""
_NAMED = 4
"""Most files that an error names."""


@attrs.frozen(kw_only=True)
class RemoteFile:
    """A file in a repository, as the Hub describes it."""

    name: str
    size: int
    """Size in bytes."""
    sha256: str | None
    """sha256 of a large file (Git LFS), in hexadecimal."""
    blob: str | None
    """Git's sha1 of any other file, in hexadecimal."""

    def problem(self, path: Path) -> str | None:
        """The problem with a downloaded copy by Git's hash; None if it is right, or the Hub gives another hash."""
        if self.sha256 is not None or self.blob is None:
            return None
        content = path.read_bytes()
        digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        return None if digest == self.blob else f"the Git hash {digest}, not {self.blob}"


@attrs.frozen(kw_only=True)
class RemoteModel:
    """A repository at one commit."""

    api: "HfApi"
    address: HubAddress
    """Address with the commit."""
    files: dict[str, RemoteFile]
    """The files of an exported model by name, as far as they are there."""
    others: tuple[str, ...]
    """Names of all other files, which may be hostile."""
    library: str | None
    """The library that the repository's card names, which may be hostile."""

    @property
    def commit(self) -> str:
        """The full hash of the commit."""
        return str(self.address.revision)

    def download(self, name: str, folder: Path, work: Work, sha256: str | None = None) -> None:
        """Downloads a file into a folder and checks size and hash. sha256: the expected one, if known.

        Raises NcsnxError.
        """
        file = self.files[name]
        try:
            download(
                f"{self.api.endpoint}/{self.address.repository}/resolve/{self.commit}/{name}",
                folder / name,
                work,
                size=file.size,
                sha256=sha256 or file.sha256,
                check=file.problem,
                authorization=authorization(),
            )
        except DownloadError as error:
            raise NcsnxError(error.message, *error.hints[:1]) from error

    def is_not_ours(self, what: str) -> UsageError:
        """The error for a repository without an exported model. what: a clause about it."""
        names = [*self.files, *self.others]
        shown = ", ".join(shortened(ascii(name)) for name in names[:_NAMED]) or "no file"
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        library = f"; its card names the library {shortened(ascii(self.library))}" if self.library else ""
        return UsageError(
            f"{self.address} is not a model that ncsnx exported: {what}; found {shown}{more}{library}",
            Hint("models of ncsnx are listed on", f"{self.api.endpoint}/models?library=ncsnx"),
        )


def fetch_model(address: HubAddress, work: Work = SILENT) -> Export:
    """The model at the address, from the cache or the Hub. A branch or tag is looked up on the Hub each time.

    Raises UsageError if the Hub can't be reached or refuses, or has no exported model there; NcsnxError for a failed
    download.
    """
    place = cache_folder() / "hub" / address.owner / address.name
    commit = address.commit
    if commit is None or not (place / commit).is_dir():
        try:
            found = look_up_model(address)
        except UnreachableError as error:
            raise UnreachableError(error.message, *error.hints, *_copies(address, place)) from error
        commit = found.commit
        if not (place / commit).is_dir():
            _fetch(found, place, work)
    return Export(place / commit, hub=str(address.at(commit)))


def look_up_model(address: HubAddress) -> RemoteModel:
    """The repository at the address, as the Hub describes it. Raises UsageError."""
    api = hub_api()
    with hub_errors(api, address):
        info = api.model_info(address.repository, revision=address.revision, files_metadata=True, timeout=ANSWER_S)
        if info.gated:
            api.auth_check(address.repository)
        return describe_model(info, api, address)


def describe_model(info: "ModelInfo", api: "HfApi", address: HubAddress) -> RemoteModel:
    """The repository in an answer of the Hub. Raises UsageError if it lacks what the Hub always gives."""
    commit = info.sha
    if not isinstance(commit, str) or not is_commit(commit) or address.commit not in (None, commit):
        raise unexpected_answer(api, f"it names the commit {shortened(ascii(commit))}")
    siblings = {str(one.rfilename): one for one in info.siblings or []}
    ours = {name: siblings.pop(name) for name in (CONFIG, MODEL, CARD, PICTURE) if name in siblings}
    return RemoteModel(
        api=api,
        address=address.at(commit),
        files={name: _file(name, one, api) for name, one in ours.items()},
        others=tuple(siblings),
        library=info.library_name if isinstance(info.library_name, str) else None,
    )


def _file(name: str, sibling: Any, api: "HfApi") -> RemoteFile:
    """A file of the repository. sibling: its description, whose values have any type. Raises UsageError."""
    size, sha256 = sibling.size, getattr(sibling.lfs, "sha256", None)
    blob = sibling.blob_id if sibling.lfs is None else None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0 or not (sha256 or blob):
        raise unexpected_answer(api, f"{name} has no size or no hash")
    return RemoteFile(name=name, size=size, sha256=sha256, blob=blob)


def _copies(address: HubAddress, place: Path) -> list[Hint]:
    """The newest copy in the cache, which needs no connection."""
    folders = [entry for entry in place.iterdir() if is_commit(entry.name)] if place.is_dir() else []
    newest = sorted(folders, key=lambda folder: folder.stat().st_mtime)[-1:]
    return [Hint("or name a commit that is in the cache", str(address.at(folder.name))) for folder in newest]


def _fetch(found: RemoteModel, place: Path, work: Work) -> None:
    """Downloads the model to `place`/COMMIT. Raises NcsnxError; UsageError for anything but an exported model."""
    quiet = attrs.evolve(work, progress=silent_progress)
    with tempfile.TemporaryDirectory() as scratch:
        config = _download_config(found, Path(scratch), quiet)
        written = (Path(scratch) / CONFIG).read_bytes()
    with cache_lock(place, str(found.address), work):
        folder, whole = place / f"{found.commit}.part", place / found.commit
        if whole.is_dir():
            return
        work.info(f"downloading {found.address} ({byte_size(config.model_bytes)}) to {place}")
        found.download(MODEL, folder, work, config.model_sha256)
        for name, most in _MOST_BYTES.items():
            if name in found.files and found.files[name].size <= most:
                found.download(name, folder, quiet)
        atomic.write_bytes(folder / CONFIG, written)
        with atomic.reporting(whole):
            folder.rename(whole)
            atomic.sync_folder(place)


def _download_config(found: RemoteModel, folder: Path, work: Work) -> ExportConfig:
    """Downloads config.json and checks everything that it says before the weights are downloaded."""
    for name in (CONFIG, MODEL):
        if name not in found.files:
            raise found.is_not_ours(f"it has no {name}")
    if found.files[CONFIG].size > MOST_CONFIG_BYTES:
        raise found.is_not_ours(f"its {CONFIG} has {byte_size(found.files[CONFIG].size)}")
    found.download(CONFIG, folder, work)
    if not is_export(folder):
        raise found.is_not_ours(f"its {CONFIG} is that of another program")
    where = f"{CONFIG} of {found.address}"
    try:
        config = ExportConfig.from_bytes((folder / CONFIG).read_bytes(), where)
    except StructureError as error:
        raise NcsnxError(error.message, *(plugin_hints(folder / CONFIG) or error.hints)) from error
    model = found.files[MODEL]
    if model.size != config.model_bytes or model.sha256 not in (None, config.model_sha256):
        raise NcsnxError(
            f"{found.address} is damaged: its {MODEL} ({byte_size(model.size)}) is not the one that its {CONFIG} "
            f"describes ({byte_size(config.model_bytes)})"
        )
    if (problem := config.size_problem()) is not None:
        raise NcsnxError(f"{MODEL} of {found.address} {problem}")
    return config
