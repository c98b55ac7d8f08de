"""Training in several ranks against training in one process, by torchrun."""

from pathlib import Path

import attrs
import pytest
import torch

from ncsnx.config import NCSNv2
from ncsnx.data import open_data
from ncsnx.storage.json_lines import read_records
from ncsnx.training.loss_values import HeldOutBatch
from tests.data.miniature import FOLDER, write_cifar10
from tests.ranks.launched import finish, messages, small
from tests.ranks.process_ranks import in_ranks
from tests.runs.kept import SMALL
from tests.spaces import space_of, untrained
from tests.training.tiny import command, files, saved, steps_of, training


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in read_records(run / "metrics.jsonl") if "loss" in record]


def test_two_ranks_give_the_bits_of_two_accumulation_passes(tmp_path: Path) -> None:
    command(*small("accumulation=2"), "--run", "alone", folder=tmp_path).done()
    shared = finish(*small(), "--run", "shared", folder=tmp_path).done()
    require_equal_training(tmp_path / "runs/shared", tmp_path / "runs/alone")
    assert files(tmp_path / "runs/shared/snapshots") == files(tmp_path / "runs/alone/snapshots")
    assert (tmp_path / "runs/shared/ranks/rank-1.txt").read_text().count("finished at step 12/12") == 1
    assert shared.err.count("finished at step 12/12") == 1
    (segment,) = read_records(tmp_path / "runs/shared/segments.jsonl")
    assert segment["runtime"]["ranks"] == 2


def held_out(run: Path) -> list[float]:
    return [record["held_out"] for record in read_records(run / "metrics.jsonl") if "held_out" in record]


def require_equal_training(run: Path, expected: Path) -> None:
    """The weights, averages, optimizer states and losses are equal to the bit. Held-out losses are not, since an
    evaluation of half the images rounds otherwise: by 6e-8 per operation, and 1e-6 in all."""
    assert steps_of(run) == steps_of(expected)
    for step in steps_of(run):
        here, there = saved(run, step), saved(expected, step)
        for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors"):
            assert here[name] == there[name], f"{name} of step {step}"
    assert losses(run) == losses(expected)
    assert held_out(run) == pytest.approx(held_out(expected), rel=1e-6)


@pytest.mark.ranks
@pytest.mark.parametrize("world", [2, 3, 4])
def test_loss_curves_agree_for_any_number_of_ranks(world: int, tmp_path: Path) -> None:
    """A batch of 10 is shared unequally by 3 and 4 ranks. Sums of losses are rounded to 6e-8; ten of them to 1e-6."""
    command(*small("batch_size=10", "log_every=1"), "--run", "alone", folder=tmp_path).done()
    finish(*small("batch_size=10", "log_every=1"), "--run", "shared", folder=tmp_path, ranks=world).done()
    assert losses(tmp_path / "runs/shared") == pytest.approx(losses(tmp_path / "runs/alone"), rel=1e-6)


@pytest.mark.ranks
@pytest.mark.parametrize(
    "changes",
    [["precision=bf16"], ["model=ncsn"], ["clip_norm=0.1"], ["data.noise=0.05", "schedule.sigma_min=0.05"]],
)
def test_kinds_of_training_give_the_bits_of_two_passes_too(changes: list[str], tmp_path: Path) -> None:
    changes = [*changes, "snapshots=none"]
    command(*training(*changes, "accumulation=2"), "--run", "alone", folder=tmp_path).done()
    finish(*training(*changes), "--run", "shared", folder=tmp_path).done()
    require_equal_training(tmp_path / "runs/shared", tmp_path / "runs/alone")


@pytest.mark.ranks
def test_consistency_tuning_in_bf16_gives_the_bits_of_two_passes_too(tmp_path: Path) -> None:
    command(*training("snapshots=none", "steps=2"), "--run", "start", folder=tmp_path).done()
    changes = ("loss=consistency", "loss.halve_every=2", "precision=bf16", "snapshots=none")
    tuning = [word for word in training(*changes) if not word.startswith("sampler")] + ["--from", "start"]
    command(*tuning, "accumulation=2", "--run", "alone", folder=tmp_path).done()
    finish(*tuning, "--run", "shared", folder=tmp_path).done()
    require_equal_training(tmp_path / "runs/shared", tmp_path / "runs/alone")


@pytest.mark.ranks
def test_a_run_resumes_with_another_number_of_ranks(tmp_path: Path) -> None:
    for steps, world in (("4", 2), ("8", 4)):
        finish(*small(f"steps={steps}"), "--run", "run", folder=tmp_path, ranks=world).done()
    last = command(*small(), "--run", "run", folder=tmp_path).done()
    assert "bit-identity with an uninterrupted run ends here: " in last.err
    assert "ranks 4 → 1" in last.err
    command(*small(), "--run", "alone", folder=tmp_path).done()
    # rounding of the gradients, which Adam's first steps amplify where a gradient is nearly 0
    assert losses(tmp_path / "runs/run") == pytest.approx(losses(tmp_path / "runs/alone"), rel=1e-4)
    assert [one["runtime"]["ranks"] for one in read_records(tmp_path / "runs/run/segments.jsonl")] == [2, 4, 1]


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.normalization=batch"], "batch normalization takes its statistics over the whole batch"),
        (["batch_size=3"], "batch_size=3 with accumulation=1 cannot be shared by 4 ranks: at most 3 ranks can have"),
        (["--gpus=2"], "--gpus starts the ranks, but a launcher has already started this one"),
        (["steps=oops"], "steps"),
    ],
)
def test_what_ranks_cannot_do_is_refused_by_one_of_them(words: list[str], said: str, tmp_path: Path) -> None:
    result = finish(*small(*words), folder=tmp_path, ranks=4)
    assert result.code == 1  # torchrun's
    own = [line for line in messages(result) if line.startswith("error")]
    assert len(own) == 1, result.err
    assert said in own[0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.ranks
def test_ranks_that_were_started_differently_are_refused(tmp_path: Path) -> None:
    result = finish(*small(), folder=tmp_path, prelude="sys.argv.append(f\"seed={os.environ['RANK']}\")")
    (own,) = [line for line in messages(result) if line.startswith("error")]
    assert "rank 1 (" in own
    assert ") was started differently: arguments train digits" in own
    assert "seed=1 there" in own
    assert not (tmp_path / "runs").exists()


@pytest.mark.ranks
def test_ranks_with_different_data_are_refused(tmp_path: Path) -> None:
    for rank in range(2):
        write_cifar10(tmp_path / f"data-{rank}" / FOLDER, per_file=8 + rank)
    prelude = "sys.argv += ['--data', f\"data-{os.environ['RANK']}\"]"
    words = ["train", "cifar10", "model.width=8", "batch_size=4", "steps=2", "snapshots=none"]
    result = finish(*words, folder=tmp_path, prelude=prelude)
    (own,) = [line for line in messages(result) if line.startswith("error")]
    assert ") has other data: fingerprint" in own
    assert not (tmp_path / "runs").exists()


def test_fewer_held_out_images_than_ranks_are_shared_too(tmp_path: Path) -> None:
    splits, config = open_data(SMALL.data, tmp_path), attrs.evolve(SMALL, batch_size=2, model=NCSNv2(width=4))
    network = untrained(config).eval()
    alone = HeldOutBatch(splits.held_out, config, space_of(config.data), torch.device("cpu")).loss(network)
    found = in_ranks(
        4,
        lambda ranks: HeldOutBatch(splits.held_out, config, space_of(config.data), torch.device("cpu"), ranks).loss(
            network
        ),
    )
    assert [one.mean for one in found] == pytest.approx([alone.mean] * 4, rel=1e-6)
    assert [one.levels.keys() for one in found] == [alone.levels.keys()] * 4
