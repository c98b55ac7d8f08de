"""Exported models on the Hugging Face Hub: their addresses, and downloads into CACHE/hub/.

huggingface_hub, an optional package, is the client: it finds endpoint and token, resumes, and keeps the cache. Only the
files of an exported model are taken, by their fixed names and within limits. A commit never changes, so that one in the
cache is used without asking the Hub.
"""

import importlib.util
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ncsnx.errors import Hint, NcsnxError, UsageError, install_hint, printable, shortened
from ncsnx.exports.exported import CARD, CONFIG, MODEL, MOST_CONFIG_BYTES, PICTURE, Export, ExportConfig, is_export
from ncsnx.quantities import byte_size
from ncsnx.storage.cache import cache_folder
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


def hub_address(text: str) -> HubAddress | None:
    """The address in `hf://USER/MODEL`, `hf://USER/MODEL@REVISION` or the address of the model's page.

    None for text that doesn't begin like one; a folder of such a name is written with ./ in front. Raises UsageError
    for an invalid address.
    """
    page = _PAGE.match(text)
    if page is None and not text.startswith("hf:"):
        return None
    if page is not None:
        text = _SCHEME + text[page.end() :].rstrip("/").replace("/tree/", "@", 1)
    place, is_given, revision = text.removeprefix(_SCHEME).partition("@")
    is_revision = _REVISION.fullmatch(revision) and not any(part in revision for part in ("..", "//", "/.", "./"))
    repository = _REPOSITORY.fullmatch(place) if text.startswith(_SCHEME) else None
    is_name = repository is not None and not ("--" in place or ".." in place or place.endswith(".git"))
    if repository is None or not is_name or (is_given and not is_revision):
        raise UsageError(
            f"{shortened(ascii(text))} is not the address of a model on the Hub: expected hf://USER/MODEL or "
            "hf://USER/MODEL@REVISION, as in hf://ada/digits@main"
        )
    return HubAddress(repository[1], repository[2], revision if is_given else None)


def hub_api() -> "HfApi":
    """The client for the endpoint in HF_ENDPOINT, by default https://huggingface.co. Raises UsageError without it."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UsageError("models on the Hugging Face Hub need the extra hub", install_hint("hub"))
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    return HfApi(library_name="ncsnx", library_version=__version__)


@contextmanager
def hub_errors(address: HubAddress) -> Iterator[None]:
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
        message = f"the Hugging Face Hub does not give {address.repository}: {said}"
        raise UsageError(message, *(log_in if is_refused else ())) from error


def fetch_model(address: HubAddress, work: Work = SILENT) -> Export:
    """The model at the address, from the cache or the Hub. A branch or tag is looked up on the Hub each time.

    Raises UsageError if the Hub can't be reached or refuses, or has no exported model there; NcsnxError for a model
    that is damaged.
    """
    api, cache = hub_api(), cache_folder() / "hub"
    with hub_errors(address):
        if (folder := _cached(address, cache)) is not None:
            return Export(folder, hub=str(address))
        info = api.model_info(address.repository, revision=address.revision, files_metadata=True, timeout=ANSWER_S)
        address, sizes = address.at(str(info.sha)), {one.rfilename: one.size or 0 for one in info.siblings or []}
        if address.commit is None:
            raise ValueError(f"expected a commit, found {shortened(ascii(info.sha))}")
        config = _config(api, address, sizes, cache)
        if (folder := _cached(address, cache)) is None:
            work.info(f"downloading {address} ({byte_size(config.model_bytes)}) to {cache}")
            work.check_stop()
            small = [name for name in (CARD, PICTURE) if 0 < sizes.get(name, 0) <= MOST_BYTES[name]]
            for name in (*small, MODEL):
                api.hf_hub_download(address.repository, name, revision=address.commit, cache_dir=cache)
            folder = _cached(address, cache)
    assert folder is not None
    return Export(folder, hub=str(address))


def fetch_files(
    address: HubAddress, choose: Callable[[dict[str, int]], Sequence[str]], work: Work = SILENT
) -> tuple[Path, str]:
    """A folder with some files of a repository that is no exported model, and its commit.

    choose: the files to download, of all (name → bytes). Raises UsageError if the Hub can't be reached or refuses.
    """
    api, cache = hub_api(), cache_folder() / "hub"
    with hub_errors(address):
        info = api.model_info(address.repository, revision=address.revision, files_metadata=True, timeout=ANSWER_S)
        sizes = {one.rfilename: one.size or 0 for one in info.siblings or []}
        if not (names := choose(sizes)):
            raise UsageError(f"{address} has none of the files that are needed")
        work.info(f"downloading {address} ({byte_size(sum(sizes[name] for name in names))}) to {cache}")
        paths = list[Path]()
        for name in names:
            work.check_stop()
            path = api.hf_hub_download(address.repository, name, revision=str(info.sha), cache_dir=cache)
            paths.append(Path(path).parents[name.count("/")])
    return paths[0], str(info.sha)


def _cached(address: HubAddress, cache: Path) -> Path | None:
    """The folder of a commit in the cache; None if it lacks a file, and for a branch or tag, which may have moved."""
    from huggingface_hub import try_to_load_from_cache

    names = (CONFIG, MODEL)
    if address.commit is None:
        return None
    paths = [try_to_load_from_cache(address.repository, name, cache, address.commit) for name in names]
    return Path(str(paths[0])).parent if all(isinstance(path, str) for path in paths) else None


def _config(api: "HfApi", address: HubAddress, sizes: dict[str, int], cache: Path) -> ExportConfig:
    """The configuration of a model of `sizes` bytes by file, whose weights it describes. Raises NcsnxError."""
    path = None
    if MODEL in sizes and 0 < sizes.get(CONFIG, 0) <= MOST_CONFIG_BYTES:
        path = Path(api.hf_hub_download(address.repository, CONFIG, revision=address.commit, cache_dir=cache))
    if path is None or not is_export(path.parent):
        names = ", ".join(shortened(ascii(name)) for name in list(sizes)[:4]) or "no file"
        raise UsageError(
            f"{address} is not a model that ncsnx exported: it has no {MODEL} with its {CONFIG}; found {names}",
            Hint("models of ncsnx are listed on", f"{api.endpoint}/models?library=ncsnx"),
        )
    config = ExportConfig.from_bytes(path.read_bytes(), f"{CONFIG} of {address}")
    problem = config.size_problem()
    if sizes[MODEL] != config.model_bytes or problem is not None:
        problem = problem or f"is not the one that its {CONFIG} describes ({byte_size(config.model_bytes)})"
        raise NcsnxError(f"{MODEL} of {address} {problem}")
    return config
