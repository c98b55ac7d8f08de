"""Measurements are stored when they are added, are ranked within their protocol only, and tell the best checkpoint."""

import json
import re
import threading

import attrs
import pytest

from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger, Quantity, require_best, value
from ncsnx.runs.manifest import verify, write_checkpoint
from tests.runs.kept import fid, subject, weights


def add(
    run: Run, step: int, score: float, sha256: str = "a", images: int = 100, now: str = "2026", **others: object
) -> None:
    Ledger.read(run).add(fid(images), subject(run, step, sha256, **others), {"score": score}, {"finished": now})


def checkpoint(run: Run, step: int) -> str:
    """Writes a checkpoint; returns the sha256 of its weights."""
    content = weights(run.experiment(), f"weights {step}".encode())
    folder = write_checkpoint(run.checkpoints, step, [("ema.safetensors", content)])
    return verify(folder).files["ema.safetensors"].sha256


def test_entries_are_there_again_when_the_ledger_is_read_again(run: Run) -> None:
    add(run, 20, 5.0)
    add(run, 10, 7.0)
    (series,) = Ledger.read(run).series("fid")
    assert [(one.step, one.score) for one in series.entries] == [(10, 7.0), (20, 5.0)]
    assert (series.protocol, series.facts["seed"], series.facts["n"]) == (fid(), 0, 100)
    assert len(run.ledger_path.read_text().splitlines()) == 3, "the protocol once, and two entries"


def test_an_entry_belongs_to_its_weights_and_the_newest_of_a_step_counts(run: Run) -> None:
    add(run, 20, 5.0, "old")
    assert Ledger.read(run).find(fid(), subject(run, 20, "new")) is None
    add(run, 20, 6.0, "new")
    (series,) = Ledger.read(run).series("fid")
    assert [one.score for one in series.entries] == [6.0]


def test_later_numbers_of_a_subject_are_added_to_those_that_it_has(run: Run) -> None:
    ledger, one = Ledger.read(run), subject(run, 20, "a")
    for values in ({"score": 5.0, "recall": 0.25}, {"recall": 0.5, "density": 1.0}):
        ledger.add(fid(), one, values, {})
    expected = {"score": 5.0, "recall": 0.5, "density": 1.0}
    for each in (ledger, Ledger.read(run)):
        entry = each.find(fid(), one)
        assert entry is not None
        assert entry.values == expected


def test_what_differs_in_more_than_its_checkpoint_is_another_series(run: Run) -> None:
    for others in ({}, {"seed": 1}, {"precision": "bf16"}, {"sampler": {"type": "heun"}}, {"members": (4, 8)}):
        add(run, 10, 1.0, **others)
        add(run, 20, 2.0, **others)
    add(run, 20, 3.0, images=500)
    found = list(Ledger.read(run).series("fid"))
    assert [len(one.entries) for one in found] == [2, 2, 2, 2, 2, 1]
    assert len({one.folder for one in found}) == 6


def test_the_caption_has_weights_precision_sampler_and_evaluations(run: Run) -> None:
    facts = {"precision": "bf16", "sampler": {"type": "gone"}, "members": (4, 8)}
    ledger, begin = Ledger.read(run), "EMA weights in bf16, scores of 2 checkpoints averaged, sampler=gone"

    def caption() -> str:
        return ledger.series_of(fid(), subject(run, 10, "a", **facts)).caption

    assert caption() == f"{begin}, seed 0; "
    for step, count, words in (
        (10, 61, "61 evaluations"),
        (20, 61, "61 evaluations"),
        (30, 72.4, "61 to 72 evaluations"),
    ):
        ledger.add(fid(), subject(run, step, "a", **facts), {"evaluations": count}, {})
        assert caption() == f"{begin}, {words} per image, seed 0; "


def test_a_newer_form_of_a_protocol_replaces_its_names_and_columns(run: Run) -> None:
    add(run, 10, 1.0)
    newer = attrs.evolve(fid(), columns=(Quantity("score", "FD"), Quantity("density")))
    Ledger.read(run).add(newer, subject(run, 20, "a"), {"score": 2.0}, {})
    (series,) = Ledger.read(run).series("fid")
    assert series.protocol.columns == newer.columns


def test_processes_that_add_at_once_lose_nothing(run: Run) -> None:
    threads = [threading.Thread(target=add, args=(run, step, 1.0)) for step in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    (series,) = Ledger.read(run).series("fid")
    assert len(series.entries) == 20


DAMAGED = ("{", "[]", "", '{"step": "10"}', '{"facts": {}, "measure": 3}', '{"protocol": "a", "schema_version": 2}')


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_or_newer_line_costs_its_numbers_and_is_named(run: Run, line: str) -> None:
    add(run, 10, 1.0)
    with run.ledger_path.open("a") as file:
        file.write(f"{line}\n")
    add(run, 20, 2.0)
    ledger, said = Ledger.read(run), list[str]()
    ledger.warn(said.append)
    (series,) = ledger.series("fid")
    assert [one.step for one in series.entries] == [10, 20]
    assert len(said) == 1
    assert re.search(r"1 measurement left out: .*measurements\.jsonl, line 3: ", said[0])
    with pytest.raises(NcsnxError, match="line 3: "):
        ledger.require_sound()


@pytest.mark.parametrize(
    ("key", "wrong"), [("step", -1), ("step", "10"), ("score", 10**400), ("score", "x"), ("levels", 1)]
)
def test_numbers_that_ncsnx_does_not_write_are_left_out(run: Run, key: str, wrong: object) -> None:
    add(run, 10, 1.0)
    first, entry = map(json.loads, run.ledger_path.read_text().splitlines())
    entry["subject" if key == "step" else "values"][key] = wrong
    run.ledger_path.write_text(f"{json.dumps(first)}\n{json.dumps(entry)}\n")
    ledger = Ledger.read(run)
    assert not [*ledger.series("fid")]
    with pytest.raises(NcsnxError, match="line 2"):
        ledger.require_sound()


def test_entries_whose_protocol_was_removed_count_as_damaged_until_it_is_stored_again(run: Run) -> None:
    add(run, 10, 1.0, checkpoint(run, 10))
    protocol, entry = run.ledger_path.read_bytes().splitlines(keepends=True)
    run.ledger_path.write_bytes(entry)
    ledger = Ledger.read(run)
    with pytest.raises(NcsnxError, match=r"the protocol \w{16} of step 10 is missing"):
        ledger.require_sound()
    ledger.restore(fid())
    ledger.require_sound()
    assert run.ledger_path.read_bytes() == entry + protocol
    assert require_best(Ledger.read(run, ["fid"])).step == 10, "read without the other measures, too"


def test_weights_that_were_restored_have_their_score_again(run: Run) -> None:
    add(run, 10, 1.0, checkpoint(run, 10))
    add(run, 10, 2.0, "of other weights meanwhile")
    assert require_best(Ledger.read(run)).score == 1.0


def test_a_damaged_protocol_costs_its_numbers_until_it_is_measured_again(run: Run) -> None:
    add(run, 10, 1.0)
    run.ledger_path.write_bytes(run.ledger_path.read_bytes().replace(b"{", b"[", 1))
    assert not [*Ledger.read(run).series("fid")]
    add(run, 20, 2.0)
    (series,) = Ledger.read(run).series("fid")
    assert [one.step for one in series.entries] == [10, 20]


def test_of_some_measures_alone_their_lines_are_read(run: Run) -> None:
    losses = attrs.evolve(fid(), measure="loss")
    for step in (10, 20):
        add(run, step, 1.0)
        Ledger.read(run).add(losses, subject(run, step, "a"), {"score": 2.0}, {})
    ledger = Ledger.read(run, ["fid"])
    assert [*ledger.series("fid")] == [*Ledger.read(run).series("fid")]
    assert [*ledger.series("loss")] == []
    assert (ledger.damaged, [one.measure for one in ledger.protocols.values()]) == ([], ["fid"])


def test_lines_that_a_person_wrote_again_are_read_whichever_measures_are_asked_for(run: Run) -> None:
    add(run, 10, 1.0)
    records = [json.loads(line) for line in run.ledger_path.read_text().splitlines()]
    run.ledger_path.write_text("".join(f"{json.dumps(record, sort_keys=True)}\n" for record in records))
    for measures in ([], ["fid"]):
        (series,) = Ledger.read(run, measures).series("fid")
        assert [one.score for one in series.entries] == [1.0]


def test_a_line_that_a_killed_process_left_torn_is_no_entry(run: Run) -> None:
    add(run, 10, 1.0)
    whole = run.ledger_path.read_bytes()
    run.ledger_path.write_bytes(whole + whole[-30:-1])
    add(run, 20, 2.0)
    (series,) = Ledger.read(run).series("fid")
    assert [one.step for one in series.entries] == [10, 20]


def test_best_is_the_lowest_score_of_the_series_with_the_most_images(run: Run) -> None:
    first, second, third = (checkpoint(run, step) for step in (10, 20, 30))
    for step, score, sha256 in ((10, 9.0, first), (20, 4.0, second), (30, 5.0, third)):
        add(run, step, score, sha256, images=5_000)
    add(run, 10, 1.0, first, images=50, now="2027")
    assert run.checkpoint("best") == 20
    assert str(require_best(Ledger.read(run))).startswith("step 20, FD 4.000 on 5,000 images, the best of 3 scored in ")


def test_of_equally_large_series_the_newest_decides(run: Run) -> None:
    first, second = checkpoint(run, 10), checkpoint(run, 20)
    add(run, 20, 2.0, second, now="2026-01-02", seed=1)
    add(run, 10, 1.0, first, now="2026-01-01")
    assert run.checkpoint("best") == 20


def test_ensembles_say_nothing_about_a_single_checkpoint(run: Run) -> None:
    add(run, 10, 1.0, checkpoint(run, 10), images=9_999, members=(5, 10))
    with pytest.raises(NcsnxError, match=r"scores of ensembles.* do not count"):
        require_best(Ledger.read(run))


def test_best_skips_weights_that_are_gone(run: Run) -> None:
    for step, score, sha256 in ((10, 3.0, checkpoint(run, 10)), (20, 1.0, "gone"), (30, 2.0, "gone")):
        add(run, step, score, sha256)
    assert run.checkpoint("best") == 10


def test_best_does_not_pass_off_other_weights_as_those_that_were_scored(run: Run) -> None:
    checkpoint(run, 10)
    add(run, 10, 1.0, "other weights")
    with pytest.raises(NcsnxError, match="of weights that no longer exist"):
        run.checkpoint("best")


def test_what_somebody_wrote_in_the_place_of_a_number_is_no_number() -> None:
    assert value({"error": 0.5}, "error") == 0.5
    strange: list[object] = [10**400, True, "0.5", None, float("nan"), [1.0], {}]
    assert [value({"error": item}, "error") for item in strange] == [None] * len(strange)
    assert value({}, "error") is None
