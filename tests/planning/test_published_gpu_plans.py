"""The table of published experiments in docs/guides/many-gpus.md.

`python -m tests.planning.test_published_gpu_plans` prints it.
"""

from functools import cache
from pathlib import Path

import pytest

from ncsnx.config.discovery import resolve
from ncsnx.planning.cards import CARDS
from ncsnx.planning.many_gpus import GpuPlan, GpuSpeed, Machines, plan_gpus
from ncsnx.planning.network_work import NetworkWork, network_work
from ncsnx.planning.spans import span_of_time

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "many-gpus.md"
NAMES = ("cifar10", "celeba64", "church96", "bedroom128", "tower128", "ffhq256")
GPUS = (("h100", 1), ("a100", 1), ("h100", 4))
"""(card, machines with 8 of them)."""
TITLES = ("experiment", "GPUs", "step", "efficiency", "at 90 %", "training", "GPU hours", "by `ald`", "by `cas`")


@cache
def work(name: str) -> NetworkWork:
    return network_work(resolve(name).experiment)


def plan(name: str, card: str, nodes: int) -> GpuPlan:
    experiment = resolve(name).experiment
    speed = GpuSpeed.of_card(CARDS[card], work(name), experiment.precision)
    return plan_gpus(experiment, speed, Machines.of_card(CARDS[card], 8, nodes), work(name).parameters)


def row(name: str, card: str, nodes: int) -> str:
    found = plan(name, card, nodes)
    hours = [found.machines.world * found.training_s / 3600, *(one.gpu_seconds / 3600 for one in found.sampling)]
    cells = [
        f"`{name}`",
        f"{f'{nodes} × ' if nodes > 1 else ''}8 {card.upper()}",
        span_of_time(found.step.seconds),
        f"{100 * found.efficiency():.0f} %",
        f"{found.efficient_world} GPUs",
        span_of_time(found.training_s),
        *(f"{value:,.0f}" if value >= 10 else f"{value:.2g}" for value in hours),
    ]
    return f"| {' | '.join(cells)} |"


def lines(name: str) -> list[str]:
    return [row(name, card, nodes) for card, nodes in GPUS]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_what_the_code_gives(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in page if line.startswith(f"| `{name}` |")] == lines(name)


@pytest.mark.parametrize("name", NAMES)
def test_eight_gpus_in_a_machine_are_used_well(name: str) -> None:
    """The least is 0.95, except where a step is so short that the gaps between its kernels count."""
    least = 0.93 if name == "cifar10" else 0.95
    assert min(plan(name, card, 1).efficiency() for card in ("h100", "a100")) >= least


if __name__ == "__main__":
    print(f"| {' | '.join(TITLES)} |\n|{'---|' * len(TITLES)}")
    print(*(line for name in NAMES for line in lines(name)), sep="\n")
