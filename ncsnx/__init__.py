"""ncsnx: noise-conditional score networks (NCSN, NCSNv2), from typed experiments to images and numbers.

    import ncsnx

    model = ncsnx.load("digits", ckpt="latest")   # a run; or an exported folder
    images = ncsnx.sample(model, n=16, seed=0)    # (16, 1, 8, 8) in [0, 1]

The language of experiments (`Experiment` and its parts) is in `ncsnx.config`. torch is imported when `load`,
`sample` or `ScoreModel` is first used.
"""

from ncsnx.version import __version__

# Nothing is imported before it is used: this file runs before the command line can handle Ctrl-C.
TYPE_CHECKING = False  # as in typing, whose import takes longer than Python's start
if TYPE_CHECKING:
    from ncsnx.config import Experiment, register
    from ncsnx.errors import NcsnxError
    from ncsnx.sampling.sample import sample
    from ncsnx.sampling.score_model import ScoreModel, load

__all__ = ["Experiment", "NcsnxError", "ScoreModel", "__version__", "load", "register", "sample"]

_MODULES = {
    "Experiment": "ncsnx.config",
    "register": "ncsnx.config",
    "NcsnxError": "ncsnx.errors",
    "ScoreModel": "ncsnx.sampling.score_model",
    "load": "ncsnx.sampling.score_model",
    "sample": "ncsnx.sampling.sample",
}


def __getattr__(name: str) -> object:
    import importlib

    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    if name in ("config", "errors"):
        return importlib.import_module(f"ncsnx.{name}")
    raise AttributeError(f"module 'ncsnx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
