"""What every registered data set keeps, built in or brought by a package: the registry is asked, no list is kept."""

import re
from pathlib import Path

import attrs
import pytest

from ncsnx.config import Data, Digits
from ncsnx.config.variants import variants
from ncsnx.data import data_set, data_set_of, data_sets
from ncsnx.data.data_set import _data_sets, download_data
from ncsnx.errors import NcsnxError
from ncsnx.work import Work
from tests.cli.command import REPOSITORY, run_process
from tests.cli.test_plugins import install
from tests.training.tiny import CPU


def test_every_configuration_has_a_reader() -> None:
    assert set(variants(Data).values()) <= set(data_sets())


def test_what_cannot_be_downloaded_says_why_in_words_of_its_own(tmp_path: Path) -> None:
    for kind, found in data_sets().items():
        if found.download is None and kind.__module__.startswith("ncsnx."):
            with pytest.raises(NcsnxError, match=r"^(the|this) .*, so there is nothing to download$"):
                download_data(_any(kind), tmp_path, Work())


def _any(kind: type[Data]) -> Data:
    """A configuration of this class: its fields don't matter here."""
    return object.__new__(kind)


def test_the_readme_has_the_row_of_each_set_that_comes_with_files() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    for found in data_sets().values():
        if found.files:
            assert f"| {found.files} | {f'`{found.place}`' if found.place else ''} |".replace("|  |", "| |") in readme


def test_without_a_reader_it_says_who_has_to_bring_one() -> None:
    class Unread(Data):
        pass

    with pytest.raises(NcsnxError, match="no reader is registered for Unread: the package that defines it must name"):
        data_set_of(Unread())


def test_a_second_reader_is_refused() -> None:
    with pytest.raises(ValueError, match="Digits already has a reader"):
        data_set(Digits)(lambda data, folder, work: None)  # type: ignore[arg-type, return-value]


def test_what_ships_has_nothing_to_download(tmp_path: Path) -> None:
    with pytest.raises(NcsnxError, match=r"^the digits come with scikit-learn, so there is nothing to download$"):
        download_data(Digits(), tmp_path, Work())


def test_a_set_without_an_address_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable(Data):
        pass

    monkeypatch.setitem(_data_sets, Unreachable, attrs.evolve(data_set_of(Digits()), no_download=None))
    with pytest.raises(NcsnxError, match=r"^no address is known to download Unreachable from$"):
        download_data(Unreachable(), tmp_path, Work())


def test_the_set_of_the_page_is_shown_trained_on_resumed_and_scored(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/adding-a-data-set.md").read_text()
    config, code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (entry_points,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    entry_points = re.sub(r'\[project.entry-points."(.*)"\]', r"[\1]", entry_points).replace('"', "")
    site = install(tmp_path / "site", "rings", entry_points, {"rings_config.py": config, "rings_reader.py": code})

    def ncsnx(*words: str) -> str:
        outcome = run_process(tmp_path, *words, python_path=(site,))
        assert outcome.code == 0, outcome.err
        return outcome.out

    short = ("data=rings", "model.width=4", "snapshots=none", "checkpoint_every=2", *CPU)
    ncsnx("train", "digits", *short, "steps=2")
    ncsnx("train", "digits", *short, "steps=4")
    assert "180" in ncsnx("plan", "digits", "data=rings", "--no-timing")
    assert '"loss"' in ncsnx("loss", "digits", "--range", "latest", "--json", *CPU)
