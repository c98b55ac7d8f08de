"""ncsnx: noise-conditional score networks (NCSN, NCSNv2), from typed experiments to images and numbers.

    import ncsnx

    model = ncsnx.load("digits", ckpt="latest")   # a run; or an exported folder
    images = ncsnx.sample(model, n=16, seed=0)    # (16, 1, 8, 8) in [0, 1]

The language of experiments (`Experiment` and its parts) is in `ncsnx.config`. torch is imported when `load`,
`sample` or `ScoreModel` is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ncsnx.config import Experiment, register
from ncsnx.errors import NcsnxError
from ncsnx.version import __version__

if TYPE_CHECKING:
    from ncsnx.sampling import ScoreModel, load, sample

__all__ = ["Experiment", "NcsnxError", "ScoreModel", "__version__", "load", "register", "sample"]

_NEEDS_TORCH = ("ScoreModel", "load", "sample")


def __getattr__(name: str) -> Any:
    if name in _NEEDS_TORCH:
        return getattr(importlib.import_module("ncsnx.sampling"), name)
    raise AttributeError(f"module 'ncsnx' has no attribute {name!r}")
