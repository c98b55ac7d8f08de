"""Settings of a parameter sweep have names that tell them apart and fit beside a plot."""

from ncsnx.jobs.parameter_sweep.sweep_comparison import SweepSetting


def name_of(values: dict[str, str]) -> str:
    return SweepSetting(values=values, points=(), states=(), spreads={}).name


def test_fields_of_equal_ends_are_told_apart() -> None:
    assert name_of({"model.width": "8", "optimizer.rate": "1", "ema.rate": "0.9"}) == (
        "width=8 optimizer.rate=1 ema.rate=0.9"
    )


def test_a_long_value_is_known_by_its_end() -> None:
    name = name_of({"data.path": "/home/somebody/pictures/of/a/project/second.npy"})
    assert name == "path=…of/a/project/second.npy"


def test_seeds_of_one_setting_have_a_name_too() -> None:
    assert name_of({}) == "all seeds"
