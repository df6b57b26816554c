"""A strict YAML reader: values with the line and column of each, or every mistake in the text.

PyYAML's own constructor reads `1e-3` as a string, `on` as true, `1:30` as 90, `010` as 8 and keeps the last of two
equal keys; its C loader crashes on deep nesting. So only its pure Python parser is used, and the tree is walked once
with the scalars of YAML 1.2. Tags, dates, merge keys and aliases to a node's own parents are not supported, and nothing
is ever evaluated.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from yaml.reader import ReaderError

from qsweep.errors import Problem, SpecError, UserError, cut, unknown
from qsweep.files import is_special
from qsweep.parameter import show

Kind = TypeVar("Kind")

MAX_BYTES = 256 * 1024
MAX_DEPTH = 50
MAX_NODES = 100_000

Place = tuple[str | int, ...]
"""The place of a value: the keys and indices that lead to it."""

Mark = tuple[str, int, int]
"""File, line, column."""

OVERRIDE = "-S"
"""First part of the place of a value from the command line: ("-S", "lr")."""


@dataclass(frozen=True)
class Document:
    """The values of a YAML text, and {place: (file, line, column)} for each of them, counted from 1."""

    file: str
    value: Any
    marks: dict[Place, Mark] = field(repr=False)

    def problem(self, place: Place, message: str) -> Problem:
        """A mistake at a place, or at the nearest enclosing place in the text."""
        if place[:1] == (OVERRIDE,):
            return Problem(f"-S {place[1]}", 0, 0, dotted(place[2:]), message)
        known = place
        while known and known not in self.marks:
            known = known[:-1]
        return Problem(*self.marks.get(known, (self.file, 0, 0)), dotted(place), message)

    def nearest(self, path: str, message: str) -> Place:
        """The first place whose dotted name ends with a path, or with as much of the path as any does.

        Several blocks and variants may say something there: one whose text the message repeats comes before others.
        """
        while path:
            found = [place for place in self.marks if f".{_with_dots(place)}".endswith(f".{path}")]
            repeated = [place for place in found if self._word(place) in message]
            if found:
                return min(repeated or found, key=lambda place: self.marks[place][1:])
            path = path.rpartition(".")[0]
        return ()

    def _word(self, place: Place) -> str:
        """The text at a place, of one such as `torchvision:resnet18` what follows the colon."""
        value = self.value
        for part in place:
            value = value[part]
        return str(value).rpartition(":")[2]


def _with_dots(place: Place) -> str:
    return ".".join(map(str, place))


def dotted(place: Place) -> str:
    """A place as text: ("also", 0, "grid", "lr") → `also[0].grid.lr`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{cut(part)}" for part in place)
    return text.removeprefix(".")


# --- text to values ---------------------------------------------------------------------------------------------------


def read_file(path: Path, shown: str) -> Document:
    """Read a file; `shown` is its name in messages.

    Raises:
        UserError: it can't be read.
        SpecError: it is invalid YAML.
    """
    if is_special(path):
        raise UserError(f"{shown}: not a regular file")
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{shown}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise SpecError([Problem(shown, 0, 0, "", f"larger than {MAX_BYTES // 1024} KB: not a spec")])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError([Problem(shown, 0, 0, "", f"not text: byte {error.start} is not UTF-8")]) from None
    return read_text(text, shown)


def read_text(text: str, shown: str) -> Document:
    """Read a text.

    Raises:
        SpecError: it is invalid YAML, nested deeper than 50 levels, or uses unsupported features (all are listed).
    """
    walk = _Walk(shown, text)
    root = _compose(text, walk)
    value = walk.value(root, ()) if root is not None else None
    if walk.problems:
        raise SpecError(walk.problems)
    return Document(shown, value, walk.marks)


def _compose(text: str, walk: _Walk) -> yaml.Node | None:
    """The tree of a text. Tags are added to the problems; invalid YAML raises SpecError."""
    if found := LINE_SEPARATOR.search(text):
        walk.stop(*_line_and_column(text, found.start()), _found_for(found[0], "an ordinary line break, or a space"))
    try:
        loader = _Loader(text)
    except ReaderError as error:
        walk.stop(
            *_line_and_column(text, error.position),
            f"not text: it has the character {_character(text[error.position])}",
        )
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or loader.get_mark()
        what = ", ".join(filter(None, (error.context, error.problem)))
        at = _suspect(text, mark)
        if at is None and error.problem in COLON_PROBLEMS and (line := _without_colon(text, mark)):
            walk.stop(*line, f"a ':' with a space after it is missing (invalid YAML: {error.problem})")
        if at is None:
            walk.stop(mark.line + 1, mark.column + 1, f"invalid YAML: {what}")
        walk.stop(
            *_line_and_column(text, at), f"{_found_for(text[at], _meant(text[at]))} (invalid YAML: {error.problem})"
        )
    except (ValueError, OverflowError):  # an escape beyond Unicode, "\UFFFFFFFF"
        mark = loader.get_mark()
        walk.stop(mark.line + 1, mark.column + 1, "invalid YAML: there is no such character")
    finally:
        for mark, tag in loader.tags:
            walk.wrong(mark.line + 1, mark.column + 1, (), f"tag '{cut(tag)}': tags are not supported")


def _line_and_column(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _character(character: str) -> str:
    """The description of an invisible or confusable character: `U+00A0 (no-break space)`."""
    name = "tab" if character == "\t" else unicodedata.name(character, "").lower()
    return f"U+{ord(character):04X}" + (f" ({name})" if name else "")


def _found_for(character: str, expected: str) -> str:
    """The message for a wrong character, with what was expected."""
    return f"found {_character(character)}, expected {expected}"


def _suspect(text: str, mark: yaml.Mark) -> int | None:
    """The position of the character that may have made YAML invalid: a tab at the error, or the first character on the
    lines before it that looks like another."""
    if text[mark.index : mark.index + 1] == "\t":
        return int(mark.index)
    lines = text.splitlines(keepends=True)
    start, end = (sum(map(len, lines[:count])) for count in (max(mark.line - LINES_BEFORE, 0), mark.line + 1))
    found = (match.start() for match in islice(LOOKALIKE.finditer(text, start, end), MOST_LOOKALIKES))
    return next((at for at in found if not IN_PROSE.match(text[text.rfind("\n", 0, at) + 1 : at])), None)


def _without_colon(text: str, mark: yaml.Mark) -> tuple[int, int] | None:
    """The line and column of an apparent key without `: `, on the line of the error or the last one before. YAML reads
    it as a multi-line string and reports the next line."""
    lines = [COMMENT.sub("", line).rstrip() for line in text.split("\n")[: mark.line + 1]]
    above = [number for number, line in enumerate(lines[:-1]) if line]
    for number in (mark.line, *above[-1:]):
        if number < len(lines) and (match := NO_COLON.fullmatch(lines[number])):
            return number + 1, match.start(1) + 1
    return None


COLON_PROBLEMS = ("mapping values are not allowed here", "could not find expected ':'")
"""PyYAML's errors for a line that should be a key."""
COMMENT = re.compile(r"(^|\s)#.*")
NO_COLON = re.compile(r"\s*([A-Za-z_][\w.]*(?::\S.*|\s+[^:]+)?)")
"""A line such as `title Beginner`, `data:digits`, or a key alone."""
LINES_BEFORE = 2
"""PyYAML detects some mistakes only lines later."""
MOST_LOOKALIKES = 100
"""How many of those are examined."""


def _meant(character: str) -> str:
    return "nothing there" if INVISIBLE.fullmatch(character) else MEANT.get(character, "a space")


class _Loader(yaml.SafeLoader):
    """The pure Python parser and composer without resolution: scalars stay text. Nesting is limited early."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.tags: list[tuple[yaml.Mark, str]] = []

    def get_event(self) -> Any:
        event: Any = super().get_event()  # type: ignore[no-untyped-call]
        self.depth += isinstance(event, yaml.CollectionStartEvent)
        self.depth -= isinstance(event, yaml.CollectionEndEvent)
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=event.start_mark)
        if (tag := getattr(event, "tag", None)) is not None:
            self.tags.append((event.start_mark, tag))
        return event

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        return ""

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        pass

    def ascend_resolver(self) -> None:
        pass


UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Characters that an escape can produce, but that neither a file name nor a table can contain."""


MEANT = {
    **dict.fromkeys("\u2212\ufe63\uff0d", "a hyphen-minus, -"),
    **dict.fromkeys("\uff1a\ufe55\u2236\ua789", "a colon and a space"),
    **dict.fromkeys("\uff0c\u3001", "a comma"),
    **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb\uff02", 'a straight quote, "'),
    **dict.fromkeys("\u2018\u2019\u201a\uff07", "a straight quote, '"),
    **dict.fromkeys("\uff3b\uff3d\uff5b\uff5d", "a bracket of ASCII"),
}
"""The intended characters for those that word processors, web pages and other keyboards insert instead."""
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
)
INVISIBLE = re.compile(f"[{_INVISIBLE}]")
"""Characters without width: joiners, direction marks, fillers."""
LOOKALIKE = re.compile(f"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000{_INVISIBLE}{re.escape(''.join(MEANT))}]")
"""The characters of MEANT, invisible ones, and spaces that YAML does not treat as such."""
LINE_SEPARATOR = re.compile("[\u0085\u2028\u2029]")
"""Line breaks to PyYAML, but not to editors, which would show the rest of the line in another place."""
CALL = re.compile(r"[A-Za-z]\w*\([^()\[\]{}\n]*,[^()\[\]{}\n]*\)[^,\]}\n]*")
"""A call with several arguments, and what follows it in the same item: `quantized_bits(4,0,1) axis=0`."""
IN_PROSE = re.compile(r"""\s*title\s*:|(.*\s)?#|[^"]*"([^"]*"[^"]*")*[^"]*$|[^']*'([^']*'[^']*')*[^']*$""")
"""The start of a line after which any character is allowed: in a title, a comment, or a quoted string."""
PROSE = ("title",)
"""Last part of the places of strings that are shown to people only."""


class _Walk:
    """Collects values, marks and problems in one walk over the tree."""

    def __init__(self, shown: str, text: str) -> None:
        self.shown = shown
        self.source = text
        self.marks: dict[Place, Mark] = {}
        self.problems: list[Problem] = []
        self.open: list[yaml.Node] = []
        self.call_ends = 0

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.marks[place] = self._mark(node)
        if len(self.marks) > MAX_NODES:
            self.stop(*self._mark(node)[1:], f"more than {MAX_NODES:,} values: too many aliases?")
        if any(node is parent for parent in self.open):
            return self._problem(node, place, "an alias to one of its own parents")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        self.open.append(node)
        value = self._sequence(node, place) if isinstance(node, yaml.SequenceNode) else self._mapping(node, place)
        self.open.pop()
        return value

    def _sequence(self, node: yaml.SequenceNode, place: Place) -> list[Any]:
        values: list[Any] = []
        for child in node.value:
            if not self._is_in_call(child):
                values.append(self._item(child, (*place, len(values))))
        return values

    def _mapping(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, child in node.value:
            if self._is_in_call(key_node) or (key := self._key(key_node, place)) is None:
                continue
            value = self._item(child, (*place, key))
            if key in result:
                self._problem(key_node, (*place, key), "this key is listed twice")
            result[key] = value
            self.marks[(*place, key)] = self._mark(key_node)
        return result

    def _item(self, node: yaml.Node, place: Place) -> Any:
        """The value of an item; a call such as `fixed(8,7)` without quotes, whose commas end items, is one problem."""
        if not isinstance(node, yaml.ScalarNode) or node.style is not None or ")" in node.value:
            return self.value(node, place)
        match = CALL.match(self.source, node.start_mark.index)
        if match is None:
            return self.value(node, place)
        self.call_ends = match.end()
        return self._problem(node, place, f'quote it: "{match[0].rstrip()}"; without quotes its commas separate items')

    def _is_in_call(self, node: yaml.Node) -> bool:
        """Whether a node is a later part of a call that was reported."""
        return int(node.start_mark.index) < self.call_ends

    def _key(self, node: yaml.Node, place: Place) -> str | None:
        if not isinstance(node, yaml.ScalarNode) or (node.value == "<<" and node.style is None):
            self._problem(node, place, "a name was expected; merge keys and mappings as names are not supported")
            return None
        if node.style is None and self._has_lookalike(node, place):
            return None
        return self._text(node, place)

    def _has_lookalike(self, node: yaml.ScalarNode, place: Place) -> bool:
        """Report the first character of an unquoted string that looks like another, at its own column."""
        found = LOOKALIKE.search(node.value) and LOOKALIKE.search(self.source, node.start_mark.index)
        if not found:
            return False
        message = _found_for(found[0], _meant(found[0]))
        self.wrong(*_line_and_column(self.source, found.start()), place, message)
        return True

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        if node.style is not None:
            return self._text(node, place)
        if place[-1:] != PROSE and self._has_lookalike(node, place):
            return None
        try:
            return plain_scalar(node.value)
        except ValueError as error:
            return self._problem(node, place, str(error))

    def _text(self, node: yaml.ScalarNode, place: Place) -> str | None:
        if found := UNPRINTABLE.search(node.value):
            self._problem(node, place, f"a string with the character U+{ord(found[0]):04X}")
            return None
        return str(node.value)

    def _problem(self, node: yaml.Node, place: Place, message: str) -> None:
        self.wrong(*self._mark(node)[1:], place, message)

    def _mark(self, node: yaml.Node) -> Mark:
        return (self.shown, node.start_mark.line + 1, node.start_mark.column + 1)

    def wrong(self, line: int, column: int, place: Place, message: str) -> None:
        self.problems.append(Problem(self.shown, line, column, dotted(place), message))

    def stop(self, line: int, column: int, message: str) -> NoReturn:
        self.wrong(line, column, (), message)
        raise SpecError(self.problems)


# --- scalars ----------------------------------------------------------------------------------------------------------


def _decimal_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"'{cut(text)}' is too large for a number")
    return value


def _not_finite(text: str) -> float:
    raise ValueError(f"'{text}' is not a finite number")


SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"true|True|TRUE"), lambda text: True),
    (re.compile(r"false|False|FALSE"), lambda text: False),
    (re.compile(r"|~|null|Null|NULL"), lambda text: None),
    (re.compile(r"[-+]?[0-9]{1,300}"), int),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), _decimal_float),
    (re.compile(r"0x[0-9a-fA-F]{1,16}"), lambda text: int(text, 16)),
    (re.compile(r"0o[0-7]{1,20}"), lambda text: int(text, 8)),
    (re.compile(r"[-+]?\.?(inf|Inf|INF)|\.?(nan|NaN|NAN)"), _not_finite),
)
"""The core schema of YAML 1.2: `1e-3` is a number, `on`, `1:30` and `2024-01-01` are strings, `010` is ten."""


def plain_scalar(text: str) -> Any:
    """The value of an unquoted scalar.

    Raises:
        ValueError: a number that is not finite.
    """
    for pattern, convert in SCALARS:
        if pattern.fullmatch(text):
            return convert(text)
    return text


# --- checking what was read -------------------------------------------------------------------------------------------


class Mistakes:
    """Collects the mistakes of a document, to report all of them at once."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.found: list[Problem] = []

    def add(self, place: Place, message: str) -> None:
        self.found.append(self.document.problem(place, message))

    def stop_if_any(self) -> None:
        """Raise a SpecError with all mistakes, if there are any."""
        if self.found:
            raise SpecError(self.found)

    def unknown_keys(
        self, mapping: Mapping[str, Any], place: Place, allowed: tuple[str, ...], elsewhere: Collection[str] = ()
    ) -> None:
        """Report unknown keys; those in `elsewhere` are trial parameters."""
        for key in mapping:
            if key in elsewhere:
                self.add((*place, key), f"'{key}' is a trial parameter: write it in `trial`, or in `grid` as an axis")
            elif key not in allowed:
                self.add((*place, key), unknown("key", key, allowed))

    def mapping(self, owner: Mapping[str, Any], key: str, place: Place = ()) -> dict[str, Any]:
        """owner[key] if it is a mapping; {} if there is none, or after reporting that it is not a mapping."""
        return self._typed(dict, {}, "a mapping", owner, key, place)

    def sequence(self, owner: Mapping[str, Any], key: str, place: Place, expected: str) -> list[Any]:
        """owner[key] if it is a list; else [], in the same way."""
        return self._typed(list, [], expected, owner, key, place)

    def text(self, owner: Mapping[str, Any], key: str, default: str) -> str:
        """owner[key] if it is a string; else `default`, in the same way."""
        return self._typed(str, default, "a string", owner, key, ())

    def _typed(
        self, kind: type[Kind], default: Kind, expected: str, owner: Mapping[str, Any], key: str, place: Place
    ) -> Kind:
        value = owner.get(key, default)
        if isinstance(value, kind):
            return value
        self.add((*place, key), f"found {show(value)}, expected {expected}")
        return default
