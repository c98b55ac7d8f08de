"""Toy sampling into a folder, as a process that can be killed: FOLDER BATCH_SIZE COUNT [SECONDS_PER_STATE]."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ncsnx.config import AnnealedLangevin
from ncsnx.samplers.building import build_sampler, state_count
from ncsnx.samplers.state import State
from ncsnx.sampling.generation import frame_of, frame_steps, generate, seeded_draws
from ncsnx.sampling.request import SampleRequest
from ncsnx.sampling.sample_folder import SampleFolder
from tests.samplers.toy import CPU, SHAPE, SIGMAS, clamped, gaussian_score, scaled
from tests.spaces import unit_space

CONFIG = AnnealedLangevin(step_size=2e-4, steps_per_level=2)
PROTOCOL = {"seed": 0, "sampler": {"type": "ald", "step_size": 2e-4}}
STEPS = frame_steps(state_count(CONFIG, len(SIGMAS)), 3)


def sample_folder(path: Path, count: int, protocol: Mapping[str, Any] = PROTOCOL) -> SampleFolder:
    request = SampleRequest(n=count, frames=len(STEPS), film=True)
    return SampleFolder(path, facts=protocol, request=request, shape=SHAPE, frames=len(STEPS))


def sample(path: Path, batch_size: int, count: int, pause_s: float = 0) -> list[int]:
    """Samples into the folder and returns the new indices."""
    folder = sample_folder(path, count)
    folder.open()
    frames = list[Tensor]()

    def on_state(indices: Sequence[int], state: State) -> None:
        if state.step in STEPS:
            frames.append(frame_of(state, indices, folder.shown, clamped))
        time.sleep(pause_s)

    missing = folder.missing()
    draws = seeded_draws(0, unit_space(*SHAPE))
    for indices, x in generate(
        build_sampler(CONFIG),
        scaled(gaussian_score),
        SIGMAS,
        draws,
        missing,
        batch_size=batch_size,
        device=CPU,
        on_state=on_state,
    ):
        folder.add(indices, clamped(x), frames)
        frames.clear()
        print("added", *indices, flush=True)
    folder.finish()
    return missing


if __name__ == "__main__":
    path, batch_size, count, pause_s = sys.argv[1:]
    sample(Path(path), int(batch_size), int(count), float(pause_s))
