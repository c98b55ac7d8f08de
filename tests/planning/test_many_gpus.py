"""Trainings on several GPUs on paper, compared with numbers computed by hand."""

import attrs
import pytest

from ncsnx.config import ConsistentAnnealed, Experiment
from ncsnx.config.discovery import resolve
from ncsnx.errors import UsageError
from ncsnx.planning.cards import CARDS, Card, card_named, card_of_device
from ncsnx.planning.gpu_request import GpuRequest, parse_bandwidth
from ncsnx.planning.many_gpus import GpuPlan, GpuSpeed, Machines, PassTime, bucket_sizes, plan_gpus, step_time
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
MIB = 2**20
PARAMETERS = 19 * MIB
"""A first bucket of 1 MiB and three of 25 MiB."""
WORK = NetworkWork(
    operations=50_000_000_000, other_bytes=160_000_000, operators=518, step_operators=1_760, parameters=20_000_000
)
SPEED = GpuSpeed(training=PassTime(image_s=1e-3), evaluation=PassTime(image_s=1e-4), update_s=2e-3, source="")
MACHINES = Machines(gpus=4, nodes=2, link=100e9, network=25e9)


def experiment(*words: str) -> Experiment:
    return resolve("digits", ["batch_size=64", *words]).experiment


def plan(*words: str, machines: Machines = MACHINES, parameters: int = PARAMETERS) -> GpuPlan:
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


def test_gradients_are_reduced_in_the_buckets_of_torch() -> None:
    assert list(bucket_sizes(1000)) == [1000]
    assert list(bucket_sizes(76 * MIB)) == [MIB, 25 * MIB, 25 * MIB, 25 * MIB]
    assert list(bucket_sizes(30 * MIB)) == [MIB, 25 * MIB, 4 * MIB]


def test_the_backward_pass_hides_all_buckets_but_the_last() -> None:
    step = step_time(SPEED, MACHINES, parameters=PARAMETERS, batch=64, passes=1, world=4)
    # the backward pass of 16 images takes 10.7 ms
    first, each = 30e-6 + 1.5 * MIB / 100e9, 30e-6 + 1.5 * 25 * MIB / 100e9
    assert step.all_reduce_s == pytest.approx(first + 3 * each)
    assert step.exposed_s == pytest.approx(each)
    assert step.hidden_share == pytest.approx((first + 2 * each) / (first + 3 * each))
    assert step.seconds == pytest.approx(16e-3 + 2e-3 + each)


def test_a_slow_link_hides_what_follows_the_bucket_that_it_falls_behind_with() -> None:
    slow = attrs.evolve(MACHINES, link=1e9)
    step = step_time(SPEED, slow, parameters=PARAMETERS, batch=64, passes=1, world=4)
    each, backward = 30e-6 + 1.5 * 25 * MIB / 1e9, 16e-3 * 2 / 3
    assert step.exposed_s == pytest.approx(backward * 26 / 76 + 3 * each - backward)


def test_only_the_last_of_several_passes_hides_communication() -> None:
    slow = attrs.evolve(MACHINES, link=1e9)
    step = step_time(SPEED, slow, parameters=PARAMETERS, batch=64, passes=4, world=4)
    first, each = 30e-6 + 1.5 * MIB / 1e9, 30e-6 + 1.5 * 25 * MIB / 1e9
    backward = 4e-3 * 2 / 3
    assert step.exposed_s == pytest.approx(backward / 76 + first + 3 * each - backward)
    assert step.work_s == pytest.approx(18e-3)


@pytest.mark.parametrize("link", [1e3, 1e6, 1e9, 1e11])
@pytest.mark.parametrize("parameters", [1_000, 250_000, PARAMETERS])
def test_the_hidden_share_is_a_share(link: float, parameters: int) -> None:
    for world in range(1, 33):
        step = step_time(SPEED, attrs.evolve(MACHINES, link=link, network=link), parameters, 64, 1, world)
        assert 0 <= step.hidden_share <= 1


def test_one_gpu_exchanges_nothing() -> None:
    step = step_time(SPEED, MACHINES, parameters=PARAMETERS, batch=64, passes=1, world=1)
    assert (step.seconds, step.all_reduce_s, step.exposed_s, step.hidden_share) == (pytest.approx(66e-3), 0, 0, 1)


def test_the_largest_share_of_a_batch_determines_the_time() -> None:
    steps = plan().steps
    assert steps[4].work_s == pytest.approx(13e-3 + 2e-3)  # 64 images on 5 GPUs: 13 on four of them
    assert len(steps) == 64


def test_efficiency_is_the_speed_up_per_gpu() -> None:
    found = plan()
    assert found.machines.world == 8
    each, backward = 60e-6 + 1.75 * 25 * MIB / 25e9, 8e-3 * 2 / 3  # a bucket between machines takes 1.9 ms
    assert found.step.seconds == pytest.approx(8e-3 + 2e-3 + backward * 26 / 76 + 3 * each - backward)
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
    # 3 GPUs: 66 / (3 · 24.38) = 0.902; 4 GPUs: 66 / (4 · 18.42) = 0.896
    assert good == 3


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


def test_other_work_is_shared_but_for_checkpoints() -> None:
    found = plan("steps=1000", "eval_every=10", "checkpoint_every=100", "snapshots.every=1")
    cost = found.cost
    assert min(cost.checkpoints, cost.snapshots, cost.held_out) > 0
    assert found.other_s == pytest.approx(cost.checkpoints + (cost.snapshots + cost.held_out) / 8)


def test_each_gpu_has_an_image_in_each_pass() -> None:
    assert len(plan("accumulation=4").steps) == 16
    for words, least, most in (((), 68, 64), (("accumulation=16",), 8, 4)):
        machines = attrs.evolve(MACHINES, nodes=least // 4)
        with pytest.raises(
            UsageError, match=f"cannot be shared by {least} ranks: at most {most} ranks can have an image"
        ):
            plan(*words, machines=machines)


def test_the_network_counts_wherever_the_answer_leaves_the_machine() -> None:
    one = attrs.evolve(MACHINES, nodes=1)
    assert plan(machines=one).fastest_world > 4
    assert plan(machines=one).leaves_machine
    assert plan(machines=one).facts()["network_bytes_per_s"] == 25e9
    assert not plan("accumulation=16", machines=one).leaves_machine


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
