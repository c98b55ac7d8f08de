"""Ranks that repeat recordings of their steps train the bits of those that use DistributedDataParallel."""

from pathlib import Path

import pytest

from tests.ranks.launched import finish
from tests.ranks.test_distributed_training import losses, require_equal_training
from tests.training.recorded import build_optimizers_as_on_cuda
from tests.training.tiny import command, training

pytestmark = pytest.mark.ranks
CHANGES = ("snapshots=none", "clip_norm=1", "warmup_steps=5", "log_every=1")
AS_ON_CUDA = """
import pytest
from ncsnx import capturing
from ncsnx.training import loop
from tests.training import recorded
recorded.build_optimizers_as_on_cuda(pytest.MonkeyPatch())
plain = loop.TrainingStep
"""
RECORDED = """
loop.TrainingStep = lambda *words, **options: plain(*words, **{**options, "graphs": True})
refuses = os.environ["RANK"] in {REFUSING}
capturing.record_cuda_graph = recorded.refuse if refuses else recorded.call_again
"""


def trained(folder: Path, prelude: str, *changes: str, ranks: int = 2) -> str:
    """Trains in ranks, in a new folder; returns what they wrote on standard error."""
    folder.mkdir()
    result = finish(*training(*CHANGES, *changes), folder=folder, prelude=AS_ON_CUDA + prelude, ranks=ranks)
    assert result.code == 0, result.err
    return result.err


def recorded(*refusing: str) -> str:
    return RECORDED.replace("{REFUSING}", repr(refusing))


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks that repeat recordings."""
    folder = tmp_path_factory.mktemp("repeated") / "recorded"
    assert "without CUDA graphs" not in trained(folder, recorded())
    return folder / "runs/digits"


def test_recorded_ranks_train_the_bits_of_ddp(repeated: Path, tmp_path: Path) -> None:
    trained(tmp_path / "ddp", "")
    require_equal_training(repeated, tmp_path / "ddp/runs/digits")


def test_recorded_ranks_train_the_bits_of_one_process_with_two_passes(
    repeated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_optimizers_as_on_cuda(monkeypatch)
    alone = command(*training(*CHANGES, "accumulation=2"), folder=tmp_path)
    assert alone.code == 0, alone.err
    require_equal_training(repeated, tmp_path / "runs/digits")


def test_a_rank_that_cannot_record_trains_on_beside_one_that_can(repeated: Path, tmp_path: Path) -> None:
    said = trained(tmp_path / "mixed", recorded("0"))
    assert said.count("of a training step runs without CUDA graphs") == 2, "its backward pass and its update"
    require_equal_training(tmp_path / "mixed/runs/digits", repeated)


def test_three_recorded_ranks_with_passes_agree_with_ddp_to_rounding(tmp_path: Path) -> None:
    for name, prelude in (("ddp", ""), ("recorded", recorded())):
        trained(tmp_path / name, prelude, "batch_size=10", "accumulation=2", ranks=3)
    assert losses(tmp_path / "recorded/runs/digits") == pytest.approx(losses(tmp_path / "ddp/runs/digits"), rel=1e-5)
