"""A plan for several GPUs as it is asked for: which GPUs, how they are linked, and the speed of one of them."""

import re

import attrs

from ncsnx.config.checks import shortened
from ncsnx.config.experiment import Experiment
from ncsnx.errors import Hint, UsageError, require_between
from ncsnx.networks import meta_network
from ncsnx.planning.cards import CARDS, Card, card_named, card_of_device
from ncsnx.planning.many_gpus import GpuPlan, GpuSpeed, Machines, plan_gpus
from ncsnx.planning.network_work import network_work
from ncsnx.planning.timing import time_experiment
from ncsnx.runtime import Runtime, device_name
from ncsnx.spelling import argument, parameter
from ncsnx.training.steps.batch_gradients import require_shareable
from ncsnx.work import Work

MOST_GPUS, MOST_NODES = 1_024, 10_000
_BANDWIDTH = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([kMGT]?)(B|b|bit)/s")
_FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_LEAST, _MOST = 1e6, 1e14


def parse_bandwidth(text: str) -> float:
    """Bytes per second of a bandwidth such as 300GB/s, 12.5 GB/s or 100Gb/s. Raises UsageError for anything else."""
    match = _BANDWIDTH.fullmatch(text)
    if match is not None:
        value = float(match[1]) * _FACTORS[match[2]] / (1 if match[3] == "B" else 8)
        if _LEAST <= value <= _MOST:
            return value
    raise UsageError(
        f"{parameter('bandwidth')} {shortened(ascii(text))}: expected bytes or bits per second, such as 300GB/s or "
        "100Gb/s, from 1MB/s to 100TB/s"
    )


@attrs.frozen(kw_only=True)
class GpuRequest:
    """The GPUs that a training is planned for. Raises UsageError for values that aren't accepted."""

    gpus: int
    """GPUs per machine."""
    nodes: int = 1
    card: Card | None = None
    """None: the GPU of this machine, which is timed."""
    bandwidth: float | None = None
    """Bytes per second that a ring of GPUs reaches, in one direction; None: by the card."""

    @classmethod
    def parse(cls, gpus: int, nodes: int = 1, card: str | None = None, bandwidth: str | None = None) -> "GpuRequest":
        """The request with a card's name and a readable bandwidth."""
        require_between("gpus", gpus, 1, MOST_GPUS)
        require_between("nodes", nodes, 1, MOST_NODES)
        return cls(
            gpus=gpus,
            nodes=nodes,
            card=None if card is None else card_named(card),
            bandwidth=None if bandwidth is None else parse_bandwidth(bandwidth),
        )

    def plan(self, experiment: Experiment, runtime: Runtime, work: Work) -> GpuPlan:
        """The plan for an experiment. Times the network if no card is given, which needs a CUDA device.

        Raises UsageError where `train` refuses so many GPUs.
        """
        require_shareable(meta_network(experiment), experiment, self.gpus * self.nodes)
        counted_work = network_work(experiment)
        if self.card is not None:
            speed = GpuSpeed.of_card(self.card, counted_work, experiment.precision)
        elif runtime.device.type == "cuda":
            speed = GpuSpeed.measured(time_experiment(experiment, runtime, work))
        else:
            raise UsageError(
                f"the speed of a GPU cannot be measured on {runtime.device}",
                Hint("name a card", adds=argument("card", next(iter(CARDS)))),
                Hint(f"known cards: {', '.join(CARDS)}"),
            )
        return plan_gpus(experiment, speed, self._machines(device_name(runtime.device)), counted_work.parameters)

    def _machines(self, device: str) -> Machines:
        """The machines. device: the name of the timed GPU."""
        if self.bandwidth is not None:
            return Machines(gpus=self.gpus, nodes=self.nodes, link=self.bandwidth, network=self.bandwidth)
        card = self.card or card_of_device(device)
        if card is None:
            raise UsageError(
                f"the links of {shortened(ascii(device))} are unknown",
                Hint("say what a ring of GPUs reaches in one direction", adds=argument("bandwidth", "20GB/s")),
            )
        return Machines.of_card(card, self.gpus, self.nodes)
