"""The wording of errors."""

from __future__ import annotations

import pytest

from qsweep.errors import (
    MAX_SHOWN,
    MAX_TEXT,
    DataError,
    Error,
    Problem,
    SpecError,
    UserError,
    cut,
    did_you_mean,
    unknown,
)


def test_problem_shows_file_line_column_path_and_message() -> None:
    assert str(Problem("a.yaml", 3, 5, "trial.lr", "found 0")) == "a.yaml:3:5: trial.lr: found 0"


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("a.yaml", 3, 5, "", "invalid YAML"), "a.yaml:3:5: invalid YAML"),
        (Problem("-S lr", 0, 0, "", "found 0"), "-S lr: found 0"),
        (Problem("-S model", 0, 0, "hidden", "found 0"), "-S model: hidden: found 0"),
    ],
)
def test_problem_leaves_out_what_it_does_not_have(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_spec_error_lists_problems_by_file_and_line() -> None:
    wrong = [
        Problem("b", 1, 1, "", "x"),
        Problem("a", 10, 1, "", "x"),
        Problem("a", 2, 9, "", "x"),
        Problem("a", 2, 1, "", "x"),
    ]
    assert [(p.file, p.line, p.column) for p in SpecError(wrong).problems] == [
        ("a", 2, 1),
        ("a", 2, 9),
        ("a", 10, 1),
        ("b", 1, 1),
    ]


def test_spec_error_lists_each_problem_once() -> None:
    assert str(SpecError([Problem("a", 1, 1, "", "x")] * 3)) == "a:1:1: x"


def test_spec_error_with_many_problems_cuts_the_message_and_keeps_the_problems() -> None:
    error = SpecError([Problem("a", line, 1, "", "x") for line in range(1, MAX_SHOWN + 1501)])
    assert len(error.problems) == MAX_SHOWN + 1500
    assert str(error).splitlines()[-2:] == [f"a:{MAX_SHOWN}:1: x", "… and 1,500 more"]


def test_spec_error_with_as_many_problems_as_fit_shows_all() -> None:
    assert "more" not in str(SpecError([Problem("a", line, 1, "", "x") for line in range(MAX_SHOWN)]))


@pytest.mark.parametrize("kind", [UserError, DataError, SpecError])
def test_errors_that_users_can_fix_are_user_errors(kind: type[Exception]) -> None:
    assert issubclass(kind, UserError)
    assert issubclass(kind, Error)


def test_did_you_mean_suggests_a_near_name() -> None:
    assert did_you_mean("bitwith", ["lr", "bitwidth"]) == "; did you mean 'bitwidth'?"


def test_did_you_mean_is_empty_if_no_name_is_near() -> None:
    assert did_you_mean("optimizer", ["lr", "bitwidth"]) == ""


def test_unknown_lists_the_known_names() -> None:
    assert unknown("format", "fp9", ("float32", "range")) == "unknown format 'fp9' (one of: float32, range)"


def test_unknown_shows_a_few_of_many_names_and_where_to_find_all() -> None:
    many = tuple(f"name_{letter}" for letter in "abcdefghijklmnopqrst")
    text = unknown("parameter", "other", many)
    assert text.endswith("name_i, name_j and 10 more; `qsweep schema` lists all)")
    assert "name_k" not in text
    assert unknown("parameter", "nam_c", many) == (
        "unknown parameter 'nam_c'; did you mean 'name_c'? (`qsweep schema` lists all)"
    )
    assert unknown("thing", "nam_c", many) == "unknown thing 'nam_c'; did you mean 'name_c'?"


def test_unknown_shortens_a_long_name() -> None:
    assert len(unknown("format", "x" * 100_000, ("float32",))) < 2 * MAX_TEXT


@pytest.mark.parametrize("length", [0, MAX_TEXT, MAX_TEXT + 1, 10_000])
def test_cut_keeps_short_texts_and_shortens_long_ones(length: int) -> None:
    text = "a" * length
    assert len(cut(text)) == min(length, MAX_TEXT)
    assert cut(text).endswith("…") == (length > MAX_TEXT)
