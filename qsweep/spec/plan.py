"""The plan of a spec: its grid expanded into rows, each with its trial."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from qsweep.errors import did_you_mean
from qsweep.parameter import show
from qsweep.spec.blocks import AxisGroup, Block
from qsweep.spec.checks import Checks, notes_of_metrics
from qsweep.spec.file import Spec
from qsweep.spec.matching import Matcher
from qsweep.spec.points import VARIANT, Point, Row, axis_names, given, points
from qsweep.spec.reader import OVERRIDE, Mistakes, Place, dotted
from qsweep.trial.key import Trial, canonical, configurations
from qsweep.trial.parameters import CHOICES, STAGES
from qsweep.trial.resolve import TrialError, resolve
from qsweep.trial.roles import ROLES


@dataclass(frozen=True)
class Plan:
    """All rows of a spec, in the order of block, variant, axes as written, seed.

    Attributes:
        axes: names of the swept columns, `variant` first if there are variants.
        notes: warnings, such as about a parameter that no trial reads.
    """

    spec: Spec
    axes: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @cached_property
    def trials(self) -> list[Trial]:
        """The distinct trials, in the order of their first row."""
        return list({row.trial.key: row.trial for row in self.rows}.values())

    @cached_property
    def configurations(self) -> list[Trial]:
        """One trial of each configuration: trials that differ only in seed and key share one."""
        return configurations(row.trial for row in self.rows)

    @cached_property
    def quantized_roles(self) -> frozenset[str]:
        """The roles that some trial quantizes."""
        return frozenset(role for trial in self.configurations for role in trial.view.quantized_roles)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the rows; it changes when they do."""
        content = [[row.trial.key, *row.axes] for row in self.rows]
        return hashlib.sha256(canonical({"axes": self.axes, "rows": content}).encode()).hexdigest()


def expand(spec: Spec) -> Plan:
    """Expand a checked spec.

    Raises:
        SpecError: a trial is invalid, no trial reads an axis or an override, a plot needs a column that the table will
            not have, or there is nothing to train.
    """
    return _Expansion(spec).plan()


class _Expansion:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.mistakes = Mistakes(spec.document)
        self.axes = axis_names(spec)
        self.read: set[str] = set()
        """Names of all parameters that some trial reads."""
        self.idle: dict[Place, Mapping[str, Any]] = {}
        """The entries of `exclude` and `only` that have matched nothing yet."""
        self.matchers: list[Matcher[Place]] = []
        """For `exclude` and `only` of the current block."""

    def plan(self) -> Plan:
        rows = tuple(row for block in self.spec.blocks for row in self._block(block))
        if not self.mistakes.found:
            self._check_whole(rows)
        self.mistakes.stop_if_any()
        return Plan(self.spec, self.axes, rows, (*self._notes(), *notes_of_metrics(rows)))

    def _block(self, block: Block) -> Iterator[Row]:
        self.idle |= {place: entry for kind in ("exclude", "only") for place, entry in _entries(block, kind)}
        self.matchers = [Matcher(list(_entries(block, kind))) for kind in ("exclude", "only")]
        read: set[str] = set()
        first, *others = self.spec.seeds
        for point in points(block):
            trial = self._trial(block, point, first)
            if trial is None:
                continue
            read |= trial.columns.keys()
            if self._kept(block, point, trial):
                axes = point.axes(self.axes, trial)
                yield from (Row(one, axes) for one in (trial, *trial.with_seeds(others)))
        self.read |= read
        if not self.mistakes.found:
            self._check_axes(block, read)

    def _trial(self, block: Block, point: Point, seed: int) -> Trial | None:
        try:
            return resolve(point.parameters, seed, {**self.spec.digests, **self.spec.data_identities})
        except TrialError as error:
            self.mistakes.add(self._place_of(error.path, block, point), str(error))
            return None

    def _place_of(self, path: str, block: Block, point: Point) -> Place:
        """The place that sets a parameter, given its dotted path: -S, an axis, a variant, or else the trial."""
        if name := _nearest(path, self.spec.overrides):
            return (OVERRIDE, name)
        groups = {name: group for group in block.groups for name in group.names}
        if name := _nearest(path, groups):
            return _axis_place(groups[name], name)
        if point.variant is not None and _has(block.variants[point.variant], path.split(".")):
            return (*block.place, "variants", point.variant, *_inside_trial(path))
        return (*block.place, "trial", *_inside_trial(path))

    def _kept(self, block: Block, point: Point, trial: Trial) -> bool:
        if not block.exclude and not block.only:
            return True
        used = {**_used(trial), VARIANT: point.variant}
        excluded, wanted = (matcher.matching(used) for matcher in self.matchers)
        for place in [*excluded, *wanted]:
            self.idle.pop(place, None)
        return not excluded and (bool(wanted) or not block.only)

    # checks that need all trials

    def _check_axes(self, block: Block, read: set[str]) -> None:
        for group in block.groups:
            for name in [name for name in group.names if name not in read]:
                near = did_you_mean(name, sorted(read))
                self.mistakes.add(
                    _axis_place(group, name),
                    f"no trial of this grid reads '{name}'{near} (read: {', '.join(sorted(read))})",
                )

    def _check_whole(self, rows: Sequence[Row]) -> None:
        if not rows:
            self.mistakes.add((), "no trial is left: `exclude` and `only` remove the whole grid")
            return
        for name in self.spec.overrides:
            if name not in (*self.axes, "seeds") and not any(f"{read}.".startswith(f"{name}.") for read in self.read):
                self.mistakes.add((OVERRIDE, name), f"no trial reads '{name}'{did_you_mean(name, sorted(self.read))}")
        Checks(self.spec, self.axes, self.read, rows, self.mistakes).all()

    def _notes(self) -> Iterator[str]:
        for name in dict.fromkeys(name for block in self.spec.blocks for name in given(block)):
            if name not in self.read:
                yield f"no trial reads '{name}': it has no effect"
        for place, entry in self.idle.items():
            yield f"{dotted(place)} matches no trial: {show(entry)}"


def _nearest(path: str, names: Iterable[str]) -> str:
    """The longest name that is or contains a path; else, for a dotted path, a name inside it; "" if there is none."""
    around = [name for name in names if f"{path}.".startswith(f"{name}.")]
    inside = [name for name in names if name.startswith(f"{path}.") and "." in path]
    return max(around, key=len) if around else next(iter(inside), "")


def _has(given: object, path: Sequence[str]) -> bool:
    """Whether a nested mapping sets a path or part of it."""
    if not path or not isinstance(given, Mapping):
        return True
    return path[0] in given and _has(given[path[0]], path[1:])


def _inside_trial(path: str) -> Place:
    """The place of a dotted path; an index of a stage is an integer."""
    head, *rest = path.split(".")
    return (head, *(int(part) if head == STAGES and part.isdigit() else part for part in rest))


def _axis_place(group: AxisGroup, name: str) -> Place:
    return group.place if group.place[-1] == name else (*group.place, name)


# --- exclude and only -------------------------------------------------------------------------------------------------


def _entries(block: Block, kind: str) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    for index, entry in enumerate(block.exclude if kind == "exclude" else block.only):
        yield (*block.place, kind, index), entry


def _used(trial: Trial) -> dict[str, Any]:
    """The settings of a trial, nested as in a spec, with the trial's parameters that apply to each role."""
    columns = trial.columns
    choices = {what: {"name": columns[what], **_inside(columns, f"{what}.")} for what in CHOICES}
    return {**columns, **choices, "quantize": {role: trial.role(role) for role in ROLES}}


def _inside(columns: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in columns.items() if name.startswith(prefix)}
