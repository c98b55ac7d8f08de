"""The published implementation of NCSNv2, run from a checkout of its repository that the user names.

Its modules `models` and `losses` are imported from that folder and don't stay importable. Every call runs in a block
that turns an exception of that code into a NcsnxError with its place.
"""

import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ncsnx.benchmarking.executions import PUBLISHED_CODE
from ncsnx.benchmarking.measured_network import PartClock, Probe
from ncsnx.config import NCSN, SGD, Adam, NCSNDeeper, NCSNv2, NCSNv2Deeper, NCSNv2Deepest, RMSProp
from ncsnx.config.experiment import Experiment
from ncsnx.config.foreign import ForeignError, error_in_words, foreign_code
from ncsnx.config.model import Activation, Model, Normalization, RefineNetModel
from ncsnx.config.optimizer import Optimizer
from ncsnx.config.schedule import Geometric
from ncsnx.data import Preprocessing, TrainingBatches
from ncsnx.data.dataset import Dataset
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.networks import ScoreFunction, to_published

AGREEMENT = 2e-5
"""Largest difference of its outputs from ours, relative to the largest output."""
_FILES = ("models/__init__.py", "models/ncsnv2.py", "models/ema.py", "losses/__init__.py", "losses/dsm.py")
_PACKAGES = ("models", "losses")
_CLASSES: Mapping[type[Model], tuple[str, str]] = {
    NCSNv2: ("models.ncsnv2", "NCSNv2"),
    NCSNv2Deeper: ("models.ncsnv2", "NCSNv2Deeper"),
    NCSNv2Deepest: ("models.ncsnv2", "NCSNv2Deepest"),
    NCSN: ("models.ncsn", "NCSN"),
    NCSNDeeper: ("models.ncsn", "NCSNdeeper"),
}
_NORMALIZATIONS: Mapping[Normalization, str] = {
    "instance++": "InstanceNorm++",
    "instance": "InstanceNorm",
    "variance": "VarianceNorm",
    "batch": "BatchNorm",
    "none": "NoneNorm",
}
_ACTIVATIONS: Mapping[Activation, str] = {"elu": "elu", "relu": "relu", "leaky_relu": "lrelu", "swish": "swish"}
_OPTIMIZERS: Mapping[type[Optimizer], str] = {Adam: "Adam", RMSProp: "RMSProp", SGD: "SGD"}


class PublishedNetwork:
    """The published network with its own loss, optimizer and moving average."""

    is_compiled = False

    def __init__(
        self, folder: Path, network: ScoreFunction, experiment: Experiment, images: Dataset, device: torch.device
    ) -> None:
        """Executes code of `folder`. network: ours, on the device, whose weights it gets.

        Raises UsageError if the folder isn't such a checkout, and NcsnxError if its code raises or doesn't fit the
        experiment.
        """
        self.name, self.folder, self.device = PUBLISHED_CODE, folder, device
        self.experiment = experiment
        config = published_config(experiment, device)
        model = _published_model(experiment)
        modules = _imported(folder, (*_PACKAGES, model[0], "models.ema", "losses.dsm"))
        self._names = to_published(network)
        with _their_code(folder):
            self.network: nn.Module = getattr(modules[model[0]], model[1])(config).to(device)
            self._sigmas: Tensor = modules["models"].get_sigmas(config)
            self._loss: Any = modules["losses.dsm"].anneal_dsm_score_estimation
        self._load(network)
        with _their_code(folder):
            self.optimizer: torch.optim.Optimizer = modules["losses"].get_optimizer(config, self.network.parameters())
            self._average = None
            if experiment.ema is not None:
                self._average = modules["models.ema"].EMAHelper(mu=experiment.ema.rate)
                self._average.register(self.network)
        self.batches = TrainingBatches(images, experiment.batch_size, experiment.seed)
        self.preprocessing = Preprocessing(experiment.data, images.value_range, experiment.seed)
        self.number = 0

    def require_agreement(self, ours: ScoreFunction, probe: Probe) -> float:
        """The largest difference of its outputs from ours. Raises NcsnxError if it exceeds `AGREEMENT`."""
        self.network.eval()
        ours.eval()
        with torch.no_grad():
            expected = ours.scaled_score(probe.x, probe.levels)
            found = self.scaled_score(probe.x, probe.levels)
        difference = float((found - expected).abs().max() / expected.abs().max())
        if not difference <= AGREEMENT:
            raise NcsnxError(
                f"the network in {self.folder} is not ours: with the same weights its outputs differ by "
                f"{difference:.1e} of the largest, expected at most {AGREEMENT:g}"
            )
        return difference

    def scaled_score(self, x: Tensor, levels: Tensor) -> Tensor:
        with _their_code(self.folder):
            score: Tensor = self.network(x, levels)
        return score * self._sigmas[levels].view(-1, 1, 1, 1)

    @torch.no_grad()
    def evaluate(self, probe: Probe) -> Tensor:
        self.network.eval()
        with _their_code(self.folder):
            score: Tensor = self.network(probe.x, torch.zeros_like(probe.levels))
        return score

    def step(self, clock: PartClock | None = None) -> None:
        """A step as in the published runner. It draws its noise within the loss, by torch's global generator."""
        experiment = self.experiment
        self.network.train()
        if clock is not None:
            clock.start()
        batch = self.batches.at(self.number)
        positions = batch.positions.to(self.device)
        x = self.preprocessing.training(batch.images.pixels.to(self.device), positions)
        if clock is not None:
            clock.end("data")
        with _their_code(self.folder):
            loss = self._loss(self.network, x, self._sigmas, None, experiment.loss.power)
            self.optimizer.zero_grad()
            loss.backward()
            if clock is not None:
                clock.end("network")
            self.optimizer.step()
            if self._average is not None:
                self._average.update(self.network)
        self.number += 1
        if clock is not None:
            clock.end("update")

    def products(self) -> AbstractContextManager[object]:
        return nullcontext()

    def gradients(self) -> dict[str, Tensor]:
        theirs = {name: tensor.grad for name, tensor in self.network.named_parameters()}
        found = {ours: theirs.get(name) for ours, name in self._names.items()}
        return {ours: gradient for ours, gradient in found.items() if gradient is not None}

    def _load(self, network: ScoreFunction) -> None:
        """Gives it our weights. Raises NcsnxError if it has other tensors."""
        state = {self._names[name]: tensor for name, tensor in network.state_dict().items()}
        theirs = self.network.state_dict()
        wrong = [name for name in state if name not in theirs or theirs[name].shape != state[name].shape]
        wrong += [name for name in theirs if name not in state and name != "sigmas"]
        if wrong:
            raise NcsnxError(
                f"the network in {self.folder} has other tensors than the published one: {', '.join(sorted(wrong)[:3])}"
            )
        self.network.load_state_dict(state, strict=False)


def published_config(experiment: Experiment, device: torch.device) -> SimpleNamespace:
    """The experiment as the published code reads it from its YAML files."""
    data, model, optimizer, schedule = experiment.data, experiment.model, experiment.optimizer, experiment.schedule
    assert isinstance(model, RefineNetModel)
    return SimpleNamespace(
        device=device,
        data=SimpleNamespace(
            image_size=max(data.shape[1:]),  # the published networks only ask whether it is 28
            channels=data.channels,
            logit_transform=data.transform == "logit",
            rescaled=data.transform == "rescaled",
        ),
        model=SimpleNamespace(
            ngf=model.width,
            normalization=_NORMALIZATIONS[model.normalization],
            nonlinearity=_ACTIVATIONS[model.activation],
            sigma_begin=schedule.sigma_max,
            sigma_end=schedule.sigma_min,
            num_classes=schedule.levels,
            sigma_dist="geometric" if isinstance(schedule, Geometric) else "uniform",
            spec_norm=bool(getattr(model, "spectral_norm", False)),
            ema=experiment.ema is not None,
            ema_rate=0.999 if experiment.ema is None else experiment.ema.rate,
        ),
        optim=SimpleNamespace(
            optimizer=_OPTIMIZERS.get(type(optimizer), type(optimizer).__name__),
            lr=optimizer.lr,
            weight_decay=getattr(optimizer, "weight_decay", 0.0),
            beta1=getattr(optimizer, "beta1", 0.9),
            amsgrad=getattr(optimizer, "amsgrad", False),
            eps=getattr(optimizer, "eps", 1e-8),
        ),
    )


def _published_model(experiment: Experiment) -> tuple[str, str]:
    found = _CLASSES.get(type(experiment.model))
    if found is None:
        raise UsageError(f"{type(experiment.model).__name__} is not a published network, so there is nothing to run")
    return found


def _imported(folder: Path, names: tuple[str, ...]) -> dict[str, ModuleType]:
    """Modules of the checkout by name. Afterwards sys.path and sys.modules are as before."""
    for file in _FILES:
        if not (folder / file).is_file():
            raise UsageError(
                f"{folder} is not a checkout of the published implementation: {file} is missing",
                Hint("get one", "git clone https://github.com/ermongroup/ncsnv2"),
            )
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in _PACKAGES}
    writes = sys.dont_write_bytecode
    sys.path.insert(0, str(folder.resolve()))
    sys.dont_write_bytecode = True  # leaves the checkout unchanged
    importlib.invalidate_caches()
    try:
        with _their_code(folder):
            return {name: importlib.import_module(name) for name in names}
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(str(folder.resolve()))
        for name in [name for name in sys.modules if name.partition(".")[0] in _PACKAGES]:
            del sys.modules[name]
        sys.modules |= before


@contextmanager
def _their_code(folder: Path) -> Iterator[None]:
    """Within the block, an exception becomes a NcsnxError that names its place in the checkout."""
    try:
        with foreign_code():
            yield
    except ForeignError as raised:
        error = raised.error
        root = str(folder.resolve())
        places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(root)]
        where = f"{places[-1].filename}:{places[-1].lineno}" if places else str(folder)
        if isinstance(error, SyntaxError) and error.filename:
            where = f"{error.filename}:{error.lineno}"
        raise NcsnxError(f"{where}: {error_in_words(error)}") from error
