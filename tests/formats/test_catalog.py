"""What the catalog says of formats: codes against other libraries and against rounding, facts against values, pages."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from paths import ROOT

from qsweep.cli import format_pages as pages
from qsweep.cli.format_pages import format_list, format_page
from qsweep.errors import UserError
from qsweep.formats import FAMILIES, Floating, Grid, parse
from qsweep.formats.codes import FloatCode, IntegerCode, codes, values
from qsweep.formats.declared import ROUNDING_RULES, ROUNDINGS
from qsweep.formats.facts import Facts, facts
from qsweep.formats.numbers import as_float32, number, power
from qsweep.plots import page
from qsweep.plots.values import Row, figure, row
from qsweep.rounding import quantize

DOCUMENT = ROOT / "docs" / "formats.md"

LISTED = [name for name in pages.SHOWN if values(parse(name).code)]
"""The formats of the list whose values can be counted."""
OTHERS = (
    *("e2m2", "e3m1", "e3m3 flavour=finite", "e5m2 flavour=nan", "e4m3 flavour=finite", "e6m1", "e8m1", "e7m8"),
    *("fixed1f0", "fixed8f-2", "fixed4f9 symmetric=true", "fixed8f3 overflow=wrap", "range1", "range3 scale=10"),
    *("block2", "block5 per=16", "uniform1", "uniform3", "po2_2", "po2_8", "po2_4 zero=false", "uniform16"),
)
SMALL = (*LISTED, *OTHERS)

FLOATS = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e4m3 flavour=ieee": ml_dtypes.float8_e4m3,
    "e3m4": ml_dtypes.float8_e3m4,
    "e5m2": ml_dtypes.float8_e5m2,
    "mxfp8": ml_dtypes.float8_e4m3fn,
    "mxfp8_e5m2": ml_dtypes.float8_e5m2,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "mxfp6_e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "mxfp6": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "mxfp4": ml_dtypes.float4_e2m1fn,
    "nvfp4": ml_dtypes.float4_e2m1fn,
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
}


def same(ours: float, theirs: float) -> bool:
    """Equal as numbers, zeros by their sign too, NaN to NaN."""
    if math.isnan(ours) or math.isnan(theirs):
        return math.isnan(ours) and math.isnan(theirs)
    return ours == theirs and math.copysign(1, ours) == math.copysign(1, theirs)


def float_code(name: str) -> FloatCode:
    code = parse(name).code
    assert isinstance(code, FloatCode)
    return code


# --- codes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLOATS)
def test_every_code_of_a_float_is_the_number_that_other_libraries_decode(name: str) -> None:
    code = float_code(name)
    raw = np.arange(1 << code.bits, dtype=np.uint8 if code.bits <= 8 else np.uint16)
    with np.errstate(invalid="ignore"):
        theirs = raw.view(FLOATS[name]).astype(np.float64)
    assert all(same(code.decode(i), float(value)) for i, value in enumerate(theirs))


def test_float32_and_tf32_decode_as_the_leading_bits_of_float32() -> None:
    random = np.random.default_rng(0).integers(0, 1 << 32, 2000, dtype=np.uint32)
    odd = np.array([0, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x80000000], dtype=np.uint32)
    for name, cut in (("float32", 0), ("tf32", 13), ("bf16", 16)):
        raw = np.concatenate([random, odd, odd | np.uint32(1 << 31)]) >> np.uint32(cut)
        theirs = (raw << np.uint32(cut)).view(np.float32)
        assert all(same(float_code(name).decode(int(i)), float(v)) for i, v in zip(raw, theirs, strict=True))


def test_integers_are_written_as_numpy_keeps_them() -> None:
    for name, unit in (("fixed8f0", 1.0), ("fixed8f7", 2.0**-7), ("mxint8", 2.0**-6), ("range8", 2.0**-7)):
        code = parse(name).code
        assert code is not None
        bits = np.array([int(text, 2) for text, _ in codes(code)], dtype=np.uint8)
        assert (bits.view(np.int8) * unit).tolist() == [value for _, value in codes(code)]
    assert [text for text, _ in codes(IntegerCode(3, -3, 3, "sign and magnitude"))] == [
        "1 11",
        "1 10",
        "1 01",
        "0 00",
        "0 01",
        "0 10",
        "0 11",
    ]


@pytest.mark.parametrize("name", [name for name in SMALL if (facts(parse(name)).bits or 99) <= 8])
def test_codes_are_all_there_once_in_order_and_as_wide_as_told(name: str) -> None:
    code = parse(name).code
    assert code is not None
    texts, numbers = zip(*codes(code), strict=True)
    assert len(set(texts)) == len(texts)
    assert {len(text.replace(" ", "")) for text in texts} == {code.bits}
    ordered = [v for v in numbers if not math.isnan(v)]
    assert all(a < b or (a == b == 0 and math.copysign(1, a) < math.copysign(1, b)) for a, b in pairwise(ordered))
    assert all(math.isnan(v) for v in numbers[len(ordered) :])
    if isinstance(code, FloatCode):
        assert len(texts) == 1 << code.bits
        assert len(texts) - len(ordered) == code.nans
        assert all(same(code.decode(int(text.replace(" ", ""), 2)), v) for text, v in codes(code))


# --- values against those that rounding goes by -----------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_values_are_those_of_rounding(name: str) -> None:
    fmt: Any = parse(name)
    found = values(fmt.code)
    if name.startswith("range"):
        expected = [as_float32(k / as_float32(fmt.steps_per_unit)) for k in range(fmt.lowest, fmt.highest + 1)]
    elif name == "binary":
        expected = [-1.0, 1.0]
    else:
        assert isinstance(fmt.elements, Grid | Floating)
        expected = list(fmt.elements.values())
    assert found == expected


@pytest.mark.parametrize("name", [name for name in SMALL if facts(parse(name)).scale is None])
def test_values_without_a_scale_do_not_move_and_halves_do(name: str) -> None:
    found = values(parse(name).code)
    x = torch.tensor(found, dtype=torch.float32)
    assert quantize(x, parse(name)).tolist() == x.tolist()
    between = (x[1:].double() + x[:-1].double()) / 2
    held = between.float().double() == between
    assert set(quantize(between[held].float(), parse(name)).tolist()) <= set(x.tolist())


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e5m10", "e2m1", "e3m2", "e6m9"])
def test_qtorch_ends_where_its_facts_say(name: str) -> None:
    fmt = parse(f"{name} compat=qtorch")
    known = facts(fmt)
    x = torch.tensor([1e30, -math.inf, math.nan, *values(fmt.code)])
    got = quantize(x, fmt).tolist()
    assert got[:3] == [known.largest, known.lowest, known.largest]
    assert got[3:] == values(fmt.code)
    assert not known.specials


def test_range_without_zero_lacks_it_but_at_one_bit() -> None:
    assert values(parse("range2 zero=false").code) == [-1, -0.5, 0.5]
    assert values(parse("range1 zero=false").code) == [-1, 0]


# --- facts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_facts_are_those_of_the_values(name: str) -> None:
    known, found = facts(parse(name)), values(parse(name).code)
    assert (known.levels, known.lowest, known.largest) == (len(found), found[0], found[-1])
    positive = [v for v in found if v > 0]
    if known.step is None:
        assert min(positive) == (known.subnormal or known.normal)
    elif "scale" not in name:
        assert {b - a for a, b in pairwise(found)} == {known.step}
    if known.subnormal is not None:
        assert known.normal is not None
        below = [v for v in positive if v <= known.normal]
        assert {b - a for a, b in pairwise(below)} == {known.subnormal}  # evenly spaced up to the smallest normal one


def test_facts_of_the_wide_formats_are_those_of_ieee_754() -> None:
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        known, theirs = facts(parse(name)), torch.finfo(dtype)
        assert (known.bits, known.largest, known.normal) == (theirs.bits, theirs.max, theirs.tiny)
        assert known.subnormal == theirs.tiny * theirs.eps
        assert known.specials == "Inf NaN"
    assert facts(parse("float32")).levels == 2 * (255 * 2**23 - 1) + 1
    assert facts(parse("fixed24f23")).largest == 1 - 2.0**-23


def test_bits_a_value_count_the_scale_that_a_group_shares() -> None:
    told = {
        "mxfp8": 8.25,
        "mxfp4": 4.25,
        "nvfp4": 4.5,
        "nvfp4 tensor_scale=false": 4.5,
        "block8": 8,
        "block8 per=16": 8.5,
        "uniform4 per=32": 6,
        "uniform4 symmetric=true per=32": 5,
        "uniform4 symmetric=true scaling=1 per=32": 4,
        "uniform4 symmetric=true scaling=po2 per=32": 4.25,
        "po2_4 per=8": 5,
        "binary per=64": 1.5,
        "e4m3": 8,
    }
    assert {name: facts(parse(name)).bits_per_value for name in told} == told


def test_formats_without_a_list_have_no_facts_but_their_name_and_step() -> None:
    assert facts(parse("fixed8f3 overflow=unbounded")) == Facts("fixed8f3 overflow=unbounded", step=0.125)
    assert values(parse("fixed8f3 overflow=unbounded").code) == []
    assert values(parse("tf32").code) == []


# --- how numbers are written ------------------------------------------------------------------------------------------


def test_numbers_are_short_and_lead_back() -> None:
    spelled = {
        448.0: "448",
        2.0**-9: "2^-9",
        7 * 2.0**-9: "7·2^-9",
        -0.5: "-0.5",
        65504.0: "65504",
        255 * 2.0**120: "255·2^120",
    }
    assert {value: number(value) for value in spelled} == spelled
    assert [number(v) for v in (0.0, -0.0, math.inf, -math.inf, math.nan)] == ["0", "-0", "Inf", "-Inf", "NaN"]
    assert (number(as_float32(0.1)), power(0.25), power(3.0), power(-0.25)) == ("0.1", "2^-2", "3", "-0.25")


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "fixed8f9", "range5 scale=10", "fp16"])
def test_every_value_is_written_so_that_it_can_be_read(name: str) -> None:
    for value in values(parse(name).code):
        text = number(value)
        factor, _, exponent = text.rpartition("2^")
        whole = {"": 1, "-": -1}.get(factor) or int(factor.rstrip("·"))
        read = whole * 2.0 ** int(exponent) if "^" in text else as_float32(float(text))
        assert read == value, text


# --- pages ------------------------------------------------------------------------------------------------------------


def test_list_has_every_family_and_fits() -> None:
    text = format_list()
    lines = [line.split()[0] for line in text.splitlines() if line]
    assert set(FAMILIES) <= set(lines)
    assert {name.split()[0] for name in pages.SHOWN} <= set(lines)
    facts_table, families = text.split("\n\n")[0], text.split("\n\n")[2]
    assert max(map(len, facts_table.splitlines())) <= 110
    assert max(map(len, families.splitlines())) <= 120


@pytest.mark.parametrize("family", FAMILIES)
def test_page_of_a_family_has_its_law_and_all_parameters(family: str) -> None:
    page = format_page(family)
    for parameter in FAMILIES[family].parameters:
        assert parameter.expected in page
    assert "Raises" not in page
    assert "Error" not in page


@pytest.mark.parametrize("name", [name for name in LISTED if name not in ("fixed16f8", "bf16")])
def test_page_of_a_format_has_all_values_in_lines_that_fit(name: str) -> None:
    tail = format_page(name).split("\n\n")[-1]
    assert max(map(len, tail.splitlines())) <= pages.WIDTH
    for value in values(parse(name).code)[:300]:
        assert re.search(rf"(^|\s){re.escape(number(value))}(\s|$)", tail), value


def test_page_tells_the_name_in_full_and_what_is_wrong_with_one() -> None:
    assert format_page("fixed(8, 7)").splitlines()[0] == "fixed(8, 7) = fixed8f7"
    assert "more than 65,536" in format_page("tf32")
    with pytest.raises(UserError, match="needs a bitwidth"):
        format_page("range scale=2")
    with pytest.raises(UserError, match="did you mean 'fixed8f7'"):
        format_page("fixd8f7")


# --- docs/formats.md --------------------------------------------------------------------------------------------------


def test_document_example_does_what_its_comments_say() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict[str, Any] = {}
    told = 0
    for line in filter(None, example.splitlines()):
        code, _, comment = line.partition("  # ")
        exec(code, scope)  # noqa: S102  # the document's own text
        if comment:
            got = eval(code, scope).tolist()  # noqa: S307
            assert [number(v) for v in got] == comment.split(", ")
            told += 1
    assert told == 3


def test_document_lines_of_prose_are_short() -> None:
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        assert line.startswith("|") or len(line) <= 140, line


def test_every_rounding_mode_has_a_rule() -> None:
    assert set(ROUNDING_RULES) == {re.sub(r"\d+$", "N", mode) for mode in ROUNDINGS}


@pytest.mark.parametrize(
    ("x", "name", "qtorch", "ours"),
    [
        ([0.5 + 2.0**-24], "fixed8f0", [0.0], [1.0]),
        ([1.125, -1.125], "e5m2", [1.25, -1.25], [1.0, -1.0]),
        ([0.125, -0.125, 1.0], "block4", [0.25, 0.0, 1.0], [0.0, 0.0, 1.0]),
        ([math.nan, math.inf, -0.0], "e4m3", [480.0, 480.0, 0.0], [math.nan, math.nan, -0.0]),
        ([math.nan, math.inf], "bf16", [math.nan, math.inf], [math.nan, math.inf]),
        ([1e6], "e5m10", [131008.0], [math.inf]),
    ],
)
def test_document_tells_the_truth_of_qtorch(x: list[float], name: str, qtorch: list[float], ours: list[float]) -> None:
    for told, full in ((qtorch, f"{name} compat=qtorch"), (ours, name)):
        got = quantize(torch.tensor(x), parse(full)).tolist()
        assert all(map(same, got, told)), (full, got)


# --- figures ----------------------------------------------------------------------------------------------------------


def drawn(*names: str) -> tuple[Figure, list[Row]]:
    rows = [row(name) for name in names]
    with page.style():
        return figure(rows), rows


def test_figure_has_a_row_a_format_and_a_tick_a_value() -> None:
    fig, rows = drawn("e4m3", "range4", "mxfp4")
    (axes,) = fig.axes
    labels = [label.get_text().splitlines()[0] for label in axes.get_yticklabels()]
    assert labels == ["e4m3", "range4", "mxfp4"]
    for each in rows:
        lines = [line for line in axes.lines if str(line.get_label()).startswith(f"_{each.name} ")]
        ticks = sorted({float(x) for line in lines for x in line.get_xdata() if not math.isnan(x)})
        assert ticks == sorted(each.places)
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["normal", "subnormal"]


def test_figure_is_linear_where_that_tells_values_apart() -> None:
    assert drawn("fixed8f7", "range4", "uniform4")[0].axes[0].get_xscale() == "linear"
    assert drawn("e4m3", "e5m2")[0].axes[0].get_xscale() == "symlog"


@pytest.mark.parametrize("names", [("e4m3", "e5m2"), ("po2_8",), ("e8m2", "binary"), ("fixed8f7", "range4")])
def test_numbers_at_the_axis_do_not_touch(names: tuple[str, ...]) -> None:
    fig, _ = drawn(*names)
    (axes,) = fig.axes
    fig.canvas.draw()
    left, right = axes.get_xlim()
    shown = [label for x, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True) if left <= x <= right]
    boxes = [label.get_window_extent() for label in shown]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_row_of_a_format_with_a_scale_ends_at_one() -> None:
    for name in ("mxfp4", "uniform4", "uniform4 symmetric=true", "block4", "po2_4", "binary", "ternary"):
        assert max(row(name).places) == 1, name
        assert min(row(name).places) == -1, name
    with pytest.raises(UserError, match="can't be drawn"):
        row("float32")
