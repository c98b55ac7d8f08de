"""`ncsnx plan --gpus`: trainings on several GPUs, on paper."""

import json
import re
from pathlib import Path

import pytest

from ncsnx.cli.parsing.gpu_options import CardName
from ncsnx.planning.cards import CARDS
from tests.cli.command import run

EIGHT = ("--gpus", "8", "--card", "h100")
pytestmark = pytest.mark.usefixtures("here")


def refused(*words: str) -> str:
    outcome = run("plan", *words, "--device", "cpu")
    assert (outcome.code, outcome.out) == (2, "")
    assert "Traceback" not in outcome.err
    return outcome.err


def test_a_table_says_time_communication_efficiency_and_hours() -> None:
    outcome = run("plan", "cifar10", *EIGHT)
    assert outcome.code == 0, outcome.err
    rows = {line[:22].strip(): line[22:] for line in outcome.out.splitlines()}
    assert rows["of GPUs"].strip() == "21.9 h"
    assert "16 images per GPU" in rows["a training step"]
    assert "119 MB of gradients, 88 % of the time hidden" in rows["all-reduce"]
    assert rows["efficiency"].split()[:2] == ["93.6", "%"]
    assert "1,161 evaluations per image" in rows["50,000 images by ald"]
    assert "20 evaluations per image" in rows["50,000 images by cas"]
    for assumption in ("convolutions at 50 % of 67 TFLOP/s", "5 µs to launch", "a ring that reaches 225 GB/s"):
        assert assumption in outcome.out
    assert outcome.err == "", "no data is looked for"


def test_json_has_the_same_for_several_machines() -> None:
    words = ("celeba64", "model.width=16", *EIGHT, "--nodes", "2", "--bandwidth", "100Gb/s")
    found = json.loads(run("plan", *words, "--json").out)
    assert (found["gpus"], found["nodes"], found["batch_size"]) == (16, 2, 128)
    assert found["network_bytes_per_s"] == found["link_bytes_per_s"] == 12.5e9
    ring = 2 * 15 / 16 * found["gradient_bytes"] / 12.5e9
    assert found["seconds_of_all_reduce"] == pytest.approx(ring, abs=1e-3)
    assert [one["sampler"]["type"] for one in found["sampling"]] == ["ald", "cas"]


def test_options_of_several_gpus_need_their_number() -> None:
    for words in (("--nodes", "2"), ("--card", "h100"), ("--bandwidth", "1GB/s")):
        assert re.search(
            rf"{words[0]} plans .*\n  say how many: +ncsnx plan cifar10 .*--gpus 8", refused("cifar10", *words)
        )


def test_an_unknown_card_lists_the_cards() -> None:
    assert f"expected one of {', '.join(CARDS)}" in refused("cifar10", "--gpus", "8", "--card", "h1000")


def test_the_help_lists_the_cards() -> None:
    (option,) = CardName.__metadata__
    assert set(re.findall("[a-z0-9]+", option.help)) >= set(CARDS)


def test_a_batch_smaller_than_the_number_of_gpus_is_refused() -> None:
    said = "batch_size=8 with accumulation=1 cannot be shared by 16 ranks: at most 8 ranks"
    assert said in refused("cifar10", "batch_size=8", *EIGHT, "--nodes", "2")
    said = "batch_size=32 with accumulation=8 cannot be shared by 8 ranks: at most 4 ranks"
    assert said in refused("cifar10", "batch_size=32", "accumulation=8", *EIGHT)


def test_batch_normalization_is_refused_as_training_does() -> None:
    assert "batch normalization takes its statistics" in refused("cifar10", "model.normalization=batch", *EIGHT)


def test_without_a_gpu_a_card_is_asked_for() -> None:
    said = refused("digits", "--gpus", "2")
    assert "the speed of a GPU cannot be measured on cpu" in said
    assert "--card h100" in said


def test_a_card_without_the_experiments_precision_is_refused() -> None:
    assert "NVIDIA V100 SXM2 does not compute in bf16" in refused(
        "digits", "precision=bf16", "--gpus", "2", "--card", "v100"
    )


def test_options_of_noise_levels_are_refused_with_it() -> None:
    for words in (("--overlap", "0.4"), ("--exact",), ("--seed", "3"), ("--size", "16")):
        assert "leave out the options of noise levels" in refused("digits", *EIGHT, *words)


def test_a_folder_of_images_is_refused(here: Path) -> None:
    (here / "mine").mkdir()
    assert "ncsnx new NAME --from mine" in refused("mine", *EIGHT)


def test_without_a_timing_a_card_is_needed() -> None:
    assert "--no-timing --device cpu --card h100" in refused("digits", "--gpus", "2", "--no-timing")
