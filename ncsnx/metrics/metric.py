"""What a metric is: numbers that compare generated images with real ones, by their features.

A metric is one file: a function of `FeatureSets`, and beside it what its numbers are called and how they are read.

    @metric("density-coverage", Quantity("density"), Quantity("coverage"), needs=("sample",))
    def density_coverage(sets: FeatureSets) -> dict[str, float | None]:
        ...

The rows of `ncsnx fid`, its table, its JSON and CSV, and the cards of exported models follow from that. A module of
this folder is found by itself; that of an installed package, by its entry point of the group `ncsnx.runtime`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.features.naming import name_with
from ncsnx.quantities import counted, with_error
from ncsnx.registering import import_modules_of
from ncsnx.runs.score_files import FEATURES, TABLE_OF_IMAGES, item, value

if TYPE_CHECKING:
    from torch import Tensor

Need: TypeAlias = Literal["sample", "logits"]
"""What isn't always there: features of single real images, which mere statistics lack; and logits of the generated
ones, which feature networks without classes lack."""

VERSIONS = "metrics"
"""In a row: the version of each metric that it holds, by tag."""
_BEFORE_VERSIONS = {"frechet-distance": 1, "kernel-distance": 1, "precision-recall": 1, "inception-score": 1}
"""What rows that don't say so hold, as far as it is there."""
_RESERVED = ("step", "weights_sha256", "evaluations", "made", TABLE_OF_IMAGES, FEATURES, VERSIONS)
"""What rows hold beside numbers of metrics."""
_NEEDS: tuple[Need | None, ...] = (None, "sample", "logits")


@attrs.frozen(eq=False, kw_only=True)
class FeatureSets:
    """Generated and real images, as one feature network sees them."""

    features: "Tensor"
    """(n, D) float32, of the generated images."""
    logits: "Tensor | None"
    """(n, K) float32, of the generated images."""
    mean: "Tensor"
    """(D,) float64, of the reference."""
    covariance: "Tensor"
    """(D, D) float64, of the reference."""
    sample: "Tensor | None"
    """(m, D), of some of the reference's images."""
    seed: int
    """For whatever is random: its numbers come from `ncsnx.randomness`, by this seed."""


@attrs.frozen
class Quantity:
    """One number of a metric."""

    key: str
    """Its name in rows, JSON and CSV."""
    title: str = attrs.field(default=attrs.Factory(lambda self: self.key, takes_self=True))
    """What people read."""
    of_inception: str | None = None
    """What it is called with Inception's features, where the features belong to the name: 'KID'."""
    error: str | None = None
    """The key of its standard error: how far it would stray with other images of the same model."""
    spread: str | None = None
    """The key of another spread, which is shown in its place."""
    better: Literal["lower", "higher"] = "lower"
    decimals: int | None = None
    """Shown where there is no error to say how many count; None: as of any number."""
    perfect: float | None = None
    """What a perfect model has in the mean, for any number of images; None where that depends."""
    place: int | None = None
    """Its place in a list of numbers, where the key's value is one."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Its key, and that of its error or spread."""
        return tuple(key for key in (self.key, self.error, self.spread) if key is not None)

    def name(self, features: str) -> str:
        """What it is called in a sweep by these features."""
        return self.title if self.of_inception is None else name_with(features, self.title, self.of_inception)

    def error_in(self, row: Mapping[str, Any]) -> float | None:
        """The error or spread of its value in a row; None where there is none."""
        beside = self.keys[1:]
        return value(row, beside[0]) if beside else None

    def shown(self, row: Mapping[str, Any]) -> str:
        """Its value in a row with its error, for people; '' where there is none."""
        measured = value(row, self.key) if self.place is None else item(row, self.key, self.place)
        if measured is None:
            return ""
        error = self.error_in(row)
        return with_error(measured, error) if self.decimals is None else f"{measured:,.{self.decimals}f}"


Compute: TypeAlias = Callable[[FeatureSets], Mapping[str, float | None]]


@attrs.frozen(kw_only=True)
class Metric:
    """A metric that is registered."""

    tag: str
    quantities: tuple[Quantity, ...]
    needs: tuple[Need, ...]
    on_request: bool
    """Whether the table shows it only where it is asked for; rows hold it in any case."""
    least_sample: int
    """Real images that it takes at the least, of the sample."""
    version: int
    """Of its numbers: rises with any change of one. Rows of another version get the new numbers where their features
    are kept; the old ones aren't shown."""
    compute: Compute

    def refusal(self, *, features: str, sample: int | None, has_logits: bool) -> str | None:
        """Why it can't be measured; None where it can.

        features: name of the network. sample: how many single real images there are; None for mere statistics.
        """
        if "logits" in self.needs and not has_logits:
            return f"classes are needed for {self.tag}, and {features} gives none"
        if "sample" in self.needs and sample is None:
            return f"single real images are needed for {self.tag}, and the reference is mere mean and covariance"
        if "sample" in self.needs and sample is not None and sample < self.least_sample:
            return f"{counted(self.least_sample, 'real image')} are needed for {self.tag}, and there are {sample:,}"
        return None

    def measure(self, sets: FeatureSets) -> dict[str, float | None]:
        """Its numbers, by the keys of its quantities.

        Raises NcsnxError for features that it can't take, and for anything else but these numbers, all finite.
        """
        found = {key: None if number is None else float(number) for key, number in self.compute(sets).items()}
        keys = [key for one in self.quantities for key in one.keys]
        if sorted(found) != sorted(keys):
            raise NcsnxError(f"the metric {self.tag} gave {', '.join(found)}; expected {', '.join(keys)}")
        if wrong := [key for key, number in found.items() if number is not None and value(found, key) is None]:
            raise NcsnxError(f"the metric {self.tag} gave {wrong[0]} = {found[wrong[0]]}; expected a usual number")
        return found

    def is_in(self, row: Mapping[str, Any]) -> bool:
        """Whether a row holds this version of its numbers."""
        return versions_in(row).get(self.tag) == self.version and all(one.key in row for one in self.quantities)


_metrics: dict[str, Metric] = {}


def metric(
    tag: str,
    *quantities: Quantity,
    needs: Sequence[Need] = (),
    least_sample: int = 2,
    on_request: bool = True,
    version: int = 1,
) -> Callable[[Compute], Compute]:
    """Registers a function as the metric `tag`, and leaves it as it is; for the rest see `Metric`.

    Raises ValueError for a name that is taken.
    """
    if tag in _metrics:
        raise ValueError(f"there already is a metric {tag!r}")
    taken = [*_RESERVED, *(key for other in _metrics.values() for one in other.quantities for key in one.keys)]
    for key in (key for one in quantities for key in one.keys):
        if key in taken:
            raise ValueError(f"a row has {key!r} already, so the metric {tag!r} cannot give it")
        taken.append(key)

    def register_metric(compute: Compute) -> Compute:
        _metrics[tag] = Metric(
            tag=tag,
            quantities=quantities,
            needs=tuple(needs),
            least_sample=least_sample,
            on_request=on_request,
            version=version,
            compute=compute,
        )
        return compute

    return register_metric


def all_metrics() -> tuple[Metric, ...]:
    """Those of this folder, and of the packages that are loaded: what is always shown first, then by what they need."""
    import_modules_of("ncsnx.metrics")
    return tuple(sorted(_metrics.values(), key=_place))


def versions_in(row: Mapping[str, Any]) -> dict[str, int]:
    """The version of each metric that a row holds, by tag."""
    versions = row.get(VERSIONS)
    return dict(versions) if isinstance(versions, dict) else dict(_BEFORE_VERSIONS)


def measured_by(metrics: Sequence[Metric], sets: FeatureSets) -> dict[str, Any]:
    """The numbers of all these metrics, with their versions: what they add to a row. Raises NcsnxError."""
    numbers: dict[str, Any] = {}
    for one in metrics:
        numbers |= one.measure(sets)
    return {**numbers, VERSIONS: {one.tag: one.version for one in metrics}}


def _place(one: Metric) -> tuple[bool, int, str]:
    return one.on_request, max((_NEEDS.index(need) for need in one.needs), default=0), one.tag
