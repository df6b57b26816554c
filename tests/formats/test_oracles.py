"""Formats against what others made of them: ml_dtypes, gfloat, PyTorch's and NumPy's own types, plain integers.

Not compared: ml_dtypes' NaN in the formats that have none (it gives -0, ours NaN), and P3109's formats of gfloat, whose
bias is one more than IEEE's and which have no -0.
"""

from __future__ import annotations

import warnings
from fractions import Fraction

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import pytest
import torch
from gfloat import Domain, FormatInfo, RoundMode
from points import assert_same, noise_like, points, small_floats
from torch import Tensor

from qsweep.formats import Fixed, Float, name_of, parse
from qsweep.rounding import quantize

GFLOAT_MODES = {
    "nearest": RoundMode.TiesToEven,
    "away": RoundMode.TiesToAway,
    "zero": RoundMode.TowardZero,
    "up": RoundMode.TowardPositive,
    "down": RoundMode.TowardNegative,
}


def float_of(name: str) -> Float:
    fmt = parse(name)
    assert isinstance(fmt, Float)
    return fmt


def cast(x: Tensor, dtype: object) -> Tensor:
    """Through a type of NumPy and back."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return torch.from_numpy(x.numpy().astype(dtype).astype(np.float32))  # type: ignore[call-overload]


def patterns(stride: int) -> Tensor:
    """Each `stride`-th of all float32 numbers."""
    return torch.arange(-(2**31), 2**31, stride).to(torch.int32).view(torch.float32)


# --- ml_dtypes, PyTorch, NumPy: nearest, ties to even -----------------------------------------------------------------

ML_DTYPES = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e4m3 flavour=ieee": ml_dtypes.float8_e4m3,
    "e3m4": ml_dtypes.float8_e3m4,
    "e5m2": ml_dtypes.float8_e5m2,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "bf16": ml_dtypes.bfloat16,
}


@pytest.mark.parametrize("name", ML_DTYPES)
def test_ml_dtypes_rounds_as_nearest(name: str) -> None:
    fmt = float_of(name)
    x = torch.cat([points(fmt.elements, 7 if name == "bf16" else 1), patterns(65_537)])
    if fmt.kind == "finite":
        x = x[~x.isnan()]
    assert_same(quantize(x, fmt), cast(x, ML_DTYPES[name]), x)


@pytest.mark.parametrize("name", [name for name in ML_DTYPES if name != "bf16"])
def test_ml_dtypes_has_the_same_numbers(name: str) -> None:
    fmt = float_of(name)
    bits = 1 + fmt.exponent + fmt.mantissa
    every = np.arange(2**bits, dtype=np.uint8).view(ML_DTYPES[name]).astype(np.float64)
    assert sorted(set(every[np.isfinite(every)])) == list(fmt.elements.values())


TORCH = {
    "e4m3 saturate=true": torch.float8_e4m3fn,  # its cast saturates, ±Inf too (torch 2.15)
    "e5m2": torch.float8_e5m2,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@pytest.mark.parametrize("name", TORCH)
def test_torch_rounds_as_nearest(name: str) -> None:
    fmt = float_of(name)
    x = torch.cat([points(fmt.elements, 7 if fmt.mantissa > 3 else 1), patterns(65_537)])
    assert_same(quantize(x, fmt), x.to(TORCH[name]).float(), x)


def test_numpy_float16_rounds_as_nearest() -> None:
    x = torch.cat([points(parse("fp16").elements, 3), patterns(65_537)])  # type: ignore[union-attr]
    assert_same(quantize(x, parse("fp16")), cast(x, np.float16), x)


@pytest.mark.parametrize(("name", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_every_code_of_16_bits_stays(name: str, dtype: torch.dtype) -> None:
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype).float()
    for mode in ("nearest", "up", "stochastic"):
        assert_same(quantize(every, parse(name), mode, noise_like(every)), every)


# --- gfloat: all modes, all flavours ----------------------------------------------------------------------------------


def info_of(fmt: Float) -> FormatInfo:
    """The format as gfloat describes it."""
    nans = {"ieee": 2**fmt.mantissa - 1, "nan": 1, "finite": 0}[fmt.kind]
    return FormatInfo(
        name_of(fmt),
        k=1 + fmt.exponent + fmt.mantissa,
        precision=1 + fmt.mantissa,
        bias=fmt.bias,
        is_signed=True,
        domain=Domain.Extended if fmt.kind == "ieee" else Domain.Finite,
        has_nz=True,
        num_high_nans=nans,
        has_subnormals=True,
        is_twos_complement=False,
    )


def by_gfloat(x: Tensor, fmt: Float, mode: RoundMode, bits: Tensor | None = None, count: int = 0) -> Tensor:
    """What gfloat rounds x to, in float64."""
    saturate = fmt.saturate or fmt.kind == "finite"
    drawn = None if bits is None else bits.long().numpy()
    with np.errstate(all="ignore"):
        rounded = gfloat.round_ndarray(info_of(fmt), x.double().numpy(), mode, saturate, drawn, count)
        return torch.from_numpy(rounded.astype(np.float32))


@pytest.mark.parametrize("fmt", small_floats(), ids=name_of)
def test_gfloat_rounds_every_float_up_to_8_bits_alike_in_all_modes(fmt: Float) -> None:
    x = points(fmt.elements)
    for ours, mode in GFLOAT_MODES.items():
        assert_same(quantize(x, fmt, ours), by_gfloat(x, fmt, mode), x)


@pytest.mark.parametrize("name", ["fp16", "bf16", "tf32", "e6m9", "e8m1", "e2m20", "e5m3 flavour=finite"])
def test_gfloat_rounds_wider_floats_alike_in_all_modes(name: str) -> None:
    fmt = float_of(name)
    x = patterns(100_003)
    if fmt.mantissa < 11:
        x = torch.cat([x, points(fmt.elements, 31)])
    for ours, mode in GFLOAT_MODES.items():
        assert_same(quantize(x, fmt, ours), by_gfloat(x, fmt, mode), x)


@pytest.mark.parametrize(
    ("name", "info"),
    [
        ("e4m3", gfloat.formats.format_info_ocp_e4m3),
        ("e5m2", gfloat.formats.format_info_ocp_e5m2),
        ("e3m2", gfloat.formats.format_info_ocp_e3m2),
        ("e2m3", gfloat.formats.format_info_ocp_e2m3),
        ("e2m1", gfloat.formats.format_info_ocp_e2m1),
        ("fp16", gfloat.formats.format_info_binary16),
        ("bf16", gfloat.formats.format_info_bfloat16),
    ],
)
def test_gfloat_describes_the_standards_as_we_do(name: str, info: FormatInfo) -> None:
    own = vars(info_of(float_of(name)))
    assert {key: value for key, value in own.items() if key != "name"} == {
        k: v for k, v in vars(info).items() if k != "name"
    }
    assert info.max == float_of(name).elements.largest


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 23])
@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "e3m4 saturate=true", "bf16"])
def test_gfloat_with_the_same_random_bits_is_stochastic_n(name: str, bits: int) -> None:
    """Its `StochasticFastest` goes away from 0 where distance + r / 2^N ≥ 1; ours with k for r = 2^N - 1 - k."""
    fmt = float_of(name)
    x = points(fmt.elements, 41 if name == "bf16" else 1)
    noise = noise_like(x, bits)
    random = 2**bits - 1 - (noise.double() * 2**bits).floor()
    expected = by_gfloat(x, fmt, RoundMode.StochasticFastest, random, bits)
    assert_same(quantize(x, fmt, f"stochastic{bits}", noise), expected, x)


@pytest.mark.parametrize("name", ["e4m3", "e2m1"])
def test_gfloat_with_each_of_16_random_numbers_is_stochastic4(name: str) -> None:
    fmt = float_of(name)
    x = points(fmt.elements)
    for k in range(16):
        expected = by_gfloat(x, fmt, RoundMode.StochasticFastest, torch.full_like(x, 15 - k), 4)
        assert_same(quantize(x, fmt, "stochastic4", torch.full_like(x, (k + 0.5) / 16)), expected, x)


# --- gfloat: microscaling ---------------------------------------------------------------------------------------------

MX = {
    "mxfp8": gfloat.formats.format_info_mxfp8_e4m3,
    "mxfp8_e5m2": gfloat.formats.format_info_mxfp8_e5m2,
    "mxfp6": gfloat.formats.format_info_mxfp6_e2m3,
    "mxfp6_e3m2": gfloat.formats.format_info_mxfp6_e3m2,
    "mxfp4": gfloat.formats.format_info_mxfp4_e2m1,
    "mxint8": gfloat.formats.format_info_mxint8,
}


def blocks() -> Tensor:
    """Blocks of 32: at many scales, of ties, with the largest and with subnormal magnitudes."""
    normal = torch.randn(24, 32, generator=torch.Generator().manual_seed(2)) * 2.0 ** torch.arange(-60, 60, 5)[:, None]
    ties = torch.arange(-64, 64).view(4, 32) / 16
    extreme = torch.stack([normal[0] * 1e-25, normal[0] * 1e-21, normal[12] * 1e38 / normal[12].abs().max()])
    return torch.cat([normal, ties, ties * 1.9375, extreme, torch.zeros(1, 32)])


@pytest.mark.parametrize("mode", GFLOAT_MODES)
@pytest.mark.parametrize("name", MX)
def test_gfloat_quantizes_blocks_of_microscaling_alike(name: str, mode: str) -> None:
    """Its scale of a block of zeros is 2^-127, ours 1: zeros all the same; +0 alone, for mxint8 has no -0."""
    x, info = blocks(), MX[name]
    quantized = [
        gfloat.quantize_block(info, row.double().numpy(), gfloat.compute_scale_amax, GFLOAT_MODES[mode]) for row in x
    ]
    expected = torch.from_numpy(np.stack(quantized).astype(np.float32))
    assert_same(quantize(x, parse(name), mode), expected, x)


def of_every_exponent() -> Tensor:
    """Blocks of 32 whose largest magnitude has each exponent that float32 has, up to the largest float32."""
    generator = torch.Generator().manual_seed(7)
    elements = torch.rand(277, 32, generator=generator, dtype=torch.float64) * 2 - 1
    elements[:, 0] = 1 + torch.rand(277, generator=generator, dtype=torch.float64) * 0.99
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(139)[:277]
    blocks = elements * signs[:, None] * torch.pow(2.0, torch.arange(-149, 128, dtype=torch.float64))[:, None]
    top = torch.tensor([3e38, 1e38, -2.5e38, 3.4028235e38, 0.0, 1.0, 2.0**127, -3e38] * 4, dtype=torch.float64)
    return torch.cat([blocks, top[None]]).float()


@pytest.mark.parametrize("mode", GFLOAT_MODES)
@pytest.mark.parametrize("name", MX)
def test_microscaling_of_every_exponent_has_the_scale_of_the_standard(name: str, mode: str) -> None:
    x, info = of_every_exponent(), MX[name]
    quantized = [
        gfloat.quantize_block(info, row.double().numpy(), gfloat.compute_scale_amax, GFLOAT_MODES[mode]) for row in x
    ]
    assert_same(quantize(x, parse(name), mode), torch.from_numpy(np.stack(quantized).astype(np.float32)), x)


def test_mxint8_of_large_values_has_the_scale_of_the_standard_and_no_code_that_float32_lacks() -> None:
    fmt = parse("mxint8")
    expected = torch.tensor([113 / 64, 38 / 64, -94 / 64]) * 2.0**127
    assert quantize(torch.tensor([3e38, 1e38, -2.5e38]), fmt).tolist() == expected.tolist()
    largest = torch.tensor([3.4028235e38, -3.4028235e38])
    assert quantize(largest, fmt).tolist() == [127 / 64 * 2.0**127, -127 / 64 * 2.0**127]
    assert quantize(largest / 2, fmt).tolist() == [127 / 64 * 2.0**126, -(2.0**127)]


# --- nvfp4: in a few lines of NumPy -----------------------------------------------------------------------------------


def nvfp4(x: np.ndarray, tensor_scale: bool) -> np.ndarray:
    """Of rows whose length is a multiple of 16."""
    wide = x.astype(np.float64)
    tensor = np.float64(np.float32(np.abs(wide).max() / 2688)) if tensor_scale else 1.0
    groups = wide.reshape(-1, 16)
    ratio = np.minimum(np.abs(groups).max(1, keepdims=True) / (6 * tensor), 448)
    scale = np.maximum(ratio.astype(ml_dtypes.float8_e4m3fn).astype(np.float64), 2.0**-9) * tensor
    elements = (groups / scale).astype(ml_dtypes.float4_e2m1fn).astype(np.float64)
    return (elements * scale).astype(np.float32).reshape(x.shape)


@pytest.mark.parametrize("tensor_scale", [True, False])
@pytest.mark.parametrize("size", [1e-30, 0.01, 1.0, 300.0, 1e30])
def test_nvfp4_is_an_e4m3_scale_a_block_under_a_float32_scale(size: float, tensor_scale: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    spread = 2.0 ** torch.randint(-12, 3, (64, 1), generator=generator)
    x = (torch.randn(64, 16, generator=generator) * spread * size).view(16, 64)
    expected = torch.from_numpy(nvfp4(x.numpy(), tensor_scale))
    assert_same(quantize(x, parse(f"nvfp4 tensor_scale={str(tensor_scale).lower()}")), expected, x)


def nvfp4_of_nvidia(x: Tensor) -> Tensor:
    """Of rows whose length is a multiple of 16, each operation in float32 in the order of NVIDIA's reference."""
    most = torch.finfo(torch.float32).max
    groups, largest = x.view(-1, 16), x.abs().max()
    encode = torch.div(torch.tensor(448.0) * 6.0, largest).clamp(max=most)
    decode = torch.div(1.0, encode)
    scale = (torch.div(groups.abs().amax(1, keepdim=True), 6.0) * encode).clamp(max=448.0)
    scale = scale.to(torch.float8_e4m3fn).float()
    inverse = torch.div(1.0, scale * decode).clamp(max=most)
    elements = (groups * inverse).clamp(-6.0, 6.0).numpy().astype(ml_dtypes.float4_e2m1fn).astype(np.float64)
    alpha = np.float64(np.float32(np.float64(largest) / 2688))
    return torch.from_numpy((elements * (scale.double().numpy() * alpha)).astype(np.float32)).view(x.shape)


@pytest.mark.parametrize("size", [1e-38, 1e-30, 0.01, 1.0, 300.0, 1e30])
def test_nvfp4_by_the_arithmetic_of_nvidia_rounds_as_its_reference(size: float) -> None:
    generator = torch.Generator().manual_seed(3)
    spread = 2.0 ** torch.randint(-30, 3, (64, 1), generator=generator)
    x = (torch.randn(64, 16, generator=generator) * spread * size).view(16, 64)
    x[0, :16], x[1, :16] = torch.arange(-8, 8) / 4 * size, torch.arange(-16, 0) / 4 * size
    assert_same(quantize(x, parse("nvfp4 arithmetic=nvidia")), nvfp4_of_nvidia(x), x)


def test_nvfp4_by_the_arithmetic_of_nvidia_rounds_near_ties_as_its_reference() -> None:
    """Where a last bit of a scale decides: fractions of a largest magnitude that put elements on ties."""
    fractions = torch.tensor([1, 0.125, 5 / 24, 7 / 24, 5 / 12, 7 / 12, 5 / 6, -0.125, -5 / 24, -7 / 24, -5 / 12, 0.75])
    for largest in torch.rand(2000, generator=torch.Generator().manual_seed(5)) * 3 + 0.5:
        x = torch.cat([fractions, torch.zeros(4)]) * largest
        assert_same(quantize(x, parse("nvfp4 arithmetic=nvidia")), nvfp4_of_nvidia(x), x)


def test_nvfp4_scales_that_underflow_and_ties_differ_between_the_two_arithmetics() -> None:
    small = torch.tensor([1000.0] * 16 + [2e-3] * 16)
    assert quantize(small, parse("nvfp4"))[-1].item() == pytest.approx(0.00218, rel=1e-2)
    assert quantize(small, parse("nvfp4 arithmetic=nvidia"))[-1].item() == 0.0
    tie = torch.tensor([4.0, -0.5] + [0.0] * 14)
    assert quantize(tie, parse("nvfp4"))[1].item() == pytest.approx(-1 / 3)
    assert quantize(tie, parse("nvfp4 arithmetic=nvidia"))[1].item() == pytest.approx(-2 / 3)


# --- fixed point: in fractions and in machine integers ----------------------------------------------------------------


def integer(x: float, fmt: Fixed, mode: str) -> int:
    """The integer that x becomes, before any overflow."""
    exact = Fraction(x) * Fraction(2) ** fmt.fraction
    half_away = int(abs(exact) + Fraction(1, 2)) * (1 if exact > 0 else -1)
    ways = {"nearest": round(exact), "away": half_away, "zero": int(exact), "down": exact.__floor__()}
    return ways.get(mode, exact.__ceil__())


FIXED = [(1, 0), (2, 1), (3, 5), (4, 2), (5, -2), (6, 3), (7, 6), (8, 4), (8, 7), (12, 6), (16, 15), (24, 12)]


@pytest.mark.parametrize(("bitwidth", "fraction"), FIXED)
@pytest.mark.parametrize("overflow", ["saturate", "wrap", "unbounded"])
def test_fixed_point_is_an_integer_over_a_power_of_two(bitwidth: int, fraction: int, overflow: str) -> None:
    fmt = Fixed(bitwidth, fraction, overflow=overflow)
    narrow = Fixed(min(bitwidth, 12), fraction)
    x = points(narrow.elements, 1 if bitwidth < 9 else 97)
    x = x[x.isfinite()]
    low, count = -(2 ** (bitwidth - 1)), 2**bitwidth
    for mode in ("nearest", "away", "zero", "up", "down"):
        k = [integer(value, fmt, mode) for value in x.tolist()]
        if overflow == "saturate":
            k = [min(max(value, low), low + count - 1) for value in k]
        if overflow == "wrap":
            k = [(value - low) % count + low for value in k]
        expected = torch.tensor([value / 2.0**fraction for value in k], dtype=torch.float64).float()
        assert_same(quantize(x, fmt, mode), expected, x)


@pytest.mark.parametrize(("bitwidth", "dtype"), [(8, np.int8), (16, np.int16)])
def test_wrapping_fixed_point_is_the_overflow_of_machine_integers(bitwidth: int, dtype: type) -> None:
    x = torch.linspace(-700, 700, 20_001)
    whole = np.rint(x.double().numpy() * 2**6).astype(np.int64).astype(dtype)
    expected = torch.from_numpy(whole.astype(np.float32) / np.float32(2**6))
    assert_same(quantize(x, Fixed(bitwidth, 6, overflow="wrap")), expected, x)
