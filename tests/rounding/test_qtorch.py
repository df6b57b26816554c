"""`compat: qtorch` against values that QPyTorch itself gave (tests/data/make_qtorch.py), and its stochastic rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from paths import RECORDED
from points import assert_same
from torch import Tensor

from qsweep.formats import Block, Fixed, Float, parse
from qsweep.rounding import Stack, qtorch, quantize

with np.load(RECORDED / "qtorch.npz") as found:
    DATA = {name: found[name] for name in found.files}
X, NOISE = torch.from_numpy(DATA["x"]), torch.from_numpy(DATA["noise"])


def recorded(kind: str) -> list[tuple[str, ...]]:
    """The parameters of what the file has of one quantizer."""
    return [tuple(name.split("|")[1:]) for name in DATA if name.split("|")[0] == kind]


def of_file(*key: str) -> Tensor:
    return torch.from_numpy(DATA["|".join(key)])


def fixed(bitwidth: str, fraction: str, clamp: str, symmetric: str) -> Fixed:
    overflow = "saturate" if int(clamp) else "unbounded"
    return Fixed(int(bitwidth), int(fraction), bool(int(symmetric)), overflow, "qtorch")


def test_the_file_says_which_versions_made_it() -> None:
    assert [text.split()[0] for text in DATA["versions"].tolist()] == ["qtorch", "torch"]
    assert [len(recorded(kind)) for kind in ("fixed", "fixed stochastic", "float", "block")] == [36, 10, 11, 136]


@pytest.mark.parametrize("key", recorded("fixed"), ids="|".join)
def test_fixed_nearest_gives_the_recorded_bits(key: tuple[str, ...]) -> None:
    if key[0] == "1" and key[3] == "1":
        return  # only 0 is left: refused, see below
    assert_same(quantize(X, fixed(*key)), of_file("fixed", *key), X)


@pytest.mark.parametrize("key", recorded("fixed stochastic"), ids="|".join)
def test_fixed_stochastic_gives_the_recorded_bits(key: tuple[str, ...]) -> None:
    if key[0] == "1" and key[3] == "1":
        return
    assert_same(quantize(X, fixed(*key), "stochastic", NOISE), of_file("fixed stochastic", *key), X)


@pytest.mark.parametrize("key", recorded("float"), ids="|".join)
def test_float_nearest_gives_the_recorded_bits(key: tuple[str, ...]) -> None:
    assert_same(quantize(X, Float(int(key[0]), int(key[1]), compat="qtorch")), of_file("float", *key), X)


@pytest.mark.parametrize("key", recorded("block"), ids="|".join)
def test_block_nearest_gives_the_recorded_bits(key: tuple[str, ...]) -> None:
    bitwidth, dim, name = int(key[0]), int(key[1]), key[2]
    fmt = Block(bitwidth, compat="qtorch") if dim < 0 else Block(bitwidth, "channel", dim, compat="qtorch")
    assert_same(quantize(of_file(name), fmt), of_file("block", *key))


def test_the_names_of_these_formats_parse() -> None:
    assert parse("fixed8f4 compat=qtorch") == fixed("8", "4", "1", "0")
    assert parse("e4m3 compat=qtorch") == Float(4, 3, compat="qtorch")
    assert parse("block8 per=channel axis=1 compat=qtorch") == Block(8, "channel", 1, "qtorch")


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_kernels_give_the_bits_of_the_tensor_operations(rounding: str) -> None:
    noise = NOISE if rounding == "stochastic" else None
    x = torch.stack([X, 1e-3 * X, -X])
    floats = [Float(e, m, compat="qtorch") for e, m in [(4, 3), (8, 10), (2, 1)]]
    rows = x.clone()
    Stack(floats, rounding).round_rows(rows, noise)
    assert_same(rows, qtorch.elementwise(x, floats, noise), x)
    finite = torch.where(x.isfinite(), x, 0.5)
    for values in (finite, torch.where(x.isnan(), 0.5, x)):
        blocks = [Block(w, compat="qtorch") for w in (1, 8, 24)]
        stack, rows = Stack(blocks, rounding), torch.empty_like(values)
        stack.round_rows(values, noise, 0, rows)
        assert_same(rows, qtorch.block(values[:, None], blocks, noise)[:, 0], values)
        stack.round_rows(values, noise)
        assert_same(rows, values)


@pytest.mark.parametrize("kind", ["fixed", "float", "block"])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_a_stack_gives_each_row_what_it_gets_alone(kind: str, rounding: str) -> None:
    formats = {
        "fixed": [Fixed(w, f, compat="qtorch") for w, f in [(8, 4), (4, 2), (16, 8), (8, -2)]],
        "float": [Float(e, m, compat="qtorch") for e, m in [(4, 3), (5, 2), (2, 1), (8, 10)]],
        "block": [Block(w, compat="qtorch") for w in (2, 4, 8, 1)],
    }[kind]
    x = X[X.isfinite() & (X.abs() < 1e3)]
    noise = NOISE[: len(x)]
    together = x.repeat(4, 1)
    stack = Stack(formats, rounding)
    drawn = noise if rounding == "stochastic" else None
    if stack.whole:
        stack.round_whole(together, drawn)
    else:
        stack.round_rows(together, drawn)
    for row, fmt in zip(together, formats, strict=True):
        assert_same(row, quantize(x, fmt, rounding, noise), x)


# --- stochastic rules that no seed reaches ----------------------------------------------------------------------------

ALL_NOISE = torch.arange(2**12) / 2**12


def share_up(x: float, fmt: Float | Block, company: float | None = None) -> tuple[list[float], float]:
    """The results of x with each noise of a coarse grid, ascending, and the share of the larger one.

    Args:
        company: another value, in each of whose blocks x is.
    """
    values = torch.full((len(ALL_NOISE), 1), x)
    noise = ALL_NOISE[:, None].clone()
    if company is not None:
        values = torch.cat([values, torch.full_like(values, company)], 1)
        noise = torch.cat([noise, torch.zeros_like(noise)], 1)
    drawn = quantize(values, fmt, "stochastic", noise)[:, 0]
    results = sorted(set(drawn.tolist()))
    return results, (drawn == results[-1]).double().mean().item()


@pytest.mark.parametrize(
    ("x", "results", "share"),
    [
        (1.0625, [1.0, 1.125], 0.5),
        (1.125, [1.125], 1.0),
        (1.125 + 2**-12, [1.125, 1.25], 2**-9),
        (1.25 - 2**-12, [1.125, 1.25], 1 - 2**-9),
        (1.96875, [1.875, 2.0], 0.75),
        (-1.0625, [-1.125, -1.0], 0.5),  # of magnitudes: the share of the larger result is that of 1
        (-1.96875, [-2.0, -1.875], 0.25),
        (2.0**-6 * 0.90625, [2.0**-6 * 0.875, 2.0**-6], 0.25),  # subnormal in e4m3
        (-(2.0**-10), [-(2.0**-9), 0.0], 0.5),
        (1000.0, [480.0], 1.0),  # all codes are numbers, the largest is 480
        (470.0, [448.0, 480.0], 0.6875),
    ],
)
def test_float_stochastic_goes_away_from_zero_with_the_share_that_is_cut_off(
    x: float, results: list[float], share: float
) -> None:
    assert share_up(x, Float(4, 3, compat="qtorch")) == (results, share)


@pytest.mark.parametrize(
    ("x", "results", "share"),
    [
        (0.3125, [0.25, 0.5], 0.25),
        (-0.3125, [-0.5, -0.25], 0.75),
        (0.25, [0.25], 1.0),
        (0.2, [0.0, 0.25], 0.8),
        (1.5, [1.5], 1.0),
        (1.9375, [1.75], 1.0),  # 2 is beyond the block's largest
    ],
)
def test_block_stochastic_goes_up_with_the_share_that_is_cut_off(x: float, results: list[float], share: float) -> None:
    found, up = share_up(x, Block(4, "channel", 0, "qtorch"), 1.0)
    assert found == results
    assert up == pytest.approx(share, abs=2**-12)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fixed8f4", "e4m3", "block8"])
@pytest.mark.parametrize("rounding", ["zero", "up", "away", "stochastic4"])
def test_qtorch_has_two_modes(name: str, rounding: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{name} compat=qtorch has no rounding '{rounding}' \(one of: nearest, stochastic\)"
    ):
        quantize(torch.zeros(3), parse(f"{name} compat=qtorch"), rounding, torch.zeros(3))
