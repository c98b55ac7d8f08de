import torch

from ncsnx.config import AnnealedLangevin
from ncsnx.images import to_uint8
from ncsnx.samplers.building import build_sampler, state_count
from ncsnx.sampling.draws import seeded_draws
from ncsnx.sampling.generate import FrameRecorder, frame_steps, generate
from tests.samplers.toy import CPU, SHAPE, SIGMAS, clamped, gaussian_score, unchanged


def test_frames_are_evenly_spaced_and_end_with_the_result() -> None:
    assert frame_steps(states=1162, frames=5) == (0, 290, 580, 871, 1161)
    assert frame_steps(states=21, frames=2) == (0, 20)
    assert frame_steps(states=21, frames=1) == (20,)
    assert frame_steps(states=21, frames=0) == ()


def test_no_more_frames_than_states() -> None:
    assert frame_steps(states=4, frames=100) == (0, 1, 2, 3)


def test_the_frames_of_a_batch_are_those_of_the_images_shown() -> None:
    config = AnnealedLangevin(step_size=2e-4, steps_per_level=2)
    steps = frame_steps(state_count(config, len(SIGMAS)), 4)
    recorder = FrameRecorder(steps, shown=3, to_picture=clamped, look=lambda state: state.x)
    draws = seeded_draws(0, SHAPE, unchanged)
    made = generate(
        build_sampler(config),
        gaussian_score,
        SIGMAS,
        draws,
        range(5),
        batch_size=2,
        device=CPU,
        on_state=recorder,
    )
    frames, finals = zip(*((recorder.take(), x) for _, x in made), strict=True)
    assert [tuple(batch.shape) for batch in frames] == [(4, 2, *SHAPE), (4, 1, *SHAPE), (4, 0, *SHAPE)]
    assert torch.equal(frames[0][-1], to_uint8(clamped(finals[0])))
    assert torch.equal(frames[0][0], to_uint8(draws.initial(torch.tensor([0, 1]))))
