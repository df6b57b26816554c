"""A spec on top of the one that it `extends`: mappings are merged, everything else (lists and axes) is replaced."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from qsweep.errors import SpecError, UserError
from qsweep.parameter import show
from qsweep.spec.reader import Document, Place, read_file

EXTENDS: Place = ("extends",)
MAX_LEVELS = 20
NOT_INHERITED = ("name", "extends")


def read_extended(path: Path, shown: str) -> Document:
    """Read a spec file, merged with all that it extends; each mark points to the file that sets the value.

    Args:
        shown: the file's name in messages.

    Raises:
        UserError: the file can't be read.
        SpecError: it or a file that it extends is invalid YAML, or they extend each other in a cycle.
    """
    return _on_base(read_file(path, shown), path, ())


def _on_base(document: Document, path: Path, above: tuple[str, ...]) -> Document:
    if not isinstance(document.value, dict) or "extends" not in document.value:
        return document
    name = document.value["extends"]
    if not isinstance(name, str):
        raise SpecError([document.problem(EXTENDS, f"found {show(name)}, expected the path of a file")])
    chain = (*above, os.path.realpath(path))
    if len(chain) > MAX_LEVELS:
        raise SpecError([document.problem(EXTENDS, f"more than {MAX_LEVELS} files that extend each other")])
    if os.path.realpath(path.parent / name) in chain:
        raise SpecError([document.problem(EXTENDS, f"'{name}' extends this file in turn: a cycle")])
    return _merged(_on_base(_read_base(document, path, name), path.parent / name, chain), document)


def _read_base(document: Document, path: Path, name: str) -> Document:
    try:
        base = read_file(path.parent / name, str(PurePath(document.file).parent / name))
    except SpecError:
        raise
    except UserError as error:
        raise SpecError([document.problem(EXTENDS, f"can't read the extended file: {error}")]) from None
    if not isinstance(base.value, dict):
        raise SpecError([base.problem((), f"found {show(base.value)}, expected a mapping with trial, grid, …")])
    return base


def _merged(base: Document, own: Document) -> Document:
    inherited = {key: value for key, value in base.value.items() if key not in NOT_INHERITED}
    replaced: set[Place] = {(key,) for key in NOT_INHERITED}
    value = _merge(inherited, {k: v for k, v in own.value.items() if k != "extends"}, (), replaced)
    kept = {place: mark for place, mark in base.marks.items() if not _within(place, replaced)}
    return Document(own.file, value, kept | own.marks)


def _merge(base: Any, own: Any, place: Place, replaced: set[Place]) -> Any:
    """`own` on top of `base`. An empty mapping replaces. Places that are replaced are added to `replaced`."""
    is_axis = len(place) == 2 and place[0] in ("grid", "zip")
    is_empty = not own and place != ()
    if is_axis or is_empty or not (isinstance(base, Mapping) and isinstance(own, Mapping)):
        replaced.add(place)
        return own
    return {**base, **{k: _merge(base[k], v, (*place, k), replaced) if k in base else v for k, v in own.items()}}


def _within(place: Place, places: set[Place]) -> bool:
    return any(place[:length] in places for length in range(len(place) + 1))
