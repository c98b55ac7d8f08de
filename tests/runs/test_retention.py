"""Retention keeps and verifies the right checkpoints, and removes nothing else, whatever happens in between."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncsnx.config import Retention
from ncsnx.config.canonical import digest
from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints import manifest as protocol
from ncsnx.runs.checkpoints.leftovers import remove_debris
from ncsnx.runs.checkpoints.manifest import (
    MANIFEST,
    OPTIMIZER,
    checkpoints,
    read_manifest,
    verify,
    verify_file,
    verify_own,
    write_checkpoint,
)
from ncsnx.runs.checkpoints.pruning import CheckpointPruner
from ncsnx.runs.checkpoints.ranges import in_words
from ncsnx.runs.checkpoints.removal import remove_checkpoint, remove_optimizer_state
from ncsnx.runs.checkpoints.selection import CheckpointStatus, PruningPlan, ScoredSteps, plan
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runs.resuming import resumption
from ncsnx.storage import atomic, reading
from tests.runs.kept import (
    as_nobody,
    contents,
    damage,
    folder,
    python,
    score,
    tree,
    whole,
    with_rules,
    write,
)

KILLED_AT_EACH_CALL = """
import os, signal, shutil, sys
from pathlib import Path
from ncsnx.runs.folder import Run
from ncsnx.runs.checkpoints.manifest import checkpoints, verify
from ncsnx.runs.names import step_name
from ncsnx.runs.checkpoints.leftovers import remove_debris
from ncsnx.runs.checkpoints.removal import remove_checkpoint, remove_optimizer_state
from ncsnx.storage import atomic

origin, work, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
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
        remove_checkpoint(folder) if what == "whole" else remove_optimizer_state(folder)
        os._exit(0)
    return os.waitpid(pid, 0)[1] != 0

call = 0
while True:
    shutil.copytree(origin, work)
    run = Run(work)
    folder = run.checkpoints / step_name(10)
    was_killed = killed_before(call, folder)
    for step in checkpoints(run):
        verify(run.checkpoints / step_name(step))
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

WITHOUT_ROOM = """
import resource, sys
from pathlib import Path
from ncsnx.config import Retention
from ncsnx.runs.folder import Run
from ncsnx.runs.checkpoints.pruning import CheckpointPruner
import attrs
run = Run(Path(sys.argv[1]))
experiment = attrs.evolve(run.experiment(), retention=Retention(keep_last=2, optimizer_last=1))
pruner = CheckpointPruner(run, experiment)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
outcome = pruner.apply()
print(outcome.removed, outcome.stripped, *outcome.problems, sep=" | ")
"""

APPLY = """
import sys
from pathlib import Path
import attrs
from ncsnx.config import Retention
from ncsnx.runs.folder import Run
from ncsnx.runs.checkpoints.pruning import CheckpointPruner
run = Run(Path(sys.argv[1]))
Path(sys.argv[3]).chmod(int(sys.argv[4], 8))
drop()
pruner = CheckpointPruner(run, attrs.evolve(run.experiment(), retention=eval(sys.argv[2])))
for line in pruner.announcement():
    print(line)
outcome = pruner.apply()
print("removed", outcome.removed, "stripped", outcome.stripped)
for line in outcome.problems:
    print("problem:", line)
"""


def standings(*steps: int, stripped: tuple[int, ...] = ()) -> list[CheckpointStatus]:
    return [CheckpointStatus(step, step not in stripped) for step in steps]


@pytest.mark.parametrize(
    ("rules", "best", "removed", "stripped"),
    [
        ({}, 20, [], []),
        ({"keep_last": 2}, None, [10, 20, 30, 40], []),
        ({"keep_last": 2}, 20, [10, 30, 40], []),
        ({"keep_last": 99}, None, [], []),
        ({"keep_every": 20}, None, [10, 30, 50], []),
        ({"keep_every": 20}, 10, [30, 50], []),
        ({"keep_every": 45}, None, [10, 20, 30, 40, 50], []),
        ({"keep_last": 2, "keep_every": 30}, None, [10, 20, 40], []),
        ({"keep_best": True}, None, [], []),
        ({"keep_best": True, "keep_last": 1}, 20, [10, 30, 40, 50], []),
        ({"optimizer_last": 2}, None, [], [10, 20, 30, 40]),
        ({"optimizer_last": 1, "keep_every": 30}, 20, [10, 40, 50], [20, 30]),
    ],
)
def test_the_rules_keep_what_they_say(
    rules: dict[str, Any], best: int | None, removed: list[int], stripped: list[int]
) -> None:
    found = plan(Retention(**rules), standings(10, 20, 30, 40, 50, 60), scores=ScoredSteps(best))
    assert (list(found.remove), list(found.strip)) == (removed, stripped)


def test_the_best_alone_is_kept_of_those_that_were_scored_and_others_wait_for_their_score() -> None:
    scores = ScoredSteps(best=20, scored=frozenset({10, 20, 30}))
    found = plan(Retention(keep_best=True), standings(10, 20, 30, 40, 50), scores=scores)
    assert found.remove == (10, 30)


rules = st.builds(
    Retention,
    keep_last=st.none() | st.integers(1, 5),
    keep_every=st.none() | st.integers(1, 8),
    keep_best=st.booleans(),
    optimizer_last=st.none() | st.integers(1, 4),
)


@settings(deadline=None)  # machines are busy
@given(rules, st.lists(st.tuples(st.integers(1, 40), st.booleans()), unique_by=lambda pair: pair[0]), st.data())
def test_whatever_the_rules_the_last_the_best_and_one_to_train_on_stay(
    rules: Retention, pairs: list[tuple[int, bool]], data: st.DataObject
) -> None:
    counting = [CheckpointStatus(step, trainable) for step, trainable in sorted(pairs)]
    steps, trainable = [one.step for one in counting], [one.step for one in counting if one.trainable]
    best = data.draw(st.sampled_from([None, *steps]))
    scores = ScoredSteps(best, frozenset(data.draw(st.lists(st.sampled_from(steps)))) if steps else frozenset())
    found = plan(rules, counting, data.draw(st.sets(st.integers(1, 40))) - set(steps), scores)
    kept = [step for step in steps if step not in found.remove]
    left = [step for step in trainable if step in kept and step not in found.strip]
    assert set(found.remove) <= set(steps)
    assert set(found.strip) <= set(trainable) - set(found.remove)
    assert set(found.relied_on) <= set(kept)
    if steps:
        assert steps[-1] in kept
        assert {best} & set(steps) <= set(kept)
        assert trainable[-1:] == left[-1:]
        assert {steps[-1], *trainable[-1:]} <= set(found.relied_on)
    if rules.keep_last is not None:
        assert kept[-rules.keep_last :] == steps[-rules.keep_last :]
    if rules.optimizer_last is not None and not rules.removes_checkpoints:
        assert left == trainable[-rules.optimizer_last :]


def test_checkpoints_that_cant_be_trained_on_dont_push_out_those_that_can() -> None:
    counting = standings(10, 20, 30, 40, stripped=(30, 40))
    assert plan(Retention(keep_last=2), counting).remove == ()
    assert plan(Retention(keep_last=1), counting).remove == (10, 30)
    assert plan(Retention(optimizer_last=1), counting).strip == (10,)


def test_what_isnt_kept_goes_and_what_stays_is_whole(run: Run) -> None:
    write(run, 10, 20, 30, 40)
    (run.checkpoints / "step-00000010.unsound-1").mkdir()
    outcome = CheckpointPruner(run, with_rules(run, keep_last=2, optimizer_last=1)).apply()
    assert (outcome.removed, outcome.stripped, outcome.problems) == ((10, 20), (30,), ())
    assert (checkpoints(run), whole(run)) == ([30, 40], [40])
    assert not read_manifest(folder(run, 30)).is_trainable
    for step in (30, 40):
        verify(folder(run, step))
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        "step-00000010.unsound-1",
        "step-00000030",
        "step-00000040",
    ]


def test_without_rules_nothing_is_read_or_removed(run: Run) -> None:
    write(run, 10, 20)
    (folder(run, 20) / MANIFEST).write_text("{")
    pruner = CheckpointPruner(run, run.experiment())
    assert pruner.announcement() == []
    assert str(pruner.apply()) == "retention removed nothing"
    assert checkpoints(run) == [10, 20]


def test_the_start_says_exactly_what_goes_now_and_by_which_rule_later(run: Run) -> None:
    write(run, 10, 20, 30, 40)
    pruner = CheckpointPruner(run, with_rules(run, keep_last=2, keep_every=1000, optimizer_last=2))
    assert pruner.announcement()[0] == (
        "retention removes the checkpoints of steps 10, 20 now; after each checkpoint it keeps the best checkpoint, "
        "the last 2 and the multiples of 1,000, and only the last 2 optimizer states"
    )
    assert checkpoints(run) == [10, 20, 30, 40], "nothing goes before it was said"
    assert pruner.apply().removed == (10, 20)
    assert "removes nothing now; after each checkpoint" in pruner.announcement()[0]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (
            {"keep_every": 15},
            "retention.keep_every=15 is not a multiple of checkpoint_every=10: it keeps the multiples of 30",
        ),
        ({"keep_every": 1000}, "keeps nothing: no checkpoint is at a multiple of it (checkpoint_every=10, steps=100)"),
        ({"optimizer_last": 1}, "a damaged last checkpoint leaves nothing to resume from"),
        ({"keep_last": 1}, "a damaged last checkpoint may leave nothing to resume from"),
    ],
)
def test_rules_that_keep_less_than_one_may_think_are_warned_about(
    run: Run, rules: dict[str, Any], expected: str
) -> None:
    lines = CheckpointPruner(run, with_rules(run, **rules)).announcement()
    assert len(lines) == 2
    assert expected in lines[1]


def test_sensible_rules_are_not_warned_about(run: Run) -> None:
    for rules in ({"keep_every": 20}, {"keep_every": 5}, {"optimizer_last": 2, "keep_last": 2}):
        assert len(CheckpointPruner(run, with_rules(run, **rules)).announcement()) == 1


@pytest.mark.parametrize("field", ["keep_last", "keep_every", "optimizer_last"])
@pytest.mark.parametrize("value", [0, -1])
def test_none_kept_is_not_a_rule(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field} must be between 1 and"):
        Retention(**{field: value})


@pytest.mark.parametrize("name", ["model.safetensors", OPTIMIZER, "state.json", MANIFEST])
def test_an_unsound_last_checkpoint_doesnt_count_and_the_newest_sound_ones_stay(run: Run, name: str) -> None:
    write(run, 10, 20, 30, 40)
    damage(folder(run, 40) / name)
    outcome = CheckpointPruner(run, with_rules(run, keep_last=2, optimizer_last=1)).apply()
    assert (outcome.removed, outcome.stripped) == ((10,), (20,))
    assert checkpoints(run) == [20, 30, 40], "an unsound one is not removed here"
    assert resumption(run).step == 30


def test_nothing_goes_where_no_other_is_sound(run: Run) -> None:
    write(run, 10, 20, 30)
    for step in (20, 30):
        damage(folder(run, step) / "model.safetensors")
    outcome = CheckpointPruner(run, with_rules(run, keep_last=1, optimizer_last=1)).apply()
    assert (outcome.removed, outcome.stripped) == ((), ())
    verify(folder(run, 10))


def test_an_unsound_multiple_is_replaced_by_the_newest_sound_one_before_it(run: Run) -> None:
    write(run, 10, 20, 30, 40, 50, 60, 70)
    damage(folder(run, 60) / "ema.safetensors")
    pruner = CheckpointPruner(run, with_rules(run, keep_every=30))
    assert pruner.apply().removed == (10, 20, 40)
    assert checkpoints(run) == [30, 50, 60, 70]
    assert pruner.apply().removed == ()
    assert CheckpointPruner(run, with_rules(run, keep_every=30)).apply().removed == (), "also in the next process"


def test_an_unsound_best_is_replaced_by_the_next_best_that_is_sound(run: Run) -> None:
    write(run, 10, 20, 30, 40)
    score(run, {10: 3.0, 20: 1.0, 30: 2.0})
    damage(folder(run, 20) / "model.safetensors")
    assert CheckpointPruner(run, with_rules(run, keep_last=1)).apply().removed == (10,)
    assert checkpoints(run) == [20, 30, 40]


def test_the_best_is_that_of_the_newest_sweep_with_the_most_images(run: Run) -> None:
    write(run, 10, 20, 30, 40)
    score(run, {10: 1.0, 20: 2.0}, images=50, now="2031-01-01")
    score(run, {10: 5.0, 20: 4.0, 30: 9.0}, name="large", images=100)
    assert CheckpointPruner(run, with_rules(run, keep_last=1)).apply().removed == (10, 30)


def test_the_best_is_read_again_before_each_removal(run: Run) -> None:
    write(run, 10, 20, 30, 40, 50)
    score(run, {10: 1.0})
    asked: list[int] = []

    def sweep_beside() -> bool:
        asked.append(len(checkpoints(run)))
        if asked[-1] == 4:  # after the first removal
            score(run, {10: 2.0, 30: 1.0})
        return False

    outcome = CheckpointPruner(run, with_rules(run, keep_last=1), sweep_beside).apply()
    assert checkpoints(run) == [30, 50]
    assert outcome.removed == (20, 10, 40)


def test_scores_that_cant_be_read_leave_everything_and_are_said_once(run: Run) -> None:
    write(run, 10, 20, 30)
    (score(run, {10: 1.0}) / "scores.json").write_text("{")
    pruner = CheckpointPruner(run, with_rules(run, keep_last=1))
    (line,) = pruner.apply().problems
    assert line.startswith("retention removes nothing for now: ")
    assert "scores.json" in line
    assert pruner.apply().problems == ()
    assert checkpoints(run) == [10, 20, 30]


class Hashing:
    """Counts the bytes that are hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: list[str] = []
        verify_file = protocol.verify_file

        def counted(place: Path, *arguments: Any) -> None:
            self.files.append(f"{place.name}/{arguments[1]}")
            verify_file(place, *arguments)

        monkeypatch.setattr("ncsnx.runs.checkpoints.pruning.verify_file", counted)


def test_what_was_verified_is_not_read_again_until_it_changes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run, 10, 20, 30)
    hashing = Hashing(monkeypatch)
    pruner = CheckpointPruner(run, with_rules(run, keep_last=2, optimizer_last=1))
    pruner.announcement()
    assert sorted(hashing.files) == sorted(
        f"{step_name(s)}/{name}" for s in (20, 30) for name in contents(run.experiment(), s)
    )
    pruner.apply()
    write(run, 40)
    assert pruner.apply().removed == (20,)
    assert len(hashing.files) == 12, "of the others nothing was read again, though a manifest was"
    write(run, 50)
    damage(folder(run, 40) / "model.safetensors")
    outcome = pruner.apply()
    assert "step-00000040/model.safetensors" in hashing.files[12:], "what changed was read again"
    assert outcome.removed == ()
    assert checkpoints(run) == [30, 40, 50]


def test_a_file_whose_record_changed_is_verified_anew(run: Run) -> None:
    write(run, 10, 20, 30)
    pruner = CheckpointPruner(run, with_rules(run, keep_last=1))
    pruner.plan()
    path = folder(run, 30) / MANIFEST
    content = json.loads(path.read_bytes())
    del content["digest"]
    content["files"]["model.safetensors"]["sha256"] = "0" * 64
    path.write_bytes(atomic.json_bytes({**content, "digest": digest(content)}))
    assert pruner.apply().removed == (10,)
    assert checkpoints(run) == [20, 30]


@pytest.mark.parametrize("name", ["model.safetensors", OPTIMIZER])
def test_optimizer_states_are_counted_by_those_that_are_sound(run: Run, name: str) -> None:
    write(run, 10, 20, 30, 40)
    damage(folder(run, 30) / name)
    assert CheckpointPruner(run, with_rules(run, optimizer_last=2)).apply().stripped == (10,)
    assert whole(run) == [20, 30, 40]


def test_a_stop_request_ends_the_hashing_and_nothing_goes(run: Run) -> None:
    write(run, 10, 20, 30)
    answers = iter([False, False, True, *[True] * 99])
    outcome = CheckpointPruner(run, with_rules(run, keep_last=1), lambda: next(answers)).apply()
    assert (outcome.removed, outcome.problems) == ((), ())
    assert checkpoints(run) == [10, 20, 30]


def test_no_removal_writes_a_byte(run: Run) -> None:
    write(run, 10, 20, 30)
    manifest = (folder(run, 20) / MANIFEST).read_bytes()
    result = python(WITHOUT_ROOM, str(run.path))
    assert (result.stderr, result.stdout) == ("", "(10,) | (20,)\n")
    assert whole(run) == [30]
    verify(folder(run, 20))
    assert (folder(run, 20) / MANIFEST).read_bytes() == manifest


@pytest.mark.parametrize("closed", ["checkpoints", "checkpoints/step-00000010"])
def test_what_a_person_may_not_remove_is_not_said_to_be_removed(run: Run, closed: str) -> None:
    write(run, 10, 20, 30)
    before = tree(run.checkpoints)
    place = run.path / closed
    result = as_nobody(APPLY, ".", "Retention(keep_last=2)", closed, "555", place=run.path)
    assert result.stderr == ""
    assert "removed () stripped ()" in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("problem: ")]
    assert "retention cannot remove the checkpoint of step 10" in line
    assert "Permission denied" in line
    place.chmod(0o755)
    assert tree(run.checkpoints) == before
    assert checkpoints(run) == [10, 20, 30]


def test_an_unreadable_sweep_is_one_line_and_nothing_goes(run: Run) -> None:
    write(run, 10, 20, 30)
    sweep = score(run, {10: 1.0})
    result = as_nobody(APPLY, ".", "Retention(keep_last=1)", "fid/first", "0", place=run.path)
    sweep.chmod(0o755)
    assert result.stderr == ""
    assert result.stdout.count("cannot read") == 1
    assert "cannot read fid/first/scores.json: Permission denied" in result.stdout
    assert "removed () stripped ()" in result.stdout
    assert checkpoints(run) == [10, 20, 30]


def test_a_strangers_file_keeps_its_checkpoint_and_is_named(run: Run) -> None:
    write(run, 10, 20)
    (folder(run, 10) / "notes.txt").write_text("the good one")
    before = tree(run.checkpoints)
    (line,) = CheckpointPruner(run, with_rules(run, keep_last=1)).apply().problems
    assert "step-00000010 stays, since it holds notes.txt" in line
    assert tree(run.checkpoints) == before


def test_a_hidden_file_that_came_from_elsewhere_stays_where_it_is_named(run: Run) -> None:
    write(run, 10, 20)
    (folder(run, 10) / ".DS_Store").write_text("theirs")
    outcome = CheckpointPruner(run, with_rules(run, keep_last=1)).apply()
    assert outcome.removed == (10,)
    (left,) = atomic.debris(run.checkpoints)
    assert [path.name for path in left.iterdir()] == [".DS_Store"]
    assert outcome.problems == (
        f"{left} still holds .DS_Store, which ncsnx did not write there; inspect it, then remove it yourself",
    )


@pytest.mark.parametrize("kind", ["file", "folder", "place"])
def test_no_link_is_followed_and_nothing_outside_goes(run: Run, tmp_path: Path, kind: str) -> None:
    write(run, 10, 20, 30)
    outside = tmp_path / "outside"
    outside.mkdir()
    if kind == "file":
        shutil.move(folder(run, 10) / OPTIMIZER, outside / OPTIMIZER)
        (folder(run, 10) / OPTIMIZER).symlink_to(outside / OPTIMIZER)
    elif kind == "folder":
        shutil.move(folder(run, 10), outside / step_name(10))
        folder(run, 10).symlink_to(outside / step_name(10))
    else:
        shutil.move(run.checkpoints, outside / "checkpoints")
        run.checkpoints.symlink_to(outside / "checkpoints")
    before = tree(outside)
    outcome = CheckpointPruner(run, with_rules(run, keep_last=1, optimizer_last=1)).apply()
    assert tree(outside) == before
    assert folder(run, 10).is_dir()
    assert outcome.removed == (() if kind == "place" else (20,))


def test_a_manifest_that_names_files_elsewhere_removes_nothing(run: Run, tmp_path: Path) -> None:
    write(run, 10, 20)
    (tmp_path / "precious").write_text("precious")
    path = folder(run, 10) / MANIFEST
    content = json.loads(path.read_bytes())
    del content["digest"]
    content["for_training"]["../../../precious"] = {"sha256": "0" * 64, "bytes": 8}
    path.write_bytes(atomic.json_bytes({**content, "digest": digest(content)}))
    CheckpointPruner(run, with_rules(run, keep_last=1)).apply()
    remove_debris(run)
    assert (tmp_path / "precious").read_text() == "precious"
    assert 10 in checkpoints(run)


@pytest.mark.parametrize("what", ["whole", "optimizer"])
def test_killed_at_any_moment_of_a_removal_a_checkpoint_is_whole_or_recognisably_gone(
    run: Run, tmp_path: Path, what: str
) -> None:
    write(run, 10, 20)
    result = python(KILLED_AT_EACH_CALL, str(run.path), str(tmp_path / "work"), what)
    assert result.stderr == ""
    rows = [eval(line) for line in result.stdout.splitlines()]
    assert len(rows) > {"whole": 8, "optimizer": 3}[what]
    own = {f"step-00000010/{name}" for name in (*contents(run.experiment(), 10), MANIFEST)} | {"step-00000010"}
    others = {path.replace("10", "20") for path in own}
    less = others if what == "whole" else (own - {f"step-00000010/{OPTIMIZER}"}) | others
    for (there, halves), left in rows:
        assert set(left) in (own | others, less)
        assert there == ("step-00000010" in left), "what was gone stays gone"
        assert halves <= (0 if there else 1)
    assert set(rows[0][1]) == own | others, "killed before anything"
    assert set(rows[-1][1]) == less, "not killed"
    if what == "whole":
        assert any(halves for (_, halves), _ in rows), "killed while it was debris"


def test_an_optimizer_state_that_goes_while_a_checkpoint_is_verified_is_no_damage(run: Run) -> None:
    write(run, 10)
    found = read_manifest(folder(run, 10))
    remove_optimizer_state(folder(run, 10))
    verify_file(folder(run, 10), found, OPTIMIZER)
    (folder(run, 10) / OPTIMIZER).write_bytes(b"another")
    with pytest.raises(NcsnxError, match=r"has 7 bytes instead of"):
        verify_file(folder(run, 10), found, OPTIMIZER)


def test_an_optimizer_state_that_goes_once_the_manifest_was_read_ends_no_sampling(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(run, 10)
    read = protocol.read_manifest

    def read_before_it_goes(place: Path, *arguments: Any) -> protocol.Manifest:
        found = read(place, *arguments)
        (place / OPTIMIZER).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(protocol, "read_manifest", read_before_it_goes)
    assert protocol.resolve_checkpoint(run, 10) == folder(run, 10)


@pytest.mark.parametrize("number", [0, 2])
def test_a_removal_that_is_refused_at_the_first_file_leaves_the_checkpoint(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write(run, 10, 20)
    before = tree(run.checkpoints)
    unlink, calls = Path.unlink, []

    def refused(path: Path, *arguments: Any, **keywords: Any) -> None:
        calls.append(path)
        if len(calls) > number:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(
        NcsnxError, match=r"step-00000010: Operation not permitted.*; allow that .*next start"
    ) as caught:
        remove_checkpoint(folder(run, 10))
    monkeypatch.undo()
    if number == 0:
        assert tree(run.checkpoints) == before
    else:
        (left,) = atomic.debris(run.checkpoints)
        assert f"; the rest of it is {left.name};" in str(caught.value)
        assert checkpoints(run) == [20]
        remove_debris(run)
        assert names_of(run) == ["step-00000020"]


def test_an_optimizer_state_that_came_back_counts_again(run: Run) -> None:
    write(run, 10, 20)
    content = (folder(run, 20) / OPTIMIZER).read_bytes()
    remove_optimizer_state(folder(run, 20))
    pruner = CheckpointPruner(run, with_rules(run, optimizer_last=1))
    assert pruner.apply().stripped == ()
    (folder(run, 20) / OPTIMIZER).write_bytes(content)
    assert pruner.apply().stripped == (10,)


def test_a_checkpoint_of_another_experiment_neither_counts_nor_goes(run: Run) -> None:
    write(run, 10, 30)
    other = attrs.evolve(run.experiment(), seed=7)
    write_checkpoint(run.checkpoints, 20, contents(other, 20).items())
    write_checkpoint(run.checkpoints, 40, contents(other, 40).items())
    experiment = with_rules(run, keep_last=2)
    assert CheckpointPruner(run, experiment).foreseen([]) is None
    assert CheckpointPruner(run, experiment).apply().removed == ()
    assert CheckpointPruner(run, with_rules(run, keep_last=1)).apply().removed == (10,)
    assert checkpoints(run) == [20, 30, 40]


def test_a_training_falls_back_behind_a_newest_checkpoint_that_lost_its_optimizer_state(run: Run) -> None:
    write(run, 10, 20, 30)
    for step, expected in ((30, (20, (30,))), (20, (10, (30, 20)))):
        remove_optimizer_state(folder(run, step))
        found = resumption(run)
        assert (found.step, found.untrainable, found.refusal) == (*expected, None)
    write(run, 30)
    assert names_of(run) == ["step-00000010", "step-00000020", "step-00000030", "step-00000030.unsound-1"]
    assert resumption(run).step == 30


def test_a_training_without_an_optimizer_state_is_refused_with_the_nearest_that_has_one(run: Run) -> None:
    write(run, 10, 20, 30, 40)
    for step in (20, 30):
        remove_optimizer_state(folder(run, step))
    damage(folder(run, 40) / OPTIMIZER)
    found = resumption(run)
    assert found.step is None
    assert found.refusal is not None
    assert "of step 30, holds no optimizer state" in found.refusal
    assert "resume from step 10, the nearest that has it" in found.advice
    subprocess.run(found.hints[0].command, shell=True, check=True)
    assert resumption(run).step == 10


def test_a_training_is_refused_where_no_checkpoint_has_an_optimizer_state(run: Run) -> None:
    write(run, 10, 20)
    remove_optimizer_state(folder(run, 10))
    damage(folder(run, 20) / "model.safetensors")
    found = resumption(run)
    assert "no other checkpoint has it either" in str(found.refusal)
    assert found.advice.startswith("start a new run: `ncsnx train … name=NAME`; or restore ")


def test_a_run_that_never_had_a_checkpoint_begins_and_one_that_lost_them_doesnt(run: Run) -> None:
    assert resumption(run) == resumption(run, [])
    assert resumption(run).refusal is None
    run.unsound.mkdir()
    assert resumption(run).refusal is None
    (run.unsound / step_name(10)).mkdir()
    assert "has no sound checkpoint any more" in str(resumption(run).refusal)
    (run.unsound / step_name(10)).rmdir()
    run.snapshots.mkdir()
    (run.snapshots / f"{step_name(10)}.png").touch()
    assert "has no sound checkpoint any more" in str(resumption(run).refusal)


def test_json_files_of_a_size_that_none_has_are_refused_unread(run: Run) -> None:
    write(run, 10)
    path = folder(run, 10) / MANIFEST
    with path.open("ab") as file:
        file.truncate(reading.JSON_LIMIT + 1)
    with pytest.raises(NcsnxError, match=r"manifest\.json is larger than any such file"):
        verify_own(folder(run, 10))
    with run.config_path.open("ab") as file:
        file.truncate(reading.JSON_LIMIT + 1)
    with pytest.raises(
        NcsnxError, match=r"config\.json: it has 16,777,217 bytes, and the limit for such files is 16,777,216"
    ):
        run.experiment()


def names_of(run: Run) -> list[str]:
    """Names in the folder of checkpoints."""
    return sorted(path.name for path in run.checkpoints.iterdir())


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([4], "4"),
        ([4, 8, 12], "4, 8, 12"),
        ([4, 5000, 10_000, 15_000, 20_000, 1_000_000], "4, 5,000 to 20,000 by 5,000, 1,000,000"),
    ],
)
def test_steps_are_said_exactly(steps: list[int], words: str) -> None:
    assert in_words(steps) == words


def test_a_plan_of_nothing_is_false() -> None:
    assert not PruningPlan()
    assert not PruningPlan(relied_on=(3,))
    assert PruningPlan(strip=(3,))
