"""Text in columns."""

from __future__ import annotations

from qsweep.columns import aligned, listed, markdown


def test_aligned_pads_all_cells_but_the_last() -> None:
    assert aligned([["a", "bb", "c"], ["aaa", "b", ""]]) == "a    bb  c\naaa  b"


def test_markdown_escapes_what_would_end_a_cell() -> None:
    assert markdown([["x", "y"], ["|x|", "1"]]) == "| x | y |\n|---|---|\n| \\|x\\| | 1 |"


def test_listed_runs_down_columns_of_at_least_so_many_lines() -> None:
    assert listed(["1", "2", "3"], 100) == "1\n2\n3"
    assert listed(["1", "2", "3", "44", "5"], 100, least=2) == "1     3     5\n2     44"
    assert listed(["long", "longer"], 3, least=1) == "long\nlonger"


def test_listed_loses_nothing_and_keeps_the_width() -> None:
    for count in range(1, 200):
        items = [str(i) * 3 for i in range(count)]
        lines = listed(items, 60).splitlines()
        assert sorted(" ".join(lines).split()) == sorted(items)
        assert max(map(len, lines)) <= 60
