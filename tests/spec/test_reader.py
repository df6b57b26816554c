"""The strict YAML reader: values, places, and every mistake in a text."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsweep.errors import SpecError, UserError
from qsweep.spec.reader import (
    MAX_BYTES,
    MAX_DEPTH,
    OVERRIDE,
    Document,
    Mistakes,
    dotted,
    plain_scalar,
    read_file,
    read_text,
)

NUMBERS = st.integers(-(10**200), 10**200) | st.floats(allow_nan=False, allow_infinity=False)


def problems(text: str) -> list[tuple[int, int, str, str]]:
    """Line, column, path and message of each mistake."""
    with pytest.raises(SpecError) as caught:
        read_text(text, "a.yaml")
    assert {p.file for p in caught.value.problems} == {"a.yaml"}
    return [(p.line, p.column, p.path, p.message) for p in caught.value.problems]


# --- scalars ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-2", -2),
        ("+2", 2),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("<<", "<<"),
        ("1_000", "1_000"),
        ("1e", "1e"),
        ("e3", "e3"),
        ("-", "-"),
        (".", "."),
        ("٣", "٣"),
        ("0b11", "0b11"),
        ("normal(0.1)", "normal(0.1)"),
    ],
)
def test_plain_scalar_follows_yaml_1_2(text: str, value: object) -> None:
    assert repr(plain_scalar(text)) == repr(value)


@pytest.mark.parametrize("text", [".inf", "-.Inf", ".nan", "inf", "NaN", "1e400", "9" * 5000])
def test_plain_scalar_that_is_not_finite_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"finite|too large"):
        plain_scalar(text)


@given(NUMBERS)
def test_plain_scalar_reads_every_number_that_python_writes(number: float) -> None:
    read = plain_scalar(repr(number))
    assert read == number
    assert type(read) is type(number)


def test_quoted_scalar_is_text() -> None:
    assert read_text("['1', \"true\", '', \"~\"]", "a").value == ["1", "true", "", "~"]


# --- whole texts ------------------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**200), 10**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_read_text_reads_json(value: Any) -> None:
    assert read_text(json.dumps(value, ensure_ascii=False), "a").value == value


@given(st.text(st.sampled_from("ab1 \n\t:-,.?[]{}#&*!|>'\"%@\\=<~x0U\0\ud800é"), max_size=60))
def test_read_text_returns_a_document_or_raises_spec_error(text: str) -> None:
    with suppress(SpecError):
        assert isinstance(read_text(text, "a"), Document)


def test_read_text_marks_the_place_of_every_value() -> None:
    document = read_text("trial:\n  lr: 0.1\n  hidden: [8,\n    16]\ngrid: {}\n", "a.yaml")
    lines = {dotted(place): mark[1:] for place, mark in document.marks.items()}
    assert lines == {
        "": (1, 1),
        "trial": (1, 1),
        "trial.lr": (2, 3),
        "trial.hidden": (3, 3),
        "trial.hidden[0]": (3, 12),
        "trial.hidden[1]": (4, 5),
        "grid": (5, 1),
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\n\n"])
def test_read_text_of_an_empty_text_is_none(text: str) -> None:
    assert read_text(text, "a").value is None


def test_read_text_accepts_a_byte_order_mark() -> None:
    assert read_text("\ufefflr: 1\n", "a").value == {"lr": 1}


def test_read_text_with_alias_has_its_value_twice() -> None:
    document = read_text("a: &x [1, 2]\nb: *x\n", "a")
    assert document.value == {"a": [1, 2], "b": [1, 2]}
    assert ("b", 1) in document.marks


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_read_text_reports_every_mistake_at_once() -> None:
    text = "a: 1\na: .nan\nb: !!float 3\nc:\n  <<: {d: 1}\n  [1]: 2\ne: &e [*e]\nf: 1e999\n"
    assert [(line, column, path) for line, column, path, _ in problems(text)] == [
        (2, 1, "a"),
        (2, 4, "a"),
        (3, 4, ""),
        (5, 3, "c"),
        (6, 3, "c"),
        (7, 4, "e[0]"),
        (8, 4, "f"),
    ]


MISSING = "a ':' with a space after it is missing (invalid YAML: "


@pytest.mark.parametrize(
    ("text", "line", "column", "path", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "a", "this key is listed twice"),
        ("a: {b: 1, 'b': 2}\n", 1, 11, "a.b", "this key is listed twice"),
        ("{w: f(4,0,1), b: 1}\n", 1, 5, "w", 'quote it: "f(4,0,1)"; without quotes its commas separate items'),
        (
            "a: [1, f(4, x) per=2 , 3]\n",
            1,
            8,
            "a[1]",
            'quote it: "f(4, x) per=2"; without quotes its commas separate items',
        ),
        ("a: !!str 1\n", 1, 4, "", "tag 'tag:yaml.org,2002:str': tags are not supported"),
        ("a: !!python/object:os.system x\n", 1, 4, "", "tag 'tag:yaml.org,2002:python/object:os.system'"),
        ("a: !mine x\n", 1, 4, "", "tag '!mine': tags are not supported"),
        ("!!set {a, b}\n", 1, 1, "", "tag 'tag:yaml.org,2002:set': tags are not supported"),
        ("a: ! 1\n", 1, 4, "", "tag '!': tags are not supported"),
        ("<<: {a: 1}\n", 1, 1, "", "merge keys"),
        ("a: &x {b: *x}\n", 1, 4, "a.b", "an alias to one of its own parents"),
        ("a: *x\n", 1, 4, "", "invalid YAML: found undefined alias 'x'"),
        ("? [1, 2]\n: 3\n", 1, 3, "", "a name was expected"),
        ("a: [1, 2\n", 2, 1, "", "invalid YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("a: 1\n\tb: 2\n", 2, 1, "", "found U+0009 (tab), expected a space (invalid YAML: "),
        ("a:\n  b:\t1\n", 2, 5, "", "found U+0009 (tab), expected a space"),
        ("a:\n\u00a0\u00a0b: 1\n", 2, 1, "", "found U+00A0 (no-break space), expected a space"),
        ("a:\u00a0x\nb: 2\n", 1, 3, "", "found U+00A0 (no-break space), expected a space"),
        ("a:\n\u200b  b: 1\n", 2, 1, "", "found U+200B (zero width space), expected nothing there"),
        ("a:\n  b: \u200fx\n", 2, 6, "a.b", "found U+200F (right-to-left mark), expected nothing there"),
        ("a: 1\u2028b: .nan\n", 1, 5, "", "found U+2028 (line separator), expected an ordinary line break, or a space"),
        ("a: 1 # x\u2029y\n", 1, 9, "", "found U+2029 (paragraph separator), expected an ordinary line break"),
        ("# it\u2019s\na: b: c\n", 2, 5, "", "invalid YAML: mapping values are not allowed here"),
        ("title: It\u2019s\na: b: c\n", 2, 5, "", "invalid YAML: mapping values are not allowed here"),
        ('x: "It\u2019s"\na: b: c\n', 2, 5, "", "invalid YAML: mapping values are not allowed here"),
        ("title Beginner\ntrial: {}\n", 1, 1, "", MISSING),
        ("trial:\n  data:digits\n  lr: 1\n", 2, 3, "", MISSING),
        ("trial:\n  lr: 1\n  data:digits  # a:b\n\nseeds: 2\n", 3, 3, "", MISSING),
        ("title: x\nseeds 3", 2, 1, "", MISSING),
        ("grid:\n  lr [1, 2]\n  b: 3\n", 2, 3, "", MISSING),
        ("title: a\n  b: 3\n", 2, 4, "", "invalid YAML: mapping values are not allowed here"),
        ("a: b: c\n", 1, 5, "", "invalid YAML: mapping values are not allowed here"),
        (
            "a: 1\n---\nb: 1\n",
            2,
            1,
            "",
            "expected a single document in the stream, but found another document",
        ),
        ("a: 1\n\x07\n", 2, 1, "", "not text: it has the character U+0007"),
        ('a: "\\0"\n', 1, 4, "a", "a string with the character U+0000"),
        ('a: "\\ud800"\n', 1, 4, "a", "a string with the character U+D800"),
        ('"\\ud800": 1\n', 1, 1, "", "a string with the character U+D800"),
        ('a: "\\UFFFFFFFF"\n', 1, 7, "", "invalid YAML: there is no such character"),
        ('a: "\\U00110000"\n', 1, 7, "", "invalid YAML: there is no such character"),
    ],
)
def test_read_text_reports_place_and_message(text: str, line: int, column: int, path: str, message: str) -> None:
    found = problems(text)
    assert len(found) == 1
    assert found[0][:3] == (line, column, path)
    assert message in found[0][3]


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{a: " * 50_000, "- " * 100_000, "? " * 100_000, "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)],
    ids=["flow lists", "flow mappings", "block lists", "block mappings", "one too deep"],
)
def test_read_text_nested_too_deep_is_refused(text: str) -> None:
    assert f"nested deeper than {MAX_DEPTH} levels" in problems(text)[0][3]


def test_read_text_nested_by_indentation_is_refused() -> None:
    text = "\n".join(" " * depth + "a:" for depth in range(500))
    assert f"nested deeper than {MAX_DEPTH} levels" in problems(text)[0][3]
    assert problems(text)[0][0] == MAX_DEPTH + 1


def test_read_text_as_deep_as_allowed_is_read() -> None:
    assert str(read_text("[" * MAX_DEPTH + "]" * MAX_DEPTH, "a").value) == "[" * MAX_DEPTH + "]" * MAX_DEPTH


def test_read_text_with_exponential_aliases_stops_early() -> None:
    laughs = ["a0: &a0 [lol, lol]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "more than 100,000 values" in problems("\n".join(laughs))[0][3]


# --- files ------------------------------------------------------------------------------------------------------------


def wrong_file(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_file(path, "a.yaml")
    return str(caught.value)


def test_read_file_as_large_as_allowed_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a: 1 #" + b"x" * (MAX_BYTES - 6))
    assert read_file(tmp_path / "a", "a").value == {"a": 1}


def test_read_file_larger_than_256_kb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"#" * (MAX_BYTES + 1))
    assert wrong_file(tmp_path / "a") == "a.yaml: larger than 256 KB: not a spec"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("lr: é".encode("latin-1"), "a.yaml: not text: byte 4 is not UTF-8"),
        ("lr: 1".encode("utf-16"), "a.yaml: not text: byte 0 is not UTF-8"),
        (b"\x7fELF\x02\x01\x01\0", "a.yaml:1:1: not text: it has the character U+007F"),
        (b"\x89PNG\r\n\x1a\n", "a.yaml: not text: byte 0 is not UTF-8"),
    ],
    ids=["latin-1", "utf-16", "elf", "png"],
)
def test_read_file_that_is_not_text_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(data)
    assert wrong_file(tmp_path / "a") == message


def test_read_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert wrong_file(tmp_path / "none") == "a.yaml: No such file or directory"


def test_read_file_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    assert wrong_file(tmp_path) == "a.yaml: Is a directory"


# --- places and checks ------------------------------------------------------------------------------------------------


def test_dotted_writes_a_place_as_text() -> None:
    assert dotted(("also", 0, "grid", "lr", 3)) == "also[0].grid.lr[3]"


def test_problem_at_a_place_not_in_the_text_points_to_the_enclosing_place() -> None:
    problem = read_text("a:\n  b: 1\n", "x").problem(("a", "c", 3), "no")
    assert (problem.line, problem.column, problem.path) == (1, 1, "a.c[3]")


def test_problem_of_an_override_points_to_the_command_line() -> None:
    assert str(read_text("a: 1\n", "x").problem((OVERRIDE, "lr"), "no")) == "-S lr: no"


def test_values_of_wrong_types_are_reported_and_replaced() -> None:
    mistakes = Mistakes(read_text("a: 1\nb: [2]\nc: {d: 1}\ne: text\n", "x"))
    top = mistakes.document.value
    assert mistakes.mapping(top, "a") == {}
    assert mistakes.sequence(top, "c", (), "a list") == []
    assert mistakes.text(top, "b", "default") == "default"
    assert [str(p) for p in mistakes.found] == [
        "x:1:1: a: found 1, expected a mapping",
        'x:3:1: c: found {"d": 1}, expected a list',
        "x:2:1: b: found [2], expected a string",
    ]


def test_values_of_right_types_are_no_mistakes() -> None:
    mistakes = Mistakes(read_text("b: [2]\nc: {d: 1}\ne: text\n", "x"))
    top = mistakes.document.value
    assert mistakes.mapping(top, "c") == {"d": 1}
    assert mistakes.mapping(top, "none") == {}
    assert mistakes.sequence(top, "b", (), "a list") == [2]
    assert mistakes.text(top, "e", "") == "text"
    mistakes.stop_if_any()


def test_stop_if_any_raises_with_all_mistakes() -> None:
    mistakes = Mistakes(read_text("lrr: 1\nname: 2\n", "x"))
    mistakes.unknown_keys(mistakes.document.value, (), ("lr",))
    with pytest.raises(SpecError) as caught:
        mistakes.stop_if_any()
    assert [p.path for p in caught.value.problems] == ["lrr", "name"]
    assert "did you mean 'lr'?" in str(caught.value)


# --- characters that look like others ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("character", "name"),
    [
        *(
            ("\u00a0", "U+00A0 (no-break space), expected a space"),
            ("\u3000", "U+3000 (ideographic space), expected a space"),
        ),
        *((chr(code), f"U+{code:04X} (") for code in range(0x2000, 0x200C)),
        *(("\u202f", "U+202F"), ("\ufeff", "U+FEFF (zero width no-break space), expected nothing there")),
        *(
            ("\u2212", "U+2212 (minus sign), expected a hyphen-minus, -"),
            ("\uff1a", "U+FF1A (fullwidth colon), expected a colon"),
        ),
        *(("\u201c", "U+201C (left double quotation mark), expected a straight quote"), ("\u2019", "U+2019")),
    ],
)
@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("a: {b: 1X}", 1, 9), ("1X: 2", 1, 2), ("a:\n  - 1\n  - X3", 3, 5), ("a: bX c\n", 1, 5), ("a:X 1\n", 1, 3)],
)
def test_lookalike_character_is_reported_at_its_column(
    character: str, name: str, text: str, line: int, column: int
) -> None:
    with pytest.raises(SpecError) as caught:
        read_text(text.replace("X", character), "s.yaml")
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"s.yaml:{line}:{column}: ")
    assert name in first


def test_lookalike_character_is_reported_at_its_place_before_the_error_of_yaml() -> None:
    (found,) = problems("a: 1\nepochs\uff1a 3\nb: 2\n")
    assert found[:2] == (2, 7)
    assert found[3].startswith("found U+FF1A (fullwidth colon), expected a colon and a space (invalid YAML: ")


@pytest.mark.parametrize(
    "text", ["title: What\u2019s 50\u00a0% \u2212 this", 'a: "50\u00a0%"', "# it\u2019s\u00a0so\na: 1", "a: 8\u20134"]
)
def test_typography_in_titles_quotes_and_comments_is_accepted(text: str) -> None:
    assert read_text(text, "s.yaml").value


@given(st.text(alphabet=" ab:-[]{},\n'\"\u00a0\u200b\u2212\uff1a\ufeff\u201c", max_size=40))
def test_any_text_with_lookalikes_is_read_or_refused(text: str) -> None:
    with suppress(SpecError):  # anything else would be a crash
        read_text(text, "s.yaml")
