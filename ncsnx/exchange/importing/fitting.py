"""Compares a published checkpoint with an experiment, tensor by tensor.

Networks are compared by the names and shapes of their tensors, on torch's meta device, which allocates no memory. A
missing or surplus tensor is a misfit: nothing is guessed.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import attrs
import torch
from torch import Tensor, nn

from ncsnx.config import Experiment, Optimizer
from ncsnx.config.checks import quoted
from ncsnx.config.variants import tag_of
from ncsnx.exchange.published_files import PublishedCheckpoint, PublishedOptimizer
from ncsnx.networks import ScoreFunction, meta_network, published_shapes, to_published
from ncsnx.networks.published_names import SIGMAS, same_levels
from ncsnx.quantities import counted

_SHOWN = 4  # names shown in a list

Shapes = Mapping[str, tuple[int, ...]]


@attrs.frozen
class Misfit:
    """The differences between a checkpoint and an experiment."""

    reasons: tuple[str, ...] = ()
    """Differences in noise levels, averaging or optimizer."""
    missing: tuple[str, ...] = ()
    """Tensors that the experiment needs but the checkpoint lacks."""
    left_over: tuple[str, ...] = ()
    """Tensors of the checkpoint that the experiment doesn't use."""
    reshaped: tuple[str, ...] = ()
    """Tensors of another shape, with both shapes."""

    @property
    def size(self) -> int:
        """Number of differences."""
        return sum(map(len, (self.reasons, self.missing, self.left_over, self.reshaped)))

    def __str__(self) -> str:
        lists = {"missing": self.missing, "surplus": self.left_over, "of another shape": self.reshaped}
        return "; ".join([*self.reasons, *(_listed(names, what) for what, names in lists.items() if names)])


def misfit(experiment: Experiment, published: PublishedCheckpoint) -> Misfit | None:
    """The differences between the checkpoint and the experiment; None if it fits.

    Raises NcsnxError if the experiment's network can't be built.
    """
    network = meta_network(experiment)
    expected, found = published_shapes(network), _shapes(published.network)
    if SIGMAS in found:  # optional in a conditional network's state
        expected = {**expected, SIGMAS: (len(network.noise_levels),)}
    parts = [_compared(expected, found, "")]
    parameters = {name: expected[name] for name in published_parameters(network)}
    if (experiment.ema is None) != (published.ema is None):
        parts.append(Misfit(reasons=(_average(experiment),)))
    elif published.ema is not None:
        parts.append(_compared(parameters, _shapes(published.ema), "EMA of "))
    parts.append(_levels(network, published.network.get(SIGMAS)))
    if not parts[0].size:
        order = [name for name in published.network if name in parameters]
        parts.append(_optimizer(experiment.optimizer, order, parameters, published.optimizer))
    together = Misfit(
        *(tuple(item for part in parts for item in getattr(part, field.name)) for field in attrs.fields(Misfit))
    )
    return together if together.size else None


def published_parameters(network: ScoreFunction) -> dict[str, str]:
    """Our name of each trained tensor, by its published name."""
    names = to_published(network)
    return {names[name]: name for name, _ in network.named_parameters()}


@lru_cache(maxsize=64)
def kept_state(optimizer: Optimizer) -> Mapping[str, bool]:
    """Names of the tensors that an optimizer keeps per parameter → whether they have the parameter's shape.

    Determined by taking a step, so that it holds for optimizers from packages too.
    """
    from ncsnx.training.optimizers import build_optimizer

    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    built = build_optimizer(optimizer, [parameter])
    built.step()
    state = built.state.get(parameter, {})
    return {key: value.dim() > 0 for key, value in state.items() if isinstance(value, Tensor)}


# ------------------------------------------------------------------------------------------------- differences


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _compared(expected: Shapes, found: Shapes, where: str) -> Misfit:
    return Misfit(
        missing=tuple(where + name for name in expected if name not in found),
        left_over=tuple(where + quoted(name)[1:-1] for name in found if name not in expected),
        reshaped=tuple(
            f"{where}{name} {shape} instead of {expected[name]}"
            for name, shape in found.items()
            if name in expected and expected[name] != shape
        ),
    )


def _average(experiment: Experiment) -> str:
    if experiment.ema is None:
        return "it holds averaged weights, but the experiment has no EMA (ema)"
    return "it holds no averaged weights, but the experiment has EMA (ema)"


def _levels(network: ScoreFunction, theirs: Tensor | None) -> Misfit:
    if theirs is None or theirs.dim() != 1 or not len(theirs) or same_levels(network, theirs):
        return Misfit()
    ours = network.noise_levels
    reason = (
        f"its {counted(len(theirs), 'noise level')} go from {theirs[0]:g} to {theirs[-1]:g}, the experiment's "
        f"{len(ours):,} from {ours[0]:g} to {ours[-1]:g}"
    )
    return Misfit(reasons=(reason,))


def _optimizer(config: Optimizer, order: list[str], parameters: Shapes, found: PublishedOptimizer) -> Misfit:
    if len(found.states) != len(order):
        reason = f"its optimizer has {counted(len(found.states), 'parameter')}, but its network {len(order):,}"
        return Misfit(reasons=(reason,))
    kept = kept_state(config)
    kinds = {frozenset(state) for state in found.states}
    if kinds != {frozenset(kept)}:
        theirs = " or ".join(sorted(_keys(kind) for kind in kinds)[:2])
        reason = f"its optimizer keeps {theirs} per parameter, the experiment's {tag_of(type(config))} {_keys(kept)}"
        return Misfit(reasons=(reason,))
    reshaped = [
        f"{key} of {name} {tuple(value.shape)} instead of {parameters[name] if kept[key] else ()}"
        for name, state in zip(order, found.states, strict=True)
        for key, value in state.items()
        if tuple(value.shape) != (parameters[name] if kept[key] else ())
    ]
    return Misfit(reshaped=tuple(reshaped))


def _keys(keys: Iterable[str]) -> str:
    names = [quoted(key)[1:-1] for key in sorted(keys)]
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "") or "nothing"


def _listed(names: tuple[str, ...], what: str) -> str:
    return f"{len(names):,} {what} ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
