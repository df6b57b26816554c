"""Codes and scales of tensors: every value comes back, and the bits are those that a count by hand gives."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qsweep.formats import MX, NVFP4, Fixed, Float, Range, Scaled, parse
from qsweep.formats.declared import DETERMINISTIC
from qsweep.formats.facts import facts, stored_bits
from qsweep.formats.packing import CODED, Groups, from_file, packed, to_file
from qsweep.rounding import quantize
from qsweep.training.codebooks import groups_in

SCALED = (
    *("block8", "block2", "block16", "block1 compat=qtorch"),
    *("uniform8 symmetric=true", "uniform2 symmetric=true", "uniform16 symmetric=true"),
    *("uniform4 symmetric=true scaling=po2", "uniform5 symmetric=true scaling=0.7", "uniform4 scaling=1.5"),
    *("binary", "binary scaling=po2", "binary scaling=0.5", "ternary", "ternary scaling=po2", "ternary scaling=0.3"),
    *("po2_4", "po2_2", "po2_3 zero=false", "po2_4 scaling=2"),
)
PERS = ("tensor", "channel", "1", "3", "16", "100")
GROUPED = tuple(
    f"{name} per={per}"
    for name, per in itertools.product(SCALED, PERS)
    if not ("qtorch" in name and per not in ("tensor", "channel"))
)
STANDARD = (
    *("mxfp8", "mxfp8_e5m2", "mxfp6", "mxfp6_e3m2", "mxfp4", "mxint8"),
    *("nvfp4", "nvfp4 tensor_scale=false", "nvfp4 arithmetic=nvidia"),
)
PLAIN = (
    *("fixed8f6", "fixed24f20", "fixed4f-1", "fixed1f3", "fixed6f4 symmetric=true", "fixed8f6 overflow=wrap"),
    *("e4m3", "e5m2", "e2m1", "bf16", "fp16", "tf32", "e8m23", "e5m2 compat=qtorch"),
    *("range4", "range8 scale=3", "range1", "range3 zero=false"),
)
FORMATS = (*GROUPED, *STANDARD, *PLAIN)
SHAPES: tuple[tuple[int, ...], ...] = ((), (1,), (7,), (33,), (5, 40), (24, 32), (4, 19, 3, 3), (1, 1, 1))


def contraction(shape: tuple[int, ...]) -> int:
    return min(1, len(shape) - 1)


def rounded(name: str, shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return quantize(x, parse(name), contraction=contraction(shape)).numpy()


def groups_for(name: str, shape: tuple[int, ...]) -> Groups:
    return groups_in(parse(name), shape)


# --- the count by hand ------------------------------------------------------------------------------------------------


def element_bits(name: str) -> int:
    """From the name and the documents alone."""
    fmt = parse(name)
    match fmt:
        case Float():
            return 1 + fmt.exponent + fmt.mantissa
        case MX():
            return {"int8": 8}.get(fmt.element) or 1 + int(fmt.element[1]) + int(fmt.element[3])
        case NVFP4():
            return 4
        case Fixed() | Range():
            return fmt.bitwidth
    if name.startswith("ternary"):
        return 2
    if name.startswith("binary"):
        return 1
    return 2 if name.startswith("block1 ") else fmt.bitwidth


def scale_bits(name: str) -> int:
    if "scaling=po2" in name or name.startswith(("block", "mx", "nvfp4")):
        return 8
    if "scaling=" in name:
        return 0
    return 8 if name.startswith("po2") else 32


def number_of_groups(name: str, shape: tuple[int, ...]) -> int:
    """By a walk over every value, which is put into the set of its group."""
    fmt = parse(name)
    assert isinstance(fmt, Scaled)
    axis = 0 if len(shape) < 2 else contraction(shape)
    found = set()
    for place in itertools.product(*map(range, shape)):
        if fmt.per == "tensor":
            found.add(())
        elif fmt.per == "channel":
            found.add(place[:1])
        else:
            found.add((*place[:axis], *place[axis + 1 :], place[axis] // int(fmt.per) if place else 0))
    return len(found)


def counted(name: str, shape: tuple[int, ...]) -> int:
    values = sum(1 for _ in itertools.product(*map(range, shape)))
    bits = values * element_bits(name)
    if isinstance(parse(name), Scaled):
        bits += number_of_groups(name, shape) * scale_bits(name)
    return bits + 32 * (name.startswith("nvfp4") and "tensor_scale=false" not in name)


@pytest.mark.parametrize("name", FORMATS)
def test_packed_bits_are_codes_and_scales_counted_one_by_one(name: str) -> None:
    for shape in SHAPES:
        values, groups = rounded(name, shape), groups_for(name, shape)
        own = packed(values, groups)
        expected = counted(name, shape)
        assert (own.kind, own.total_bits) == (CODED, expected), shape
        assert stored_bits(parse(name), shape, contraction(shape)) == expected
        assert own.bits_per_value == expected / max(values.size, 1)
        content = to_file({"w": values}, {"w": groups})
        found = from_file(content)["w"]
        assert (found.shape, found.tobytes()) == (values.shape, values.tobytes())
        assert len(content) < expected / 8 + 700


@pytest.mark.parametrize(
    ("name", "shape", "bits_a_value"),
    [
        ("uniform8 symmetric=true per=channel", (64, 64), 8.5),
        ("block8 per=16", (64, 64), 8.5),
        ("mxfp8", (64, 64), 8.25),
        ("fixed8f6", (64,), 8),
        ("fixed8f6", (8, 8), 8),
    ],
)
def test_bits_of_a_value_are_those_of_its_code_and_its_part_of_the_scale(
    name: str, shape: tuple[int, ...], bits_a_value: float
) -> None:
    assert packed(rounded(name, shape), groups_for(name, shape)).bits_per_value == bits_a_value


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4 tensor_scale=false", "block8 per=16", "binary per=64", "fixed8f6"])
def test_the_catalog_states_the_bits_that_whole_groups_take(name: str) -> None:
    assert facts(parse(name)).bits_per_value == packed(rounded(name, (4, 64)), groups_for(name, (4, 64))).bits_per_value


@given(
    st.sampled_from(FORMATS), st.sampled_from(SHAPES), st.integers(0, 999), st.integers(-100, 100), st.integers(0, 8)
)
def test_values_of_any_size_come_back_from_their_file(
    name: str, shape: tuple[int, ...], seed: int, exponent: int, zeros: int
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2.0**exponent
    x.view(-1)[:: 9 - zeros] = 0.0
    values = quantize(x, parse(name), contraction=contraction(shape)).numpy()
    found = from_file(to_file({"w": values}, {"w": groups_for(name, shape)}))["w"]
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize("name", [*(f"{name} per=16" for name in SCALED if "qtorch" not in name), *STANDARD])
@pytest.mark.parametrize("exponent", [-90, 0, 60])
def test_scaled_values_of_any_usual_size_stay_coded(name: str, exponent: int) -> None:
    shape = (8, 50)
    if "scaling=" in name and "po2" not in name.partition("scaling=")[2]:
        exponent = 0
    for seed in range(5):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2.0**exponent
        values = quantize(x, parse(name), contraction=1).numpy()
        assert packed(values, groups_for(name, shape)).kind == CODED


@pytest.mark.parametrize("name", ["block8 per=16", "uniform8 symmetric=true", "fixed8f6", "mxfp4", "nvfp4", "e4m3"])
@pytest.mark.parametrize("wrong", [0.123456789, -0.0, math.inf, math.nan])
def test_values_that_left_their_format_are_packed_otherwise_and_counted_so(name: str, wrong: float) -> None:
    values = rounded(name, (8, 50)).copy()
    values[3, 7] = wrong
    groups = groups_for(name, (8, 50))
    own = packed(values, groups)
    if own.kind != CODED:
        assert own.total_bits == packed(values, Groups(groups.per, groups.axis)).total_bits
    assert (own.kind == CODED) == (math.copysign(1.0, wrong) < 0 and name in ("mxfp4", "nvfp4", "e4m3"))
    assert from_file(to_file({"w": values}, {"w": groups}))["w"].tobytes() == values.tobytes()


def test_values_from_least_to_greatest_are_packed_as_ever() -> None:
    values, groups = rounded("uniform4 per=16", (8, 50)), groups_for("uniform4 per=16", (8, 50))
    assert packed(values, groups).kind == packed(values, Groups(groups.per, groups.axis)).kind != CODED


@pytest.mark.parametrize("mode", DETERMINISTIC)
def test_rounding_gives_no_minus_zero_that_a_format_has_no_code_for(mode: str) -> None:
    """It would take a level of its own, and the tensor leave its codes. A group of zeros has no power of two between
    whose two signs it would lie: `binary scaling=po2` has no code for that 0 either."""
    x = torch.randn((4, 40), generator=torch.Generator().manual_seed(2)) * 0.3
    x[0, ::2], x[0, 1::2], x[1] = 0.0, -0.0, x[1] * 1e-6
    for name in [
        name for name in FORMATS if not any(word in name for word in ("qtorch", "nvidia", "binary scaling=po2"))
    ]:
        values = quantize(x, parse(name), mode, contraction=1).numpy()
        assert packed(values, groups_for(name, (4, 40))).kind == CODED, name


def test_minus_zeros_of_qpytorchs_fixed_point_have_no_code_and_come_back() -> None:
    name, x = "fixed8f6 compat=qtorch", torch.tensor([0.5, -0.001, 1.0])
    for values, is_coded in ((x, False), (x.abs(), True)):
        own = quantize(values, parse(name)).numpy()
        assert (packed(own, groups_for(name, (3,))).kind == CODED) == is_coded
        assert from_file(to_file({"w": own}, {"w": groups_for(name, (3,))}))["w"].tobytes() == own.tobytes()
