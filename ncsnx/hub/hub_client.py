"""The client of the Hugging Face Hub: huggingface_hub, an optional package, and its errors in our words.

Endpoint and token are those that huggingface_hub finds: HF_ENDPOINT; HF_TOKEN, else what `hf auth login` stored. The
token is sent to the Hub and to nothing else, and is never shown or written.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ncsnx.config.checks import printable
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.hub.hub_address import HubAddress
from ncsnx.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ANSWER_S = 30.0
"""Longest wait for an answer of the API."""
_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2")
"""Packages whose exceptions huggingface_hub passes on if the connection fails; which ones depends on its version."""
_UPLOADERS = ("huggingface_hub", "hf_xet")
"""Packages whose other exceptions are failed transfers."""
_LONGEST = 200
"""Most characters of a message from elsewhere that are shown."""
_BAD_CARD = "Invalid metadata in README.md."
"""How huggingface_hub begins the error for a card that the Hub doesn't accept."""
_LOG_IN = (
    Hint("log in", "hf auth login"),
    Hint("or give a token", "export HF_TOKEN=TOKEN"),
)


class UnreachableError(UsageError):
    """The Hub can't be reached from here."""


def require_hub_package() -> None:
    """Raises UsageError if huggingface_hub isn't installed."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UsageError(
            "models on the Hugging Face Hub need the extra hub", Hint("install it", "pip install 'ncsnx[hub]'")
        )


def hub_api() -> "HfApi":
    """The client for the endpoint in HF_ENDPOINT, by default https://huggingface.co. Raises UsageError without it."""
    require_hub_package()
    from huggingface_hub import HfApi

    return HfApi(library_name="ncsnx", library_version=__version__)


def authorization() -> str | None:
    """The Authorization header with the token that huggingface_hub finds; None without a token."""
    from huggingface_hub.utils import build_hf_headers

    found: str | None = build_hf_headers().get("authorization")
    return found


def hub_host(api: "HfApi") -> str:
    """The endpoint's host, for messages."""
    endpoint = str(api.endpoint)
    return urlsplit(endpoint).netloc or endpoint


def web_page(api: "HfApi", address: HubAddress) -> str:
    """Web address of the repository's page."""
    return f"{api.endpoint}/{address.repository}"


@contextmanager
def hub_errors(api: "HfApi", address: HubAddress) -> Iterator[None]:
    """Turns what huggingface_hub raises in the block into UsageError: refusals, lost connections, answers that aren't
    the Hub's. address: the repository, and the revision that is asked for."""
    try:
        yield
    except NcsnxError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ is not None else error
        if (found := _in_our_words(cause, api, address)) is None:
            raise
        raise found from error


def unexpected_answer(api: "HfApi", what: str) -> UsageError:
    """The error for an answer that isn't the Hub's. what: a clause about it."""
    return UsageError(
        f"{hub_host(api)} does not answer as the Hugging Face Hub does: {what}",
        Hint("check HF_ENDPOINT, which is https://huggingface.co unless it is set"),
    )


def _in_our_words(error: BaseException, api: "HfApi", address: HubAddress) -> UsageError | None:
    """The error for an exception of huggingface_hub; None for a bug."""
    from huggingface_hub import errors

    host, repository = hub_host(api), address.repository
    match error:
        case errors.GatedRepoError():
            return UsageError(
                f"the authors of {repository} give access on request only, and this account has none",
                Hint("ask for it on", web_page(api, address)),
                *_log_in_hints(),
            )
        case errors.RepositoryNotFoundError():
            return UsageError(
                f"there is no model {repository} on {host}, or it is private and this account may not read it",
                *_log_in_hints(),
            )
        case errors.RevisionNotFoundError():
            return UsageError(
                f"{repository} has no branch, tag or commit {address.revision!r}",
                Hint("they are listed on", f"{web_page(api, address)}/tree/main"),
            )
        case errors.DisabledRepoError():
            return UsageError(f"{repository} has been disabled on {host}")
        case errors.HfHubHTTPError():
            return _refusal(error, host)
        case errors.OfflineModeIsEnabled():
            return UnreachableError(
                f"{host} is not asked for {repository}, since HF_HUB_OFFLINE is set", Hint("unset HF_HUB_OFFLINE")
            )
    package = type(error).__module__.partition(".")[0]
    if isinstance(error, OSError) or package in _CLIENTS:
        return UnreachableError(f"cannot reach {host}: {_one_line(error)}")
    if str(error).startswith(_BAD_CARD):
        reason = _one_line(str(error).removeprefix(_BAD_CARD))
        return UsageError(f"{host} does not accept the metadata at the top of README.md: {reason}")
    if isinstance(error, ValueError | KeyError | TypeError | AttributeError):
        return unexpected_answer(api, _one_line(error))
    if isinstance(error, RuntimeError) or package in _UPLOADERS:
        return UsageError(f"the transfer to or from {host} failed: {_one_line(error)}")
    return None


def _refusal(error: Any, host: str) -> UsageError:
    """The error for an HTTP status. error: an HfHubHTTPError."""
    code = error.response.status_code
    if code == HTTPStatus.UNAUTHORIZED:
        return UsageError(f"{host} does not accept this token", *_LOG_IN)
    said = f": {_one_line(error.server_message)}" if error.server_message else ""
    if code == HTTPStatus.FORBIDDEN:
        return UsageError(
            f"this account or token may not do that on {host}{said}",
            Hint("see what the token may do on", "https://huggingface.co/settings/tokens"),
        )
    if code == HTTPStatus.TOO_MANY_REQUESTS:
        return UsageError(f"{host} has had too many requests from here", Hint("repeat the command later"))
    return UsageError(f"{host} answers with status {code}{said}")


def _log_in_hints() -> tuple[Hint, ...]:
    """How to give a token, if none was given."""
    return _LOG_IN if authorization() is None else ()


def _one_line(error: object) -> str:
    """A message from elsewhere on one line, without control characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
