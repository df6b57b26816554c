"""The rounding rules of all formats for one value, written to be read: slow, exact, the oracle of the fast versions.

Values are placed between their two neighbours in exact arithmetic (fractions), floating point by looking into the list
of all its values. No torch; a value is a Python float that float32 can hold.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import numpy as np

from qsweep.formats import (
    MX,
    NVFP4,
    Binary,
    Block,
    ElementType,
    Fixed,
    Float,
    Float32,
    Floating,
    Format,
    Grid,
    KMeans,
    PowerOfTwo,
    QKeras,
    Range,
    Ternary,
    Unbounded,
    Uniform,
    name_of,
)
from qsweep.formats.declared import random_bits

HALF = Fraction(1, 2)


def quantize_value(x: float, fmt: Format, rounding: str = "nearest", noise: float = 0.0) -> float:
    """One value rounded to a format, as a tensor of one element.

    Args:
        noise: a multiple of 2^-24 in [0, 1), for the stochastic modes.

    Raises:
        ValueError: a format that emulates another library, whose own results are the reference.
    """
    return quantize_group([x], fmt, rounding, [noise])[0]


def quantize_group(
    xs: Sequence[float], fmt: Format, rounding: str = "nearest", noise: Sequence[float] | None = None
) -> list[float]:
    """Values that share one scale, rounded to a format; without a scale, each by itself.

    Args:
        xs: of `nvfp4` a whole tensor of one row, in blocks of 16; of all others one group.
    """
    if isinstance(fmt, QKeras | KMeans) or getattr(fmt, "compat", "none") != "none":
        raise ValueError(f"{name_of(fmt)} emulates another library, whose results are its reference")
    drawn = noise if noise is not None else [0.0] * len(xs)
    pairs = list(zip(xs, drawn, strict=True))
    match fmt:
        case Float32():
            return list(xs)
        case Range():
            return [_range(x, fmt, rounding, u) for x, u in pairs]
        case Fixed() | Unbounded() | Float():
            return [place(x, fmt.elements, rounding, u) for x, u in pairs]
        case NVFP4():
            return _nvfp4(pairs, fmt, rounding)
    if not all(map(math.isfinite, xs)):
        return [math.nan] * len(xs)
    if isinstance(fmt, Uniform) and not fmt.symmetric:
        return _between(pairs, fmt, rounding)
    if isinstance(fmt, Binary | Ternary):
        return [_sign(x, u, fmt, xs, rounding) for x, u in pairs]
    assert isinstance(fmt, Block | MX | Uniform | PowerOfTwo)  # noqa: S101
    scale = scale_of(xs, fmt)
    return [_scaled(x, scale, fmt.elements, rounding, u) for x, u in pairs]


# --- between two neighbours -------------------------------------------------------------------------------------------


def place(x: float, elements: ElementType, rounding: str, noise: float) -> float:
    """One value rounded to a grid or to floating point."""
    if math.isnan(x):
        return x
    if isinstance(elements, Grid):
        return _to_grid(x, elements, rounding, noise)
    return _to_floating(x, elements, rounding, noise)


def goes_up(part: Fraction, odd: bool, negative: bool, rounding: str, noise: float) -> bool:
    """Whether a value is rounded to its upper neighbour.

    Args:
        part: its distance from the lower neighbour, in [0, 1), of that between the two.
        odd: whether the lower neighbour's code is odd.
    """
    if part == 0:
        return False
    bits = random_bits(rounding)
    if bits:  # the larger magnitude, by as many bits of the distance as there are random bits
        away = 1 - part if negative else part
        grows = math.floor(Fraction(noise) * 2**bits) < math.floor(away * 2**bits)
        return bool(grows != negative)
    nearer_up = part > HALF
    choices: dict[str, bool] = {
        "nearest": odd if part == HALF else nearer_up,
        "away": not negative if part == HALF else nearer_up,
        "zero": negative,
        "up": True,
        "down": False,
        "stochastic": Fraction(noise) < part,
    }
    return choices[rounding]


def _to_grid(x: float, grid: Grid, rounding: str, noise: float) -> float:
    if math.isinf(x):
        ends = {"saturate": grid.highest * grid.step if x > 0 else grid.lowest * grid.step, "wrap": math.nan}
        return ends.get(grid.overflow, x)
    exact = Fraction(x) / Fraction(grid.step)
    lower = math.floor(exact)
    part = Fraction(float(exact - lower))  # in float64: a scale that is not a power of two has made x inexact already
    k = lower + goes_up(part, lower % 2 == 1, x < 0, rounding, noise)
    if grid.overflow == "saturate":
        k = min(max(k, grid.lowest), grid.highest)
    elif grid.overflow == "wrap":
        k = (k - grid.lowest) % (grid.highest - grid.lowest + 1) + grid.lowest
    return float(np.float32(k * grid.step))


@cache
def _positive(floating: Floating) -> list[float]:
    """0 and all values above it, so that an index is a code; then the value that would come next."""
    values = [0.0, *(v for v in floating.values() if v > 0)]
    return [*values, values[-1] + math.ldexp(1.0, _exponent(values[-1]) - floating.mantissa)]


def _to_floating(x: float, floating: Floating, rounding: str, noise: float) -> float:
    negative = math.copysign(1.0, x) < 0
    values, magnitude = _positive(floating), abs(x)
    if magnitude >= values[-1]:
        return math.copysign(_overflow(x, floating, rounding), x)
    code = bisect_right(values, magnitude) - 1
    smaller, larger = values[code], values[code + 1]
    part = Fraction(magnitude - smaller) / Fraction(larger - smaller)  # float64 has these differences exactly
    odd = code % 2 == 1 if floating.mantissa else code > 0  # a tie of two powers of two goes to the larger one
    if negative and part:
        grows = not goes_up(Fraction(float(1 - part)), not odd, True, rounding, noise)
    else:
        grows = goes_up(part, odd, False, rounding, noise)
    result = larger if grows else smaller
    if result > floating.largest:
        result = _overflow(x, floating, rounding)
    if result == 0 and not floating.has_zero:
        result = floating.smallest
    return math.copysign(result, x) if floating.has_zero or x else result


def _overflow(x: float, floating: Floating, rounding: str) -> float:
    """The result of overflow; the largest number in modes that round toward zero here (IEEE 754-2019, 7.4)."""
    inward = {"zero": True, "up": x < 0, "down": x > 0}.get(rounding, False)
    return floating.largest if inward and math.isfinite(x) else floating.beyond


# --- range ------------------------------------------------------------------------------------------------------------


def _range(w: float, fmt: Range, rounding: str, noise: float) -> float:
    """x and its distance from the lower level are computed in float32, as in the source; the rest is exact."""
    if math.isnan(w):
        return w
    per_unit = np.float32(fmt.steps_per_unit)
    with np.errstate(over="ignore", invalid="ignore"):
        x = float(np.float32(w) * per_unit)
    if math.isinf(x):
        k = fmt.highest if x > 0 else fmt.lowest
        return float(np.float32(k) / per_unit)
    lower = math.floor(x)
    part = Fraction(float(np.float32(x - lower))) if rounding == "stochastic" else Fraction(x) - lower
    r = lower + goes_up(part, lower % 2 == 1, x < 0, rounding, noise)
    if float(np.float32(round(x)) / per_unit) == w:
        r = round(x)  # a level never moves, even where x misses its integer by an ulp
    if r == 0 and not fmt.zero:
        r = (w > 0) - (w < 0)
    return float(np.float32(min(max(r, fmt.lowest), fmt.highest)) / per_unit)


# --- under a scale ----------------------------------------------------------------------------------------------------


def scale_of(xs: Sequence[float], fmt: Block | MX | Uniform | PowerOfTwo) -> float:
    """The scale of a group of finite values, in float64."""
    largest = max(map(abs, xs), default=0.0)
    if largest == 0 and (isinstance(fmt, Block | MX) or isinstance(fmt.scaling, str)):
        return 1.0
    match fmt:
        case Block():
            return math.ldexp(1.0, _exponent(largest) + fmt.shift)
        case MX():
            return math.ldexp(1.0, min(max(_exponent(largest) + fmt.shift, -127), 127))
        case PowerOfTwo():
            return fitting(nearest_power(largest) if isinstance(fmt.scaling, str) else fmt.scaling, 1.0)
    if isinstance(fmt.scaling, str):
        scale = largest / fmt.elements.highest
        return fitting(next_power(scale), fmt.elements.magnitude) if fmt.scaling == "po2" else scale
    return fmt.scaling / fmt.elements.highest


def fitting(scale: float, magnitude: float) -> float:
    """A power of two as scale, halved if float32 cannot hold scale · largest magnitude of an element."""
    return scale if scale * magnitude < 2.0**128 else scale / 2


def _exponent(x: float) -> int:
    """e of 2^e ≤ x < 2^(e+1)."""
    return math.frexp(x)[1] - 1


def nearest_power(x: float) -> float:
    """The power of two nearest to x, x > 0; a tie goes to the larger one."""
    fraction, exponent = math.frexp(x)
    return math.ldexp(1.0, exponent - (fraction < 0.75))


def next_power(x: float) -> float:
    """The smallest power of two not below x, x > 0."""
    fraction, exponent = math.frexp(x)
    return math.ldexp(1.0, exponent - (fraction == 0.5))


def _scaled(x: float, scale: float, elements: ElementType, rounding: str, noise: float) -> float:
    def element(mode: str) -> float:
        found = place(x / scale, elements, mode, noise)
        is_missing = isinstance(elements, Grid) and found * scale <= -(2.0**128)  # then the lowest code is not used
        return -elements.largest if is_missing else found

    near = float(np.float32(element("nearest") * scale))
    return near if near == x else float(np.float32(element(rounding) * scale))  # representable values never change


def _nvfp4(pairs: Sequence[tuple[float, float]], fmt: NVFP4, rounding: str) -> list[float]:
    e4m3 = Float(4, 3, saturate=True).elements
    results: list[float] = []
    largest = max((abs(x) for x, _ in pairs), default=0.0)
    if fmt.tensor_scale and not all(math.isfinite(x) for x, _ in pairs):
        return [math.nan] * len(pairs)
    tensor = max(float(np.float32(largest / (6 * 448))), 2.0**-149) if fmt.tensor_scale else 1.0
    if fmt.arithmetic == "nvidia":
        return _nvfp4_of_nvidia(pairs, fmt, rounding, largest)
    for start in range(0, len(pairs), fmt.per):
        block = pairs[start : start + fmt.per]
        if not all(math.isfinite(x) for x, _ in block):
            results += [math.nan] * len(block)
            continue
        scale = place(max(abs(x) for x, _ in block) / (6 * tensor), e4m3, "nearest", 0.0)
        results += [_scaled(x, max(scale, e4m3.smallest) * tensor, fmt.elements, rounding, u) for x, u in block]
    return results


def _nvfp4_of_nvidia(pairs: Sequence[tuple[float, float]], fmt: NVFP4, rounding: str, largest: float) -> list[float]:
    """Every operation in float32, as in NVIDIA's reference."""
    single, most = np.float32, np.finfo(np.float32).max
    e4m3 = Float(4, 3, saturate=True).elements
    results: list[float] = []
    with np.errstate(all="ignore"):
        encode = min(single(2688) / single(largest), most)
        for start in range(0, len(pairs), fmt.per):
            block = pairs[start : start + fmt.per]
            ratio = single(max(abs(x) for x, _ in block)) / single(6) * encode
            scale = single(place(float(min(ratio, most)), e4m3, "nearest", 0.0))
            inverse = min(single(1) / (scale * (single(1) / encode)), most)
            value = float(scale) * float(single(largest / 2688))
            for x, noise in block:
                t = float(np.clip(single(x) * inverse, -6, 6))
                near, element = place(t, fmt.elements, "nearest", 0.0), place(t, fmt.elements, rounding, noise)
                results.append(float(single((near if float(single(near * value)) == x else element) * value)))
    return results


def _between(pairs: Sequence[tuple[float, float]], fmt: Uniform, rounding: str) -> list[float]:
    """Levels from the smallest to the largest value."""
    xs = [x for x, _ in pairs]
    low, high = (min(xs), max(xs)) if isinstance(fmt.scaling, str) else (-fmt.scaling, fmt.scaling)
    n = fmt.elements.highest

    def level(k: int) -> float:
        return float(np.float32((low * (n - k) + high * k) / n))

    def one(x: float, noise: float) -> float:
        if low == high:
            return x
        exact = min(max((x - low) * n / (high - low), 0.0), float(n))
        near = round(exact)
        if level(near) == x:
            return x
        lower = math.floor(exact)
        return level(lower + goes_up(Fraction(exact) - lower, lower % 2 == 1, False, rounding, noise))

    return [one(x, noise) for x, noise in pairs]


def _sign(x: float, noise: float, fmt: Binary | Ternary, xs: Sequence[float], rounding: str) -> float:
    """Binary and ternary: elements -1, 0 or 1."""
    threshold = fmt.threshold if isinstance(fmt, Ternary) else 0.0
    limit = float(np.float32(0.7 * mean_magnitude(xs))) if isinstance(threshold, str) else threshold
    kept = [v for v in xs if isinstance(fmt, Binary) or abs(v) > limit]
    if isinstance(fmt.scaling, str):
        scale = float(np.float32(mean_magnitude(kept)))
        if fmt.scaling == "po2" and scale:
            scale = fitting(nearest_power(scale), 1.0)
    else:
        scale = float(np.float32(fmt.scaling))
    if scale == 0:
        return 0.0
    if isinstance(fmt, Binary):
        return scale * _binary(x / scale, rounding, noise)
    if rounding == "nearest":
        return scale * ((x > limit) - (x < -limit))
    return _scaled(x, scale, fmt.elements, rounding, noise)


def _binary(t: float, rounding: str, noise: float) -> int:
    """-1 or 1 for a value in units of the scale."""
    if rounding in ("nearest", "away", "zero") or abs(t) >= 1:
        return 1 if t >= 0 else -1
    return 1 if goes_up(Fraction((t + 1) / 2), False, False, rounding, noise) else -1


def mean_magnitude(xs: Sequence[float]) -> float:
    """The mean of |x|, each |x| first rounded to a multiple of 2^(E - 30), E the exponent of the largest of them.

    So the sum is one of integers: it is the same in any order, on any device.
    """
    largest = max(map(abs, xs), default=0.0)
    if largest == 0:
        return 0.0
    unit = math.ldexp(1.0, _exponent(largest) - 30)
    return sum(round(abs(x) / unit) for x in xs) * unit / len(xs)
