"""Sampling: from noise to images along the scores of a network, in batches and into folders."""

from ncsnx.sample_request import SampleRequest
from ncsnx.samplers.building import build_sampler, evaluations, state_count
from ncsnx.samplers.state import Constrain, Noise, SamplerFunction, Score, State
from ncsnx.sampling.draws import Draws, seeded_draws
from ncsnx.sampling.experiments import experiment_draws, starts_from_data
from ncsnx.sampling.frames import FrameRecorder, frame_steps
from ncsnx.sampling.generate import generate
from ncsnx.sampling.interpolation import InterpolatedNoise, interpolated, repeat_rows, second_noise
from ncsnx.sampling.noise_sources import RecordedNoise, SeededNoise, initial_from_data, initial_uniform
from ncsnx.sampling.sample import draw, fill, open_output, sample
from ncsnx.sampling.sample_folder import SampleFolder
from ncsnx.sampling.score_model import ScoreModel, load

__all__ = [
    "Constrain",
    "Draws",
    "FrameRecorder",
    "InterpolatedNoise",
    "Noise",
    "RecordedNoise",
    "SampleFolder",
    "SampleRequest",
    "SamplerFunction",
    "Score",
    "ScoreModel",
    "SeededNoise",
    "State",
    "build_sampler",
    "draw",
    "evaluations",
    "experiment_draws",
    "fill",
    "frame_steps",
    "generate",
    "initial_from_data",
    "initial_uniform",
    "interpolated",
    "load",
    "open_output",
    "repeat_rows",
    "sample",
    "second_noise",
    "seeded_draws",
    "starts_from_data",
    "state_count",
]
