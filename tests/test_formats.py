"""The catalog of formats: short names, and the levels of the range format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsweep.errors import UserError
from qsweep.formats import BITWIDTH, FAMILIES, SCALE, ZERO, Float32, Range, make, parameters_of, parse, split_name
from qsweep.parameters import BadValueError


@pytest.mark.parametrize(
    ("text", "family", "parameters"),
    [
        ("float32", "float32", {}),
        ("range", "range", {}),
        ("range4", "range", {"bitwidth": 4}),
        ("range16", "range", {"bitwidth": 16}),
    ],
)
def test_split_name_gives_family_and_what_it_sets(text: str, family: str, parameters: dict[str, int]) -> None:
    assert split_name(text) == (family, parameters)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rang4", "unknown format 'rang4'; did you mean 'range'? (one of: float32, range)"),
        ("float16", "did you mean 'float32'?"),
        ("float324", "unknown format 'float324'"),
        ("", "unknown format ''"),
        ("Range4", "unknown format 'Range4'"),
        ("range 4", "unknown format 'range 4'"),
        ("range-4", "unknown format 'range-4'"),
        ("range٤", "unknown format"),
        ("range0", "found 0, expected an integer from 1 to 16"),
        ("range17", "found 17, expected an integer from 1 to 16"),
        ("range" + "9" * 5000, "unknown format 'range999"),
    ],
)
def test_split_name_of_no_format_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadValueError) as caught:
        split_name(text)
    assert message in str(caught.value)


@given(st.integers(1, 16))
def test_parse_reads_back_every_name(bitwidth: int) -> None:
    assert parse(Range(bitwidth).name) == Range(bitwidth)


def test_parse_float32() -> None:
    assert parse("float32") == Float32()
    assert Float32().name == "float32"


@pytest.mark.parametrize(
    ("text", "message"), [("range", "needs a bitwidth, as in 'range4'"), ("fp9", "unknown format")]
)
def test_parse_of_what_is_no_whole_format_is_the_users_to_mend(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(text)


def test_make_takes_what_the_family_has() -> None:
    assert make("range", {"bitwidth": 3, "scale": 2.0, "rounding": "nearest", "format": "range"}) == Range(3, 2.0)
    assert make("float32", {"bitwidth": 3}) == Float32()


def test_families_declare_their_parameters() -> None:
    assert parameters_of("range") == (BITWIDTH, SCALE, ZERO)
    assert parameters_of("float32") == parameters_of("none such") == ()
    assert all(cls.family == name for name, cls in FAMILIES.items())


@pytest.mark.parametrize(
    ("fmt", "levels"),
    [
        (Range(1), [-1, 0]),
        (Range(2), [-1, -0.5, 0, 0.5]),
        (Range(3, scale=2.0), [-0.5, -0.375, -0.25, -0.125, 0, 0.125, 0.25, 0.375]),
    ],
)
def test_range_levels_are_those_of_the_document(fmt: Range, levels: list[float]) -> None:
    assert [k * fmt.step for k in range(fmt.lowest, fmt.highest + 1)] == levels


@given(st.integers(1, 16), st.sampled_from([1.0, 2.0, 3.0, 10.0, 0.3, 7.0]))
def test_range_spans_one_over_scale_without_the_upper_end(bitwidth: int, scale: float) -> None:
    fmt = Range(bitwidth, scale)
    assert fmt.highest - fmt.lowest + 1 == 2**bitwidth
    assert fmt.lowest / fmt.steps_per_unit == -1 / scale
    assert fmt.highest / fmt.steps_per_unit < 1 / scale
