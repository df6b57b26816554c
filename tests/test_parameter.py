"""Parameters: checking values, and their canonical spelling."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from qsweep.parameter import ALWAYS, REQUIRED, BadValueError, Parameter, as_integers, check_each, listing, show

NUMBER = Parameter("lr", Annotated[float, Field(gt=0, allow_inf_nan=False)], "a number above 0", default=0.1)
COUNT = Parameter("epochs", Annotated[int, Field(ge=1, le=1000)], "an integer from 1 to 1000")
FLAG = Parameter("zero", bool, "true or false", default=True)
CHOICE = Parameter("rounding", Literal["nearest", "stochastic"], "nearest or stochastic", default="nearest")
WIDTHS = Parameter("hidden", Annotated[list[int], Field(min_length=1)], "a list of widths", default=[8])
PAIR = Parameter("betas", Annotated[list[float], Field(min_length=2, max_length=2)], "two numbers", default=None)


@pytest.mark.parametrize(
    ("parameter", "given_value", "value"),
    [
        (NUMBER, 1, 1.0),
        (NUMBER, 0.5, 0.5),
        (NUMBER, 1e300, 1e300),
        (COUNT, 32.0, 32),
        (COUNT, 1e3, 1000),
        (FLAG, False, False),
        (CHOICE, "stochastic", "stochastic"),
        (WIDTHS, [64.0, 32], [64, 32]),
        (PAIR, [0, 0.9], [0.0, 0.9]),
    ],
)
def test_check_returns_the_canonical_spelling(parameter: Parameter, given_value: object, value: object) -> None:
    assert repr(parameter.check(given_value)) == repr(value)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (NUMBER, 0),
        (NUMBER, "0.1"),
        (NUMBER, True),
        (NUMBER, None),
        (NUMBER, math.nan),
        (NUMBER, math.inf),
        (NUMBER, 10**400),
        (COUNT, 1.5),
        (COUNT, True),
        (COUNT, 1001),
        (COUNT, "3"),
        (COUNT, 1e300),
        (FLAG, 1),
        (FLAG, "true"),
        (CHOICE, "xyz"),
        (CHOICE, 3),
        (WIDTHS, []),
        (WIDTHS, [8, 1.5]),
        (WIDTHS, 8),
        (WIDTHS, [True]),
        (PAIR, [0.9]),
    ],
)
def test_check_wrong_value_reports_what_was_found_and_expected(parameter: Parameter, value: object) -> None:
    with pytest.raises(BadValueError) as caught:
        parameter.check(value)
    assert str(caught.value) == f"found {show(value)}, expected {parameter.expected}"


def test_check_negative_zero_is_zero() -> None:
    any_number = Parameter("x", float, "a number")
    assert math.copysign(1, any_number.check(-0.0)) == 1
    assert [math.copysign(1, v) for v in PAIR.check([-0.0, 0.5])] == [1, 1]


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_check_keeps_every_number_and_checking_twice_changes_nothing(value: float) -> None:
    checked = NUMBER.check(value)
    assert checked == value
    assert type(checked) is float
    assert NUMBER.check(checked) == checked


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists))
def test_as_integers_returns_an_equal_value(value: Any) -> None:
    assert as_integers(value) == value


def test_check_each_reports_all_mistakes_with_their_paths() -> None:
    def outer(name: str, value: Any) -> Any:
        return (
            check_each(value.items(), lambda _, v: NUMBER.check(v)) if isinstance(value, dict) else COUNT.check(value)
        )

    with pytest.raises(BadValueError) as caught:
        check_each({"a": {"b": 0, "c": 1}, "d": 0, "e": 5}.items(), outer)
    assert [path for path, _ in caught.value.mistakes] == [("a", "b"), ("d",)]


def test_check_each_keeps_order_and_names() -> None:
    assert check_each(enumerate([2, 1]), lambda _, v: NUMBER.check(v)) == [(0, 2.0), (1, 1.0)]


def test_json_schema_has_bounds_description_and_default() -> None:
    assert NUMBER.json_schema() == {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "a number above 0",
        "default": 0.1,
    }


@pytest.mark.parametrize("parameter", [COUNT, PAIR])
def test_json_schema_without_a_fixed_default_has_no_default(parameter: Parameter) -> None:
    assert "default" not in parameter.json_schema()


def test_show_writes_values_as_in_a_spec() -> None:
    assert [show(v) for v in (None, True, 0.5, "é", [1, 2])] == ["null", "true", "0.5", '"é"', "[1, 2]"]


def test_show_shortens_long_values() -> None:
    assert len(show(list(range(10_000)))) <= 60


def test_listing_keeps_order() -> None:
    assert list(listing([COUNT, NUMBER])) == ["epochs", "lr"]


def test_repr_of_markers_is_their_name() -> None:
    assert (repr(REQUIRED), repr(ALWAYS)) == ("REQUIRED", "ALWAYS")


@pytest.mark.parametrize(("given_value", "near"), [("stocastic", "stochastic"), ("Nearest", "nearest")])
def test_check_misspelt_choice_suggests_the_nearest(given_value: str, near: str) -> None:
    with pytest.raises(BadValueError, match=f"expected nearest or stochastic; did you mean '{near}'"):
        CHOICE.check(given_value)
