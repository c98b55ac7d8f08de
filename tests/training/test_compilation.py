"""Whether a training is compiled follows from the experiment, the machine and the run's record."""

import attrs
import pytest
import torch

from ncsnx import runtime as runtimes
from ncsnx.config import NCSNv2
from ncsnx.errors import UsageError
from ncsnx.runtime import Runtime
from tests.golden_networks import small_experiment

CPU = Runtime(device=torch.device("cpu"), threads=2)
SHORT = attrs.evolve(small_experiment(NCSNv2(width=4)), steps=1_000)
LONG = attrs.evolve(SHORT, steps=10**9)
PARAMETERS = 100_000


@pytest.fixture(autouse=True)
def with_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "sh")  # any program: these tests compile nothing


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
