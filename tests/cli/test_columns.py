"""Text in columns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsweep.cli.columns import aligned, fitted, listed, markdown, wrapped


def test_aligned_pads_all_cells_except_the_last() -> None:
    assert aligned([["a", "bb", "c"], ["aaa", "b", ""]]) == "a    bb  c\naaa  b"


def test_markdown_escapes_pipes() -> None:
    assert markdown([["x", "y"], ["|x|", "1"]]) == "| x | y |\n|---|---|\n| \\|x\\| | 1 |"


def test_listed_fills_columns_of_at_least_so_many_lines() -> None:
    assert listed(["1", "2", "3"], 100) == "1\n2\n3"
    assert listed(["1", "2", "3", "44", "5"], 100, least=2) == "1     3     5\n2     44"
    assert listed(["long", "longer"], 3, least=1) == "long\nlonger"


def test_listed_keeps_all_items_and_the_width() -> None:
    for count in range(1, 200):
        items = [str(i) * 3 for i in range(count)]
        lines = listed(items, 60).splitlines()
        assert sorted(" ".join(lines).split()) == sorted(items)
        assert max(map(len, lines)) <= 60


CELLS = st.text(alphabet="0123456789.e-", max_size=12)
TABLES = st.integers(2, 9).flatmap(
    lambda columns: st.lists(st.lists(CELLS, min_size=columns, max_size=columns), min_size=2, max_size=6)
)


@given(TABLES, st.integers(30, 120))
def test_fitted_table_cuts_no_cell_and_keeps_the_width(rows: list[list[str]], width: int) -> None:
    rows[0] = [f"c{i}" for i in range(len(rows[0]))]
    text = fitted(rows, width)
    assert max(map(len, text.splitlines())) <= width
    parts = [part.splitlines() for part in text.split("\n\n")] if all(row[0] for row in rows) else []
    for index, row in enumerate(rows if parts else []):
        cells = [cell for part in parts for cell in part[index].split()[1:]]
        assert cells == " ".join(row[1:]).split()
        assert all(part[index].split()[0] == row[0] for part in parts)


@given(TABLES)
def test_fitted_table_that_fits_is_aligned(rows: list[list[str]]) -> None:
    assert fitted(rows, 1000) == aligned(rows)


def test_fitted_table_that_is_too_wide_continues_below_with_its_first_columns() -> None:
    rows = [["key", "lr", "accuracy", "loss"], ["abc", "0.5", "", "0.25"], ["def", "1", "0.125", "2"]]
    assert fitted(rows, 24) == aligned(rows)
    assert fitted(rows, 23) == "key  lr   accuracy\nabc  0.5\ndef  1    0.125\n\nkey  loss\nabc  0.25\ndef  2"
    assert (
        fitted(rows, 14, lead=2)
        == "key  lr   accuracy\nabc  0.5\ndef  1    0.125\n\nkey  lr   loss\nabc  0.5  0.25\ndef  1    2"
    )


@given(st.lists(st.tuples(CELLS, st.text(alphabet="ab ", max_size=90)), max_size=5), st.integers(40, 90))
def test_wrapped_texts_keep_their_words_and_the_width(rows: list[tuple[str, str]], width: int) -> None:
    texts = [(name, " ".join(word[:20] for word in text.split())) for name, text in rows]
    lines = wrapped(texts, width).splitlines()
    assert all(len(line) <= width for line in lines)
    assert " ".join(lines).split() == " ".join(f"{name} {text}" for name, text in texts).split()


@pytest.mark.parametrize("width", [10, 80, 1_000_000])
def test_wrapped_word_longer_than_the_line_is_not_cut(width: int) -> None:
    assert "x" * 100 in wrapped([("name", "a " + "x" * 100)], width)
