"""A spec: a YAML file that describes a grid of trials. All its mistakes are reported at once, each at its place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

from qsweep.data.own import OwnData
from qsweep.errors import SpecError, UserError, cut, unknown
from qsweep.models.imports import Source
from qsweep.parameter import BadValueError, show
from qsweep.spec.axes import limit
from qsweep.spec.blocks import BLOCK_EXPECTED, BLOCK_KEYS, Block, BlockReader, as_list
from qsweep.spec.extends import read_extended
from qsweep.spec.plots import PLOT_KINDS, RANGE, REACH, PlotKind, plot_range
from qsweep.spec.reader import OVERRIDE, Document, Mistakes, Place, read_text
from qsweep.trial.key import canonical
from qsweep.trial.measures import DRAWN, SECONDS
from qsweep.trial.parameters import TRIAL_NAMES
from qsweep.trial.reach import ACCURACIES, DEFAULT_REACH, read_reach

TOP_KEYS = ("name", "title", "extends", *BLOCK_KEYS, "also", "seeds", "stack", "search", "plots", "max_trials")
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
NAME_RULE = "up to 64 of A-Z a-z 0-9 . _ - and no dot in front"
RESOLVED = "spec"
"""The name, without `.yaml`, of the runnable spec in a sweep's folder; its `name` is that of the folder."""
RESOLVED_NAME = re.compile(rf"{NAME.pattern}(@[0-9a-f]{{6}})*")
RESERVED_NAMES = ("reference", "weights")
"""Folders in results/ that are not sweeps: committed results, and weights."""
STORE_FILE = "store.db"
"""The store in results/; the names of SQLite's other files begin with it."""


def is_reserved(name: str) -> bool:
    """Whether a name in results/ is reserved on any file system."""
    return name.casefold() in RESERVED_NAMES or name.casefold().startswith(STORE_FILE)


MAX_TRIALS = 100_000
MAX_SEEDS_BY_NUMBER = 20
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Search:
    """Trains only part of the grid, to find by bisection the lowest value of an axis that reaches an accuracy."""

    axis: str
    reach: str


@dataclass(frozen=True)
class Spec:
    """A checked spec file; qsweep.spec.plan expands it into trials.

    Attributes:
        search: which part of the grid to train, if not all of it.
        stack: maximum trials per stack, if the spec sets it: 1 to measure time.
        overrides: the values set with -S, by name.
        sources: the users' Python files that define models, by their names in the spec.
        data: the users' own data sets, by their spelling.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    seeds: tuple[int, ...]
    stack: int | None
    search: Search | None
    plots: tuple[Mapping[str, Any], ...]
    overrides: Mapping[str, Any]
    sources: Mapping[str, Source]
    data: Mapping[str, OwnData]
    document: Document = field(repr=False)

    @cached_property
    def digests(self) -> dict[str, str | dict[str, Any]]:
        """The identity of each source in the settings of trials, by the file's name in the spec."""
        return {file: source.identity for file, source in self.sources.items()}

    @cached_property
    def data_identities(self) -> dict[str, Mapping[str, Any]]:
        """The identity of each of the user's data sets in the settings of trials, by its spelling."""
        return {spelling: own.identity for spelling, own in self.data.items()}

    @cached_property
    def texts(self) -> dict[str, str]:
        """The texts of all sources, by SHA-256; workers build nets from them."""
        return {digest: text for source in self.sources.values() for digest, text in source.texts.items()}

    @property
    def folder(self) -> str:
        """Name of the results folder: that of the spec, followed by six digits of the digest of any overrides."""
        if not self.overrides:
            return self.name
        return f"{self.name}@{hashlib.sha256(canonical(self.overrides).encode()).hexdigest()[:6]}"


def read(path: Path, overrides: Sequence[str] = (), shown: str | None = None) -> Spec:
    """Read a spec file.

    Args:
        overrides: `NAME=VALUE` strings; each replaces a trial parameter or the values of an axis in every block, or
            the seeds.
        shown: the file's name in messages.

    Raises:
        UserError: the file can't be read, or an override is not NAME=VALUE.
        SpecError: the spec is wrong; it lists every mistake.
    """
    document = read_extended(path, shown or str(path))
    return _Reader(document, path, _parse_overrides(overrides)).spec()


def _parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """The values of all -S options, by name.

    Raises:
        UserError: one is not NAME=VALUE, or two have the same name.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, value = _parse_override(text)
        if name in values:
            raise UserError(f"-S {name} is given twice: keep one; write several values as a list: -S '{name}=[…, …]'")
        values[name] = value
    return values


def _parse_override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"-S {cut(text)}: expected NAME=VALUE, such as -S lr=0.1 or -S 'bitwidth=[8, 4]'")
    return name, read_text(value, f"{OVERRIDE} {name}").value


class _Reader:
    """Turns a document into a Spec and collects all mistakes."""

    def __init__(self, document: Document, path: Path, overrides: Mapping[str, Any]) -> None:
        self.document = document
        self.path = path
        self.overrides = overrides
        self.mistakes = Mistakes(document)

    def spec(self) -> Spec:
        top = self.document.value
        if not isinstance(top, dict):
            raise SpecError([self.document.problem((), f"found {show(top)}, expected {BLOCK_EXPECTED}")])
        self.mistakes.unknown_keys(top, (), TOP_KEYS, TRIAL_NAMES)
        swept = {name: value for name, value in self.overrides.items() if name != "seeds"}
        reader = BlockReader(self.mistakes, swept, self.path.parent)
        spec = Spec(
            name=self._name(top),
            title=self.mistakes.text(top, "title", ""),
            blocks=reader.blocks(top),
            seeds=self._seeds(top),
            stack=self._whole(top, "stack"),
            search=self._search(top),
            plots=self._plots(top),
            overrides=self.overrides,
            sources=reader.sources,
            data=reader.data,
            document=self.document,
        )
        self._check_size(spec, self._whole(top, "max_trials") or MAX_TRIALS)
        self.mistakes.stop_if_any()
        return spec

    def _name(self, top: Mapping[str, Any]) -> str:
        stem = self.path.stem
        name = self.mistakes.text(top, "name", stem)
        if stem == RESOLVED and RESOLVED_NAME.fullmatch(name) and name not in RESERVED_NAMES:
            return name
        if name != stem:
            self.mistakes.add(("name",), f"found '{name}', but the file's name is '{stem}': make them equal")
        elif not NAME.fullmatch(name):
            self.mistakes.add(("name",), f"'{name}' can't name a folder: {NAME_RULE}")
        elif is_reserved(name):
            self.mistakes.add(("name",), f"the folder results/{name}/ is reserved: give the file another name")
        return name

    def _whole(self, top: Mapping[str, Any], key: str) -> int | None:
        """A positive integer of the spec, or None if it has none of this name."""
        given = top.get(key)
        if key in top and not (_is_int(given) and given >= 1):
            self.mistakes.add((key,), f"found {show(given)}, expected an integer from 1")
            return None
        return given

    def _check_size(self, spec: Spec, most: int) -> None:
        count = sum(block.size for block in spec.blocks) * len(spec.seeds)
        if count > most:
            message = f"{count:,} trials, more than {most:,}: if this is intended, write `max_trials: {count}`"
            self.mistakes.add(("grid",), message)

    # seeds

    def _seeds(self, top: Mapping[str, Any]) -> tuple[int, ...]:
        place: Place = (OVERRIDE, "seeds") if "seeds" in self.overrides else ("seeds",)
        try:
            return _seeds(self.overrides.get("seeds", top.get("seeds", 1)))
        except BadValueError as error:
            self.mistakes.add(place, str(error) + as_list("seeds", self.overrides.get("seeds")))
            return (0,)

    # search

    def _search(self, top: Mapping[str, Any]) -> Search | None:
        given = top.get("search")
        if given is None:
            return None
        if not isinstance(given, dict) or not isinstance(given.get("bisect"), str):
            expected = "a mapping such as {bisect: bitwidth, reach: 95%}"
            self.mistakes.add(("search",), f"found {show(given)}, expected {expected}")
            return None
        self.mistakes.unknown_keys(given, ("search",), ("bisect", REACH))
        self._reach(given.get(REACH, DEFAULT_REACH), ("search", REACH))
        return Search(given["bisect"], str(given.get(REACH, DEFAULT_REACH)))

    # plots

    def _plots(self, top: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        given = self.mistakes.sequence(top, "plots", (), "a list of plots")
        for index, plot in enumerate(given):
            self._plot(plot, ("plots", index))
        return tuple(plot for plot in given if isinstance(plot, dict))

    def _plot(self, plot: object, place: Place) -> None:
        if not isinstance(plot, dict) or not isinstance(plot.get("kind"), str):
            self.mistakes.add(place, f"found {show(plot)}, expected a mapping with a kind: {', '.join(PLOT_KINDS)}")
            return
        kind = PLOT_KINDS.get(plot["kind"])
        if kind is None:
            self.mistakes.add((*place, "kind"), unknown("kind of plot", plot["kind"], tuple(PLOT_KINDS)))
            return
        self.mistakes.unknown_keys(plot, place, ("kind", *kind.needs, *kind.takes))
        for name in [name for name in kind.needs if name not in plot]:
            self.mistakes.add(place, f"a {kind.name} needs {name}")
        for name in [name for name, value in plot.items() if name not in (RANGE, REACH) and not isinstance(value, str)]:
            self.mistakes.add((*place, name), f"found {show(plot[name])}, expected a string")
        if RANGE in kind.takes and RANGE in plot:
            self._plot_range(plot[RANGE], (*place, RANGE))
        if REACH in kind.takes and REACH in plot:
            self._reach(plot[REACH], (*place, REACH))
        self._plot_names(plot, kind, place)

    def _reach(self, given: object, place: Place) -> None:
        try:
            read_reach(given)
        except BadValueError as error:
            self.mistakes.add(place, str(error))

    def _plot_range(self, given: object, place: Place) -> None:
        try:
            plot_range(given)
        except BadValueError as error:
            self.mistakes.add(place, str(error))

    def _plot_names(self, plot: Mapping[str, Any], kind: PlotKind, place: Place) -> None:
        field_name = kind.metric or ""
        metric, name = plot.get(field_name), plot.get("name")
        if isinstance(metric, str) and metric not in DRAWN:
            self.mistakes.add((*place, field_name), unknown("metric", metric, DRAWN))
        is_reached = REACH in plot or kind.lowest
        if is_reached and metric in DRAWN and metric not in ACCURACIES:
            self.mistakes.add(
                (*place, field_name), f"{metric} is not an accuracy to reach (one of: {', '.join(ACCURACIES)})"
            )
        if metric == SECONDS and plot.get("x") == "epoch":
            self.mistakes.add((*place, field_name), f"{SECONDS} are per trial, not per epoch")
        if isinstance(name, str) and not NAME.fullmatch(name):
            self.mistakes.add((*place, "name"), f"'{name}' can't name a file: {NAME_RULE}")


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _seeds(given: Any) -> tuple[int, ...]:
    """The seeds from a number, `{count: n}` or a list.

    Raises:
        BadValueError: it is not one of these.
    """
    if _is_int(given) and 1 <= given <= MAX_SEEDS_BY_NUMBER:
        return tuple(range(given))
    if isinstance(given, dict) and list(given) == ["count"] and _is_int(given["count"]) and given["count"] >= 1:
        return tuple(range(limit(given["count"])))
    if isinstance(given, list) and given and all(_is_int(s) and 0 <= s <= MAX_SEED for s in given):
        if len(set(given)) < len(given):
            raise BadValueError("a seed is listed twice")
        return tuple(given)
    more = f" (more than {MAX_SEEDS_BY_NUMBER}: write {{count: {given}}})" if _is_int(given) and given > 0 else ""
    raise BadValueError(f"found {show(given)}, expected a number of seeds or a list of them{more}")
