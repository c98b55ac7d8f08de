"""Whatever the name of a run, an experiment or an archive member, nothing is written outside its folder."""

import contextlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ncsnx.commands.new import New
from ncsnx.config import Experiment
from ncsnx.config.codec import ConfigError, to_json
from ncsnx.data import open_data
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.runs.exported import Export
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.names import check_run_name
from tests.config.examples import from_json
from tests.data.pictures import save

# names that lead out of a folder, openly or not, and names that a system truncates, folds, reserves, hides or reorders
LEADING_OUT = ["..", ".", "/", "\\", "~", "C:", "\0", "%2e%2e", "\u2024\u2024", "\uff0e", "\uff0f", "\u2215", "\u29f8"]
TRICKS = [
    " ",
    ".",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\u00ad",
    "\u202e",
    "\u2066",
    "\n",
    "\r",
    "\x1b[2J",
    "\ud800",
    "e\u0301",
]
PLAIN = ["run", "Run", "digits", "con", "NUL.txt", "step-00000001", ".lock", "-rf", "*", "$HOME", "`id`", "x" * 300]
HOSTILE = st.lists(st.sampled_from(LEADING_OUT + TRICKS + PLAIN) | st.text(max_size=3), min_size=1, max_size=6).map(
    "".join
)
LIKELY = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
NAMES = HOSTILE | LIKELY
SOME = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEWER = settings(SOME, max_examples=40)


@contextlib.contextmanager
def only_below(inside: str) -> Iterator[Path]:
    """A folder in which the block may change only `inside`."""
    base = Path(tempfile.mkdtemp())
    try:
        (base / "precious.txt").write_text("precious")
        (base / inside).mkdir()
        (base / "other").symlink_to(base / inside)
        yield base
        assert sorted(path.name for path in base.iterdir()) == sorted(["precious.txt", inside, "other"])
        assert (base / "precious.txt").read_text() == "precious"
    finally:
        shutil.rmtree(base)


def assert_one_clear_line(error: Exception) -> None:
    line, *to_type = str(error).splitlines()
    assert all(text.isprintable() for text in (line, *to_type))
    assert len(line) < 600


@SOME
@given(NAMES)
@example("a" * 100)
@example("a" * 101)
@example("\U000e0001" * 119)
@example("a.")
@example("a ")
@example("nul")
@example("Com1.tar")
@example("a\u2024\u2024")
def test_a_run_lies_directly_in_its_folder_or_its_name_is_refused(experiment: Experiment, name: str) -> None:
    with only_below("runs") as base:
        try:
            run = Run.create(base / "runs", name, experiment, {}, None, "f" * 64)
        except UsageError as error:
            assert_one_clear_line(error)
            assert list((base / "runs").iterdir()) == []
        else:
            assert run.path.resolve().parent == (base / "runs").resolve()
            assert [path.name for path in (base / "runs").iterdir()] == [name]
            assert open_run(base / "runs", name).path == run.path
            assert name.isascii()


@SOME
@given(NAMES)
@example("../precious.txt")
@example("/etc")
@example(f"/{'x' * 300}{'x' * 300}")
def test_what_is_no_run_is_never_opened_as_one(name: str) -> None:
    with only_below("runs") as base, contextlib.chdir(base / "runs"):
        try:
            open_run(base / "runs", name)
        except NcsnxError as error:
            assert_one_clear_line(error)
        else:
            pytest.fail("there was one")


@SOME
@given(NAMES)
def test_an_experiment_has_a_name_that_a_file_may_have_or_none(experiment: Experiment, name: str) -> None:
    saved = to_json(experiment)
    saved["experiment"]["name"] = name
    refused = ""
    try:
        assert Path("runs", from_json(saved).name).parts == ("runs", name)
    except ConfigError as error:
        refused = str(error)
    assert refused.startswith("experiment.name: ") or not refused


@FEWER
@given(NAMES)
@example("x" * 900)
def test_a_new_experiment_is_written_into_its_folder_or_its_name_is_refused(name: str) -> None:
    with only_below("experiments") as base, contextlib.chdir(base):
        try:
            place = New(name, "pictures")._free_place()
        except UsageError as error:
            assert_one_clear_line(error)
        else:
            assert place.resolve().parent == (base / "experiments").resolve()
            assert place.name == f"{name}.py"


@pytest.mark.parametrize("name", ["run.", "run..", "con", "NUL", "aux.tar.gz", "com1", "LPT9.x", "run ", " run"])
def test_names_that_another_system_changes_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a run"):
        check_run_name(name)


@pytest.mark.parametrize("name", ["console", "com10", "null", "lpt", "a.con", "v1.0"])
def test_names_that_only_resemble_those_are_taken(name: str) -> None:
    assert check_run_name(name) == name


# ---------------------------------------------------------------------------------------------------------- archives


@SOME
@given(HOSTILE)
def test_samples_of_an_exported_model_stay_in_the_folder_samples_whatever_its_folder_is_called(name: str) -> None:
    for path in (Path(name), Path(name) / "..", Path("model") / name):
        with contextlib.suppress(ValueError, OSError):  # not a valid name on this system
            called = Export(path).name
            assert (Path("samples") / called).parent == Path("samples")
            assert called not in ("", "..")


def zip_of(members: list[str], wanted: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number, name in enumerate([*members, wanted]):
            info = zipfile.ZipInfo("x")
            info.filename = name
            if name != wanted and number % 2:
                info.external_attr = 0o120777 << 16  # a symbolic link
            archive.writestr(info, b"../precious.txt" if info.external_attr else b"x")
    return content.getvalue()


def no_surrogates(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@FEWER
@given(members=st.lists(HOSTILE.filter(no_surrogates).map(lambda name: f"{name}.png"), min_size=1, max_size=3))
def test_a_zip_of_pictures_is_read_or_refused_and_never_written_out(members: list[str]) -> None:
    from ncsnx.config import Images

    with only_below("data") as base:
        save(base / "data/one.png")
        picture = (base / "data/one.png").read_bytes()
        with zipfile.ZipFile(base / "data/set.zip", "w") as archive:
            for name in ["sound.png", "sound2.png", *members]:
                info = zipfile.ZipInfo("x")
                info.filename = name
                archive.writestr(info, picture)
        before = sorted(os.listdir(base / "data"))  # noqa: PTH208
        with contextlib.suppress(NcsnxError):
            opened = open_data(Images(root=str(base / "data/set.zip"), image_size=4, held_out=0.0), base / "data")
            assert len(opened.train) >= 2
        assert sorted(path.name for path in (base / "data").iterdir()) == before
