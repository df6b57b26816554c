"""A spec: one YAML file that describes a grid of trials, checked whole, with every mistake reported at its place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qsweep import axes
from qsweep.errors import Problem, SpecError, UserError, unknown
from qsweep.parameters import BadValueError, show
from qsweep.reader import Document, Mark, Place, read_file, read_text
from qsweep.trial import SOURCE, canonical, check

BLOCK_KEYS = ("trial", "grid", "zip", "variants", "exclude", "only")
TOP_KEYS = ("name", "title", "extends", *BLOCK_KEYS, "also", "seeds", "plots", "max_trials")
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
MAX_TRIALS = 100_000
MAX_SEEDS_BY_NUMBER = 20
MAX_SEED = 2**63 - 1
MAX_SOURCE_BYTES = 1024 * 1024

METRICS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")

PLOT_FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "surface": (("x", "y", "z"), ("facet", "title", "name")),
    "heatmap": (("x", "y", "z"), ("facet", "title", "name")),
    "lines": (("x", "y"), ("line", "facet", "title", "name")),
}
"""Kind of plot: the fields that it needs, and those that it takes."""


@dataclass(frozen=True)
class AxisGroup:
    """Axes that move together: one axis of `grid`, or all axes of `zip`. `points` has one tuple of values for each step."""

    names: tuple[str, ...]
    points: tuple[tuple[Any, ...], ...]
    place: Place


@dataclass(frozen=True)
class Block:
    """One grid: what its trials start from, its variants, its axes, and which points are left out."""

    place: Place
    trial: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    groups: tuple[AxisGroup, ...]
    exclude: tuple[Mapping[str, Any], ...]
    only: tuple[Mapping[str, Any], ...]

    @property
    def size(self) -> int:
        """Points of the grid before `exclude` and `only`, for one seed."""
        count = max(len(self.variants), 1)
        for group in self.groups:
            count *= len(group.points)
        return count


@dataclass(frozen=True)
class Spec:
    """A checked spec file; qsweep.plan expands it into trials."""

    name: str
    title: str
    blocks: tuple[Block, ...]
    seeds: tuple[int, ...]
    plots: tuple[Mapping[str, Any], ...]
    max_trials: int
    overrides: Mapping[str, Any]
    sources: Mapping[str, str]
    """Text of each user's Python file that a model comes from, by the file's name in the spec."""
    document: Document = field(repr=False)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each source, by the file's name in the spec."""
        return {file: hashlib.sha256(text.encode()).hexdigest() for file, text in self.sources.items()}

    @property
    def folder(self) -> str:
        """Name of the results folder: the spec's own, with six digits of the overrides where there are some."""
        if not self.overrides:
            return self.name
        return f"{self.name}@{hashlib.sha256(canonical(self.overrides).encode()).hexdigest()[:6]}"


def read(path: Path, overrides: Sequence[str] = (), shown: str | None = None) -> Spec:
    """The spec in a file.

    Args:
        overrides: `NAME=VALUE` texts; each replaces a trial parameter or the values of an axis, in every block.
        shown: the file's name in messages.

    Raises:
        UserError: the file can't be read, or an override is no NAME=VALUE.
        SpecError: every mistake in it.
    """
    document = _with_base(read_file(path, shown or str(path)), path, ())
    return _Reader(document, path, _parse_overrides(overrides)).spec()


def _parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    return dict(_parse_override(text) for text in texts)


def _parse_override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"-S {text}: expected NAME=VALUE, as in -S lr=0.1 or -S 'bitwidth=[8, 4]'")
    return name, read_text(value, f"-S {name}").value


# --- extends ----------------------------------------------------------------------------------------------------------


def _with_base(document: Document, path: Path, seen: tuple[Path, ...]) -> Document:
    """A document on top of the one that it extends."""
    if not isinstance(document.value, dict) or "extends" not in document.value:
        return document
    base_name = document.value["extends"]
    place: Place = ("extends",)
    if not isinstance(base_name, str):
        raise SpecError([document.problem(place, f"found {show(base_name)}, expected a file's path")])
    base_path = path.parent / base_name
    if base_path.resolve() in (path.resolve(), *seen):
        raise SpecError([document.problem(place, f"'{base_name}' extends this file in turn: a circle")])
    if not base_path.is_file():
        raise SpecError([document.problem(place, f"no file '{base_name}' beside this spec")])
    base = _with_base(read_file(base_path, base_name), base_path, (*seen, path.resolve()))
    own = {k: v for k, v in document.value.items() if k != "extends"}
    marks: dict[Place, Mark] = {}
    value = _merge(base, own, document.marks, (), marks)
    return Document(document.file, value, marks)


def _merge(base: Document, own: Any, own_marks: Mapping[Place, Mark], place: Place, marks: dict[Place, Mark]) -> Any:
    """Mappings merge; all else, lists and axes among it, is replaced. An empty mapping empties."""
    inherited = base.value
    for part in place:
        inherited = inherited.get(part) if isinstance(inherited, dict) else None
    is_axis = len(place) == 2 and place[0] in ("grid", "zip")
    if not (isinstance(inherited, dict) and isinstance(own, dict)) or not own or is_axis:
        marks |= {p: m for p, m in own_marks.items() if p[: len(place)] == place}
        return own
    marks |= {p: m for p, m in base.marks.items() if p[: len(place)] == place}
    merged = {**inherited}
    for key, value in own.items():
        merged[key] = _merge(base, value, own_marks, (*place, key), marks) if key in inherited else value
        marks |= {p: m for p, m in own_marks.items() if p[: len(place) + 1] == (*place, key)}
    return merged


# --- checking ---------------------------------------------------------------------------------------------------------


class _Reader:
    """Turns a document into a Spec, collecting every mistake on the way."""

    def __init__(self, document: Document, path: Path, overrides: Mapping[str, Any]) -> None:
        self.document = document
        self.path = path
        self.overrides = overrides
        self.problems: list[Problem] = []
        self.sources: dict[str, str] = {}

    def spec(self) -> Spec:
        top = self.document.value
        if not isinstance(top, dict):
            self._wrong((), f"found {show(top)}, expected a mapping with trial, grid, …")
            raise SpecError(self.problems)
        self._unknown_keys(top, (), TOP_KEYS)
        blocks = self._blocks(top)
        spec = Spec(
            name=self._spec_name(top),
            title=self._text(top, "title", ""),
            blocks=blocks,
            seeds=self._seeds(top.get("seeds", 1)),
            plots=self._plots(top.get("plots", [])),
            max_trials=self._integer(top, "max_trials", MAX_TRIALS),
            overrides=self.overrides,
            sources=self.sources,
            document=self.document,
        )
        if self.problems:
            raise SpecError(self.problems)
        self._check_size(spec)
        return spec

    def _wrong(self, place: Place, message: str) -> None:
        if place and place[0] == "-S":
            self.problems.append(Problem(f"-S {place[1]}", 0, 0, "", message))
        else:
            self.problems.append(self.document.problem(place, message))

    def _unknown_keys(self, mapping: Mapping[str, Any], place: Place, allowed: tuple[str, ...]) -> None:
        for key in mapping:
            if key not in allowed:
                self._wrong((*place, key), unknown("key", key, allowed))

    def _mapping(self, owner: Mapping[str, Any], key: str, place: Place) -> dict[str, Any]:
        value = owner.get(key, {})
        if isinstance(value, dict):
            return value
        self._wrong((*place, key), f"found {show(value)}, expected a mapping")
        return {}

    def _text(self, top: Mapping[str, Any], key: str, default: str) -> str:
        value = top.get(key, default)
        if not isinstance(value, str):
            self._wrong((key,), f"found {show(value)}, expected a text")
            return default
        return value

    def _integer(self, top: Mapping[str, Any], key: str, default: int) -> int:
        value = top.get(key, default)
        if not _is_int(value) or value < 1:
            self._wrong((key,), f"found {show(value)}, expected an integer from 1")
            return default
        return int(value)

    def _spec_name(self, top: Mapping[str, Any]) -> str:
        stem = self.path.stem
        name = self._text(top, "name", stem)
        if name != stem:
            self._wrong(("name",), f"found '{name}', but the file's name is '{stem}': make them the same")
        elif not NAME.fullmatch(name):
            self._wrong(("name",), f"'{name}' can't name a folder: up to 64 of A-Z a-z 0-9 . _ - and no dot in front")
        return name

    # blocks

    def _blocks(self, top: Mapping[str, Any]) -> tuple[Block, ...]:
        trial = self._parameters(self._mapping(top, "trial", ()), ("trial",))
        blocks = [self._block(top, (), trial)]
        also = top.get("also", [])
        if not isinstance(also, list):
            self._wrong(("also",), f"found {show(also)}, expected a list of blocks")
            also = []
        for index, given in enumerate(also):
            place: Place = ("also", index)
            if not isinstance(given, dict):
                self._wrong(place, f"found {show(given)}, expected a mapping with trial, grid, …")
                continue
            self._unknown_keys(given, place, BLOCK_KEYS)
            own = self._parameters(self._mapping(given, "trial", place), (*place, "trial"))
            blocks.append(self._block(given, place, overlay(trial, own)))
        self._unused_overrides(blocks)
        return tuple(blocks)

    def _block(self, given: Mapping[str, Any], place: Place, trial: Mapping[str, Any]) -> Block:
        groups = [g for key in given if key in ("grid", "zip") for g in self._groups(given, key, place)]
        self._repeated_axes(groups)
        swept = {name for group in groups for name in group.names}
        settled = {n: v for n, v in self._checked_overrides().items() if n not in swept}
        variants = {
            name: overlay(self._parameters(v, (*place, "variants", name)), settled)
            for name, v in self._mapping(given, "variants", place).items()
        }
        return Block(
            place,
            overlay(trial, settled),
            variants,
            tuple(groups),
            self._matchers(given, "exclude", place),
            self._matchers(given, "only", place),
        )

    def _checked_overrides(self) -> dict[str, Any]:
        """The overrides that are a trial parameter's value; a list for what takes no list can only be an axis's."""
        checked = {}
        for name, value in self.overrides.items():
            try:
                checked[name] = self._checked(name, value)
            except BadValueError:
                continue
        return checked

    def _unused_overrides(self, blocks: Sequence[Block]) -> None:
        swept = {name for block in blocks for group in block.groups for name in group.names}
        for name, value in self.overrides.items():
            if name not in swept:
                self._value(name, value, ("-S", name))

    def _parameters(self, given: object, place: Place) -> dict[str, Any]:
        """A `trial:` mapping with its values checked; dotted names set one thing inside."""
        if not isinstance(given, dict):
            self._wrong(place, f"found {show(given)}, expected a mapping of trial parameters")
            return {}
        result: dict[str, Any] = {}
        for name, value in given.items():
            if name == "seed":
                self._wrong((*place, name), "seeds are set for the whole spec: write `seeds:` at the top")
                continue
            for checked in self._value(name, value, (*place, name)):
                result[name] = checked
        return result

    def _value(self, name: str, value: object, place: Place) -> list[Any]:
        """[the checked value], or [] after noting what is wrong with it."""
        try:
            return [self._checked(name, value)]
        except BadValueError as problem:
            self._wrong(
                (*place, *".".join(problem.args[1:]).split(".")) if problem.args[1:] else place, problem.args[0]
            )
            return []

    def _checked(self, name: str, value: object) -> Any:
        checked = check(name, value)
        source = SOURCE.fullmatch(checked["name"]) if name == "model" else None
        if source and source["file"] not in self.sources:
            self.sources[source["file"]] = _read_source(self.path.parent / source["file"], source["file"])
        return checked

    # axes

    def _groups(self, given: Mapping[str, Any], key: str, place: Place) -> Iterator[AxisGroup]:
        where = (*place, key)
        named = {
            name: self._axis(name, values, (*where, name)) for name, values in self._mapping(given, key, place).items()
        }
        if key == "grid":
            for name, values in named.items():
                yield AxisGroup((name,), tuple((v,) for v in values), (*where, name))
        elif named:
            if len({len(v) for v in named.values()}) > 1:
                lengths = ", ".join(f"{name} has {len(v)}" for name, v in named.items())
                self._wrong(where, f"axes that move together need as many values each: {lengths}")
            yield AxisGroup(tuple(named), tuple(zip(*named.values(), strict=False)), where)

    def _axis(self, name: str, given: object, place: Place) -> list[Any]:
        if name == "seed":
            self._wrong(place, "seeds are set for the whole spec: write `seeds: 5` or `seeds: [0, 1]` at the top")
            return []
        if name == "quantize":
            self._wrong(place, "an axis over roles is written role by role: `quantize.weight: [range4, float32]`")
            return []
        if name in self.overrides:
            given, place = self.overrides[name], ("-S", name)
            given = given if isinstance(given, list | dict) else [given]
        try:
            values = axes.values(given)
        except BadValueError as problem:
            self._wrong(place, str(problem))
            return []
        checked = [v for i, value in enumerate(values) for v in self._value(name, value, (*place, i))]
        self._repeated_values(checked, place)
        return checked

    def _repeated_values(self, values: list[Any], place: Place) -> None:
        seen: set[str] = set()
        for value in values:
            text = canonical({"value": value})
            if text in seen:
                self._wrong(place, f"the value {show(value)} stands here twice")
            seen.add(text)

    def _repeated_axes(self, groups: Sequence[AxisGroup]) -> None:
        seen: set[str] = set()
        for group in groups:
            for name in group.names:
                if name in seen:
                    self._wrong(group.place, f"'{name}' is an axis in grid and in zip: keep one")
                seen.add(name)

    def _matchers(self, given: Mapping[str, Any], key: str, place: Place) -> tuple[Mapping[str, Any], ...]:
        entries = given.get(key, [])
        if not isinstance(entries, list):
            self._wrong((*place, key), f"found {show(entries)}, expected a list of mappings, such as [{{bitwidth: 1}}]")
            return ()
        return tuple(self._matcher(entry, (*place, key, i)) for i, entry in enumerate(entries))

    def _matcher(self, entry: object, place: Place) -> dict[str, Any]:
        if not isinstance(entry, dict) or not entry:
            self._wrong(
                place, f"found {show(entry)}, expected a mapping of parameters to match, such as {{bitwidth: 1}}"
            )
            return {}
        variant = {"variant": entry["variant"]} if "variant" in entry else {}
        return variant | self._parameters({k: v for k, v in entry.items() if k != "variant"}, place)

    # the rest

    def _seeds(self, given: object) -> tuple[int, ...]:
        if _is_int(given) and 1 <= given <= MAX_SEEDS_BY_NUMBER:  # type: ignore[operator]
            return tuple(range(given))  # type: ignore[arg-type]
        if isinstance(given, dict) and list(given) == ["count"] and _is_int(given["count"]) and given["count"] >= 1:
            return tuple(range(given["count"]))
        if isinstance(given, list) and given and all(_is_int(s) and 0 <= s <= MAX_SEED for s in given):
            if len(set(given)) < len(given):
                self._wrong(("seeds",), "a seed stands here twice")
            return tuple(given)
        more = f" (more than {MAX_SEEDS_BY_NUMBER}: write {{count: {given}}})" if _is_int(given) else ""
        self._wrong(("seeds",), f"found {show(given)}, expected a number of seeds or a list of them{more}")
        return (0,)

    def _plots(self, given: object) -> tuple[Mapping[str, Any], ...]:
        if not isinstance(given, list):
            self._wrong(("plots",), f"found {show(given)}, expected a list of plots")
            return ()
        for index, plot in enumerate(given):
            self._plot(plot, ("plots", index))
        return tuple(plot for plot in given if isinstance(plot, dict))

    def _plot(self, plot: object, place: Place) -> None:
        if not isinstance(plot, dict) or plot.get("kind") not in PLOT_FIELDS:
            kind = plot.get("kind") if isinstance(plot, dict) else plot
            self._wrong(place, unknown("kind of plot", kind, tuple(PLOT_FIELDS)))
            return
        needs, takes = PLOT_FIELDS[plot["kind"]]
        self._unknown_keys(plot, place, ("kind", *needs, *takes))
        for name in needs:
            if name not in plot:
                self._wrong(place, f"a {plot['kind']} needs {name}")
        for name, value in plot.items():
            if not isinstance(value, str):
                self._wrong((*place, name), f"found {show(value)}, expected a text")
        metric = plot.get("z" if "z" in needs else "y")
        if isinstance(metric, str) and metric not in METRICS:
            self._wrong((*place, "z" if "z" in needs else "y"), unknown("metric", metric, METRICS))
        if isinstance(name := plot.get("name"), str) and not NAME.fullmatch(name):
            self._wrong((*place, "name"), f"'{name}' can't name a file: A-Z a-z 0-9 . _ - and no dot in front")

    def _check_size(self, spec: Spec) -> None:
        count = sum(block.size for block in spec.blocks) * len(spec.seeds)
        if count > spec.max_trials:
            message = f"{count:,} trials, more than {spec.max_trials:,}: if that is meant, write `max_trials: {count}`"
            raise SpecError([self.document.problem(("grid",), message)])


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _read_source(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SOURCE_BYTES + 1)
        if len(data) > MAX_SOURCE_BYTES:
            raise BadValueError(f"'{shown}' is larger than 1 MB: this is no model's source")
        return data.decode("utf-8")
    except OSError as error:
        raise BadValueError(f"can't read '{shown}' beside this spec: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BadValueError(f"'{shown}' is no Python text") from None


# --- putting parameters together --------------------------------------------------------------------------------------


def overlay(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters over others: a name replaces, a dotted name is set inside (dotted names last)."""
    result = {**base}
    for name in sorted(own, key=lambda n: n.count(".")):
        result = set_inside(result, name.split("."), own[name])
    return result


def set_inside(mapping: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of nested mappings with one value set; the original is left alone."""
    if len(path) == 1:
        return {**mapping, path[0]: value}
    return {**mapping, path[0]: set_inside(mapping.get(path[0], {}), path[1:], value)}
