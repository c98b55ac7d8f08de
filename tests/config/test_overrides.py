"""Overrides: parsed by the declared type, in any order, variants first; and questions about fields."""

import pytest

from ncsnx import config
from ncsnx.config import NCSNv2
from ncsnx.config.codec import flatten, identifying_paths
from ncsnx.config.converter import unstructure
from ncsnx.config.field_facts import all_facts, answer
from ncsnx.config.overrides import OverrideError, apply_overrides, apply_sampler_overrides, parse_overrides
from tests.config.examples import every_variant, minimal


def changed(*words: str, experiment: config.Experiment | None = None) -> config.Experiment:
    return apply_overrides(experiment or minimal(), parse_overrides(list(words)))


def test_variants_come_first_whatever_the_order() -> None:
    words = ["optimizer.momentum=0.8", "steps=50k", "optimizer=sgd", "model.width=64"]
    for order in (words, words[::-1]):
        experiment = changed(*order)
        assert experiment.optimizer == config.SGD(momentum=0.8)
        assert (experiment.steps, experiment.model.width) == (50_000, 64)


def test_a_swap_starts_from_the_defaults_of_the_new_variant() -> None:
    ncsnv2 = every_variant()["ncsnv2"]
    assert changed("model=ncsnv2-deeper", experiment=ncsnv2).model == config.NCSNv2Deeper()
    assert changed("optimizer=adam", experiment=every_variant()["cifar10"]).optimizer == config.Adam()


def test_a_swap_keeps_what_has_no_default_in_both() -> None:
    assert changed("schedule=uniform").schedule == config.Uniform(sigma_max=5.0, levels=24)
    with pytest.raises(
        OverrideError,
        match=r"data.category: is required by lsun, but missing; data.image_size: .*add them: data.category=…",
    ):
        changed("data=lsun")


def test_a_variant_within_a_variant_that_was_just_put_in_its_place_can_be_changed_too() -> None:
    experiment = changed("sampler.grid.sigma_max=3", "sampler=heun", "sampler.churn=20")
    assert experiment.sampler == config.Heun(churn=20.0, grid=config.Karras(sigma_max=3.0))
    experiment = changed("sampler.grid.sigma_min=0.05", "sampler.grid=exponential", "sampler=cas")
    assert experiment.sampler == config.ConsistentAnnealed(grid=config.Exponential(sigma_min=0.05))
    with pytest.raises(OverrideError, match=r"grid\.rho: no such field in exponential; there is sampler\.grid\.sigma"):
        changed("sampler=cas", "sampler.grid=exponential", "sampler.grid.rho=3")


@pytest.mark.parametrize(
    ("word", "steps"), [("500", 500), ("50K", 50_000), ("1.1M", 1_100_000), ("4.35k", 4_350), ("150_000", 150_000)]
)
def test_whole_numbers_may_be_short(word: str, steps: int) -> None:
    assert changed(f"steps={word}").steps == steps


@pytest.mark.parametrize(
    "word", ["1.5", "0.0005k", "1e3", "5 k", "k", "", "1__0", "0x10", "٣", "50kk", "1.0", "9" * 5000]
)
def test_what_is_no_whole_number_is_refused_as_one(word: str) -> None:
    with pytest.raises(OverrideError, match=r"^steps: expected a whole number such as 500, 50k or 1.5M, found '"):
        changed(f"steps={word}")


@pytest.mark.parametrize(("word", "lr"), [("1", 1.0), ("1e-4", 1e-4), (".5", 0.5), ("1.", 1.0), ("1_0.5E+1", 105.0)])
def test_numbers_are_read_as_python_reads_them(word: str, lr: float) -> None:
    found = changed(f"optimizer.lr={word}").optimizer.lr
    assert (found, type(found)) == (lr, float)


def test_text_may_hold_equals_signs_spaces_and_nothing() -> None:
    assert changed("note=a = b").note == "a = b"
    assert changed("note=", experiment=every_variant()["cifar10"]).note == ""


def test_none_switches_a_part_off_and_a_field_of_it_on_again() -> None:
    assert changed("ema=none", "snapshots=none", "clip_norm=none").ema is None
    assert changed("clip_norm=None", experiment=every_variant()["cifar10"]).clip_norm is None
    experiment = changed("ema.rate=0.9", "snapshots.n=4", experiment=every_variant()["cifar10"])
    assert (experiment.ema, experiment.snapshots) == (config.Ema(rate=0.9), config.Snapshots(n=4))


def test_a_variant_that_may_be_missing_is_put_in_changed_and_taken_out() -> None:
    words = ("snapshots.sampler.steps=7", "snapshots.sampler=cas", "snapshots.n=4")
    experiment = changed(*words)
    assert experiment.snapshots == config.Snapshots(n=4, sampler=config.ConsistentAnnealed(steps=7))
    swapped = changed("snapshots.sampler=heun", experiment=experiment)
    assert swapped.snapshots == config.Snapshots(n=4, sampler=config.Heun())
    assert changed("snapshots.sampler=none", experiment=experiment).snapshots == config.Snapshots(n=4)
    with pytest.raises(OverrideError, match=r"sampler.steps: no such field, since snapshots.sampler is none$"):
        changed("snapshots.sampler.steps=7", "snapshots.n=4")
    with pytest.raises(OverrideError, match=r"snapshots.sampler: expected one of ald, cas.* did you mean 'cas'"):
        changed("snapshots.sampler=cass")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["steps"], "'steps': expected FIELD=VALUE, such as steps=50k or optimizer.lr=1e-4$"),
        (["=5"], "'=5': expected FIELD=VALUE"),
        (["steps=1", "steps=2"], "steps: given twice, as '1' and '2'; give it once"),
        (["stepz=1"], "stepz: no such field in Experiment; did you mean steps?"),
        (["lr=1"], r"lr: no such field in Experiment; did you mean optimizer.lr\?$"),
        (["optimzer.lr=1"], r"optimzer.lr: no such field in Experiment; did you mean optimizer.lr\?$"),
        (["optimizer.betal=0"], r"optimizer.betal: no such field in adam; did you mean optimizer.beta"),
        (["optimizer.momentum=0"], "no such field in adam; there is optimizer.lr, optimizer.weight_decay"),
        (["sampler.grid.rho=3"], "sampler.grid.rho: no such field in ald; there is sampler.step_size, "),
        (["steps.x=1"], "steps.x: steps is a single value without fields"),
        (["loss=2"], "loss: expected one of score-matching, consistency, found '2'"),
        (["ema=2"], "ema: is a group of fields; set ema.rate=…, or ema=none$"),
        (["ema=none", "ema.rate=0.9"], "ema.rate: cannot be combined with ema=none; give only one of them"),
        (["optimizer=adamw"], "optimizer: expected one of adam, rmsprop, sgd, found 'adamw'; did you mean 'adam'?"),
        (["precision=fp16"], "precision: expected one of fp32, tf32, bf16, found 'fp16'; did you mean 'bf16'?"),
        (["sampler.denoise=yes"], "sampler.denoise: expected true or false, found 'yes'"),
        (["optimizer.lr=fast"], "optimizer.lr: expected a finite number such as 0.8 or 1e-4, found 'fast'"),
        (["optimizer.lr=1e999"], "optimizer.lr: expected a finite number, found number inf"),
        (["optimizer.lr=-1"], r"optimizer.lr: must be a finite number > 0, not -1.0$"),
        (["steps=-5", "seed=3"], r"steps: must be between 1 and 1,000,000,000, not -5$"),
        (["seed=4294967296"], "seed: must be between 0 and 4,294,967,295, not 4,294,967,296"),
        (["accumulation=3"], "accumulation: must divide batch_size=128, which 3 does not"),
        (
            ["model=unet", "augmentation.probability=0.1", "data.random_flip=true"],
            "augmentation: mirrors images, and tells the network; set data.random_flip=false",
        ),
        (["schedule.sigma_min=9"], "schedule.sigma_max: must be above sigma_min=9.0, which 5.0 is not$"),
        (["ema.rate=1"], "ema.rate: must be at least 0 and below 1, not 1.0"),
        (["name=../x"], "name: must be 1 to 100 of the characters .*, not '../x'"),
        (["note=a\nb"], r"note: must be one line of printable text, not 'a\\nb'"),
        (["data=cifar10", "data.root=\udc80"], "data.root: must be one line of printable text"),
        (["data=lsun", "data.category=a/b", "data.image_size=8"], "data.category: must be 1 to 64 letters, digits"),
    ],
)
def test_every_complaint_names_the_path_what_was_given_and_what_is_accepted(words: list[str], message: str) -> None:
    with pytest.raises(OverrideError, match=message) as caught:
        changed(*words)
    assert caught.value.exit_code == 2


def test_all_that_is_wrong_with_several_overrides_is_told() -> None:
    with pytest.raises(OverrideError, match=r"optimizer.lr: must be .*; ema.rate: must be "):
        changed("optimizer.lr=-1", "ema.rate=2", "batch_size=64")


def test_a_trained_run_can_change_its_sampler_only() -> None:
    own = minimal().sampler
    sampler = apply_sampler_overrides(own, parse_overrides(["sampler.steps_per_level=2", "sampler.denoise=false"]))
    assert (sampler.steps_per_level, sampler.denoise) == (2, False)  # type: ignore[attr-defined]
    for typed, such in (("steps=5", "sampler.denoise=false"), ("step_size=2e-5", "sampler.step_size=2e-5")):
        with pytest.raises(
            OverrideError, match=f"cannot change in a trained run; only the sampler can, such as {such}$"
        ):
            apply_sampler_overrides(own, parse_overrides([typed]))


def test_an_experiment_has_a_fact_with_a_docstring_for_each_of_its_values() -> None:
    experiment = minimal()
    facts = {fact.path: fact for fact in all_facts()}
    values = dict(flatten(unstructure(experiment)))
    assert values.keys() <= facts.keys()
    assert [fact for fact in all_facts() if not fact.text] == []
    # outside the identity at their defaults
    newer = {"data.sigma_data", "data.noise", "data.gain", "augmentation", "decay", "initial_weights", "loss.weighting"}
    assert {path for path in values if facts[path].identity} - newer == identifying_paths(experiment)


def test_a_fact_has_the_default_and_what_the_check_accepts() -> None:
    width = next(fact for fact in all_facts() if (fact.path, fact.of) == ("model.width", "ncsnv2"))
    assert (width.type, width.default) == ("a whole number", str(NCSNv2().width))
    assert width.accepted == "between 1 and 16,384"


def test_a_field_that_differs_between_variants_is_described_for_each() -> None:
    text = "\n".join(answer("sampler.eta"))
    assert "sampler.eta (with sampler=cas)" in text
    assert "sampler.eta (with sampler=dpmpp-sde)" in text
