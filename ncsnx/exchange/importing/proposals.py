"""Proposes commands for a published checkpoint that doesn't fit, by trying the known experiments."""

import shlex
from collections.abc import Iterator, Mapping

import attrs
from torch import Tensor, allclose

from ncsnx.config import SGD, Adam, Experiment, Geometric, Optimizer, RMSProp, Uniform
from ncsnx.config.discovery import discover, known_names, resolve
from ncsnx.config.overrides import apply_overrides, parse_overrides
from ncsnx.config.variants import tag_of
from ncsnx.errors import Hint, NcsnxError
from ncsnx.exchange.importing.fitting import Misfit, kept_state, misfit
from ncsnx.exchange.published_files import PublishedCheckpoint, PublishedOptimizer
from ncsnx.networks.published_names import SIGMAS
from ncsnx.quantities import counted

_OPTIMIZERS: Mapping[str, Optimizer] = {
    "optimizer=adam": Adam(),
    "optimizer=adam optimizer.amsgrad=true": Adam(amsgrad=True),
    "optimizer=rmsprop": RMSProp(),
    "optimizer=rmsprop optimizer.momentum=0.9": RMSProp(momentum=0.9),
    "optimizer=sgd": SGD(),
    "optimizer=sgd optimizer.momentum=0": SGD(momentum=0.0),
}
_SEVERAL_MAY_FIT = (
    "choose the experiment that trained the file: a file records neither data nor image size nor EMA rate, so several "
    "may fit"
)
_NAMED = 6  # limit of fitting experiments to list


@attrs.frozen
class Typed:
    """An import as typed on the command line."""

    place: str
    """The file or the folder."""
    experiment: str
    overrides: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """All further arguments, such as the option that names the run."""

    def command(self, experiment: str, overrides: tuple[str, ...] = ()) -> str:
        """The command line of the same import as another experiment."""
        return f"ncsnx import {shlex.join([self.place, experiment, *overrides, *self.options])}"


@attrs.frozen
class _Fitting:
    """An experiment that the file fits with these overrides."""

    word: str
    """Name or path of the experiment."""
    overrides: tuple[str, ...] = ()


def require_fit(experiment: Experiment, published: PublishedCheckpoint, typed: Typed) -> None:
    """Raises NcsnxError with the differences, and with the commands that fit, if the checkpoint doesn't fit."""
    found = misfit(experiment, published)
    if found is not None:
        hints = _hints(experiment, published, typed)
        raise NcsnxError(f"{published.path} does not fit {experiment.name}: {found}", *hints)


def _hints(asked: Experiment, published: PublishedCheckpoint, typed: Typed) -> list[Hint]:
    """The experiments that fit as they are, or with values from the file; else the nearest experiment."""
    known = {typed.experiment: resolve(typed.experiment).experiment}
    for found in known_names(discover()):
        experiment = found.registered.experiment
        # the requested one may have been typed as a path
        if found.error is None and experiment.name != known[typed.experiment].name:
            known[experiment.name] = experiment
    differ = {word: _try(experiment, published) for word, experiment in known.items()}
    if fitting := [_Fitting(word) for word, found in differ.items() if found is None]:
        return _listed("it fits", fitting, typed)
    fitting = list(_with_changes(asked, known, published, typed))
    # the requested experiment first, then those that need the fewest changes
    if fitting := sorted(fitting, key=lambda found: (found.word != typed.experiment, len(found.overrides))):
        return _listed("with values from the file, it fits", fitting, typed)
    nearest = min(known, key=lambda word: _size(differ[word]))
    differences = counted(_size(differ[nearest]), "difference")
    return [Hint(f"no known experiment fits; the nearest is {nearest}, with {differences}")]


def _with_changes(
    asked: Experiment, known: Mapping[str, Experiment], published: PublishedCheckpoint, typed: Typed
) -> Iterator[_Fitting]:
    """Experiments that fit with values from the file; every yielded command line has been tried."""
    for word, experiment in known.items():
        changes = tuple(_implied(experiment, published))
        ways = [changes]
        if word == typed.experiment and typed.overrides:
            implied = _implied(asked, published)
            ways = [*(_merged(typed.overrides, implied, keeps) for keeps in (True, False)), changes]
        fitting = next((way for way in ways if _fits(experiment, way, published)), None)
        if fitting is not None:
            yield _Fitting(word, fitting)


def _listed(what: str, fitting: list[_Fitting], typed: Typed) -> list[Hint]:
    first, *others = fitting
    hints = [Hint(f"{what} {first.word}", typed.command(first.word, first.overrides))]
    if others:
        names = [found.word for found in others[:_NAMED]] + (["…"] if len(others) > _NAMED else [])
        hints += [Hint(f"and also {', '.join(names)}"), Hint(_SEVERAL_MAY_FIT)]
    return hints


def _merged(overrides: tuple[str, ...], changes: list[str], keeps: bool) -> tuple[str, ...]:
    """The overrides with the changes, without overrides that a change replaces or contradicts.

    keeps: whether overrides of a variant's fields stay when a change replaces the variant.
    """
    changed = [word.partition("=")[0] for word in changes]

    def stays(word: str) -> bool:
        path, _, text = word.partition("=")
        is_replaced = path in changed or (not keeps and any(path.startswith(f"{other}.") for other in changed))
        is_without = text.lower() == "none" and any(other.startswith(f"{path}.") for other in changed)
        return not is_replaced and not is_without

    return (*filter(stays, overrides), *changes)


def _fits(experiment: Experiment, overrides: tuple[str, ...], published: PublishedCheckpoint) -> bool:
    try:
        changed = apply_overrides(experiment, {}, parse_overrides(list(overrides)))[0]
    except NcsnxError:
        return False
    return _try(changed, published) is None


def _try(experiment: Experiment, published: PublishedCheckpoint) -> Misfit | None:
    """Like `misfit`; an experiment whose network can't be built fits nothing."""
    try:
        return misfit(experiment, published)
    except NcsnxError:
        return Misfit(missing=tuple(published.network))


def _size(found: Misfit | None) -> int:
    return 0 if found is None else found.size


# --------------------------------------------------------------------------------------- values from the file


def _implied(experiment: Experiment, published: PublishedCheckpoint) -> list[str]:
    """Overrides that set the experiment to the file's width, noise levels, averaging and kind of optimizer."""
    words: list[str] = []
    first = published.network.get("begin_conv.weight")
    width = getattr(experiment.model, "width", None)
    if first is not None and first.dim() == 4 and width not in (None, first.shape[0]):
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
    """Whether the levels are evenly spaced, rather than geometrically."""
    steps = sigmas.double().diff()
    return len(steps) > 1 and allclose(steps, steps.mean().expand_as(steps), rtol=1e-3)
