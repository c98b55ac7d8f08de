"""bf16 is proposed where every round of a quick timing finds it faster; a written experiment stays in fp32."""

from pathlib import Path

import attrs
import pytest

from ncsnx.commands.new import NewExperiment
from ncsnx.config import Images, NCSNv2
from ncsnx.config.discovery import resolve
from ncsnx.networks import Execution, ScoreFunction
from ncsnx.planning import timing
from ncsnx.planning.timing import bf16_speedups, time_experiment
from ncsnx.runtime import Runtime
from ncsnx.work import SILENT
from tests.cli.test_new import loaded, survey, text_of

TINY = attrs.evolve(resolve("digits").experiment, model=NCSNv2(width=4), batch_size=2)
FOUND = survey(Images(root="photos", image_size=32, channels=3))
FASTER = (1.94, 1.2, 2.5)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The precision of each timed call; a clock by which fp32 takes 3 s, bf16 2 s."""
    prepared, timed = [], list[str]()

    def prepare(network: ScoreFunction, execution: Execution) -> ScoreFunction:
        prepared.append(execution.precision)
        return network

    def seconds(job: object) -> float:
        timed.append(prepared[-1])
        return 3.0 if prepared[-1] == "fp32" else 2.0

    monkeypatch.setattr(timing, "prepare", prepare)
    monkeypatch.setattr(timing, "seconds_of", seconds)
    monkeypatch.setattr(timing, "has_fast_bf16", lambda device: True)
    monkeypatch.setattr(timing, "why_slow", lambda threads: None)
    return timed


def test_the_ratios_are_of_alternating_steps(calls: list[str]) -> None:
    runtime = Runtime.choose(device="cpu")
    found = time_experiment(TINY, runtime, SILENT)
    calls.clear()
    assert bf16_speedups(TINY, runtime, found, SILENT) == (1.5, 1.5, 1.5)
    assert calls == 4 * ["fp32", "bf16"]


def test_without_fast_bf16_or_fp32_nothing_is_timed(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime.choose(device="cpu")
    found = time_experiment(TINY, runtime, SILENT)
    calls.clear()
    assert bf16_speedups(attrs.evolve(TINY, precision="bf16"), runtime, found, SILENT) == ()
    monkeypatch.setattr(timing, "has_fast_bf16", lambda device: False)
    assert bf16_speedups(TINY, runtime, found, SILENT) == ()
    assert calls == []


def test_ratios_on_a_busy_machine_do_not_count(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime.choose(device="cpu")
    found = time_experiment(TINY, runtime, SILENT)
    monkeypatch.setattr(timing, "why_slow", lambda threads: "other work keeps this machine busy")
    assert bf16_speedups(TINY, runtime, found, SILENT) == ()


def test_a_faster_bf16_is_said_with_what_to_type() -> None:
    for speedups in [(), (0.9, 0.9, 0.9), (1.3, 1.05, 1.4)]:  # of the last, the median is enough
        assert closing(speedups) == ["next: ncsnx train own"]
    faster = "a training step is about 1.9× as fast in bf16 here\ntrain in bf16:  ncsnx train own precision=bf16"
    assert closing(FASTER)[0] == faster


def closing(speedups: tuple[float, ...]) -> list[str]:
    survey = attrs.evolve(FOUND, bf16_speedups=speedups)
    survey = attrs.evolve(survey, experiment=attrs.evolve(survey.experiment, name="own"))
    return list(NewExperiment(survey=survey, path=Path("experiments/own.py")).closing())


def test_a_written_experiment_stays_in_fp32_and_says_what_bf16_brings(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "bf16" not in text_of(FOUND)
    text = text_of(attrs.evolve(FOUND, bf16_speedups=FASTER))
    assert '        # precision="bf16",\n' in text
    assert "a training step is about 1.9× as fast in bf16" in text
    assert loaded(text, tmp_path_factory.mktemp("plain")).precision == "fp32"
    chosen = text.replace('# precision="bf16",', 'precision="bf16",')
    assert loaded(chosen, tmp_path_factory.mktemp("chosen")).precision == "bf16"
