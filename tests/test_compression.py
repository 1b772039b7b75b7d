"""What a recipe compresses, and what goes at least as far."""

import pytest
from pydantic import ValidationError

from bench.compression import Compression
from bench.recipe_words import listed_names, spell


def of(words):
    return Compression.of_steps(spell(words)[1])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("none", "none"),
        ("advft", "none"),
        ("prune50", "channels \u221250 %"),
        ("sparse90-ft", "sparse 90 %"),
        ("nm24", "sparse 50 %"),
        ("lowrank30", "low rank \u221230 %"),
        ("quant1w", "W1A8"),
        ("prune50-quant8-advft", "channels \u221250 % + W8A8"),
    ],
)
def test_a_recipe_says_what_it_compresses(words, text):
    assert str(of(words)) == text


def test_every_listed_recipe_has_a_compression_at_least_as_strong_as_itself():
    for name in listed_names():
        assert of(name).at_least(of(name))
        assert "other" not in of(name).kinds


def test_at_least_means_the_same_kind_and_every_level():
    assert of("sparse99").at_least(of("sparse90"))
    assert not of("sparse80").at_least(of("sparse90"))
    assert not of("prune90").at_least(of("sparse90"))
    assert not of("prune90-quant8").at_least(of("prune90"))
    assert of("quant4").at_least(of("quant8"))
    assert not of("quant8").at_least(of("quant4"))
    binary = Compression(kinds=("unstructured", "quantised"), sparsity=0.99, weight_bits=1)
    assert not binary.at_least(of("sparse90-quant1w"))  # its activations are floats
    assert not Compression(kinds=("unstructured",)).at_least(of("sparse10"))


def test_unknown_steps_compare_with_nothing():
    foreign = Compression.of_steps([{"step": "ours/magic"}])
    assert foreign.kinds == ("other",)
    assert not foreign.at_least(foreign)
    assert Compression.of_steps([{"step": "prune-channels", "ratio": "half"}]).kinds == ("other",)


def test_kinds_stand_in_one_order():
    with pytest.raises(ValidationError, match="each kind once, in the order"):
        Compression(kinds=("quantised", "structured"))


@pytest.mark.parametrize(
    ("words", "levels", "precision"),
    [
        ("none", {}, "float32"),
        ("quant1w", {"quantised": 1}, "W1A8"),
        ("nm24", {"unstructured": 0.5}, "float32"),
        ("lowrank50-ft", {"low-rank": 0.5}, "float32"),
        ("prune30-quant4-advft", {"structured": 0.3, "quantised": 4}, "W4A4"),
    ],
)
def test_levels_and_precision_of_the_usual_recipes(words, levels, precision):
    assert (of(words).levels, of(words).precision) == (levels, precision)


def test_what_is_quantised_to_unknown_bits_is_not_float():
    assert Compression(kinds=("quantised",)).precision == "quantised"
    assert Compression(kinds=("quantised",), weight_bits=1).precision == "W1"
    assert Compression.of_steps([{"step": "ours/magic"}]).levels == {}
