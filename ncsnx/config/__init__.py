"""The language of experiments: frozen classes, checked and registered. Nothing here imports torch."""

from ncsnx.config.data import CIFAR10, FFHQ, LSUN, Arrays, CelebA, Data, DataOnDisk, Digits, Images, OwnData, Packed
from ncsnx.config.experiment import Ema, Experiment, ScoreMatching, Snapshots
from ncsnx.config.model import NCSN, Model, NCSNDeeper, NCSNv2, NCSNv2Deeper, NCSNv2Deepest
from ncsnx.config.optimizer import SGD, Adam, Optimizer, RMSProp
from ncsnx.config.registry import register
from ncsnx.config.retention import Retention
from ncsnx.config.sampler import (
    AnnealedLangevin,
    ConsistentAnnealed,
    DPMSolverPP,
    DPMSolverPPSDE,
    EulerAncestral,
    Exponential,
    Grid,
    Heun,
    Karras,
    PredictorCorrector,
    ProbabilityFlowODE,
    Sampler,
    TrainedLevels,
)
from ncsnx.config.schedule import Geometric, Schedule, Uniform
from ncsnx.config.variants import Config, variant

__all__ = [
    "CIFAR10",
    "FFHQ",
    "LSUN",
    "NCSN",
    "SGD",
    "Adam",
    "AnnealedLangevin",
    "Arrays",
    "CelebA",
    "Config",
    "ConsistentAnnealed",
    "DPMSolverPP",
    "DPMSolverPPSDE",
    "Data",
    "DataOnDisk",
    "Digits",
    "Ema",
    "EulerAncestral",
    "Experiment",
    "Exponential",
    "Geometric",
    "Grid",
    "Heun",
    "Images",
    "Karras",
    "Model",
    "NCSNDeeper",
    "NCSNv2",
    "NCSNv2Deeper",
    "NCSNv2Deepest",
    "Optimizer",
    "OwnData",
    "Packed",
    "PredictorCorrector",
    "ProbabilityFlowODE",
    "RMSProp",
    "Retention",
    "Sampler",
    "Schedule",
    "ScoreMatching",
    "Snapshots",
    "TrainedLevels",
    "Uniform",
    "register",
    "variant",
]
