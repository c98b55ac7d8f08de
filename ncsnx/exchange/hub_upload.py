"""Publishes exported models on the Hugging Face Hub: one commit with the files of the export, and nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.quantities import byte_size, counted
from ncsnx.runs.exported import CARD, CONFIG, MODEL, PICTURE, PLACEHOLDER, Export
from ncsnx.runs.hub import ANSWER_S, MOST_BYTES, HubAddress, hub_api, hub_errors
from ncsnx.spelling import argument, parameter
from ncsnx.storage import reading
from ncsnx.work import SILENT, Work

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@attrs.frozen(kw_only=True)
class Destination:
    """A repository that an export may be published in."""

    api: "HfApi"
    address: HubAddress
    """Address without a revision."""
    is_private: bool
    """Whether it is private, or will be made so."""
    commit: str | None = None
    """The newest commit; None if the repository is still to be made."""
    replaces: tuple[str, ...] = ()
    """Names of the files there that an export replaces."""

    @property
    def page(self) -> str:
        """Web address of the repository's page."""
        return f"{self.api.endpoint}/{self.address.repository}"


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
    api = hub_api()
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    with hub_errors(address):
        if api.whoami().get("auth", {}).get("accessToken", {}).get("role") == "read":
            advice = Hint("make one that may write on", "https://huggingface.co/settings/tokens")
            raise UsageError(f"the token for {api.endpoint} may only read", advice)
        try:
            info = api.model_info(address.repository, files_metadata=True, timeout=ANSWER_S)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return Destination(api=api, address=address, is_private=private)
    other = Hint("choose another repository", adds=argument("push", "USER/MODEL"))
    if private and not info.private:
        raise UsageError(
            f"{address.repository} exists and is public, so {parameter('private')} would change nothing", other
        )
    there = {one.rfilename for one in info.siblings or []} & {CONFIG, MODEL, CARD, PICTURE}
    if there & {CONFIG, MODEL} and info.library_name != "ncsnx":
        names = " and ".join(sorted(there))
        raise UsageError(f"{address.repository} holds another program's {names}, which would be replaced", other)
    return Destination(
        api=api, address=address, is_private=bool(info.private), commit=info.sha, replaces=tuple(sorted(there))
    )


def publish(export: Export, destination: Destination, work: Work = SILENT) -> PublishedExport:
    """Makes the repository if it is missing, and commits the export's files at once. Interrupted, it can be repeated.

    Raises UsageError for what the Hub refuses, NcsnxError for a damaged export.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api, address, config = destination.api, destination.address, export.config()
    contents = {MODEL: export.model_content(config)}
    for name, most in MOST_BYTES.items():
        if (content := _content(export.path / name, most)) is not None:
            contents[name] = content
    if CARD in contents:  # its examples name the repository
        contents[CARD] = contents[CARD].replace(PLACEHOLDER.encode(), str(address).encode())
    size = byte_size(sum(map(len, contents.values())))
    work.info(f"uploading {counted(len(contents), 'file')} ({size}) to {destination.page}")
    with hub_errors(address):
        if destination.commit is None:
            # one that has appeared since the question may be public, or somebody's work
            api.create_repo(address.repository, private=destination.is_private)
        commit = api.create_commit(
            address.repository,
            [
                *(CommitOperationAdd(name, content) for name, content in contents.items()),
                *(CommitOperationDelete(name) for name in destination.replaces if name not in contents),
            ],
            commit_message=f"Export {config.run}, step {config.step}, with ncsnx",
            parent_commit=destination.commit,
        ).oid
    return PublishedExport(address=address.at(commit), page=destination.page, is_new=commit != destination.commit)


def _content(path: Path, most: int) -> bytes | None:
    """Content of a file of the export; None if it is missing. Raises NcsnxError."""
    try:
        return reading.read_bytes(path, most)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NcsnxError(f"{path} cannot be published: {error.strerror}") from error
