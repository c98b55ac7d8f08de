"""Charts: axes, ticks, points that are kept and points that can't be drawn."""

import math

import pytest

from ncsnx.report.chart import Chart, ChartPoint, Series, thinned_steps


def chart(*values: float, log_y: bool | None = None, error: float | None = None) -> Chart:
    points = tuple(ChartPoint(step, value, error) for step, value in enumerate(values, start=1))
    return Chart("Losses", "step", "loss", (Series("run", points, marks=True),), log_y=log_y)


@pytest.mark.parametrize("value", [1e-3, 5.0, -2.0, 1e8])
def test_equal_values_get_an_axis_of_their_own_size(value: float) -> None:
    drawn = chart(value, value, value)

    labels = [float(tick.label.replace("−", "-").replace(",", "").rstrip("M")) for tick in drawn.y_ticks]
    size = value / 1e6 if drawn.y_ticks[0].label.endswith("M") else value
    assert len(labels) >= 2
    assert all(abs(label - size) <= 0.06 * abs(size) for label in labels)


def test_zeros_have_an_axis() -> None:
    assert any(tick.label == "0" for tick in chart(0.0, 0.0).y_ticks)


def test_values_over_a_decade_get_a_logarithmic_axis() -> None:
    assert [tick.label for tick in chart(0.01, 0.1, 1.0).y_ticks] == ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]
    distances = [tick.place for tick in chart(0.01, 0.1, 1.0).y_ticks][::3]
    assert distances[0] - distances[1] == pytest.approx(distances[1] - distances[2], abs=0.2)


def test_what_has_no_place_is_not_drawn() -> None:
    drawn = chart(1.0, math.nan, math.inf, 3.0)

    assert len(drawn.shapes[0].dots) == 2
    assert "2 values" in drawn.description
    assert chart(math.nan).is_empty
    assert len(chart(-1.0, 0.0, 2.0, log_y=True).shapes[0].dots) == 1


def test_error_bars_stay_within_the_axes() -> None:
    drawn = chart(1.0, 50.0, error=2.0)  # 1 − 2 has no place on a logarithmic axis

    box = drawn.box
    ends = [float(part) for bar in drawn.shapes[0].bars.split("M")[1:] for part in bar.split(" ")[1].split("V")]
    assert len(ends) == 4
    assert all(box["top"] <= end <= box["bottom"] for end in ends)


def test_of_many_points_the_peaks_are_kept() -> None:
    values = [1.0 + 0.001 * (step % 7) for step in range(50_000)]
    values[31_337] = 9.0
    drawn = chart(*values, log_y=False)

    assert len(drawn.shapes[0].dots) <= 400
    assert min(float(y) for _, y, _ in drawn.shapes[0].dots) == pytest.approx(
        drawn.box["top"] + 0.05 / 1.1 * (drawn.box["bottom"] - drawn.box["top"]), abs=0.2
    )


@pytest.mark.parametrize(("count", "most"), [(0, 4), (3, 4), (4, 4), (5, 4), (1_000, 16)])
def test_thinned_steps_keep_the_first_and_the_last(count: int, most: int) -> None:
    found = thinned_steps(count, most)

    assert len(found) == min(count, most)
    assert found == sorted(set(found))
    assert not found or (found[0], found[-1]) == (0, count - 1)
