"""Reading YAML strictly: values, and the line and column of each, or every mistake that the text itself has.

PyYAML's own constructor reads `1e-3` as a string, `on` as true, `1:30` as 90, `010` as 8 and keeps the last of two equal
keys; its C loader crashes on deep nesting. So only its pure parser is used, and the tree is walked once with the scalars
of YAML 1.2. No tags, dates, merge keys or aliases to a node's own parents; nothing is ever evaluated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from qsweep.errors import Problem, SpecError, UserError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 50
MAX_NODES = 100_000

Place = tuple[str | int, ...]
"""Where a value stands: the keys and indices that lead to it."""

Mark = tuple[str, int, int]
"""File, line, column."""


@dataclass(frozen=True)
class Document:
    """The values of one YAML text, and {place: (file, line, column)} for each of them, counted from 1."""

    file: str
    value: Any
    marks: dict[Place, Mark] = field(repr=False)

    def problem(self, place: Place, message: str) -> Problem:
        """A mistake at a place, or at the nearest enclosing place that stands in the text."""
        known = place
        while known and known not in self.marks:
            known = known[:-1]
        return Problem(*self.marks.get(known, (self.file, 0, 0)), dotted(place), message)


def dotted(place: Place) -> str:
    """A place as one writes it: ("also", 0, "grid", "lr") → `also[0].grid.lr`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def read_file(path: Path, shown: str) -> Document:
    """The document in a file; `shown` is its name in messages.

    Raises:
        UserError: it can't be read. SpecError: it is no YAML as we read it.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{shown}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise SpecError([Problem(shown, 0, 0, "", f"larger than {MAX_BYTES // 1024} KB: this is no spec")])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError([Problem(shown, 0, 0, "", f"no text: byte {error.start} is not UTF-8")]) from None
    return read_text(text, shown)


def read_text(text: str, shown: str) -> Document:
    """The document in a text.

    Raises:
        SpecError: no YAML, nested deeper than 50 levels, or with what we don't read (all such places at once).
    """
    _check_depth(text, shown)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise SpecError([Problem(shown, line, column, "", f"no YAML: {error.problem or error.context}")]) from None
    except yaml.YAMLError as error:
        raise SpecError([Problem(shown, 0, 0, "", f"no YAML: {' '.join(str(error).split())}")]) from None
    walk = _Walk(shown)
    value = walk.value(root, ()) if root is not None else None
    if walk.problems:
        raise SpecError(walk.problems)
    return Document(shown, value, walk.marks)


def _check_depth(text: str, shown: str) -> None:
    """Refuse deep nesting while it is events, before the composer, which is recursive, meets it."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                mark = event.start_mark
                message = f"nested deeper than {MAX_DEPTH} levels"
                raise SpecError([Problem(shown, mark.line + 1, mark.column + 1, "", message)])
    except yaml.YAMLError:
        return  # compose reports it with its place


class _Walk:
    """One walk over the tree gives values, marks and problems."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.marks: dict[Place, Mark] = {}
        self.problems: list[Problem] = []
        self.open: list[yaml.Node] = []

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.marks[place] = self._mark(node)
        if len(self.marks) > MAX_NODES:
            self._stop(node, place, f"more than {MAX_NODES} values: too many aliases?")
        if any(node is parent for parent in self.open):
            return self._problem(node, place, "an alias to one of its own parents")
        if node.tag.startswith("!"):
            return self._problem(node, place, f"tag '{node.tag}': tags are not read")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        self.open.append(node)
        value = self._sequence(node, place) if isinstance(node, yaml.SequenceNode) else self._mapping(node, place)
        self.open.pop()
        return value

    def _sequence(self, node: yaml.SequenceNode, place: Place) -> list[Any]:
        return [self.value(child, (*place, i)) for i, child in enumerate(node.value)]

    def _mapping(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, child in node.value:
            key = self._key(key_node, place, result)
            if key is not None:
                result[key] = self.value(child, (*place, key))
                self.marks[(*place, key)] = self._mark(key_node)
        return result

    def _key(self, node: yaml.Node, place: Place, seen: dict[str, Any]) -> str | None:
        if not isinstance(node, yaml.ScalarNode) or (node.value == "<<" and node.style is None):
            return self._problem(node, place, "a name was expected here; merge keys and mappings as names are not read")
        if node.value in seen:
            return self._problem(node, (*place, node.value), "stands here a second time")
        return str(node.value)

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        if node.style is not None:
            return node.value
        try:
            return plain_scalar(node.value)
        except ValueError as error:
            return self._problem(node, place, str(error))

    def _problem(self, node: yaml.Node, place: Place, message: str) -> None:
        self.problems.append(Problem(*self._mark(node), dotted(place), message))

    def _mark(self, node: yaml.Node) -> Mark:
        return (self.shown, node.start_mark.line + 1, node.start_mark.column + 1)

    def _stop(self, node: yaml.Node, place: Place, message: str) -> None:
        self._problem(node, place, message)
        raise SpecError(self.problems)


def _decimal_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"'{text}' is too large for a number")
    return value


def _not_finite(text: str) -> float:
    raise ValueError(f"'{text}' is not a finite number")


SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"true|True|TRUE"), lambda text: True),
    (re.compile(r"false|False|FALSE"), lambda text: False),
    (re.compile(r"|~|null|Null|NULL"), lambda text: None),
    (re.compile(r"[-+]?\d{1,300}"), int),
    (re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?"), _decimal_float),
    (re.compile(r"0x[0-9a-fA-F]{1,16}"), lambda text: int(text, 16)),
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
