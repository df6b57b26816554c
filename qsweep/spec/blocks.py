"""The checked blocks of a spec: their shared parameters, their axes, and the points to leave out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsweep.data.decode import read_own
from qsweep.data.own import Asked, OwnData, is_own, kept_data
from qsweep.errors import cut
from qsweep.models.catalog import SOURCE, is_open
from qsweep.models.imports import Source, read_kept, read_source
from qsweep.parameter import BadValueError, check_each, show
from qsweep.spec import axes
from qsweep.spec.reader import OVERRIDE, Mistakes, Place
from qsweep.trial.checks import Checker, checker
from qsweep.trial.key import canonical
from qsweep.trial.parameters import TRIAL_NAMES

BLOCK_KEYS = ("trial", "grid", "zip", "variants", "exclude", "only")
BLOCK_EXPECTED = "a mapping with trial, grid, …"
SEED_NAMES = ("seed", "seeds")
SEEDS_ELSEWHERE = "seeds apply to the whole spec: write `seeds: 5` or `seeds: [0, 1]` at the top level"
ROLE_BY_ROLE = "an axis sets one role at a time: `quantize.weight: [range4, float32]`"


@dataclass(frozen=True)
class AxisGroup:
    """Axes that move together: one axis of `grid`, or all of `zip`. `points` has a tuple of values per step."""

    names: tuple[str, ...]
    points: tuple[tuple[Any, ...], ...]
    place: Place


@dataclass(frozen=True)
class Block:
    """One grid: its shared parameters, variants and axes, and the points to leave out.

    `trial` is nested. Variants override it, axis values override both (`overlay`).
    """

    place: Place
    trial: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    groups: tuple[AxisGroup, ...]
    exclude: tuple[Mapping[str, Any], ...]
    only: tuple[Mapping[str, Any], ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """The swept parameters, in the order of the file."""
        return tuple(name for group in self.groups for name in group.names)

    @property
    def size(self) -> int:
        """Points of the grid before `exclude` and `only`, for one seed."""
        count = max(len(self.variants), 1)
        for group in self.groups:
            count *= len(group.points)
        return count


def overlay(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters overridden by others: first plain names, then dotted names, which set a value inside."""
    result = {**base, **own}
    for name in sorted((n for n in own if "." in n), key=lambda n: n.count(".")):
        head, *path = name.split(".")
        result[head] = _set_inside(result.get(head, {}), path, result.pop(name))
    return result


def _set_inside(mapping: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of nested mappings with one value set."""
    head, *rest = path
    return {**mapping, head: _set_inside(mapping.get(head, {}), rest, value) if rest else value}


class BlockReader:
    """Turns the blocks of a document into Blocks, and collects all mistakes.

    Attributes:
        sources: the users' Python files that define models, by their names in the spec.
        data: the users' own data sets, by their spelling.
    """

    def __init__(self, mistakes: Mistakes, overrides: Mapping[str, Any], folder: Path) -> None:
        self.mistakes = mistakes
        self.overrides = overrides
        self.folder = folder
        self.open_model = _names_open_model([mistakes.document.value, *overrides.values()])
        self.sources: dict[str, Source] = {}
        self.data: dict[str, OwnData] = {}

    def blocks(self, top: Mapping[str, Any]) -> tuple[Block, ...]:
        """The block at the top of a spec, and those of `also`, which start from the trial of the first."""
        trial = overlay({}, self._parameters(self.mistakes.mapping(top, "trial"), ("trial",)))
        blocks = [self._block(top, (), trial)]
        for index, given in enumerate(self.mistakes.sequence(top, "also", (), "a list of blocks")):
            place: Place = ("also", index)
            if not isinstance(given, dict):
                self.mistakes.add(place, f"found {show(given)}, expected {BLOCK_EXPECTED}")
                continue
            self.mistakes.unknown_keys(given, place, BLOCK_KEYS, TRIAL_NAMES)
            own = self._parameters(self.mistakes.mapping(given, "trial", place), (*place, "trial"))
            blocks.append(self._block(given, place, overlay(trial, own)))
        self._check_overrides({name for block in blocks for name in block.axes})
        return tuple(blocks)

    def _block(self, given: Mapping[str, Any], place: Place, trial: Mapping[str, Any]) -> Block:
        groups = tuple(group for key in given if key in ("grid", "zip") for group in self._groups(given, key, place))
        self._repeated_axes(groups)
        fixed = self._fixed({name for group in groups for name in group.names})
        variants = self.mistakes.mapping(given, "variants", place)
        if "" in variants:
            self.mistakes.add((*place, "variants", ""), "a variant without a name")
        return Block(
            place,
            overlay(trial, fixed),
            {n: self._parameters(v, (*place, "variants", n)) | fixed for n, v in variants.items()},
            groups,
            self._matchers(given, "exclude", place),
            self._matchers(given, "only", place),
        )

    # parameters

    def _parameters(self, given: object, place: Place) -> dict[str, Any]:
        """A `trial:` mapping with its values checked."""
        if not isinstance(given, dict):
            self.mistakes.add(place, f"found {show(given)}, expected a mapping of trial parameters")
            return {}
        checked = {name: self._value(name, value, (*place, name)) for name, value in given.items()}
        return {name: found[0] for name, found in checked.items() if found}

    def _value(self, name: str, value: object, place: Place) -> list[Any]:
        """[the checked value], or [] after adding its mistakes."""
        try:
            return [self._checker(name)(value)]
        except BadValueError as error:
            self._add(error, place)
            return []

    def _add(self, error: BadValueError, place: Place) -> None:
        several = as_list(str(place[1]), self.overrides[str(place[1])]) if place[:1] == (OVERRIDE,) else ""
        for path, message in error.mistakes:
            self.mistakes.add((*place, *path), message + several)

    def _checker(self, name: str) -> Checker:
        if name in SEED_NAMES:
            raise BadValueError(SEEDS_ELSEWHERE)
        check = checker(name, self.open_model)
        if name == "data":
            return self._with_data(check)
        return self._with_source(check) if name == "model" else check

    def _with_data(self, check: Checker) -> Checker:
        """A check of data that also reads users' own."""

        def with_data(value: object) -> Any:
            data = check(value)
            if is_own(data) and data not in self.data:
                asked = Asked.of(data)
                self.data[data] = kept_data(self.folder, data) or read_own(asked, self._path(asked))
            return data

        return with_data

    def _path(self, asked: Asked) -> Path:
        """Beside the spec; of data that -S sets, which may be for a spec of another folder, or else here."""
        path = self.folder / asked.path
        return path if path.exists() or "data" not in self.overrides else Path(asked.path)

    def _with_source(self, check: Checker) -> Checker:
        """A check of models that also reads users' files."""

        def with_source(value: object) -> Any:
            model = check(value)
            source = SOURCE.fullmatch(model["name"])
            if source and source[1] not in self.sources:
                kept = read_kept(self.folder, source[1])
                self.sources[source[1]] = kept or read_source(self.folder / source[1], source[1])
            return model

        return with_source

    # axes

    def _groups(self, given: Mapping[str, Any], key: str, place: Place) -> Iterator[AxisGroup]:
        where = (*place, key)
        named = {
            name: self._axis(name, values, (*where, name))
            for name, values in self.mistakes.mapping(given, key, place).items()
        }
        if key == "grid":
            for name, values in named.items():
                yield AxisGroup((name,), tuple((v,) for v in values), (*where, name))
        elif named:
            if len({len(values) for values in named.values() if values}) > 1:
                lengths = ", ".join(f"{name} has {len(v)}" for name, v in named.items())
                self.mistakes.add(where, f"axes that move together need equally many values: {lengths}")
            yield AxisGroup(tuple(named), tuple(zip(*named.values(), strict=False)), where)

    def _axis(self, name: str, given: object, place: Place) -> list[Any]:
        """The checked values of an axis, or [] after adding its mistakes."""
        try:
            if name == "quantize":
                raise BadValueError(ROLE_BY_ROLE)
            return self._override_axis(name) if name in self.overrides else self._axis_values(name, given)
        except BadValueError as error:
            self._add(error, (OVERRIDE, name) if name in self.overrides else place)
            return []

    def _override_axis(self, name: str) -> list[Any]:
        """Two values from `-S lr=[0.1, 0.2]`, but one from `-S betas=[0.9, 0.99]`, whose items are not valid values."""
        given = self.overrides[name]
        try:
            return self._axis_values(name, given)
        except BadValueError as error:
            try:
                return [self._checker(name)(given)]
            except BadValueError as single:
                raise error if isinstance(given, list | dict) else single from None

    def _axis_values(self, name: str, given: object) -> list[Any]:
        check = self._checker(name)
        checked = check_each(enumerate(axes.values(given)), lambda _, value: check(value))
        _refuse_repeated(values := [value for _, value in checked])
        return values

    def _repeated_axes(self, groups: Sequence[AxisGroup]) -> None:
        seen: set[str] = set()
        for group in groups:
            for name in seen.intersection(group.names):
                self.mistakes.add(group.place, f"'{name}' is an axis in grid and in zip: keep one")
            seen.update(group.names)

    # overrides

    def _fixed(self, swept: set[str]) -> dict[str, Any]:
        """The overrides that set a trial parameter in a block, except those that are valid only for an axis."""
        fixed = {}
        for name in [name for name in self.overrides if name not in swept]:
            with suppress(BadValueError):  # reported once, by _check_overrides
                fixed[name] = self._checker(name)(self.overrides[name])
        return fixed

    def _check_overrides(self, swept: set[str]) -> None:
        """Report the overrides that are valid neither for an axis of a block nor for a parameter."""
        for name in [name for name in self.overrides if name not in swept]:
            good = self._value(name, self.overrides[name], (OVERRIDE, name))
            if not good and isinstance(self.overrides[name], list | dict) and not is_own(self.overrides[name]):
                self.mistakes.add((OVERRIDE, name), "it is not an axis of this spec, so it takes one value")

    # exclude and only

    def _matchers(self, given: Mapping[str, Any], key: str, place: Place) -> tuple[Mapping[str, Any], ...]:
        entries = self.mistakes.sequence(given, key, place, "a list of mappings, such as [{bitwidth: 1}]")
        return tuple(self._matcher(entry, (*place, key, i)) for i, entry in enumerate(entries))

    def _matcher(self, entry: object, place: Place) -> dict[str, Any]:
        if not isinstance(entry, dict) or not entry:
            expected = "a mapping of parameters to match, such as {bitwidth: 1}"
            self.mistakes.add(place, f"found {show(entry)}, expected {expected}")
            return {}
        variant = {"variant": entry["variant"]} if "variant" in entry else {}
        return overlay(variant, self._parameters({k: v for k, v in entry.items() if k != "variant"}, place))


def as_list(name: str, given: object) -> str:
    """The hint for several values of -S that are not written as a list: `0.1,0.01`."""
    values = re.split(r"[,; ]+", given.strip(",; ")) if isinstance(given, str) and not is_own(given) else []
    return f"; write several values as a list: -S '{name}=[{cut(', '.join(values))}]'" if len(values) > 1 else ""


def _refuse_repeated(values: Sequence[Any]) -> None:
    """Refuse equal values. Checked values have a canonical spelling, so that equal ones have equal texts."""
    seen: set[str] = set()
    for value in values:
        text = canonical(value)
        if text in seen:
            raise BadValueError(f"the value {show(value)} is listed twice")
        seen.add(text)


def _names_open_model(value: object) -> bool:
    """Whether an open model is named anywhere, so that a dotted `model.x` may be one of its parameters."""
    if isinstance(value, str):
        return is_open(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_names_open_model, inner))
