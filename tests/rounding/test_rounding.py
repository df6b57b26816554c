"""Rounding tensors: the algebra of all formats, which values share a scale, stacks, kernels, and what is refused.

That the values are right is for test_reference.py, test_oracles.py and test_qtorch.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numba import njit
from points import MODES, assert_same, noise_like, points
from torch import Tensor

from qsweep.errors import UserError
from qsweep.formats import Fixed, Float, Float32, Floating, Format, Grid, Range, name_of, parse
from qsweep.formats.names import CLASSES, EMULATED_ROUNDINGS, example_of
from qsweep.formats.qkeras import QKeras
from qsweep.formats.reference import quantize_group
from qsweep.kernels.modes import ModeNumbers
from qsweep.kernels.modes import rounded as kernel_rounded
from qsweep.kernels.roles import goes_up
from qsweep.rounding import Stack, _noise, qkeras, quantize, scales
from qsweep.rounding.modes import NO_NOISE, Mode, rounded
from qsweep.rounding.ways import WAYS, way_of

NUMBER_BY_NUMBER = [
    *("range1", "range4", "range4 zero=false scale=10", "range8 scale=0.3", "fixed8f7", "fixed4f1", "fixed5f-2"),
    *("fixed4f1 symmetric=true", "fixed4f1 overflow=wrap", "fixed4f1 overflow=unbounded", "fixed3f9"),
    *("e4m3", "e4m3 flavour=ieee", "e4m3 saturate=true", "e5m2", "e3m2", "e2m3", "e2m1", "e2m1 flavour=nan"),
    *("bf16", "fp16", "tf32", "e8m23", "e5m1 flavour=finite"),
]
UNDER_A_SCALE = [
    *(
        "block2",
        "block4",
        "block8",
        "block4 per=16",
        "block8 per=channel",
        "mxfp8",
        "mxfp8_e5m2",
        "mxfp6",
        "mxfp6_e3m2",
    ),
    *("mxfp4", "mxint8", "nvfp4", "nvfp4 tensor_scale=false", "uniform1", "uniform4", "uniform8 per=channel"),
    *("uniform4 symmetric=true", "uniform8 symmetric=true scaling=po2", "uniform4 scaling=2", "uniform3 per=5"),
    *("uniform4 symmetric=true scaling=0.7", "po2_4", "po2_3 zero=false", "po2_4 scaling=0.5", "binary"),
    *("binary scaling=0.5", "binary scaling=po2", "ternary", "ternary scaling=po2", "ternary threshold=0.5 scaling=1"),
]
EVERY = [*NUMBER_BY_NUMBER, *UNDER_A_SCALE]

FORMATS = st.sampled_from([parse(name) for name in NUMBER_BY_NUMBER]) | st.one_of(
    st.builds(
        Range,
        bitwidth=st.integers(1, 16),
        scale=st.sampled_from([1.0, 2.0, 10.0, 0.25, 7.0, 1 / 3, 100.0]),
        zero=st.booleans(),
    ),
    st.builds(Fixed, st.integers(2, 24), st.integers(-4, 30), st.booleans()),
    st.builds(Float, st.integers(2, 7), st.integers(1, 23), st.sampled_from(["ieee", "nan", "finite"]), st.booleans()),
)
SCALED = st.sampled_from([parse(name) for name in UNDER_A_SCALE])
MODE = st.sampled_from(MODES)
WHOLE_FLOATS = st.floats(width=32)
NEAR_ONE = st.floats(-3, 3, width=32)
VALUES = st.lists(WHOLE_FLOATS, min_size=1, max_size=40)
FINITE = st.lists(NEAR_ONE | st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40)
SEEDS = st.integers(0, 2**31)
QUICK = settings(max_examples=150, deadline=None)


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- algebra ----------------------------------------------------------------------------------------------------------


@given(VALUES, FORMATS, MODE, MODE, SEEDS)
@QUICK
def test_a_number_of_the_format_never_moves_in_any_mode(
    values: list[float], fmt: Format, first: str, then: str, seed: int
) -> None:
    x = torch.tensor(values)
    once = quantize(x, fmt, first, noise_like(x, seed))
    assert_same(quantize(once, fmt, then, noise_like(x, seed + 1)), once, x)


@pytest.mark.parametrize("name", [name for name in UNDER_A_SCALE if name.split()[0] not in ("mxint8", "nvfp4")])
@given(FINITE)
@settings(max_examples=25, deadline=None)
def test_nearest_under_a_scale_is_idempotent(name: str, values: list[float]) -> None:
    """Of all but mxint8, where -1.999 · 2^E becomes -2 · 2^E, whose exponent is E + 1, so that the second scale is
    twice the first, and nvfp4, where a scale that is subnormal in e4m3 can change with the largest value."""
    once = quantize(torch.tensor(values), parse(name))
    assert_same(quantize(once, parse(name)), once, torch.tensor(values))


@pytest.mark.parametrize("name", ["block2", "block4", "block8 per=channel", "mxfp8", "mxfp4"])
@given(FINITE, MODE, MODE)
@settings(max_examples=30, deadline=None)
def test_block_scales_by_exponent_are_idempotent_in_all_modes(
    name: str, values: list[float], first: str, then: str
) -> None:
    """A power of two has a code under its own exponent, so no mode moves the largest value to another exponent."""
    x, fmt = torch.tensor(values), parse(name)
    once = quantize(x, fmt, first, noise_like(x))
    assert_same(quantize(once, fmt, then, noise_like(x, 1)), once, x)


def test_mxint8_is_not_idempotent() -> None:
    once = quantize(torch.tensor([-1.999, 1 + 1 / 64]), parse("mxint8"))
    assert once.tolist() == [-2.0, 1 + 1 / 64]
    assert quantize(once, parse("mxint8")).tolist() == [-2.0, 1.0]


@given(st.lists(WHOLE_FLOATS, min_size=2, max_size=40), FORMATS, MODE, st.integers(0, 2**24 - 1))
@QUICK
def test_rounding_is_monotone(values: list[float], fmt: Format, mode: str, drawn: int) -> None:
    """With the same noise for all; but where integers wrap, and where the largest is followed by NaN."""
    assume(not (isinstance(fmt, Fixed) and fmt.overflow == "wrap"))
    x = torch.tensor(values).sort().values
    q = quantize(x, fmt, mode, torch.full_like(x, drawn / 2**24))
    q = q[~q.isnan()]
    assert bool((q[1:] >= q[:-1]).all())


@given(st.lists(NEAR_ONE, min_size=2, max_size=16), SCALED, MODE, st.integers(0, 2**24 - 1))
@QUICK
def test_rounding_under_a_scale_is_monotone_within_a_group(
    values: list[float], fmt: Format, mode: str, drawn: int
) -> None:
    assume(getattr(fmt, "per", "tensor") not in ("channel", 5))
    x = torch.tensor(values).sort().values
    q = quantize(x, fmt, mode, torch.full_like(x, drawn / 2**24))
    assert bool((q[1:] >= q[:-1]).all())


ODD = [
    *(
        "e4m3",
        "e5m2",
        "e2m1",
        "fp16",
        "fixed4f1 symmetric=true",
        "fixed4f1 overflow=unbounded",
        "block4",
        "block4 per=16",
    ),
    *("mxfp8", "mxfp4", "nvfp4", "uniform4 symmetric=true", "uniform8 symmetric=true scaling=po2", "po2_4", "ternary"),
]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("mode", ["nearest", "away", "zero", "stochastic1", "stochastic4"])
def test_symmetric_formats_are_odd_in_modes_by_magnitude(name: str, mode: str) -> None:
    x = torch.cat([some(300), torch.arange(-40, 41) / 8])
    noise = noise_like(x)
    assert torch.equal(quantize(-x, parse(name), mode, noise), -quantize(x, parse(name), mode, noise))


@pytest.mark.parametrize("name", [*ODD, "range4 scale=0.1"])
def test_up_is_down_of_the_other_sign(name: str) -> None:
    fmt = parse(name)
    x = torch.cat([some(300), torch.arange(-40, 41) / 8])
    x = x.clamp(-5, 5)  # range has no value at +1/scale
    assert torch.equal(quantize(-x, fmt, "up"), -quantize(x, fmt, "down"))


def gap(x: Tensor, fmt: Fixed | Float) -> Tensor:
    """The distance of the two numbers of the format around each x."""
    elements = fmt.elements
    if isinstance(elements, Grid):
        return torch.full_like(x, elements.step, dtype=torch.float64)
    assert isinstance(elements, Floating)
    exponent = torch.frexp(x.double())[1] - 1
    return 2.0 ** (exponent.clamp(min=elements.least_exponent) - elements.mantissa).double()


@given(st.lists(NEAR_ONE, min_size=1, max_size=40), FORMATS, MODE, SEEDS)
@QUICK
def test_the_error_is_at_most_half_a_step_or_in_other_modes_a_whole_one(
    values: list[float], fmt: Format, mode: str, seed: int
) -> None:
    assume(isinstance(fmt, Fixed | Float))
    assert isinstance(fmt, Fixed | Float)
    own = fmt.elements
    x = torch.tensor(values)
    x = x[(x <= own.largest) & (x >= (own.lowest * own.step if isinstance(own, Grid) else -own.largest))]
    error = (quantize(x, fmt, mode, noise_like(x, seed)).double() - x.double()).abs()
    half = mode in ("nearest", "away")
    assert bool((error <= gap(x, fmt) / (2 if half else 1)).all())


@pytest.mark.parametrize("bitwidth", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("symmetric", [True, False])
def test_uniform_is_off_by_at_most_half_a_step(bitwidth: int, symmetric: bool) -> None:
    x = some(1000)
    q = quantize(x, parse(f"uniform{bitwidth} symmetric={str(symmetric).lower()}"))
    width = 2 * float(x.abs().max()) if symmetric else float(x.max() - x.min())
    step = width / (2**bitwidth - (2 if symmetric else 1))
    assert float((q.double() - x.double()).abs().max()) <= step / 2 + 2.0**-23 * width
    assert len(q.unique()) <= 2**bitwidth - symmetric


@pytest.mark.parametrize(
    "name", ["range4", "fixed8f2", "e4m3", "e2m1", "bf16", "uniform4 scaling=3", "block4", "binary scaling=3"]
)
@pytest.mark.parametrize("x", [0.30, -0.30, 0.01, -0.77])
def test_stochastic_mean_is_the_value_itself(name: str, x: float) -> None:
    """The mean of n draws is within five standard deviations of x."""
    n = 10_000
    noise = torch.randint(0, 2**24, (n,), generator=torch.Generator().manual_seed(1)) / 2**24
    q = quantize(torch.full((n,), x), parse(name), "stochastic", noise).double()
    low, high = float(q.min()), float(q.max())
    value = float(torch.tensor(x))
    assert low <= value <= high
    share = (value - low) / (high - low) if high > low else 0.0
    assert abs(float(q.mean()) - value) <= 5 * (high - low) * math.sqrt(share * (1 - share) / n)


@pytest.mark.parametrize(
    ("name", "deviation", "bias"),
    [
        ("mxfp4", 1.0, -0.0439),
        ("mxfp4", 0.75, -0.0726),
        ("mxfp8", 1.0, -0.0120),
        ("mxfp6_e3m2", 1.0, -0.0119),
        ("mxfp6", 1.0, -0.0032),
        ("nvfp4", 1.0, -0.0111),
    ],
)
def test_stochastic_is_biased_at_the_largest_value_of_a_block_where_the_scale_cuts(
    name: str, deviation: float, bias: float
) -> None:
    """What docs/formats.md says of values from N(0, 1), measured there in more blocks than here."""
    x = deviation * some(20_000, 32)
    noise = torch.randint(0, 2**24, x.shape, generator=torch.Generator().manual_seed(1)) / 2**24
    q = quantize(x, parse(name), "stochastic", noise)
    place = x.abs().argmax(1, keepdim=True)
    largest, rounded = x.gather(1, place).abs(), q.gather(1, place).abs()
    error = (rounded - largest) / largest
    assert float(error.mean()) == pytest.approx(bias, abs=4 * float(error.std()) / math.sqrt(len(error)))


@pytest.mark.parametrize("name", ["fixed8f2", "e4m3", "range8 scale=0.25"])
@pytest.mark.parametrize("x", [1.03, -1.03, 0.001, -0.26])
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_stochastic_n_goes_away_from_zero_in_the_cut_share_of_all_draws(name: str, x: float, bits: int) -> None:
    values = torch.full((2**12,), x)
    fmt = parse(name)
    q = quantize(values, fmt, f"stochastic{bits}", torch.arange(2**12) / 2**12).double().abs()
    small, large = (float(quantize(values[:1], fmt, mode)) for mode in (("down", "up") if x > 0 else ("up", "down")))
    distance = (abs(float(values[0])) - abs(small)) / (abs(large) - abs(small))
    assert float((q == abs(large)).double().mean()) == math.floor(distance * 2**bits) / 2**bits


@pytest.mark.parametrize("name", ["fixed8f2", "e4m3", "range8 scale=0.25"])
@pytest.mark.parametrize("x", [1.03, -1.03, 0.001, -0.26])
def test_stochastic_goes_up_in_the_share_of_all_draws_that_is_the_distance(name: str, x: float) -> None:
    values, fmt = torch.full((2**12,), x), parse(name)
    low, high = (float(quantize(values[:1], fmt, mode)) for mode in ("down", "up"))
    q = quantize(values, fmt, "stochastic", torch.arange(2**12) / 2**12)
    distance = (float(values[0]) - low) / (high - low)
    assert float((q == high).double().mean()) == math.ceil(distance * 2**12) / 2**12


# --- range ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 10.0, 7.0, 1 / 3, 1e-3])
@pytest.mark.parametrize("mode", MODES)
def test_range_levels_never_move(scale: float, mode: str) -> None:
    for bitwidth in (1, 2, 8, 12):
        fmt = Range(bitwidth, scale)
        k = torch.arange(fmt.lowest, fmt.highest + 1, dtype=torch.float32)
        levels = k / torch.tensor(fmt.steps_per_unit)
        for noise in (0.0, 0.5, 1 - 2**-24):
            assert torch.equal(quantize(levels, fmt, mode, torch.full_like(levels, noise)), levels)


def test_range_of_one_bit_has_no_positive_weight_even_without_a_zero_level() -> None:
    w = torch.tensor([-0.2, -0.06, -0.04, 0.0, 0.04, 0.06, 0.2])
    assert quantize(w, Range(1, 10.0)).tolist() == pytest.approx([-0.1, -0.1, 0, 0, 0, 0, 0])
    assert quantize(w, Range(1, 10.0, zero=False)).tolist() == pytest.approx([-0.1, -0.1, -0.1, 0, 0, 0, 0])


def test_range_without_zero_moves_a_result_of_zero_by_the_sign_of_the_weight() -> None:
    w = torch.tensor([-0.001, 0.0, 0.001])
    assert quantize(w, Range(4, 10.0, zero=False)).tolist() == pytest.approx([-0.0125, 0.0, 0.0125])


@pytest.mark.parametrize("name", ["range4", "range4 zero=false", "fixed8f2", "fixed8f2 overflow=wrap"])
def test_zeros_of_fixed_steps_have_no_minus_sign(name: str) -> None:
    for mode in MODES:
        q = quantize(torch.tensor([-0.0, -1e-6, 1e-6]), parse(name), mode, torch.tensor([0.0, 1 - 2.0**-24, 0.5]))
        assert not torch.signbit(q[q == 0]).any()


def test_range_nan_stays_and_infinity_becomes_the_outermost_level() -> None:
    q = quantize(torch.tensor([math.nan, math.inf, -math.inf]), Range(3, 1.0))
    assert math.isnan(q[0])
    assert q[1:].tolist() == [0.75, -1.0]


# --- the tensor around the values -------------------------------------------------------------------------------------


def test_float32_is_the_tensor_itself() -> None:
    x = some(3)
    assert quantize(x, Float32()) is x


@pytest.mark.parametrize("name", EVERY)
def test_the_argument_and_the_noise_are_left_alone(name: str) -> None:
    x, noise = some(6, 40), noise_like(some(6, 40))
    before = x.clone(), noise.clone()
    for mode in ("nearest", "stochastic"):
        result = quantize(x, parse(name), mode, noise)
        assert result.data_ptr() != x.data_ptr()
        assert_same(x, before[0])
        assert_same(noise, before[1])


ORDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "turned": lambda t: t.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    "strided": lambda t: torch.stack([t, -t], -1)[..., 0],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "name", [*EVERY, "block4 per=3 axis=1", "uniform4 per=channel axis=2", "fixed8f2 compat=qtorch"]
)
def test_tensors_lie_in_memory_in_any_order(name: str, order: str) -> None:
    x, noise, fmt = some(4, 5, 6, 7), noise_like(some(4, 5, 6, 7)), parse(name)
    turned, drawn = ORDERS[order](x), ORDERS[order](noise)
    assert torch.equal(turned, x)
    assert not turned.is_contiguous()
    for mode in ("nearest", "stochastic"):
        expected = quantize(x, fmt, mode, noise)
        assert_same(quantize(turned, fmt, mode, drawn), expected)
        assert_same(quantize(turned, fmt, mode, noise), expected)


@pytest.mark.parametrize("name", EVERY)
def test_a_tensor_without_dimensions_is_a_tensor_of_one_value(name: str) -> None:
    for mode in ("nearest", "stochastic"):
        alone = quantize(torch.tensor(0.3), parse(name), mode, torch.tensor(0.5))
        assert alone.shape == ()
        assert_same(alone[None], quantize(torch.tensor([0.3]), parse(name), mode, torch.tensor([0.5])))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
@pytest.mark.parametrize("name", EVERY)
def test_empty_tensors_stay_empty(name: str, shape: tuple[int, ...]) -> None:
    for mode in ("nearest", "stochastic"):
        assert quantize(torch.empty(shape), parse(name), mode, torch.empty(shape)).shape == shape


# --- groups -----------------------------------------------------------------------------------------------------------


def one_by_one(x: Tensor, name: str, dim: int) -> Tensor:
    """Each index of a dimension quantized as a tensor of its own."""
    return torch.stack([quantize(part.contiguous(), parse(name)) for part in x.unbind(dim)], dim)


PER_CHANNEL = [
    "block4",
    "uniform4",
    "uniform4 symmetric=true",
    "po2_4",
    "binary",
    "ternary",
    "uniform8 symmetric=true scaling=po2",
]


@pytest.mark.parametrize("name", PER_CHANNEL)
@pytest.mark.parametrize(("axis", "dim"), [("", 0), (" axis=0", 0), (" axis=1", 1), (" axis=-1", 2), (" axis=-3", 0)])
def test_per_channel_is_each_index_of_the_axis_by_itself(name: str, axis: str, dim: int) -> None:
    x = some(4, 5, 6)
    assert_same(quantize(x, parse(f"{name} per=channel{axis}")), one_by_one(x, name, dim))


@pytest.mark.parametrize("name", PER_CHANNEL)
@pytest.mark.parametrize("per", [1, 3, 4, 7, 13, 100])
def test_per_number_cuts_the_last_axis_and_the_last_group_may_be_shorter(name: str, per: int) -> None:
    x = some(3, 13)
    expected = [[quantize(part, parse(name)) for part in row.split(per)] for row in x]
    assert_same(quantize(x, parse(f"{name} per={per}")), torch.stack([torch.cat(row) for row in expected]))


@pytest.mark.parametrize("name", ["mxfp8", "mxint8", "mxfp4"])
def test_microscaling_cuts_rows_into_32(name: str) -> None:
    x = some(3, 70) * 2.0 ** torch.arange(70)
    parts = torch.cat([quantize(part.contiguous(), parse(name)) for part in x.split(32, 1)], 1)
    assert_same(quantize(x, parse(name)), parts)
    assert_same(quantize(x, parse(name)), one_by_one(x, name, 0))


def test_nvfp4_without_a_tensor_scale_cuts_rows_into_16() -> None:
    x = some(3, 40)
    name = "nvfp4 tensor_scale=false"
    parts = torch.cat([quantize(part.contiguous(), parse(name)) for part in x.split(16, 1)], 1)
    assert_same(quantize(x, parse(name)), parts)


@pytest.mark.parametrize("name", ["block4 per=3", "mxfp4", "nvfp4", "uniform4 per=3"])
def test_groups_run_along_the_axis_that_is_named_or_else_along_the_contraction(name: str) -> None:
    x = some(4, 5, 6) * 2.0 ** torch.arange(6)
    for axis in range(-3, 3):
        expected = quantize(x.movedim(axis, -1), parse(name)).movedim(-1, axis)
        assert_same(quantize(x, parse(f"{name} axis={axis}")), expected)
        assert_same(quantize(x, parse(name), contraction=axis), expected)
        assert_same(quantize(x, parse(f"{name} axis={axis}"), contraction=0), expected)


def test_channels_and_whole_tensors_take_no_notice_of_the_contraction() -> None:
    x = some(4, 5)
    for name in ("block4", "block4 per=channel"):
        assert_same(quantize(x, parse(name), contraction=0), quantize(x, parse(name)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name",
    [
        *(f"{n} per=4" for n in PER_CHANNEL),
        "po2_3 zero=false per=4",
        "uniform4 scaling=2 per=4",
        "binary scaling=1 per=4",
    ],
)
def test_what_is_not_finite_makes_its_group_nan_and_no_other(name: str, bad: float) -> None:
    x, noise = some(3, 10), noise_like(some(3, 10))
    spoilt = x.clone()
    spoilt[1, 5] = bad
    for mode in MODES:
        expected = quantize(x, parse(name), mode, noise)
        expected[1, 4:8] = math.nan
        assert_same(quantize(spoilt, parse(name), mode, noise), expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("name", "width"), [("mxfp8", 32), ("mxint8", 32), ("nvfp4 tensor_scale=false", 16)])
def test_what_is_not_finite_makes_its_block_nan_and_no_other(name: str, width: int, bad: float) -> None:
    x = some(2, 80)
    spoilt = x.clone()
    spoilt[0, 3] = bad
    expected = quantize(x, parse(name))
    expected[0, :width] = math.nan
    assert_same(quantize(spoilt, parse(name)), expected)


def test_nvfp4_with_a_tensor_scale_becomes_nan_as_a_whole() -> None:
    x = some(2, 80)
    x[0, 3] = math.inf
    assert quantize(x, parse("nvfp4")).isnan().all()


NOT_ZERO = ("binary scaling=0.5", "uniform4 scaling=2", "po2_3 zero=false")


@pytest.mark.parametrize("name", [name for name in UNDER_A_SCALE if name not in NOT_ZERO])
def test_a_group_of_zeros_stays(name: str) -> None:
    """Not where 0 is no value: binary and po2 without zero, levels between given ends."""
    for mode in MODES:
        x = torch.zeros(3, 40)
        assert torch.equal(quantize(x, parse(name), mode, noise_like(x)), x)


@pytest.mark.parametrize(
    "name",
    ["range4", "fixed8f2", "e4m3", "e2m1", "bf16", "block4", "mxfp8", "nvfp4", "uniform5 symmetric=true", "po2_4"],
)
def test_zeros_stay_among_other_values(name: str) -> None:
    for mode in MODES:
        x = some(3, 40)
        x[:, ::3] = 0.0
        assert not quantize(x, parse(name), mode, noise_like(x))[:, ::3].any()


# --- stacks -----------------------------------------------------------------------------------------------------------

STACKS = {
    "range": [f"range{b} scale={s} zero={z}" for b in (1, 2, 4, 8) for s in (1, 10, 7) for z in ("true", "false")],
    "fixed": ["fixed8f7", "fixed1f0", "fixed4f-1", "fixed16f3", "fixed24f20"],
    "fixed symmetric": ["fixed8f7 symmetric=true", "fixed4f1 symmetric=true"],
    "fixed wrap": [f"fixed{w}f{f} overflow=wrap" for w, f in [(8, 7), (1, 0), (4, 2), (24, 6)]],
    "fixed unbounded": ["fixed8f7 overflow=unbounded", "fixed8f1 overflow=unbounded"],
    "float": ["e4m3", "e5m2", "e3m2", "e2m1", "e8m7", "e5m10", "e8m23", "e6m1"],
    "float ieee": [f"e{e}m{m} flavour=ieee" for e, m in [(4, 3), (2, 1), (7, 9)]],
    "float nan": [f"e{e}m{m} flavour=nan" for e, m in [(4, 3), (2, 1), (5, 9)]],
    "float saturate": ["e4m3 saturate=true", "e5m2 saturate=true"],
    "block": [f"block{w}" for w in (2, 4, 8, 16, 24)],
    "block groups": [f"block{w} per=7" for w in (2, 4, 8)],
    "block channels": [f"block{w} per=channel" for w in (2, 4, 8)],
    "mx": ["mxfp8", "mxfp8"],
    "mx int8": ["mxint8", "mxint8"],
    "nvfp4": ["nvfp4", "nvfp4"],
    "nvfp4 nvidia": ["nvfp4 arithmetic=nvidia", "nvfp4 arithmetic=nvidia"],
    "uniform": [f"uniform{w}" for w in (1, 4, 8, 16)],
    "uniform fixed": [f"uniform{w} scaling=1.5 per=channel" for w in (1, 4)],
    "uniform symmetric": [f"uniform{w} symmetric=true per=11" for w in (2, 4, 8, 16)],
    "uniform po2": [f"uniform{w} symmetric=true scaling=po2" for w in (2, 4, 8)],
    "uniform told": [f"uniform{w} symmetric=true scaling=0.7" for w in (2, 4, 8)],
    "po2": [f"po2_{w} zero={z}" for w in (2, 4, 8) for z in ("true", "false")],
    "ternary": ["ternary", "ternary"],
    "ternary channels": ["ternary per=channel scaling=po2", "ternary per=channel scaling=po2"],
    "binary": ["binary per=9", "binary per=9"],
}


def odd_values(rows: int, whole: bool) -> Tensor:
    """(rows, 6, 35) at many sizes, ties, zeros of both signs; subnormal and special values, one group's at a time."""
    x = some(rows, 6, 35) * 2.0 ** torch.arange(-4, 2)[:, None]
    x[:, 0, :20] = torch.arange(-10, 10) / 8
    x[:, 1, ::7], x[:, 2, 1::7] = 0.0, -0.0
    x[:, 3] *= 1e-39
    special = torch.tensor([math.inf, -math.inf, math.nan, 3.4e38, -3.4e38, 1e-45, -1e-45, 1e30])
    if not whole:
        x[:, 4, : len(special)] = special
    else:
        x[0, 4, 2] = math.nan
    return x


def rounded_together(stack: Stack, x: Tensor, noise: Tensor | None, first: int = 0) -> Tensor:
    """A copy of x, rounded by the stack."""
    together = x.clone()
    if stack.whole:
        stack.round_whole(together, noise, first)
    else:
        stack.round_rows(together.view(len(x), -1), None if noise is None else noise.reshape(-1), first)
    return together


@pytest.mark.parametrize("kind", STACKS)
def test_a_stack_gives_each_row_what_it_gets_alone(kind: str) -> None:
    for mode in MODES:
        formats = [parse(name) for name in STACKS[kind]]
        stack = Stack(formats, mode)
        x = odd_values(len(formats), stack.whole)
        noise = noise_like(x[0])
        drawn = noise if stack.mode.draws else None
        together = rounded_together(stack, x, drawn)
        for row, found, fmt in zip(x, together, formats, strict=True):
            assert_same(found, quantize(row, fmt, mode, noise), row)
        assert_same(rounded_together(stack, x[1:2], drawn, first=1), together[1:2])


@pytest.mark.parametrize("kind", ["block groups", "uniform", "po2", "nvfp4", "ternary channels"])
def test_a_stack_of_tensors_lies_in_memory_in_any_order(kind: str) -> None:
    stack = Stack([parse(name) for name in STACKS[kind]], "stochastic")
    x, noise = some(len(stack.formats), 6, 5, 4), noise_like(some(6, 5, 4))
    expected = rounded_together(stack, x, noise)
    turned = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    stack.round_whole(turned, noise.permute(1, 2, 0).contiguous().permute(2, 0, 1))
    assert_same(turned, expected)


# --- kernels ----------------------------------------------------------------------------------------------------------


def eager(stack: Stack, x: Tensor, noise: Tensor | None, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the tensor operations give, which run where there is no kernel."""

    def by_exponent(groups: Tensor, formats: Any) -> Tensor:
        return scales.by_exponent_eager(groups, formats) * scales.exponents(formats)[-1]

    with monkeypatch.context() as patched:
        for rule in scales.BY_EXPONENT:
            patched.setitem(scales.RULES, rule, scales.Rule(by_exponent, exact=True))
        patched.setattr(stack, "_way", way_of(stack.formats, stack.mode, stack.device, has_kernels=False))
        return rounded_together(stack, x, noise)


@pytest.mark.parametrize("kind", STACKS)
def test_kernels_give_the_bits_of_the_tensor_operations(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in (*MODES, "stochastic23"):
        stack = Stack([parse(name) for name in STACKS[kind]], mode)
        x = odd_values(len(stack.formats), stack.whole)
        noise = noise_like(x[0]) if stack.mode.draws else None
        assert_same(rounded_together(stack, x, noise), eager(stack, x, noise, monkeypatch), x)


@pytest.mark.parametrize("name", ["block2 per=8", "block8 per=8", "block24 per=8", "mxint8"])
def test_blocks_of_every_magnitude_get_the_bits_of_the_tensor_operations(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among them those whose scale, or its inverse, float32 has not or as a subnormal alone."""
    stack = Stack([parse(name)], "nearest")
    exponents = torch.arange(-149, 128, dtype=torch.float64)[:, None]
    x = (some(277, 8).double().clamp(-1.9, 1.9) * torch.pow(2.0, exponents)).float().view(1, -1)
    assert_same(rounded_together(stack, x, None), eager(stack, x, None, monkeypatch), x)


@pytest.mark.parametrize("name", [n for n in NUMBER_BY_NUMBER if n.startswith(("e", "fixed")) and n != "e8m23"])
def test_kernels_give_the_bits_of_the_tensor_operations_at_every_code(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mode in MODES:
        fmt = parse(name)
        assert isinstance(fmt, Fixed | Float)
        stack = Stack([fmt], mode)
        x = points(fmt.elements)[None]
        noise = noise_like(x[0]) if stack.mode.draws else None
        assert_same(rounded_together(stack, x, noise), eager(stack, x, noise, monkeypatch), x)


@pytest.mark.parametrize("scale", [1.0, 10.0, 7.0, 1 / 3, 1e-3])
def test_kernels_of_range_give_the_bits_of_the_tensor_operations(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in MODES:
        stack = Stack([Range(b, scale, z) for b in range(1, 17) for z in (True, False)], mode)
        w = some(32, 1003) * 0.6 / scale
        w[:, 100:300] = rounded_together(Stack(stack.formats), w[:, 100:300], None)
        w[:, :9] = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 3e38, -3e38])
        noise = noise_like(w[0]) if stack.mode.draws else None
        assert_same(rounded_together(stack, w, noise), eager(stack, w, noise, monkeypatch), w)


MODE_NUMBERS = [
    (mode, dtype) for mode in (*MODES, "stochastic1", "stochastic23") for dtype in (torch.float32, torch.float64)
]


@pytest.mark.parametrize(("name", "dtype"), MODE_NUMBERS)
def test_kernels_and_tensors_round_to_the_same_integers(name: str, dtype: torch.dtype) -> None:
    """The formulas are the same, but not the operations: ties, both zeros, NaN and what has no fraction among them."""
    mode, special = Mode(name), [0.0, -0.0, 1e-40, -1e-40, 2.0**23 + 1, -(2.0**30), math.inf, -math.inf, math.nan]
    t = torch.cat(
        [torch.arange(-40, 41, dtype=dtype) / 8, some(1000).to(dtype) * 3, torch.tensor(special, dtype=dtype)]
    )
    noise = noise_like(t)
    found = torch.from_numpy(integers_of(t.numpy(), noise.numpy() if mode.draws else NO_NOISE, mode.numbers))
    expected = rounded(t, noise if mode.draws else None, mode)
    assert found.dtype == expected.dtype == dtype
    assert_same((found + 0.0).float(), (expected + 0.0).float(), t)


@njit
def integers_of(t: Any, noise: Any, mode: ModeNumbers) -> Any:
    result = np.empty_like(t)
    for i in range(len(t)):
        result[i] = kernel_rounded(t[i], noise, i, mode)
    return result


@pytest.mark.parametrize("name", [*MODES, "stochastic1", "stochastic23"])
def test_a_whole_and_a_part_go_up_where_their_sum_does(name: str) -> None:
    """Accumulators of 64 bits are rounded by a formula of their own."""
    mode, parts = Mode(name), torch.cat([torch.arange(16) / 16, noise_like(some(1000), 1)]).double()
    noise = noise_like(parts)
    for whole in (-3, -2, -1, 0, 1, 2):
        up = [goes_up(whole, part, noise.numpy(), i, mode.numbers) for i, part in enumerate(parts.tolist())]
        expected = rounded(whole + parts, noise if mode.draws else None, mode)
        assert torch.equal(whole + torch.tensor(up).double(), expected)


# --- rules ------------------------------------------------------------------------------------------------------------


def test_every_rule_that_families_declare_is_one_of_rounding() -> None:
    examples = [example_of(cls.family) for cls in CLASSES]
    names = {*examples, *EVERY, *(name for own in STACKS.values() for name in own)}
    foreign = {f"{name} compat=qtorch" for name in ("fixed8f4", "e4m3", "block8")}
    assert {parse(name).rule for name in names | foreign} == {*WAYS, "kmeans"}
    assert set(qkeras.FORMULAS) == {cls for cls in CLASSES if issubclass(cls, QKeras)}


@pytest.mark.parametrize("family", [cls.family for cls in CLASSES if not cls.is_learned])
def test_every_family_rounds_in_all_its_modes_as_its_reference(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A family that is half there fails here, not in training."""
    fmt = parse(example_of(family))
    x = some(1, 1, 16)  # one group of every format
    for mode in [mode for mode in MODES if not fmt.is_emulated or mode in EMULATED_ROUNDINGS]:
        stack = Stack([fmt], mode)
        noise = noise_like(x[0].expand(stack.draws, 1, 16).squeeze(0)) if stack.draws else None
        found = rounded_together(stack, x, noise)
        assert_same(found, eager(stack, x, noise, monkeypatch), x)
        assert stack.inside(x).shape == stack.same_codes(found, found).shape == x.shape
        if not fmt.is_emulated and not isinstance(fmt, Float32):
            drawn = None if noise is None else noise.flatten().tolist()
            assert found.flatten().tolist() == quantize_group(x.flatten().tolist(), fmt, mode, drawn)


def test_a_family_whose_rule_is_not_one_of_rounding_is_refused_when_it_is_to_round() -> None:
    class Toy(Fixed):
        rule = "fair"  # type: ignore[assignment]

    with pytest.raises(LookupError, match="fixed8f4: no rounding rule 'fair'"):
        Stack([Toy(8, 4)])


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int32])
@pytest.mark.parametrize("name", ["range4", "e4m3 saturate=true", "block8 per=16"])
def test_other_types_than_float32_are_refused_by_the_name_of_the_format(name: str, dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"quantize to {name} takes float32, found {dtype}"):
        quantize(torch.zeros(2).to(dtype), parse(name))


@pytest.mark.parametrize(
    "rounding", ["nearset", "stochastic0", "stochastic24", "stochastic-1", "stochastic04", "", "Nearest"]
)
def test_an_unknown_rounding_is_refused(rounding: str) -> None:
    with pytest.raises(ValueError, match=f"'{rounding}'.*nearest, away, zero, up, down, stochastic, stochasticN"):
        quantize(torch.zeros(2), parse("e4m3"), rounding, torch.zeros(2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fmt": 8}, "format: found 8, expected a name such as 'e4m3'"),
        ({"fmt": None}, "format: found null"),
        ({"rounding": 0.5}, r"rounding: found 0\.5, expected nearest, away, zero"),
        ({"fmt": "kmeans4", "rounding": "nearset"}, "kmeans4 has no rounding 'nearset'"),
        ({"fmt": "float32", "rounding": "nearset"}, "float32 has no rounding 'nearset'"),
        ({"rounding": "stochastic", "noise": 0.5}, r"noise: found 0\.5, expected a tensor"),
        ({"gradient": 3}, r"unknown gradient '3' \(one of: identity, clipped\)"),
        ({"fmt": "mxfp4", "contraction": "rows"}, 'contraction: found "rows", expected the number of an axis'),
        ({"fmt": "mxfp4", "contraction": 7}, r"mxfp4: a tensor of shape \(2, 3\) has no axis 7"),
        ({"x": [0.1]}, "found list"),
        ({"x": torch.zeros(2).double()}, "takes float32, found torch.float64"),
        ({"generator": 1, "rounding": "stochastic"}, "generator: found int, expected a torch.Generator"),
    ],
)
def test_a_wrong_argument_is_an_error_of_qsweep_and_of_python(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        quantize(**{"x": torch.zeros(2, 3), "fmt": "e4m3", **given})
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", EVERY)
def test_stochastic_rounding_without_noise_is_refused(name: str) -> None:
    for rounding in ("stochastic", "stochastic4"):
        with pytest.raises(ValueError, match=rf"{rounding} rounding to .* needs noise.*: pass `noise=torch.rand\("):
            quantize(torch.zeros(2), parse(name), rounding)


# --- a generator in place of noise ------------------------------------------------------------------------------------


def draws(seed: int) -> tuple[torch.Generator, np.random.Generator]:
    return torch.Generator().manual_seed(seed), np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("name", "rounding"), [*((name, "stochastic4") for name in EVERY), ("stochastic_ternary(auto)", "stochastic")]
)
def test_a_generator_stands_for_the_noise_that_it_draws(name: str, rounding: str) -> None:
    x = some(6, 16)
    for values, own, same in zip((x, x.numpy()), draws(1), draws(1), strict=True):
        noise = _noise(values, parse(name), rounding, same)
        found = quantize(values, name, rounding, generator=own)  # type: ignore[call-overload]
        assert type(found) is type(values)
        assert_same(torch.as_tensor(found), torch.as_tensor(quantize(values, name, rounding, noise)))  # type: ignore[call-overload]
        assert noise is None or (noise != _noise(values, parse(name), rounding, same)).any()


def test_a_generator_draws_multiples_of_2_to_the_minus_24_below_1() -> None:
    x = torch.zeros(100_000)
    for values, own in zip((x, x.numpy()), draws(0), strict=True):
        noise = torch.as_tensor(_noise(values, parse("e4m3"), "stochastic", own))
        assert noise.dtype == torch.float32
        assert torch.equal(noise * 2**24, (noise * 2**24).floor())
        assert noise.min() >= 0
        assert noise.max() < 1
        assert abs(noise.mean() - 0.5) < 0.01


def test_a_generator_draws_nothing_where_nothing_is_random() -> None:
    own, _ = draws(0)
    before = own.get_state()
    for name, rounding in (("e4m3", "nearest"), ("float32", "stochastic"), ("kmeans2", "nearest")):
        quantize(some(9), name, rounding, generator=own)
    assert torch.equal(own.get_state(), before)


def test_a_generator_of_the_other_library_or_beside_noise_is_refused() -> None:
    ours, numpys = draws(0)
    with pytest.raises(TypeError, match=r"found Generator, expected a torch\.Generator"):
        quantize(torch.zeros(2), "e4m3", "stochastic", generator=numpys)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"found int, expected a numpy\.random\.Generator"):
        quantize(np.zeros(2, np.float32), "e4m3", "stochastic", generator=1)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="noise or a generator"):
        quantize(torch.zeros(2), "e4m3", "stochastic", torch.zeros(2), generator=ours)
    with pytest.raises(ValueError, match="'nearset'"):
        quantize(torch.zeros(2), "e4m3", "nearset", generator=ours)


# --- noise that is wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 1), (1, 2), (4,)])
def test_noise_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    for name in ("range4", "block4"):
        with pytest.raises(ValueError, match="noise"):
            quantize(torch.zeros(2), parse(name), "stochastic", torch.zeros(shape))


def test_noise_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="noise"):
        quantize(torch.zeros(2), parse("e4m3"), "stochastic", torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("rounding", ["nearest", "zero"])
def test_noise_is_left_aside_by_modes_without_chance(rounding: str) -> None:
    x = some(5)
    assert_same(quantize(x, parse("e2m1"), rounding, torch.rand(5)), quantize(x, parse("e2m1"), rounding))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("block4 per=channel axis=2", (3, 4)),
        ("uniform4 per=8 axis=-3", (3, 4)),
        ("mxfp8 axis=2", (3, 2)),
    ],
)
def test_an_axis_that_is_not_there_is_refused(name: str, shape: tuple[int, ...]) -> None:
    axis = name.rpartition("=")[2]
    with pytest.raises(ValueError, match=r"has no axis " + axis) as caught:
        quantize(torch.zeros(shape), parse(name))
    assert str(caught.value).startswith(name_of(parse(name)))


def test_a_format_may_be_given_by_its_name() -> None:
    x = some(3, 40)
    for name in ("e3m2", "block4 per=8", "nvfp4", "float32", "kmeans4", "quantized_bits(4,0,1)"):
        assert torch.equal(quantize(x, name), quantize(x, parse(name)))
    with pytest.raises(UserError, match="unknown format 'e3m'"):
        quantize(x, "e3m")


def test_numpy_arrays_give_numpy_arrays_and_stay_as_they_are() -> None:
    x = some(3, 40).numpy()
    before = x.copy()
    for name in ("e3m2", "block4 per=8", "float32", "kmeans4"):
        found = quantize(x, name)
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.float32
        assert np.array_equal(found, quantize(torch.from_numpy(x), name).numpy())
        found[:] = 0
    noise = noise_like(torch.from_numpy(x)).numpy()
    assert np.array_equal(
        quantize(x[:, ::2], "e4m3", "stochastic", noise[:, ::2]), quantize(x, "e4m3", "stochastic", noise)[:, ::2]
    )
    assert np.array_equal(x, before)
    with pytest.raises(ValueError, match="quantize to e4m3 takes float32, found float64"):
        quantize(x.astype(np.float64), "e4m3")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a tensor or a NumPy array, found list"):
        quantize([1.0], "e4m3")  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["block8 per=channel axis=1", "uniform4 per=channel axis=1", "mxfp4 axis=1"])
def test_a_tensor_of_one_axis_takes_that_whichever_is_named(name: str) -> None:
    x = some(40)
    assert torch.equal(quantize(x, name), quantize(x, name.replace("=1", "=0")))
    assert torch.equal(quantize(x, name, contraction=7), quantize(x, name))
