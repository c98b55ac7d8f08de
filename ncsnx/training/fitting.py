"""Whether a published checkpoint fits an experiment, tensor by tensor; and if it doesn't, which experiment it fits.

Networks are compared by the names and shapes of their tensors, on torch's meta device, so that nothing of their size is
allocated. A tensor that would be left out, or made up, is a misfit: nothing is guessed.
"""

import shlex
from collections.abc import Iterable, Mapping
from functools import lru_cache

import attrs
import torch
from torch import Tensor, nn

from ncsnx.config import SGD, Adam, Experiment, Geometric, Optimizer, RMSProp, Uniform
from ncsnx.config.checks import quoted
from ncsnx.config.discovery import discover, resolve
from ncsnx.config.overrides import apply_overrides, parse_overrides
from ncsnx.config.variants import tag_of
from ncsnx.errors import NcsnxError
from ncsnx.networks import ScoreNetwork, outlined_network, published_shapes, to_published
from ncsnx.networks.published import SIGMAS, same_levels
from ncsnx.runs.published import PublishedCheckpoint, PublishedOptimizer

_SHOWN = 4  # of the names in a list
_OPTIMIZERS: Mapping[str, Optimizer] = {
    "optimizer=adam": Adam(),
    "optimizer=adam optimizer.amsgrad=true": Adam(amsgrad=True),
    "optimizer=rmsprop": RMSProp(),
    "optimizer=rmsprop optimizer.momentum=0.9": RMSProp(momentum=0.9),
    "optimizer=sgd": SGD(),
    "optimizer=sgd optimizer.momentum=0": SGD(momentum=0.0),
}

Shapes = Mapping[str, tuple[int, ...]]


@attrs.frozen
class Misfit:
    """What keeps a checkpoint from an experiment."""

    reasons: tuple[str, ...] = ()
    """Other than names and shapes: noise levels, average, optimizer."""
    missing: tuple[str, ...] = ()
    """Tensors that the experiment needs."""
    left_over: tuple[str, ...] = ()
    """Tensors that it has no place for."""
    reshaped: tuple[str, ...] = ()
    """Tensors of another shape, with both."""

    @property
    def size(self) -> int:
        """How many things differ."""
        return sum(map(len, (self.reasons, self.missing, self.left_over, self.reshaped)))

    def __str__(self) -> str:
        lists = {"missing": self.missing, "left over": self.left_over, "of another shape": self.reshaped}
        return "; ".join([*self.reasons, *(_listed(names, what) for what, names in lists.items() if names)])


def misfit(experiment: Experiment, published: PublishedCheckpoint) -> Misfit | None:
    """What of the checkpoint doesn't fit the experiment; None where all of it does.

    Raises NcsnxError for an experiment whose network can't be built.
    """
    network = outlined_network(experiment)
    expected, found = published_shapes(network), _shapes(published.network)
    if SIGMAS in found:  # a conditional network's state need not have them
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


def require_fit(
    experiment: Experiment, published: PublishedCheckpoint, typed: str, overrides: list[str] | None = None
) -> None:
    """Raises NcsnxError with what differs and what fits. `typed` and `overrides` are how the experiment was named."""
    found = misfit(experiment, published)
    if found is not None:
        advice = _advice(experiment, published, typed, overrides or [])
        raise NcsnxError(f"{published.path} doesn't fit {experiment.name}: {found}. {advice}")


def published_parameters(network: ScoreNetwork) -> dict[str, str]:
    """Of each trained tensor the published name, with its own."""
    names = to_published(network)
    return {names[name]: name for name, _ in network.named_parameters()}


@lru_cache(maxsize=64)
def kept_state(optimizer: Optimizer) -> Mapping[str, bool]:
    """What an optimizer keeps for a parameter after a step, by name, and whether it is of the parameter's shape.

    Found by making a step, so that it holds for optimizers from packages too.
    """
    from ncsnx.training.optimizers import build_optimizer

    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    built = build_optimizer(optimizer, [parameter])
    built.step()
    state = built.state.get(parameter, {})
    return {key: value.dim() > 0 for key, value in state.items() if isinstance(value, Tensor)}


# ------------------------------------------------------------------------------------------------ what differs


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
        return "it holds averaged weights, but the experiment averages none (ema)"
    return "it holds no averaged weights, but the experiment averages them (ema)"


def _levels(network: ScoreNetwork, theirs: Tensor | None) -> Misfit:
    if theirs is None or theirs.dim() != 1 or not len(theirs) or same_levels(network, theirs):
        return Misfit()
    ours = network.noise_levels
    reason = (
        f"its {len(theirs):,} noise levels go from {theirs[0]:g} to {theirs[-1]:g}, the experiment's {len(ours):,} "
        f"from {ours[0]:g} to {ours[-1]:g}"
    )
    return Misfit(reasons=(reason,))


def _optimizer(config: Optimizer, order: list[str], parameters: Shapes, found: PublishedOptimizer) -> Misfit:
    if len(found.states) != len(order):
        reason = f"its optimizer has {len(found.states)} parameters, but its network {len(order)}"
        return Misfit(reasons=(reason,))
    kept = kept_state(config)
    kinds = {frozenset(state) for state in found.states}
    if kinds != {frozenset(kept)}:
        theirs = " or ".join(sorted(_keys(kind) for kind in kinds)[:2])
        reason = f"its optimizer keeps {theirs} for a parameter, the experiment's {tag_of(type(config))} {_keys(kept)}"
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


# --------------------------------------------------------------------------------------------- what would fit


def _advice(asked: Experiment, published: PublishedCheckpoint, typed: str, overrides: list[str]) -> str:
    """Which experiment fits as it is, or with values that the file itself shows; else which comes nearest."""
    known = {typed: resolve(typed).experiment}
    for source in discover():
        for registered in source.file.registered if source.file is not None else ():
            known.setdefault(registered.experiment.name, registered.experiment)
    differ = {word: _try(experiment, published) for word, experiment in known.items()}
    if fitting := [word for word, found in differ.items() if found is None]:
        also = f" (as does {' and '.join(fitting[1:4])})" if fitting[1:] else ""
        return f"It fits {fitting[0]}{also}: {_command(published, fitting[0])}"
    candidates = [(typed, overrides, asked), *((word, list[str](), experiment) for word, experiment in known.items())]
    for word, already, experiment in candidates:
        implied = _implied(experiment, published)
        if implied and _try(_changed(experiment, implied), published) is None:
            fields = {text.partition("=")[0]: text for text in [*already, *implied]}
            return f"It fits {word} with values that the file shows: {_command(published, word, *fields.values())}"
    nearest = min(known, key=lambda word: _size(differ[word]))
    return f"No known experiment fits; the nearest is {nearest}, where {_size(differ[nearest]):,} things differ"


def _try(experiment: Experiment | None, published: PublishedCheckpoint) -> Misfit | None:
    """As `misfit`; an experiment whose network can't be built fits nothing."""
    nothing = Misfit(missing=tuple(published.network))
    if experiment is None:
        return nothing
    try:
        return misfit(experiment, published)
    except NcsnxError:
        return nothing


def _size(found: Misfit | None) -> int:
    return 0 if found is None else found.size


def _command(published: PublishedCheckpoint, *words: str) -> str:
    return f"`ncsnx import {shlex.join([str(published.path), *words])}`"


def _implied(experiment: Experiment, published: PublishedCheckpoint) -> list[str]:
    """Overrides that give the experiment what the file shows: width, noise levels, average, kind of optimizer."""
    words: list[str] = []
    first = published.network.get("begin_conv.weight")
    if first is not None and first.dim() == 4 and first.shape[0] != experiment.model.width:
        words.append(f"model.width={first.shape[0]}")
    words += _implied_levels(experiment, published.network)
    if (experiment.ema is None) != (published.ema is None):
        words.append("ema=none" if published.ema is None else "ema.rate=0.999")
    return words + _implied_optimizer(experiment, published.optimizer)


def _implied_optimizer(experiment: Experiment, found: PublishedOptimizer) -> list[str]:
    kinds = {frozenset(state) for state in found.states}
    if kinds == {frozenset(kept_state(experiment.optimizer))}:
        return []
    return next((text.split() for text, other in _OPTIMIZERS.items() if kinds == {frozenset(kept_state(other))}), [])


def _implied_levels(experiment: Experiment, network: Mapping[str, Tensor]) -> list[str]:
    sigmas, rows = network.get(SIGMAS), network.get("normalizer.embed.weight")
    ours = experiment.schedule
    if sigmas is not None and sigmas.dim() == 1 and len(sigmas) > 1:
        spacing = Uniform if _is_even(sigmas) else Geometric
        wanted = {"sigma_max": f"{sigmas[0]:.6g}", "sigma_min": f"{sigmas[-1]:.6g}", "levels": str(len(sigmas))}
        swap = [] if isinstance(ours, spacing) else [f"schedule={tag_of(spacing)}"]
        return swap + [f"schedule.{key}={text}" for key, text in wanted.items() if float(text) != getattr(ours, key)]
    if rows is not None and rows.dim() == 2 and rows.shape[0] != ours.levels:
        return [f"schedule.levels={rows.shape[0]}"]
    return []


def _is_even(sigmas: Tensor) -> bool:
    """Whether the differences of successive levels are equal, rather than their ratios."""
    steps = sigmas.double().diff()
    return len(steps) > 1 and bool(torch.allclose(steps, steps.mean().expand_as(steps), rtol=1e-3))


def _changed(experiment: Experiment, words: list[str]) -> Experiment | None:
    try:
        return apply_overrides(experiment, {}, parse_overrides(words))[0]
    except NcsnxError:
        return None
