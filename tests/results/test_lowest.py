"""`table --lowest`: the fewest bits that still train."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_aggregate import table

from qsweep.cli.table import lowest_note, lowest_table
from qsweep.errors import UserError
from qsweep.results.lowest import lowest

GRID = [
    *("0.1 8 | 0 | 0.80", "0.1 8 | 1 | 0.90", "0.1 4 | 0 | 0.80", "0.1 4 | 1 | 0.82", "0.1 2 | 0 | 0.9"),
    *("0.1 2 | 1 | diverged", "0.5 8 | 0 | 0.1", "0.5 8 | 1 | 0.1", "0.5 4 | 0 | 0.9", "0.5 4 | 1 | 0.9"),
    *("0.5 2 | 0 | missing", "0.5 2 | 1 | 0.9", "0.1 - | 0 | 0.8", "0.1 - | 1 | 0.9", "0.5 - | 0 | 0.2"),
    "0.5 - | 1 | 0.2",
]


def test_lowest_uses_means_over_seeds_and_diverged_seeds_reach_nothing(tmp_path: Path) -> None:
    answer = lowest(table(tmp_path, "lr bitwidth", GRID), "bitwidth", "95%")
    assert answer.target == pytest.approx(0.95 * 0.85)
    assert answer.best is not None
    assert answer.best[0] == pytest.approx(0.85)
    slow, fast = answer.lines
    assert (slow.edge.lowest, slow.edge.fails, slow.lacking) == (4.0, (), ())
    assert slow.accuracy == pytest.approx(0.81)
    assert (fast.edge.lowest, fast.edge.fails, fast.lacking) == (4.0, (8.0,), (2.0,))


def test_diverged_reference_is_not_the_best(tmp_path: Path) -> None:
    rows = ["1 8 | 0 | 0.8", "2 8 | 0 | 0.8", "1 - | 0 | diverged", "2 - | 0 | 0.8"]
    best = lowest(table(tmp_path, "lr bitwidth", rows), "bitwidth", "95%").best
    assert best == (0.8, {"lr": "2"})
    diverged = [rows[0], rows[2]]
    assert lowest(table(tmp_path, "lr bitwidth", diverged), "bitwidth", "95%").best is None


def test_reach_can_be_an_accuracy_instead_of_a_share(tmp_path: Path) -> None:
    answer = lowest(table(tmp_path, "lr bitwidth", GRID), "bitwidth", "0.84")
    assert [line.edge.lowest for line in answer.lines] == [8.0, 4.0]
    assert answer.best is None


def test_table_shows_what_was_reached_and_where_the_grid_is_not_monotone(tmp_path: Path) -> None:
    answer = lowest(table(tmp_path, "lr bitwidth", GRID), "bitwidth", "95%")
    assert lowest_table(answer).splitlines() == [
        "lr   lowest bitwidth  test_accuracy  fails above  not run",
        "0.1  4                0.8100         ·            ·",
        "0.5  4                0.9000         8            2",
    ]
    note = lowest_note(answer)
    assert note == "test_accuracy of 0.8075 or more, mean over seeds; the best without bitwidth is 0.8500 at lr=0.1"


@pytest.mark.parametrize(
    ("rows", "axis", "reach", "message"),
    [
        (GRID, "bits", "95%", "--lowest: unknown axis 'bits'"),
        (GRID, "bitwidth", "95", "--reach: found 95, expected a share such as 95%"),
        (GRID[:12], "bitwidth", "95%", "and there are none: add a block"),
        (["0.1 8 | 0 | missing"], "bitwidth", "0.5", "no trial is done"),
        (["0.1 a | 0 | 0.5"], "bitwidth", "0.5", "'a' is not a number"),
    ],
)
def test_invalid_question_is_refused_with_the_reason(
    rows: list[str], axis: str, reach: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        lowest(table(tmp_path, "lr bitwidth", rows), axis, reach)
    assert message in str(error.value)
