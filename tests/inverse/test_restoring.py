"""The values in which restored pictures are summarized."""

import pytest

from ncsnx.config import Digits
from ncsnx.errors import NcsnxError
from ncsnx.inverse.restoring import own_values
from ncsnx.inverse.values import ValueRange

MISSING = ValueRange(problem=NcsnxError("a.pack is missing"))


def test_maps_are_in_the_datas_own_values() -> None:
    warnings: list[str] = []
    found = own_values(Digits(), ValueRange(high=255.0), warnings.append)
    assert (found, warnings) == (ValueRange(low=0.0, high=255.0), [])


def test_values_that_are_not_at_hand_are_warned_of_and_need_not_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    assert own_values(Digits(), MISSING, warnings.append) == ValueRange()
    (warning,) = warnings
    assert warning == "posterior.safetensors will have values from 0 (black) to 1 (white): a.pack is missing"
    monkeypatch.setattr(Digits, "is_bounded", False, raising=False)
    with pytest.raises(NcsnxError, match="missing"):
        own_values(Digits(), MISSING, warnings.append)
