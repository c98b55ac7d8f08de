"""ncsnx: noise-conditional score networks (NCSN, NCSNv2), from typed experiments to images and numbers.

    import ncsnx

    trained = ncsnx.train("digits")               # or an Experiment; an existing run resumes
    model = ncsnx.load("digits", ckpt="latest")   # a run; or an exported folder
    images = ncsnx.sample(model, n=16, seed=0)    # (16, 1, 8, 8) in [0, 1]
    scores = ncsnx.fid("digits")                  # of all checkpoints

The language of experiments (`Experiment` and its parts) is in `ncsnx.config`. torch is imported when something that
needs it is first used.
"""

from ncsnx.version import __version__

# Nothing is imported before it is used: this file runs before the command line can handle Ctrl-C.
TYPE_CHECKING = False  # as in typing, whose import takes longer than Python's start
if TYPE_CHECKING:
    from ncsnx.api.arguments import experiment
    from ncsnx.api.compared import compare
    from ncsnx.api.restored import restore
    from ncsnx.api.sampled import sample
    from ncsnx.api.scored import fid
    from ncsnx.api.trained import train
    from ncsnx.config import Experiment, register
    from ncsnx.errors import NcsnxError
    from ncsnx.runtime import Runtime
    from ncsnx.sampling.score_model import ScoreModel, load

__all__ = [
    "Experiment",
    "NcsnxError",
    "Runtime",
    "ScoreModel",
    "__version__",
    "compare",
    "experiment",
    "fid",
    "load",
    "register",
    "restore",
    "sample",
    "train",
]

_MODULES = {
    "Experiment": "ncsnx.config",
    "register": "ncsnx.config",
    "NcsnxError": "ncsnx.errors",
    "Runtime": "ncsnx.runtime",
    "ScoreModel": "ncsnx.sampling.score_model",
    "compare": "ncsnx.api.compared",
    "experiment": "ncsnx.api.arguments",
    "fid": "ncsnx.api.scored",
    "load": "ncsnx.sampling.score_model",
    "restore": "ncsnx.api.restored",
    "sample": "ncsnx.api.sampled",
    "train": "ncsnx.api.trained",
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
