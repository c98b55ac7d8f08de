"""A local Hub, which huggingface_hub asks in this process, and an empty cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.local_hub import LocalHub, serving_hub

pytest.importorskip("huggingface_hub")


@pytest.fixture
def cache_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which doesn't exist yet."""
    monkeypatch.setenv("NCSNX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(cache_here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """The Hub, empty; no token is given."""
    from huggingface_hub import constants

    with serving_hub(LocalHub()) as served:
        # what HF_ENDPOINT, HF_HUB_DISABLE_XET and HF_TOKEN_PATH set when huggingface_hub is imported
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        template = served.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield served
