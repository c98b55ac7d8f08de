"""Calibration as a table and in words, for consoles, notebooks, plots and pages."""

from ncsnx.inverse.posterior.calibration import Calibration, Interval
from ncsnx.quantities import counted, percent

CALIBRATION_TITLES = ("central", "expected", "truths inside")


def calibration_rows(calibration: Calibration) -> list[tuple[str, str, str]]:
    """A row of cells for each interval, under `CALIBRATION_TITLES`."""
    return [_row(interval) for interval in calibration.intervals]


def compared_in_words(calibration: Calibration) -> str:
    """Compared values in words: '128 values of 2 pictures, 40 alternatives of each'."""
    values, pictures = counted(calibration.values, "value"), counted(calibration.pictures, "picture")
    return f"{values} of {pictures}, {counted(calibration.alternatives, 'alternative')} of each"


def calibration_in_words(calibration: Calibration) -> str:
    """Values that were compared and left out, and the origin of the errors, each on a line."""
    lines = [compared_in_words(calibration)]
    if calibration.left_out:
        lines.append(f"left out: {counted(calibration.left_out, 'value')} in which truth and alternatives are the same")
    if calibration.pictures > 1:
        lines.append("pixels of a picture are correlated, so errors come from the differences between pictures")
    elif calibration.values:
        lines.append("pixels of a picture are correlated, so one picture does not tell the error")
    return "\n".join(lines)


def _row(interval: Interval) -> tuple[str, str, str]:
    central = percent(interval.central)
    if interval.expected is None:
        return central, "", f"needs {counted(interval.least_alternatives, 'alternative')}"
    if interval.share is None:
        return central, _share(interval.expected), "nothing varies"
    error = "" if interval.error is None else f" ± {_share(interval.error)}"
    return central, _share(interval.expected), f"{_share(interval.share)}{error}"


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"
