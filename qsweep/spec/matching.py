"""Finds the entries of a spec's `exclude` and `only` that match a trial, with an index instead of trying each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

Name = TypeVar("Name")
Condition = tuple[tuple[str, ...], Any]
"""A path into the settings of a trial, and the value there."""

MISSING = object()


class Matcher(Generic[Name]):
    """Indexes each entry by the condition that it shares with the fewest others, so that many cost as much as one."""

    def __init__(self, entries: Sequence[tuple[Name, Mapping[str, Any]]]) -> None:
        conditions = [list(_conditions(entry, ())) for _, entry in entries]
        shared = Counter(condition for own in conditions for condition in own)
        self._always: list[tuple[Name, Mapping[str, Any]]] = []
        self._found: dict[tuple[str, ...], dict[Any, list[tuple[Name, Mapping[str, Any]]]]] = defaultdict(dict)
        for named, own in zip(entries, conditions, strict=True):
            if own:
                path, value = min(own, key=shared.__getitem__)
                self._found[path].setdefault(value, []).append(named)
            else:
                self._always.append(named)

    def matching(self, used: Mapping[str, Any]) -> list[Name]:
        """The names of the entries that match the settings of a trial."""
        return [name for name, entry in self._candidates(used) if matches(entry, used)]

    def _candidates(self, used: Mapping[str, Any]) -> Iterator[tuple[Name, Mapping[str, Any]]]:
        yield from self._always
        for path, by_value in self._found.items():
            value = _at(used, path)
            if _is_hashable(value):
                yield from by_value.get(value, ())


def matches(entry: Any, used: Any) -> bool:
    """Whether the settings agree with an entry; mappings in an entry need not be complete."""
    if isinstance(entry, Mapping) and isinstance(used, Mapping):
        return all(name in used and matches(value, used[name]) for name, value in entry.items())
    return bool(entry == used)


def _conditions(entry: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Condition]:
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from _conditions(value, (*path, name))
        elif _is_hashable(value):
            yield (*path, name), value


def _at(used: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        used = used.get(name, MISSING) if isinstance(used, Mapping) else MISSING
    return used


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
