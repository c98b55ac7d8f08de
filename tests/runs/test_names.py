"""Names of runs, experiments and steps, and ranges of checkpoints, as typed: nothing is written outside its folder."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ncsnx.commands.new import New
from ncsnx.config import Experiment
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.exports.exported import Export
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.manifest import write_checkpoint
from ncsnx.runs.names import check_run_name, near_matches, parse_step, step_name, step_of
from ncsnx.runs.selection import select
from tests.runs.kept import weights
from tests.spaces import space_of

# names that lead out of a folder, openly or not, and names that a system truncates, folds, reserves, hides or reorders
LEADING_OUT = ["..", ".", "/", "\\", "~", "C:", "\0", "%2e%2e", "\u2024\u2024", "\uff0e", "\uff0f", "\u2215", "\u29f8"]
TRICKS = [*" .\u200b\u200d\ufeff\u00ad\u202e\u2066\n\r\ud800", "\x1b[2J", "e\u0301"]
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
            run = Run.create(base / "runs", name, experiment, {}, None, "f" * 64, space_of(experiment.data))
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


@SOME
@given(HOSTILE)
def test_samples_of_an_exported_model_stay_in_the_folder_samples_whatever_its_folder_is_called(name: str) -> None:
    for path in (Path(name), Path(name) / "..", Path("model") / name):
        with contextlib.suppress(ValueError, OSError):  # not a valid name on this system
            called = Export(path).name
            assert (Path("samples") / called).parent == Path("samples")
            assert called not in ("", "..")


@pytest.mark.parametrize(
    "bad", ["", "a..b", "-rf", ".hidden", "name\n", "a\0b", "cіfar", "x" * 101, "run.", "NUL", "aux.tar.gz", "LPT9.x"]
)
def test_dangerous_names_and_those_that_another_system_changes_are_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="cannot name a run") as refused:
        check_run_name(bad)
    assert refused.value.message.replace("…", "").isascii()


@pytest.mark.parametrize("name", ["console", "com10", "lpt", "a.con", "v1.0", "x" * 100])
def test_plain_names_are_taken_as_they_are(name: str) -> None:
    assert check_run_name(name) == name


@given(st.integers(0, 10**12 - 1))
def test_a_step_is_found_again_from_its_folder_and_from_its_number(step: int) -> None:
    assert step_of(step_name(step)) == step
    assert len(step_name(step)) >= len("step-00150000")
    assert parse_step(str(step)) == step
    assert parse_step(f"{step}k") == 1_000 * step


@pytest.mark.parametrize("name", ["step-150000", "step-000150000", "step-00150000.unsound-1", "step-0015000x", ""])
def test_other_folders_are_no_steps(name: str) -> None:
    assert step_of(name) is None


@pytest.mark.parametrize(
    ("text", "step"),
    [("150_000", 150_000), ("150K", 150_000), ("1.5M", 1_500_000), ("0.5k", 500), ("0", 0), ("latest", "latest")],
)
def test_steps_can_be_typed_in_several_ways(text: str, step: int | str) -> None:
    assert parse_step(text) == step


@pytest.mark.parametrize("text", ["", "-5", "1.5", "1.2345k", "k", "1e5", "١٥٠", "9" * 5000, "Latest"])
def test_what_is_no_step_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(UsageError, match="latest or best"):
        parse_step(text)


def test_an_unknown_name_gets_its_near_matches_or_what_there_is() -> None:
    assert near_matches("cifar1O", ["cifar10", "bedroom128"]) == "did you mean cifar10?"
    assert near_matches("zzz", ["cifar10", "bedroom128"]) == "known: bedroom128, cifar10"
    assert near_matches("zzz", [f"r{number}" for number in range(30)]).endswith("and 22 more")


@pytest.fixture
def ladder(run: Run) -> Run:
    """A run with checkpoints at 100, 200, … 600 and a checkpoint interval of 100."""
    run.update_experiment(attrs.evolve(run.experiment(), checkpoint_every=100, steps=1_000))
    for step in range(100, 700, 100):
        write_checkpoint(run.checkpoints, step, [("model.safetensors", weights(run.experiment(), b""))])
    return run


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("all", (100, 200, 300, 400, 500, 600)),
        ("latest", (600,)),
        ("0.3k", (300,)),
        ("0.2k:400", (200, 300, 400)),
        ("100:600:200", (200, 400, 600)),
        ("500:100000000000", (500, 600)),
    ],
)
def test_a_range_has_both_ends_and_multiples_of_its_third_part(ladder: Run, text: str, steps: tuple[int, ...]) -> None:
    assert select(ladder, text) == steps


def test_a_range_that_holds_no_checkpoint_lists_those_there_are(ladder: Run) -> None:
    with pytest.raises(UsageError, match=r"holds no checkpoint of run 'small'; it has 100, 200, 300, 400, 500, 600$"):
        select(ladder, "700:800")
    shutil.rmtree(ladder.checkpoints)
    with pytest.raises(NcsnxError, match="no checkpoint yet"):
        select(ladder, "all")


@pytest.mark.parametrize(
    "text",
    ["", "100:", "a:b", "100:200:300:400", "100:600:200:1", "latest:600", "-5:7", "400:200", "100:200:0", "\x00\u202e"],
)
def test_what_is_no_range_is_refused_with_what_is_accepted(ladder: Run, text: str) -> None:
    with pytest.raises(UsageError, match="expected all, latest, best, a step such as 150k, FIRST:LAST or") as refused:
        select(ladder, text)
    assert str(refused.value).isprintable()
