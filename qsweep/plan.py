"""The plan of a spec: its grid expanded into rows, each with the trial that it stands for."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qsweep.errors import Problem, SpecError, did_you_mean
from qsweep.reader import Place
from qsweep.spec import Block, Spec, overlay
from qsweep.trial import CHOICES, Trial, TrialError, canonical, describe_role, resolve

MAX_REPORTED = 20


@dataclass(frozen=True)
class Row:
    """One grid point: its trial, and the values of the plan's axes (None where its trial reads no such parameter)."""

    trial: Trial
    axes: tuple[Any, ...]


@dataclass(frozen=True)
class Plan:
    """All rows of a spec, in the order of block, variant, axes as written, seed.

    Attributes:
        axes: names of the swept columns, `variant` first where there are variants.
        notes: what is no mistake but worth a line, such as a parameter that nothing reads.
    """

    spec: Spec
    axes: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def trials(self) -> list[Trial]:
        """The distinct trials, in the order of their first row."""
        return list({row.trial.key: row.trial for row in self.rows}.values())

    @property
    def digest(self) -> str:
        """SHA-256 of what the rows are: it changes when the table would."""
        content = [[row.trial.key, *row.axes] for row in self.rows]
        return hashlib.sha256(canonical({"axes": self.axes, "rows": content}).encode()).hexdigest()


def expand(spec: Spec) -> Plan:
    """The plan of a checked spec.

    Raises:
        SpecError: a point that is no trial, an axis that no trial reads, or nothing left to train.
    """
    return _Expansion(spec).plan()


class _Expansion:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.digests = spec.digests
        self.problems: dict[tuple[str, str], Problem] = {}
        self.axes = _axis_names(spec)
        self.read: set[str] = set()
        self.unmatched: dict[tuple[Place, str, int], Mapping[str, Any]] = {}

    def plan(self) -> Plan:
        rows = [row for block in self.spec.blocks for row in self._block(block)]
        if not rows and not self.problems:
            self._wrong((), "no trial is left: `exclude` and `only` take all of the grid away")
        if self.problems:
            raise SpecError(list(self.problems.values())[:MAX_REPORTED])
        return Plan(self.spec, self.axes, tuple(rows), tuple(self._notes()))

    def _wrong(self, place: Place, message: str) -> None:
        problem = self.spec.document.problem(place, message)
        self.problems.setdefault((problem.path, problem.message), problem)

    def _block(self, block: Block) -> Iterator[Row]:
        for kind, entries in (("exclude", block.exclude), ("only", block.only)):
            self.unmatched |= {(block.place, kind, i): entry for i, entry in enumerate(entries)}
        read: set[str] = set()
        for variant, values, seed in _points(block, self.spec.seeds):
            trial = self._trial(block, variant, values, seed)
            if trial is None:
                continue
            read |= trial.columns.keys()
            columns = {**trial.columns, **({"variant": variant} if variant else {})}
            if self._kept(block, columns):
                yield Row(trial, tuple(columns.get(name) for name in self.axes))
        self.read |= read
        if not self.problems:
            self._check_axes(block, read)

    def _trial(self, block: Block, variant: str | None, values: Mapping[str, Any], seed: int) -> Trial | None:
        parameters = overlay(overlay(block.trial, block.variants[variant] if variant else {}), values)
        try:
            return resolve(parameters, seed, self.digests)
        except TrialError as error:
            self._wrong((*block.place, "trial", *error.path.split(".")), str(error))
            return None

    def _kept(self, block: Block, columns: Mapping[str, Any]) -> bool:
        matched = {
            kind: [i for i, entry in enumerate(entries) if _matches(entry, columns)]
            for kind, entries in (("exclude", block.exclude), ("only", block.only))
        }
        for kind, indices in matched.items():
            for index in indices:
                self.unmatched.pop((block.place, kind, index), None)
        return not matched["exclude"] and (not block.only or bool(matched["only"]))

    def _check_axes(self, block: Block, read: set[str]) -> None:
        for group in block.groups:
            for name in group.names:
                if name not in read:
                    near = did_you_mean(name, read)
                    place = group.place if group.place[-1] == name else (*group.place, name)
                    self._wrong(place, f"no trial of this grid reads '{name}'{near} (read: {', '.join(sorted(read))})")

    def _notes(self) -> Iterator[str]:
        for name in self.spec.blocks[0].trial:
            if name not in self.read and name not in ("quantize", *CHOICES):
                yield f"no trial reads '{name}': it changes nothing"
        for (place, kind, index), entry in self.unmatched.items():
            where = ".".join(map(str, (*place, kind)))
            yield f"{where}[{index}] matches no trial: {', '.join(f'{k}: {v}' for k, v in entry.items())}"


def _axis_names(spec: Spec) -> tuple[str, ...]:
    names = [name for block in spec.blocks for group in block.groups for name in group.names]
    variants = ["variant"] if any(block.variants for block in spec.blocks) else []
    return tuple(dict.fromkeys([*variants, *names]))


def _points(block: Block, seeds: tuple[int, ...]) -> Iterator[tuple[str | None, dict[str, Any], int]]:
    """Every combination of variant, axis values and seed, the last axis fastest but for the seed."""
    names = [name for group in block.groups for name in group.names]
    for variant in list(block.variants) or [None]:
        for steps in itertools.product(*(group.points for group in block.groups)):
            values = dict(zip(names, itertools.chain.from_iterable(steps), strict=True))
            for seed in seeds:
                yield variant, values, seed


def _matches(entry: Mapping[str, Any], columns: Mapping[str, Any]) -> bool:
    return all(_matches_one(name, value, columns) for name, value in entry.items())


def _matches_one(name: str, value: Any, columns: Mapping[str, Any]) -> bool:
    if not isinstance(value, dict):
        return name in columns and bool(columns[name] == value)
    if "name" in value:  # a model or init: its name, and the parameters that the entry gives
        inside = {f"{name}.{k}": v for k, v in value.items() if k != "name"}
        return columns.get(name) == value["name"] and _matches(inside, columns)
    return columns.get(name) == describe_role(value)
