"""Frames of sampling: a consumer of states that keeps some of them as 8-bit pictures of the first images."""

from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor

from ncsnx.images import to_uint8
from ncsnx.samplers.state import State


def frame_steps(states: int, frames: int) -> tuple[int, ...]:
    """Indices of `frames` of a sampler's `states` states, evenly spaced from the first to the last.

    All states if there are fewer; only the last for one frame.
    """
    last = states - 1
    if frames < 2:
        return (last,)[:frames]
    return tuple(sorted({round(i * last / (frames - 1)) for i in range(frames)}))


@attrs.define(eq=False)
class FrameRecorder:
    """Records frames; pass it to `generate` as on_state and call `take` when the images of a batch arrive."""

    steps: tuple[int, ...]
    """Indices of the states to keep, from `frame_steps`."""
    shown: int
    """Number of images (rows, for interpolation) to keep, from index 0: those of the grid."""
    to_picture: Callable[[Tensor], Tensor]
    """Map from the network's range to [0, 1], black to white."""
    look: Callable[[State], Tensor]
    """Tensor of a state to show: its x (from noise to image) or its denoised image (from blur to image)."""
    _kept: list[Tensor] = attrs.field(factory=list, init=False)

    def __call__(self, indices: Sequence[int], state: State) -> None:
        """Keeps the state if it is one of the steps."""
        if state.step in self.steps:
            images = self.look(state)
            shown = torch.tensor([index < self.shown for index in indices])
            mask = shown.repeat_interleave(len(images) // len(indices)).to(images.device)
            self._kept.append(to_uint8(self.to_picture(images[mask])).cpu())

    def take(self) -> Tensor:
        """Returns and clears the frames of the last batch: (frames, images shown, C, H, W) uint8."""
        frames = torch.stack(self._kept)
        self._kept = []
        return frames
