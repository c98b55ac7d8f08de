"""Addresses of models on the Hugging Face Hub: `hf://USER/MODEL`, or `hf://USER/MODEL@REVISION`."""

import re

import attrs

from ncsnx.config.checks import shortened
from ncsnx.errors import UsageError
from ncsnx.spelling import parameter

_SCHEME = "hf://"
_PAGE = re.compile("https?:/{1,2}huggingface[.]co/")  # pathlib makes one slash of two
_WORD = "[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(f"({_WORD})/({_WORD})")
_REVISION = re.compile("[A-Za-z0-9_](?:[A-Za-z0-9._/+-]{0,198}[A-Za-z0-9_+-])?")
_COMMIT = re.compile("[0-9a-f]{40}")


@attrs.frozen
class HubAddress:
    """A model repository on the Hub, at a revision."""

    owner: str
    """User or organization; always a plain name."""
    name: str
    """Name of the repository; always a plain name."""
    revision: str | None = None
    """Branch, tag or commit; None for the main branch."""

    @property
    def repository(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"

    @property
    def commit(self) -> str | None:
        """The revision, if it is a full commit; a branch or tag may change."""
        return self.revision if self.revision is not None and is_commit(self.revision) else None

    def at(self, revision: str) -> "HubAddress":
        """The same repository at another revision."""
        return attrs.evolve(self, revision=revision)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.repository}" + ("" if self.revision is None else f"@{self.revision}")


def is_commit(text: str) -> bool:
    """Whether the text is the full hash of a commit: 40 hexadecimal digits."""
    return _COMMIT.fullmatch(text) is not None


def is_hub_address(text: str) -> bool:
    """Whether the text means a model on the Hub, valid or not. A folder of such a name is written with ./ in front."""
    return text.startswith("hf:") or _PAGE.match(text) is not None


def parse_hub_address(text: str) -> HubAddress:
    """The address in `hf://USER/MODEL`, `hf://USER/MODEL@REVISION` or the address of the model's page.

    Raises UsageError for anything else.
    """
    text = _of_page(text)
    place, is_given, revision = text.removeprefix(_SCHEME).partition("@")
    found = _REPOSITORY.fullmatch(place) if text.startswith(_SCHEME) else None
    if found is None or _is_forbidden(place) or (is_given and not _is_revision(revision)):
        raise UsageError(
            f"{shortened(ascii(text))} is not the address of a model on the Hub: expected hf://USER/MODEL or "
            "hf://USER/MODEL@REVISION, as in hf://ada/digits@main"
        )
    return HubAddress(found[1], found[2], revision if is_given else None)


def parse_repository(text: str, of: str) -> HubAddress:
    """The repository in `USER/MODEL`. of: the parameter that names it. Raises UsageError for anything else."""
    place = text.removeprefix(_SCHEME)
    found = _REPOSITORY.fullmatch(place)
    if found is None or _is_forbidden(place):
        raise UsageError(
            f"{parameter(of)} {shortened(ascii(text))}: expected USER/MODEL, as in ada/digits, of letters, digits, "
            "'_', '-' and '.'"
        )
    return HubAddress(found[1], found[2])


def _of_page(text: str) -> str:
    """The address of a model's page, at a revision (`/tree/REVISION`) or not, as `hf://…`; other texts as they are."""
    if (page := _PAGE.match(text)) is None:
        return text
    return _SCHEME + text[page.end() :].rstrip("/").replace("/tree/", "@", 1)


def _is_forbidden(place: str) -> bool:
    """Whether the Hub refuses the name of a repository for what it contains."""
    return "--" in place or ".." in place or place.endswith(".git")


def _is_revision(text: str) -> bool:
    return _REVISION.fullmatch(text) is not None and not any(part in text for part in ("..", "//", "/.", "./"))
