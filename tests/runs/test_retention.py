"""Retention keeps the right checkpoints and removes nothing else, and training resumes from the newest sound one."""

import os
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncsnx.config import Retention
from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger
from ncsnx.runs.manifest import MANIFEST, checkpoints, set_aside, verify
from ncsnx.runs.retention import CheckpointPruner, remove_debris, steps_in_words, steps_to_remove
from ncsnx.runs.segments import append_segment, require_beginning
from ncsnx.storage import atomic
from tests.conftest import StartPython
from tests.runs.kept import contents, fid, folder, score, subject, tree, with_rules, write

KILLED_AT_EACH_CALL = """
import os, signal, shutil, sys
from pathlib import Path
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import checkpoints, verify, set_aside
from ncsnx.runs.names import step_name
from ncsnx.runs.retention import remove_checkpoint, remove_debris
from ncsnx.storage import atomic

origin, work = Path(sys.argv[1]), Path(sys.argv[2])
NAMES = ("open", "write", "unlink", "rename", "replace", "rmdir", "fsync")

def killed_before(call, folder):
    pid = os.fork()
    if pid == 0:
        left = [call]
        def counted(function):
            def counting(*arguments, **keywords):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return function(*arguments, **keywords)
            return counting
        for name in NAMES:
            setattr(os, name, counted(getattr(os, name)))
        remove_checkpoint(folder)
        os._exit(0)
    return os.waitpid(pid, 0)[1] != 0

call = 0
while True:
    shutil.copytree(origin, work)
    run = Run(work)
    was_killed = killed_before(call, run.checkpoints / step_name(10))
    between = (10 in checkpoints(run), len(atomic.debris(run.checkpoints)))
    remove_debris(run)
    left = sorted(str(path.relative_to(run.checkpoints)) for path in run.checkpoints.rglob("*"))
    for step in checkpoints(run):
        verify(run.checkpoints / step_name(step))
    print([between, left], flush=True)
    shutil.rmtree(work)
    if not was_killed:
        break
    call += 1
"""


@pytest.mark.parametrize(
    ("rules", "best", "removed"),
    [
        ({}, 20, []),
        ({"keep_last": 2}, None, [10, 20, 30, 40]),
        ({"keep_last": 2}, 20, [10, 30, 40]),
        ({"keep_every": 20}, 10, [30, 50]),
        ({"keep_every": 45}, None, [10, 20, 30, 40, 50]),
        ({"keep_last": 2, "keep_every": 30}, None, [10, 20, 40]),
        ({"keep_best": True, "keep_last": 1}, 20, [10, 30, 40, 50]),
    ],
)
def test_the_rules_keep_what_they_say(rules: dict[str, Any], best: int | None, removed: list[int]) -> None:
    assert steps_to_remove(Retention(**rules), [10, 20, 30, 40, 50, 60], {best} - {None}, []) == removed


def test_the_best_alone_is_kept_of_those_that_were_scored_and_others_wait_for_their_score() -> None:
    assert steps_to_remove(Retention(keep_best=True), [10, 20, 30, 40, 50], [20], [10, 20, 30]) == [10, 30]


@settings(deadline=None)  # machines are busy
@given(
    st.builds(
        Retention,
        keep_last=st.none() | st.integers(1, 5),
        keep_every=st.none() | st.integers(1, 8),
        keep_best=st.booleans(),
    ),
    st.sets(st.integers(1, 40), min_size=1).map(sorted),
    st.data(),
)
def test_whatever_the_rules_the_last_and_the_best_stay(rules: Retention, steps: list[int], data: st.DataObject) -> None:
    best = data.draw(st.sampled_from([None, *steps]))
    removed = steps_to_remove(rules, steps, {best} - {None}, data.draw(st.lists(st.sampled_from(steps))))
    assert set(removed) <= set(steps) - {steps[-1], best}


def test_what_isnt_kept_goes_and_is_named(run: Run) -> None:
    write(run, 10, 20, 30, 40)
    (run.checkpoints / "step-00000010.unsound-1").mkdir()
    pruner = CheckpointPruner(run, with_rules(run, keep_last=2, keep_every=1000))
    assert pruner.apply() == ([10, 20], [])
    assert steps_in_words([10, 20]) == "the checkpoints of steps 10, 20"
    for step in (30, 40):
        verify(folder(run, step))
    assert names_of(run) == ["step-00000010.unsound-1", "step-00000030", "step-00000040"]


def test_without_rules_nothing_is_read_or_removed(run: Run) -> None:
    write(run, 10, 20)
    (folder(run, 20) / MANIFEST).write_text("{")
    pruner = CheckpointPruner(run, run.experiment())
    assert pruner.apply() == ([], [])
    assert checkpoints(run) == [10, 20]


def test_scores_that_cant_be_read_leave_everything_and_are_said_once(run: Run) -> None:
    write(run, 10, 20, 30)
    score(run, {10: 1.0})
    run.ledger_path.write_text("{\n")
    pruner = CheckpointPruner(run, with_rules(run, keep_last=1))
    _, (line,) = pruner.apply()
    assert line.startswith("retention removes nothing for now: ")
    assert "measurements.jsonl, line 1" in line
    assert pruner.apply() == ([], [])
    assert checkpoints(run) == [10, 20, 30]


def test_a_trial_moves_no_best_and_the_best_of_every_sweep_stays(run: Run) -> None:
    write(run, 10, 20, 30, 40)
    score(run, {10: 2.0, 20: 1.0, 30: 3.0})
    trial = {"sampler": {"type": "another"}}
    score(run, {10: 0.5}, now="2031", **trial)
    score(run, {30: 0.5}, images=9_000, now="2032", **trial)
    assert run.checkpoint("best") == 20
    assert CheckpointPruner(run, with_rules(run, keep_last=1)).apply() == ([], [])
    write(run, 50)
    assert CheckpointPruner(run, with_rules(run, keep_last=1)).apply() == ([40], [])


def test_a_damaged_line_of_another_measure_keeps_nothing(run: Run) -> None:
    write(run, 10, 20, 30)
    score(run, {20: 1.0})
    losses = attrs.evolve(fid(), measure="loss")
    Ledger.read(run).add(losses, subject(run, 10, "a"), {"score": 2.0}, {})
    lines = run.ledger_path.read_bytes().splitlines(keepends=True)
    run.ledger_path.write_bytes(b"".join([*lines[:-1], lines[-1][:-9] + b"\n"]))
    assert CheckpointPruner(run, with_rules(run, keep_last=1)).apply() == ([10], [])
    run.ledger_path.write_bytes(b"".join([lines[0], lines[1][:-9] + b"\n", *lines[2:]]))
    _, (line,) = CheckpointPruner(run, with_rules(run, keep_last=1)).apply()
    assert line.startswith("retention removes nothing for now: ")


def test_a_stop_request_leaves_the_rest_to_the_next_call(run: Run) -> None:
    write(run, 10, 20, 30)
    answers = iter([False, True])
    outcome = CheckpointPruner(run, with_rules(run, keep_last=1), lambda: next(answers)).apply()
    assert outcome == ([10], [])


def test_a_strangers_file_keeps_its_checkpoint_and_is_named(run: Run) -> None:
    write(run, 10, 20)
    (folder(run, 10) / "notes.txt").write_text("the good one")
    before = tree(run.checkpoints)
    _, (line,) = CheckpointPruner(run, with_rules(run, keep_last=1)).apply()
    assert "step-00000010 stays, since it holds notes.txt" in line
    assert tree(run.checkpoints) == before


def test_a_checkpoint_is_whole_or_gone_after_any_kill(run: Run, tmp_path: Path, start_python: StartPython) -> None:
    write(run, 10, 20)
    out, err = start_python(KILLED_AT_EACH_CALL, run.path, tmp_path / "work").communicate(timeout=120)
    assert err == ""
    rows = [eval(line) for line in out.splitlines()]
    own = {f"step-00000010/{name}" for name in (*contents(run.experiment(), 10), MANIFEST)} | {"step-00000010"}
    others = {path.replace("10", "20") for path in own}
    for (there, halves), left in rows:
        assert set(left) in (own | others, others)
        assert there == ("step-00000010" in left), "what was gone stays gone"
        assert halves <= (0 if there else 1)
    assert set(rows[0][1]) == own | others, "killed before anything"
    assert set(rows[-1][1]) == others, "not killed"
    assert any(halves for (_, halves), _ in rows), "killed while it was debris"


def test_a_refused_removal_is_named_and_the_next_start_removes_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run, 10, 20)

    def refused(*arguments: Any, **keywords: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "unlink", refused)
    _, (problem,) = CheckpointPruner(run, with_rules(run, keep_last=1)).apply()
    assert "retention cannot remove the checkpoint of step 10" in problem
    assert "Operation not permitted" in problem
    monkeypatch.undo()
    assert len(atomic.debris(run.checkpoints)) == 1
    remove_debris(run)
    assert names_of(run) == ["step-00000020"]


def test_a_run_that_lost_all_its_checkpoints_does_not_start_over(run: Run) -> None:
    append_segment(run, from_step=0, runtime={}, changes={})
    require_beginning(run, [])
    with pytest.raises(NcsnxError, match=r"none of 1 is sound; step 30: damaged.*; restore a sound checkpoint"):
        require_beginning(run, [(30, "damaged")])
    write(run, 30)
    set_aside(folder(run, 30))
    with pytest.raises(NcsnxError, match=r"set aside: step-00000030\.unsound-1"):
        require_beginning(run, [])
    append_segment(run, from_step=10, runtime={}, changes={})
    with pytest.raises(NcsnxError, match=r"had some \(its segments mention step 10\)"):
        require_beginning(run, [])


def names_of(run: Run) -> list[str]:
    """Names in the folder of checkpoints."""
    return sorted(path.name for path in run.checkpoints.iterdir())
