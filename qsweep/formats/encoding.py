"""Encoding tensors as the codes of their elements and the scales of their groups, and decoding them, bit for bit.

A rounded tensor holds neither: both are recovered from its values. What `encoded` returns was decoded once for a check,
and matched every bit of the values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsweep.formats.codes import SIGN_FIRST, SIGNED, Coding, FloatCode, IntegerCode, float_code, values
from qsweep.formats.family import Format
from qsweep.formats.scale import E4M3Scale, GivenEnds, GivenScale, NumberScale, PowerScale, Scale

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]
Scales = NDArray[Any]
"""As stored: float32 numbers; E8M0 exponents or e4m3 codes as uint8, the latter after the bytes of the tensor's float32
scale. Empty if a format has none."""

EXPONENT_BIAS = 127
"""Bias of the exponents of powers of two, as in E8M0."""
HIGHEST_EXPONENT = 254
"""As stored; 255 is NaN."""
E4M3 = float_code(4, 3, "nan")
ONE = np.ones(1, dtype=np.float32)
HALF = 0.5
"""The mantissa that `frexp` returns for a power of two."""


@dataclass(frozen=True)
class Encoded:
    codes: Integers
    scales: Scales


# --- from codes to values ---------------------------------------------------------------------------------------------


def decoded(fmt: Format, own: Encoded, numbers: Integers) -> NDArray[np.float32]:
    """The values of codes and scales; `numbers` has the group of each value."""
    code, scale = fmt.code, fmt.group_scale
    assert code is not None  # noqa: S101
    if isinstance(scale, GivenEnds):
        m, n = scale.magnitude, _last(code)
        return np.asarray((-m * (n - own.codes) + m * own.codes) / n, dtype=np.float32)
    elements = _elements(code, own.codes)
    with np.errstate(over="ignore", invalid="ignore"):  # scales of a damaged file, or candidates
        if scale is not None:
            elements = elements * _factors(scale, own.scales, int(numbers.max()) + 1)[numbers]
        return elements.astype(np.float32)


def _last(code: Coding) -> int:
    """The highest of codes that count from 0."""
    assert isinstance(code, IntegerCode)  # noqa: S101
    return code.most


def _elements(code: Coding, codes: Integers) -> Numbers:
    if isinstance(code, IntegerCode):
        elements = (_signed(code, codes) / code.per_unit + code.offset).astype(np.float32)
        return elements.astype(np.float64)
    magnitude = codes & ((1 << (code.bits - 1)) - 1)
    field, fraction = magnitude >> code.mantissa, magnitude & ((1 << code.mantissa) - 1)
    is_normal = (field > 0) | (not code.has_zero)
    whole = fraction + (is_normal << np.int64(code.mantissa))
    exponent = np.where(is_normal, field, 1) - code.bias - code.mantissa
    return np.asarray(np.copysign(np.ldexp(whole.astype(np.float64), exponent), 0.5 - (codes >> (code.bits - 1))))


def _signed(code: IntegerCode, codes: Integers) -> Integers:
    """The integer k of each code."""
    half = 1 << (code.bits - 1)
    if code.style == SIGNED:
        return np.where(codes >= half, codes - 2 * half, codes)
    return np.where(codes >= half, half - codes, codes) if code.style == SIGN_FIRST else codes


def are_codes(fmt: Format, codes: Integers) -> bool:
    """Whether each of these is the code of a finite number."""
    code = fmt.code
    if isinstance(code, IntegerCode):
        k = _signed(code, codes)
        return bool(((k >= code.least) & (k <= code.most)).all())
    assert code is not None  # noqa: S101
    return bool(((codes & ((1 << (code.bits - 1)) - 1)) <= code.highest).all())


def _factors(scale: Scale, stored: Scales, count: int) -> Numbers:
    """What the elements of each group are multiplied by."""
    match scale:
        case GivenScale():
            return np.full(count, scale.magnitude / scale.element)
        case PowerScale():
            return np.ldexp(np.ones(count), stored.astype(np.int64) - EXPONENT_BIAS + scale.shift)
        case NumberScale():
            return np.asarray(stored.astype(np.float64) / scale.element, dtype=np.float64)
        case E4M3Scale():
            of_tensor, of_groups = (stored[:4], stored[4:]) if scale.of_tensor else (ONE, stored)
            return _elements(E4M3, of_groups.astype(np.int64)) * float(of_tensor.view(np.float32)[0])
    raise AssertionError(f"values cannot be decoded under {scale.kind}")


def scales_fit(fmt: Format, scales: Scales, count: int) -> bool:
    """Whether these can be the scales of `count` groups."""
    own = fmt.group_scale
    bits = count * own.bits + own.tensor_bits if own else 0
    dtype = np.float32 if own and isinstance(own, NumberScale) else np.uint8
    return scales.dtype == dtype and scales.ndim == 1 and 8 * scales.nbytes == bits


# --- from values to codes ---------------------------------------------------------------------------------------------


def encoded(fmt: Format, values: NDArray[np.float32], numbers: Integers) -> Encoded | None:
    """Codes and scales that decode to exactly these values; None if the values are not those of the format.

    Args:
        values: (N,), not empty.
        numbers: the group of each value, (N,).
    """
    if not fmt.is_coded or not np.isfinite(values).all():
        return None
    largest = np.zeros(int(numbers.max()) + 1)
    np.maximum.at(largest, numbers, np.abs(values).astype(np.float64))
    for prefix in _tensor_scales(fmt, float(largest.max())):
        if own := _with_prefix(fmt, prefix, largest, values, numbers):
            return own
    return None


def _with_prefix(
    fmt: Format, of_tensor: Scales, largest: Numbers, values: NDArray[np.float32], numbers: Integers
) -> Encoded | None:
    """Encode each group under the first candidate scale that decodes to its values."""
    found = np.zeros(len(largest), dtype=bool)
    kept: Scales | None = None
    for scales in _group_scales(fmt, of_tensor, largest):
        kept = scales if kept is None else np.where(found, kept, scales)
        whole = np.concatenate([of_tensor, kept]) if of_tensor.size else kept
        own = Encoded(_nearest(fmt, whole, values, numbers), whole)
        wrong = decoded(fmt, own, numbers).view(np.uint32) != values.view(np.uint32)
        found = np.bincount(numbers[wrong], minlength=len(largest)) == 0
        if found.all():
            return own
    return None


def _tensor_scales(fmt: Format, largest: float) -> Iterator[Scales]:
    """Candidates for the scale of the whole tensor, likeliest first; an empty one if it has none."""
    if not (isinstance(fmt.group_scale, E4M3Scale) and fmt.group_scale.of_tensor):
        yield np.zeros(0, dtype=np.uint8)
        return
    assert fmt.code is not None  # noqa: S101
    middle = np.array([largest / (fmt.code.largest * E4M3.largest)], dtype=np.float32).view(np.int32)
    for ulps in (0, 1, -1, 2, -2):  # the largest value was rounded to float32: the scale is within 2 ulps
        yield np.maximum(middle + np.int32(ulps), 0).astype(np.int32).view(np.uint8)


def _group_scales(fmt: Format, of_tensor: Scales, largest: Numbers) -> Iterator[Scales]:
    """Candidates for the scales of groups, likeliest first, from their largest magnitudes after rounding."""
    match fmt.group_scale:
        case E4M3Scale():
            unit = float(of_tensor.view(np.float32)[0]) if of_tensor.size else 1.0
            for element in reversed([value for value in values(fmt.code) if value > 0]):
                yield _float_codes(E4M3, largest / (element * unit) if unit else largest).astype(np.uint8)
        case NumberScale():
            yield largest.astype(np.float32)
        case PowerScale() as own:
            first = _exponents(own, largest)
            for more in (0, 1, -1):  # -128 of mxint8 is one power higher; stochastic rounding may end one lower
                stored = np.clip(first + more + EXPONENT_BIAS, 0, HIGHEST_EXPONENT)
                yield np.where(largest == 0, EXPONENT_BIAS, stored).astype(np.uint8)
        case _:
            yield np.zeros(0, dtype=np.uint8)


def _exponents(scale: PowerScale, largest: Numbers) -> Integers:
    """Exponents of the groups' powers of two, if their largest values were rounded to nearest."""
    mantissa, above = np.frexp(largest / scale.element)
    is_power = mantissa == HALF
    return np.asarray(above - (is_power if scale.is_above else 1), dtype=np.int64)


def _nearest(fmt: Format, scales: Scales, values: NDArray[np.float32], numbers: Integers) -> Integers:
    """The code of the nearest element of each value under these scales."""
    code, scale, wide = fmt.code, fmt.group_scale, values.astype(np.float64)
    assert code is not None  # noqa: S101
    if isinstance(scale, GivenEnds):
        m, n = scale.magnitude, _last(code)
        return np.clip(np.rint((wide + m) * n / (2 * m)), 0, n).astype(np.int64)
    if scale is not None:
        factors = _factors(scale, scales, int(numbers.max()) + 1)[numbers]
        zero = np.copysign(1.0, wide)  # under a scale of 0 each element is 0
        wide = np.where(factors == 0, zero, wide / np.where(factors == 0, 1.0, factors))
    if isinstance(code, FloatCode):
        return _float_codes(code, wide)
    k = np.clip(np.rint((wide - code.offset) * code.per_unit), code.least, code.most).astype(np.int64)
    if code.style == SIGNED:
        return k & np.int64((1 << code.bits) - 1)
    return np.where(k < 0, (1 << (code.bits - 1)) - k, k) if code.style == SIGN_FIRST else k


def _float_codes(code: FloatCode, elements: Numbers) -> Integers:
    """The codes of the nearest finite numbers, ties to even."""
    magnitude, least = np.abs(elements), (1 if code.has_zero else 0) - code.bias
    exponent = np.maximum(np.where(magnitude == 0, least, np.frexp(magnitude)[1] - 1), least).astype(np.int64)
    whole = np.rint(np.ldexp(magnitude, code.mantissa - exponent)).astype(np.int64)  # the leading 1 included
    codes = ((exponent + code.bias) << code.mantissa) + whole - (1 << code.mantissa)
    return np.asarray(np.clip(codes, 0, code.highest) | (np.signbit(elements).astype(np.int64) << (code.bits - 1)))
