"""Figures: what they show of a table, mark and refuse."""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pandas as pd
import pytest
from drawing import (
    BITS,
    HEATMAP,
    LINES,
    LR,
    SURFACE,
    Point,
    colour_bar,
    figure,
    history,
    labelled,
    legend_texts,
    lr_bitwidth,
    marks,
    panels,
    rows,
    through_csv,
    trials,
)
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from matplotlib.text import Text
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from qsweep import plots
from qsweep.errors import UserError
from qsweep.plots import Drawn, draw, heatmap, histogram, page, surface
from qsweep.plots.axes import Reference, axis, plain, scale_of
from qsweep.plots.cells import picture
from qsweep.plots.distributions import distributions
from qsweep.plots.entry import Histogram, named, read
from qsweep.plots.folder import draw_folder
from qsweep.spec.plots import PLOT_KINDS, PlotKind


def refusal(*given: Any) -> str:
    """The reason why the only entry is not drawn."""
    try:
        drawn = draw(*given)
    except UserError as error:
        return str(error)
    assert not drawn.paths
    return "\n".join(drawn.failures)


@pytest.fixture(autouse=True, scope="module")
def style() -> Iterator[None]:
    with page.style():
        yield


# --- files ------------------------------------------------------------------------------------------------------------


def test_draw_writes_png_and_pdf_with_the_same_bytes_each_time(tmp_path: Path) -> None:
    table = trials({"lr": LR[:2], "bitwidth": [2, 1]}, status=lambda p: "diverged" if p["lr"] == 1 else "done")
    first = draw(table, history({}), [HEATMAP], tmp_path / "a", "title")
    second = draw(table, history({}), [HEATMAP], tmp_path / "b", "title")
    assert [path.name for path in first.paths] == ["heatmap-test_accuracy.png", "heatmap-test_accuracy.pdf"]
    assert sorted(first.paths) == sorted((tmp_path / "a").iterdir()), "temporary files are left over"
    assert [path.read_bytes() for path in first.paths] == [path.read_bytes() for path in second.paths]
    assert b"CreationDate" not in first.paths[1].read_bytes()
    assert b"/FontFile2" in first.paths[1].read_bytes(), "fonts are not embedded as TrueType"


def test_draw_entry_that_does_not_fit_the_table_is_reported_and_the_others_are_drawn(tmp_path: Path) -> None:
    entries = [LINES, {**LINES, "line": None, "name": "good"}]
    drawn = draw(trials({"lr": LR[:2]}), history({}), entries, tmp_path / "figures", "title")
    assert [path.name for path in drawn.paths] == ["good.png", "good.pdf"]
    assert all(path.is_file() for path in drawn.paths)
    (failure,) = drawn.failures
    assert "'bitwidth'" in failure


def test_draw_file_that_can_not_be_written_is_reported_and_the_others_are_drawn(tmp_path: Path) -> None:
    (tmp_path / "bad.png").mkdir()
    entries = [{**LINES, "line": None, "name": name} for name in ("bad", "good")]
    drawn = draw(trials({"lr": LR[:2]}), history({}), entries, tmp_path, "title")
    assert [path.name for path in drawn.paths] == ["good.png", "good.pdf"]
    assert "bad.png" in drawn.failures[0]


def test_draw_folder_without_a_history_draws_plots_that_are_not_over_epochs(tmp_path: Path) -> None:
    trials({"lr": LR[:2]}).to_csv(tmp_path / "trials.csv", index=False)
    lines = {**LINES, "line": None}
    (tmp_path / "spec.yaml").write_text(json.dumps({"plots": [lines]}))
    drawn = draw_folder(tmp_path)
    assert [path.name for path in drawn.paths] == ["lines-test_accuracy.png", "lines-test_accuracy.pdf"]
    with pytest.raises(UserError, match=r"no table at .*history.csv"):
        draw_folder(tmp_path, [{**lines, "x": "epoch"}])


def test_draw_without_entries_writes_no_files(tmp_path: Path) -> None:
    assert draw(trials({"lr": [1.0]}), history({}), [], tmp_path / "figures", "title") == Drawn()
    assert not (tmp_path / "figures").exists()


def test_named_makes_equal_names_unique_and_keeps_given_ones() -> None:
    entries = [HEATMAP, HEATMAP, {**LINES, "name": "heatmap-test_accuracy"}]
    assert [plot.name for plot in named(entries)] == [
        "heatmap-test_accuracy-2",
        "heatmap-test_accuracy-3",
        "heatmap-test_accuracy",
    ]


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "x" * 101, "new\nline"])
def test_named_refuses_a_name_that_can_not_name_a_file(name: str) -> None:
    with pytest.raises(UserError, match="can't name a file"):
        named([{**HEATMAP, "name": name}])


def test_import_and_draw_do_not_change_the_state_of_matplotlib_and_pyplot(tmp_path: Path) -> None:
    script = """if True:
        import sys
        from pathlib import Path
        import qsweep.plots
        assert not {"matplotlib", "pandas", "numpy", "torch"} & set(sys.modules), "the import is slow"
        import pandas as pd
        table = pd.DataFrame({"key": ["a"], "status": ["done"], "lr": [1.0], "seed": [0], "test_loss": [0.5]})
        qsweep.plots.draw(table, table, [{"kind": "lines", "x": "lr", "y": "test_loss"}], Path(sys.argv[1]), "title")
        assert "matplotlib.pyplot" not in sys.modules, "pyplot keeps figures and picks a screen"
    """
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


def note(drawn: Figure) -> str:
    """The notes below a figure, on one line."""
    return " ".join(legend_texts(drawn)[-1].split())


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**HEATMAP, "x": "bitwith"}, "x: unknown column 'bitwith'; did you mean 'bitwidth'?"),
        ({**HEATMAP, "y": "rl"}, "y: unknown column 'rl'"),
        ({**LINES, "line": "bits"}, "line: unknown column 'bits'"),
        ({**SURFACE, "facet": "zeros"}, "facet: unknown column 'zeros'"),
        ({**HEATMAP, "z": "test_acuracy"}, "unknown metric 'test_acuracy'; did you mean 'test_accuracy'?"),
        ({**HEATMAP, "kind": "heatmaps"}, "unknown kind 'heatmaps'; did you mean 'heatmap'?"),
        ({"kind": "surface", "x": "lr"}, "a plot of kind 'surface' needs y and z"),
    ],
)
def test_draw_wrong_entry_is_reported_with_the_nearest_right_one(
    entry: Mapping[str, Any], message: str, tmp_path: Path
) -> None:
    table = trials({"lr": [1.0], "bitwidth": [1]})
    assert message in refusal(table, history({}), [entry], tmp_path, "title")


@pytest.mark.parametrize(
    ("table", "entry", "message"),
    [
        (trials({"lr": [1.0], "bitwidth": [1]}).iloc[:0], HEATMAP, "the table has no rows"),
        (trials({"lr": [None], "bitwidth": [1]}), HEATMAP, "column 'lr' is empty in every row"),
        (trials({"lr": [1.0], "bitwidth": list(range(41))}), LINES, "has 41 values; the limit of a figure is 40 lines"),
        (trials({"lr": LR, "zero": list(range(25))}), {**HEATMAP, "y": "seed", "facet": "zero"}, "24 panels"),
        (
            trials({"lr": LR, "zero": list(range(13))}),
            {**SURFACE, "y": "seed", "facet": "zero"},
            "13 values; the limit of a figure is 12 panels of surfaces: a heatmap can have 24",
        ),
    ],
)
def test_draw_table_that_can_not_be_drawn_is_reported_with_the_reason(
    table: pd.DataFrame, entry: Mapping[str, Any], message: str, tmp_path: Path
) -> None:
    assert re.search(message, refusal(table, history({}), [entry], tmp_path, "title"))


# --- axes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "scale", "texts"),
    [
        ([2.0**-2, 2.0**-1, 1.0], "log2", ["$2^{-2}$", "$2^{-1}$", "$2^{0}$"]),
        ([32.0, 64.0, 128.0], "log2", ["32", "64", "128"]),
        ([0.5, 1.0, 2.0], "log2", ["$2^{-1}$", "$2^{0}$", "$2^{1}$"]),
        ([2.0**-19, 1.90734863281e-06 * 2], "log2", ["$2^{-19}$", "$2^{-18}$"]),  # tables keep 12 digits
        ([2.0, 4.0, 8.0], "log2", ["2", "4", "8"]),
        ([1.0, 2.0, 3.0, 4.0], "linear", ["1", "2", "3", "4"]),
        ([1.0, 2.0], "linear", ["1", "2"]),
        ([0.001, 0.01, 0.1], "log10", ["$10^{-3}$", "$10^{-2}$", "$10^{-1}$"]),
        ([0.001, 0.003, 0.01, 0.3], "log10", ["0.001", "0.003", "0.01", "0.3"]),
        ([3.0, 9.0, 27.0], "log10", ["3", "9", "27"]),
        ([0.0, 0.5, 0.9], "linear", ["0", "0.5", "0.9"]),
        ([-1.0, 1.0], "linear", ["−1", "1"]),
        ([0.25], "linear", ["0.25"]),
        ([1.0, 1 + 2**-52], "category", ["1", "1.0000000000000002"]),
        ([1.0, 1 + 1e-6, 3.0], "category", ["1", "1.000001", "3"]),
        ([-1.0, 0.0, 20240101.0], "category", ["−1", "0", "2.024e7"]),
        ([-1e308, 1e308], "category", ["−1e308", "1e308"]),
    ],
)
def test_axis_numbers_have_the_scale_on_which_they_are_spread_evenly(
    values: list[float], scale: str, texts: list[str]
) -> None:
    shown = axis("lr", reversed(values))
    assert shown.scale == scale_of(values) == scale
    assert [shown.text(value) for value in shown.values] == texts


def test_axis_text_and_booleans_stay_in_the_order_of_the_table() -> None:
    assert axis("rounding", ["stochastic", "nearest", "stochastic"]).values == ("stochastic", "nearest")
    zero = axis("zero", [True, False])
    assert [zero.title(value) for value in zero.values] == ["with a zero level", "without a zero level"]
    assert axis("rounding", ["nearest"]).title("nearest") == "rounding: nearest"
    assert axis("nesterov", [True]).title(True) == "nesterov: true"


def test_axis_references_follow_the_last_value() -> None:
    bits = axis("bitwidth", [Reference("float32"), 8.0, 4.0])
    assert bits.places[-1] == Reference("float32")
    assert bits.at(Reference("float32")) > bits.at(8.0) > bits.at(4.0)


def test_axis_with_many_values_has_ticks_at_round_ones() -> None:
    bits = axis("fraction", [float(b) for b in range(1, 24)])
    assert [bits.text(value) for value in bits.ticks(6)] == ["4", "8", "12", "16", "20"]
    assert axis("lr", [2.0**-e for e in range(15)]).ticks(8) == [2.0**e for e in range(-14, 1, 2)]


def test_axis_long_and_unusual_text_is_cut_but_stays_distinct_and_is_not_mathematics() -> None:
    def texts(*values: str) -> list[str]:
        shown = axis("variant", values)
        return [shown.text(value) for value in shown.values]

    assert texts("a" * 40 + "1", "a" * 40 + "2") == ["aaaaaaaaaaaa…aaaaaaaaaaa1", "aaaaaaaaaaaa…aaaaaaaaaaa2"]
    assert texts("with " * 9 + "x" + "y" * 20, "with " * 9 + "z" + "y" * 20) == [
        "…th xyyyyyyyyyyyyyyyyyyyy",
        "…th zyyyyyyyyyyyyyyyyyyyy",
    ]
    assert texts("p" * 20 + "1" + "q" * 20, "p" * 20 + "2" + "q" * 20, "z")[1] == "2: pppppppppp…qqqqqqqqqq"
    assert texts("$x$", "two\nlines") == [r"\$x\$", "two lines"]


def test_plain_uses_ordinary_notation() -> None:
    assert [plain(number) for number in (60000.0, 1e-5, 0.1, 12345678.0)] == ["60000", "1e-5", "0.1", "1.235e7"]


# --- panels, references, seeds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [HEATMAP, SURFACE, LINES])
def test_facets_share_scale_colours_and_titles(entry: Mapping[str, Any]) -> None:
    drawn = figure(lr_bitwidth(), {**entry, "facet": "zero"})
    left, right = panels(drawn)
    assert (left.get_xlim(), left.get_ylim()) == (right.get_xlim(), right.get_ylim())
    titles = {text.get_text() for text in drawn.findobj(Text)}
    assert {"with a zero level", "without a zero level", "learning rate", "title"} <= titles
    if entry["kind"] == "surface":
        assert left.get_zlim() == right.get_zlim() == (0, 100)
        assert left.azim == right.azim
    if entry["kind"] != "lines":
        bar = colour_bar(drawn)
        assert bar is not None
        assert bar.get_ylim() == (0, 100)
        assert bar.get_ylabel() == "test accuracy (%)"


def test_heatmap_float32_is_a_separate_row_in_each_panel() -> None:
    drawn = figure(lr_bitwidth(), {**HEATMAP, "facet": "zero"})
    assert [label.get_text() for label in panels(drawn)[0].get_yticklabels()] == ["1", "2", "3", "4", "float32"]
    for each in panels(drawn):
        (cells,) = labelled(each, "done", PatchCollection)
        bottoms = sorted({round(float(path.vertices[:, 1].min()), 2) for path in cells.get_paths()})
        assert bottoms == [-0.5, 0.5, 1.5, 2.5, pytest.approx(3.5 + heatmap.GAP)]


def test_heatmap_float32_without_x_is_a_separate_column() -> None:
    turned = {**HEATMAP, "x": "bitwidth", "y": "lr", "facet": "zero"}
    for each in panels(figure(lr_bitwidth(), turned)):
        assert "float32" in [label.get_text() for label in each.get_xticklabels()]
        assert each.get_xlim()[1] == pytest.approx(4.5 + heatmap.GAP)


def test_heatmap_reference_that_reads_neither_axis_spans_the_row() -> None:
    table = through_csv(
        [*rows({"lr": LR[:4], "bitwidth": [2, 1]}), *rows({"lr": [None], "bitwidth": [None]}, weight="float32")]
    )
    (cells,) = labelled(panels(figure(table, HEATMAP))[0], "done", PatchCollection)
    widths = [float(path.vertices[:, 0].max() - path.vertices[:, 0].min()) for path in cells.get_paths()]
    assert sorted(widths) == [1.0] * 8 + [4.0]


def test_lines_float32_is_dashed_black_in_each_panel() -> None:
    drawn = figure(lr_bitwidth(), {**LINES, "facet": "zero"})
    for each in panels(drawn):
        (reference,) = [line for line in each.lines if line.get_color() == "black" and line.get_linestyle() == "--"]
        assert list(reference.get_ydata()) == [95.0] * 5
    assert "float32" in legend_texts(drawn)


def test_lines_float32_without_x_is_a_horizontal_line() -> None:
    table = through_csv([*rows({"bitwidth": [2, 1]}), *rows({"bitwidth": [None]}, seeds=2, weight="float32")])
    (panel,) = panels(figure(table, {"kind": "lines", "x": "bitwidth", "y": "test_accuracy"}))
    (level,) = [line for line in panel.lines if line.get_color() == "black"]
    assert list(level.get_xdata()) == [0, 1]
    assert list(level.get_ydata()) == [50.0, 50.0]


def test_surface_float32_is_a_ribbon_beyond_the_highest_bitwidth() -> None:
    shown = picture(lr_bitwidth(), history({}), read({**SURFACE, "facet": "zero"}), "title")
    for each in panels(surface.draw(shown)):
        assert [label.get_text() for label in each.get_yticklabels()][-1] == "float32"
    for panel in shown.panels:
        ribbon = [face for face in surface.faces(shown, panel.cells) if face.is_reference]
        assert len(ribbon) == 4
        assert all(y > 4 and z == pytest.approx(95) for face in ribbon for _, y, z in face.corners)


def test_reference_other_than_float32_is_labelled_by_its_formats_or_as_reference() -> None:
    bf16 = through_csv([*rows({"bitwidth": [2]}), *rows({"bitwidth": [None]}, weight="bf16")])
    same = through_csv([*rows({"bitwidth": [2]}), *rows({"bitwidth": [None]})])
    entry = read({"kind": "lines", "x": "seed", "y": "test_loss", "line": "bitwidth"})
    labels = [picture(table, history({}), entry, "").series.references for table in (bf16, same)]
    assert labels == [(Reference("bf16"),), (Reference("reference"),)]


def test_rows_without_a_facet_that_are_not_references_have_their_own_panel() -> None:
    shown = picture(
        trials({"zero": [True, None], "lr": LR, "bitwidth": [2]}),
        history({}),
        read({**HEATMAP, "facet": "zero"}),
        "title",
    )
    assert [panel.title for panel in shown.panels] == ["with a zero level", "zero level: not applicable"]


def test_facets_whose_cut_titles_are_equal_keep_their_panels() -> None:
    names = ["a" * 20 + "b" + "c" * 20, "a" * 20 + "d" + "c" * 20]
    entry = {"kind": "lines", "x": "lr", "y": "test_loss", "facet": "variant"}
    assert len(panels(figure(trials({"variant": names, "lr": LR}), entry))) == 2


def test_lines_band_is_min_to_max_over_seeds() -> None:
    table = trials({"lr": [0.5, 1.0]}, seeds=3, accuracy=lambda point: 0.2 + 0.1 * point["seed"])
    drawn = figure(table, {"kind": "lines", "x": "lr", "y": "test_accuracy"})
    (panel,) = panels(drawn)
    (band,) = [artist.get_datalim(panel.transData) for artist in panel.findobj(PolyCollection)]
    assert (band.y0, band.y1) == pytest.approx((20.0, 40.0))
    assert list(panel.lines[0].get_ydata()) == pytest.approx([30.0, 30.0])
    assert "line: mean, band: min … max over 3 seeds" in legend_texts(drawn)


def test_lines_with_bars_only_at_some_x_have_a_note() -> None:
    table = trials({"lr": list(range(1, 26)), "bitwidth": BITS}, seeds=2, accuracy=lambda p: 0.1 * (1 + p["seed"]))
    drawn = figure(table, {**LINES})
    (bars, *_) = (c for c in panels(drawn)[0].collections if isinstance(c, LineCollection))
    assert [segment[0][0] for segment in bars.get_segments()] == [1, 4, 7, 10, 13, 16, 19, 22, 25]
    assert note(drawn).startswith(
        "line: mean, bar: min … max over 2 seeds; bars at one learning rate in 3: elsewhere the spread is not drawn"
    )


def test_lines_over_epochs_show_what_is_averaged_and_the_number_of_trials_per_point() -> None:
    table = trials({"momentum": [0.0, 0.9], "rounding": ["nearest"]}, seeds=2)
    courses = {key: [0.5 + 0.01 * i] * (3 if i else 2) for i, key in enumerate(table["key"])}
    drawn = figure(table, EPOCHS, history(courses))
    assert note(drawn) == "line: mean, band: min … max over 3–4 trials that differ in momentum and seed"


def test_lines_with_one_trial_left_at_a_point_note_that_it_has_no_spread() -> None:
    def status(point: Point) -> str:
        return "diverged" if point["lr"] == 1 and point["seed"] else "done"

    drawn = figure(trials({"lr": [0.5, 1.0]}, seeds=2, status=status), {**LINES, "line": None})
    assert note(drawn) == "line: mean, band: min … max over 1–2 seeds; no band where one trial is left"


def test_notes_count_the_trials_of_references_apart() -> None:
    expected = "over 2 trials that differ in zero level; float32: 1 trial"
    assert note(figure(lr_bitwidth(), LINES)) == f"line: mean, bar: min … max {expected}"
    assert picture(lr_bitwidth(), history({}), read(HEATMAP), "").notes == f"mean {expected}"


def test_spread_of_a_point_without_a_neighbour_is_a_bar() -> None:
    table = trials(
        {"lr": [0.25, 0.5, 1.0]},
        seeds=2,
        accuracy=lambda p: 0.5 + 0.1 * p["seed"],
        status=lambda p: "diverged" if p["lr"] == 0.5 else "done",
    )
    (panel,) = panels(figure(table, {**LINES, "line": None}))
    (bars,) = (c for c in panel.collections if isinstance(c, LineCollection))
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [pytest.approx([50, 60])] * 2


@pytest.mark.parametrize("kind", ["lines", "scatter"])
def test_lines_hidden_under_another_are_named(kind: str) -> None:
    def accuracy(point: Point) -> float:
        return {"a": 0.5, "b": 0.5, "c": 0.7, "d": 0.5 if point["lr"] == 1 else 0.6}[point["variant"]]

    table = trials({"variant": ["a", "b", "c", "d"], "lr": LR}, accuracy=accuracy)
    assert note(figure(table, {**LINES, "kind": kind, "line": "variant"})) == "hidden under b: a"


def test_done_trials_without_the_measure_are_left_out_not_marked() -> None:
    table = lr_bitwidth()
    table["weight_stalled"] = table["test_accuracy"].where(table["quantize.weight"] != "float32")
    drawn = figure(table, {**HEATMAP, "z": "weight_stalled", "facet": "zero"})
    words = " ".join(" ".join(text.get_text().split()) for text in drawn.findobj(Text))
    assert "weight updates lost to rounding (%)" in words
    assert "float32" not in words
    assert "failed" not in words
    table["weight_stalled"] = math.nan
    done = table[table["status"] == "done"]
    with pytest.raises(UserError, match="no trial has a weight_stalled"):
        figure(done, {**HEATMAP, "z": "weight_stalled", "facet": "zero"})


def test_heatmap_shows_the_mean_over_seeds_and_notes_it() -> None:
    table = trials({"lr": [0.5, 1.0], "bitwidth": [2, 1]}, seeds=5, accuracy=lambda point: 0.1 * point["seed"])
    assert "mean over 5 seeds" in legend_texts(figure(table, HEATMAP))
    shown = picture(table, history({}), read(HEATMAP), "title")
    assert [cell.mean for cell in shown.cells] == pytest.approx([20.0] * 4)


def test_notes_name_the_averaged_axes() -> None:
    table = trials({"lr": LR, "momentum": [0.0, 0.9], "bitwidth": [2, 1]}, seeds=2)
    assert picture(table, history({}), read(HEATMAP), "").notes == "mean over 4 trials that differ in momentum and seed"


def test_equal_keys_of_several_blocks_count_once_per_cell() -> None:
    table = pd.concat([trials({"lr": [0.5, 1.0], "bitwidth": [2, 1]})] * 2)
    shown = picture(table, history({}), read(HEATMAP), "title")
    assert [len(cell.values) for cell in shown.cells] == [1] * 4
    assert shown.notes == ""


# --- trials without a result ------------------------------------------------------------------------------------------


def holes(point: Point) -> str:
    """Diverged at 4 bits and lr = 1/4, not run at 2 bits and lr = 1/2."""
    known = {(0.25, 4): "diverged", (0.5, 2): "missing"}
    return known.get((point["lr"], point["bitwidth"]), "done")


def with_holes() -> pd.DataFrame:
    return trials({"lr": [0.125, 0.25, 0.5, 1.0], "bitwidth": [4, 3, 2]}, status=holes)


def test_heatmap_holes_are_marked_and_not_coloured() -> None:
    drawn = figure(with_holes(), HEATMAP)
    (panel,) = panels(drawn)
    (known,) = labelled(panel, "done", PatchCollection)
    (hatched,) = labelled(panel, "diverged", PatchCollection)
    assert len(known.get_paths()) == 10
    assert hatched.get_hatch()
    assert marks(panel, "diverged") == {(1, 2)}
    assert marks(panel, "failed or not run") == {(2, 0)}
    assert {"diverged", "failed or not run"} <= set(legend_texts(drawn))
    assert len(panel.texts) == 10, "a hole has no number"


def test_surface_omits_faces_that_touch_a_hole_and_marks_it_on_the_floor() -> None:
    shown = picture(with_holes(), history({}), read(SURFACE), "title")
    faces = surface.faces(shown, shown.panels[0].cells)
    assert len(faces) == 6 - 4
    (panel,) = panels(surface.draw(shown))
    (drawn,) = [artist for artist in panel.collections if isinstance(artist, Poly3DCollection)]
    assert len(drawn.get_facecolor()) == 2
    (cross,) = labelled(panel, "diverged")
    assert [list(part) for part in cross.get_data_3d()] == [[-2.0], [4.0], [0.0]]


def test_surface_values_without_a_face_are_pins() -> None:
    (panel,) = panels(figure(trials({"lr": LR[:3], "bitwidth": [4]}), SURFACE))
    assert [float(pin.get_data_3d()[2][0]) for pin in labelled(panel, "done")] == [50.0] * 3


def test_lines_have_a_gap_and_a_mark_at_the_bottom_for_a_diverged_trial() -> None:
    (panel,) = panels(figure(with_holes(), LINES))
    four = panel.lines[2]
    assert [float(y) for y in four.get_ydata()] == pytest.approx([50.0, float("nan"), 50.0, 50.0], nan_ok=True)
    assert [x for x, _ in marks(panel, "diverged")] == [-2.0]
    assert [x for x, _ in marks(panel, "failed or not run")] == [-1.0]
    assert panel.get_ylim()[0] < 49, "there is room for the marks below the values"


def test_marks_of_lines_that_diverge_at_one_x_are_stacked() -> None:
    table = trials({"lr": [0.5, 1.0], "bitwidth": [3, 2, 1]}, status=lambda p: "diverged" if p["lr"] == 1 else "done")
    (panel,) = panels(figure(table, LINES))
    assert len({y for _, y in marks(panel, "diverged")}) == 3


@pytest.mark.parametrize("entry", [HEATMAP, SURFACE, LINES])
def test_place_with_some_diverged_seeds_has_a_mean_and_a_mark(entry: Mapping[str, Any]) -> None:
    table = trials(
        {"lr": [0.5, 1.0], "bitwidth": [2, 1]},
        seeds=3,
        status=lambda p: "diverged" if (p["lr"], p["bitwidth"], p["seed"]) == (1.0, 1, 0) else "done",
    )
    drawn = figure(table, entry)
    assert "some trials without a result" in legend_texts(drawn)
    assert any("over 2–3 seeds" in text for text in legend_texts(drawn))
    assert len(marks(panels(drawn)[0], "some trials without a result")) == 1


def test_done_with_an_infinite_or_missing_loss_is_marked_as_done() -> None:
    table = trials({"lr": [0.25, 0.5, 1.0], "bitwidth": [1]}).assign(test_loss=[float("inf"), float("nan"), 2.0])
    shown = picture(table, history({}), read({**HEATMAP, "z": "test_loss"}), "title")
    assert [cell.state for cell in shown.cells] == ["empty", "empty", "done"]
    assert shown.limits == (0.0, 2.0)


@pytest.mark.parametrize(
    ("entry", "status"), [(HEATMAP, "diverged"), (SURFACE, "failed"), (LINES, "timeout"), (LINES, "missing")]
)
def test_table_without_results_is_drawn(entry: Mapping[str, Any], status: str) -> None:
    table = trials({"lr": [0.5, 1.0], "bitwidth": [2, 1]}, status=lambda point: status)
    name = "diverged" if status == "diverged" else "failed or not run"
    assert len(marks(panels(figure(table, entry))[0], name)) == 4


# --- epochs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lines", "scatter"])
def test_a_single_huge_value_of_x_is_drawn_without_a_warning(kind: str) -> None:
    (panel,) = panels(figure(trials({"lr": [1e30]}), {"kind": kind, "x": "lr", "y": "test_accuracy"}))
    low, high = panel.get_xlim()
    assert low < 1e30 < high


def test_scatter_has_a_ring_per_done_trial() -> None:
    def status(point: Point) -> str:
        return "diverged" if point["bitwidth"] == 4 and point["seed"] == 1 else "done"

    table = trials(
        {"bitwidth": [8, 4]}, status=status, accuracy=lambda p: 0.1 * p["bitwidth"] + 0.01 * p["seed"], seeds=3
    )
    (panel,) = panels(figure(table, {"kind": "scatter", "x": "bitwidth", "y": "test_accuracy"}))
    rings = [y for line in panel.lines if line.get_marker() == "o" for y in line.get_ydata()]
    assert sorted(rings) == pytest.approx([40, 42, 80, 81, 82])


def test_trials_without_a_result_are_not_references_in_a_figure_over_a_measure() -> None:
    """Neither a failed trial nor a float32 one has a size, but only the float32 one is a reference."""
    quantized = rows({"bitwidth": [8, 4, 2]}, status=lambda p: {4: "diverged", 2: "failed"}.get(p["bitwidth"], "done"))
    sizes = {8: 800, 4: 400}
    table = through_csv(
        [
            *({**row, "model_bits": sizes.get(row["bitwidth"])} for row in quantized),
            *rows({"bitwidth": [None]}, weight="float32"),
        ]
    )
    drawn = figure(table, {"kind": "lines", "x": "model_bits", "y": "test_accuracy"})
    (panel,) = panels(drawn)
    assert {x for x, _ in marks(panel, "diverged")} == {400}
    assert {text.get_text(): text.get_position()[0] for text in panel.get_xticklabels()} == {"400": 400, "800": 800}
    assert "float32" in legend_texts(drawn)
    assert not {"failed", "reference"} & {*legend_texts(drawn)}


EPOCHS = {"kind": "lines", "x": "epoch", "y": "test_accuracy", "line": "rounding"}


def test_epochs_come_from_the_history_and_end_with_a_mark_for_a_diverged_trial() -> None:
    table = trials(
        {"rounding": ["stochastic", "nearest"]}, status=lambda p: "diverged" if p["rounding"] == "nearest" else "done"
    )
    over_epochs = history({"range-stochastic-0": [0.2, 0.4, 0.6], "range-nearest-0": [0.1, float("nan")]})
    (panel,) = panels(figure(table, EPOCHS, over_epochs))
    stochastic, nearest = panel.lines[:2]
    assert [list(line) for line in stochastic.get_data()] == [[1, 2, 3], pytest.approx([20, 40, 60])]
    assert list(nearest.get_ydata()) == pytest.approx([10, float("nan")], nan_ok=True)
    assert [x for x, _ in marks(panel, "diverged")] == [2.0]


def test_epochs_of_several_stages_are_counted_consecutively() -> None:
    table = trials({"rounding": ["nearest"]})
    both = pd.concat(
        [history({"range-nearest-0": [0.2, 0.4]}), history({"range-nearest-0": [0.3]}).assign(stage="more")]
    )
    (panel,) = panels(figure(table, EPOCHS, both))
    assert [list(line) for line in panel.lines[0].get_data()] == [[1, 2, 3], pytest.approx([20, 40, 30])]


def test_trial_without_a_history_is_marked() -> None:
    table = trials({"rounding": ["nearest"]}, status=lambda point: "missing")
    assert [x for x, _ in marks(panels(figure(table, EPOCHS))[0], "failed or not run")] == [1.0]


# --- the look ---------------------------------------------------------------------------------------------------------


def test_surface_is_seen_from_where_its_slopes_face_the_viewer() -> None:
    grid: dict[str, list[Any]] = {"lr": LR, "bitwidth": BITS}
    azimuths = set()
    for rising_x, rising_y in itertools.product((1, -1), (1, -1)):
        table = trials(
            grid, accuracy=lambda p, x=rising_x, y=rising_y: 0.5 + x * 0.2 * p["lr"] + y * 0.05 * p["bitwidth"]
        )
        shown = picture(table, history({}), read(SURFACE), "title")
        azimuths.add(surface.best_azimuth(shown, surface.faces(shown, shown.panels[0].cells)))
    assert azimuths == set(surface.AZIMUTHS)


def test_lines_of_numbers_have_ordered_colours_and_those_of_names_distinct_ones() -> None:
    def brightness(table: pd.DataFrame, line: str) -> list[float]:
        (panel,) = panels(figure(table, {**LINES, "line": line}))
        return [sum(line.get_color()[:3]) for line in panel.lines if not isinstance(line.get_color(), str)]

    bits = brightness(trials({"lr": [0.5, 1.0], "bitwidth": [4, 3, 2, 1]}), "bitwidth")
    assert len(bits) == 4
    assert bits == sorted(bits)
    assert brightness(trials({"lr": [0.5, 1.0], "rounding": ["nearest", "stochastic"]}), "rounding") == []


def test_heatmap_has_numbers_only_where_they_fit() -> None:
    small = panels(figure(trials({"lr": LR[:3], "bitwidth": [2, 1]}), HEATMAP))[0]
    large = panels(figure(trials({"lr": list(range(60)), "bitwidth": [1]}), HEATMAP))[0]
    assert {text.get_text() for text in small.texts} == {"50.0"}
    assert not large.texts


def test_losses_over_two_orders_of_magnitude_have_a_logarithmic_scale() -> None:
    table = trials({"lr": LR[:4], "bitwidth": [2, 1]}, accuracy=lambda p: 0.01 if p["bitwidth"] == 2 else 5.0)
    (panel,) = panels(figure(table, {**LINES, "y": "test_loss"}))
    assert panel.get_yscale() == "log"
    (landscape,) = panels(figure(table, {**SURFACE, "z": "test_loss"}))
    assert landscape.get_zlim() == pytest.approx((-2, 0.69897))


def test_every_declared_kind_has_a_module_that_draws_it_and_vice_versa() -> None:
    """An incomplete kind fails here, not after the training."""
    files = [import_module(f"qsweep.plots.{each.name}") for each in iter_modules(plots.__path__)]
    drawing = [file for file in files if hasattr(file, "draw") and file.draw.__annotations__["return"] == "Figure"]
    assert {kind.figure or kind.name for kind in PLOT_KINDS.values()} == {f.__name__.split(".")[-1] for f in drawing}


@pytest.mark.parametrize("kind", PLOT_KINDS.values(), ids=PLOT_KINDS.keys())
def test_entry_of_every_kind_with_all_its_fields_is_drawn(kind: PlotKind, tmp_path: Path) -> None:
    fields = {"x": "lr", kind.series: "zero", kind.lowest: "bitwidth", kind.metric: "test_accuracy"}
    fields |= {"facet": "seed", "place": "a.weight", "range": 0.1, "reach": 0.1, "title": "title", "name": "drawn"}
    table = trials({"lr": LR[:2], "bitwidth": BITS[:2], "zero": [True, False]}, seeds=2)
    entry = {"kind": kind.name, **{name: fields[name] for name in (*kind.needs, *kind.takes)}}
    drawn = draw(table, history({}), [entry], tmp_path, "title", counted(table))
    assert ([path.name for path in drawn.paths], drawn.failures) == (["drawn.png", "drawn.pdf"], ())


@pytest.mark.parametrize("kind", PLOT_KINDS.values(), ids=PLOT_KINDS.keys())
def test_entry_of_every_kind_with_the_fields_that_it_needs_is_drawn(kind: PlotKind) -> None:
    """Over a parameter, and over epochs where the kind declares that it can be."""
    fields = {
        "x": "lr",
        kind.series: "zero",
        kind.lowest: "bitwidth",
        kind.metric: "test_accuracy",
        "place": "a.weight",
    }
    axes: dict[str, list[Any]] = {"x": LR[:2], kind.series: [True, False], kind.lowest: BITS[:2]}
    table = trials({fields[name]: values for name, values in axes.items() if name in kind.needs})
    courses = history({key: [0.5, 0.25] for key in table["key"]})
    for x in ("lr", "epoch") if kind.has_epochs else ("lr",):
        entry = {"kind": kind.name, **{name: {**fields, "x": x}[name] for name in kind.needs}}
        drawn = draw(table, courses, [entry], None, "title", counted(table))
        assert (len(drawn.figures), drawn.failures) == (1, ()), x


@pytest.mark.parametrize("kind", ["surface", "heatmap", "lines"])
def test_long_names_and_many_values_are_laid_out_without_a_warning(kind: str) -> None:
    word = "a parameter with a very long name and $ signs in it"
    values = [f"value number {i} of many, and a long one" for i in range(8)]
    grid: dict[str, list[Any]] = {word: values, "lr": LR, "_zero": [1, 2]}
    entry = {"kind": kind, "x": "lr", "facet": "_zero", "title": word * 4}
    places = {"y": "test_loss", "line": word} if kind == "lines" else {"y": word, "z": "test_loss"}
    drawn = figure(trials(grid), {**entry, **places})
    page.lay_out(drawn)  # matplotlib warns where there is no room
    shown = {text.get_text() for text in drawn.findobj(Text)}
    assert len([text for text in shown if text.startswith("…er ")]) == 8, "values that are cut are not distinct"


MANY = [f"variant {i:02d} with words" for i in range(24)]


@pytest.mark.parametrize(
    "entry",
    [
        {**LINES, "line": None},
        HEATMAP,
        {"kind": "threshold", "x": "lr", "y": "bitwidth", "z": "test_accuracy", "reach": 0.4},
    ],
    ids=lambda entry: str(entry["kind"]),
)
def test_figure_of_24_panels_is_little_taller_than_a_page_and_its_bar_than_a_panel_is_wide(
    entry: Mapping[str, Any],
) -> None:
    drawn = figure(trials({"variant": MANY, "lr": LR[:2], "bitwidth": BITS}), {**entry, "facet": "variant"})
    assert len(panels(drawn)) == 24
    assert drawn.get_figheight() < 11
    if bar := colour_bar(drawn):
        page.lay_out(drawn)
        assert bar.get_window_extent().height <= page.WIDTH * page.DPI


@pytest.mark.parametrize("kind", ["lines", "heatmap"])
@pytest.mark.parametrize("count", [6, 12, 24])
def test_labels_below_an_axis_do_not_touch(kind: str, count: int) -> None:
    table = trials({"variant": MANY[:count], "bitwidth": [4]})
    places = {"y": "test_accuracy"} if kind == "lines" else {"y": "bitwidth", "z": "test_accuracy"}
    drawn = figure(table, {"kind": kind, "x": "variant", **places})
    page.lay_out(drawn)
    labels = panels(drawn)[0].get_xticklabels()
    assert len(labels) == count
    drawn.canvas.draw()
    starts = [label.get_transform().transform(label.get_position())[0] for label in labels]
    angle = math.radians(labels[0].get_rotation())
    distance = min(b - a for a, b in itertools.pairwise(starts)) * 72 / page.DPI
    wide = max(label.get_window_extent().width for label in labels) * 72 / page.DPI
    assert distance * math.sin(angle) >= page.TICKS if angle else distance > wide


def test_heatmaps_of_many_rows_in_many_panels_keep_their_numbers() -> None:
    table = trials({"variant": MANY[:7], "lr": LR, "bitwidth": list(range(1, 24))})
    drawn = figure(table, {**HEATMAP, "facet": "variant"})
    assert [len(panel.texts) for panel in panels(drawn)] == [5 * 23] * 7
    assert drawn.get_figheight() < 13


def test_the_label_of_a_colour_bar_stays_within_a_low_figure() -> None:
    table = trials({"variant": MANY[:2], "lr": LR[:2], "bitwidth": BITS[:3]}, seeds=2)
    drawn = figure(table.assign(weight_stalled=0.5), {**HEATMAP, "z": "weight_stalled", "facet": "variant"})
    bar = colour_bar(drawn)
    assert bar is not None
    page.lay_out(drawn)
    box = bar.yaxis.label.get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= drawn.bbox.height


def test_labels_beside_a_heatmap_with_many_rows_are_thinned_out_before_they_touch() -> None:
    table = trials({"variant": [f"v{i}" for i in range(150)], "lr": [1.0]})
    (panel,) = panels(figure(table, {**HEATMAP, "y": "variant"}))
    room = page.room(panel, horizontal=False) / len(panel.get_yticks())
    assert room >= 0.8 * page.TICKS


def test_float32_reference_among_compressed_trials_is_named_by_its_format() -> None:
    sizes = {"binary": 7000, "uniform4": 19000, "e3m2": 21000, "": None}
    table = through_csv(
        [
            {**row, "key": name, "variant": name, "model_bits": size, "stages": name and f"compress weight={name}"}
            for name, size in sizes.items()
            for row in rows({}, weight="float32")
        ]
    )
    for kind in ("lines", "scatter"):
        drawn = figure(table, {"kind": kind, "x": "model_bits", "y": "test_accuracy"})
        assert {"float32", "reference"} & {*legend_texts(drawn)} == {"float32"}


def test_sizes_of_models_have_ticks_at_the_values_thinned_where_crowded() -> None:
    sizes = [10816, 16192, 16976, 17104, 17840, 17872, 19776, 23168, 32048]
    table = trials({"model_bits": sizes})
    (panel,) = panels(figure(table, {"kind": "lines", "x": "model_bits", "y": "test_accuracy"}))
    assert [text.get_text() for text in panel.get_xticklabels()] == ["10816", "16192", "19776", "23168", "32048"]


def test_thinned_ticks_stay_evenly_spaced() -> None:
    table = trials({"variant": ["a", "b"], "lr": [2.0**-e for e in range(-2, 20)], "bitwidth": BITS})
    ticks = panels(figure(table, {**HEATMAP, "facet": "variant"}))[0].get_xticks()
    assert len({round(b - a, 6) for a, b in itertools.pairwise(ticks)}) == 1


@pytest.mark.parametrize("text", ["WWW", "iiiiii", "$10^{-17}$", "float32", "8 clusters, levels moved", "ä\nbbb"])
def test_labels_have_the_computed_width(text: str) -> None:
    with page.style(text):
        drawn = Figure(figsize=(2, 2), dpi=page.DPI)
        box = drawn.text(0, 0, text, fontsize=page.TICKS).get_window_extent()
    assert page.text_width(text) == pytest.approx(box.width * 72 / page.DPI, abs=1)


def test_titles_with_powers_are_measured_as_they_are_drawn() -> None:
    assert page.wrapped("learning rate = $2^{-17}$", 1.4) == "learning rate = $2^{-17}$"
    assert page.wrapped("learning rate = $2^{-17}$", 1.0) == "learning rate =\n$2^{-17}$"
    assert page.wrapped("x" * 25, 0.5) == "\n".join(["x" * 10, "x" * 10, "x" * 5])


def test_heatmap_marks_of_partial_results_are_visible_on_dark_and_light_cells() -> None:
    def status(point: Point) -> str:
        return "diverged" if point["seed"] == 1 else "done"

    table = trials({"lr": [0.5, 1.0], "bitwidth": [4]}, status=status, accuracy=lambda p: p["lr"] - 0.4, seeds=2)
    (panel,) = panels(figure(table, HEATMAP))
    marked = labelled(panel, "some trials without a result")
    assert {mark.get_markeredgecolor() for mark in marked} == {"white", "black"} - (
        {"black"} if len(marked) == 1 else set()
    )


def test_accuracies_have_no_tick_above_100_per_cent() -> None:
    (panel,) = panels(figure(trials({"lr": LR}, accuracy=lambda p: 1 - 0.01 * p["lr"]), {**LINES, "line": None}))
    assert max(panel.get_yticks()) == 100


def test_scatter_reference_is_a_ring_in_the_legend_too() -> None:
    table = through_csv([*rows({"lr": LR, "bitwidth": [4]}), *rows({"lr": LR, "bitwidth": [None]}, weight="float32")])
    drawn = figure(table, {**LINES, "kind": "scatter"})
    (handle,) = [h for h in drawn.legends[0].legend_handles if h is not None and h.get_label() == "float32"]
    assert (handle.get_linestyle(), handle.get_marker()) == ("None", "o")  # type: ignore[attr-defined]


# --- histograms -------------------------------------------------------------------------------------------------------

HISTOGRAM = {"kind": "histogram", "place": "a.weight"}
COUNTS = [1, 2, 4, 1]
"""In bins of width 1/4 over ±1/2."""


def counted(
    table: pd.DataFrame, place: str = "a.weight", low: float = -0.5, high: float = 0.5, counts: list[int] = COUNTS
) -> pd.DataFrame:
    """histograms.csv of the done trials."""
    role, keys = place.partition(".")[2], table["key"][table["status"] == "done"]
    made = [
        {
            "key": k,
            "stage": 0,
            "place": place,
            "role": role,
            "low": low,
            "high": high,
            "counts": " ".join(map(str, counts)),
        }
        for k in keys
    ]
    return pd.DataFrame(made, columns=["key", "stage", "place", "role", "low", "high", "counts"])


def histogram_figure(table: pd.DataFrame, counts: pd.DataFrame, **entry: Any) -> Figure:
    plot = read({**HISTOGRAM, **entry})
    assert isinstance(plot, Histogram)
    return histogram.draw(distributions(table, counts, plot, "title"))


def stairs(axes: Axes) -> list[StepPatch]:
    return axes.findobj(StepPatch)


def panel_texts(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [text.get_text().replace("\n", " ") for text in legend.get_texts()] if legend else []


def test_histogram_of_one_trial_is_filled_with_fractions_per_bin(tmp_path: Path) -> None:
    table = trials({"lr": [1.0]}, weight="float32")
    drawn = histogram_figure(table, counted(table))
    (panel,) = drawn.axes
    (filled,) = stairs(panel)
    assert filled.get_fill()
    assert list(filled.get_data().values) == [12.5, 25.0, 50.0, 12.5]
    assert list(filled.get_data().edges) == [-0.5, -0.25, 0.0, 0.25, 0.5]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("weight of a", "weights per bin (%)")
    assert "8 weights in 4 bins, each 0.25 wide" in legend_texts(drawn)
    assert panel_texts(panel) == []
    names = [path.name for path in draw(table, history({}), [HISTOGRAM], tmp_path, "title", counted(table)).paths]
    assert names == ["histogram-a.weight.png", "histogram-a.weight.pdf"]


@pytest.mark.parametrize(
    ("ends", "drawn_ends", "label"),
    [
        (0.25, (-0.25, 0.25), "range ±0.25: 75.0 % of the weights inside"),
        ([-0.375, 1], (-0.375, 1), "range −0.375 … 1: 93.8 % of the weights inside"),
        (0.5, (-0.5, 0.5), "range ±0.5: 100.0 % of the weights inside"),
    ],
)
def test_histogram_range_of_the_entry_is_drawn_with_the_fraction_inside(
    ends: Any, drawn_ends: tuple[float, float], label: str
) -> None:
    table = trials({"lr": [1.0]}, weight="float32")
    (panel,) = histogram_figure(table, counted(table), range=ends).axes
    assert panel_texts(panel) == [label]
    assert tuple(float(line.get_xdata()[0]) for line in panel.lines) == drawn_ends
    assert panel.get_xlim()[0] < drawn_ends[0] < drawn_ends[1] < panel.get_xlim()[1]


@pytest.mark.parametrize(
    ("weight", "columns", "label"),
    [
        ("range", {"scale": 2.0, "bitwidth": 4}, ["range ±1/scale = ±0.5"]),
        ("range4 scale=4.0", {"scale": 2.0}, ["range ±1/scale = ±0.25"]),
        ("range4 zero=false", {}, ["range ±1/scale = ±1"]),
        ("fixed8f7", {}, ["range of fixed8f7 −1 … 0.9922"]),
        ("fixed8f7 overflow=wrap", {}, []),
        ("e4m3", {}, []),
        ("block8", {}, []),
        ("float32", {"scale": 2.0}, []),
        ("range", {}, []),
    ],
)
def test_histogram_range_of_a_format_comes_from_the_table(
    weight: str, columns: dict[str, Any], label: list[str]
) -> None:
    table = trials({"lr": [1.0]}, weight=weight).assign(**columns)
    assert panel_texts(histogram_figure(table, counted(table)).axes[0]) == label


def test_histogram_of_several_trials_has_lines_in_the_colours_of_its_column() -> None:
    table = trials({"lr": [0.5, 1.0], "bitwidth": [4, 2]}, seeds=2)
    drawn = histogram_figure(table, counted(table), line="bitwidth", facet="lr")
    assert [axes.get_title() for axes in drawn.axes] == ["learning rate = $2^{-1}$", "learning rate = $2^{0}$"]
    for panel in drawn.axes:
        lines_of = stairs(panel)
        assert len(lines_of) == 4
        assert not any(line.get_fill() for line in lines_of)
        assert len({tuple(line.get_edgecolor()) for line in lines_of}) == 2
    texts = legend_texts(drawn)
    assert {"bitwidth (bits)", "2", "4", "one line per trial, 8 weights in 4 bins"} <= set(texts)


def test_histogram_float32_is_black_in_each_panel() -> None:
    table = through_csv([*rows({"bitwidth": [4, 2]}), *rows({"bitwidth": [None]}, weight="float32")])
    drawn = histogram_figure(table, counted(table), facet="bitwidth")
    assert [sum(line.get_edgecolor()[:3] == (0, 0, 0) for line in stairs(panel)) for panel in drawn.axes] == [1, 1]
    assert "float32" in legend_texts(drawn)


def test_histogram_different_ranges_are_lines_without_shading() -> None:
    table = trials({"scale": [1.0, 4.0], "bitwidth": [4]})
    (panel,) = histogram_figure(table, counted(table), line="scale").axes
    assert sorted(float(line.get_xdata()[0]) for line in panel.lines) == [-1, -0.25, 0.25, 1]
    assert panel_texts(panel) == ["range ±1/scale = ±1", "range ±1/scale = ±0.25"]
    assert not [patch for patch in panel.patches if patch.get_label() == "_band"]


def test_histogram_bins_of_different_widths_are_compared_by_density() -> None:
    table = trials({"lr": [0.5, 1.0]})
    first, second = counted(table).iloc[:1], counted(table, low=-1.0, high=1.0).iloc[1:]
    (panel,) = histogram_figure(table, pd.concat([first, second]), line="lr").axes
    assert panel.get_ylabel() == "share of weights ÷ bin width"
    assert [max(line.get_data().values) for line in stairs(panel)] == [0.5 / 0.25, 0.5 / 0.5]


def test_histogram_labels_of_ranges_in_adjacent_panels_do_not_touch() -> None:
    table = trials({"lr": [0.25, 0.5, 1.0]})
    with page.style():
        drawn = histogram_figure(table, counted(table), facet="lr", range=0.25)
        drawn.canvas.draw()
        boxes = [panel.get_legend().get_window_extent() for panel in panels(drawn)]
        titles = [panel.title.get_window_extent() for panel in panels(drawn)]
    assert len(boxes) == 3
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
    assert 0 < boxes[0].x0 < boxes[-1].x1 < drawn.bbox.x1
    assert all(box.y1 <= title.y0 for box, title in zip(boxes, titles, strict=True))


def test_histogram_of_24_panels_shows_the_fraction_inside_in_few_lines() -> None:
    table = trials({"variant": MANY, "bitwidth": [4]})
    drawn = histogram_figure(table, counted(table), facet="variant", range=0.25)
    assert drawn.get_figheight() < 14
    assert panel_texts(panels(drawn)[0]) == ["±0.25: 75.0 % inside"]


def test_histogram_of_few_levels_beside_many_has_a_logarithmic_scale() -> None:
    table = trials({"lr": [0.5, 1.0]})
    few, many = counted(table, counts=[50, *[0] * 48, 50]).iloc[:1], counted(table, counts=[2] * 50).iloc[1:]
    assert histogram_figure(table, pd.concat([few, many]), line="lr").axes[0].get_yscale() == "log"
    assert histogram_figure(table, pd.concat([many, many]), line="lr").axes[0].get_yscale() == "linear"


def test_histogram_of_equal_values_is_at_their_value() -> None:
    table = trials({"lr": [1.0]})
    drawn = histogram_figure(table, counted(table, "a.bias", 0.25, 0.25, [9, 0]), place="a.bias", range=1)
    (filled,) = stairs(drawn.axes[0])
    assert list(filled.get_data().values) == [100, 0]
    assert filled.get_data().edges[0] < 0.25 < filled.get_data().edges[1]
    assert panel_texts(drawn.axes[0]) == ["range ±1: 100.0 % of the biases inside"]


def test_histogram_very_thin_levels_have_an_outline() -> None:
    table = trials({"lr": [1.0]})
    (levels,) = stairs(histogram_figure(table, counted(table, counts=[5, 0, 0, 0, 3])).axes[0])
    (smooth,) = stairs(histogram_figure(table, counted(table)).axes[0])
    assert levels.get_linewidth() > smooth.get_linewidth() == 0
    assert levels.get_edgecolor() == levels.get_facecolor()


def test_histogram_trials_that_are_not_drawn_are_counted() -> None:
    table = trials({"lr": [0.5, 1.0, 2.0]}, status=lambda p: {0.5: "diverged", 2.0: "missing"}.get(p["lr"], "done"))
    note = " ".join(" ".join(legend_texts(histogram_figure(table, counted(table)))).split())
    assert note == "8 weights in 4 bins, each 0.25 wide; not drawn: 1 diverged, 1 failed or not run"


def test_histogram_whose_trials_all_diverged_is_drawn() -> None:
    table = trials({"lr": [0.5, 1.0]}, status=lambda point: "diverged").assign(histogram=10)
    assert "not drawn: 2 diverged" in legend_texts(histogram_figure(table, counted(table)))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"place": "a.wieght"}, "place: unknown place 'a.wieght'; did you mean 'a.weight'? (one of: a.weight)"),
        ({"line": "rl"}, "line: unknown column 'rl'"),
        ({"range": [1, 0]}, "range: found [1, 0], expected a number above 0"),
        ({"place": ""}, "a plot of kind 'histogram' needs place"),
    ],
)
def test_histogram_wrong_entry_is_reported(entry: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    table = trials({"lr": [1.0]})
    assert message in refusal(table, history({}), [{**HISTOGRAM, **entry}], tmp_path, "title", counted(table))


@pytest.mark.parametrize("counts", [None, counted(trials({"lr": [1.0]})).iloc[:0]])
def test_histogram_of_a_sweep_without_any_reports_how_to_get_some(counts: pd.DataFrame | None, tmp_path: Path) -> None:
    message = refusal(trials({"lr": [1.0]}), history({}), [HISTOGRAM], tmp_path, "title", counts)
    assert "no trial has a histogram: write `histogram: 1000`" in message


# --- thresholds ---------------------------------------------------------------------------------------------------

THRESHOLD = {"kind": "threshold", "x": "lr", "y": "bitwidth", "z": "test_accuracy", "reach": "95%"}


def reaching(seeds: int = 1) -> pd.DataFrame:
    """Trials of two variants; a learning rate of 2^-k needs k bits, with `coarse` one more; float32 reaches 0.8."""

    def accuracy(point: Point) -> float:
        needed = -math.log2(point["lr"]) + (point["variant"] == "coarse")
        return 0.8 if point["bitwidth"] >= needed else 0.1

    grid: dict[str, list[Any]] = {"variant": ["fine", "coarse"], "lr": LR, "bitwidth": BITS}
    float32 = rows(
        {"lr": LR}, accuracy=lambda point: 0.8 if point["lr"] == 0.25 else 0.5, seeds=seeds, weight="float32"
    )
    return through_csv(rows(grid, accuracy=accuracy, seeds=seeds) + float32)


def test_threshold_draws_the_lowest_bitwidth_over_lr_with_a_gap_where_none_reaches_the_target() -> None:
    drawn = figure(reaching(), {**THRESHOLD, "line": "variant"})
    (axes,) = panels(drawn)
    fine, coarse = (line for line in axes.get_lines() if len(line.get_xdata()) > 1)
    assert dict(zip(fine.get_xdata(), fine.get_ydata(), strict=True)) == {-4.0: 4, -3.0: 3, -2.0: 2, -1.0: 1, 0.0: 1}
    assert dict(zip(coarse.get_xdata(), coarse.get_ydata(), strict=True)) == {-3.0: 4, -2.0: 3, -1.0: 2, 0.0: 1}
    assert note(drawn) == (
        "point: lowest bitwidth whose test accuracy is at least 76.0 %, 95% of the best without bitwidth, 80.0 %; "
        "2 of 2 lines reach it, at 9 of 10 points"
    )


def test_threshold_notes_count_lines_and_points_and_name_what_is_averaged() -> None:
    table = trials(
        {"momentum": [0.0, 0.9], "variant": ["a", "b"], "lr": LR, "bitwidth": BITS},
        accuracy=lambda p: 0.8 if p["variant"] == "a" and p["lr"] > 0.2 and p["bitwidth"] != 4 else 0.1,
        seeds=2,
    )
    assert note(figure(table, {**THRESHOLD, "line": "variant", "reach": 0.5})) == (
        "point: lowest bitwidth whose test accuracy is at least 50.0 %; "
        "mean over 4 trials that differ in momentum and seed; "
        "1 of 2 lines reach it, at 3 of 10 points; at 3 of them a higher value does not"
    )


def test_threshold_panels_without_a_point_show_the_best_accuracy() -> None:
    def status(point: Point) -> str:
        return "diverged" if point["rounding"] == "down" else "done"

    def accuracy(point: Point) -> float:
        return {"nearest": 0.8, "stochastic": 0.9}.get(point["rounding"], 0.6)

    grid: dict[str, list[Any]] = {"rounding": ["nearest", "stochastic", "down", None], "lr": LR, "bitwidth": BITS}
    table = trials(grid, accuracy=accuracy, status=status)
    drawn = figure(table, {**THRESHOLD, "facet": "rounding", "reach": 0.85})
    words = {axes.get_title(): [text.get_text() for text in axes.texts] for axes in panels(drawn)}
    assert words == {
        "rounding: nearest": ["none reaches 85.0 %:\nthe best has 80.0 %"],
        "rounding: stochastic": [],
        "rounding: down": ["none reaches 85.0 %:\nno trial is done"],
        "rounding: not applicable": ["none reaches 85.0 %:\nthe best has 60.0 %"],
    }


def test_threshold_counts_trials_without_a_place_in_it() -> None:
    table = through_csv([*rows({"lr": LR, "bitwidth": BITS}), *rows({"lr": [None], "bitwidth": BITS}, weight="b")])
    assert note(figure(table, {**THRESHOLD, "reach": 0.4})).endswith("; not drawn: 4 trials without learning rate")


def test_threshold_uses_means_over_seeds_and_a_diverged_seed_reaches_nothing() -> None:
    def accuracy(point: Point) -> float:
        return 0.8 if point["bitwidth"] > 2 else 0.6 + 0.2 * point["seed"]

    def status(point: Point) -> str:
        return "diverged" if point["bitwidth"] == 3 and point["seed"] == 1 else "done"

    table = trials({"lr": LR, "bitwidth": BITS}, accuracy=accuracy, status=status, seeds=2)
    drawn = figure(table, {**THRESHOLD, "reach": 0.75})
    (line,) = (line for line in panels(drawn)[0].get_lines() if len(line.get_xdata()) > 1)
    assert set(line.get_ydata()) == {4}


def test_threshold_uses_no_mean_with_a_missing_seed() -> None:
    def status(point: Point) -> str:
        return "failed" if point["bitwidth"] == 2 and point["seed"] == 1 else "done"

    table = trials({"lr": LR, "bitwidth": BITS}, accuracy=lambda p: 0.8, status=status, seeds=2)
    table.loc[table["bitwidth"] == 1, "test_accuracy"] = 0.1
    (line,) = (x for x in panels(figure(table, {**THRESHOLD, "reach": 0.5}))[0].get_lines() if len(x.get_xdata()) > 1)
    assert set(line.get_ydata()) == {3}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**THRESHOLD, "y": "variant"}, "is not a number"),
        ({**THRESHOLD, "y": "bits"}, "unknown column 'bits'"),
    ],
)
def test_threshold_that_can_not_be_computed_is_refused_with_the_reason(entry: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        figure(reaching(), entry)


@pytest.mark.parametrize(
    ("table", "reach", "message"),
    [
        (reaching(), "0.99", "none reaches it"),
        (trials({"lr": LR, "bitwidth": BITS}), "95%", "no trial without bitwidth is done: nothing to take 95% of"),
    ],
    ids=["out of reach", "no reference yet"],
)
def test_threshold_without_known_values_is_empty_and_shows_the_reason(
    table: pd.DataFrame, reach: str, message: str
) -> None:
    drawn = figure(table, {**THRESHOLD, "reach": reach})
    assert all(math.isnan(y) for line in panels(drawn)[0].get_lines() for y in line.get_ydata())
    assert message in " ".join(legend_texts(drawn)).replace("\n", " ")


def test_heatmap_outlines_cells_that_reach_the_target_and_shows_the_lowest_in_the_title() -> None:
    drawn = figure(reaching(), {**HEATMAP, "facet": "variant", "reach": "95%"})
    fine, coarse = panels(drawn)
    assert fine.get_title().replace("\n", " ") == "variant: fine lowest bitwidth: 1, at $2^{-1}$"
    assert coarse.get_title().replace("\n", " ") == "variant: coarse lowest bitwidth: 1, at $2^{0}$"
    around, white = (c for c in fine.collections if isinstance(c, LineCollection))
    corners = {tuple(point) for side in white.get_segments() for point in side.tolist()}
    assert len(around.get_segments()) == len(white.get_segments()) == 18  # two ends, two sides of four, eight steps
    assert {(0.5, 3.5), (4.5, -0.5), (4.5, 3.5)} <= corners
    assert "outlined: 76.0 % and more, 95% of float32's best" in " ".join(legend_texts(drawn)).replace("\n", " ")


def test_heatmap_marks_where_grids_of_different_extent_overlap() -> None:
    wide = rows({"variant": ["wide"], "lr": LR, "bitwidth": BITS})
    narrow = rows({"variant": ["narrow"], "lr": LR[:2], "bitwidth": BITS[:3]})
    drawn = figure(through_csv(wide + narrow), {**HEATMAP, "facet": "variant"})
    for axes in panels(drawn):
        (dashed,) = (c for c in axes.collections if isinstance(c, LineCollection))
        corners = {tuple(point) for side in dashed.get_segments() for point in side.tolist()}
        assert {(2.5, 0.5), (4.5, 0.5), (2.5, 3.5), (4.5, 3.5)} <= corners
        assert len(dashed.get_segments()) == 10
    assert "dashed: where the grids overlap" in " ".join(legend_texts(drawn))
    equal = figure(through_csv(wide), {**HEATMAP, "facet": "variant"})
    assert not [c for axes in panels(equal) for c in axes.collections if isinstance(c, LineCollection)]
