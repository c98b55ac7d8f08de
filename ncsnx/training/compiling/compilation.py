"""Decides whether a training is compiled, from the experiment and the machine, never from a timing.

A timing would decide differently on a busy day, and the weights of compiled and eager training differ by rounding.
"""

import math

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.quantities import duration
from ncsnx.runtime import Runtime, lacks_compiler
from ncsnx.spelling import argument, parameter

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
    ends_identity: bool = False
    """Whether a run that was compiled before resumes without compilation."""


def decide(
    choice: bool | None, experiment: Experiment, runtime: Runtime, parameters: int, recorded: bool | None
) -> Decision:
    """The decision for a training.

    choice: the user's; None follows the record or, in a new run, decides. parameters: number of the network's
    parameters. recorded: whether the run's previous start compiled, None for a new run; it is followed so that the bits
    stay equal.
    """
    if choice is not None:
        return Decision(choice, "compiling, as requested" if choice else "not compiling, as requested")
    obstacle = _obstacle(runtime)
    if recorded is not None:
        if recorded and obstacle is not None:
            return Decision(False, f"not compiling, although the run was compiled before: {obstacle}", True)
        return Decision(recorded, "compiling, as before" if recorded else "not compiling, as before")
    if runtime.device.type != "cpu":
        return Decision(False, "not compiling: the gain was measured on CPUs only")
    if obstacle is not None:
        return Decision(False, f"not compiling: {obstacle}")
    return _by_work(experiment, runtime, parameters)


def _obstacle(runtime: Runtime) -> str | None:
    """Why this runtime can't compile; None if it can."""
    if runtime.checkpointing:
        return f"{parameter('checkpointing')} excludes it"
    return "no C++ compiler was found" if lacks_compiler(runtime.device) else None


def estimated_seconds(experiment: Experiment, threads: int, parameters: int) -> float:
    """Rough seconds of a whole training on a CPU, from sizes alone."""
    pixels = math.prod(experiment.data.shape[1:])
    images = experiment.steps * experiment.batch_size
    flops = 6 * _SHARE_OF_FULL_SIZE * parameters * pixels * images  # forward 2, backward 4 per weight and pixel
    return flops / (threads * _FLOPS_PER_THREAD[experiment.precision])


def _by_work(experiment: Experiment, runtime: Runtime, parameters: int) -> Decision:
    total = estimated_seconds(experiment, runtime.threads, parameters)
    saved = total * SAVED[experiment.precision]
    if saved < _WORTH * COMPILATION_S:
        return Decision(False, f"not compiling: it would save some {duration(saved)} of {duration(total)}")
    return Decision(
        True,
        f"compiling: some {duration(COMPILATION_S)}, saves some {duration(saved)} of {duration(total)} (estimated from "
        f"the sizes; {argument('compile', False)} trains without)",
    )
