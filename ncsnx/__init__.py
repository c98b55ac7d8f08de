"""ncsnx: noise-conditional score networks (NCSN, NCSNv2), from typed experiments to images and numbers.

    import ncsnx

    trained = ncsnx.train("digits")               # or an Experiment; an existing run resumes
    model = ncsnx.load("digits", ckpt="latest")   # a run; or an exported folder
    images = ncsnx.draw(model, n=16, seed=0)      # (16, 1, 8, 8) in [0, 1]
    scores = ncsnx.fid("digits")                  # of all checkpoints

Commands are functions too: `ncsnx.fid("digits", n=5000)` does what `ncsnx fid digits --n 5000` does, and returns its
result. The language of experiments (`Experiment` and its parts) is in `ncsnx.config`. torch is imported when something
first needs it.
"""

from ncsnx.version import __version__

# Nothing is imported before it is used: this file runs before the command line can handle Ctrl-C.
TYPE_CHECKING = False  # as in typing, whose import takes longer than Python's start
if TYPE_CHECKING:
    from ncsnx.commands.compare import compare
    from ncsnx.commands.doctor import doctor
    from ncsnx.commands.draw import draw
    from ncsnx.commands.export import export
    from ncsnx.commands.fid import fid
    from ncsnx.commands.import_ import import_checkpoint
    from ncsnx.commands.likelihood import likelihood
    from ncsnx.commands.loss import loss
    from ncsnx.commands.neighbors import neighbors
    from ncsnx.commands.new import new
    from ncsnx.commands.plan import plan
    from ncsnx.commands.report import report
    from ncsnx.commands.restore import restore
    from ncsnx.commands.sample import sample
    from ncsnx.commands.sweep import sweep
    from ncsnx.commands.train import train
    from ncsnx.config import Experiment, register
    from ncsnx.errors import NcsnxError
    from ncsnx.runs.targets import experiment
    from ncsnx.runtime import Runtime
    from ncsnx.sampling.loading import load, loader
    from ncsnx.sampling.model import Model
    from ncsnx.work import Work

__all__ = [
    "Experiment",
    "Model",
    "NcsnxError",
    "Runtime",
    "Work",
    "__version__",
    "compare",
    "doctor",
    "draw",
    "experiment",
    "export",
    "fid",
    "import_checkpoint",
    "likelihood",
    "load",
    "loader",
    "loss",
    "neighbors",
    "new",
    "plan",
    "register",
    "report",
    "restore",
    "sample",
    "sweep",
    "train",
]

_MODULES = {
    "Experiment": "ncsnx.config",
    "register": "ncsnx.config",
    "NcsnxError": "ncsnx.errors",
    "Runtime": "ncsnx.runtime",
    "Model": "ncsnx.sampling.model",
    "Work": "ncsnx.work",
    "experiment": "ncsnx.runs.targets",
    "import_checkpoint": "ncsnx.commands.import_",
    "load": "ncsnx.sampling.loading",
    "loader": "ncsnx.sampling.loading",
}
"""Public name → its module; the other names are commands, each in a module of its name."""


def __getattr__(name: str) -> object:
    import importlib

    if name in __all__:
        return getattr(importlib.import_module(_MODULES.get(name, f"ncsnx.commands.{name}")), name)
    if name in ("config", "errors"):
        return importlib.import_module(f"ncsnx.{name}")
    raise AttributeError(f"module 'ncsnx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
