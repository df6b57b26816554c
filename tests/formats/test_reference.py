"""The slow reference: what it gives of numbers worked out by hand, and that the tensor version gives the same bits."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from points import MODES, assert_same, noise_like, points, small_floats, with_neighbours
from torch import Tensor

from qsweep.formats import Fixed, Float, Format, Range, name_of, parse
from qsweep.formats.reference import mean_magnitude, nearest_power, next_power, quantize_group, quantize_value
from qsweep.rounding import quantize

INF, NAN = math.inf, math.nan


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rounding", "x", "expected"),
    [
        ("e4m3", "nearest", 448.0, 448.0),
        ("e4m3", "nearest", 464.0, 448.0),  # a tie, and 448 has an even code
        ("e4m3", "nearest", 465.0, NAN),
        ("e4m3 saturate=true", "nearest", INF, 448.0),
        ("e4m3 flavour=ieee", "nearest", 247.9, 240.0),
        ("e4m3 flavour=ieee", "nearest", 248.0, INF),
        ("e4m3", "away", 464.0, NAN),
        ("e4m3", "zero", 1e9, 448.0),
        ("e4m3", "up", -1e9, -448.0),
        ("e4m3", "up", 449.0, NAN),
        ("e5m2", "down", INF, INF),
        ("e5m2", "nearest", 61439.0, 57344.0),
        ("e5m2", "nearest", 61440.0, INF),
        ("e2m1", "nearest", 5.0, 4.0),
        ("e2m1", "away", -5.0, -6.0),
        ("e2m1", "nearest", 0.25, 0.0),
        ("e2m1", "nearest", -0.2, -0.0),
        ("e2m1", "nearest", INF, 6.0),
        ("e2m1", "up", 2.0**-149, 0.5),
        ("e2m1", "down", -(2.0**-149), -0.5),
        ("fp16", "nearest", 65519.0, 65504.0),
        ("fp16", "nearest", 65520.0, INF),
        ("fp16", "nearest", 2.0**-25, 0.0),
        ("bf16", "nearest", 1 + 2.0**-8, 1.0),
        ("bf16", "nearest", 1 + 3 * 2.0**-8, 1 + 2.0**-6),
        ("fixed4f1", "nearest", 1.25, 1.0),
        ("fixed4f1", "away", -1.25, -1.5),
        ("fixed4f1", "nearest", 9.0, 3.5),
        ("fixed4f1 symmetric=true", "nearest", -9.0, -3.5),
        ("fixed4f1 overflow=wrap", "nearest", 4.0, -4.0),
        ("fixed4f1 overflow=wrap", "nearest", 12.5, -3.5),
        ("fixed4f1 overflow=wrap", "nearest", INF, NAN),
        ("fixed4f1 overflow=unbounded", "nearest", -INF, -INF),
        ("fixed4f1", "nearest", -0.2, 0.0),
        ("fixed8f-2", "up", 1.0, 4.0),
        ("range3", "nearest", INF, 0.75),
        ("range3", "nearest", -INF, -1.0),
        ("range3 zero=false", "nearest", -0.01, -0.25),
        ("range3 zero=false", "nearest", 0.0, 0.0),
    ],
)
def test_quantize_value_gives_what_the_law_says(name: str, rounding: str, x: float, expected: float) -> None:
    found = quantize_value(x, parse(name), rounding)
    assert_same(torch.tensor([found]), torch.tensor([expected]))


@pytest.mark.parametrize(
    ("rounding", "x", "noise", "expected"),
    [
        ("stochastic", 1.25, 0.25, 1.0),
        ("stochastic", 1.25, 0.25 - 2**-24, 2.0),
        ("stochastic", -1.25, 0.75, -2.0),
        ("stochastic", -1.25, 0.75 - 2**-24, -1.0),
        ("stochastic1", 1.49, 0.0, 1.0),  # one bit: a distance below ½ is cut to 0
        ("stochastic1", 1.5, 0.49, 2.0),
        ("stochastic1", 1.99, 0.5, 1.0),
        ("stochastic2", -1.8, 0.7, -2.0),
        ("stochastic2", -1.8, 0.75, -1.0),
        ("stochastic4", 2.0, 0.0, 2.0),
    ],
)
def test_quantize_value_stochastic_compares_the_noise_with_the_distance(
    rounding: str, x: float, noise: float, expected: float
) -> None:
    assert quantize_value(x, parse("fixed8f0"), rounding, noise) == expected


@pytest.mark.parametrize(
    ("name", "xs", "expected"),
    [
        ("block4", [7.0, 1.4, -0.5, 8.0], [8.0, 2.0, 0.0, 8.0]),
        ("block4", [15.9, -15.9, 0.0], [14.0, -14.0, 0.0]),
        ("mxfp4", [7.9, -1.2, 0.2], [6.0, -1.0, 0.0]),
        ("mxint8", [1.99, -1.999, 0.5], [127 / 64, -2.0, 0.5]),
        ("uniform2", [-1.0, 0.1, 2.0], [-1.0, 0.0, 2.0]),
        ("uniform3 symmetric=true", [3.0, 1.4, -1.5], [3.0, 1.0, -2.0]),
        ("uniform3 symmetric=true scaling=po2", [5.0, 1.0, -3.0], [4.0, 0.0, -4.0]),
        ("uniform2 scaling=1", [-5.0, 0.4, 0.9], [-1.0, 1 / 3, 1.0]),
        ("po2_3", [1.0, 0.75, 0.3, 0.126, 0.125, -1.0], [1.0, 1.0, 0.25, 0.25, 0.0, -1.0]),
        ("po2_3 zero=false", [1.0, 0.0, -0.001], [1.0, 0.125, -0.125]),
        ("binary", [1.0, -2.0, 0.0], [1.0, -1.0, 1.0]),
        ("binary scaling=po2", [1.5, -1.5], [2.0, -2.0]),
        ("ternary", [1.0, -2.0, 0.5, 0.5], [1.5, -1.5, 0.0, 0.0]),
        ("ternary threshold=0.5 scaling=1", [0.5, 0.51, -3.0], [0.0, 1.0, -1.0]),
    ],
)
def test_quantize_group_gives_what_the_law_says(name: str, xs: list[float], expected: list[float]) -> None:
    found = quantize_group(torch.tensor(xs).tolist(), parse(name))
    assert_same(torch.tensor(found), torch.tensor(expected))


@pytest.mark.parametrize(
    ("x", "nearest", "following"), [(1.0, 1, 1), (1.4, 1, 2), (1.5, 2, 2), (0.7, 0.5, 1), (3, 4, 4)]
)
def test_powers_of_two_near_a_number(x: float, nearest: float, following: float) -> None:
    assert (nearest_power(x), next_power(x)) == (nearest, following)


def test_mean_magnitude_is_the_mean() -> None:
    assert mean_magnitude([1.0, -2.0, 3.0]) == 2.0
    assert mean_magnitude([0.0, -0.0]) == mean_magnitude([]) == 0.0


# --- the tensor version gives the same bits ---------------------------------------------------------------------------


def assert_values_agree(x: Tensor, fmt: Format, modes: tuple[str, ...] = MODES) -> None:
    noise = noise_like(x)
    for mode in modes:
        expected = torch.tensor(quantize_group(x.tolist(), fmt, mode, noise.tolist()), dtype=torch.float32)
        assert_same(quantize(x, fmt, mode, noise), expected, x)


FEWER = ("nearest", "up", "stochastic4")


@pytest.mark.parametrize("fmt", small_floats(), ids=name_of)
def test_every_code_of_every_float_up_to_8_bits(fmt: Float) -> None:
    """The flavours differ at their largest numbers alone: one of them is tried in all modes."""
    assert_values_agree(points(fmt.elements), fmt, MODES if (fmt.kind, fmt.saturate) == ("ieee", False) else FEWER)


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "e3m4"])
def test_standard_floats_are_in_the_flavours_of_their_standards(name: str) -> None:
    fmt = parse(name)
    assert isinstance(fmt, Float)
    assert_values_agree(points(fmt.elements), fmt, FEWER)


FIXED = [
    *(Fixed(w, w - 1) for w in range(1, 9)),
    *(Fixed(w, w - 1, symmetric=True) for w in range(2, 9)),
    *(Fixed(w, 2, overflow=overflow) for w in (1, 3, 8) for overflow in ("wrap", "unbounded")),
    *(Fixed(*own) for own in [(8, -3), (4, 9), (5, -96), (6, 120)]),
]


@pytest.mark.parametrize("fmt", FIXED, ids=name_of)
def test_every_code_of_fixed_point_up_to_8_bits(fmt: Fixed) -> None:
    assert_values_agree(points(fmt.elements), fmt)


@pytest.mark.parametrize("bitwidth", range(1, 9))
@pytest.mark.parametrize(("scale", "zero"), [(1.0, True), (10.0, False), (1 / 3, True), (7.0, False)])
def test_every_level_of_range_up_to_8_bits(bitwidth: int, scale: float, zero: bool) -> None:
    fmt = Range(bitwidth, scale, zero)
    levels = [k / fmt.steps_per_unit for k in range(fmt.lowest - 2, fmt.highest + 3)]
    middles = [(a + b) / 2 for a, b in pairwise(levels)]
    x = with_neighbours(torch.tensor([*levels, *middles, INF, NAN, 1e30, 3e38, 2.0**-149]).double().numpy())
    assert_values_agree(x, fmt, ("nearest", "zero", "up", "stochastic", "stochastic4"))


@pytest.mark.parametrize(
    ("name", "stride"),
    [("fp16", 397), ("bf16", 397), ("tf32", 2999), ("e6m9", 397), ("e8m1", 5), ("e2m13", 397), ("e5m3 flavour=nan", 5)],
)
def test_wider_floats_with_a_stride(name: str, stride: int) -> None:
    fmt = parse(name)
    assert isinstance(fmt, Float)
    assert_values_agree(points(fmt.elements, stride), fmt, ("nearest", "away", "down", "stochastic"))


@pytest.mark.parametrize("name", ["fixed16f8", "fixed16f15 overflow=wrap", "fixed12f0 symmetric=true"])
def test_wider_fixed_point_with_a_stride(name: str) -> None:
    fmt = parse(name)
    assert isinstance(fmt, Fixed)
    assert_values_agree(points(fmt.elements, 499), fmt)


def test_stochastic_range_compares_the_noise_with_the_distance_in_float32() -> None:
    """As its document does: the distance 0.90121546… of x from its lower neighbour is the noise itself there."""
    x, noise = -0.012348069809377193, 0.9012154340744019
    exact = Fraction(x) * 8 - math.floor(x * 8)
    assert Fraction(noise) < exact
    assert quantize_value(x, Range(4), "stochastic", noise) == -0.125
    assert quantize(torch.tensor([x]), Range(4), "stochastic", torch.tensor([noise])).item() == -0.125


SCALED = [
    *(f"block{w}" for w in range(2, 9)),
    *(f"uniform{w}" for w in range(1, 9)),
    *(f"uniform{w} symmetric=true" for w in range(2, 9)),
    *(f"po2_{w}" for w in range(2, 9)),
    *(f"po2_{w} zero=false" for w in (2, 5)),
    *("mxfp8", "mxfp8_e5m2", "mxfp6", "mxfp6_e3m2", "mxfp4", "mxint8", "nvfp4"),
    *("nvfp4 tensor_scale=false", "nvfp4 arithmetic=nvidia"),
    *("uniform8 symmetric=true scaling=po2", "uniform4 scaling=2", "uniform4 symmetric=true scaling=0.7"),
    *("po2_4 scaling=0.5", "binary", "binary scaling=0.5", "binary scaling=po2"),
    *(
        "ternary",
        "ternary scaling=po2",
        "ternary threshold=0.5 scaling=1",
        "ternary threshold=0",
        "block16",
        "uniform12",
    ),
]


def codes(fmt: Format) -> Tensor:
    """Every code of a format under a scale (of wide ones each some-th), as `points` has them, between ±its largest."""
    if fmt.elements is None or name_of(fmt).startswith("ternary"):
        return torch.cat([torch.linspace(-2, 2, 65), torch.randn(60, generator=torch.Generator().manual_seed(1))])
    x = points(fmt.elements, max(1, len(list(fmt.elements.values())) // 256))
    x = x[x.abs() <= max(fmt.elements.largest, 1.0)]
    # a uniform format's scale should not be a power of two
    return x if fmt.elements.largest <= 1 or not name_of(fmt).startswith("uniform") else x / 3


def groups_of(x: Tensor, width: int) -> list[Tensor]:
    """Runs of `width` - 1 values, each with the largest magnitude of all in front, so that all have the same scale."""
    return [torch.cat([x[x.abs().argmax()].view(1), run]) for run in x.split(width - 1)]


@pytest.mark.parametrize("name", SCALED)
def test_every_code_of_every_format_under_a_scale(name: str) -> None:
    fmt = parse(name)
    for group in groups_of(codes(fmt), 16 if name.startswith("nv") else 32):
        noise = noise_like(group)
        for mode in ("nearest", "down", "stochastic4"):
            expected = quantize_group(group.tolist(), fmt, mode, noise.tolist())
            assert_same(quantize(group, fmt, mode, noise), torch.tensor(expected, dtype=torch.float32), group)


HARD = {
    "tiny": [1e-45, -3e-45, 1e-40, 0.0, -0.0, 1e-38, -1.2e-38],
    "zeros": [0.0, -0.0, 0.0],
    "equal": [0.3, 0.3, 0.3],
    "one": [-0.7],
    "huge": [3e38, -1e38, 1.0, 2.9e38],
    "wide": [2e38, 1e-38, -1.0, 1e10, 1e-45],
    "nan": [1.0, NAN, 2.0],
    "inf": [1.0, -INF, 0.0],
}


@pytest.mark.parametrize("name", SCALED)
def test_groups_of_odd_values_under_a_scale(name: str) -> None:
    fmt = parse(name)
    for values in HARD.values():
        x = torch.tensor(values)
        noise = noise_like(x, 3)
        for mode in ("nearest", "away", "down", "stochastic", "stochastic4"):
            expected = quantize_group(x.tolist(), fmt, mode, noise.tolist())
            assert_same(quantize(x, fmt, mode, noise), torch.tensor(expected, dtype=torch.float32), x)


@pytest.mark.parametrize(
    ("name", "xs"),
    [
        ("mxint8", [-3.4028235e38, 1.0]),
        ("po2_4", [3.4028235e38, 1.0]),
        ("uniform4 symmetric=true scaling=po2", [3.4028235e38, 1.0]),
        ("binary scaling=po2", [3.4028235e38, 3.4028235e38]),
        ("ternary scaling=po2", [3.4028235e38, 3.4028235e38]),
        ("nvfp4", [3.4028235e38, 1.0]),
        ("block2", [3.4028235e38, 1.0]),
        ("uniform4 symmetric=true", [3.4028235e38, 1.0]),
    ],
)
def test_finite_values_stay_finite_under_a_scale_of_their_own(name: str, xs: list[float]) -> None:
    assert quantize(torch.tensor(xs), parse(name)).isfinite().all()
    assert all(math.isfinite(torch.tensor(v).item()) for v in quantize_group(torch.tensor(xs).tolist(), parse(name)))


def test_ternary_without_a_value_above_its_threshold_gives_plus_zero() -> None:
    fmt = parse("ternary threshold=2")
    for mode in MODES:
        x, noise = torch.tensor([-0.5, 0.5, -0.0]), torch.tensor([0.9, 0.1, 0.0])
        expected = quantize_group(x.tolist(), fmt, mode, noise.tolist())
        assert_same(quantize(x, fmt, mode, noise), torch.tensor(expected), x)
