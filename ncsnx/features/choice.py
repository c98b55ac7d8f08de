"""Features as they are chosen: a configuration, or `TAG[:FILE]` and `features.FIELD=VALUE` as typed."""

from collections.abc import Sequence

import attrs

from ncsnx.config.checks import quoted
from ncsnx.config.feature_networks import Features, Inception, TorchScript
from ncsnx.config.overrides import Override, OverrideError, apply_overrides
from ncsnx.config.variants import Config, variants
from ncsnx.errors import UsageError
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
    base = given if isinstance(given, Features) else default
    overrides = _as_overrides(given) if isinstance(given, str) else []
    typed = {override.path for override in overrides}
    for setting in settings:
        if setting.path in typed:
            raise OverrideError(f"{setting.path}: given twice, here and by {parameter('features')} {quoted(given)}")
        overrides.append(setting)
    return apply_overrides(_Chosen(features=base), {}, overrides)[0].features


def _as_overrides(text: str) -> list[Override]:
    name, (tag, colon, file) = parameter("features"), text.partition(":")
    chosen = variants(Features).get(tag)
    if chosen is None:
        raise OverrideError(
            f"{name} {quoted(text)}: expected {', '.join(variants(Features))}; a file goes behind a colon, such as "
            "inception:inception-2015-12-05.pt"
        )
    if colon and chosen not in (Inception, TorchScript):
        raise OverrideError(f"{name} {quoted(text)}: {tag} takes no file; settings look like features.seed=1")
    if not file and (chosen is TorchScript or colon):
        raise OverrideError(f"{name} {tag}: name the file too, as in {tag}:net.pt")
    return [Override("features", tag), *([Override("features.file", file)] if colon else [])]
