"""`--features TAG[:FILE]` and `features.FIELD=VALUE`, as typed."""

import attrs

from ncsnx.config.checks import quoted
from ncsnx.config.feature_networks import Features, Inception, TorchScript
from ncsnx.config.overrides import Override, OverrideError, apply_overrides
from ncsnx.config.variants import Config, variants


@attrs.frozen(kw_only=True)
class _Chosen(Config):
    """The root of `features…` paths."""

    features: Features


def parse_features(text: str | None, default: Features, settings: list[Override] | None = None) -> Features:
    """The features that `--features` and `features…` settings mean. text: TAG or TAG:FILE; None: the default.

    Raises OverrideError, which lists the valid ones.
    """
    overrides = [] if text is None else _as_overrides(text)
    given = {override.path for override in overrides}
    for setting in settings or []:
        if setting.path in given:
            raise OverrideError(f"{setting.path}: given twice, here and by --features {quoted(text)}")
        overrides.append(setting)
    return apply_overrides(_Chosen(features=default), {}, overrides)[0].features


def _as_overrides(text: str) -> list[Override]:
    tag, colon, file = text.partition(":")
    chosen = variants(Features).get(tag)
    if chosen is None:
        raise OverrideError(
            f"--features {quoted(text)}: expected {', '.join(variants(Features))}; a file goes behind a colon, such as "
            "inception:inception-2015-12-05.pt"
        )
    if colon and chosen not in (Inception, TorchScript):
        raise OverrideError(f"--features {quoted(text)}: {tag} takes no file; settings look like features.seed=1")
    if not file and (chosen is TorchScript or colon):
        raise OverrideError(f"--features {tag}: name the file too, as in --features {tag}:net.pt")
    return [Override("features", tag), *([Override("features.file", file)] if colon else [])]
