"""The sampling algorithms and their grids of noise levels, one file for each family."""

from ncsnx.samplers.contract import Draw, Grids, Model, Steps, append_zero, sampler

__all__ = ["Draw", "Grids", "Model", "Steps", "append_zero", "sampler"]
