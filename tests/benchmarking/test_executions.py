"""The executions of the benchmark: the choices of commands, as each device has them."""

import torch

from ncsnx.benchmarking.executions import DEFAULT_EXECUTION, EXECUTIONS
from ncsnx.runtime import Runtime


def test_the_default_execution_is_that_of_a_command_without_options() -> None:
    default = next(one for one in EXECUTIONS if one.name == DEFAULT_EXECUTION)
    assert default.runtime(torch.device("cpu")) == Runtime.choose(device="cpu")


def test_only_the_default_replays_graphs_and_only_on_cuda() -> None:
    for device, expected in (("cuda", [DEFAULT_EXECUTION]), ("cpu", []), ("mps", [])):
        assert [one.name for one in EXECUTIONS if one.runtime(torch.device(device)).graphs] == expected
