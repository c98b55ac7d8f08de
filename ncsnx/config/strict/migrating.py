"""Migration of a JSON object from an earlier version to the newest, before it is structured."""

from typing import Any

import attrs

from ncsnx.config.checks import quoted
from ncsnx.config.strict.complaints import NewerVersionError, StructureError, missing_key
from ncsnx.config.strict.fields import version_fields

# errors of a migration whose values don't have the form of the version that they claim
_WRONG_FORM = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError)


def migrated(values: dict[str, Any], cls: type) -> dict[str, Any]:
    """The object in the newest version that `cls` declares.

    Raises StructureError for an invalid version, and NewerVersionError for a version above the newest.
    """
    for field in version_fields(cls):
        values = _migrated(values, field, cls)
    return values


def _migrated(values: dict[str, Any], field: "attrs.Attribute[int]", cls: type) -> dict[str, Any]:
    key, newest, migrations, since = field.name, field.default, field.metadata["migrations"], field.metadata["since"]
    assert isinstance(newest, int)
    if key not in values and since == 1:
        raise StructureError([(key, missing_key(cls))])
    given, version = key in values, values.get(key, since - 1)
    if type(version) is not int or version < 1:
        raise StructureError([(key, f"expected a whole number from 1 on, found {quoted(version)}")])
    if version > newest:
        what = f"is {quoted(version)}, newer than this ncsnx reads ({newest})"
        raise NewerVersionError([(key, what)])
    for step in range(version, newest):
        if step not in migrations:
            raise StructureError([(key, f"expected {newest}, found {version}, which is no longer supported")])
        try:
            values = migrations[step](values)
        except _WRONG_FORM as error:
            said = f"is {version}" if given else f"is missing, which means {version}"
            lacks = f": {quoted(error.args[0])} is missing" if isinstance(error, KeyError) else ""
            what = f"{said}, but the other fields are not those of version {version}{lacks}"
            raise StructureError([(key, what)]) from error
    return {**values, key: newest}
