"""How many panels and lines a figure would have, before anything of it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Spot:
    """Where a figure shows a row, by the texts of its values: None where its trial doesn't read the parameter.

    `name` is what the figure calls it, should it be a reference; `has_series` says whether it is one where it lacks
    the column of its lines (or y), rather than any column.
    """

    key: str
    x: str | None
    series: str | None
    facet: str | None
    name: str
    has_series: bool

    @property
    def is_whole(self) -> bool:
        """Whether its trial reads all that places it."""
        return None not in (self.x, self.series, self.facet)

    @property
    def is_reference(self) -> bool:
        """Whether its line is that of trials that don't read a parameter."""
        return self.series is None if self.has_series else not self.is_whole

    @property
    def line(self) -> tuple[bool, str | None]:
        """What tells its line from others."""
        return self.is_reference, self.name if self.is_reference else self.series

    @property
    def is_everywhere(self) -> bool:
        """Whether each panel shows it, if it has none of its own."""
        return self.x is None or self.is_reference


def named(found: Sequence[Spot]) -> list[Spot]:
    """Those of references under the names that the figure gives them: their formats, if no other trial has these."""
    others = {"", *(spot.name for spot in found if spot.is_whole)}
    return [replace(spot, name="reference") if spot.is_reference and spot.name in others else spot for spot in found]


def panels(spots: Sequence[Spot]) -> int:
    """Of each value of the facet, and one of what has none and does not stand in all the others."""
    loose = any(spot.facet is None and not spot.is_everywhere for spot in spots)
    return len({spot.facet for spot in spots} - {None}) + loose


def most_curves(spots: Sequence[Spot]) -> int:
    """Of the histograms of one panel: one per trial."""
    everywhere = {(spot.key, spot.line) for spot in spots if spot.facet is None and spot.is_everywhere}
    own: dict[str | None, set[tuple[str, tuple[bool, str | None]]]] = {}
    for spot in spots:
        own.setdefault(spot.facet, set(everywhere)).add((spot.key, spot.line))
    return max(map(len, own.values()), default=0)
