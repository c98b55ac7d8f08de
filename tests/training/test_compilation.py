"""Whether a training is compiled follows from the experiment, the machine and the run's record."""

import attrs
import pytest
import torch

from ncsnx import runtime as runtimes
from ncsnx.config import Experiment, NCSNv2
from ncsnx.errors import UsageError
from ncsnx.runtime import Runtime
from ncsnx.training.compiling.compilation import decide
from tests.golden_networks import small_experiment

CPU = Runtime(device=torch.device("cpu"), threads=2)
SHORT = attrs.evolve(small_experiment(NCSNv2(width=4)), steps=1_000)
LONG = attrs.evolve(SHORT, steps=10**9)
PARAMETERS = 100_000


@pytest.fixture(autouse=True)
def with_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "sh")  # any program: these tests compile nothing


def decided(experiment: Experiment, recorded: bool | None = None) -> bool:
    return decide(None, experiment, CPU, PARAMETERS, recorded).compile


def test_long_trainings_are_compiled_and_short_ones_are_not() -> None:
    assert decided(LONG)
    assert not decided(SHORT)


def test_the_reason_gives_the_cost_and_the_gain() -> None:
    reason = decide(None, LONG, CPU, PARAMETERS, None).reason
    assert reason.startswith("compiling: some 0:01:40, saves some 54:36:48 of ")


def test_resuming_follows_the_record() -> None:
    assert not decided(LONG, recorded=False)
    assert decided(SHORT, recorded=True)


def test_a_choice_outweighs_the_record() -> None:
    assert decide(True, SHORT, CPU, PARAMETERS, False).compile
    assert not decide(False, LONG, CPU, PARAMETERS, True).compile


def test_a_run_that_cannot_be_compiled_any_more_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = attrs.evolve(CPU, checkpointing=True)
    decision = decide(None, LONG, beside, PARAMETERS, True)
    assert (decision.compile, decision.ends_identity) == (False, True)
    assert decision.reason == "not compiling, although the run was compiled before: checkpointing excludes it"
    monkeypatch.setenv("CXX", "/no/such/compiler")
    decision = decide(None, LONG, CPU, PARAMETERS, True)
    assert (decision.compile, decision.ends_identity) == (False, True)
    assert not decided(LONG)


def test_compilation_is_refused_without_a_compiler_on_a_cpu_and_with_checkpointing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="checkpointing and compile exclude each other"):
        attrs.evolve(CPU, checkpointing=True).compiled()
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.raises(UsageError, match=r"compile: no C\+\+ compiler was found"):
        Runtime.choose(device="cpu", compile=True)
    assert attrs.evolve(CPU, device=torch.device("cuda")).compiled().compile


def test_compiled_code_is_kept_in_the_cache_folder_unless_the_user_chose_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("NCSNX_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/chosen")
    runtimes.keep_compiled_code()
    assert runtimes.os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/chosen"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    runtimes.keep_compiled_code()
    assert runtimes.os.environ["TORCHINDUCTOR_CACHE_DIR"] == f"{tmp_path}/compiled"
