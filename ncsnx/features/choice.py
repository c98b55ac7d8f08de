"""Features as they are chosen: a configuration, or `TAG[:FILE]` and `features.FIELD=VALUE` as typed."""

from collections.abc import Sequence

import attrs

from ncsnx.config.feature_networks import Features
from ncsnx.config.overrides import Override, apply_overrides
from ncsnx.config.variants import Config, variants
from ncsnx.errors import UsageError, quoted
from ncsnx.spelling import parameter


@attrs.frozen(kw_only=True)
class _Chosen(Config):
    """The root of `features…` paths."""

    features: Features


def chosen_features(given: Features | str | None, default: Features, settings: Sequence[Override] = ()) -> Features:
    """The features that are meant, with changes of their fields. given: TAG or TAG:FILE as text; None: the default.

    Raises OverrideError, which lists the valid ones.
    """
    if not isinstance(given, Features | str | None):
        raise UsageError(
            f"{parameter('features')} must be a configuration such as ncsnx.config.Classifier(), or text such as "
            f"'classifier', not {quoted(given)}"
        )
    base, overrides = given if isinstance(given, Features) else default, list[Override]()
    if isinstance(given, str):
        tag, colon, file = given.partition(":")
        field = getattr(variants(Features).get(tag), "typed", "file")
        overrides = [Override("features", tag), *([Override(f"features.{field}", file)] if colon else [])]
    return apply_overrides(_Chosen(features=base), [*overrides, *settings]).features
