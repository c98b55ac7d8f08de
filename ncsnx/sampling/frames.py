"""Frames of a sampling: a consumer that keeps some of the states as 8-bit pictures of the first images."""

from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor

from ncsnx.images import to_uint8
from ncsnx.samplers.state import State


def frame_steps(states: int, frames: int) -> tuple[int, ...]:
    """The steps of `frames` of a sampler's states, evenly spaced from the first to the last.

    All of them, where there aren't as many as asked for; the last alone for one.
    """
    last = states - 1
    if frames < 2:
        return (last,)[:frames]
    return tuple(sorted({round(i * last / (frames - 1)) for i in range(frames)}))


@attrs.define(eq=False)
class FrameRecorder:
    """Give it to `generate` as on_state; take the frames of each batch with `take` when its images arrive."""

    steps: tuple[int, ...]
    """Which states to keep, from `frame_steps`."""
    shown: int
    """Images with an index (rows, in an interpolation) below this are kept: those of the grid."""
    to_unit: Callable[[Tensor], Tensor]
    """From the network's range to [0, 1]."""
    look: Callable[[State], Tensor]
    """What of a state to show: its x, from noise to image, or its denoised, from blur to image."""
    _kept: list[Tensor] = attrs.field(factory=list, init=False)

    def __call__(self, indices: Sequence[int], state: State) -> None:
        """Keeps the state if it is one of the steps."""
        if state.step in self.steps:
            images = self.look(state)
            shown = torch.tensor([index < self.shown for index in indices])
            mask = shown.repeat_interleave(len(images) // len(indices)).to(images.device)
            self._kept.append(to_uint8(self.to_unit(images[mask])).cpu())

    def take(self) -> Tensor:
        """(frames, images shown, C, H, W) uint8 of the batch that just ended, and forgets them."""
        frames = torch.stack(self._kept)
        self._kept = []
        return frames
