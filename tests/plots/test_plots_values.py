"""Figures of every kind of value: labels are distinct, everything with a value is visible, nothing warns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from drawing import (
    HEATMAP,
    LINES,
    SURFACE,
    figure,
    history,
    legend_texts,
    marks,
    panels,
    rows,
    through_csv,
    trials,
)
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from qsweep.plots import draw, fonts, page
from qsweep.plots.axes import Reference, axis, label
from qsweep.plots.cells import picture
from qsweep.plots.entry import read
from qsweep.plots.lines import OKABE_ITO
from qsweep.plots.rows import values

DATES = [20240101, 20240102, 20240103]
TRICKY: list[Any] = [
    "None",
    "nan",
    "NaN",
    "<NA>",
    "",
    "none",
    "batch",
    "float32",
    "x" * 300,
    "x" * 299 + "y",
    "a  b",
    "a b",
    "$x$",
    "\\",
    "🚀",
    "最近",
    "العربية",
    "\x1b[0m",
]
COLUMNS = st.one_of(
    st.lists(st.sampled_from(TRICKY) | st.text(max_size=40), min_size=1, max_size=9, unique=True),
    st.lists(st.booleans(), min_size=1, max_size=2, unique=True),
    st.lists(
        st.integers(0, 2**63 - 1) | st.sampled_from([*DATES, 2**53, 2**53 + 1]), min_size=1, max_size=9, unique=True
    ),
    st.lists(
        st.floats(-1e300, 1e300) | st.sampled_from([0.0, 1e-300, 1.0, 1 + 1e-12, 0.1, 1e300, -1.0]),
        min_size=1,
        max_size=9,
        unique=True,
    ),
)


@pytest.fixture(autouse=True, scope="module")
def style() -> Iterator[None]:
    with page.style():
        yield


def tick_texts(drawn: Figure) -> list[str]:
    return [tick.get_text() for tick in panels(drawn)[0].get_xticklabels()]


def visible(drawn: Figure) -> int:
    """The number of values of lines and scatters that have a marker or are the end of a segment."""
    seen = 0
    for panel in panels(drawn):
        for line in panel.lines:
            if line.get_transform() != panel.transData:
                continue
            there = [False, *(y == y for y in line.get_ydata()), False]
            marked = line.get_marker() not in ("", "None", None)
            joined = line.get_linestyle() != "None"
            seen += sum(
                there[i] and (marked or (joined and (there[i - 1] or there[i + 1]))) for i in range(1, len(there) - 1)
            )
    return seen


# --- every kind of value ----------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(COLUMNS)
def test_labels_of_different_values_differ(column: list[Any]) -> None:
    places = list(dict.fromkeys(value for value in values(column) if value is not None))
    references = [Reference("float32"), Reference("x" * 400), Reference("x" * 399 + "z")]
    made = axis("column", [*places, *references])
    texts = [made.text(place) for place in made.places]
    assert len(set(texts)) == len(texts) == len(places) + 3


@settings(max_examples=100, deadline=None)
@given(COLUMNS)
def test_different_values_of_a_column_stay_different(column: list[Any]) -> None:
    there = [cell for cell in column if str(cell).strip()]
    assert len(set(values(there))) == len({float(c) if isinstance(c, float) else c for c in there}) or any(
        isinstance(cell, str) for cell in there
    )


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(COLUMNS, st.sampled_from(["lines", "scatter", "heatmap", "surface"]), st.booleans())
def test_figure_of_any_column_is_written_without_a_warning(
    tmp_path: Path, column: list[Any], kind: str, across: bool
) -> None:
    table = trials({"lr": [0.1, 1.0]}).drop(columns="key")
    table = pd.concat([table.assign(column=[value] * len(table)) for value in column], ignore_index=True)
    table.insert(1, "key", [str(i) for i in range(len(table))])
    x, other = ("column", "lr") if across else ("lr", "column")
    entry = (
        {"kind": kind, "x": x, "y": "test_accuracy", "line": other}
        if kind in ("lines", "scatter")
        else {"kind": kind, "x": x, "y": other, "z": "test_accuracy"}
    )
    if all(value is None for value in values(column)):
        return
    drawn = draw(table, history({}), [entry], tmp_path, "title")
    assert [path.suffix for path in drawn.paths] == [".png", ".pdf"]
    assert not drawn.failures


@pytest.mark.parametrize("count", [1, 5, 31])
@pytest.mark.parametrize("kind", ["lines", "scatter"])
@pytest.mark.parametrize("holes", [1, 2, 3])
def test_every_value_of_a_line_has_a_marker_or_a_segment(kind: str, count: int, holes: int) -> None:
    grid = {"lr": [float(i) for i in range(1, count + 1)], "bitwidth": [8, 4]}
    table = trials(grid, status=lambda p: "done" if p["lr"] % holes == 0 or p["lr"] == 1 else "diverged")
    float32 = trials({"lr": [1.0], "bitwidth": [None]}, weight="float32")
    table = pd.concat([table, float32], ignore_index=True)
    drawn = figure(table, {"kind": kind, "x": "lr", "y": "test_accuracy", "line": "bitwidth"})
    assert visible(drawn) >= (table["status"] == "done").sum()


# --- names that look like nothing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["None", "nan", "NaN", "<NA>"])
def test_variant_with_a_name_like_an_empty_cell_is_a_variant(name: str) -> None:
    table = trials({"variant": [name, "stochastic"], "lr": [0.1, 1.0]})
    drawn = figure(table, {**LINES, "line": "variant"})
    assert legend_texts(drawn)[-3:] == ["variant", name, "stochastic"] or {name, "stochastic"} <= set(
        legend_texts(drawn)
    )
    shown = picture(table, history({}), read({**LINES, "line": None, "facet": "variant"}), "title")
    assert [panel.title for panel in shown.panels] == [f"variant: {name}", "variant: stochastic"]


def test_variants_that_are_equal_as_numbers_are_different() -> None:
    table = trials({"variant": ["1000", "1e3"], "lr": [0.1, 1.0]}).astype({"variant": str})
    table["variant"] = ["1000", "1000", "1e3", "1e3"]
    assert {"1000", "1e3"} <= set(legend_texts(figure(table, {**LINES, "line": "variant"})))


def test_facet_variant_titles_the_panel_of_float32_by_its_format() -> None:
    both = through_csv(
        [*rows({"variant": ["a", "b"], "lr": [0.1]}), *rows({"variant": [None], "lr": [0.1]}, weight="float32")]
    )
    shown = picture(both, history({}), read({**HEATMAP, "y": "seed", "facet": "variant"}), "title")
    assert [panel.title for panel in shown.panels] == ["variant: a", "variant: b", "float32"]


# --- labels -----------------------------------------------------------------------------------------------------------


def test_seeds_that_are_dates_are_written_in_full() -> None:
    made = axis("seed", map(float, DATES))
    assert [made.text(float(seed)) for seed in DATES] == ["20240101", "20240102", "20240103"]


def test_reference_is_labelled_by_its_format_without_the_columns_of_its_parameters() -> None:
    block = pd.DataFrame(rows({"lr": [0.1, 1.0], "bitwidth": [None]}, weight="block8 per=16"))
    block = block.assign(
        **{"quantize.weight.per": 16, "quantize.weight.axis": "auto", "quantize.bias": "block8 per=16"}
    )
    table = pd.concat([pd.DataFrame(rows({"lr": [0.1, 1.0], "bitwidth": [4, 8]})), block])
    assert "block8 per=16" in legend_texts(figure(through_csv(table.to_dict("records")), LINES))


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("quantize.weight.bitwidth", "weight bits"),
        ("quantize.weight", "weight format"),
        ("quantize.activation.mantissa", "activation mantissa bits"),
        ("quantize.norm.fraction", "norm fraction bits"),
        ("model.hidden", "model hidden"),
        ("init.std", "init std"),
    ],
)
def test_dotted_columns_have_readable_labels(column: str, text: str) -> None:
    assert label(column) == text


# --- 0 on a logarithmic axis ------------------------------------------------------------------------------------------

DECAYS = [0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1]


def test_zero_is_off_the_scale_before_a_logarithmic_axis() -> None:
    made = axis("weight_decay", DECAYS)
    assert made.scale == "log10"
    assert [made.at(value) for value in DECAYS] == pytest.approx([-6.5, -5, -4, -3, -2, -1])
    assert made.text(0.0) == "0"
    assert made.ticks(3)[0] == 0.0


@pytest.mark.parametrize("even", [[0.0, 1.0, 2.0, 3.0], [0.0, 0.25, 0.5], [0.0, 0.5], [0.0, 0.1, 0.2, 0.3]])
def test_even_numbers_from_zero_stay_linear(even: list[float]) -> None:
    assert axis("dropout", even).scale == "linear"


def test_lines_do_not_connect_to_zero_and_surfaces_have_a_ribbon_there() -> None:
    table = trials({"weight_decay": DECAYS, "bitwidth": [4, 8]})
    (panel,) = panels(figure(table, {**LINES, "x": "weight_decay"}))
    assert sorted({len(line.get_xdata()) for line in panel.lines}) == [1, 5]
    assert tick_texts(figure(table, {**LINES, "x": "weight_decay"}))[-1] == "0" or "0" in tick_texts(
        figure(table, {**LINES, "x": "weight_decay"})
    )
    shown = picture(table, history({}), read({**SURFACE, "x": "weight_decay"}), "title")
    from qsweep.plots.surface import faces

    touching = [face for face in faces(shown, shown.panels[0].cells) if any(x == 0 for x, _ in face.places)]
    assert len(touching) == 1
    assert {x for x, _ in touching[0].places} == {0.0}


# --- many lines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lines", "scatter"])
def test_lines_of_more_names_than_colours_have_distinct_looks(kind: str) -> None:
    grid = {"variant": [f"v{i}" for i in range(2 * len(OKABE_ITO) + 2)], "lr": [float(i) for i in range(1, 40)]}
    drawn = figure(trials(grid), {"kind": kind, "x": "lr", "y": "test_accuracy", "line": "variant"})
    handles = drawn.legends[0].legend_handles
    looks = [(h.get_color(), h.get_marker(), str(h._dash_pattern)) for h in handles]  # type: ignore[union-attr]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize(("bits", "kind"), [([8, 4, 2], PolyCollection), ([8, 7, 6, 5, 4, 3, 2, 1], LineCollection)])
def test_spread_of_few_lines_is_a_band_and_of_many_a_bar(bits: list[int], kind: type) -> None:
    table = trials(
        {"bitwidth": bits, "lr": [0.25, 0.5, 1.0]}, accuracy=lambda p: 0.1 * p["bitwidth"] + 0.01 * p["seed"], seeds=3
    )
    drawn = figure(table, LINES)
    assert {type(artist) for artist in panels(drawn)[0].collections} <= {kind, *kind.__subclasses__()}
    assert len(panels(drawn)[0].collections) == len(bits)
    assert any(("band" if len(bits) == 3 else "bar") + ": min … max" in text for text in legend_texts(drawn))


def test_spread_at_a_single_x_is_a_bar() -> None:
    table = trials({"bitwidth": [4], "lr": [0.25]}, accuracy=lambda p: 0.1 * (1 + p["seed"]), seeds=3)
    (bars,) = panels(figure(table, LINES))[0].collections
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [pytest.approx([10, 30])]


@pytest.mark.parametrize("sign", [1, -1])
def test_legend_is_in_the_order_of_the_lines(sign: int) -> None:
    table = trials({"bitwidth": [2, 4, 8], "lr": [0.5, 1.0]}, accuracy=lambda p: 0.5 + sign * 0.05 * p["bitwidth"])
    shown = [text for text in legend_texts(figure(table, LINES)) if text in ("2", "4", "8")]
    assert shown == (["8", "4", "2"] if sign == 1 else ["2", "4", "8"])


# --- nothing to show --------------------------------------------------------------------------------------------------


def test_threshold_without_any_point_shows_a_reason_instead_of_an_axis() -> None:
    table = trials({"bitwidth": [4, 8], "lr": [0.5, 1.0]})
    drawn = figure(table, {"kind": "threshold", "x": "lr", "y": "bitwidth", "z": "test_accuracy", "reach": 0.9})
    (panel,) = panels(drawn)
    assert [text.get_text() for text in panel.texts] == ["none reaches 90.0 %:\nthe best has 50.0 %"]
    assert list(panel.get_yticks()) == []


def test_loss_that_overflowed_is_marked_as_done() -> None:
    table = trials({"lr": [0.25, 0.5], "bitwidth": [4]})
    table.loc[table["lr"] == 0.5, "test_loss"] = float("nan")
    (panel,) = panels(figure(table, {**LINES, "y": "test_loss"}))
    assert len(marks(panel, "done, but the value is infinite or missing")) == 1
    assert not marks(panel, "failed or not run")


# --- other scripts ----------------------------------------------------------------------------------------------------


@pytest.fixture
def other_font(tmp_path: Path) -> Iterator[str]:
    """An installed font with one character that DejaVu Sans lacks."""
    builder = FontBuilder(1000, isTTF=True)
    pen = TTGlyphPen(None)
    for corner, move in (((100, 0), pen.moveTo), ((900, 0), pen.lineTo), ((500, 800), pen.lineTo)):
        move(corner)
    pen.closePath()
    builder.setupGlyphOrder([".notdef", "near"])
    builder.setupCharacterMap({ord("近"): "near"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "near": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "near": (1000, 100)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Near Sans", "styleName": "Regular", "psName": "NearSans-Regular"})
    builder.setupOS2(sTypoAscender=900, sTypoDescender=-100)
    builder.setupPost()
    builder.save(tmp_path / "near.ttf")
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "near.ttf")
    _forget()
    yield "Near Sans"
    fontManager.ttflist = before
    _forget()


def _forget() -> None:
    for cached in (fonts._family, fonts._installed, fonts._font):
        cached.cache_clear()


def test_characters_that_dejavu_lacks_come_from_an_installed_font(other_font: str, tmp_path: Path) -> None:
    assert fonts.families("a近é") == [fonts.FIRST, other_font]
    drawn = draw(
        trials({"variant": ["近", "b"], "lr": [0.1, 1.0]}), history({}), [{**LINES, "line": "variant"}], tmp_path, "近"
    )
    assert not drawn.notes
    assert b"NearSans" in drawn.paths[1].read_bytes().replace(b"#20", b"")


def test_characters_without_a_font_are_boxes_reported_once_and_labels_stay_distinct(tmp_path: Path) -> None:
    table = trials({"variant": ["🚀🦀", "🦀🚀"], "lr": [0.1, 1.0]})
    drawn = draw(table, history({}), [{**LINES, "line": "variant"}], tmp_path, "🚀 title")
    (note,) = drawn.notes
    assert note == "no installed font has 🚀🦀: figures show □ in their place"
    assert {"1: □□", "2: □□"} <= set(legend_texts(figure(table, {**LINES, "line": "variant"})))


def test_greek_cyrillic_and_arabic_need_no_other_font() -> None:
    assert fonts.families("Ταχύτητα скорость العربية") == [fonts.FIRST]
    assert fonts.missing("Ταχύτητα скорость العربية") == []
