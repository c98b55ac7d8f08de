"""Exported models on the Hugging Face Hub: their addresses, and downloads into CACHE/hub/USER/MODEL/COMMIT/.

huggingface_hub, an optional package, is the client: it finds endpoint and token, checks and resumes. Only the files of
an exported model are taken, by their fixed names and within limits, as regular files. The folder gets its name when all
of them are there; until then it is COMMIT.part. A commit never changes, so that one in the cache is used without asking
the Hub.
"""

import importlib.util
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ncsnx.config.checks import printable, shortened
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.quantities import byte_size
from ncsnx.runs.exported import CARD, CONFIG, MODEL, MOST_CONFIG_BYTES, PICTURE, Export, ExportConfig, is_export
from ncsnx.runs.plugins import needing_plugins
from ncsnx.spelling import parameter
from ncsnx.storage import atomic
from ncsnx.storage.cache import cache_folder, cache_lock
from ncsnx.version import __version__
from ncsnx.work import SILENT, Work

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MOST_BYTES = {CONFIG: MOST_CONFIG_BYTES, CARD: 4 << 20, PICTURE: 64 << 20}
"""Largest files that are exchanged beside the weights."""
ANSWER_S = 30.0
"""Longest wait for an answer of the API."""
_SCHEME = "hf://"
_PAGE = re.compile("https?:/{1,2}huggingface[.]co/")  # pathlib makes one slash of two
_WORD = "[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(f"({_WORD})/({_WORD})")
_REVISION = re.compile("[A-Za-z0-9_](?:[A-Za-z0-9._/+-]{0,198}[A-Za-z0-9_+-])?")
_COMMIT = re.compile("[0-9a-f]{40}")
_CLIENTS = ("huggingface_hub", "hf_xet", "httpx", "httpx2", "httpcore", "httpcore2")
"""Packages whose exceptions mean that the Hub refused, or couldn't be reached; which ones depends on their version."""


@attrs.frozen
class HubAddress:
    """A model repository on the Hub, at a revision: `hf://USER/MODEL`, or `hf://USER/MODEL@REVISION`."""

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
        """The revision, if it is the full hash of a commit; a branch or tag may change."""
        return self.revision if self.revision is not None and _COMMIT.fullmatch(self.revision) else None

    def at(self, revision: str) -> "HubAddress":
        """The same repository at another revision."""
        return attrs.evolve(self, revision=revision)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.repository}" + ("" if self.revision is None else f"@{self.revision}")


def is_hub_address(text: str) -> bool:
    """Whether the text means a model on the Hub, valid or not. A folder of such a name is written with ./ in front."""
    return text.startswith("hf:") or _PAGE.match(text) is not None


def parse_hub_address(text: str) -> HubAddress:
    """The address in `hf://USER/MODEL`, `hf://USER/MODEL@REVISION` or the address of the model's page.

    Raises UsageError for anything else.
    """
    if (page := _PAGE.match(text)) is not None:
        text = _SCHEME + text[page.end() :].rstrip("/").replace("/tree/", "@", 1)
    place, is_given, revision = text.removeprefix(_SCHEME).partition("@")
    is_revision = _REVISION.fullmatch(revision) and not any(part in revision for part in ("..", "//", "/.", "./"))
    found = _repository(place) if text.startswith(_SCHEME) else None
    if found is None or (is_given and not is_revision):
        raise UsageError(
            f"{shortened(ascii(text))} is not the address of a model on the Hub: expected hf://USER/MODEL or "
            "hf://USER/MODEL@REVISION, as in hf://ada/digits@main"
        )
    return attrs.evolve(found, revision=revision if is_given else None)


def parse_repository(text: str, of: str) -> HubAddress:
    """The repository in `USER/MODEL`. of: the parameter that names it. Raises UsageError for anything else."""
    found = _repository(text.removeprefix(_SCHEME))
    if found is None:
        raise UsageError(
            f"{parameter(of)} {shortened(ascii(text))}: expected USER/MODEL, as in ada/digits, of letters, digits, "
            "'_', '-' and '.'"
        )
    return found


def _repository(place: str) -> HubAddress | None:
    """The repository of a name that the Hub accepts."""
    found = _REPOSITORY.fullmatch(place)
    if found is None or "--" in place or ".." in place or place.endswith(".git"):
        return None
    return HubAddress(found[1], found[2])


def hub_api() -> "HfApi":
    """The client for the endpoint in HF_ENDPOINT, by default https://huggingface.co. Raises UsageError without it."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UsageError(
            "models on the Hugging Face Hub need the extra hub", Hint("install it", "pip install 'ncsnx[hub]'")
        )
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    return HfApi(library_name="ncsnx", library_version=__version__)


@contextmanager
def hub_errors(address: HubAddress, *hints: Hint) -> Iterator[None]:
    """Turns what huggingface_hub raises in the block into UsageError with its message on one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except NcsnxError:
        raise
    except Exception as error:
        is_answer = isinstance(error, OSError | ValueError | KeyError | TypeError | AttributeError | RuntimeError)
        if not is_answer and type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        shown = error if hasattr(error, "response") else error.__cause__ or error
        said = printable(" ".join(str(shown).split())[:300]) or type(shown).__name__
        is_refused = getattr(getattr(shown, "response", None), "status_code", None) in (401, 403, 404)
        log_in = (Hint("log in", "hf auth login"), Hint("or give a token", "export HF_TOKEN=TOKEN"))
        message = f"the Hugging Face Hub does not give or take {address.repository}: {said}"
        raise UsageError(message, *(log_in if is_refused else ()), *hints) from error


def fetch_model(address: HubAddress, work: Work = SILENT) -> Export:
    """The model at the address, from the cache or the Hub. A branch or tag is looked up on the Hub each time.

    Raises UsageError if the Hub can't be reached or refuses, or has no exported model there; NcsnxError for a model
    that is damaged.
    """
    place, commit = cache_folder() / "hub" / address.owner / address.name, address.commit
    if commit is None or not (place / commit).is_dir():
        copies = [entry for entry in place.iterdir() if _COMMIT.fullmatch(entry.name)] if place.is_dir() else []
        newest = sorted(copies, key=lambda folder: folder.stat().st_mtime)[-1:]
        hints = [Hint("or name a commit that is in the cache", str(address.at(folder.name))) for folder in newest]
        api = hub_api()
        with hub_errors(address, *hints):
            info = api.model_info(address.repository, revision=address.revision, files_metadata=True, timeout=ANSWER_S)
            commit, sizes = str(info.sha), {one.rfilename: one.size for one in info.siblings or []}
            if _COMMIT.fullmatch(commit) is None:
                raise ValueError(f"expected a commit, found {shortened(ascii(commit))}")
            with cache_lock(place, str(address), work):
                if not (place / commit).is_dir():
                    _fetch(api, address.at(commit), sizes, place, work)
    return Export(place / commit, hub=str(address.at(commit)))


def _fetch(api: "HfApi", address: HubAddress, sizes: dict[str, int | None], place: Path, work: Work) -> None:
    """Downloads the model to `place`/COMMIT. sizes: size of each file by name. Raises NcsnxError."""
    whole = place / str(address.revision)
    folder = whole.with_name(f"{whole.name}.part")

    def download(name: str) -> None:
        if sizes.get(name, 0) != 0:
            work.check_stop()
            api.hf_hub_download(address.repository, name, revision=address.revision, local_dir=folder)

    config_bytes, model_bytes = sizes.get(CONFIG), sizes.get(MODEL)
    is_ours = config_bytes is not None and model_bytes is not None and config_bytes <= MOST_CONFIG_BYTES
    if is_ours:
        download(CONFIG)
        is_ours = is_export(folder)
    if not is_ours:
        shutil.rmtree(folder, ignore_errors=True)
        names = ", ".join(shortened(ascii(name)) for name in list(sizes)[:4]) or "no file"
        raise UsageError(
            f"{address} is not a model that ncsnx exported: it has no {MODEL} with its {CONFIG}; found {names}",
            Hint("models of ncsnx are listed on", f"{api.endpoint}/models?library=ncsnx"),
        )
    with needing_plugins(folder / CONFIG):
        config = ExportConfig.from_bytes((folder / CONFIG).read_bytes(), f"{CONFIG} of {address}")
    problem = config.size_problem()
    if model_bytes != config.model_bytes or problem is not None:
        problem = problem or f"is not the one that its {CONFIG} describes ({byte_size(config.model_bytes)})"
        raise NcsnxError(f"{MODEL} of {address} {problem}")
    work.info(f"downloading {address} ({byte_size(config.model_bytes)}) to {place}")
    download(MODEL)
    for name in (CARD, PICTURE):
        if 0 < (sizes.get(name) or 0) <= MOST_BYTES[name]:
            download(name)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # huggingface_hub's notes
    with atomic.reporting(whole):
        folder.rename(whole)
        atomic.sync_folder(place)
