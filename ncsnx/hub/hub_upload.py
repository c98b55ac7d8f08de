"""Publishes exported models on the Hugging Face Hub: one commit with the files of the export, and nothing else."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import attrs

from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.hub.hub_address import HubAddress, is_commit
from ncsnx.hub.hub_client import ANSWER_S, authorization, hub_api, hub_errors, hub_host, unexpected_answer, web_page
from ncsnx.hub.hub_download import RemoteModel, describe_model
from ncsnx.quantities import byte_size, counted
from ncsnx.runs.exported import CARD, CONFIG, MODEL, MOST_CONFIG_BYTES, PICTURE, PLACEHOLDER, Export, is_export
from ncsnx.spelling import argument, parameter
from ncsnx.storage import reading
from ncsnx.work import SILENT, Work

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MOST_CARD, _MOST_PICTURE = 4 << 20, 64 << 20
"""Largest card and picture that are published."""


@attrs.frozen(kw_only=True)
class Destination:
    """A repository that an export may be published in."""

    api: "HfApi"
    address: HubAddress
    """Address without a revision."""
    is_private: bool
    """Whether it is private, or will be made so."""
    found: RemoteModel | None
    """The repository as it is; None if it is still to be made."""

    @property
    def page(self) -> str:
        """Web address of the repository's page."""
        return web_page(self.api, self.address)

    @property
    def replaces(self) -> tuple[str, ...]:
        """Names of the files there that an export replaces."""
        return () if self.found is None else tuple(sorted(self.found.files))


@attrs.frozen(kw_only=True)
class PublishedExport:
    """A published export."""

    address: HubAddress
    """Address with the commit."""
    page: str
    """Web address of the repository's page."""
    is_new: bool
    """Whether a commit was made; False if the repository already held exactly these files."""


def find_destination(address: HubAddress, *, private: bool) -> Destination:
    """Checks that an export may be published in the repository, before anything is exported. Changes nothing.

    private: whether a new repository is to be private; an existing one stays as it is. Raises UsageError without
    huggingface_hub or a token that may write, for a public repository with `private`, and for a repository with files
    that aren't an exported model's.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    api = hub_api()
    with hub_errors(api, address):
        _require_token(api)
        try:
            info = api.model_info(address.repository, files_metadata=True, timeout=ANSWER_S)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return Destination(api=api, address=address, is_private=private, found=None)
        found = describe_model(info, api, address)
    if private and not info.private:
        raise UsageError(
            f"{address.repository} exists and is public, so {parameter('private')} would change nothing",
            Hint("make it private on", f"{web_page(api, address)}/settings"),
            Hint("or choose another repository", adds=argument("push", "USER/MODEL")),
        )
    _require_ours(found)
    return Destination(api=api, address=address, is_private=bool(info.private), found=found)


def publish(export: Export, destination: Destination, work: Work = SILENT, *, bars: bool = False) -> PublishedExport:
    """Makes the repository if it is missing, and commits the export's files at once. Interrupted, it can be repeated.

    bars: whether huggingface_hub shows its progress bars. Raises UsageError for what the Hub refuses, NcsnxError for a
    damaged export.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api, address = destination.api, destination.address
    contents = _contents(export, address)
    adds = [CommitOperationAdd(name, content) for name, content in contents.items()]
    removes = [CommitOperationDelete(name) for name in destination.replaces if name not in contents]
    size = sum(map(len, contents.values()))
    work.info(f"uploading {counted(len(contents), 'file')} ({byte_size(size)}) to {destination.page}")
    config = export.config()
    with hub_errors(api, address), _calm(work, bars):
        if destination.found is None:
            # one that has appeared since the question may be public, or somebody's work
            api.create_repo(address.repository, private=destination.is_private)
        for add in adds:  # each by itself is sent by this thread, which signals interrupt
            api.preupload_lfs_files(address.repository, [add], free_memory=False)
        commit = api.create_commit(
            address.repository,
            [*adds, *removes],
            commit_message=f"Export {config.run}, step {config.step}, with ncsnx",
            parent_commit=None if destination.found is None else destination.found.commit,
        ).oid
    if not is_commit(commit):
        raise unexpected_answer(api, "the new commit has no hash")
    is_new = destination.found is None or destination.found.commit != commit
    return PublishedExport(address=address.at(commit), page=destination.page, is_new=is_new)


def _contents(export: Export, address: HubAddress) -> dict[str, bytes]:
    """The files to publish by name, verified; the card names the repository in its examples. Raises NcsnxError."""
    contents = {MODEL: export.model_content(export.config())}
    for name, most in ((CONFIG, MOST_CONFIG_BYTES), (CARD, _MOST_CARD), (PICTURE, _MOST_PICTURE)):
        if (path := export.path / name).is_symlink():  # to any file of this machine
            raise NcsnxError(f"{path} cannot be published: it is a symbolic link")
        try:
            contents[name] = reading.read_bytes(path, most)
        except FileNotFoundError:
            continue  # config.json was just read
        except OSError as error:
            raise NcsnxError(f"{path} cannot be published: {error.strerror}") from error
    if CARD in contents:
        contents[CARD] = contents[CARD].replace(PLACEHOLDER.encode(), str(address).encode())
    return contents


def _require_token(api: "HfApi") -> None:
    """Raises UsageError without a token, or with one that may only read."""
    if authorization() is None:
        raise UsageError(
            f"publishing on {hub_host(api)} needs a token that may write",
            Hint("log in", "hf auth login"),
            Hint("or give a token", "export HF_TOKEN=TOKEN"),
        )
    role = api.whoami().get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise UsageError(
            f"the token for {hub_host(api)} may only read",
            Hint("make one that may write on", "https://huggingface.co/settings/tokens"),
        )


def _require_ours(found: RemoteModel) -> None:
    """Raises UsageError for a repository whose files an export would overwrite without being of its kind."""
    if CONFIG not in found.files and MODEL not in found.files:
        return
    is_ours = False
    if CONFIG in found.files and found.files[CONFIG].size <= MOST_CONFIG_BYTES:
        with TemporaryDirectory() as scratch:
            found.download(CONFIG, Path(scratch), SILENT)
            is_ours = is_export(Path(scratch))
    if not is_ours:
        raise UsageError(
            f"{found.address.repository} already holds another program's {' and '.join(sorted(found.files))}, which "
            "would be replaced",
            Hint("choose another repository", adds=argument("push", "USER/MODEL")),
        )


@contextmanager
def _calm(work: Work, bars: bool) -> Iterator[None]:
    """Within the block huggingface_hub writes no log lines, and its warnings go to `work`."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    level, without = logger.level, are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if not bars and not without:
            disable_progress_bars()
        try:
            yield
        finally:
            logger.setLevel(level)
            if not bars and not without:
                enable_progress_bars()
    for one in caught:
        if issubclass(one.category, UserWarning):
            work.warning(str(one.message))
