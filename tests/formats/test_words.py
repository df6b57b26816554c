"""Word lengths: they hold every result, and no shorter word does."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import qsweep
from qsweep.formats.names import parse
from qsweep.formats.words import BIT, SIGN, TERNARY, Word, as_fixed, fixed, floating, power, product, total

SMALL = st.integers(-20, 20)
FIXED = st.builds(lambda a, b, f: fixed(min(a, b), max(a, b), f), SMALL, SMALL, st.integers(-3, 3))
POWERS = st.builds(
    lambda low, span, sign: power(low, low + span, 4, sign), st.integers(-4, 4), st.integers(0, 4), st.booleans()
)
WORDS = st.one_of(FIXED, POWERS, st.sampled_from([SIGN, TERNARY, BIT]))


def values(word: Word) -> list[float]:
    """All values, one by one."""
    if word.kind == "sign":
        return [-1.0, 1.0]
    if word.kind == "power":
        powers = [2.0**e for e in range(word.lowest, word.highest + 1)]
        return [-p for p in powers if word.is_signed] + powers
    return [k * 2.0**-word.fraction for k in range(word.lowest, word.highest + 1)]


def holds(word: Word, value: float) -> bool:
    """Whether two's complement, or an unsigned integer, of the word's width has a value."""
    k = value * 2.0**word.fraction
    low, high = (-(2 ** (word.bits - 1)), 2 ** (word.bits - 1) - 1) if word.is_signed else (0, 2**word.bits - 1)
    return k.is_integer() and low <= k <= high


@given(WORDS, WORDS)
def test_a_product_holds_every_product_and_is_as_short_as_possible(a: Word, b: Word) -> None:
    found = as_fixed(product(a, b))
    results = [x * y for x, y in itertools.product(values(a), values(b))]
    assert all(holds(found, result) for result in results)
    assert min(results) == found.lowest * 2.0**-found.fraction
    assert max(results) == found.highest * 2.0**-found.fraction


@given(WORDS, st.integers(1, 3), st.none() | WORDS)
def test_a_total_holds_every_sum(term: Word, count: int, bias: Word | None) -> None:
    found = total(term, count, bias)
    ends = [min(values(term)), max(values(term))]
    sums = [sum(terms) for terms in itertools.product(ends, repeat=count)]
    biases = [0.0] if bias is None else [min(values(bias)), max(values(bias))]
    results = [one + other for one in sums for other in biases]
    assert all(holds(found, result) for result in results)
    assert min(results) == found.lowest * 2.0**-found.fraction
    assert max(results) == found.highest * 2.0**-found.fraction


def test_results_with_a_float_are_as_wide_as_the_widest_float() -> None:
    assert product(floating(16), fixed(-8, 7)) == floating(16)
    assert product(floating(16), floating(32)) == floating(32)
    assert total(floating(16), 100, floating(32)) == floating(32)
    assert total(fixed(-8, 7), 100, floating(16)) == floating(16)


@pytest.mark.parametrize(
    ("word", "bits"), [(fixed(0, 0), 1), (fixed(0, 1), 1), (fixed(0, 8), 4), (fixed(-1, 0), 1), (fixed(-8, 7), 4),
                       (fixed(-9, 7), 5), (fixed(-8, 8), 5)],
)  # fmt: skip
def test_a_fixed_word_is_as_short_as_possible(word: Word, bits: int) -> None:
    assert word.bits == bits


NAMES = [
    *("range4", "range1", "fixed8f7", "fixed8f2", "fixed4f-2", "quantized_bits(4,0,1)", "quantized_bits(8,3,0)"),
    *(
        "quantized_bits(1,0,1)",
        "quantized_bits(4,1,0,keep_negative=false)",
        "quantized_relu(3,1)",
        "quantized_relu(4,0)",
    ),
    *("quantized_relu(4,1,negative_slope=0.25)", "quantized_po2(4,1)", "quantized_po2(4,8)", "quantized_po2(3)"),
    *("quantized_relu_po2(4,4)", "quantized_relu_po2(3,1)", "qkeras_binary", "qkeras_binary(true)", "qkeras_ternary"),
    *(
        "stochastic_binary",
        "bernoulli",
        "binary scaling=1",
        "ternary scaling=1",
        "po2_4 scaling=1",
        "uniform4 scaling=7 symmetric=true",
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_formats_word_holds_all_that_rounding_returns(name: str) -> None:
    word = parse(name).word
    assert word is not None
    x = torch.cat([torch.linspace(-300, 300, 4001), torch.linspace(-2, 2, 4001), torch.tensor([0.0])])
    found = sorted(set(qsweep.quantize(x, name).tolist()))
    own = set(values(word)) | ({0.0} if name.startswith("po2_") else set())
    assert set(found) <= own
    assert len(found) >= min(len(own) - 1, 6)


@pytest.mark.parametrize("name", ["fraction8", "kmeans8"])
def test_formats_whose_width_depends_on_the_values_have_no_word(name: str) -> None:
    assert parse(name).word is None


@pytest.mark.parametrize(("name", "bits"), [("float32", 32), ("bf16", 16), ("e4m3", 8), ("mxfp4", 4), ("nvfp4", 4)])
def test_floating_point_has_a_word_of_its_width(name: str, bits: int) -> None:
    assert parse(name).word == floating(bits)
