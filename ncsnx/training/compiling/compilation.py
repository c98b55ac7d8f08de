"""Decides whether a training is compiled, from the experiment and the machine, never from a timing.

A timing would decide differently on a busy day, and the weights of compiled and eager training differ by rounding.
"""

from typing import Literal

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.errors import Hint, UsageError
from ncsnx.quantities import duration
from ncsnx.runtime import Runtime, compiler
from ncsnx.spelling import argument, parameter

Choice = Literal["auto", "on", "off"]

COMPILATION_S = 100.0
"""Assumed duration of compiling the gradient and the evaluation of a network."""
SAVED = {"fp32": 0.01, "bf16": 0.05}
"""Share of a training's time that compilation saves on CPUs, by precision; CPUs have no TF32."""
_WORTH = 3
"""Compile if it saves this many times the duration of compilation."""
_FLOPS_PER_THREAD = {"fp32": 50e9, "bf16": 100e9}
"""Assumed speed of convolutions."""
_SHARE_OF_FULL_SIZE = 0.4
"""Assumed operations of a network, as a share of those at full image size in every layer."""


@attrs.frozen
class Decision:
    """Whether to compile, and the reason in one line."""

    compile: bool
    reason: str


def decide(
    choice: Choice, experiment: Experiment, runtime: Runtime, parameters: int, recorded: bool | None
) -> Decision:
    """The decision for a training.

    parameters: number of the network's parameters. recorded: the decision of the run's previous start, None for a new
    run; 'auto' follows it, so that the bits stay equal. Raises UsageError for 'on' without a C++ compiler, or with
    checkpointing of activations.
    """
    if runtime.checkpointing:
        return _beside_checkpointing(choice)
    if choice == "on":
        if compiler() is None:
            raise UsageError(
                f"{parameter('compile')} on: no C++ compiler was found (g++, or the program that CXX names)",
                Hint("install one, such as g++"),
                Hint("or train without compilation", adds=argument("compile", "off")),
            )
        return Decision(True, "compiling, as requested")
    if choice == "off":
        return Decision(False, "not compiling, as requested")
    if recorded is not None:
        return _followed(recorded)
    if runtime.device.type != "cpu":
        return Decision(False, "not compiling: the gain was measured on CPUs only")
    if compiler() is None:
        return Decision(False, "not compiling: no C++ compiler was found")
    return _by_work(experiment, runtime, parameters)


def _beside_checkpointing(choice: Choice) -> Decision:
    checkpointing = parameter("checkpointing")
    if choice == "on":
        raise UsageError(
            f"{checkpointing} and {argument('compile', 'on')} exclude each other: a compiler decides by itself what it "
            "computes again"
        )
    return Decision(False, f"not compiling, because of {checkpointing}")


def estimated_seconds(experiment: Experiment, threads: int, parameters: int) -> float:
    """Rough seconds of a whole training on a CPU, from sizes alone."""
    pixels = experiment.data.image_size**2
    images = experiment.steps * experiment.batch_size
    flops = 6 * _SHARE_OF_FULL_SIZE * parameters * pixels * images  # forward 2, backward 4 per weight and pixel
    return flops / (threads * _FLOPS_PER_THREAD[experiment.precision])


def _followed(recorded: bool) -> Decision:
    if recorded and compiler() is None:
        return Decision(False, "not compiling: no C++ compiler was found, although the run was compiled before")
    return Decision(recorded, "compiling, as before" if recorded else "not compiling, as before")


def _by_work(experiment: Experiment, runtime: Runtime, parameters: int) -> Decision:
    total = estimated_seconds(experiment, runtime.threads, parameters)
    saved = total * SAVED[experiment.precision]
    if saved < _WORTH * COMPILATION_S:
        return Decision(False, f"not compiling: it would save some {duration(saved)} of {duration(total)}")
    return Decision(
        True,
        f"compiling: some {duration(COMPILATION_S)}, saves some {duration(saved)} of {duration(total)} (estimated from "
        f"the sizes; {argument('compile', 'off')} trains without)",
    )
