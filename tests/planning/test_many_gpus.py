"""Trainings on several GPUs on paper, compared with numbers computed by hand."""

import attrs
import pytest

from ncsnx.config import ConsistentAnnealed, Experiment
from ncsnx.config.discovery import resolve
from ncsnx.errors import UsageError
from ncsnx.planning.cards import CARDS, Card, card_named, card_of_device
from ncsnx.planning.gpu_request import GpuRequest, parse_bandwidth
from ncsnx.planning.many_gpus import GpuPlan, GpuSpeed, Machines, PassTime, plan_gpus, step_time
from ncsnx.planning.network_work import NetworkWork
from ncsnx.planning.timing import Timing

CARD = Card(
    title="a card",
    peaks={"fp32": 10e12, "bf16": 40e12},
    memory_bytes_per_s=1e12,
    link_bytes_per_s=200e9,
    network_bytes_per_s=50e9,
    is_named_by="A CARD",
)
WORK = NetworkWork(operations=50_000_000_000, other_bytes=160_000_000, operators=518, parameters=20_000_000)
SPEED = GpuSpeed(training=PassTime(image_s=1e-3), evaluation=PassTime(image_s=1e-4), update_s=2e-3, source="")
MACHINES = Machines(gpus=4, nodes=2, link=100e9, network=25e9)


def experiment(*words: str) -> Experiment:
    return resolve("digits", ["batch_size=64", *words]).experiment


def plan(*words: str, machines: Machines = MACHINES, parameters: int = 20_000_000) -> GpuPlan:
    return plan_gpus(experiment(*words), SPEED, machines, parameters)


def test_an_image_costs_its_convolutions_and_the_memory_that_all_else_moves() -> None:
    speed = GpuSpeed.of_card(CARD, WORK, "fp32")
    # 50 GFLOP at 5 TFLOP/s are 10 ms, 160 MB at 0.8 TB/s 0.2 ms; a training image takes three times as long
    assert speed.evaluation.image_s == pytest.approx(10.2e-3)
    assert speed.training.image_s == pytest.approx(30.6e-3)
    assert speed.update_s == pytest.approx(800e6 / 0.8e12)
    assert GpuSpeed.of_card(CARD, WORK, "bf16").evaluation.image_s == pytest.approx(2.5e-3 + 0.1e-3)


def test_a_small_pass_takes_as_long_as_its_kernels_are_launched() -> None:
    speed = GpuSpeed.of_card(CARD, attrs.evolve(WORK, operations=0, other_bytes=800_000), "fp32")
    # 518 kernels: 2.59 ms of launches, or 0.518 ms between kernels and 1 µs per image
    assert speed.evaluation.of(8) == pytest.approx(2.59e-3)
    assert speed.evaluation.of(10_000) == pytest.approx(0.518e-3 + 10e-3)
    assert speed.training.of(1) == pytest.approx(1_760 * 5e-6)


def test_a_card_without_a_format_is_refused() -> None:
    with pytest.raises(UsageError, match="NVIDIA V100 SXM2 does not compute in bf16; take precision=fp32"):
        GpuSpeed.of_card(CARDS["v100"], WORK, "bf16")


def test_a_ring_sends_twice_the_bytes_but_for_its_own_share() -> None:
    assert MACHINES.bucket_seconds(25e6, 1) == 0
    assert MACHINES.bucket_seconds(25e6, 4) == pytest.approx(30e-6 + 1.5 * 25e6 / 100e9)
    assert MACHINES.bucket_seconds(25e6, 8) == pytest.approx(60e-6 + 1.75 * 25e6 / 25e9)
    assert Machines.of_card(CARD, gpus=4, nodes=2) == MACHINES


def test_the_backward_pass_hides_all_buckets_but_the_last() -> None:
    step = step_time(SPEED, MACHINES, parameters=20_000_000, batch=64, passes=1, world=4)
    # 80 MB are four buckets of 20 MB, each 30 µs + 300 µs; the backward pass of 16 images takes 10.7 ms
    assert step.all_reduce_s == pytest.approx(4 * 330e-6)
    assert step.exposed_s == pytest.approx(330e-6)
    assert step.hidden_share == pytest.approx(0.75)
    assert step.seconds == pytest.approx(16e-3 + 2e-3 + 330e-6)


def test_a_slow_link_is_hidden_by_as_much_as_follows_the_first_bucket() -> None:
    slow = attrs.evolve(MACHINES, link=1e9)
    step = step_time(SPEED, slow, parameters=20_000_000, batch=64, passes=1, world=4)
    each, backward = 30e-6 + 1.5 * 20e6 / 1e9, 16e-3 * 2 / 3
    assert step.exposed_s == pytest.approx(backward / 4 + 4 * each - backward)


def test_only_the_last_of_several_passes_hides_communication() -> None:
    slow = attrs.evolve(MACHINES, link=1e9)
    step = step_time(SPEED, slow, parameters=20_000_000, batch=64, passes=4, world=4)
    each, backward = 30e-6 + 1.5 * 20e6 / 1e9, 4e-3 * 2 / 3
    assert step.exposed_s == pytest.approx(backward / 4 + 4 * each - backward)
    assert step.work_s == pytest.approx(18e-3)


def test_one_gpu_exchanges_nothing() -> None:
    step = step_time(SPEED, MACHINES, parameters=20_000_000, batch=64, passes=1, world=1)
    assert (step.seconds, step.all_reduce_s, step.exposed_s, step.hidden_share) == (pytest.approx(66e-3), 0, 0, 1)


def test_the_largest_share_of_a_batch_determines_the_time() -> None:
    steps = plan().steps
    assert steps[4].work_s == pytest.approx(13e-3 + 2e-3)  # 64 images on 5 GPUs: 13 on four of them
    assert len(steps) == 64


def test_efficiency_is_the_speed_up_per_gpu() -> None:
    found = plan()
    assert found.machines.world == 8
    exposed = 60e-6 + 1.75 * 20e6 / 25e9  # of the last of four buckets, between machines
    assert found.step.seconds == pytest.approx(8e-3 + 2e-3 + max(exposed, 4 * exposed - 0.75 * 8e-3 * 2 / 3))
    assert found.efficiency() == pytest.approx(66e-3 / (8 * found.step.seconds))
    assert found.facts()["efficiency"] == found.efficiency()


def test_worlds_that_still_gain_and_that_are_efficient_are_found() -> None:
    found = plan()
    seconds = [step.seconds for step in found.steps]
    best = seconds.index(min(seconds)) + 1
    assert found.fastest_world == best
    assert all(second >= seconds[best - 1] for second in seconds[best:])
    good = found.efficient_world
    assert found.efficiency(good) >= 0.9
    assert all(found.efficiency(world) < 0.9 for world in range(good + 1, 65))
    # 4 GPUs: 66 / (4 · 18.33) = 0.900; 5 GPUs leave the machine and have 13 images
    assert good == 4


def test_hours_follow_from_steps_and_evaluations() -> None:
    found = plan("steps=1000", "schedule.levels=10", "sampler.steps_per_level=3", "snapshots=none")
    assert found.training_s == pytest.approx(1000 * found.step.seconds)
    own, fast = found.sampling
    assert (own.evaluations, fast.evaluations) == (31, 20)
    assert own.gpu_seconds == pytest.approx(31 * 50_000 * 1e-4)
    assert isinstance(fast.sampler, ConsistentAnnealed)
    facts = found.facts()
    assert facts["gpu_hours_of_steps"] == pytest.approx(8 * found.training_s / 3600)
    assert facts["sampling"][0]["seconds"] == pytest.approx(own.gpu_seconds / 8)


def test_more_gpus_than_images_are_refused() -> None:
    with pytest.raises(UsageError, match="72 GPUs cannot share a batch of 64 images") as caught:
        plan(machines=attrs.evolve(MACHINES, nodes=18))
    assert "batch_size=72" in str(caught.value)


def test_a_measured_speed_is_that_of_the_timing() -> None:
    timing = Timing(
        seconds_per_evaluation=1e-4,
        seconds_per_call=1e-3,
        seconds_per_training_image=1e-3,
        seconds_per_update=2e-3,
        batch_size=64,
        parameters=1,
        timed="batches",
        device="cuda",
    )
    speed = GpuSpeed.measured(timing)
    step = step_time(speed, MACHINES, parameters=1, batch=64, passes=1, world=1)
    assert step.seconds == pytest.approx(timing.seconds_per_step)
    assert speed.evaluation.of(64) == pytest.approx(timing.evaluations_of(64, 1))


@pytest.mark.parametrize(
    ("text", "value"),
    [("300GB/s", 300e9), ("12.5 GB/s", 12.5e9), ("100Gb/s", 12.5e9), ("100Gbit/s", 12.5e9), ("1TB/s", 1e12)],
)
def test_bandwidths_are_read_in_bytes_and_bits(text: str, value: float) -> None:
    assert parse_bandwidth(text) == value


@pytest.mark.parametrize("text", ["300", "300GB", "GB/s", "-1GB/s", "1B/s", "1e3GB/s", "300gb/s", "900000TB/s", "é"])
def test_other_bandwidths_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 300GB/s or 100Gb/s"):
        parse_bandwidth(text)


def test_a_bandwidth_replaces_both_links() -> None:
    request = GpuRequest.parse(8, 2, "H100", "20GB/s")
    assert request._machines("") == Machines(gpus=8, nodes=2, link=20e9, network=20e9)
    own = GpuRequest.parse(8, 2, "h100")._machines("")
    assert own == Machines(gpus=8, nodes=2, link=225e9, network=200e9)


def test_a_timed_card_is_known_by_its_name_or_needs_a_bandwidth() -> None:
    assert card_of_device("NVIDIA A100-SXM4-80GB") is CARDS["a100"]
    assert GpuRequest.parse(8)._machines("NVIDIA A100-SXM4-80GB").link == 150e9
    with pytest.raises(UsageError, match="the links of 'A CARD' are unknown"):
        GpuRequest.parse(8)._machines("A CARD")


def test_an_unknown_card_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="expected one of h100, h200, a100, v100, l40s, rtx4090"):
        card_named("h1000")


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_a_network_between_machines_is_no_faster_than_the_links_within(card: Card) -> None:
    assert card.network_bytes_per_s <= card.link_bytes_per_s
    assert card.peaks["fp32"] <= min(card.peaks.values())
