"""bf16 is proposed where a quick timing finds it faster, with what to type; a written experiment stays in fp32."""

import attrs
import pytest

from ncsnx.cli.budgets import propose_bf16
from ncsnx.config import Images, NCSNv2
from ncsnx.config.discovery import resolve
from ncsnx.console.messages import Messages
from ncsnx.networks import Execution, ScoreFunction
from ncsnx.planning import timing
from ncsnx.planning.timing import bf16_speedup, time_experiment
from ncsnx.runtime import Runtime
from ncsnx.work import SILENT
from tests.cli.test_new import loaded, survey, text_of

TINY = attrs.evolve(resolve("digits").experiment, model=NCSNv2(width=4), batch_size=2)
FOUND = survey(Images(root="photos", image_size=32, channels=3))


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
    monkeypatch.setattr(timing, "_seconds", seconds)
    monkeypatch.setattr(timing, "has_fast_bf16", lambda device: True)
    return timed


def test_the_ratio_is_of_alternating_steps(calls: list[str]) -> None:
    runtime = Runtime.choose(device="cpu")
    found = time_experiment(TINY, runtime, SILENT)
    calls.clear()
    assert bf16_speedup(TINY, runtime, found, SILENT) == 1.5
    assert calls == 4 * ["fp32", "bf16"]


def test_without_fast_bf16_or_fp32_nothing_is_timed(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime.choose(device="cpu")
    found = time_experiment(TINY, runtime, SILENT)
    calls.clear()
    assert bf16_speedup(attrs.evolve(TINY, precision="bf16"), runtime, found, SILENT) is None
    monkeypatch.setattr(timing, "has_fast_bf16", lambda device: False)
    assert bf16_speedup(TINY, runtime, found, SILENT) is None
    assert calls == []


def test_a_faster_bf16_is_said_with_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    for speedup in (None, 0.9, 1.05):
        propose_bf16(Messages(), attrs.evolve(FOUND, bf16_speedup=speedup), "ncsnx train own")
    assert capsys.readouterr().err == ""
    propose_bf16(Messages(), attrs.evolve(FOUND, bf16_speedup=1.94), "ncsnx train own")
    expected = "precision=bf16 makes a training step faster, about 1.9×, here:  ncsnx train own precision=bf16\n"
    assert capsys.readouterr().err == expected


def test_a_written_experiment_stays_in_fp32_and_says_what_bf16_brings(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "bf16" not in text_of(FOUND)
    text = text_of(attrs.evolve(FOUND, bf16_speedup=1.94))
    assert '        # precision="bf16",\n' in text
    assert "faster, about 1.9×, on the machine that wrote this file" in text
    assert loaded(text, tmp_path_factory.mktemp("plain")).precision == "fp32"
    chosen = text.replace('# precision="bf16",', 'precision="bf16",')
    assert loaded(chosen, tmp_path_factory.mktemp("chosen")).precision == "bf16"
