"""Rules by name, and the one that a measurement gets by default."""

from collections.abc import Mapping

from ncsnx.errors import Hint, UsageError
from ncsnx.inverse.maps.measurement_map import LinearMap, MeasurementMap
from ncsnx.inverse.operators import LinearOperator
from ncsnx.inverse.rules.diffusion_posterior import DiffusionPosterior
from ncsnx.inverse.rules.guidance import Guidance
from ncsnx.inverse.rules.linear_rules import AnnealedLikelihood, DataConsistency
from ncsnx.spelling import argument, parameter

AUTO, EXACT = "auto", "exact"
GUIDANCE: Mapping[str, type[Guidance]] = {
    "cg": DataConsistency,
    "langevin": AnnealedLikelihood,
    "dps": DiffusionPosterior,
}
"""The rules for measurement maps, by name."""
_IN_WORDS = {
    EXACT: "by the singular values of the operator",
    "cg": "data consistency by conjugate gradients",
    "langevin": "the annealed likelihood score",
    "dps": "diffusion posterior sampling, with gradients through the network",
}


def chosen_rule(name: str, operator: LinearOperator | MeasurementMap) -> str:
    """The rule of this name; for 'auto' the default of the operator.

    `exact` for an operator with singular values. `cg` for a linear map: of Gaussian data seen by coils it is nearest to
    the posterior with every sampler (docs/guides/inverse-problems.md), and it takes no gradient of the network; of
    masks and averages, `dps` with `cas` has the nearer mean. `dps` for any other map. Raises UsageError for an unknown
    rule and for one that the operator doesn't support.
    """
    kind, fitting = _fitting(operator)
    if name == AUTO:
        return fitting[0]
    if name not in (EXACT, *GUIDANCE):
        raise UsageError(
            f"{parameter('rule')} {name[:40]!a}: unknown rule; expected one of {', '.join((AUTO, EXACT, *GUIDANCE))}"
        )
    if name not in fitting:
        raise UsageError(
            f"{parameter('rule')} {name} does not fit {kind}; expected one of {', '.join(fitting)}",
            Hint("use its default", adds=argument("rule", AUTO)),
        )
    return name


def rule_in_words(name: str) -> str:
    """Name and meaning of a rule."""
    return f"{name} ({_IN_WORDS[name]})"


def _fitting(operator: LinearOperator | MeasurementMap) -> tuple[str, tuple[str, ...]]:
    """The kind of operator in words, and the rules for it, the default first."""
    if isinstance(operator, LinearOperator):
        return "an operator with singular values", (EXACT, *GUIDANCE)
    if isinstance(operator, LinearMap):
        return "a linear map without singular values", tuple(GUIDANCE)
    return "a measurement that is not linear", ("dps",)
