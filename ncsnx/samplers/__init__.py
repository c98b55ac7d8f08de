"""The sampling algorithms and their grids of noise levels, one file for each family."""

from ncsnx.samplers.contract import DenoisingModel, Draw, Grids, Steps, append_zero, sampler

__all__ = ["DenoisingModel", "Draw", "Grids", "Steps", "append_zero", "sampler"]
