"""The values of an axis."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsweep.parameter import BadValueError
from qsweep.spec.axes import MAX_VALUES, values

NUMBERS = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))


@pytest.mark.parametrize(
    ("given_axis", "expected"),
    [
        ([0.1, "a", None], [0.1, "a", None]),
        ({"range": [8, 1]}, [8, 7, 6, 5, 4, 3, 2, 1]),
        ({"range": [1, 3]}, [1, 2, 3]),
        ({"range": [5, 5]}, [5]),
        ({"range": [-1, 1]}, [-1, 0, 1]),
        ({"range": [10, 4, 3]}, [10, 7, 4]),
        ({"range": [0, 1, 0.1]}, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        ({"range": [0.3, 0.1, 0.1]}, [0.3, 0.2, 0.1]),
        ({"range": [1.5, 3.5]}, [1.5, 2.5, 3.5]),
        ({"range": [10**15, 10**15 + 2]}, [10**15, 10**15 + 1, 10**15 + 2]),
        ({"pow2": [0, -2]}, [1, 0.5, 0.25]),
        ({"pow2": [5, 9, 2]}, [32, 128, 512]),
        ({"linspace": [0, 1, 5]}, [0, 0.25, 0.5, 0.75, 1]),
        ({"linspace": [1, 0, 3]}, [1, 0.5, 0]),
        ({"linspace": [-0.1, 0.5, 7]}, [-0.1, 0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"linspace": [0, 1, 4]}, [0, 0.333333333333, 0.666666666667, 1]),
        ({"logspace": [-4, -1, 4]}, [0.0001, 0.001, 0.01, 0.1]),
        ({"logspace": [0, 1, 3]}, [1, 3.16227766017, 10]),
    ],
)
def test_values_are_those_of_the_spec(given_axis: object, expected: list[object]) -> None:
    assert values(given_axis) == expected


def test_range_of_integers_has_integers() -> None:
    assert {type(v) for v in values({"range": [8, 1]})} == {int}


def test_pow2_is_exact() -> None:
    assert values({"pow2": [-19, -19]}) == [math.ldexp(1, -19)]
    assert values({"pow2": [1000, -1000, 500]}) == [math.ldexp(1, e) for e in (1000, 500, 0, -500, -1000)]


def test_pow2_from_one_up_has_integers_for_layer_widths() -> None:
    assert [type(v) for v in values({"pow2": [-1, 1]})] == [float, int, int]


def test_linspace_has_the_numbers_that_another_spec_would_write() -> None:
    assert values({"linspace": [0, 1, 11]})[3] == 0.3


@given(NUMBERS, NUMBERS, st.integers(2, 200))
def test_linspace_has_exact_ends_and_even_steps(first: float, last: float, count: int) -> None:
    found = values({"linspace": [first, last, count]})
    assert (found[0], found[-1], len(found)) == (first, last, count)
    assert found == sorted(found, reverse=last < first)
    step = (Fraction(str(last)) - Fraction(str(first))) / (count - 1)
    assert all(math.isclose(v, float(Fraction(str(first)) + i * step), rel_tol=1e-11) for i, v in enumerate(found))


@given(st.integers(-(10**9), 10**9), st.integers(0, 300), st.integers(1, 10**6), st.sampled_from([1, 10, 1000]))
def test_range_has_both_ends_and_equal_steps(first: int, parts: int, step: int, unit: int) -> None:
    for sign in (1, -1):
        ends = [first / unit, (first + sign * parts * step) / unit, step / unit]
        found = values({"range": [*ends[:2], ends[2]]})
        assert (found[0], found[-1], len(found)) == (ends[0], ends[1], parts + 1)
        assert all(math.isclose(v, (first + sign * i * step) / unit, rel_tol=1e-11) for i, v in enumerate(found))


@given(st.floats(-300, 300), st.floats(-300, 300), st.integers(2, 50))
def test_logspace_is_positive_and_in_order(first: float, last: float, count: int) -> None:
    found = values({"logspace": [first, last, count]})
    assert len(found) == count
    assert min(found) > 0
    assert found == sorted(found, reverse=last < first)


@pytest.mark.parametrize(
    ("given_axis", "message"),
    [
        ([], "the axis has no values, so the grid is empty"),
        (0.1, "found 0.1, expected a list of values or a generator"),
        ("0.1, 0.2", "expected a list of values or a generator"),
        (None, "found null"),
        ({}, "unknown generator ''"),
        ({"rnage": [1, 2]}, "did you mean 'range'?"),
        ({"range": [1, 2], "pow2": [1, 2]}, "unknown generator 'range, pow2'"),
        ({"range": [1]}, "expected [first, last] or [first, last, step]"),
        ({"range": [1, 2, 3, 4]}, "expected [first, last] or [first, last, step]"),
        ({"range": 5}, "found 5, expected [first, last]"),
        ({"range": ["a", 2]}, 'found ["a", 2]'),
        ({"range": [False, 3]}, "found [false, 3]"),
        ({"range": [1, 5, 0]}, "expected one above 0"),
        ({"range": [5, 1, -1]}, "the direction follows from first and last"),
        ({"range": [1, 10, 4]}, "steps of 4 from 1 do not reach 10: both ends are included"),
        ({"range": [0, 1, 0.3]}, "do not reach 1"),
        ({"range": [1e308, -1e308]}, f"at most {MAX_VALUES:,}"),
        ({"range": [0, 1, 5e-324]}, f"at most {MAX_VALUES:,}"),
        ({"range": [1, 10**299]}, f"at most {MAX_VALUES:,}"),
        ({"range": [0, 10_000_000]}, "10,000,001 values: at most 100,000"),
        ({"pow2": [0, 1.5]}, "integer exponents of 2"),
        ({"pow2": [0, 5000]}, "integer exponents of 2"),
        ({"pow2": [0, -3, 2]}, "do not reach -3"),
        ({"linspace": [0, 1]}, "expected [first, last, count]"),
        ({"linspace": [0, 1, 2.5]}, "found a count of 2.5"),
        ({"linspace": [0, 1, 1]}, "expected an integer from 2"),
        ({"linspace": [0, 1, 10**7]}, "10,000,000 values: at most 100,000"),
        ({"logspace": [0, 301, 3]}, "exponents of 10 from -300 to 300"),
    ],
)
def test_values_of_a_wrong_axis_are_refused(given_axis: object, message: str) -> None:
    with pytest.raises(BadValueError) as caught:
        values(given_axis)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


def test_linspace_between_the_largest_numbers_does_not_overflow() -> None:
    assert values({"linspace": [-1.7e308, 1.7e308, 3]}) == [-1.7e308, 0, 1.7e308]
