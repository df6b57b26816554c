"""Rounding to `range`: against a slow reference in exact arithmetic, and by its laws."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsweep.formats import Float32, Range
from qsweep.rounding import _quantize_eager, quantize, quantize_range, stacked

FORMATS = st.builds(
    Range,
    bitwidth=st.integers(1, 8),
    scale=st.sampled_from([1.0, 2.0, 10.0, 0.25, 7.0, 3.0, 1 / 3, 100.0]),
    zero=st.booleans(),
)
WEIGHTS = st.floats(-2, 2, width=32)
NOISE = st.integers(0, 2**24 - 1).map(lambda k: k / 2**24)


def reference(w: float, fmt: Range, noise: float | None) -> float:
    """One value by the law as it is written, x taken in float32 and all that follows exactly."""
    x = float(np.float32(w) * np.float32(fmt.steps_per_unit))
    lower = math.floor(x)
    if noise is None:
        r = round(Fraction(x))  # ties to even
    elif float(np.float32(round(x)) / np.float32(fmt.steps_per_unit)) == w:
        r = round(x)  # a level never moves
    else:
        r = lower + (Fraction(noise) < Fraction(x) - lower)
    if r == 0 and not fmt.zero:
        r = (w > 0) - (w < 0)
    k = min(max(r, fmt.lowest), fmt.highest)
    return float(np.float32(k) / np.float32(fmt.steps_per_unit))


def one(w: float, fmt: Range, noise: float | None) -> float:
    drawn = None if noise is None else torch.tensor([noise])
    mode = "nearest" if noise is None else "stochastic"
    return float(quantize(torch.tensor([w], dtype=torch.float32), fmt, mode, drawn)[0])


@given(WEIGHTS, FORMATS, st.none() | NOISE)
@settings(max_examples=1500, deadline=None)
def test_quantize_any_value_equals_the_slow_reference(w: float, fmt: Range, noise: float | None) -> None:
    assert one(w, fmt, noise) == reference(w, fmt, noise)


@pytest.mark.parametrize("bitwidth", range(1, 9))
@pytest.mark.parametrize("scale", [1.0, 10.0, 7.0, 1 / 3])
def test_quantize_levels_midpoints_and_their_neighbours_equal_the_reference(bitwidth: int, scale: float) -> None:
    fmt = Range(bitwidth, scale)
    levels = [k / fmt.steps_per_unit for k in range(fmt.lowest - 2, fmt.highest + 3)]
    points = np.array(levels + [(a + b) / 2 for a, b in pairwise(levels)], dtype=np.float32)
    points = np.concatenate([points, np.nextafter(points, np.float32(9)), np.nextafter(points, np.float32(-9))])
    for zero in (True, False):
        fmt = Range(bitwidth, scale, zero)
        found = quantize(torch.from_numpy(points), fmt)
        assert found.tolist() == [reference(float(w), fmt, None) for w in points]


@pytest.mark.parametrize("scale", [1.0, 10.0, 7.0, 1 / 3, 1e-3])
@pytest.mark.parametrize("noise", [0.0, 0.5, 1 - 2**-24])
def test_stochastic_a_level_never_moves(scale: float, noise: float) -> None:
    for bitwidth in (1, 2, 5, 8, 12, 16):
        fmt = Range(bitwidth, scale)
        k = torch.arange(fmt.lowest, fmt.highest + 1, dtype=torch.float32)
        levels = k / torch.tensor(fmt.steps_per_unit)
        assert torch.equal(quantize(levels, fmt, "stochastic", torch.full_like(levels, noise)), levels)


@pytest.mark.parametrize("zero", [True, False])
def test_nearest_is_idempotent_and_monotone(zero: bool) -> None:
    fmt = Range(4, 10.0, zero)
    w = torch.linspace(-0.3, 0.3, 20_001)
    w = w[w != 0]  # without a zero level, 0 has no sign to move by
    q = quantize(w, fmt)
    assert torch.equal(quantize(q, fmt), q)
    assert bool((q.diff() >= 0).all())


def test_stochastic_mean_is_the_value_itself() -> None:
    fmt, n = Range(4, 1.0), 200_000
    w = torch.full((n,), 0.30)
    generator = torch.Generator().manual_seed(1)
    q = quantize(w, fmt, "stochastic", torch.rand(n, generator=generator))
    spread = fmt.step * math.sqrt(0.4 * 0.6 / n)  # 0.30 lies 0.4 of a step above 0.25
    assert abs(q.double().mean().item() - float(w[0])) < 5 * spread


def test_range_one_bit_has_no_positive_weight_even_without_a_zero_level() -> None:
    w = torch.tensor([-0.2, -0.06, -0.04, 0.0, 0.04, 0.06, 0.2])
    assert quantize(w, Range(1, 10.0)).tolist() == pytest.approx([-0.1, -0.1, 0, 0, 0, 0, 0])
    assert quantize(w, Range(1, 10.0, zero=False)).tolist() == pytest.approx([-0.1, -0.1, -0.1, 0, 0, 0, 0])


def test_range_without_zero_moves_a_result_of_zero_by_the_sign_of_the_weight() -> None:
    w = torch.tensor([-0.001, 0.0, 0.001])
    assert quantize(w, Range(4, 10.0, zero=False)).tolist() == pytest.approx([-0.0125, 0.0, 0.0125])


def test_quantize_zero_results_have_no_minus_sign() -> None:
    q = quantize(torch.tensor([-0.0, -1e-6, 1e-6]), Range(4, 10.0))
    assert not torch.signbit(q).any()


def test_quantize_nan_stays_and_infinity_becomes_the_outermost_level() -> None:
    q = quantize(torch.tensor([math.nan, math.inf, -math.inf]), Range(3, 1.0))
    assert math.isnan(q[0])
    assert q[1:].tolist() == [0.75, -1.0]


def test_quantize_float32_is_the_tensor_itself() -> None:
    x = torch.randn(3)
    assert quantize(x, Float32()) is x


def test_quantize_stochastic_without_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="needs noise"):
        quantize(torch.zeros(2), Range(4), "stochastic")


@pytest.mark.parametrize("noisy", [True, False])
def test_quantize_stacked_rows_equal_each_format_alone(noisy: bool) -> None:
    formats = [Range(b, s, z) for b in (1, 2, 4, 8) for s in (1.0, 10.0, 7.0) for z in (True, False)]
    w = torch.randn(len(formats), 1003) * 0.2
    w[:, ::7] = 0.0
    w[:, 1::7] = -0.0
    noise = torch.rand(1003) if noisy else None
    together = w.clone()
    quantize_range(together, stacked(formats), noise)
    for row, fmt in enumerate(formats):
        alone = quantize(w[row], fmt, "stochastic" if noisy else "nearest", noise)
        assert together[row].view(torch.int32).equal(alone.view(torch.int32))  # bits, the sign of zero too


def test_quantize_leaves_its_argument_alone() -> None:
    w = torch.randn(100)
    before = w.clone()
    quantize(w, Range(4, 10.0, zero=False), "stochastic", torch.rand(100))
    assert torch.equal(w, before)


def test_quantize_takes_tensors_that_lie_in_any_order() -> None:
    w, noise = torch.randn(6, 5).t(), torch.rand(6, 5).t()
    expected = quantize(w.contiguous(), Range(4), "stochastic", noise.contiguous())
    assert torch.equal(quantize(w, Range(4), "stochastic", noise), expected)


@pytest.mark.parametrize("scale", [1.0, 10.0, 7.0, 1 / 3, 1e-3])
@pytest.mark.parametrize("noisy", [True, False])
def test_kernels_give_the_bits_of_the_eager_operations(scale: float, noisy: bool) -> None:
    fmt = stacked([Range(b, scale, z) for b in range(1, 17) for z in (True, False)])
    w = torch.randn(32, 4099) * 0.6 / scale
    edges = [0.0, -0.0, math.inf, -math.inf, 1e-45, -1e-45, 1e-38, 3e38, -3e38]
    w[:, : len(edges)] = torch.tensor(edges)
    levels = w[:, 100:300].contiguous()
    quantize_range(levels, fmt, None)
    w[:, 100:300] = levels
    noise = torch.randint(0, 2**24, (4099,)) / 2**24 if noisy else None
    compiled, eager = w.clone(), w.clone()
    quantize_range(compiled, fmt, noise)
    _quantize_eager(eager, fmt.columns, noise)
    assert compiled.view(torch.int32).equal(eager.view(torch.int32))


@pytest.mark.parametrize("noisy", [True, False])
def test_kernels_keep_nan_as_the_eager_operations_do(noisy: bool) -> None:
    w = torch.full((1, 9), math.nan)
    quantize_range(w, stacked([Range(4, 10.0, zero=False)]), torch.rand(9) if noisy else None)
    assert w.isnan().all()
