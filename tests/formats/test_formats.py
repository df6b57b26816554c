"""The catalog of formats: names that parse and parse back, what is refused and in which words, levels of `range`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsweep.errors import UserError
from qsweep.formats import (
    FAMILIES,
    MX,
    NVFP4,
    ROUNDINGS,
    SCALE,
    ZERO,
    Binary,
    Block,
    Fixed,
    Float,
    Float32,
    Format,
    KMeans,
    PowerOfTwo,
    Range,
    Ternary,
    Uniform,
    check_rounding,
    make,
    name_of,
    parameters_of,
    parse,
    spell,
    split_name,
)
from qsweep.formats.names import example_of
from qsweep.parameter import BadValueError

# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fmt"),
    [
        ("float32", Float32()),
        ("range4", Range(4)),
        ("range16 scale=2", Range(16, 2.0)),
        ("range4 zero=false scale=0.5", Range(4, 0.5, False)),
        ("fixed8f7", Fixed(8, 7)),
        ("fixed8f-2", Fixed(8, -2)),
        ("fixed(8,7)", Fixed(8, 7)),
        ("fixed(8, 7)", Fixed(8, 7)),
        ("fixed8f7 overflow=wrap", Fixed(8, 7, overflow="wrap")),
        ("fixed bitwidth=8 fraction=7", Fixed(8, 7)),
        ("e4m3", Float(4, 3)),
        ("e4m3 flavour=ieee saturate=true", Float(4, 3, "ieee", True)),
        ("e5m2 compat=qtorch", Float(5, 2, compat="qtorch")),
        ("float exponent=3 mantissa=2", Float(3, 2)),
        ("bf16", Float(8, 7)),
        ("fp16 saturate=true", Float(5, 10, saturate=True)),
        ("tf32", Float(8, 10)),
        ("block8", Block(8)),
        ("block4 per=16 axis=-2", Block(4, 16, -2)),
        ("mxfp8", MX("e4m3")),
        ("mxfp8_e5m2", MX("e5m2")),
        ("mxfp6", MX("e2m3")),
        ("mxfp6_e3m2 axis=0", MX("e3m2", 0)),
        ("mxfp4", MX("e2m1")),
        ("mxint8", MX("int8")),
        ("nvfp4", NVFP4()),
        ("nvfp4 tensor_scale=false", NVFP4(False)),
        ("uniform8 symmetric=true scaling=po2 per=channel", Uniform(8, True, "po2", "channel")),
        ("uniform4 scaling=2", Uniform(4, scaling=2.0)),
        ("po2_4", PowerOfTwo(4)),
        ("po2_4 zero=false scaling=0.25", PowerOfTwo(4, False, 0.25)),
        ("ternary threshold=0.5", Ternary(threshold=0.5)),
        ("binary scaling=po2", Binary("po2")),
        ("kmeans65536", KMeans(65536)),
    ],
)
def test_a_name_means_a_format(text: str, fmt: Format) -> None:
    assert parse(text) == fmt


AXIS = st.integers(-8, 7) | st.just("auto")
PER = st.sampled_from(["tensor", "channel"]) | st.integers(1, 64)
POSITIVE = st.floats(2.0**-60, 2.0**60)
POWERS = st.integers(-60, 60).map(lambda e: 2.0**e)
SCALING = st.sampled_from(["computed", "po2"]) | POSITIVE
FORMATS = st.one_of(
    st.just(Float32()),
    st.builds(Range, st.integers(1, 16), POSITIVE, st.booleans()),
    st.builds(Fixed, st.integers(2, 24), st.integers(-96, 120), st.booleans()),
    st.builds(Fixed, st.integers(1, 24), st.integers(-96, 120), overflow=st.sampled_from(["wrap", "unbounded"])),
    st.builds(
        Float, st.integers(2, 7), st.integers(1, 23), st.sampled_from(["standard", "nan", "finite"]), st.booleans()
    ),
    st.builds(Float, st.integers(2, 8), st.integers(1, 23), compat=st.sampled_from(["none", "qtorch"])),
    st.builds(Block, st.integers(2, 24), PER, AXIS),
    st.builds(MX, st.sampled_from(["e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "int8"]), AXIS),
    st.builds(NVFP4, st.booleans(), AXIS),
    st.builds(Uniform, st.integers(2, 16), st.just(True), SCALING, PER, AXIS),
    st.builds(Uniform, st.integers(1, 16), st.just(False), st.just("computed") | POSITIVE, PER, AXIS),
    st.builds(PowerOfTwo, st.integers(2, 8), st.booleans(), st.just("computed") | POWERS, PER, AXIS),
    st.builds(Ternary, SCALING, st.just("computed") | st.floats(0, 2.0**60), PER, AXIS),
    st.builds(Binary, SCALING, PER, AXIS),
)


@given(FORMATS)
def test_names_parse_back(fmt: Format) -> None:
    assert parse(name_of(fmt)) == fmt


@pytest.mark.parametrize(
    ("fmt", "name"),
    [
        (Float(8, 7), "bf16"),
        (Float(5, 10, saturate=True), "fp16 saturate=true"),
        (Range(4, 1.0, False), "range4 zero=false"),
        (Fixed(8, -2), "fixed8f-2"),
        (MX("e4m3"), "mxfp8"),
        (MX("e3m2", 1), "mxfp6_e3m2 axis=1"),
        (Block(8, 32), "block8 per=32"),
        (PowerOfTwo(4), "po2_4"),
    ],
)
def test_a_name_says_what_is_not_by_default(fmt: Format, name: str) -> None:
    assert name_of(fmt) == name


def test_a_family_with_some_parameters_has_a_name_too() -> None:
    assert spell("range", {}) == "range"
    assert spell("range", {"bitwidth": 4, "scale": 8.0}) == "range4 scale=8.0"
    assert spell("fixed", {"fraction": 7}) == "fixed fraction=7"
    assert spell("mx", {"element": "e2m1"}) == "mxfp4"


@pytest.mark.parametrize(
    ("text", "family", "parameters"),
    [
        ("float32", "float32", {}),
        ("range", "range", {}),
        ("range4", "range", {"bitwidth": 4}),
        ("fixed8f-2 overflow=wrap", "fixed", {"bitwidth": 8, "fraction": -2, "overflow": "wrap"}),
        ("bf16", "float", {"exponent": 8, "mantissa": 7}),
        ("block per=16.0", "block", {"per": 16}),
        ("range4 scale=1e1", "range", {"bitwidth": 4, "scale": 10.0}),
    ],
)
def test_split_name_gives_family_and_what_it_sets(text: str, family: str, parameters: dict[str, Any]) -> None:
    assert split_name(text) == (family, parameters)


def test_split_name_takes_more_parameters_than_the_familys_own() -> None:
    assert split_name("e4m3 zero=true", [ZERO]) == ("float", {"exponent": 4, "mantissa": 3, "zero": True})


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rang4", "unknown format 'rang4'; did you mean 'range4'? (such as float32, range4, "),
        ("float16", "unknown format 'float16'; did you mean 'fp16'?"),
        ("mxpf8", "did you mean 'mxfp8'?"),
        ("nvpf4", "did you mean 'nvfp4'?"),
        ("ternery", "did you mean 'ternary'?"),
        ("bf6", "did you mean 'bf16'?"),
        ("float324", "unknown format 'float324'"),
        ("", "unknown format ''"),
        ("Range4", "unknown format 'Range4'; did you mean 'range4'?"),
        ("range-", "unknown format 'range-'"),
        ("fixed8", "unknown format 'fixed8'"),
        ("e4", "unknown format 'e4'"),
        ("range٤", "unknown format"),
        ("range" + "9" * 5000, "unknown format 'range999"),
        ("range0", "range0: bitwidth: found 0, expected an integer from 1 to 16"),
        ("range17", "range17: bitwidth: found 17, expected an integer from 1 to 16"),
        ("range-4", "found -4, expected an integer from 1 to 16"),
        ("fixed25f3", "bitwidth: found 25, expected an integer from 1 to 24"),
        ("fixed8f200", "fraction: found 200, expected an integer from -96 to 120"),
        ("e9m3", "exponent: found 9, expected an integer from 2 to 8"),
        ("e4m0", "mantissa: found 0, expected an integer from 1 to 23"),
        ("block25", "found 25, expected an integer from 1 to 24"),
        ("uniform17", "found 17, expected an integer from 1 to 16"),
        ("po2_9", "found 9, expected an integer from 2 to 8"),
        ("range 4", "found '4' after a format's name, expected parameters as in 'block8 per=32'"),
        (
            "range4 sclae=2",
            "'range4' has no parameter 'sclae'; did you mean 'scale'? (it has: bitwidth, scale, zero)",
        ),
        ("range4 bitwidth=4", "'range4' sets the bitwidth already"),
        ("range4 scale=0", "range4: scale: found 0, expected a number above 0"),
        ("range4 scale=x", 'found "x", expected a number above 0'),
        ("fixed8f7 overflow=warp", "did you mean 'wrap'?"),
        ("e4m3 flavour=iee", "did you mean 'ieee'?"),
        ("e4m3 saturate=yes", 'saturate: found "yes", expected true or false'),
        ("block8 per=0", "per: found 0, expected tensor, channel, or the number of values"),
        ("block8 axis=9", "axis: found 9, expected auto"),
        ("uniform4 scaling=-1", "scaling: found -1, expected computed, po2"),
        ("mxfp8 element=e2m1", "'mxfp8' sets the element already"),
        ("float32 bitwidth=8", "'float32' has no parameter 'bitwidth'"),
    ],
)
def test_a_name_of_no_format_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadValueError) as caught:
        split_name(text)
    assert message in str(caught.value)
    with pytest.raises(UserError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("range", "format 'range' needs a bitwidth, as in 'range4'"),
        ("fixed", "needs a bitwidth and a fraction, as in 'fixed8f7'"),
        ("float exponent=4", "needs a mantissa, as in 'e4m3'"),
        ("po2", "needs a bitwidth, as in 'po2_4'"),
        ("fp9", "unknown format"),
        ("fixed8f7 symmetric=true overflow=wrap", "a wrapping fixed point has all of its 2^W values"),
        ("fixed1f0 symmetric=true", "has no value but 0: it needs 2 bits"),
        ("fixed8f7 overflow=wrap compat=qtorch", "QPyTorch has no wrapping fixed point"),
        ("e4m3 flavour=ieee compat=qtorch", "leave out flavour and saturate"),
        ("e4m3 saturate=true compat=qtorch", "leave out flavour and saturate"),
        ("e8m3 flavour=nan", "8 exponent bits exceeds the range of float32"),
        ("bf16 flavour=finite", "8 exponent bits exceeds the range of float32"),
        ("block1", "block1 has no value but 0"),
        ("block8 per=16 compat=qtorch", "QPyTorch has no groups: per tensor or channel"),
        ("uniform4 scaling=po2", "needs symmetric: true"),
        ("uniform1 symmetric=true", "no value but 0"),
        ("po2_4 scaling=3", "po2 with scaling 3: it needs a power of two"),
        ("po2_4 scaling=po2", 'found "po2", expected computed or the largest magnitude'),
        ("kmeans100000", "kmeans100000: clusters: found 100000, expected an integer from 1 to 65536"),
        ("range12345678", "range12345678: bitwidth: found 12345678, expected an integer from 1 to 16"),
        (None, "format: found null, expected a name such as 'e4m3'"),
    ],
)
def test_parse_of_an_impossible_format_is_the_users_to_mend(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_a_scale_that_is_0_in_float32_is_refused() -> None:
    with pytest.raises(UserError, match="scale"):
        parse("range4 scale=1e-60")


def test_qpytorch_takes_one_bit_and_an_unbounded_symmetric_fixed_point() -> None:
    assert parse("block1 compat=qtorch") == Block(1, compat="qtorch")
    assert parse("fixed8f7 symmetric=true overflow=unbounded compat=qtorch").family == "fixed"


# --- what families and modes there are --------------------------------------------------------------------------------


def test_make_takes_what_the_family_has() -> None:
    assert make("range", {"bitwidth": 3, "scale": 2.0, "rounding": "nearest", "format": "range"}) == Range(3, 2.0)
    assert make("float32", {"bitwidth": 3}) == Float32()


def test_families_declare_their_parameters() -> None:
    assert [p.name for p in parameters_of("range")] == ["bitwidth", "scale", "zero"]
    assert parameters_of("range")[1:] == (SCALE, ZERO)
    assert parameters_of("float32") == parameters_of("none such") == ()
    assert all(cls.family == name for name, cls in FAMILIES.items())
    assert all(cls.summary and cls.__doc__ for cls in FAMILIES.values())


def families_below(base: type[Format]) -> Iterator[type[Format]]:
    """Those of qsweep that are a format's class, not what some of them have in common."""
    for cls in base.__subclasses__():
        yield from families_below(cls)
        if is_dataclass(cls) and cls.__module__.startswith("qsweep."):
            yield cls


def test_every_family_that_is_written_has_a_name_and_an_example_that_can_be_made() -> None:
    assert set(families_below(Format)) == set(FAMILIES.values())
    for family, cls in FAMILIES.items():
        assert type(parse(example_of(family))) is cls
        assert [f.name for f in fields(cls)] == [p.name for p in cls.parameters]


@pytest.mark.parametrize("lacking", ["rule", "code"])
def test_a_family_without_a_rounding_rule_or_a_code_can_not_be_made(lacking: str) -> None:
    own = {"rule": "elements", "code": None}
    toy = type("Toy", (Format,), {name: value for name, value in own.items() if name != lacking})
    with pytest.raises(TypeError, match=f"abstract method '?{lacking}"):
        toy()
    type("Toy", (Format,), own)()


def test_every_rounding_mode_is_the_formats_own_to_take() -> None:
    assert ROUNDINGS[:7] == ("nearest", "away", "zero", "up", "down", "stochastic", "stochastic1")
    assert ROUNDINGS[-1] == "stochastic23"
    for rounding in ROUNDINGS:
        check_rounding(parse("e4m3"), rounding)
    check_rounding(parse("e4m3 compat=qtorch"), "stochastic")
    with pytest.raises(BadValueError, match="e4m3 compat=qtorch has no rounding 'zero'"):
        check_rounding(parse("e4m3 compat=qtorch"), "zero")


# --- values -----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("fmt", "values"),
    [
        (Fixed(3, 1), [-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5]),
        (Fixed(3, -1, symmetric=True), [-6, -4, -2, 0, 2, 4, 6]),
        (Float(2, 1), [-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6]),
        (Float(2, 1, "ieee"), [-3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3]),
        (Float(2, 1, "nan"), [-4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4]),
        (Block(3), [-3, -2, -1, 0, 1, 2, 3]),
        (MX("e2m1"), [-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6]),
        (PowerOfTwo(3), [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]),
        (PowerOfTwo(3, zero=False), [-1, -0.5, -0.25, -0.125, 0.125, 0.25, 0.5, 1]),
        (Ternary(), [-1, 0, 1]),
    ],
)
def test_the_values_of_a_law_are_those_of_the_format(fmt: Fixed | Float | Block, values: list[float]) -> None:
    assert list(fmt.elements.values()) == values


@pytest.mark.parametrize(
    ("name", "largest", "normal", "smallest"),
    [
        ("e4m3", 448, 2.0**-6, 2.0**-9),
        ("e4m3 flavour=ieee", 240, 2.0**-6, 2.0**-9),
        ("e4m3 flavour=finite", 480, 2.0**-6, 2.0**-9),
        ("e5m2", 57344, 2.0**-14, 2.0**-16),
        ("e3m2", 28, 0.25, 2.0**-4),
        ("e2m3", 7.5, 1, 0.125),
        ("fp16", 65504, 2.0**-14, 2.0**-24),
        ("bf16", 255 * 2.0**120, 2.0**-126, 2.0**-133),
        ("e8m23", (2 - 2.0**-23) * 2.0**127, 2.0**-126, 2.0**-149),
    ],
)
def test_floats_end_where_their_standards_say(name: str, largest: float, normal: float, smallest: float) -> None:
    fmt = parse(name)
    assert isinstance(fmt, Float)
    assert (fmt.elements.largest, fmt.elements.smallest_normal, fmt.elements.smallest) == (largest, normal, smallest)
