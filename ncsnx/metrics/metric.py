"""The contract of metrics: numbers that compare generated images with real ones by their features.

A metric is one file with a function of `FeatureSets`. Its decorator declares the names and meanings of its numbers:

    @metric("density-coverage", Quantity("density"), Quantity("coverage"), needs=("sample",))
    def density_coverage(sets: FeatureSets) -> dict[str, float | None]:
        ...

The rows of `ncsnx fid`, its table, its JSON and CSV, and the cards of exported models follow from that. Modules in this
folder are found automatically; those of installed packages by their entry point in the group `ncsnx.runtime`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.registering import import_modules_of
from ncsnx.runs.ledger import Quantity as Quantity
from ncsnx.runs.ledger import value

if TYPE_CHECKING:
    from torch import Tensor

Need: TypeAlias = Literal["sample", "logits", "classes"]
"""Optional inputs of a metric: features of single real images, which statistics files lack, logits of generated images,
which feature networks without classes lack, and the classes that these were drawn for, numbered as the logits are."""

VERSIONS = "metrics"
"""Key in a row of the version of each metric in it, by tag."""
_RESERVED = ("step", "weights_sha256", "evaluations", "made", VERSIONS)
"""Keys of a row that don't belong to metrics."""
_NEEDS: tuple[Need | None, ...] = (None, "sample", "logits", "classes")


@attrs.frozen(eq=False, kw_only=True)
class FeatureSets:
    """Features of generated and real images."""

    features: "Tensor"
    """(n, D) float32, of the generated images."""
    logits: "Tensor | None"
    """(n, K) float32, of the generated images."""
    classes: "Tensor | None" = None
    """(n,) int64, the classes that the generated images were drawn for, numbered as the logits are."""
    mean: "Tensor"
    """(D,) float64, of the reference."""
    covariance: "Tensor"
    """(D, D) float64, of the reference."""
    sample: "Tensor | None"
    """(m, D), of some of the reference's images."""
    seed: int
    """Seed of all random numbers, which must come from `ncsnx.randomness`."""


Compute: TypeAlias = Callable[[FeatureSets], Mapping[str, float | None]]


@attrs.define(eq=False, init=False)
class Metric:
    """A metric as it is declared. It is the decorator `metric`, which registers the function.

    Raises ValueError for a tag or key that is taken.
    """

    tag: str
    quantities: tuple[Quantity, ...]
    needs: tuple[Need, ...]
    least_sample: int
    """Fewest real images in the sample."""
    on_request: bool
    """Whether the table shows it only on request; rows hold it in any case."""
    version: int
    """Version of the numbers; raised when any of them changes. Rows of another version get the new numbers if their
    features are kept; the old numbers aren't shown."""
    compute: Compute

    def __init__(
        self,
        tag: str,
        *quantities: Quantity,
        needs: Sequence[Need] = (),
        least_sample: int = 2,
        on_request: bool = True,
        version: int = 1,
    ) -> None:
        if tag in _metrics:
            raise ValueError(f"a metric {tag!r} already exists")
        taken = [*_RESERVED, *(key for other in _metrics.values() for one in other.quantities for key in one.keys)]
        for key in (key for one in quantities for key in one.keys):
            if key in taken:
                raise ValueError(f"the metric {tag!r} cannot give {key!r}, since rows already have this key")
            taken.append(key)
        self.tag, self.needs, self.least_sample = tag, tuple(needs), least_sample
        self.on_request, self.version = on_request, version
        self.quantities = tuple(
            attrs.evolve(one, metric=tag, version=version, on_request=on_request) for one in quantities
        )

    def __call__(self, compute: Compute) -> Compute:
        """Registers the function, and returns it unchanged."""
        self.compute = compute
        _metrics[self.tag] = self
        return compute

    def refusal(self, *, features: str, sample: int | None, has_logits: bool, has_classes: bool = False) -> str | None:
        """Why it can't be measured; None if it can.

        features: name of the feature network. sample: number of single real images; None for a statistics file.
        has_classes: whether the images are drawn for classes that the logits know.
        """
        if "classes" in self.needs and not has_classes:
            return f"{self.tag} takes a model and features (classifier) that know the classes of the data"
        if "logits" in self.needs and not has_logits:
            return f"{self.tag} takes logits, which {features} does not give"
        if "sample" in self.needs and sample is None:
            return f"{self.tag} takes single real images, and the reference has only mean and covariance"
        if "sample" in self.needs and sample is not None and sample < self.least_sample:
            return f"{self.tag} needs {counted(self.least_sample, 'real image')}, and the reference has {sample:,}"
        return None

    def measure(self, sets: FeatureSets) -> dict[str, float | None]:
        """The numbers of the metric, by key.

        Raises NcsnxError for features that it doesn't accept, and if it returns other keys, NaN or infinity.
        """
        found = {key: None if number is None else float(number) for key, number in self.compute(sets).items()}
        keys = [key for one in self.quantities for key in one.keys]
        if sorted(found) != sorted(keys):
            raise NcsnxError(f"the metric {self.tag} gave {', '.join(found)}; expected {', '.join(keys)}")
        if wrong := [key for key, number in found.items() if number is not None and value(found, key) is None]:
            raise NcsnxError(f"the metric {self.tag} gave {wrong[0]} = {found[wrong[0]]}; expected a finite number")
        return found

    def is_in(self, row: Mapping[str, Any]) -> bool:
        """Whether a row holds the numbers of this version."""
        return row.get(VERSIONS, {}).get(self.tag) == self.version and all(one.key in row for one in self.quantities)


metric = Metric
_metrics: dict[str, Metric] = {}


def all_metrics() -> tuple[Metric, ...]:
    """Metrics of this folder and of loaded packages: those always shown first, then by their needs and tags."""
    import_modules_of("ncsnx.metrics")
    return tuple(sorted(_metrics.values(), key=_place))


def measured_by(metrics: Sequence[Metric], sets: FeatureSets) -> dict[str, Any]:
    """The numbers of all these metrics and their versions, to be added to a row. Raises NcsnxError."""
    numbers: dict[str, Any] = {}
    for one in metrics:
        numbers |= one.measure(sets)
    return {**numbers, VERSIONS: {one.tag: one.version for one in metrics}}


def _place(one: Metric) -> tuple[bool, int, str]:
    return one.on_request, max((_NEEDS.index(need) for need in one.needs), default=0), one.tag
