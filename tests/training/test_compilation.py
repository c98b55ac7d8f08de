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
    return decide("auto", experiment, CPU, PARAMETERS, recorded).compile


def test_long_trainings_are_compiled_and_short_ones_are_not() -> None:
    assert decided(LONG)
    assert not decided(SHORT)


def test_the_reason_gives_the_cost_and_the_gain() -> None:
    reason = decide("auto", LONG, CPU, PARAMETERS, None).reason
    assert reason.startswith("compiling: some 0:01:40, saves some 54:36:48 of ")


def test_resuming_follows_the_record() -> None:
    assert not decided(LONG, recorded=False)
    assert decided(SHORT, recorded=True)


def test_a_choice_outweighs_the_record() -> None:
    assert decide("on", SHORT, CPU, PARAMETERS, False).compile
    assert not decide("off", LONG, CPU, PARAMETERS, True).compile


def test_without_a_compiler_auto_is_off_and_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    assert not decided(LONG)
    with pytest.raises(UsageError, match=r"no C\+\+ compiler was found"):
        decide("on", SHORT, CPU, PARAMETERS, None)


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
