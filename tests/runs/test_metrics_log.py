"""Metrics survive kills and are truncated to the step from which a run resumes."""

import math

import pytest

from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.metrics_log import MetricsLog


def filled(run: Run) -> MetricsLog:
    log = MetricsLog(run)
    for step in (10, 20, 30, 40):
        log.append({"step": step, "loss": step / 3})
    return log


def test_numbers_that_are_not_finite_become_null_and_are_named(run: Run) -> None:
    log = MetricsLog(run)
    log.append({"step": 1, "loss": math.nan, "norm": math.inf, "levels": [1.0, -math.inf], "lr": 0.1})
    assert log.read() == [
        {
            "step": 1,
            "loss": None,
            "norm": None,
            "levels": [1.0, None],
            "lr": 0.1,
            "nonfinite": ["loss", "norm", "levels[1]"],
        }
    ]


def test_wherever_the_last_line_is_torn_the_others_are_read_and_appended_to(run: Run) -> None:
    log = filled(run)
    whole = run.metrics_path.read_bytes()
    start_of_last = whole[:-1].rfind(b"\n") + 1
    for length in range(start_of_last, len(whole)):
        run.metrics_path.write_bytes(whole[:length])
        assert [record["step"] for record in log.read()] == [10, 20, 30]
        log.append({"step": 50})
        assert [record["step"] for record in log.read()] == [10, 20, 30, 50]


@pytest.mark.parametrize(("step", "kept"), [(0, []), (19, [10]), (20, [10, 20]), (100, [10, 20, 30, 40])])
def test_truncating_drops_the_records_of_later_steps_and_a_torn_last_line(run: Run, step: int, kept: list[int]) -> None:
    log = filled(run)
    lines = run.metrics_path.read_bytes().splitlines(keepends=True)
    with run.metrics_path.open("ab") as file:
        file.write(b'{"step": 45, "lo')
    log.truncate(step)
    assert run.metrics_path.read_bytes() == b"".join(lines[: len(kept)])
    assert [record["step"] for record in log.read()] == kept


@pytest.mark.parametrize("line", [b"[]", b"\xff", b"", b"[" * 100_000])
def test_a_damaged_line_in_the_middle_is_named(run: Run, line: bytes) -> None:
    log = filled(run)
    run.metrics_path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    with pytest.raises(NcsnxError, match=r"metrics\.jsonl, line 2: expected a JSON object"):
        log.read()
    with pytest.raises(NcsnxError, match="line 2"):
        log.truncate(5)


def test_a_record_without_a_step_is_named_when_truncating(run: Run) -> None:
    log = filled(run)
    run.metrics_path.write_bytes(b'{"loss": 1}\n')
    with pytest.raises(NcsnxError, match="whole number under step"):
        log.truncate(5)
