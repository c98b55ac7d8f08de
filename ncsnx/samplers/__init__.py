"""Sampling algorithms and their grids of noise levels, one file per family."""

from ncsnx.samplers.contract import DenoisingModel, Draw, Grids, Steps, append_zero, sampler

__all__ = ["DenoisingModel", "Draw", "Grids", "Steps", "append_zero", "sampler"]
