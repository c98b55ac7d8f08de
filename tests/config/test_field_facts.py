"""Every field says its type, default, accepted values, docstring and identity, from its declaration alone."""

from ncsnx.config import NCSNv2, Sampler
from ncsnx.config.codec import flatten, identifying_paths
from ncsnx.config.converter import unstructure
from ncsnx.config.field_facts import all_facts, answer
from ncsnx.config.variants import variants
from tests.config.examples import minimal


def test_an_experiment_has_a_fact_with_a_docstring_for_each_of_its_values() -> None:
    experiment = minimal()
    facts = {fact.path: fact for fact in all_facts()}
    values = dict(flatten(unstructure(experiment)))
    assert values.keys() <= facts.keys()
    assert [fact for fact in all_facts() if not fact.text] == []
    newer = {"data.sigma_data", "augmentation", "decay", "loss.weighting"}  # outside the identity at their defaults
    assert {path for path in values if facts[path].identity} - newer == identifying_paths(experiment)


def test_a_fact_has_the_default_and_what_the_check_accepts() -> None:
    width = next(fact for fact in all_facts() if (fact.path, fact.of) == ("model.width", "ncsnv2"))
    assert (width.type, width.default) == ("a whole number", str(NCSNv2().width))
    assert width.accepted == "between 1 and 16,384"


def test_a_question_about_a_family_has_a_line_for_each_variant() -> None:
    lines = answer("sampler")
    for tag, cls in variants(Sampler).items():
        assert cls.__doc__ is not None
        beginning = cls.__doc__.split()[0]
        assert any(line.split()[:2] == [tag, beginning] for line in lines), tag


def test_a_field_that_differs_between_variants_is_described_for_each() -> None:
    text = "\n".join(answer("sampler.eta"))
    assert "sampler.eta (with sampler=cas)" in text
    assert "sampler.eta (with sampler=dpmpp-sde)" in text
