"""Tables over seeds: their numbers compared with NumPy's and SciPy's, which points are paired, which left out."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from qsweep.cli.table import summary_note, summary_table, trials_table
from qsweep.errors import UserError
from qsweep.results.aggregate import Line, Summary, csv_text, differences, estimate, over_seeds
from qsweep.results.records import STATUSES
from qsweep.results.tables import trials_csv
from qsweep.spec.file import read
from qsweep.spec.plan import expand
from qsweep.trial.measures import METRICS

ROW = dict.fromkeys(METRICS, "")


def table(folder: Path, axes: str, rows: Sequence[str], parameters: str = "") -> Path:
    """A sweep's folder with rows such as `nearest 0.1 | 0 | 0.75`: axes, seed, test accuracy or another status."""
    names, more = axes.split(), parameters.split()
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["key", "status", *names, "seed", *METRICS, "reason", *more])
    for number, row in enumerate(rows):
        place, seed, cell, *rest = (part.strip() for part in row.split("|"))
        status, accuracy = (cell, "") if cell in STATUSES else ("done", cell)
        cells = [cell.replace("-", "") for cell in place.split()]
        own = {**ROW, "test_accuracy": accuracy, "test_loss": accuracy and repr(3 * float(accuracy))}
        writer.writerow([f"{number:064x}", status, *cells, seed, *own.values(), "", *(rest[0].split() if rest else ())])
    (folder / "trials.csv").write_text(stream.getvalue(), encoding="utf-8")
    return folder


def places(summary: Summary) -> list[str]:
    return [" ".join(line.place[name] or "-" for name in summary.axes) for line in summary.lines]


def means(summary: Summary) -> list[float]:
    return [round(line.measures["test_accuracy"].mean, 9) for line in summary.lines]


def only(summary: Summary) -> Line:
    (line,) = summary.lines
    return line


# --- the arithmetic ---------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
def test_estimate_equals_that_of_numpy_and_scipy(values: list[float]) -> None:
    found = estimate(values)
    mean, std = np.mean(values), np.std(values, ddof=1)
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * std / np.sqrt(len(values))
    assert (found.mean, found.std, found.half) == pytest.approx((mean, std, half), rel=1e-9, abs=1e-9)


def test_interval_agrees_with_tables_of_t() -> None:
    found = estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.std) == (2.0, 1.0)
    assert found.half == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert found.numbers == (2.0, 1.0, 2.0 - found.half, 2.0 + found.half)


def test_one_seed_has_a_mean_and_no_interval_and_none_has_neither() -> None:
    one, none = estimate([0.5]), estimate([])
    assert one.mean == 0.5
    assert all(map(math.isnan, (one.std, one.half, none.mean, none.std, none.half)))
    assert not one.excludes_zero
    assert not none.excludes_zero


def test_infinite_and_huge_losses_do_not_stop_the_table() -> None:
    assert estimate([math.inf, 1.0]).mean == math.inf
    assert math.isnan(estimate([math.inf, -math.inf]).mean)
    assert math.isnan(estimate([1e308, 1e308]).mean)


def test_star_needs_an_interval_that_excludes_zero_and_seeds_that_differ() -> None:
    assert estimate([0.1, 0.11, 0.12]).excludes_zero
    assert estimate([-0.1, -0.11, -0.12]).excludes_zero
    assert not estimate([-0.1, 0.11, 0.12]).excludes_zero
    assert not estimate([0.3 - 0.2, 0.4 - 0.3, 0.5 - 0.4]).excludes_zero


# --- over seeds -------------------------------------------------------------------------------------------------------


def test_means_are_per_grid_point_in_the_order_of_the_table(tmp_path: Path) -> None:
    rows = ["b 0.5 | 0 | 0.25", "b 0.5 | 1 | 0.75", "a 0.5 | 0 | 1.0", "a 0.5 | 1 | 0.5", "a 0.25 | 0 | 0.125"]
    summary = over_seeds(table(tmp_path, "rounding lr", rows))
    assert places(summary) == ["b 0.5", "a 0.5", "a 0.25"]
    assert means(summary) == [0.5, 0.75, 0.125]
    assert summary.lines[0].measures["test_loss"].mean == 1.5
    assert summary.lines[0].measures["test_accuracy"].std == pytest.approx(np.std([0.25, 0.75], ddof=1))


def test_trials_that_are_not_done_are_counted_and_never_averaged(tmp_path: Path) -> None:
    rows = ["1 | 0 | 0.5", "1 | 1 | diverged", "1 | 2 | 0.75", "1 | 3 | failed", "1 | 4 | missing", "1 | 5 | timeout"]
    line = only(over_seeds(table(tmp_path, "lr", rows)))
    assert dict(line.counts) == {"n": 2, "diverged": 1, "failed": 1, "timeout": 1, "missing": 1}
    assert line.measures["test_accuracy"].mean == 0.625


def test_point_without_done_trials_stays_in_the_table_without_numbers(tmp_path: Path) -> None:
    summary = over_seeds(table(tmp_path, "lr", ["1 | 0 | diverged", "1 | 1 | diverged", "2 | 0 | 0.5"]))
    assert [dict(line.counts)["n"] for line in summary.lines] == [0, 1]
    head, first, second = csv.reader(io.StringIO(csv_text(summary)))
    assert first[: head.index("test_accuracy_mean")] == ["1", "0", "2", "0", "0", "0"]
    assert set(first[head.index("test_accuracy_mean") :]) == {""}
    assert second[head.index("test_accuracy_mean") :][:4] == ["0.5", "", "", ""]


def test_metric_that_no_trial_has_is_empty(tmp_path: Path) -> None:
    line = only(over_seeds(table(tmp_path, "lr", ["1 | 0 | 0.5", "1 | 1 | 0.5"])))
    assert math.isnan(line.measures["train_loss"].mean)


def test_trial_repeated_by_a_grid_counts_once(tmp_path: Path) -> None:
    path = table(tmp_path, "variant bitwidth", ["float32 - | 0 | 0.5", "float32 - | 1 | 1.0"]) / "trials.csv"
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[1])
    line = only(over_seeds(tmp_path))
    assert (line.counts["n"], line.measures["test_accuracy"].mean) == (2, 0.75)


def test_grids_with_the_same_axes_and_other_parameters_are_not_mixed(tmp_path: Path) -> None:
    rows = ["1 | 0 | 0.5 | 8 5", "1 | 1 | 0.5 | 8 5", "1 | 0 | 0.9 | 8 10", "1 | 1 | 0.9 | 8 10"]
    folder = table(tmp_path, "lr", rows, "batch_size epochs")
    assert places(over_seeds(folder)) == ["1 5", "1 10"]
    assert over_seeds(folder).axes == ("lr", "epochs")
    assert means(differences(folder, "epochs=5")) == [0.4]


def test_indistinguishable_trials_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two trials of seed 0 that differ in no parameter"):
        over_seeds(table(tmp_path, "lr", ["1 | 0 | 0.5", "1 | 0 | 0.6"]))


def test_plan_that_has_not_run_has_a_table_of_missing_trials(tmp_path: Path) -> None:
    text = (
        "trial: {data: digits, model: softmax, quantize: {weight: range}}\ngrid: {lr: [0.1, 1.0], bitwidth: [4, 2]}\n"
    )
    (tmp_path / "a.yaml").write_text(text + "also: [{trial: {quantize: {}}, grid: {lr: [0.1]}}]\nseeds: 3\n")
    (tmp_path / "trials.csv").write_text(trials_csv(expand(read(tmp_path / "a.yaml")), {}), encoding="utf-8")
    summary = over_seeds(tmp_path)
    assert places(summary) == ["0.1 4 range", "0.1 2 range", "1.0 4 range", "1.0 2 range", "0.1 - float32"]
    assert [line.counts["missing"] for line in summary.lines] == [3] * 5
    assert summary_table(summary).splitlines()[0].split() == ["lr", "bitwidth", "quantize.weight", "n", "missing"]


PLANS = {
    "a reference without the axis": (
        "trial: {data: digits, model: softmax, quantize: {weight: range}}\ngrid: {bitwidth: [4, 2]}\n"
        "also: [{trial: {quantize: {}}}]\n",
        ["bitwidth", "quantize.weight"],
    ),
    "references that differ in their format": (
        "trial: {data: digits, model: softmax, quantize: {weight: range}}\ngrid: {bitwidth: [4, 2]}\n"
        "also: [{trial: {quantize: {}}}, {trial: {quantize: {weight: bf16}, rounding: stochastic}}]\n",
        ["bitwidth", "quantize.weight"],
    ),
    "grids that differ in several parameters": (
        "trial: {data: digits, model: softmax}\ngrid: {lr: [0.5, 0.25]}\n"
        "also: [{trial: {epochs: 2, batch_size: 8}}, {trial: {epochs: 3, batch_size: 9, optimizer: adam}}]\n",
        ["lr", "optimizer"],
    ),
    "variants, which say it": (
        "trial: {data: digits, model: softmax}\nvariants: {a: {quantize: {weight: range4}}, b: {}}\n"
        "grid: {lr: [0.5, 0.25]}\n",
        ["variant", "lr"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), PLANS.values(), ids=PLANS)
def test_tables_show_the_few_columns_that_distinguish_their_rows(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    (tmp_path / "a.yaml").write_text(text + "seeds: 2\n")
    csv_of_plan = trials_csv(expand(read(tmp_path / "a.yaml")), {})
    (tmp_path / "trials.csv").write_text(csv_of_plan, encoding="utf-8")
    head, *rows = [line.split() for line in trials_table(tmp_path).splitlines()]
    assert head == ["key", "status", *expected, "seed", *METRICS]
    assert len({tuple(row[1:]) for row in rows}) == len(rows)
    head, *rows = [line.split() for line in summary_table(over_seeds(tmp_path)).splitlines()]
    assert head == [*expected, "n", "missing"]
    assert len({tuple(row) for row in rows}) == len(rows)


def test_means_omit_the_kinds_of_lines_if_the_accuracy_would_not_fit(tmp_path: Path) -> None:
    rows = [f"{'x' * 30} {bits} 1 | 0 | 0.5 | {what}" for bits, what in (("4", "range"), ("-", "float32"))]
    rows += [f"{'y' * 30} 4 1 | 0 | 0.5 | range"]
    summary = over_seeds(table(tmp_path, "variant bitwidth lr", rows, "quantize.weight"))
    assert summary_table(summary).splitlines()[0].split()[:3] == ["variant", "bitwidth", "quantize.weight"]
    assert summary_table(summary, 60).splitlines()[0].split() == ["variant", "bitwidth", "n", "test_accuracy"]


def test_not_rounded_is_a_result_and_does_not_distinguish_rows(tmp_path: Path) -> None:
    rows = ["1 | 0 | 0.5 | - 5", "1 | 1 | 0.5 | - 5", "1 | 0 | 0.9 | w 10", "1 | 1 | 0.9 | w 10"]
    folder = table(tmp_path, "lr", [row.replace("| - ", "| · ") for row in rows], "not_rounded epochs")
    assert over_seeds(folder).axes == ("lr", "epochs")
    assert "not_rounded" not in trials_table(folder) + summary_table(over_seeds(folder))


# --- differences ------------------------------------------------------------------------------------------------------


def test_differences_are_computed_per_seed_and_then_averaged(tmp_path: Path) -> None:
    near, other = [0.5, 0.9, 0.1, 0.7], [0.55, 0.91, 0.17, 0.72]
    rows = [f"nearest 1 | {seed} | {value}" for seed, value in enumerate(near)]
    rows += [f"stochastic 1 | {seed} | {value}" for seed, value in reversed(list(enumerate(other)))]
    line = only(differences(table(tmp_path, "rounding lr", rows), "rounding=nearest"))
    found, test = line.measures["test_accuracy"], scipy.stats.ttest_rel(other, near)
    assert found.mean == pytest.approx(np.mean(np.subtract(other, near)))
    assert found.std == pytest.approx(np.std(np.subtract(other, near), ddof=1))
    interval = test.confidence_interval(0.95)
    assert found.numbers[2:] == pytest.approx((interval.low, interval.high))
    assert found.excludes_zero == (test.pvalue < 0.05)
    assert line.counts["n"] == 4
    assert line.measures["test_loss"].mean == pytest.approx(3 * found.mean)


def test_each_other_value_is_compared_at_each_point_of_the_other_axes(tmp_path: Path) -> None:
    rows = [f"{r} {lr} | 0 | {v}" for lr in (1, 2) for r, v in (("a", 0.1 * lr), ("b", 0.2 * lr), ("c", 0.4 * lr))]
    summary = differences(table(tmp_path, "rounding lr", rows), "rounding=a")
    assert places(summary) == ["b 1", "c 1", "b 2", "c 2"]
    assert means(summary) == [0.1, 0.3, 0.2, 0.6]
    assert summary.unpaired == 0


def test_seeds_not_done_on_both_sides_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = ["a | 0 | 0.5", "a | 1 | diverged", "a | 2 | 0.5", "a | 3 | 0.5"]
    rows += ["b | 0 | 0.6", "b | 1 | 0.9", "b | 2 | failed", "b | 4 | 0.9"]
    line = only(differences(table(tmp_path, "rounding", rows), "rounding=a"))
    assert dict(line.counts) == {"n": 1, "left_out": 4}
    assert line.measures["test_accuracy"].mean == pytest.approx(0.1)


def test_float32_which_has_no_bitwidth_is_the_baseline_of_every_bitwidth(tmp_path: Path) -> None:
    rows = ["q 1 8 | 0 | 0.5", "q 1 4 | 0 | 0.25", "q 2 8 | 0 | 0.75", "float32 1 - | 0 | 1.0", "float32 2 - | 0 | 2.0"]
    folder = table(tmp_path, "variant lr bitwidth", rows)
    summary = differences(folder, "variant=float32")
    assert places(summary) == ["q 1 8", "q 1 4", "q 2 8"]
    assert means(summary) == [-0.5, -0.75, -1.25]
    assert means(differences(folder, "bitwidth=")) == [-0.5, -0.75, -1.25]
    assert "no bitwidth" in summary_note(differences(folder, "bitwidth="))


def test_point_without_an_axis_is_compared_with_every_point_of_the_baseline(tmp_path: Path) -> None:
    rows = ["q 1 8 | 0 | 0.5", "q 1 4 | 0 | 0.25", "float32 1 - | 0 | 1.0"]
    summary = differences(table(tmp_path, "variant lr bitwidth", rows), "variant=q")
    assert places(summary) == ["float32 1 8", "float32 1 4"]
    assert means(summary) == [0.5, 0.75]


def test_point_with_the_same_axes_is_nearer_than_one_that_lacks_an_axis(tmp_path: Path) -> None:
    rows = ["a 8 | 0 | 0.5", "a - | 0 | 0.1", "b 8 | 0 | 0.75", "b - | 0 | 0.2", "b 4 | 0 | 0.9"]
    summary = differences(table(tmp_path, "rounding bitwidth", rows), "rounding=a")
    assert places(summary) == ["b 8", "b -", "b 4"]
    assert means(summary) == [0.25, 0.1, 0.8]


def test_axes_that_move_together_with_the_named_one_are_not_compared(tmp_path: Path) -> None:
    rows = ["8 1 0.1 | 0 | 0.5", "4 2 0.1 | 0 | 0.75", "8 1 0.2 | 0 | 0.5", "4 2 0.2 | 0 | 1.0"]
    summary = differences(table(tmp_path, "bitwidth scale lr", rows), "bitwidth=8")
    assert dict(summary.baseline) == {"bitwidth": "8", "scale": "1"}
    assert places(summary) == ["4 2 0.1", "4 2 0.2"]
    assert means(summary) == [0.25, 0.5]


def test_points_without_a_partner_are_counted(tmp_path: Path) -> None:
    rows = ["a 1 | 0 | 0.5", "a 2 | 0 | 0.5", "b 1 | 0 | 0.75", "b 3 | 0 | 0.75", "b 4 | 0 | 0.75"]
    summary = differences(table(tmp_path, "rounding lr", rows), "rounding=a")
    assert places(summary) == ["b 1"]
    assert "2 points have no partner" in summary_note(summary)


def test_number_is_found_in_any_spelling(tmp_path: Path) -> None:
    folder = table(tmp_path, "lr", ["1.0 | 0 | 0.5", "0.25 | 0 | 0.75"])
    for value in ("1", "1.0", "1e0"):
        assert means(differences(folder, f"lr={value}")) == [0.25]


def test_value_with_an_apostrophe_for_spreadsheets_is_found_as_in_the_spec(tmp_path: Path) -> None:
    folder = table(tmp_path, "variant", ["'=b | 0 | 0.5", "c | 0 | 0.75"])
    assert means(differences(folder, "variant==b")) == [0.25]


@pytest.mark.parametrize(
    ("against", "message"),
    [
        ("rounding", "expected AXIS=VALUE"),
        ("rouding=nearest", "unknown axis 'rouding'; did you mean 'rounding'?"),
        ("seed=0", "pairs are formed by seed: each difference is between two trials with the same seed"),
        ("rounding=neerest", "no trial has rounding=neerest; did you mean 'nearest'? (one of: nearest, zero"),
        ("rounding=", "no trial has rounding= (one of: nearest, zero)"),
        ("bitwidth=3", "(one of: 8; `bitwidth=` means the trials without one)"),
        ("lr=1", "lr is 1 in all its trials"),
    ],
)
def test_what_cannot_be_compared_is_reported_with_the_existing_values(
    tmp_path: Path, against: str, message: str
) -> None:
    rows = ["nearest 8 1 | 0 | 0.5", "zero 8 1 | 0 | 0.5", "zero - 1 | 0 | 0.5"]
    with pytest.raises(UserError) as error:
        differences(table(tmp_path, "rounding bitwidth lr", rows), against)
    assert message in str(error.value)


def test_comparison_without_pairs_is_an_error_with_the_reason(tmp_path: Path) -> None:
    folder = table(tmp_path, "rounding lr", ["a 1 | 0 | 0.5", "a 2 | 0 | 0.5", "b 3 | 0 | 0.5", "b 4 | 0 | 0.5"])
    with pytest.raises(UserError, match="none of the 2 other points is equal to a point with rounding=a"):
        differences(folder, "rounding=a")
    folder = table(tmp_path, "rounding", ["a | 0 | 0.5", "a | 1 | diverged", "b | 0 | missing", "b | 1 | 0.5"])
    with pytest.raises(UserError, match="no seed is done both with rounding=a and without it"):
        differences(folder, "rounding=a")


def test_differences_from_another_format_show_the_distinguishing_columns_and_no_parameter_of_the_format(
    tmp_path: Path,
) -> None:
    kinds = ("0.5 | block8 8 nearest block8", "0.75 | float32 none none float32")
    rows = [f"{lr} | {seed} | {kind}" for kind in kinds for lr in (1, 2) for seed in (0, 1)]
    names = "quantize.weight quantize.weight.bitwidth rounding quantize.bias"
    summary = differences(table(tmp_path, "lr", rows, names), "quantize.weight=float32")
    assert summary_table(summary).splitlines()[0].split() == [
        "lr",
        "quantize.weight",
        "n",
        "test_accuracy",
        "test_loss",
    ]
    assert "with quantize.weight=float32: mean" in summary_note(summary)


def test_differences_from_a_value_of_axes_that_move_together_name_them_all(tmp_path: Path) -> None:
    rows = [f"{lr} {size} | 0 | 0.5" for lr, size in ((1, 8), (2, 16), (4, 32))]
    summary = differences(table(tmp_path, "lr batch_size", rows), "lr=1")
    assert "with lr=1, batch_size=8: mean" in summary_note(summary)


@pytest.mark.parametrize(("b", "is_said"), [((0.5, 0.625), True), ((0.5, 0.75), False), ((0.25, 0.375), False)])
def test_equal_differences_have_no_star_and_a_note(tmp_path: Path, b: tuple[float, float], is_said: bool) -> None:
    rows = ["a | 0 | 0.25", "a | 1 | 0.375", *(f"b | {seed} | {value}" for seed, value in enumerate(b))]
    summary = differences(table(tmp_path, "rounding", rows), "rounding=a")
    assert "*" not in summary_table(summary)
    assert ("except where all pairs differ by the same amount (± 0.0000)" in summary_note(summary)) == is_said


def test_sweep_without_axes_has_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no axes"):
        differences(table(tmp_path, "", [" | 0 | 0.5"]), "lr=1")


# --- what is printed --------------------------------------------------------------------------------------------------


def test_text_has_what_varies_non_zero_counts_and_aligned_half_intervals(tmp_path: Path) -> None:
    rows = ["a 1 | 0 | 0.5", "a 1 | 1 | 0.6", "b 1 | 0 | 0.7", "b 1 | 1 | diverged"]
    head, a, b = summary_table(over_seeds(table(tmp_path, "rounding lr", rows))).splitlines()
    assert head.split() == ["rounding", "n", "diverged", "test_accuracy", "test_loss"]
    assert a.split()[:6] == ["a", "2", "·", "0.5500", "±", "0.6353"]
    assert b.split()[:4] == ["b", "1", "1", "0.7000"]
    assert a.index("0.5500") == b.index("0.7000")


def test_means_fit_80_columns_and_the_note_lists_the_omitted_metrics(tmp_path: Path) -> None:
    rows = [f"a 1 | {seed} | 0.{seed}1 | 10{seed}" for seed in (1, 2)] + [
        f"b 1 | {seed} | 0.5 | 900" for seed in (1, 2)
    ]
    path = table(tmp_path, "rounding lr", rows, "model_bits") / "trials.csv"
    head, *lines = path.read_text().splitlines()
    full = [line.replace(",,,", f",0.{number}2,1.{number}3,") for number, line in enumerate(lines)]
    path.write_text("\n".join([head, *full, ""]))
    summary = over_seeds(tmp_path)
    text = summary_table(summary)
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[0].split() == [
        "rounding",
        "n",
        "test_accuracy",
        "model_bits",
        "test_loss",
        "train_accuracy",
    ]
    assert [line.split()[5:8] for line in text.splitlines()[1:]] == [["102", "0.4800", "±"], ["900", "1.5000", "±"]]
    assert summary_note(summary).endswith("; --csv or a wider terminal also shows train_loss")
    assert summary_table(summary, 200).splitlines()[0].split()[-1] == "train_loss"
    assert "wider" not in summary_note(summary, 200)
    assert "model_bits" in trials_table(tmp_path).splitlines()[0]


def test_text_of_differences_has_signs_and_stars(tmp_path: Path) -> None:
    rows = [f"a | {seed} | {0.5 + seed / 100}" for seed in range(3)]
    rows += [
        f"{name} | {seed} | {0.5 + by * (seed + 9) / 100}" for name, by in (("b", 2), ("c", 0)) for seed in range(3)
    ]
    text = summary_table(differences(table(tmp_path, "rounding", rows), "rounding=a")).splitlines()
    assert text[1].split()[:6] == ["b", "3", "+0.1900", "±", "0.0248", "*"]
    assert text[2].split()[:5] == ["c", "3", "-0.0100", "±", "0.0248"]
    assert "*" not in text[2]


def test_difference_too_small_to_show_has_no_minus(tmp_path: Path) -> None:
    rows = ["a | 0 | 0.5", "b | 0 | 0.499999"]
    text = summary_table(differences(table(tmp_path, "rounding", rows), "rounding=a"))
    assert text.splitlines()[1].split() == ["b", "1", "+0.0000", "+0.0000"]


def test_csv_has_all_digits_and_is_read_back_unchanged(tmp_path: Path) -> None:
    rows = ["0.1 | 0 | 0.1", "0.1 | 1 | 0.7", "1.0 | 0 | 0.30000000000000004", "1.0 | 1 | 0.5"]
    summary = over_seeds(table(tmp_path, "lr", rows))
    for line, row in zip(summary.lines, csv.DictReader(io.StringIO(csv_text(summary))), strict=True):
        assert row["lr"] == line.place["lr"]
        assert tuple(float(row[f"test_loss_{name}"]) for name in ("mean", "std", "low", "high")) == (
            line.measures["test_loss"].numbers
        )


def test_large_metrics_are_written_with_an_exponent_and_widen_no_column(tmp_path: Path) -> None:
    folder = table(tmp_path, "lr", ["1 | 0 | 0.5", "2 | 0 | 0.5", "2 | 1 | 0.25"])
    text = (folder / "trials.csv").read_text(encoding="utf-8").replace(",1.5,", ",2.675e+37,", 1)
    (folder / "trials.csv").write_text(text, encoding="utf-8")
    for shown in (trials_table(folder), summary_table(over_seeds(folder))):
        assert "2.675e+37" in shown
        assert max(map(len, shown.splitlines())) < 100
