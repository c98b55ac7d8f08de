"""Experiment files are executed separately, found by rank, and not affected by broken files."""

import os
import py_compile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ncsnx.config.discovery import UnknownExperimentError, discover, known_names, resolve
from ncsnx.config.loading import ExperimentFileError
from ncsnx.errors import Stopped, UsageError
from ncsnx.stopping import signals_raise
from tests.config.examples import line_of, write_file


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return Path("experiments")


def found_in(rank: int) -> dict[str, str | None]:
    """File → error for the sources of a rank."""
    return {source.path.name: source.error for source in discover() if source.rank == rank}


def test_two_files_with_one_stem_keep_their_own_classes(tmp_path: Path) -> None:
    text = """
class Choice:
    width = WIDTH

register(attrs.evolve(experiment, name="chosen", model=NCSNv2(width=Choice.width), note=Choice.__module__))
"""
    files = []
    for folder, width in (("a", 8), ("b", 16)):
        file = write_file(tmp_path / folder / "same.py", name=f"first-{folder}")
        file.write_text("import attrs\n" + file.read_text() + text.replace("WIDTH", str(width)))
        files.append(file)
    first, second, again = (resolve(f"{file}:chosen").experiment for file in (files[0], files[1], files[0]))
    assert (first.model.width, second.model.width, again.model.width) == (8, 16, 8)
    assert first.note != second.note, "their modules have different names"


def test_the_source_counts_and_not_a_stale_bytecode_file(folder: Path) -> None:
    file = write_file(folder / "cached.py", ("width=32", "width=64"))
    py_compile.compile(str(file), doraise=True)
    before = file.stat()
    write_file(file, ("width=32", "width=48"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size, "otherwise Python would not use the bytecode"
    assert resolve("cached").experiment.model.width == 48
    assert "width=48" in resolve("cached").file_text


def test_broken_files_are_sources_with_an_error_and_break_no_other(folder: Path) -> None:
    write_file(folder / "good.py")
    (folder / "syntax.py").write_text("register(\n")
    (folder / "exits.py").write_text("raise SystemExit(0)\n")
    (folder / "folder.py").mkdir()
    (folder / "_helper.py").write_text("1 / 0\n")
    (folder / ".hidden.py").write_text("1 / 0\n")
    found = found_in(0)
    assert set(found) == {"good.py", "syntax.py", "exits.py", "folder.py"}, "helpers and hidden files are left out"
    assert [name for name, error in found.items() if error is None] == ["good.py"]
    assert "experiments/folder.py: cannot be read: Is a directory" in str(found["folder.py"])
    assert resolve("good").experiment.name == "good"
    assert resolve("digits").experiment.name == "digits", "built-in experiments are found as well"


def test_a_name_executes_only_the_file_that_bears_it_where_that_registers_it(folder: Path) -> None:
    counting = (
        "from pathlib import Path\nwith Path('executed').open('a') as log:\n  log.write(f'{Path(__file__).stem} ')\n"
    )
    for name, registers in (("mine", "mine"), ("other", "other"), ("named", "digits"), ("wrong", "right")):
        file = write_file(folder / f"{name}.py", name=registers)
        file.write_text(counting + file.read_text())

    def executed(name: str) -> list[str]:
        Path("executed").write_text("")
        assert resolve(name).experiment.name == name
        return Path("executed").read_text().split()

    assert executed("mine") == ["mine"]
    assert executed("digits") == [], "the built-in file bears the name"
    assert executed("right") == ["mine", "named", "other", "wrong"]
    (known,) = (known for known in known_names(discover()) if known.registered.experiment.name == "digits")
    assert known.rank == 2, "a list shows what the name resolves to"


def test_a_name_found_twice_at_one_rank_shows_both_places(folder: Path) -> None:
    first, second = write_file(folder / "a.py", name="twin"), write_file(folder / "b.py", name="twin")
    with pytest.raises(UsageError, match="'twin' is registered twice") as caught:
        resolve("twin")
    for file in (first, second):
        assert line_of(file, "= register(") in str(caught.value)
    assert "FILE.py:twin" in str(caught.value)
    assert resolve("experiments/b.py").experiment.name == "twin", "a path is unambiguous"
    assert resolve("experiments/b.py:twin").experiment.name == "twin"


def test_what_a_file_registers_by_exec_has_the_place_of_the_exec(folder: Path) -> None:
    file = write_file(folder / "a.py")
    file.write_text(f"\n\nexec({file.read_text()!r})\n")
    assert resolve("a").origins["name"].endswith("experiments/a.py:3")


def test_a_file_may_register_several_and_one_is_picked_by_name(folder: Path) -> None:
    file = write_file(folder / "several.py", name="one")
    file.write_text(f"import attrs\n{file.read_text()}\nregister(attrs.evolve(experiment, name='two', seed=2))\n")
    assert resolve("two").experiment.seed == 2
    assert resolve(f"{file}:two").experiment.seed == 2
    with pytest.raises(
        UsageError, match=r"registers one, two; choose one as .*several.py:NAME, such as .*several.py:one"
    ):
        resolve(str(file))
    with pytest.raises(UsageError, match=r"registers one, two, but no 'too'"):
        resolve(f"{file}:too")


def test_an_unknown_name_gets_its_near_matches(folder: Path) -> None:
    write_file(folder / "digits_wide.py")
    with pytest.raises(
        UnknownExperimentError, match=r"no experiment is named 'digitz'; did you mean digits, digits_edm, digits_wide"
    ):
        resolve("digitz")
    with pytest.raises(
        UnknownExperimentError, match=r"no experiment is named 'zzz'; known experiments: digits_wide, bedroom128,"
    ):
        resolve("zzz")
    with pytest.raises(UsageError, match=r"experiments/digits_wyde.py: no such experiment file"):
        resolve("experiments/digits_wyde.py")
    write_file(folder / "mine.py", name="digits")
    with pytest.raises(UnknownExperimentError, match=r"did you mean digits, digits_edm, digits_wide\?"):
        resolve("digitz")


def test_ctrl_c_where_nobody_handles_it_ends_the_search_too(folder: Path) -> None:
    folder.mkdir()
    (folder / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    with pytest.raises(KeyboardInterrupt):
        discover()


def test_a_signal_ends_the_search_though_a_file_makes_another_error_of_it(folder: Path) -> None:
    folder.mkdir()
    code = "try:\n  os.kill(os.getpid(), signal.SIGTERM)\nexcept BaseException:\n  raise ValueError('interrupted')\n"
    (folder / "slow.py").write_text(f"import os, signal\n{code}")
    with pytest.raises(Stopped), signals_raise():
        discover()


LEAVING = {
    "raise GeneratorExit": "GeneratorExit",
    "raise StopIteration": "StopIteration",
    "raise BaseException('no luck')": "BaseException: no luck",
    "raise BaseExceptionGroup('all', [KeyboardInterrupt()])": "BaseExceptionGroup: all (1 sub-exception)",
}


@pytest.mark.parametrize("code", LEAVING)
@pytest.mark.parametrize("in_a_thread", [False, True])
def test_what_a_file_itself_raises_is_its_error_whatever_it_is(code: str, in_a_thread: bool, folder: Path) -> None:
    write_file(folder / "good.py")
    (folder / "leaving.py").write_text(f"{code}\n")
    if in_a_thread:
        with ThreadPoolExecutor() as pool:
            found = pool.submit(found_in, 0).result()
    else:
        found = found_in(0)
    assert found == {"good.py": None, "leaving.py": f"experiments/leaving.py:1: {LEAVING[code]}"}


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise ValueError('x' * 10**7)", f"ValueError: {'x' * 400}… (10,000,000 characters)"),
        ("raise ValueError('a\\x1b[2Jb\\0\\u202e')", r"ValueError: a\x1b[2Jb\x00\u202e"),
        ("raise type('E' * 10**6, (Exception,), {})", f"{'E' * 80}… (1,000,000 characters)"),
        ("class E(Exception):\n  def __str__(self): raise E\nraise E", "E: its message cannot be shown"),
        ("raise SyntaxError('x' * 10**6, ('a', 'b', 3, 'c'))", f"SyntaxError: {'x' * 400}… (1,000,000 characters)"),
        ("from ncsnx.errors import NcsnxError\nraise NcsnxError('x' * 10**6)", f"{'x' * 400}… (1,000,000 characters)"),
    ],
)
def test_a_message_is_one_printable_line_of_limited_length(code: str, told: str, folder: Path) -> None:
    folder.mkdir()
    (folder / "loud.py").write_text(code)
    error = str(found_in(0)["loud.py"])
    assert error.startswith("experiments/loud.py:")
    assert error.endswith(told)
    assert error.isprintable()
    assert len(error) < 600


def test_a_pipe_a_device_and_a_giant_are_errors_and_keep_nobody_waiting(folder: Path) -> None:
    write_file(folder / "good.py")
    os.mkfifo(folder / "pipe.py")
    (folder / "zeros.py").symlink_to("/dev/zero")
    (folder / "loop.py").symlink_to("loop.py")
    with (folder / "giant.py").open("wb") as file:
        file.truncate(2**43)
    found = found_in(0)
    assert found["good.py"] is None
    for name in ("pipe.py", "zeros.py"):
        assert found[name] == f"experiments/{name}: cannot be read: is not a regular file"
    assert "8,796,093,022,208 bytes, and the limit for such files is 1,048,576" in str(found["giant.py"])
    assert "Too many levels of symbolic links" in str(found["loop.py"])
    with pytest.raises(ExperimentFileError, match="is not a regular file"):
        resolve("experiments/pipe.py")


def test_code_that_claims_to_come_from_a_device_keeps_nobody_waiting(folder: Path) -> None:
    file = write_file(folder / "sly.py")
    text = file.read_text()
    file.write_text(f"exec(compile({text!r}, '/dev/zero', 'exec'))\nexec(compile('1 / 0', '/dev/zero', 'exec'))\n")
    assert found_in(0) == {"sly.py": "experiments/sly.py:2: ZeroDivisionError: division by zero"}


def test_an_unknown_name_that_a_broken_file_bears_gets_its_error(folder: Path) -> None:
    write_file(folder / "mine.py", ("register\n", "register\n1 / 0\n"))
    with pytest.raises(UsageError, match=r"file of that name is broken: experiments/mine.py:2: ZeroDivision"):
        resolve("mine")
    with pytest.raises(UnknownExperimentError, match=r"\(1 broken file: see `ncsnx list`\)"):
        resolve("other")


def test_a_byte_order_mark_is_no_error(folder: Path) -> None:
    file = write_file(folder / "marked.py")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert resolve("marked").origins["model.width"] == line_of(file, "= register(")
